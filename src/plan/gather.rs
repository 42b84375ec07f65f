//! Reads the facts a plan is made from. Reads only what the treatment needs: this is the hook's path.

use std::path::PathBuf;

use super::exclusive::{self, Refusal};
use super::facts::{BurstRule, CpuTime, Facts, Neighbour, NodeCpus, PodPlace};
use super::suppose::Supposed;
use crate::container::{Place, Vm};
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::fs::Roots;
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::{Ladder, Wish};
use crate::kernel::topology::Topology;
use crate::policy::config::Placement;
use crate::policy::treatment::{CpusRule, Treatment};
use crate::qos::QosClass;
use crate::record::{Claim, Store, Who};

/// The kernel's default CFS period, microseconds.
const DEFAULT_PERIOD: i64 = 100_000;

/// What the configuration says about the node's CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSettings {
    /// CPUs never handed out.
    pub reserved: CpuSet,
    /// How many CPUs stay in the shared pool.
    pub min_shared: usize,
    /// CPUs that all classes but SYSTEM stay off.
    pub system: CpuSet,
}

/// Where to look.
pub struct Sources<'a> {
    /// The node's file systems.
    pub roots: &'a Roots,
    /// Plimsoll's records.
    pub store: &'a Store,
    /// The identity ladder's settings.
    pub wish: &'a Wish,
    /// The CPU settings.
    pub cpus: &'a CpuSettings,
}

/// What a container's and its pod's own files say: read by the hook, supposed for a container that is yet to come.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The container's CPU time.
    pub cpu: CpuTime,
    /// The pod around it.
    pub pod: Option<PodPlace>,
    /// The container's memory limit, bytes; -1 is no limit.
    pub memory: i64,
    /// The CPUs the container may run on; `None` without `cpuset`.
    pub cpus: Option<CpuSet>,
    /// The memory nodes the container may use; `None` without `cpuset`, or where no plan needs them.
    pub mems: Option<CpuSet>,
    /// The bound on burst.
    pub burst: BurstRule,
    /// The identity mechanism.
    pub ladder: Ladder,
}

