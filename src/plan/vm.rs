//! A virtual machine in place of a container: what differs in where values go.
//!
//! Identity goes to the pod's group, to the machine's own, and to that of the overhead; limits and burst to the pod's,
//! where the quota is; CPUs to the machine's own and to the overhead's.

use super::Level;
use super::build::{Builder, Place, weight_knob};
use super::facts::{CpuTime, Facts, Machine};
use super::gather::{self, Seen, Sources, cpu_time};
use super::suppose::{Supposed, inherited, sample};
use crate::container::vm::is_below;
use crate::container::{self, Vm};
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::{Controller, Knob, Value};
use crate::kernel::group::Groups;
use crate::policy::treatment::{Burst, CpusRule, Treatment};
use crate::record::Who;

/// What a plan has to know of a machine.
pub(super) fn machine(place: &container::Place, vm: &Vm) -> Machine {
    let cpu = &place.groups.cpu;
    let is_there = cpu.exists();
    let is_moved = vm.engine_path.is_some();
    Machine {
        is_there,
        lacks: if is_there { lacking(&place.groups) } else { Vec::new() },
        overhead_lacks: vm.overhead.as_ref().map(lacking).unwrap_or_default(),
        is_outside: !is_moved && place.pod.as_ref().is_some_and(|pod| !is_below(cpu, &pod.cpu)),
        overhead: vm.overhead.clone(),
        astray: vm.astray.clone(),
    }
}

/// The controllers whose files the groups have not, of those that a plan writes to.
fn lacking(groups: &Groups) -> Vec<Controller> {
    let has_cpu = groups.cpu.has(Knob::Shares) || groups.cpu.has(Knob::Weight);
    let has_cpuset = groups.cpuset.as_ref().is_none_or(|group| group.has(Knob::Cpus));
    let all = [(Controller::Cpu, has_cpu), (Controller::Cpuset, has_cpuset)];
    all.into_iter().filter(|(_, has)| !has).map(|(controller, _)| controller).collect()
}

impl Sources<'_> {
    /// The facts for a machine: its CPU time is its pod's, and what is not there yet is as in the nearest group above.
    pub(super) fn facts_of_vm(
        &self,
        treatment: &Treatment,
        place: &container::Place,
        who: &Who,
        allowed: Option<CpuSet>,
    ) -> Result<Facts> {
        let cpu = &place.groups.cpu;
        let pod = match &place.pod {
            Some(pod) if pod.cpu.exists() => Some(self.pod(treatment, place, pod)?),
            Some(pod) => Some(Supposed::default().pod_at(place, pod)),
            None => None,
        };
        let has_files = cpu.has(Knob::Quota);
        let sample = Some(cpu.clone()).filter(|_| has_files).or_else(|| sample(cpu)).ok_or_else(|| {
            Error::invalid(
                format!("the files this kernel gives {}", cpu.dir().display()),
                "no group of the hierarchy has the cpu controller",
            )
        })?;
        let limited = place.pod.as_ref().map(|pod| &pod.cpu).filter(|pod| pod.exists());
        let time = match limited {
            Some(pod) => cpu_time(pod, true)?,
            None => CpuTime { weight: 0, quota: -1, can_limit: sample.has(Knob::Quota), period: 0, burst: 0 },
        };
        let cpus = match (allowed, &place.groups.cpuset) {
            (_, None) => None,
            (Some(cpus), Some(_)) => Some(cpus),
            // An empty list of cgroup v1 is one that nobody has filled in yet.
            (None, Some(cpuset)) => match gather::allowed(cpuset)? {
                Some(cpus) if !cpus.is_empty() => Some(cpus),
                _ => inherited(cpuset)?,
            },
        };
        let seen = Seen {
            // The pod's other bursts are none: its containers are in the machine.
            pod: pod.map(|pod| super::facts::PodPlace { other_bursts: 0, ..pod }),
            cpu: time,
            memory: -1,
            cpus,
            mems: None,
            burst: super::facts::BurstRule::of(&sample),
            ladder: self.ladder(treatment, &sample)?,
        };
        self.facts_of(seen, treatment, place, who)
    }
}

