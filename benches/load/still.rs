//! When the machine below stood still: moments at which a real-time task of a CPU's own did not get that CPU.
//!
//! No scheduling of other tasks can delay such a task, so what a request lost meanwhile says nothing of how the node is
//! shared. Such requests are set aside, in every arm alike, and counted.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// How often each CPU is asked for.
const EVERY: Duration = Duration::from_micros(500);
/// Late by more than this, it stood still.
const STILL: Duration = Duration::from_micros(300);

/// A time in which a CPU did nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Still {
    begin: Instant,
    end: Instant,
}

impl Still {
    /// Whether a request was waiting for its answer in that time, or as long after it: what had queued up is worked off then.
    pub(super) fn touches(&self, begin: Instant, end: Instant) -> bool {
        begin <= self.end + (self.end - self.begin) && end >= self.begin
    }
}

/// A thread on each CPU, with the policy of the caller.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Still>>>,
    /// Idle CPUs are not halted while this is open (the kernel's PM QoS), so that no arm pays for being woken up.
    _awake: Option<File>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let awake = OpenOptions::new().write(true).open("/dev/cpu_dma_latency");
        let awake = awake.and_then(|mut file| file.write_all(&0_u32.to_ne_bytes()).map(|()| file)).ok();
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..CpuSet::count())
            .filter(|cpu| std::path::Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists())
            .map(|cpu| {
                let over = Arc::clone(&over);
                thread::spawn(move || watch(cpu, &over))
            })
            .collect();
        Self { over, threads, _awake: awake }
    }

    /// All times in which a CPU stood still.
    pub(super) fn finish(self) -> Vec<Still> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn watch(cpu: usize, over: &AtomicBool) -> Vec<Still> {
    let mut here = CpuSet::new();
    here.set(cpu).unwrap();
    if sched_setaffinity(Pid::from_raw(0), &here).is_err() {
        // Not a CPU of ours.
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        due += EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now > due + STILL {
            all.push(Still { begin: due, end: now });
        }
        due = due.max(now - EVERY);
    }
    all
}
