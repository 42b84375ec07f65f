//! From treatment and facts to the plan.

use super::facts::{BurstRule, Facts, PodPlace};
use super::suppose::{DEFAULT_SHARES, weight};
use super::tree::{Branch, Tree, TreeShape};
use super::{Level, Plan, Write};
use crate::kernel::control::{Controller, Knob, Value, Version};
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::Rung;
use crate::policy::config::Placement;
use crate::policy::koordinator::batch::Limits;
use crate::policy::koordinator::cpu::PERIOD_US;
use crate::policy::treatment::{Burst, Treatment};
use crate::qos::{KubeQos, QosClass};

/// Plans everything for one container. Pure: the same input gives the same plan.
pub fn build(treatment: &Treatment, facts: &Facts, shape: &TreeShape) -> Plan {
    let mut builder = Builder { treatment, facts, writes: Vec::new(), lost: treatment.refused.clone() };
    let tree = builder.place(shape);
    let groups = match &tree {
        Some(tree) => tree.groups(&facts.groups),
        None => facts.groups.clone(),
    };
    let place =
        Place { pod: builder.pod_groups(tree.as_ref(), &groups), tree: tree.as_ref(), groups: &groups };
    builder.carry(&place);
    builder.identity(&place, shape);
    builder.time(&place);
    builder.burst(&place);
    builder.cpus(&place);
    builder.inner();
    builder.bounds_of_vm(&place);
    let placement = if tree.is_some() { Placement::ClassTree } else { Placement::Keep };
    let Builder { writes, mut lost, .. } = builder;
    for (rung, why) in &facts.ladder.passed_over {
        lost.push(format!("identity: {rung} passed over: {why}"));
    }
    Plan {
        class: treatment.class,
        placement,
        rung: facts.ladder.rung,
        switches: facts.ladder.switches.clone(),
        tree: tree.map(|tree| tree.moved),
        writes,
        groups,
        lost,
    }
}

/// Where the writes go.
pub(super) struct Place<'a> {
    pub(super) pod: Option<Groups>,
    pub(super) tree: Option<&'a Tree>,
    pub(super) groups: &'a Groups,
}

/// The plan in the making.
pub(super) struct Builder<'a> {
    pub(super) treatment: &'a Treatment,
    pub(super) facts: &'a Facts,
    pub(super) writes: Vec<Write>,
    pub(super) lost: Vec<String>,
}

