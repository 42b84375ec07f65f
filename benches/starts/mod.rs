//! What the benchmarks of container starts share: one start with all its processes counted, and chance.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::{Bundle, Sandbox};
use crate::report::{Sample, Series};

/// How many rounds, from `PLIMSOLL_BENCH_ROUNDS` (50); none where the program was not started as a benchmark
/// (`cargo test --all-targets` starts benchmarks too).
pub(crate) fn rounds(name: &str) -> Option<usize> {
    if !std::env::args().any(|a| a == "--bench") {
        println!("{name}: a benchmark; run make bench-{name}");
        return None;
    }
    let rounds =
        std::env::var("PLIMSOLL_BENCH_ROUNDS").map_or(50, |n| n.parse().expect("PLIMSOLL_BENCH_ROUNDS"));
    assert!(rounds > 0, "PLIMSOLL_BENCH_ROUNDS must be at least 1");
    // What a container leaves to its parent's parent comes to us, so that its CPU time is counted.
    set_child_subreaper(true).unwrap();
    // An interrupt ends a round, never the cleaning up.
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect::<SigSet>().thread_block().unwrap();
    Some(rounds)
}

/// Runs every arm once in each round, in random order.
pub(crate) fn interleaved(arms: &[(&str, &Sandbox, Bundle)], rounds: usize, dice: &mut Dice) -> Vec<Series> {
    for (_, sandbox, bundle) in arms {
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
    // As an engine does for each start; and the wrapper edits it.
    bundle.write();
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

/// User and system time of all that has ended below us, µs.
fn children_cpu_us() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64
}

/// Takes in the orphans that have ended.
pub(crate) fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) => {}
            Err(errno) => panic!("waitpid: {errno}"),
        }
    }
}

/// Panics, and so cleans up, where a blocked SIGINT or SIGTERM is waiting.
pub(crate) fn stop_if_interrupted() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let pending =
        |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap_or("0"), 16).unwrap_or(0);
    let waiting = status.lines().filter(|l| l.starts_with("ShdPnd") || l.starts_with("SigPnd"));
    let bits = (1 << (Signal::SIGINT as i32 - 1)) | (1 << (Signal::SIGTERM as i32 - 1));
    assert!(waiting.fold(0, |all, line| all | pending(line)) & bits == 0, "interrupted");
}

/// xorshift64: chance enough to shuffle arms, and a seed to print.
pub(crate) struct Dice {
    /// What it began with.
    pub(crate) seed: u64,
    now: u64,
}

impl Dice {
    pub(crate) fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = u64::from(now.subsec_nanos()) << 32 | now.as_secs() | 1;
        Self { seed, now: seed }
    }

    /// 0..n in random order.
    pub(crate) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            self.now ^= self.now << 13;
            self.now ^= self.now >> 7;
            self.now ^= self.now << 17;
            order.swap(last, (self.now % (last as u64 + 1)) as usize);
        }
        order
    }
}
