//! Brings a node to a state where every promise holds, whatever was cut off: `plimsoll repair`.

use super::Hook;
use crate::apply;
use crate::error::{Error, Result};
use crate::kernel::control::{Controller, Version};
use crate::kernel::group::{Group, Groups};
use crate::record::Record;

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
        let torn = self.store.half_written()?;
        if !torn.is_empty() {
            work.step(format!("removed {} half-written files", torn.len()), || {
                self.store.sweep().err().into_iter().collect()
            });
        }
        let mut live: Vec<Record> = Vec::new();
        for (id, record) in self.store.records()? {
            match record {
                Ok(record) if !record.is_live() => {
                    work.step(format!("container {id} is gone: gave back what it had"), || {
                        self.release(&id, &record)
                    });
                }
                Ok(record) => {
                    let drift = self.drift(&record)?;
                    if !drift.is_empty() {
                        let files: Vec<String> = drift
                            .iter()
                            .map(|write| format!("{} {} = {}", write.level.name(), write.knob, write.value))
                            .collect();
                        work.step(format!("container {id}: {}", files.join(", ")), || apply::bring(&drift));
                    }
                    live.push(record);
                }
                Err(error) => {
                    work.step(format!("removed the record of {id}, which cannot be read ({error})"), || {
                        self.store.remove(&id).err().into_iter().collect()
                    });
                }
            }
        }
        for (id, claim) in self.store.claims()? {
            let is_live = claim.as_ref().is_ok_and(crate::record::Claim::is_live);
            if !is_live || !self.store.has(&id) {
                work.step(format!("gave back the CPUs of {id}"), || self.give_back_cpus(&id));
            }
        }
        let shared = if is_dry { Vec::new() } else { self.share_anew() };
        if !shared.is_empty() {
            work.step("shared CPUs".to_owned(), || shared);
        }
        for journal in self.store.journals()? {
            let in_use = live.iter().any(|r| r.writes.iter().any(|done| done.write.group == journal.group));
            if journal.group.exists() && in_use {
                continue;
            }
            work.step(format!("put back {}", journal.group.path), || {
                self.restore_shared(&journal.group, None)
            });
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
