//! Which CPUs: the container's own, or what is left for all that share.

use super::build::{Builder, Place};
use super::facts::{Neighbour, NodeCpus};
use super::{Level, Write};
use crate::kernel::control::{Knob, Value};
use crate::policy::treatment::CpusRule;
use crate::qos::QosClass;

impl Builder<'_> {
    pub(super) fn cpus(&mut self, place: &Place<'_>) {
        let Some(now) = &self.facts.cpus else {
            if self.treatment.cpus != CpusRule::Keep {
                self.lost.push(format!("cpus: {} has no cpuset controller", place.groups.cpu.path));
            }
            return;
        };
        let own = self.facts.own.clone();
        self.lost.extend(self.facts.refusal.clone());
        let (cpus, why) = match (&self.treatment.cpus, own) {
            (CpusRule::Keep, _) => (None, ""),
            (CpusRule::Allocate, Some(own)) => (Some(own), "CPUs of its own, whole cores near each other"),
            (CpusRule::Exact(all), Some(own)) if self.treatment.class == QosClass::System => {
                if own != *all {
                    let taken = all.difference(&own);
                    self.lost.push(format!("cpus: {taken} of the system CPUs {all} belong to LSE or LSR"));
                }
                (Some(own), "the system CPUs")
            }
            (_, Some(own)) => (Some(own), "the scheduler's choice (resource-status)"),
            // Whoever gets no CPUs of its own shares.
            (_, None) => {
                let pool = self.facts.node.pool(self.treatment.class).intersection(now);
                if pool.is_empty() {
                    self.lost
                        .push(format!("cpus: nothing is left of {now} beside the CPUs others own; kept"));
                }
                let why = match self.treatment.class {
                    QosClass::Be => "all CPUs but LSE's",
                    _ => "the shared pool: all CPUs but LSE's and LSR's",
                };
                if !self.treatment.nodes.is_empty() && !self.facts.on_nodes {
                    self.lost.push(format!(
                        "cpus: resource-status names NUMA nodes {:?}, which have none of {now}; the whole pool is shared",
                        self.treatment.nodes
                    ));
                }
                let nobody_owns = self.facts.node.is_whole() && pool == *now && !self.facts.on_nodes;
                ((!pool.is_empty() && !nobody_owns).then_some(pool), why)
            }
        };
        if let Some(cpus) = cpus {
            self.set(
                Level::Container,
                place.groups.cpuset.as_ref(),
                Knob::Cpus,
                Value::Set(cpus.clone()),
                why,
            );
            self.cpus_of_vm(place, &cpus, why);
        }
        let (writes, lost) = share(&self.facts.node, &self.facts.neighbours);
        self.writes.extend(writes);
        self.lost.extend(lost);
    }
}

/// What other containers share once it is settled who owns which CPUs, and who is left with nothing.
pub fn share(node: &NodeCpus, neighbours: &[Neighbour]) -> (Vec<Write>, Vec<String>) {
    let (mut writes, mut lost) = (Vec::new(), Vec::new());
    for neighbour in neighbours {
        let pool = node.pool(neighbour.class).intersection(&neighbour.allowed);
        if pool.is_empty() {
            lost.push(format!(
                "cpus: {} has no CPU left beside those others own; it keeps {}",
                neighbour.id, neighbour.now
            ));
            continue;
        }
        let others = neighbour.others.iter().map(|(group, now)| (group, now));
        for (group, now) in [(&neighbour.group, &neighbour.now)].into_iter().chain(others) {
            if pool != *now {
                writes.push(Write {
                    level: Level::Neighbour,
                    group: group.clone(),
                    knob: Knob::Cpus,
                    value: Value::Set(pool.clone()),
                    fallback: None,
                    why: format!("{} container {} shares what nobody owns", neighbour.class, neighbour.id),
                });
            }
        }
    }
    (writes, lost)
}
