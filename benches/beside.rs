//! Arms that are run in rounds, and the figures of all of them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::figures::{Dice, Figure};
use crate::knobs::Knob;
use crate::load::Arrivals;
use crate::node::{Node, cpus};
use crate::page::Table;
use crate::round::{Arm, Beside, LOUD_PERCENT, Round};
use crate::stop_if_interrupted;

/// Time before the counted time of each run.
const WARM_S: f64 = 0.4;
/// Of the node's CPU time, what the service is to use when it is alone.
const ONLINE_SHARE: f64 = 0.10;
/// The limit of a limited service, as a multiple of what it uses in the mean: requests of 100 ms need more now and then.
const LIMIT: f64 = 1.15;

const CALIBRATION: Arm =
    Arm { name: "calibration", beside: Beside::Nothing, limit_us: None, burst: false, knob: Knob::Nothing };

/// How the arms are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rate: f64,
    pub(crate) cycle_ms: f64,
    pub(crate) burst_ms: f64,
    pub(crate) extent: Extent,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    /// The counted time of each run.
    pub(crate) seconds: f64,
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Arms {
    arms: Vec<Arm>,
    /// For each arm, its runs in the order of the rounds.
    runs: Vec<Vec<Round>>,
    /// Runs that were thrown away because the machine stood still in them.
    again: usize,
    seed: u64,
    /// Whether the machine stood still too often to say anything of latency.
    pub(crate) noisy: bool,
    took_s: f64,
    /// The counted time of each run.
    seconds: f64,
}

/// How requests are to come, by what one costs the service alone, µs of CPU: first at a rate that any machine can serve,
/// and then as they are to come, since a request costs more where few come.
pub(crate) fn calibrate(node: &Node, plan: impl Fn(f64) -> Plan) -> (Plan, f64) {
    let cost = |plan: Plan| CALIBRATION.run(node, plan.arrivals(0)).cpu_us;
    let first = Plan { rate: 300.0, ..plan(1.0) };
    let cost_us = cost(plan(cost(first)));
    (plan(cost_us), cost_us)
}

/// Evenly, at a rate that makes the service use its part of the node.
pub(crate) fn evenly(cost_us: f64, extent: Extent) -> Plan {
    let rate = (ONLINE_SHARE * cpus() as f64 * 1e6 / cost_us).clamp(50.0, 20_000.0).round();
    Plan { rate, cycle_ms: 0.0, burst_ms: 0.0, extent }
}

/// What the service may use of 100 ms when it is limited, µs: a little more than it uses in the mean beside offline work,
/// but no less than the kernel hands out at once to every CPU.
pub(crate) fn limit_us(node: &Node, plan: Plan) -> u64 {
    let arm = Arm { beside: Beside::Kubelet, ..CALIBRATION };
    (LIMIT * plan.rate * arm.run(node, plan.arrivals(0)).cpu_us / 10.0).max(10_000.0).round() as u64
}

/// Runs every arm once in each round, in random order. A run in which the machine stood still too much is done again,
/// while not more than one in eight are.
pub(crate) fn rounds(node: &Node, arms: &[Arm], plan: Plan) -> Arms {
    let begin = Instant::now();
    let mut dice = Dice::new();
    let mut all = Arms {
        arms: arms.to_vec(),
        runs: vec![Vec::new(); arms.len()],
        again: 0,
        seed: dice.seed,
        noisy: false,
        took_s: 0.0,
        seconds: plan.extent.seconds,
    };
    let spare = (plan.extent.rounds * arms.len()).div_ceil(8);
    for n in 0..plan.extent.rounds {
        for arm in dice.order(arms.len()) {
            stop_if_interrupted();
            let mut run = arms[arm].run(node, plan.arrivals(all.seed.wrapping_add(n as u64)));
            while run.is_loud() && all.again < spare {
                all.again += 1;
                run = arms[arm].run(node, plan.arrivals(all.seed.wrapping_add(n as u64)));
            }
            all.runs[arm].push(run);
        }
        println!("round {} of {}, {:.0} s", n + 1, plan.extent.rounds, begin.elapsed().as_secs_f64());
    }
    all.noisy = all.loud() * 4 > plan.extent.rounds * arms.len();
    all.took_s = begin.elapsed().as_secs_f64();
    all
}

impl Plan {
    fn arrivals(&self, seed: u64) -> Arrivals {
        let (rate, cycle_ms, burst_ms) = (self.rate, self.cycle_ms, self.burst_ms);
        Arrivals { rate, cycle_ms, burst_ms, seed, warm_s: WARM_S, seconds: self.extent.seconds }
    }
}

