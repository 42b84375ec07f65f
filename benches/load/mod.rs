//! The load of an online service: an open-loop generator, run as a process and a real-time task of its own.
//!
//! *Open loop*: when each request is sent is fixed before the first one is, and does not wait for answers. Latency counts
//! from that intended time to the last byte of the answer, so what a stalled service makes later requests wait counts too
//! (no coordinated omission). A round's arms get the same arrivals.

mod send;
mod still;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use send::{main, watch};

/// When requests come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    /// Requests per second: a Poisson process.
    pub(crate) rate: f64,
    /// All requests of so many ms come in the first `burst_ms` of them; 0: evenly spread.
    pub(crate) cycle_ms: f64,
    pub(crate) burst_ms: f64,
    /// The same seed gives the same arrivals.
    pub(crate) seed: u64,
    /// Sent, and not counted.
    pub(crate) warm_s: f64,
    /// Counted.
    pub(crate) seconds: f64,
}

/// What became of the requests that were meant to be sent in the counted time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Served {
    /// From the intended time to the end of the answer, µs, sorted.
    pub(crate) latency_us: Vec<u32>,
    /// The same of those requests during which the machine did not stand still.
    pub(crate) clear_us: Vec<u32>,
    /// From the intended time to the sending, µs, sorted: what the generator itself was late by.
    pub(crate) late_us: Vec<u32>,
    /// Answered with something else than 200, or not at all.
    pub(crate) failed: usize,
}

/// A generator that runs.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Load {
    /// Starts it on a service's socket.
    pub(crate) fn start(socket: &Path, arrivals: Arrivals) -> Self {
        let mut child = real_time(&["generate", socket.to_str().unwrap(), &json(&arrivals)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits until the counted time begins, and again until it ends.
    pub(crate) fn next_mark(&mut self) {
        self.line();
    }

    /// Waits for the answers.
    pub(crate) fn finish(mut self) -> Served {
        let served = serde_json::from_str(&self.line()).unwrap();
        self.child.wait().unwrap();
        served
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the load generator ended early");
        line
    }
}

/// How late a real-time task wakes up that asks to be woken every millisecond: what no scheduling of other tasks can
/// better. µs, sorted.
pub(crate) fn lateness(time: Duration) -> Vec<u32> {
    let output = real_time(&["watch", &time.as_secs_f64().to_string()]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether this machine lets the generator be a real-time task.
pub(crate) fn is_real_time() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        Command::new("chrt")
            .args(["--fifo", "50", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    })
}

/// This program with other arguments, above all other tasks where that can be had.
fn real_time(arguments: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = if is_real_time() {
        let mut command = Command::new("chrt");
        command.args(["--fifo", "50"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).stdin(Stdio::null());
    command
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}
