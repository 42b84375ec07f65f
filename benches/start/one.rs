//! One container start with all its processes counted, and many at once.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::{Bundle, Sandbox};
use crate::figures::Dice;
use crate::stop_if_interrupted;

/// One measured run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) wall_ms: f64,
    pub(super) cpu_ms: f64,
}

/// All runs of an arm, one for each round.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
}

impl Series {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new() }
    }

    pub(super) fn of(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

/// Runs every arm once in each round, in random order: all its bundles at once, and what one of them took of CPU time.
pub(super) fn interleaved(
    arms: &[(String, &Sandbox, Vec<Bundle>)],
    rounds: usize,
    dice: &mut Dice,
) -> Vec<Series> {
    for (_, sandbox, bundles) in arms {
        // Once unmeasured: the pods' groups are there from now on, as they are in a running cluster.
        start(sandbox, bundles);
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

/// Create, start, end and delete of all these at once. The wall time is until all have started.
fn start(sandbox: &Sandbox, bundles: &[Bundle]) -> Sample {
    // As an engine does for each start; and the wrapper edits it.
    bundles.iter().for_each(Bundle::write);
    let cpu = children_cpu_ms();
    let begin = Instant::now();
    thread::scope(|scope| {
        for bundle in bundles {
            scope.spawn(|| create_and_start(sandbox, bundle));
        }
    });
    let wall = begin.elapsed();
    for bundle in bundles {
        let pid: i32 = fs::read_to_string(bundle.dir.join("pid")).unwrap().trim().parse().unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        runc(sandbox, "delete", &bundle.id);
    }
    reap();
    let cpu_ms = (children_cpu_ms() - cpu) / bundles.len() as f64;
    Sample { wall_ms: wall.as_secs_f64() * 1e3, cpu_ms }
}

fn create_and_start(sandbox: &Sandbox, bundle: &Bundle) {
    let created = sandbox
        .runc_command()
        .args(["create", "--pid-file"])
        .arg(bundle.dir.join("pid"))
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg(&bundle.id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(created.success(), "runc create: {created}");
    runc(sandbox, "start", &bundle.id);
}

fn runc(sandbox: &Sandbox, verb: &str, id: &str) {
    let done = sandbox.runc_command().args([verb, id]).stdin(Stdio::null()).status().unwrap();
    assert!(done.success(), "runc {verb} {id}: {done}");
}

/// User and system time of all that has ended below us.
pub(super) fn children_cpu_ms() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1e3
}

/// Takes in the orphans that have ended.
pub(super) fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) => {}
            Err(errno) => panic!("waitpid: {errno}"),
        }
    }
}