impl Arms {
    fn one(&self, arm: usize, get: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.runs[arm].iter().map(get).collect()
    }

    /// A figure of an arm.
    pub(crate) fn figure(&self, arm: usize, get: fn(&Round) -> f64) -> Figure {
        Figure::of(self.one(arm, get))
    }

    /// A figure of one arm as a multiple of another's in the same round.
    pub(crate) fn against(&self, arm: usize, other: usize, get: fn(&Round) -> f64) -> Figure {
        Figure::ratio(&self.one(arm, get), &self.one(other, get))
    }

    /// A figure of one arm less another's in the same round.
    pub(crate) fn difference(&self, arm: usize, other: usize, get: fn(&Round) -> f64) -> Figure {
        Figure::difference(&self.one(arm, get), &self.one(other, get))
    }

    /// A figure of every arm in every round.
    pub(crate) fn values(&self, get: fn(&Round) -> f64) -> Vec<Vec<f64>> {
        (0..self.arms.len()).map(|arm| self.one(arm, get)).collect()
    }

    /// All latencies of an arm, sorted.
    pub(crate) fn latencies(&self, arm: usize) -> Vec<u32> {
        let mut all: Vec<u32> = self.runs[arm].iter().flat_map(|r| r.latency_us.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Runs that count although the machine stood still in them.
    fn loud(&self) -> usize {
        self.runs.iter().flatten().filter(|r| r.is_loud()).count()
    }

    /// What makes the figures say less than they seem to.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let runs = self.runs.iter().flatten();
        let all = runs.clone().count();
        if self.again > 0 || self.loud() > 0 {
            doubts.push(format!(
                "In {} of {} runs the machine below stood still during more than {LOUD_PERCENT} % of the requests: {} were done again, {} count as they are{}.",
                self.again + self.loud(), all + self.again, self.again, self.loud(),
                if self.noisy { ", too many to conclude anything from latencies" } else { "" },
            ));
        }
        if !crate::load::is_real_time() {
            doubts.push("The load generator could not be made a real-time task here: its own waits are part of the latencies.".to_owned());
        }
        let failed: f64 = runs.map(|r| r.failed).sum();
        if failed > 0.0 {
            doubts.push(format!("{failed:.0} requests were not answered."));
        }
        doubts
    }

    /// The arms under each other: first what does not depend on the wall clock.
    pub(crate) fn table(&self) -> Table {
        type Column = (&'static str, usize, fn(&Round) -> f64);
        let columns: [Column; 15] = [
            ("waited µs/request", 0, |r| r.waited_us),
            ("throttled periods", 0, |r| r.throttled_periods),
            ("throttled ms", 0, |r| r.throttled_ms),
            ("online CPU %", 1, |r| r.online_percent),
            ("offline CPU %", 1, |r| r.offline_percent),
            ("node CPU %", 1, |r| r.node_percent),
            ("of the rest %", 1, |r| r.left_over_percent),
            ("frames/s", 1, |r| r.frames_per_s),
            ("served/s", 0, |r| r.served_per_s),
            ("p50 ms", 2, |r| r.p50_ms),
            ("p99 ms", 2, |r| r.p99_ms),
            ("p99.9 ms", 2, |r| r.p999_ms),
            ("set aside %", 1, |r| r.set_aside_percent),
            ("all p99", 2, |r| r.all_p99_ms),
            ("all p99.9", 2, |r| r.all_p999_ms),
        ];
        let row = |(n, arm): (usize, &Arm)| {
            let cells = columns.iter().map(|(name, decimals, get)| match *name {
                "p99 ms" | "p99.9 ms" | "waited µs/request" => self.figure(n, *get).text(*decimals),
                _ => format!("{:.*}", *decimals, self.figure(n, *get).median),
            });
            std::iter::once(arm.name.to_owned()).chain(cells).collect()
        };
        Table {
            title: format!("Medians of {} runs of {} s each", self.runs[0].len(), self.seconds),
            head: std::iter::once("arm").chain(columns.iter().map(|c| c.0)).collect(),
            rows: self.arms.iter().enumerate().map(row).collect(),
        }
    }

    /// Every run's figures.
    pub(crate) fn json(&self) -> Value {
        let arm = |(arm, runs): (&Arm, &Vec<Round>)| json!({"arm": arm.name, "runs": runs});
        json!({
            "seed": self.seed, "seconds": self.seconds, "took_s": self.took_s, "done_again": self.again, "noisy": self.noisy,
            "arms": self.arms.iter().zip(&self.runs).map(arm).collect::<Vec<_>>(),
        })
    }
}