impl Builder<'_> {
    pub(super) fn set(
        &mut self,
        level: Level,
        group: Option<&Group>,
        knob: Knob,
        value: Value,
        why: impl Into<String>,
    ) {
        let Some(group) = group else {
            self.lost.push(format!("{knob}: no hierarchy with the {} controller", knob.controller().name()));
            return;
        };
        let write = Write { level, group: group.clone(), knob, value, fallback: None, why: why.into() };
        // One writer per value: what is planned later for the same file takes its place.
        match self.writes.iter_mut().find(|w| w.knob == knob && w.group == write.group) {
            Some(earlier) => *earlier = write,
            None => self.writes.push(write),
        }
    }

    pub(super) fn int(
        &mut self,
        level: Level,
        groups: &Groups,
        knob: Knob,
        value: i64,
        why: impl Into<String>,
    ) {
        self.set(level, groups.of(knob.controller()), knob, Value::Int(value), why);
    }

    /// What is written to the container's group is written to the group its processes really are in too: limits hold
    /// at both, and a burst above a throttled group is of no use. CPUs of cgroup v2 are bound from above anyway; a list of
    /// its own would only have to be kept up.
    fn inner(&mut self) {
        let Some(inner) = &self.facts.inner else { return };
        let below = self.writes.iter().filter(|write| write.level == Level::Container).filter_map(|write| {
            let group = inner.of(write.knob.controller()).filter(|group| group.mount == write.group.mount)?;
            if write.knob.controller() == Controller::Cpuset && group.version == Version::V2 {
                return None;
            }
            Some(Write { group: group.clone(), ..write.clone() })
        });
        let below: Vec<Write> = below.collect();
        self.writes.extend(below);
    }

    /// The pod's groups: where it is, and in the class tree its own group there.
    fn pod_groups(&self, tree: Option<&Tree>, groups: &Groups) -> Option<Groups> {
        let pod = self.facts.pod.as_ref()?;
        groups.map(|group| match tree.filter(|tree| tree.branch.holds(group)) {
            Some(tree) => tree.branch.pod(group),
            None => pod_of(&pod.groups, group),
        })
    }

    /// A moved group starts with the kernel's defaults: CPU time, CPUs and memory nodes go along.
    fn carry(&mut self, place: &Place<'_>) {
        if self.facts.vm.is_some() {
            return self.carry_of_vm(place);
        }
        if !place.tree.is_some_and(Tree::moves) {
            return;
        }
        let cpu = self.facts.cpu;
        let why = "carried over from the engine's group";
        self.int(Level::Container, place.groups, weight_knob(place.groups), cpu.weight, why);
        self.int(Level::Container, place.groups, Knob::Period, cpu.period, why);
        self.int(Level::Container, place.groups, Knob::Quota, cpu.quota, why);
        if let Some(cpus) = self.facts.cpus.clone() {
            self.set(Level::Container, place.groups.cpuset.as_ref(), Knob::Cpus, Value::Set(cpus), why);
        }
        if let Some(mems) = self.facts.mems.clone() {
            self.set(Level::Container, place.groups.cpuset.as_ref(), Knob::Mems, Value::Set(mems), why);
        }
        if cpu.burst > 0 {
            self.int(Level::Container, place.groups, Knob::Burst, cpu.burst, why);
        }
    }

    fn identity(&mut self, place: &Place<'_>, shape: &TreeShape) {
        let Some(identity) = self.treatment.identity else {
            return;
        };
        let rung = self.facts.ladder.rung;
        self.lost.extend(rung.lost(identity).map(str::to_owned));
        let settings = rung.settings(identity, weight_knob(place.groups));
        if matches!(rung, Rung::Idle | Rung::GroupIdentity2) && identity < 0 && place.tree.is_none() {
            match (&place.pod, self.facts.pod.as_ref().and_then(|pod| pod.kube_qos)) {
                (Some(_), Some(_)) if rung == Rung::Idle => self.lost.push(
                    "placement: kept under kubepods, cpu.idle on the pod orders it below its siblings in the same QoS group only; class-tree puts it below all online pods".to_owned(),
                ),
                (Some(_), Some(_)) => self.lost.push(
                    "placement: kept under kubepods, cpu.priority on the pod orders it below its siblings in the same QoS group only, unless the kernel's scheduler feature ID_ABSOLUTE_EXPEL is on; class-tree puts it below all online pods".to_owned(),
                ),
                (Some(_), None) => {}
                (None, _) => self.lost.push(
                    "placement: while the container's own group is idle, a later write of its shares or weight is refused by the kernel (EINVAL)".to_owned(),
                ),
            }
        }
        for setting in &settings {
            let value = Value::Int(setting.value);
            let for_siblings = !rung.is_hierarchical() || setting.knob.makes_idle(&value);
            for (level, group) in self.carriers(place, shape, for_siblings) {
                if for_siblings {
                    // This is the group's weight now: what was carried over is not.
                    let weight = weight_knob(place.groups);
                    self.writes.retain(|w| w.knob != weight || w.group != group);
                }
                self.writes.push(Write {
                    level,
                    group,
                    knob: setting.knob,
                    value: value.clone(),
                    fallback: setting.fallback.map(Value::Int),
                    why: self.treatment.identity_why.clone(),
                });
            }
        }
        if let Some(tree) = place.tree {
            self.undo_low(place, &tree.branch, shape, identity);
        }
        self.kube_identity(shape);
    }

    /// The tree's root and the class's group outlive the configuration that made them low: where that is over, it is
    /// said to them. (Identities that count on the whole chain are written for each class anyway, never at the root.)
    fn undo_low(&mut self, place: &Place<'_>, branch: &Branch, shape: &TreeShape, identity: i8) {
        let cpu = &place.groups.cpu;
        let (knob, normal) = match self.facts.ladder.rung {
            Rung::Idle => (Knob::Idle, 0),
            Rung::GroupIdentity2 => (Knob::Priority, 0),
            Rung::Weight => (weight_knob(place.groups), weight(cpu.version, DEFAULT_SHARES)),
            _ => return,
        };
        let root = (Level::Tree, &branch.root, !shape.offline_only);
        let class = (Level::Class, &branch.class, identity >= 0 && knob != Knob::Priority);
        for (level, path, _) in [root, class].into_iter().filter(|(.., is_online)| *is_online) {
            let group = cpu.at(path.clone());
            self.set(level, Some(&group), knob, Value::Int(normal), "online classes live here");
        }
    }

    /// The groups that carry an identity: all of the container's where the kernel looks at the whole chain. Where it
    /// only orders siblings, the outermost that is not shared with other classes; an idle container would lose its weight
    /// in the pod, and nobody could write it any more.
    fn carriers(&self, place: &Place<'_>, shape: &TreeShape, for_siblings: bool) -> Vec<(Level, Group)> {
        let mut groups: Vec<(Level, Group)> = Vec::new();
        let pod = place.pod.iter().map(|pod| (Level::Pod, pod.cpu.clone()));
        // A pod may lower itself, and not the others of its class.
        let of_class = self.treatment.identity >= Some(0) || self.treatment.class == QosClass::Be;
        if let Some(tree) = place.tree.filter(|_| of_class) {
            let at = |path: &String| place.groups.cpu.at(path.clone());
            if for_siblings && shape.offline_only {
                // Against everything else on the node the root of the tree is what counts.
                groups.push((Level::Tree, at(&tree.branch.root)));
            }
            groups.push((Level::Class, at(&tree.branch.class)));
            if !for_siblings {
                groups.extend(pod);
            }
        } else {
            groups.extend(pod);
        }
        let vm = self.facts.vm.as_ref();
        if !for_siblings || groups.is_empty() || vm.is_some_and(|vm| vm.is_outside) {
            groups.push((Level::Container, place.groups.cpu.clone()));
        }
        let overhead = vm.and_then(|vm| vm.overhead.as_ref());
        groups.extend(overhead.map(|overhead| (Level::Overhead, overhead.cpu.clone())));
        groups
    }

    /// Kubernetes' own groups, as koordlet writes them: children made later inherit at mkdir.
    fn kube_identity(&mut self, shape: &TreeShape) {
        let (Some(identity), Rung::GroupIdentity) = (&shape.kube_identity, self.facts.ladder.rung) else {
            return;
        };
        let groups = self.facts.pod.iter().flat_map(|pod: &PodPlace| pod.kube_groups.iter());
        for (qos, group) in groups {
            let why = match qos {
                KubeQos::Guaranteed => "kubepods itself is always normal",
                KubeQos::Burstable => "online pods live here",
                KubeQos::BestEffort => "offline pods live here",
            };
            let value = identity.kube_group(*qos);
            self.set(Level::KubeQos, Some(group), Knob::BvtWarp, Value::Int(value), why);
        }
    }

    /// Shares, quota and memory from batch resources; no quota for CPUs of one's own.
    fn time(&mut self, place: &Place<'_>) {
        // A machine's containers have their limits in its guest.
        let own = self.facts.vm.is_none().then(|| place.groups.clone());
        let levels = [
            (Level::Pod, place.pod.clone(), self.treatment.pod_batch),
            (Level::Container, own, self.treatment.batch),
        ];
        for (level, groups, batch) in levels {
            let Some(groups) = groups else { continue };
            if let Some(batch) = batch {
                self.batch(level, &groups, &batch, place.tree.is_some());
            }
            // Also where there is none now: another container of the pod may be the reason, and end first.
            if self.treatment.unset_quota && self.facts.own.is_some() && self.facts.cpu.can_limit {
                self.int(level, &groups, Knob::Quota, -1, "CPUs of its own are not throttled");
            }
        }
    }

    fn batch(&mut self, level: Level, groups: &Groups, batch: &Limits, in_tree: bool) {
        let knob = weight_knob(groups);
        let idle = self.writes.iter().any(|w| w.group == groups.cpu && w.knob.makes_idle(&w.value));
        let claimed =
            self.writes.iter().any(|w| w.group == groups.cpu && w.knob == knob && level == Level::Pod);
        if idle {
            // The kernel refuses a weight while the group is idle.
            self.lost.push(format!(
                "{knob}: {} has weight 3 while cpu.idle is 1; batch-cpu's {} shares are not written",
                level.name(),
                batch.shares
            ));
        } else if !claimed {
            self.int(level, groups, knob, weight(groups.cpu.version, batch.shares), "batch-cpu request");
        }
        let (period, quota_now, memory_now) = match (level, &self.facts.pod) {
            // The pod's group in the class tree has the kernel's default period, whatever kubelet's has.
            (Level::Pod, Some(pod)) if in_tree && pod.quota > 0 => {
                (PERIOD_US, pod.quota.saturating_mul(PERIOD_US) / pod.period.max(1), pod.memory)
            }
            (Level::Pod, Some(pod)) if in_tree => (PERIOD_US, pod.quota, pod.memory),
            (Level::Pod, Some(pod)) => (pod.period, pod.quota, pod.memory),
            (Level::Pod, None) => (PERIOD_US, -1, -1),
            _ => (self.facts.cpu.period, self.facts.cpu.quota, self.facts.memory),
        };
        let quota = if batch.quota_us > 0 {
            (batch.quota_us.saturating_mul(period) / PERIOD_US).max(1_000)
        } else {
            -1
        };
        self.limit(level, groups, Knob::Quota, quota_now, quota, "batch-cpu limit");
        self.limit(level, groups, Knob::MemoryLimit, memory_now, batch.memory_bytes, "batch-memory limit");
    }

    /// A limit out of an annotation: it tightens what is there, and loosens it only where the treatment may.
    fn limit(&mut self, level: Level, groups: &Groups, knob: Knob, now: i64, limit: i64, why: &str) {
        let loosens = now >= 0 && (limit < 0 || limit > now);
        if loosens && !self.treatment.may_loosen {
            let wanted = if limit < 0 { "none".to_owned() } else { limit.to_string() };
            self.lost.push(format!(
                "{knob}: the {}'s limit of {now} stays; {why} is {wanted}, and only a namespace in claims.namespaces may loosen a limit",
                level.name()
            ));
            return;
        }
        self.int(level, groups, knob, limit, why);
    }

    /// Burst: a share of the limit, at most the quota where the kernel says so; on the pod the sum of its containers'.
    fn burst(&mut self, place: &Place<'_>) {
        let Some(asked) = self.treatment.burst else { return };
        if self.facts.vm.is_some() {
            return self.burst_of_vm(place, asked);
        }
        let planned = |knob| {
            let write = self.writes.iter().find(|w| w.level == Level::Container && w.knob == knob);
            write.and_then(|w| w.value.int())
        };
        let quota = planned(Knob::Quota).unwrap_or(self.facts.cpu.quota);
        if quota < 0 {
            self.lost
                .push("burst: the container has no CPU limit, so there is nothing to burst over".to_owned());
            return;
        }
        let Some((burst, why)) = self.burst_over(quota, asked) else { return };
        self.int(Level::Container, place.groups, Knob::Burst, burst, why);
        // A pod that is throttled as a whole throttles its containers' bursts.
        if let (Some(pod), Some(groups)) = (&self.facts.pod, &place.pod) {
            if pod.quota > 0 && place.tree.is_none() {
                let sum = self.facts.burst.bound(burst.saturating_add(pod.other_bursts), pod.quota);
                self.int(Level::Pod, groups, Knob::Burst, sum, "the sum of its containers'");
            }
        }
    }
}

