//! The operations: what kubelet, runtimes, operators and Plimsoll do to the groups, in any order.
//!
//! An operation names slots, not groups, and is skipped where its slot is empty: so every part of a sequence is a
//! sequence, and a failing one can be shrunk.

use plimsoll::cpuset::CpuSet;
use plimsoll::hook::Stage;
use plimsoll::kernel::control::{Knob, Value};

use super::asks::Asks;
use super::random::Random;

/// How many pods there can be: two burstable, two besteffort, one guaranteed.
pub(crate) const PODS: usize = 5;
/// How many containers a pod can have.
pub(crate) const PER_POD: usize = 3;
/// How many containers there can be, two of them outside Kubernetes.
pub(crate) const SLOTS: usize = PODS * PER_POD + 2;

/// Where a foreign write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Besteffort,
    Burstable,
    Pod(usize),
    Container(usize),
}

/// CPU time as a runtime or kubelet sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) shares: i64,
    pub(crate) quota: i64,
    pub(crate) period: i64,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Kubelet makes a pod's group; one without containers goes first.
    Pod { pod: usize, asks: Asks, time: Time },
    /// A runtime makes a container's groups and puts a process into them; with the last one's id unless it is new.
    Make { slot: usize, new: bool, asks: Option<Asks>, time: Time },
    /// A hook's stage for a container that is there.
    Stage { slot: usize, stage: Stage },
    /// The container ends and its runtime removes its groups.
    Gone { slot: usize, kill: bool },
    /// The last stage, after that.
    Stop { slot: usize },
    /// Someone writes a file.
    Foreign { target: Target, knob: Knob, value: Value },
    /// A container gets other resources, and its pod too: first the pod where it grows.
    Resize { slot: usize, grow: bool, pod: Time, container: Time },
    /// `plimsoll repair`.
    Repair,
    /// Another process joins a container, as `exec` does.
    Exec { slot: usize },
}

impl Time {
    fn random(random: &mut Random, low: i64, high: i64) -> Self {
        Self {
            // No foreign value is one that Plimsoll or the kernel would choose too: who wrote it must be told.
            shares: random.from(10, 1023),
            quota: if random.percent(30) { -1 } else { random.from(low, high) * 1000 + 7 },
            period: if random.percent(85) { 100_000 } else { random.of(&[50_000, 200_000]) },
        }
    }

    pub(crate) fn of_pod(random: &mut Random) -> Self {
        Self::random(random, 50, 400)
    }

    pub(crate) fn of_container(random: &mut Random) -> Self {
        Self::random(random, 5, 120)
    }
}

fn foreign(random: &mut Random, cpus: &[CpuSet]) -> Op {
    let target = match random.below(20) {
        0 => Target::Besteffort,
        1 => Target::Burstable,
        2..=10 => Target::Pod(random.below(PODS)),
        _ => Target::Container(random.below(SLOTS)),
    };
    let time = match target {
        Target::Container(_) => Time::of_container(random),
        _ => Time::of_pod(random),
    };
    let (knob, value) = match random.below(20) {
        0..=4 => (Knob::Shares, Value::Int(time.shares)),
        5..=9 => (Knob::Quota, Value::Int(time.quota)),
        10 => (Knob::Period, Value::Int(time.period)),
        11..=13 => {
            (Knob::Burst, Value::Int(if random.percent(30) { 0 } else { random.from(1, 150) * 1000 + 11 }))
        }
        14..=15 => (Knob::Idle, Value::Int(random.from(0, 1))),
        16..=18 => (Knob::Cpus, Value::Set(random.of(cpus))),
        _ => {
            let pages = if random.percent(30) { -1 } else { random.from(64, 512) * (1 << 20) + 3 * 4096 };
            (Knob::MemoryLimit, Value::Int(pages))
        }
    };
    // Nobody throttles whole QoS groups below what a container has, or every other write would fail.
    match (target, knob) {
        (Target::Besteffort | Target::Burstable, Knob::Quota | Knob::Period | Knob::Cpus) => {
            Op::Foreign { target, knob: Knob::Shares, value: Value::Int(time.shares) }
        }
        _ => Op::Foreign { target, knob, value },
    }
}

/// At least `count` random operations. `mixed` lets containers of one pod ask for different things.
pub(crate) fn sequence(random: &mut Random, count: usize, cpus: &[CpuSet], mixed: bool) -> Vec<Op> {
    let mut ops = Vec::with_capacity(count + 8);
    for pod in 0..PODS {
        ops.push(Op::Pod { pod, asks: Asks::random(random, cpus), time: Time::of_pod(random) });
    }
    while ops.len() < count {
        let slot = random.below(SLOTS);
        match random.below(200) {
            0..=19 => {
                // A pod's containers bear its annotations; a few have their own, and a few none.
                let asks = match random.below(20) {
                    0 if mixed => Some(Asks::random(random, cpus)),
                    1 => Some(Asks::default()),
                    _ if slot >= PODS * PER_POD => Some(Asks::random(random, cpus)),
                    _ => None,
                };
                let time = Time::of_container(random);
                ops.push(Op::Make { slot, new: random.percent(80), asks, time });
                for (stage, percent) in
                    [(Stage::Prestart, 10), (Stage::CreateRuntime, 97), (Stage::Poststart, 60)]
                {
                    if random.percent(percent) {
                        ops.push(Op::Stage { slot, stage });
                    }
                }
            }
            20..=32 => {
                ops.push(Op::Gone { slot, kill: random.percent(5) });
                if random.percent(90) {
                    ops.push(Op::Stop { slot });
                }
            }
            33..=52 => {
                let (pod, container) = (Time::of_pod(random), Time::of_container(random));
                ops.push(Op::Resize { slot, grow: random.percent(50), pod, container });
            }
            53..=54 => ops.push(Op::Repair),
            55..=60 => ops.push(Op::Stage { slot, stage: Stage::Poststart }),
            61 => ops.push(Op::Stop { slot }),
            62 => ops.push(Op::Exec { slot }),
            63..=66 => {
                let pod = random.below(PODS);
                ops.push(Op::Pod { pod, asks: Asks::random(random, cpus), time: Time::of_pod(random) });
            }
            _ => ops.push(foreign(random, cpus)),
        }
    }
    ops
}