impl Sources<'_> {
    /// Reads the facts for a container at its place. `allowed` is what the engine lets it have, where that is known and
    /// its group does not say so any more. The caller holds the node lock where the treatment owns CPUs.
    pub fn facts(
        &self,
        treatment: &Treatment,
        place: &Place,
        who: &Who,
        allowed: Option<CpuSet>,
    ) -> Result<Facts> {
        if place.vm.is_some() {
            return self.facts_of_vm(treatment, place, who, allowed);
        }
        let groups = &place.groups;
        let seen = Seen {
            cpu: container_time(place, needs_weight(treatment))?,
            memory: if treatment.batch.is_some() { memory(groups)? } else { -1 },
            pod: match &place.pod {
                // The runtime was told to put the container elsewhere, and nobody else has made the pod's groups.
                Some(pod) if !pod.cpu.exists() => Some(Supposed::default().pod_at(place, pod)),
                Some(pod) => Some(self.pod(treatment, place, pod)?),
                None => None,
            },
            cpus: match (allowed, &groups.cpuset) {
                (Some(cpus), Some(_)) => Some(cpus),
                (None, Some(cpuset)) => self::allowed(cpuset)?,
                (_, None) => None,
            },
            mems: match &groups.cpuset {
                Some(cpuset) if may_move(treatment) => {
                    cpuset.read(Knob::Mems)?.and_then(|value| value.set().cloned())
                }
                _ => None,
            },
            burst: BurstRule::of(&groups.cpu),
            ladder: self.ladder(treatment, &groups.cpu)?,
        };
        self.facts_of(seen, treatment, place, who)
    }

    /// The facts for a container whose files were read or supposed.
    pub fn facts_of(&self, seen: Seen, treatment: &Treatment, place: &Place, who: &Who) -> Result<Facts> {
        let mut facts = Facts {
            groups: place.groups.clone(),
            inner: place.inner.clone(),
            vm: place.vm.as_ref().map(|vm| super::vm::machine(place, vm)),
            name: who.id.clone(),
            pod: seen.pod,
            cpu: seen.cpu,
            memory: seen.memory,
            cpus: seen.cpus,
            on_nodes: false,
            mems: seen.mems,
            burst: seen.burst,
            ladder: seen.ladder,
            node: NodeCpus::default(),
            own: None,
            refusal: None,
            neighbours: Vec::new(),
        };
        if treatment.cpus != CpusRule::Keep && place.groups.cpuset.is_some() {
            self.cpus(&mut facts, treatment, place, who)?;
        }
        Ok(facts)
    }

    /// The identity mechanism for a treatment, probed by the files of a group.
    pub fn ladder(&self, treatment: &Treatment, cpu: &Group) -> Result<Ladder> {
        match treatment.identity {
            Some(identity) => Ok(Ladder::choose(self.roots, cpu, self.wish)?.worth(identity)),
            None => Ok(Ladder::none()),
        }
    }

    /// Whether a plan may hold anything that a runtime is told in the specification: a place, a weight, limits, CPUs.
    ///
    /// # Errors
    ///
    /// The claims cannot be listed.
    pub fn may_concern_runtime(&self, treatment: &Treatment) -> Result<bool> {
        // Without another rung a low identity is a weight.
        let by_itself = needs_weight(treatment)
            || treatment.pod_batch.is_some()
            || treatment.unset_quota
            || treatment.identity.is_some_and(|identity| identity < 0)
            || !treatment.nodes.is_empty();
        Ok(by_itself
            || match treatment.cpus {
                CpusRule::Keep => false,
                CpusRule::Exact(_) | CpusRule::Allocate => true,
                CpusRule::SharedPool | CpusRule::BestEffortPool => !self.nobody_owns(&self.live_claims()?),
            })
    }

    /// Whether all CPUs are everybody's.
    fn nobody_owns(&self, claims: &[Claim]) -> bool {
        claims.is_empty() && self.cpus.system.is_empty()
    }

    /// Reads the pod's group.
    pub fn pod(&self, treatment: &Treatment, place: &Place, pod: &Groups) -> Result<PodPlace> {
        let time = cpu_time(&pod.cpu, treatment.pod_batch.is_some())?;
        // The pod's burst is the sum of its containers', read from the containers that are there.
        let other_bursts = if treatment.burst.is_some() && time.quota > 0 {
            let others = pod.cpu.children().into_iter().filter(|child| *child != place.groups.cpu);
            others.filter_map(|child| child.read(Knob::Burst).ok().flatten()?.int()).sum()
        } else {
            0
        };
        Ok(PodPlace {
            groups: pod.clone(),
            kube_qos: place.kube_qos,
            kube_groups: place.kube_groups.clone(),
            quota: time.quota,
            period: time.period,
            other_bursts,
            memory: if treatment.pod_batch.is_some() { memory(pod)? } else { -1 },
        })
    }

    fn cpus(&self, facts: &mut Facts, treatment: &Treatment, place: &Place, who: &Who) -> Result<()> {
        if !treatment.nodes.is_empty() && !matches!(treatment.cpus, CpusRule::Exact(_)) {
            let near = Topology::cpus_of_nodes(&self.roots.path("/sys"), &treatment.nodes)?;
            let near = facts.cpus.as_ref().map(|cpus| cpus.intersection(&near));
            if near.as_ref().is_some_and(|near| !near.is_empty()) {
                (facts.cpus, facts.on_nodes) = (near, true);
            }
        }
        let claims = self.live_claims()?;
        if self.nobody_owns(&claims)
            && !treatment.owns_cpus()
            && !matches!(treatment.cpus, CpusRule::Exact(_))
        {
            // Nothing to stay off: the pool is whatever the container has.
            facts.node.online = facts.cpus.clone().unwrap_or_default();
            return Ok(());
        }
        facts.node = self.node(&claims)?;
        if treatment.owns_cpus() {
            facts.neighbours = self.neighbours(&who.id)?;
        }
        match &treatment.cpus {
            CpusRule::Exact(cpus) => {
                let missing = cpus.difference(&facts.node.online);
                if !missing.is_empty() {
                    return Err(Error::invalid(
                        format!("CPUs {cpus} for {}", treatment.class),
                        format!("{missing} are not online; this node has {}", facts.node.online),
                    ));
                }
                facts.own = Some(cpus.clone());
                if treatment.owns_cpus() {
                    let owner = owner(place, who);
                    let mut owners: Vec<(String, CpuSet)> =
                        claims.iter().map(|claim| (claim.owner.clone(), claim.cpus.clone())).collect();
                    owners.push(("the system (system.cpus)".to_owned(), self.cpus.system.clone()));
                    let conflicts = exclusive::conflicts(cpus, &owners, &owner);
                    if let Some((other, shared)) = conflicts.first() {
                        facts.own = None;
                        facts.refusal = Some(format!("cpus: {shared} of {cpus} belong to {other} already"));
                    } else if let Some(stranded) = stranded(facts, treatment.class, cpus) {
                        facts.refusal =
                            Some(format!("cpus: {cpus} are all that container {} may use", stranded.id));
                        facts.own = None;
                    }
                } else {
                    // CPUs for the system are a wish of the configuration; a claim is held by somebody who runs.
                    let left = cpus.difference(&facts.node.lse.union(&facts.node.lsr));
                    if left.is_empty() {
                        facts.own = None;
                        facts.refusal = Some(format!("cpus: all of {cpus} belong to LSE or LSR containers"));
                    } else {
                        facts.own = Some(left);
                    }
                }
            }
            CpusRule::Allocate => match self.allocate(facts, treatment.class, &claims, &owner(place, who)) {
                Ok(cpus) => facts.own = Some(cpus),
                Err(why) => facts.refusal = Some(why),
            },
            _ => {}
        }
        if let Some(own) = facts.own.clone().filter(|_| treatment.owns_cpus()) {
            match treatment.class {
                QosClass::Lse => facts.node.lse = facts.node.lse.union(&own),
                _ => facts.node.lsr = facts.node.lsr.union(&own),
            }
        } else {
            facts.neighbours.clear();
        }
        Ok(())
    }

    /// CPUs of this container's own: as many as its limit, else its request, says.
    fn allocate(
        &self,
        facts: &Facts,
        class: QosClass,
        claims: &[Claim],
        owner: &str,
    ) -> Result<CpuSet, String> {
        // A hook that runs twice for a container finds what it took the first time. A machine's group may have had another
        // name then; its pod has no other claim.
        let is_mine = |claim: &&Claim| match &facts.vm {
            Some(_) => claim.owner == owner,
            None => Some(&claim.group) == facts.groups.cpuset.as_ref(),
        };
        if let Some(mine) = claims.iter().find(is_mine) {
            return Ok(mine.cpus.clone());
        }
        let cpu = facts.cpu;
        let on_v1 = facts.groups.cpu.version == Version::V1;
        let wanted = if cpu.quota > 0 {
            (cpu.quota + cpu.period - 1) / cpu.period
        } else if on_v1 && cpu.weight >= 1024 {
            // A part of a CPU is a whole one here: half of what was asked for would be less than sharing gives.
            (cpu.weight + 1023) / 1024
        } else {
            0
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if wanted == 0 {
            // Runtimes map a request to a weight of cgroup v2 in several ways: it cannot be told from that.
            let has = if on_v1 { "neither a CPU limit nor a request of a whole CPU" } else { "no CPU limit" };
            return Err(format!("cpus: the container has {has}, so there is no number of CPUs to own"));
        }
        let topology = Topology::read(&self.roots.path("/sys")).map_err(|e| format!("cpus: {e}"))?;
        let pool = facts.node.pool(QosClass::Lsr);
        let allowed = facts.cpus.clone().unwrap_or_else(|| pool.clone());
        let mut free = pool.difference(&self.cpus.reserved).intersection(&allowed);
        let mut kept_for: Vec<String> = Vec::new();
        // Each round takes a CPU out of the free ones, so there is an end.
        loop {
            let picked = exclusive::allocate(&topology, &free, wanted, self.cpus.min_shared, &pool);
            let cpus = picked.map(|allocation| allocation.cpus).map_err(|refusal: Refusal| {
                let kept = match kept_for.is_empty() {
                    true => String::new(),
                    false => format!(" (container {} may use no others)", kept_for.join(", ")),
                };
                format!("cpus: {refusal}{kept}; {}", refusal.hint())
            })?;
            let Some(stranded) = stranded(facts, class, &cpus) else {
                return Ok(cpus);
            };
            let last = facts.node.pool(stranded.class).intersection(&stranded.allowed).intersection(&cpus);
            free = free.difference(&last.iter().take(1).collect());
            if !kept_for.contains(&stranded.id) {
                kept_for.push(stranded.id.clone());
            }
        }
    }

    /// The claims whose containers are still there. For one that cannot be understood the container's record stands in.
    pub fn live_claims(&self) -> Result<Vec<Claim>> {
        let claims = self.store.claims()?.into_iter();
        let known = claims.filter_map(|(id, claim)| {
            claim.ok().or_else(|| Claim::of(&self.store.load(&id).ok().flatten()?))
        });
        Ok(known.filter(Claim::is_live).collect())
    }

    /// The node's CPUs with these claims.
    pub fn node(&self, claims: &[Claim]) -> Result<NodeCpus> {
        let mut node = NodeCpus {
            online: Topology::read_online(&self.roots.path("/sys"))?,
            system: self.cpus.system.clone(),
            ..NodeCpus::default()
        };
        for claim in claims {
            let set = if claim.class == QosClass::Lse { &mut node.lse } else { &mut node.lsr };
            *set = set.union(&claim.cpus);
        }
        Ok(node)
    }

    /// The containers that share CPUs, but for one.
    pub fn neighbours(&self, but: &str) -> Result<Vec<Neighbour>> {
        let mut neighbours = Vec::new();
        for (id, record) in self.store.records()? {
            let Ok(record) = record else { continue };
            let shares = matches!(record.treatment.cpus, CpusRule::SharedPool | CpusRule::BestEffortPool);
            let (Some(allowed), Some(group)) = (record.allowed.clone(), record.groups.cpuset.clone()) else {
                continue;
            };
            if id.as_str() == but || !shares || !group.exists() {
                continue;
            }
            // A group that vanishes now needs no CPUs any more.
            let Ok(Some(now)) = self::allowed(&group) else {
                continue;
            };
            neighbours.push(Neighbour {
                id: id.to_string(),
                class: record.treatment.class,
                others: other_cpus(&group, record.vm.as_ref()),
                allowed: within_parent(&group, &allowed),
                group,
                now,
            });
        }
        Ok(neighbours)
    }
}

