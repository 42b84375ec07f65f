//! What the hook costs a container start, against the same number of static no-op hooks: `make bench-hook`.
//!
//! Two figures. *Start*: wall time and CPU time of `runc create` + `start` + `delete` of one bundle, all processes
//! counted, arms in random order within each round. *Direct*: one `createRuntime` by itself, with a container's state on
//! stdin, for a difference that runc's own noise does not hide. Results also go to `target/bench/hook.json`.
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

use std::fs;
use std::path::Path;

use serde_json::json;

use common::{Bundle, Helper, Hook, Sandbox, cgroup, dist};
use report::{Sample, Series, Subject, table};
use starts::{Dice, interleaved, reap, stop_if_interrupted};

const QOS: &str = "koordinator.sh/qosClass";
const NOOP: &str = "no-op hooks";
const RECORDS: usize = 1000;

fn main() {
    let Some(rounds) = starts::rounds("hook") else { return };
    let few = Sandbox::new("bench");
    let many = Sandbox::new("bench-many");
    let records = fill_records(&many);
    let mut dice = Dice::new();
    let acts = acts(&few);

    let start = whole(&few, &many, rounds, &mut dice);
    let direct = direct(&few, &many, rounds * 4, &mut dice);
    let records_after = count_records(&many);
    drop((few, many));

    let subject = Subject::look("plimsoll-hook", rounds, dice.seed);
    println!("\nContainer start: runc create + start + delete, three hooks each; medians, all processes");
    let start = table(&start, NOOP, "ms", 1000.0);
    println!("\nOne createRuntime by itself, state on stdin; medians");
    let direct = table(&direct, NOOP, "us", 1.0);
    // What would make the figures say less than they seem to.
    if !acts {
        println!(
            "!! An LS container looked the same with the hook as without: these are figures of a hook that does not act."
        );
    }
    if records == 0 {
        println!("!! The hook left no record in containers/: the arm with many records had none.");
    } else if records_after < records {
        println!("!! Of {records} records {records_after} were left at the end.");
    }
    subject.write("hook", json!({
        "acts": acts, "records": {"before": records, "after": records_after}, "start": start, "direct": direct,
    }));
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
        Some(class) => bundle.annotation(QOS, class),
        None => bundle,
    }
}

/// Whole container starts.
fn whole(few: &Sandbox, many: &Sandbox, rounds: usize, dice: &mut Dice) -> Vec<Series> {
    let mut noop = container(few, "noop", Some("LS"));
    for stage in ["createRuntime", "poststart", "poststop"] {
        noop = noop.hook(stage, Hook::new(&Helper::Noop.path()));
    }
    let among = format!("LS, {RECORDS} records");
    let arms = [
        ("no hooks", few, container(few, "none", Some("LS"))),
        (NOOP, few, noop),
        ("LS", few, container(few, "ls", Some("LS")).plimsoll_hooks(few)),
        ("BE", few, container(few, "be", Some("BE")).plimsoll_hooks(few)),
        ("asks for nothing", few, container(few, "plain", None).plimsoll_hooks(few)),
        (&among, many, container(many, "many", Some("LS")).plimsoll_hooks(many)),
    ];
    interleaved(&arms, rounds, dice)
}

