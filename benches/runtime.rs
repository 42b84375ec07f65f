//! What the runtime wrapper costs a container start, its hooks included: `make bench-runtime`.
//!
//! Wall time and CPU time of `create` + `start` + `delete` of one bundle, all processes counted, arms in random order
//! within each round: against plain runc, and against the cheapest wrapper there can be, a static C program that only
//! becomes runc, with one hook that does nothing. Results also go to `target/bench/runtime.json`.
//! `PLIMSOLL_BENCH_ROUNDS` sets the number of rounds (50).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a broken benchmark says so and stops"
)]

#[path = "../tests/common/mod.rs"]
mod common;
mod report;
mod starts;

use serde_json::json;

use common::{Bundle, Helper, Hook, Sandbox};
use report::{Subject, table};
use starts::{Dice, interleaved};

const PLAIN: &str = "runc";
const CHEAPEST: &str = "C wrapper, no-op hook";

fn main() {
    let Some(rounds) = starts::rounds("runtime") else { return };
    let plain = Sandbox::new("bench-plain");
    let cheapest = Sandbox::new("bench-exec").with_runtime(Helper::Exec.path());
    let wrapped = Sandbox::wrapped("bench-wrapped");
    let noop = Hook::new(&Helper::Noop.path());
    let arms = [
        (PLAIN, &plain, container(&plain, "plain", Some("LS"))),
        (CHEAPEST, &cheapest, container(&cheapest, "exec", Some("LS")).hook("createRuntime", noop)),
        ("LS", &wrapped, container(&wrapped, "ls", Some("LS"))),
        ("BE", &wrapped, container(&wrapped, "be", Some("BE"))),
        ("asks for nothing", &wrapped, container(&wrapped, "none", None)),
    ];
    let mut dice = Dice::new();
    let series = interleaved(&arms, rounds, &mut dice);
    let placed = wrapped.log().lines().filter(|line| line.contains("container placed")).count();
    drop(arms);
    drop((plain, cheapest, wrapped));

    let subject = Subject::look("plimsoll-runtime", rounds, dice.seed);
    println!("\nContainer start: create + start + delete; medians, all processes");
    let against_runc = table(&series, PLAIN, "ms", 1000.0);
    println!();
    let against_exec = table(&series, CHEAPEST, "ms", 1000.0);
    if placed < 2 * rounds {
        println!(
            "!! Only {placed} containers were placed: these are not the figures of a wrapper that acts."
        );
    }
    subject.write("runtime", json!({"placed": placed, "start": against_runc, "against_exec": against_exec}));
}

/// A container as kubelet makes one, with a limit, and with nothing that costs time and tells nothing here.
fn container(sandbox: &Sandbox, id: &str, class: Option<&str>) -> Bundle {
    let bundle = sandbox
        .bundle(id)
        .args(&["/bin/true"])
        .without_mount("/host/cgroup")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50000)
        .resource("cpu", "period", 100_000);
    match class {
        Some(class) => bundle.annotation("koordinator.sh/qosClass", class),
        None => bundle,
    }
}