/// The first container that shares CPUs and would be left with none if these were a container's of the class.
fn stranded<'a>(facts: &'a Facts, class: QosClass, own: &CpuSet) -> Option<&'a Neighbour> {
    let mut node = facts.node.clone();
    let set = if class == QosClass::Lse { &mut node.lse } else { &mut node.lsr };
    *set = set.union(own);
    let left = |node: &NodeCpus, of: &Neighbour| node.pool(of.class).intersection(&of.allowed);
    facts.neighbours.iter().find(|of| !left(&facts.node, of).is_empty() && left(&node, of).is_empty())
}

/// What is left of a container's CPUs where somebody took some from its pod meanwhile: cgroup v1 refuses the others.
pub fn within_parent(cpuset: &Group, allowed: &CpuSet) -> CpuSet {
    let parent = cpuset.parent().filter(|_| cpuset.version == Version::V1);
    let parent = parent.and_then(|parent| parent.read(Knob::Cpus).ok().flatten());
    parent
        .as_ref()
        .and_then(Value::set)
        .map_or_else(|| allowed.clone(), |parent| allowed.intersection(parent))
}

/// Who shares a container's own CPUs: its pod, or itself.
pub fn owner(place: &Place, who: &Who) -> String {
    place.pod_uid.clone().unwrap_or_else(|| who.id.clone())
}