/// One hook by itself. Each arm has a living container that runc has placed and no hook has seen.
fn direct(few: &Sandbox, many: &Sandbox, rounds: usize, dice: &mut Dice) -> Vec<Series> {
    let hook = dist("plimsoll-hook");
    let noop = Helper::Noop.path();
    let among = format!("LS, {RECORDS} records");
    let arms: [(&str, &Sandbox, &Path, Option<&str>); 5] = [
        (NOOP, few, &noop, Some("LS")),
        ("LS", few, &hook, Some("LS")),
        ("BE", few, &hook, Some("BE")),
        ("asks for nothing", few, &hook, None),
        (&among, many, &hook, Some("LS")),
    ];
    let alive: Vec<(Bundle, i32)> = arms
        .iter()
        .enumerate()
        .map(|(n, (_, sandbox, _, class))| {
            let bundle = container(sandbox, &format!("direct-{n}"), *class).args(&["/prober", "wait"]);
            sandbox.run_detached(&bundle).ok();
            let pid = sandbox.pid(&bundle);
            let state = json!({
                "ociVersion": "1.0.2", "id": bundle.id, "status": "creating", "pid": pid,
                "bundle": bundle.dir, "annotations": bundle.spec["annotations"],
            });
            fs::write(bundle.dir.join("state.json"), state.to_string()).unwrap();
            (bundle, pid)
        })
        .collect();

    let mut series: Vec<Series> = arms.iter().map(|(name, ..)| Series::new(name)).collect();
    for _ in 0..rounds {
        stop_if_interrupted();
        for arm in dice.order(arms.len()) {
            let (_, sandbox, program, _) = arms[arm];
            let (bundle, pid) = &alive[arm];
            forget(sandbox, bundle, *pid);
            series[arm].samples.push(spawn(sandbox, bundle, program));
        }
    }
    for (arm, (bundle, _)) in arms.iter().zip(&alive) {
        arm.1.delete_force(bundle).ok();
    }
    reap();
    series
}

fn spawn(sandbox: &Sandbox, bundle: &Bundle, program: &Path) -> Sample {
    let (state, config) = (bundle.dir.join("state.json"), sandbox.config_path());
    let args = [&*state, program, "createRuntime".as_ref(), "--config".as_ref(), &*config];
    let args = args.map(|a| a.to_str().unwrap());
    let ran = sandbox.command(Helper::Spawn.path(), &args).ok();
    let figures: Vec<f64> = ran.stdout.split_whitespace().map(|f| f.parse().unwrap()).collect();
    let [wall_us, cpu_us, rss_kib, status] = figures[..] else { panic!("{ran:?}") };
    assert!(status == 0.0, "{} ended with {status}: {ran:?}", program.display());
    Sample { wall_us, cpu_us, rss_kib }
}

/// Takes back what a hook wrote, as far as one can from here, so that the next one has its whole work to do.
/// A move to another group stays.
fn forget(sandbox: &Sandbox, bundle: &Bundle, pid: i32) {
    for record in records_of(sandbox, &bundle.id) {
        fs::remove_file(record).unwrap();
    }
    let group = cgroup::of_process(pid, "cpu").unwrap();
    for file in ["cpu.cfs_burst_us", "cpu.max.burst", "cpu.idle"] {
        if cgroup::read(&group, file).is_some_and(|v| v != "0") {
            cgroup::write(&group, file, "0").unwrap();
        }
    }
}

/// Whether the container's files differ with and without the hook: a hook that does nothing is cheap.
fn acts(sandbox: &Sandbox) -> bool {
    let bundle = sandbox
        .bundle("acts")
        .annotation(QOS, "LS")
        .resource("cpu", "quota", 50000)
        .resource("cpu", "period", 100_000);
    let without = sandbox.run_probe(&bundle);
    let with = sandbox.run_probe(&bundle.plimsoll_hooks(sandbox));
    without["files"] != with["files"] || without["cgroup"] != with["cgroup"]
}

/// A node with many containers: real records of one container, copied under other ids.
fn fill_records(sandbox: &Sandbox) -> usize {
    let id = "template-of-records";
    let bundle = container(sandbox, id, Some("LS")).plimsoll_hooks(sandbox);
    sandbox.create(&bundle).ok();
    for path in records_of(sandbox, id) {
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        for n in 0..RECORDS {
            let other = format!("bench-record-{n:06}");
            fs::write(folder.join(name.replace(id, &other)), text.replace(id, &other)).unwrap();
        }
    }
    sandbox.delete_force(id).ok();
    count_records(sandbox)
}

fn records_of(sandbox: &Sandbox, id: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(sandbox.run_dir().join("containers"));
    entries
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file() && p.file_name().is_some_and(|n| n.to_string_lossy().contains(id)))
        .collect()
}

fn count_records(sandbox: &Sandbox) -> usize {
    records_of(sandbox, "bench-record-").len()
}
