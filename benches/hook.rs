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

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use common::{Bundle, Helper, Hook, Sandbox, cgroup, dist};
use report::{Report, Sample, Series};

const QOS: &str = "koordinator.sh/qosClass";
const NOOP: &str = "no-op hooks";
const RECORDS: usize = 1000;

fn main() {
    // `cargo test --all-targets` starts benchmarks too, without this word.
    if !std::env::args().any(|a| a == "--bench") {
        println!("hook: a benchmark; run make bench-hook");
        return;
    }
    let rounds =
        std::env::var("PLIMSOLL_BENCH_ROUNDS").map_or(50, |n| n.parse().expect("PLIMSOLL_BENCH_ROUNDS"));
    assert!(rounds > 0, "PLIMSOLL_BENCH_ROUNDS must be at least 1");

    // What a container leaves to its parent's parent comes to us, so that its CPU time is counted.
    set_child_subreaper(true).unwrap();
    // An interrupt ends a round, never the cleaning up.
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect::<SigSet>().thread_block().unwrap();

    let few = Sandbox::new("bench");
    let many = Sandbox::new("bench-many");
    let records = fill_records(&many);
    let mut dice = Dice::new();
    let mut report = Report::new(rounds, dice.0);
    report.records = records;
    report.acts = acts(&few);

    report.start = starts(&few, &many, rounds, &mut dice);
    report.direct = direct(&few, &many, rounds * 4, &mut dice);
    report.records_after = count_records(&many);
    drop((few, many));
    report.print();
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
fn starts(few: &Sandbox, many: &Sandbox, rounds: usize, dice: &mut Dice) -> Vec<Series> {
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
    for (_, sandbox, bundle) in &arms {
        bundle.write();
        // Once unmeasured: the pod's groups are there from now on, as they are in a running cluster.
        start(sandbox, bundle);
    }
    let mut series: Vec<Series> = arms.iter().map(|(name, ..)| Series::new(name)).collect();
    for _ in 0..rounds {
        stop_if_interrupted();
        for arm in dice.order(arms.len()) {
            series[arm].samples.push(start(arms[arm].1, &arms[arm].2));
        }
    }
    series
}

/// One create, start, end and delete.
fn start(sandbox: &Sandbox, bundle: &Bundle) -> Sample {
    let pid_file = bundle.dir.join("pid");
    let cpu = children_cpu_us();
    let begin = Instant::now();

    let created = sandbox
        .runc_command()
        .args(["create", "--pid-file"])
        .arg(&pid_file)
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg(&bundle.id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(created.success(), "runc create: {created}");
    runc(sandbox, "start", &bundle.id);
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    waitpid(Pid::from_raw(pid), None).unwrap();
    runc(sandbox, "delete", &bundle.id);
    let wall = begin.elapsed();
    reap();

    Sample { wall_us: wall.as_secs_f64() * 1e6, cpu_us: children_cpu_us() - cpu, rss_kib: 0.0 }
}

fn runc(sandbox: &Sandbox, verb: &str, id: &str) {
    let done = sandbox.runc_command().args([verb, id]).stdin(Stdio::null()).status().unwrap();
    assert!(done.success(), "runc {verb} {id}: {done}");
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

/// User and system time of all that has ended below us, µs.
fn children_cpu_us() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64
}

/// Takes in the orphans that have ended.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) => {}
            Err(errno) => panic!("waitpid: {errno}"),
        }
    }
}

/// Panics, and so cleans up, where a blocked SIGINT or SIGTERM is waiting.
fn stop_if_interrupted() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let pending =
        |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap_or("0"), 16).unwrap_or(0);
    let waiting = status.lines().filter(|l| l.starts_with("ShdPnd") || l.starts_with("SigPnd"));
    let bits = (1 << (Signal::SIGINT as i32 - 1)) | (1 << (Signal::SIGTERM as i32 - 1));
    assert!(waiting.fold(0, |all, line| all | pending(line)) & bits == 0, "interrupted");
}

/// xorshift64: chance enough to shuffle arms, and a seed to print.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        Self(u64::from(now.subsec_nanos()) << 32 | now.as_secs() | 1)
    }

    /// 0..n in random order.
    fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            order.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
        order
    }
}