/// Whether a plan may move the container into the class tree.
pub fn may_move(treatment: &Treatment) -> bool {
    match treatment.placement {
        Placement::Keep => false,
        Placement::ClassTree => true,
        Placement::Auto => treatment.class == QosClass::Be,
    }
}

/// Whether a plan may carry weight and period over into the class tree, count CPUs by them, or write batch limits.
fn needs_weight(treatment: &Treatment) -> bool {
    may_move(treatment) || treatment.cpus == CpusRule::Allocate || treatment.batch.is_some()
}

/// The container's CPU time. Where a runtime made a group of its own below the container's, the limit may stand there
/// alone: crun 1.8 with systemd tells systemd no quota.
fn container_time(place: &Place, with_weight: bool) -> Result<CpuTime> {
    let time = cpu_time(&place.groups.cpu, with_weight)?;
    let Some(inner) = place.inner.as_ref().filter(|_| time.quota < 0) else { return Ok(time) };
    let below = cpu_time(&inner.cpu, true)?;
    if below.quota < 0 {
        return Ok(time);
    }
    Ok(CpuTime { quota: below.quota, period: below.period, burst: below.burst, ..time })
}

pub(super) fn cpu_time(group: &Group, with_weight: bool) -> Result<CpuTime> {
    let int = |knob| -> Result<Option<i64>> { Ok(group.read(knob)?.and_then(|value| value.int())) };
    let quota = int(Knob::Quota)?;
    let (quota, can_limit) = (quota.unwrap_or(-1), quota.is_some());
    if !with_weight {
        return Ok(CpuTime { weight: 0, quota, can_limit, period: DEFAULT_PERIOD, burst: 0 });
    }
    let weight = match group.version {
        Version::V1 => Knob::Shares,
        Version::V2 => Knob::Weight,
    };
    Ok(CpuTime {
        weight: int(weight)?.unwrap_or(0),
        quota,
        can_limit,
        period: int(Knob::Period)?.unwrap_or(DEFAULT_PERIOD),
        burst: int(Knob::Burst)?.unwrap_or(0),
    })
}

