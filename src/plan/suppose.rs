//! What the files of a container that is yet to come will say when the hook runs: what the runtime writes before.

use super::facts::{BurstRule, CpuTime, Facts, PodPlace};
use super::gather::{self, Seen, Sources};
use crate::container::Place;
use crate::container::bundle::Cpu;
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Version};
use crate::kernel::group::{Group, Groups};
use crate::policy::koordinator::cpu::{PERIOD_US, UNLIMITED, shares_to_weight};
use crate::policy::treatment::Treatment;
use crate::record::Who;

/// The kernel's `cpu.shares` of a new group.
pub(super) const DEFAULT_SHARES: i64 = 1024;

/// How many groups are looked at for one that has the files wanted.
const MAX_LOOKS: usize = 500;

/// CPU time as a specification says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Relative weight, in the terms of `cpu.shares`.
    pub shares: i64,
    /// CFS quota, microseconds per period; -1 is no limit.
    pub quota: i64,
    /// CFS period, microseconds.
    pub period: i64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { shares: DEFAULT_SHARES, quota: UNLIMITED, period: PERIOD_US }
    }
}

impl Wanted {
    fn time(self, version: Version) -> CpuTime {
        CpuTime {
            weight: weight(version, self.shares),
            quota: self.quota,
            can_limit: true,
            period: self.period,
            burst: 0,
        }
    }
}

/// What `cpu.shares` are in the terms of a hierarchy: themselves, or `cpu.weight`.
pub fn weight(version: Version, shares: i64) -> i64 {
    match version {
        Version::V1 => shares,
        Version::V2 => shares_to_weight(shares).unwrap_or(100),
    }
}

/// What is supposed of a container's and its pod's groups, as long as they are not there.
#[derive(Clone, Debug, Default)]
pub struct Supposed {
    /// The container's CPU time.
    pub container: Wanted,
    /// Its CPUs, where the specification names some.
    pub cpus: Option<CpuSet>,
    /// Its memory nodes, likewise.
    pub mems: Option<CpuSet>,
    /// The pod's CPU time.
    pub pod: Wanted,
    /// The container's memory limit in bytes, where it has one; then the pod's.
    pub memory: [Option<i64>; 2],
    /// The bursts of the pod's other containers together, microseconds.
    pub other_bursts: i64,
}

impl Supposed {
    /// What `linux.resources` say: `cpu`, and `memory.limit`. `what` names them in errors.
    pub fn of(what: &str, cpu: &Cpu, memory: Option<i64>) -> Result<Self> {
        let default = Wanted::default();
        let number = |n: Option<u64>| n.filter(|n| *n > 0).and_then(|n| i64::try_from(n).ok());
        let list = |name: &str, text: &Option<String>| -> Result<Option<CpuSet>> {
            let parsed = text.as_deref().filter(|text| !text.is_empty()).map(str::parse).transpose();
            parsed.map_err(|e: Error| Error::invalid(format!("{what}.cpu.{name}"), e.to_string()))
        };
        Ok(Self {
            container: Wanted {
                shares: number(cpu.shares).unwrap_or(default.shares),
                // Zero is unset; runtimes write nothing then.
                quota: cpu.quota.filter(|quota| *quota > 0).unwrap_or(default.quota),
                period: number(cpu.period).unwrap_or(default.period),
            },
            cpus: list("cpus", &cpu.cpus)?,
            mems: list("mems", &cpu.mems)?,
            memory: [memory.filter(|bytes| *bytes > 0), None],
            ..Self::default()
        })
    }
}

impl Supposed {
    /// The pod, as long as nobody has made its groups.
    pub(super) fn pod_at(&self, place: &Place, pod: &Groups) -> PodPlace {
        PodPlace {
            groups: pod.clone(),
            kube_qos: place.kube_qos,
            kube_groups: place.kube_groups.clone(),
            quota: self.pod.quota,
            period: self.pod.period,
            other_bursts: self.other_bursts,
            memory: self.memory[1].unwrap_or(UNLIMITED),
        }
    }
}

impl Sources<'_> {
    /// The facts for a container: read where its groups are there, supposed where not.
    pub fn suppose(
        &self,
        supposed: &Supposed,
        treatment: &Treatment,
        place: &Place,
        who: &Who,
    ) -> Result<Facts> {
        let cpu = &place.groups.cpu;
        if cpu.exists() || place.vm.is_some() {
            return self.facts(treatment, place, who, None);
        }
        let sample = sample(cpu).ok_or_else(|| {
            Error::invalid(
                format!("the files this kernel gives {}", cpu.dir().display()),
                "no group of the hierarchy has the cpu controller yet",
            )
            .hint("it is enabled when the first container starts; `plimsoll check` as root makes a group to look at")
        })?;
        let pod = match &place.pod {
            Some(pod) if pod.cpu.exists() => Some(self.pod(treatment, place, pod)?),
            Some(pod) => Some(supposed.pod_at(place, pod)),
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
                None => nearest(cpuset)
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
            ladder: self.ladder(treatment, &sample)?,
        };
        self.facts_of(seen, treatment, place, who)
    }
}

/// The CPUs a new group gets from those above it: v1 runtimes copy them down, v2 inherits.
pub(super) fn inherited(cpuset: &Group) -> Result<Option<CpuSet>> {
    let mut group = nearest(cpuset);
    while let Some(above) = group {
        match gather::allowed(&above)? {
            Some(cpus) if !cpus.is_empty() => return Ok(Some(cpus)),
            _ => group = above.parent(),
        }
    }
    Ok(None)
}

/// The group itself, or the nearest one above it that is there.
fn nearest(group: &Group) -> Option<Group> {
    let mut group = group.clone();
    while !group.exists() {
        group = group.parent()?;
    }
    Some(group)
}

/// A group whose files tell what this kernel gives a group at this place; none where no group has the `cpu`
/// controller yet (cgroup v2, whose root group has no such files).
pub fn sample(cpu: &Group) -> Option<Group> {
    let mut above = nearest(cpu);
    while let Some(group) = above {
        // The root of v1 has every file the others have; that of v2 has none.
        if group.has(Knob::Quota) {
            return Some(group);
        }
        above = group.parent();
    }
    let mut todo = vec![cpu.at("/")];
    let mut looks = 0;
    while let Some(group) = todo.pop() {
        looks += 1;
        if looks > MAX_LOOKS {
            break;
        }
        if group.has(Knob::Quota) {
            return Some(group);
        }
        todo.extend(group.children());
    }
    None
}
