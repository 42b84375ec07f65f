//! Brings a node to a state where every promise holds, whatever was cut off: `plimsoll repair`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

use super::Hook;
use crate::apply;
use crate::container::kube::Driver;
use crate::error::{Error, Result};
use crate::kernel::control::{Controller, Knob};
use crate::kernel::group::{Group, Groups, hierarchies};
use crate::qos::QosClass;
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
        for (id, record) in &live {
            self.repair_container(id, record, &mut work);
        }
        if !is_dry {
            for (id, _) in &live {
                match self.store.load(id) {
                    Ok(Some(record)) => self.repair_container(id, &record, &mut work),
                    Ok(None) => {}
                    Err(error) => work.repaired.errors.push(format!("container {id}: {error}")),
                }
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
        for leaf in self.tree_leaves().into_iter().filter(|leaf| !is_young(leaf)) {
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
        if record.phase == Phase::Applying && record.is_booting() {
            return;
        }
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

    /// The classes' groups, where they are. (Under systemd they are slices, and systemd's to remove.)
    fn class_groups(&self) -> Vec<Group> {
        let own = Groups::of_process(&self.roots, i32::try_from(std::process::id()).unwrap_or(0)).ok();
        let mut roots = hierarchies(&self.roots);
        roots.extend(
            own.iter().flat_map(|own| Controller::ALL.into_iter().filter_map(|c| own.of(c))).cloned(),
        );
        let classes = QosClass::ALL.map(|class| self.shape().branch(Driver::Cgroupfs, class).class);
        let mut groups: Vec<Group> = Vec::new();
        for group in roots.iter().flat_map(|root| classes.iter().map(|path| root.at(path.clone()))) {
            if group.exists() && !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The innermost groups of the class tree, below the classes'.
    pub(super) fn tree_leaves(&self) -> Vec<Group> {
        let mut leaves = Vec::new();
        let mut todo: Vec<Group> = self.class_groups().iter().flat_map(Group::children).collect();
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

    /// The groups below the class's, down to a group in it.
    pub(super) fn tree_chain(&self, leaf: &Group) -> Vec<Group> {
        let mut chain = vec![leaf.clone()];
        while let Some(parent) = chain.last().and_then(Group::parent) {
            if !self.shape().is_below_class(&parent) {
                break;
            }
            chain.push(parent);
        }
        chain.reverse();
        chain
    }
}

/// Whether a group was made just now: its container may be about to join it.
fn is_young(group: &Group) -> bool {
    const LONGEST: Duration = Duration::from_secs(10);
    let changed = fs::metadata(group.dir()).ok().and_then(|meta| u64::try_from(meta.ctime()).ok());
    let changed = changed.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    changed.is_some_and(|at| at.elapsed().is_ok_and(|age| age < LONGEST))
}