impl Builder<'_> {
    /// The group that holds the machine's limits: its pod's, or its own where there is none.
    fn limited(&self, place: &Place<'_>) -> (Level, Groups) {
        match &place.pod {
            Some(pod) => (Level::Pod, pod.clone()),
            None => (Level::Container, place.groups.clone()),
        }
    }

    /// Kubelet limits the pod's group, which a machine in the class tree is not below.
    pub(super) fn carry_of_vm(&mut self, place: &Place<'_>) {
        if place.tree.is_none() || self.facts.pod.is_none() {
            return;
        }
        let (level, groups) = self.limited(place);
        let (cpu, why) = (self.facts.cpu, "carried over from the pod's group");
        self.int(level, &groups, weight_knob(&groups), cpu.weight, why);
        if cpu.can_limit {
            self.int(level, &groups, Knob::Period, cpu.period, why);
            self.int(level, &groups, Knob::Quota, cpu.quota, why);
        }
    }

    /// Burst is of use where the quota is, and that is the pod's group.
    pub(super) fn burst_of_vm(&mut self, place: &Place<'_>, asked: Burst) {
        let (level, groups) = self.limited(place);
        let planned = self.writes.iter().find(|w| w.knob == Knob::Quota && w.group == groups.cpu);
        let quota = planned.and_then(|write| write.value.int()).unwrap_or(self.facts.cpu.quota);
        if quota < 0 {
            self.lost.push("burst: the pod has no CPU limit, so there is nothing to burst over".to_owned());
        } else if let Some((burst, why)) = self.burst_over(quota, asked) {
            let why = format!("{why}; the limits inside the guest have none");
            self.int(level, &groups, Knob::Burst, burst, why);
        }
    }

    /// The overhead's CPUs; and as long as the machine has no group, or one without CPUs, its pod's.
    pub(super) fn cpus_of_vm(&mut self, place: &Place<'_>, cpus: &CpuSet, why: &str) {
        let Some(vm) = &self.facts.vm else { return };
        if let Some(overhead) = vm.overhead.as_ref().and_then(|overhead| overhead.cpuset.as_ref()) {
            self.set(Level::Overhead, Some(overhead), Knob::Cpus, Value::Set(cpus.clone()), why);
        }
        let lacks_cpus = vm.lacks.contains(&Controller::Cpuset);
        let pod = place.pod.as_ref().and_then(|pod| pod.cpuset.as_ref());
        // It stands for the machine's group only where the machine is below it.
        let pod = pod.filter(|_| !vm.is_there || (lacks_cpus && !vm.is_outside));
        if let Some(pod) = pod {
            let why = match vm.is_there {
                true => format!("{why}; the machine's own group has no cpuset"),
                false => format!("{why}; until the machine has its own group"),
            };
            self.set(Level::Pod, Some(pod), Knob::Cpus, Value::Set(cpus.clone()), why);
        } else if lacks_cpus {
            self.lost.push(format!(
                "cpus: {} has no cpuset controller, and nothing above it that could be written for it",
                place.groups.cpu.path
            ));
        }
    }

    /// What the machine's place cannot give.
    pub(super) fn bounds_of_vm(&mut self, place: &Place<'_>) {
        let Some(vm) = &self.facts.vm else { return };
        // Its tasks are the pod's in a hierarchy whose controller it has not.
        self.writes.retain(|write| {
            let controller = write.knob.controller();
            let lacks = match write.level {
                Level::Overhead => &vm.overhead_lacks,
                _ if place.groups.of(controller) == Some(&write.group) => &vm.lacks,
                _ => return true,
            };
            !lacks.contains(&controller)
        });
        let path = &place.groups.cpu.path;
        if vm.is_outside {
            self.lost.push(format!(
                "placement: the machine is in {path}, outside its pod: the pod's weight, quota and burst do not reach it; \
                 set sandbox_cgroup_only = true in Kata's configuration"
            ));
        }
        if let Some(overhead) = &vm.overhead {
            let identity = match vm.overhead_lacks.contains(&Controller::Cpu) {
                true => "that group has no cpu controller, so they have nothing of the pod's",
                false => "they have the identity, but neither the pod's weight nor its limits",
            };
            self.lost.push(format!(
                "placement: the VMM's I/O threads, virtiofsd and the shim are in {}, outside the pod: {identity}; \
                 set sandbox_cgroup_only = true in Kata's configuration",
                overhead.cpu.path
            ));
        }
        if let Some(astray) = &vm.astray {
            self.lost.push(format!(
                "placement: the VMM is in {astray}, which is neither the machine's group nor its overhead's; nothing reaches it"
            ));
        }
        if self.treatment.cpus == CpusRule::Allocate && self.facts.pod.is_none() {
            self.lost
                .push("cpus: a machine outside Kubernetes has no limit here to count CPUs by".to_owned());
        }
    }
}
