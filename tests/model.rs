//! Plimsoll against the real kernel: random sequences of what kubelet, runtimes and operators do, on a tree with
//! Plimsoll and on its twin without. See `model/foreign.rs` for the only differences there may be.
//!
//! `PLIMSOLL_MODEL_SEED` and `PLIMSOLL_MODEL_OPS` (100000) override.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken test is a failed test")]

#[path = "model/asks.rs"]
mod asks;
#[path = "model/foreign.rs"]
mod foreign;
#[path = "model/known.rs"]
mod known;
#[path = "model/op.rs"]
mod op;
#[path = "model/random.rs"]
mod random;
#[path = "model/shrink.rs"]
mod shrink;
#[path = "model/side.rs"]
mod side;
#[path = "model/stages.rs"]
mod stages;
#[path = "model/state.rs"]
mod state;
#[path = "model/world.rs"]
mod world;

use foreign::Rule;
use random::Random;
use world::{Ground, Stats};

/// How many operations a node lives through before there is a new one with other settings.
const PER_WORLD: usize = 1_000;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn nothing_that_works_without_plimsoll_fails_because_of_it() {
    let Some(mut ground) = Ground::new("run") else {
        eprintln!("skipped: needs root and cgroup v1 with cpu.cfs_burst_us and cpu.idle");
        return;
    };
    let ops = usize::try_from(variable("PLIMSOLL_MODEL_OPS").unwrap_or(100_000)).unwrap();
    // The same operations every time, so that a change is judged by what it changes; other seeds look further.
    let seed = variable("PLIMSOLL_MODEL_SEED").unwrap_or(20_261_122);
    println!("PLIMSOLL_MODEL_SEED={seed}");
    let mut random = Random::new(seed);
    let mut stats = Stats::default();
    while stats.ops < ops {
        let cpus = ground.cpu_sets();
        let settings = asks::settings(&mut random, &cpus[2]);
        // In the class tree a pod's own group says what its last container planned, and there is no more to it.
        let mixed = !settings.contains("class-tree");
        let sequence = op::sequence(&mut random, PER_WORLD, &cpus, mixed);
        if let Err(failure) = shrink::play(&settings, &sequence, &mut ground, &mut stats) {
            let (sequence, failure) = shrink::shrink(&settings, &sequence, failure, &mut ground);
            panic!(
                "{}\nPLIMSOLL_MODEL_SEED={seed}, after {} operations; the shortest sequence found:\n{sequence:#?}\nsettings:\n{settings}",
                failure.text, stats.ops
            );
        }
    }
    println!("{stats:#?}");
    if ops >= 100_000 {
        let rules = [
            Rule::QuotaBelowOurBurst,
            Rule::SharesOfOurIdle,
            Rule::BesideOurQuota,
            Rule::PodWithoutOurCpus,
            Rule::Looser,
        ];
        for rule in rules {
            assert!(stats.rules.contains_key(&rule), "{rule:?} was never met: the test tries too little");
        }
    }
}
