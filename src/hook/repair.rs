//! Brings a node to a state where every promise holds, whatever was cut off: `plimsoll repair`.

use super::Hook;
use crate::apply;
use crate::error::{Error, Result};
use crate::kernel::control::{Controller, Knob, Version};
use crate::kernel::group::{Group, Groups};
use crate::record::{Claim, ContainerId, Phase, Record};

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was put right, a line each.
    pub done: Vec<String>,
    /// What could not be, a line each.
    pub errors: Vec<String>,
}

/// A repair at work, or one that only says what it would do.
struct Work {
    is_dry: bool,
    repaired: Repaired,
}

impl Work {
    fn step(&mut self, what: String, act: impl FnOnce() -> Vec<Error>) {
        if !self.is_dry {
            self.repaired.errors.extend(act().iter().map(|e| format!("{what}: {e}")));
        }
        self.repaired.done.push(what);
    }
}

impl Hook {
    /// Looks at every record, claim, journal and group of Plimsoll's and puts right what is not. Reads the node's
    /// state from the cgroups and the records; running it twice changes nothing.
    pub fn repair(&self) -> Result<Repaired> {
        self.put_right(false)
    }

    /// What [`Hook::repair`] would do. Changes nothing.
    pub fn ailments(&self) -> Result<Repaired> {
        self.put_right(true)
    }

    fn put_right(&self, is_dry: bool) -> Result<Repaired> {
        let mut work = Work { is_dry, repaired: Repaired::default() };
        let left = self.store.half_written()?;
        if !left.is_empty() {
            work.step(format!("removed {} half-written files", left.len()), || self.store.sweep(&left));
        }
        let (mut live, mut gone): (Vec<(ContainerId, Record)>, Vec<_>) = (Vec::new(), Vec::new());
        for (id, record) in self.store.records()? {
            match record {
                Ok(record) if record.is_live() => live.push((id, record)),
                Ok(record) => gone.push((id, record)),
                Err(error) => {
                    let what = format!("removed the record of {id}, which cannot be read ({error})");
                    work.step(what, || self.store.remove(&id).err().into_iter().collect());
                }
            }
        }
        self.repair_claims(&live, &mut work)?;
        // Twice: a pod's burst follows from its containers', which are right after the first round.
        for _ in 0..if is_dry { 1 } else { 2 } {
            for (id, record) in &live {
                self.repair_container(id, record, &mut work);
            }
        }
        for (id, record) in &gone {
            let what = format!("container {id} is gone: gave back what it had");
            work.step(what, || self.release(id, record));
        }
        for journal in self.store.journals()? {
            let group = &journal.group;
            let in_use = live.iter().any(|(_, r)| r.writes.iter().any(|done| done.write.group == *group));
            if !group.exists() || !(in_use || self.is_used(group)) {
                work.step(format!("put back {}", group.path), || self.restore_shared(group, None));
            }
        }
        for leaf in self.tree_leaves() {
            let is_empty = leaf.procs().is_ok_and(|procs| procs.is_empty());
            let chain = self.tree_chain(&leaf);
            // A container may make groups of its own below its group; they are its business while it lives.
            if is_empty && !chain.iter().any(|group| self.is_recorded(group)) {
                work.step(format!("removed the empty group {}", leaf.path), || {
                    apply::remove(&chain, &[leaf])
                });
            }
        }
        Ok(work.repaired)
    }

    fn repair_container(&self, id: &ContainerId, record: &Record, work: &mut Work) {
        if record.phase == Phase::Applying {
            let what = format!("container {id}: finished what was cut off");
            return work.step(what, || match self.finish(id, record.clone()) {
                Ok(record) => record.errors.iter().map(|e| Error::invalid("it is so in part", e)).collect(),
                Err(error) => vec![error],
            });
        }
        match self.drift(record) {
            Ok(drift) if drift.is_empty() => {}
            Ok(drift) => {
                let files: Vec<String> = drift
                    .iter()
                    .map(|write| format!("{} {} = {}", write.level.name(), write.knob, write.value))
                    .collect();
                work.step(format!("container {id}: {}", files.join(", ")), || self.mend(&drift));
            }
            Err(error) => work.repaired.errors.push(format!("container {id}: {error}")),
        }
    }