fn memory(groups: &Groups) -> Result<i64> {
    let limit = groups.memory.as_ref().map(|group| group.read(Knob::MemoryLimit)).transpose()?.flatten();
    Ok(limit.and_then(|value| value.int()).unwrap_or(-1))
}

/// A container's groups whose CPUs do not follow its own, with what they have: the one a runtime made below on cgroup v1,
/// and a virtual machine's overhead.
pub fn other_cpus(cpuset: &Group, vm: Option<&Vm>) -> Vec<(Group, CpuSet)> {
    let inner = Place::inner_of(cpuset).filter(|inner| inner.version == Version::V1);
    let overhead = vm.and_then(|vm| vm.overhead.as_ref()?.cpuset.clone()).filter(Group::exists);
    let with_cpus = |group: Group| {
        let cpus = allowed(&group).ok()??;
        Some((group, cpus))
    };
    inner.into_iter().chain(overhead).filter_map(with_cpus).collect()
}

/// The CPUs a group's tasks may use; `None` where the file is not there.
pub fn allowed(cpuset: &Group) -> Result<Option<CpuSet>> {
    let name = match cpuset.version {
        Version::V1 => "cpuset.cpus",
        Version::V2 => "cpuset.cpus.effective",
    };
    let path: PathBuf = cpuset.dir().join(name);
    let text = crate::kernel::fs::read_if_there(&path)?;
    text.map(|text| text.trim().parse()).transpose()
}
