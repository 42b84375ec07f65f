//! One round of one arm: an online service under load, with offline work beside it or without.

use serde::Serialize;

use crate::figures::quantile;
use crate::knobs::Knob;
use crate::load::{Arrivals, Load};
use crate::node::counters::{Container, Machine};
use crate::node::{Node, Pod, Service, Transcode, cpus};

/// Of a run's requests, how many the machine may stand still in, %, before the run says nothing.
pub(crate) const LOUD_PERCENT: f64 = 10.0;

const QOS: &str = "koordinator.sh/qosClass";
const BURST: &str = "koordinator.sh/cpuBurst";

/// What shares the node, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing: the online service is alone.
    Nothing,
    /// Offline work in a pod like the online service's.
    Equal,
    /// Offline work as kubelet places it: besteffort, with shares 2.
    Kubelet,
    /// The same, treated as BE by Plimsoll in the group that kubelet chose.
    Keep,
    /// The same, treated as BE by Plimsoll in its class's own group.
    ClassTree,
}

/// What is compared with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    pub(crate) beside: Beside,
    /// The online service's CPU limit: CPU time in each 100 ms, µs.
    pub(crate) limit_us: Option<u64>,
    /// Whether it is treated as LS with CPU burst.
    pub(crate) burst: bool,
    pub(crate) knob: Knob,
}

/// What one round came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    /// Latencies of the requests during which the machine did not stand still.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// The others, of all requests, %.
    pub(crate) set_aside_percent: f64,
    /// Latencies of all requests.
    pub(crate) all_p99_ms: f64,
    pub(crate) all_p999_ms: f64,
    pub(crate) served_per_s: f64,
    pub(crate) failed: f64,
    /// What the load generator, a real-time task, was late by itself.
    pub(crate) generator_p999_ms: f64,
    /// Time the service's tasks were ready to run and did not, for each request.
    pub(crate) waited_us: f64,
    pub(crate) throttled_periods: f64,
    pub(crate) throttled_ms: f64,
    /// CPU time of the service, for each request.
    pub(crate) cpu_us: f64,
    /// Shares of the node's CPU time, %.
    pub(crate) online_percent: f64,
    pub(crate) offline_percent: f64,
    pub(crate) node_percent: f64,
    pub(crate) steal_percent: f64,
    /// Of the CPU time that nobody else used, what the offline work used, %.
    pub(crate) left_over_percent: f64,
    pub(crate) frames_per_s: f64,
    #[serde(skip)]
    pub(crate) latency_us: Vec<u32>,
}

impl Round {
    /// Whether the machine below stood still too much for the run to say anything of latency.
    pub(crate) fn is_loud(&self) -> bool {
        self.set_aside_percent > LOUD_PERCENT
    }
}

impl Arm {
    fn online(&self) -> Pod {
        let annotations: &[_] = match self {
            Self { beside: Beside::Keep | Beside::ClassTree, burst: false, .. } => {
                &[(QOS, "LS"), (BURST, r#"{"policy":"none"}"#)]
            }
            Self { burst: true, .. } => &[(QOS, "LS")],
            _ => &[],
        };
        Pod { name: "online", qos: "burstable", shares: 1024, limit_us: self.limit_us, annotations }
    }

    pub(crate) fn offline(&self) -> Option<Pod> {
        let (qos, shares) =
            if self.beside == Beside::Equal { ("burstable", 1024) } else { ("besteffort", 2) };
        let annotations: &[_] = match self.beside {
            Beside::Nothing => return None,
            Beside::Equal | Beside::Kubelet => &[],
            Beside::Keep | Beside::ClassTree => &[(QOS, "BE")],
        };
        Some(Pod { name: "offline", qos, shares, limit_us: None, annotations })
    }

    /// Runs it once.
    pub(crate) fn run(&self, node: &Node, arrivals: Arrivals) -> Round {
        node.sandbox.config(match self.beside {
            Beside::ClassTree => "[class.BE]\nplacement = \"class-tree\"\n",
            _ => "placement = \"keep\"\n",
        });
        let offline = self.offline().map(|pod| Transcode::start(node, &pod));
        let online = Service::start(node, &self.online());
        self.knob.set(online.pid, offline.as_ref().map(|o| o.pid));
        let mut load = Load::start(online.socket(), arrivals);
        let look = || {
            let work = offline.as_ref().map(|o| (Container::of(o.pid), o.frames())).unwrap_or_default();
            (Machine::now(), Container::of(online.pid), work)
        };

        load.next_mark();
        let before = look();
        load.next_mark();
        let after = look();
        let served = load.finish();

        let (machine, service) = (after.0.since(&before.0), after.1.since(&before.1));
        let (work, frames) = (after.2.0.since(&before.2.0), after.2.1 - before.2.1);
        let all_s = machine.seconds * cpus() as f64;
        let requests = served.latency_us.len() as f64;
        let ms = |sorted, share| quantile(sorted, share) / 1e3;
        Round {
            p50_ms: ms(&served.clear_us, 0.5),
            p99_ms: ms(&served.clear_us, 0.99),
            p999_ms: ms(&served.clear_us, 0.999),
            set_aside_percent: 100.0 * (1.0 - served.clear_us.len() as f64 / requests),
            all_p99_ms: ms(&served.latency_us, 0.99),
            all_p999_ms: ms(&served.latency_us, 0.999),
            served_per_s: requests / arrivals.seconds,
            failed: served.failed as f64,
            generator_p999_ms: quantile(&served.late_us, 0.999) / 1e3,
            waited_us: service.waited_s * 1e6 / requests,
            throttled_periods: service.throttled,
            throttled_ms: service.throttled_s * 1e3,
            cpu_us: service.cpu_s * 1e6 / requests,
            online_percent: 100.0 * service.cpu_s / all_s,
            offline_percent: 100.0 * work.cpu_s / all_s,
            node_percent: 100.0 * machine.busy,
            steal_percent: 100.0 * machine.steal,
            left_over_percent: if work.cpu_s > 0.0 {
                100.0 * work.cpu_s / (work.cpu_s + machine.idle_s)
            } else {
                0.0
            },
            frames_per_s: frames / machine.seconds,
            latency_us: served.clear_us,
        }
    }
}