    /// Claims are those of live containers that own CPUs. Judged under the lock: a hook leaves its claim before its
    /// record, and holds the lock from before the one until after the other.
    fn repair_claims(&self, live: &[(ContainerId, Record)], work: &mut Work) -> Result<()> {
        let is_needed = !self.store.claims()?.is_empty() || live.iter().any(|(_, r)| Claim::of(r).is_some());
        if !is_needed {
            return Ok(());
        }
        let _lock = if work.is_dry { None } else { Some(self.store.lock(self.lock_budget())?) };
        let before = work.repaired.done.len();
        for (id, claim) in &self.store.claims()? {
            let is_kept = claim.as_ref().is_ok_and(|claim| {
                // Without a record the truth is what the container has.
                let has_cpus = || {
                    let cpus = claim.group.read(Knob::Cpus).ok().flatten();
                    cpus.is_some_and(|cpus| cpus.set() == Some(&claim.cpus))
                };
                claim.is_live() && (self.store.has(id) || has_cpus())
            });
            if !is_kept {
                let what = format!("gave back the CPUs of {id}");
                work.step(what, || self.store.remove_claim(id).err().into_iter().collect());
            }
        }
        for (id, record) in live.iter().filter(|(id, _)| !self.store.has_claim(id)) {
            let Some(claim) = Claim::of(record) else { continue };
            let taken = self.sources().live_claims()?;
            let clash =
                taken.iter().find(|other| other.owner != claim.owner && !other.cpus.is_disjoint(&claim.cpus));
            let what = format!("took the CPUs of {id} out of the shared pools again");
            work.step(what, || {
                let error = match clash {
                    None => self.store.save_claim(id, &claim).err(),
                    Some(other) => Some(Error::invalid(
                        format!("CPUs {}", claim.cpus),
                        format!("its claim was lost, and {} has taken them since", other.owner),
                    )),
                };
                error.into_iter().collect()
            });
        }
        if !work.is_dry && work.repaired.done.len() > before {
            work.repaired.errors.extend(self.share_anew().iter().map(ToString::to_string));
        }
        Ok(())
    }

    fn is_recorded(&self, group: &Group) -> bool {
        super::release::container_ids(group).any(|id| self.store.has(&id))
    }

    /// The class tree's root in every v1 hierarchy it can be in.
    pub(super) fn tree_roots(&self) -> Vec<Group> {
        let Ok(own) = Groups::of_process(&self.roots, i32::try_from(std::process::id()).unwrap_or(0)) else {
            return Vec::new();
        };
        let mut roots: Vec<Group> = Vec::new();
        for group in [Controller::Cpu, Controller::Cpuset].iter().filter_map(|c| own.of(*c)) {
            let root = group.at(self.shape().root.clone());
            if group.version == Version::V1 && root.exists() && !roots.contains(&root) {
                roots.push(root);
            }
        }
        roots
    }

    /// The class tree's innermost groups.
    pub(super) fn tree_leaves(&self) -> Vec<Group> {
        let mut leaves = Vec::new();
        let mut todo = self.tree_roots();
        while let Some(group) = todo.pop() {
            let children = group.children();
            if children.is_empty() {
                leaves.push(group);
            } else {
                todo.extend(children);
            }
        }
        leaves
    }

    /// The groups from the class tree's root down to a group in it.
    pub(super) fn tree_chain(&self, leaf: &Group) -> Vec<Group> {
        let mut chain = vec![leaf.clone()];
        let mut group = leaf.clone();
        while group.path != self.shape().root {
            let Some(parent) = group.parent() else { break };
            chain.push(parent.clone());
            group = parent;
        }
        chain.reverse();
        chain
    }
}
