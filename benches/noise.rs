//! How quiet the machine is: measured before anything else, and by the load generator in every round.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures::quantile;
use crate::load;
use crate::node::counters::Machine;

/// How late a real-time task may wake up, at its 99th percentile. Nothing that runs here can delay it so long, only the
/// machine below. What comes more seldom is set aside (`load::still`).
const LATE_MS: f64 = 1.0;
/// What others may use of all CPUs, %.
const BUSY_PERCENT: f64 = 5.0;
const STEAL_PERCENT: f64 = 1.0;
/// How long quietness is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a machine does by itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Noise {
    pub(crate) quiet: bool,
    /// CPU time that others used, of all, %.
    pub(crate) busy_percent: f64,
    /// CPU time that the hypervisor took, of all, %.
    pub(crate) steal_percent: f64,
    /// How late a real-time task woke up.
    pub(crate) late_p99_ms: f64,
    pub(crate) late_p999_ms: f64,
    /// How long quietness was waited for.
    pub(crate) waited_s: f64,
}

/// Looks until the machine is quiet, or for long enough.
pub(crate) fn gate() -> Noise {
    let begin = Instant::now();
    loop {
        let noise = Noise { waited_s: begin.elapsed().as_secs_f64(), ..look() };
        if noise.quiet || begin.elapsed() > PATIENCE {
            println!("{}", noise.text());
            return noise;
        }
        thread::sleep(Duration::from_secs(2));
    }
}

/// Looks for a short while, whatever runs.
fn look() -> Noise {
    let before = Machine::now();
    let late = load::lateness(Duration::from_millis(1500));
    let used = Machine::now().since(&before);
    let (p99, p999) = (quantile(&late, 0.99) / 1e3, quantile(&late, 0.999) / 1e3);
    let (busy, steal) = (100.0 * used.busy, 100.0 * used.steal);
    Noise {
        quiet: busy < BUSY_PERCENT && steal < STEAL_PERCENT && p99 < LATE_MS,
        busy_percent: busy,
        steal_percent: steal,
        late_p99_ms: p99,
        late_p999_ms: p999,
        waited_s: 0.0,
    }
}

impl Noise {
    fn text(&self) -> String {
        format!(
            "Noise: others use {:.1} % of the CPUs, the hypervisor takes {:.1} %, a real-time task wakes up {:.2} ms late (p99) and {:.2} ms (p99.9): {}",
            self.busy_percent,
            self.steal_percent,
            self.late_p99_ms,
            self.late_p999_ms,
            if self.quiet { "quiet" } else { "NOT QUIET, so nothing is concluded from the wall clock" }
        )
    }
}