impl Builder<'_> {
    /// The burst for a quota, and why that much; none where this kernel has none.
    pub(super) fn burst_over(&mut self, quota: i64, asked: Burst) -> Option<(i64, String)> {
        let rule = self.facts.burst;
        if rule == BurstRule::Absent {
            self.lost.push("burst: this kernel has none (mainline has it from 5.14)".to_owned());
            return None;
        }
        let (wanted, asked) = match asked {
            Burst::Percent(percent) => {
                (quota.saturating_mul(percent.into()) / 100, format!("{percent} % of the limit"))
            }
            Burst::Micros(micros) => (micros, format!("{micros} us asked for")),
        };
        let burst = rule.bound(wanted, quota);
        let why = if burst < wanted { format!("{asked}, at most the quota") } else { asked };
        Some((burst, why))
    }
}

/// The pod's group in the hierarchy of a container's group.
fn pod_of(pod: &Groups, group: &Group) -> Option<Group> {
    Controller::ALL.into_iter().filter_map(|c| pod.of(c)).find(|g| g.mount == group.mount).cloned()
}

/// The knob that holds a group's weight.
pub(super) fn weight_knob(groups: &Groups) -> Knob {
    match groups.cpu.version {
        Version::V1 => Knob::Shares,
        Version::V2 => Knob::Weight,
    }
}
