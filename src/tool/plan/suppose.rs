//! What the files of a container that is yet to come will say when the hook runs: what the runtime writes before.

use super::{Outcome, Planned, Subject};
use crate::container::Place;
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::group::Group;
use crate::plan::Level;
use crate::plan::facts::{BurstRule, CpuTime, Facts, PodPlace};
use crate::plan::gather::{self, Seen};
use crate::policy::koordinator::cpu::{PERIOD_US, UNLIMITED, shares_to_weight};
use crate::policy::treatment::Treatment;
use crate::record::Who;
use crate::tool::node;

/// The kernel's `cpu.shares` of a new group.
const DEFAULT_SHARES: i64 = 1024;

/// CPU time as a specification says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Relative weight, in the terms of `cpu.shares`.
    pub(super) shares: i64,
    /// CFS quota, microseconds per period; -1 is no limit.
    pub(super) quota: i64,
    /// CFS period, microseconds.
    pub(super) period: i64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { shares: DEFAULT_SHARES, quota: UNLIMITED, period: PERIOD_US }
    }
}

impl Wanted {
    fn time(self, version: Version) -> CpuTime {
        let weight = match version {
            Version::V1 => self.shares,
            Version::V2 => shares_to_weight(self.shares).unwrap_or(100),
        };
        CpuTime { weight, quota: self.quota, period: self.period, burst: 0 }
    }
}

/// What is supposed of a container's and its pod's groups, as long as they are not there.
#[derive(Clone, Debug, Default)]
pub(super) struct Supposed {
    pub(super) container: Wanted,
    /// The container's CPUs, where the specification names some.
    pub(super) cpus: Option<CpuSet>,
    /// Its memory nodes, likewise.
    pub(super) mems: Option<CpuSet>,
    pub(super) pod: Wanted,
    /// The container's memory limit in bytes, where it has one; then the pod's.
    pub(super) memory: [Option<i64>; 2],
    /// The bursts of the pod's other containers together, microseconds.
    pub(super) other_bursts: i64,
}

impl Supposed {
    /// Counts the bursts that the pod's earlier containers would have by then.
    pub(super) fn add_bursts(&mut self, who: &Who, earlier: &[Planned]) {
        let same_pod =
            |other: &Who| who.pod.is_some() && (&who.namespace, &who.pod) == (&other.namespace, &other.pod);
        let burst = |planned: &Planned| match &planned.outcome {
            Outcome::Planned { plan, .. } if same_pod(&planned.subject.who) => {
                plan.value(Level::Container, Knob::Burst).and_then(Value::int)
            }
            _ => None,
        };
        self.other_bursts = earlier.iter().filter_map(burst).sum();
    }
}

/// The facts for a container: read where its groups are there, supposed where not.
pub(super) fn facts(
    hook: &Hook,
    subject: &Subject,
    place: &Place,
    who: &Who,
    treatment: &Treatment,
) -> Result<Facts> {
    let sources = hook.sources();
    let cpu = &place.groups.cpu;
    if cpu.exists() {
        return sources.facts(treatment, place, who, None);
    }
    let supposed = &subject.supposed;
    let sample = node::sample(cpu).ok_or_else(|| {
        Error::invalid(
            format!("the files this kernel gives {}", cpu.dir().display()),
            "no group of the hierarchy has the cpu controller yet",
        )
        .hint("it is enabled when the first container starts; `plimsoll check` as root makes a group to look at")
    })?;
    let pod = match &place.pod {
        Some(pod) if pod.cpu.exists() => Some(sources.pod(treatment, place, pod)?),
        Some(pod) => Some(PodPlace {
            groups: pod.clone(),
            kube_qos: place.kube_qos,
            kube_groups: place.kube_groups.clone(),
            quota: supposed.pod.quota,
            period: supposed.pod.period,
            other_bursts: supposed.other_bursts,
            memory: supposed.memory[1].unwrap_or(UNLIMITED),
        }),
        None => None,
    };
    let cpus = match (&supposed.cpus, &place.groups.cpuset) {
        (_, None) => None,
        (Some(cpus), Some(_)) => Some(cpus.clone()),
        (None, Some(cpuset)) => inherited(cpuset)?,
    };
    // Only v1 has a class tree to carry them to; its runtimes copy them down.
    let mems = match &place.groups.cpuset {
        Some(cpuset) if gather::may_move(treatment) => match &supposed.mems {
            Some(mems) => Some(mems.clone()),
            None => node::nearest(cpuset)
                .and_then(|above| above.read(Knob::Mems).transpose())
                .transpose()?
                .and_then(|value| value.set().cloned()),
        },
        _ => None,
    };
    let seen = Seen {
        cpu: supposed.container.time(cpu.version),
        memory: supposed.memory[0].unwrap_or(UNLIMITED),
        pod,
        cpus,
        mems,
        burst: BurstRule::of(&sample),
        ladder: sources.ladder(treatment, &sample)?,
    };
    sources.facts_of(seen, treatment, place, who)
}

/// The CPUs a new group gets from those above it: v1 runtimes copy them down, v2 inherits.
fn inherited(cpuset: &Group) -> Result<Option<CpuSet>> {
    let mut group = node::nearest(cpuset);
    while let Some(above) = group {
        match gather::allowed(&above)? {
            Some(cpus) if !cpus.is_empty() => return Ok(Some(cpus)),
            _ => group = above.parent(),
        }
    }
    Ok(None)
}
