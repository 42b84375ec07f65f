//! `poststop`: what a container had is given back, and nothing of it stays behind. Running it twice is fine.

use super::{Hook, Report};
use crate::apply;
use crate::container::{State, bundle};
use crate::error::{Error, Result};
use crate::kernel::group::{Group, hierarchies};
use crate::log;
use crate::plan::{self, Write};
use crate::record::{ContainerId, Record};

impl Hook {
    pub(super) fn stop(&self, state: &State) -> Result<Report> {
        let errors = match self.store.load(&state.id) {
            Ok(Some(record)) => self.release(&state.id, &record),
            // No record although something was asked for: it was lost. The claim and the class tree's groups still bear
            // the container's id.
            Ok(None) if self.asks(state) => self.release_by_id(state),
            Ok(None) => return Ok(Report::default()),
            Err(error) => {
                let mut errors = vec![error];
                errors.extend(self.store.remove(&state.id).err());
                errors.extend(self.release_by_id(state));
                errors.extend(self.restore_unused());
                errors
            }
        };
        Ok(Report {
            message: if errors.is_empty() {
                String::new()
            } else {
                "container given back in part".to_owned()
            },
            errors: errors.iter().map(ToString::to_string).collect(),
            ..Report::default()
        })
    }

    /// Gives back everything a record says. What cannot be given back is in the errors.
    pub fn release(&self, id: &ContainerId, record: &Record) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(self.leave_tree(record));
        errors.extend(self.store.remove(id).err());
        errors.extend(self.give_back_cpus(id));
        for group in self.shared_groups(record) {
            errors.extend(self.restore_shared(&group, Some(record)));
        }
        errors
    }

    /// Removes the groups of a container and its pod in the class tree. Those of the class and the root stay: a runtime
    /// that makes a container's group below them right now would fail.
    pub(super) fn leave_tree(&self, record: &Record) -> Vec<Error> {
        let Some(tree) = &record.tree else { return Vec::new() };
        if tree.make.is_empty() {
            return self.remove_pod_of(&record.groups.cpu.path);
        }
        let groups: Vec<Group> =
            tree.make.iter().filter(|group| self.shape().is_below_class(group)).cloned().collect();
        apply::remove(&groups, &tree.to)
    }

    /// Removes the pod's group around a container's in the class tree. The runtime made it in every hierarchy, and
    /// removes the container's alone.
    fn remove_pod_of(&self, path: &str) -> Vec<Error> {
        let pod = |root: &Group| root.at(path).parent().filter(|pod| self.shape().is_below_class(pod));
        let groups: Vec<Group> = hierarchies(&self.roots).iter().filter_map(pod).collect();
        apply::remove(&groups, &[])
    }

    fn release_by_id(&self, state: &State) -> Vec<Error> {
        let id = &state.id;
        let mut errors = self.give_back_cpus(id);
        if let Some(Ok(Some(path))) = state.bundle.as_deref().map(bundle::cgroups_path) {
            errors.extend(self.remove_pod_of(&path));
        }
        for leaf in self.tree_leaves().into_iter().filter(|leaf| leaf.name() == id.as_str()) {
            let chain = self.tree_chain(&leaf);
            errors.extend(apply::remove(&chain, &[leaf]));
        }
        errors
    }

    /// A record that cannot be understood makes room for a new one.
    pub(super) fn set_aside(&self, id: &ContainerId, error: &Error) {
        let text = error.to_string();
        let fields = [("container", id.as_str()), ("errors", text.as_str())];
        self.logger.log(log::Level::Warning, "an earlier record was removed", &fields);
        // What cannot be removed cannot be overwritten either, and is reported there.
        let _ = self.store.remove(id);
    }

    /// Puts back every shared group that no treated container is in.
    fn restore_unused(&self) -> Vec<Error> {
        match self.store.journals() {
            Ok(journals) => {
                journals.iter().flat_map(|journal| self.restore_shared(&journal.group, None)).collect()
            }
            Err(error) => vec![error],
        }
    }

    /// Removes a claim, and lets everybody who shares CPUs grow into it.
    pub(super) fn give_back_cpus(&self, id: &ContainerId) -> Vec<Error> {
        if !self.store.has_claim(id) {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let _lock = self.store.lock(self.lock_budget()).map_err(|error| errors.push(error)).ok();
        if let Err(error) = self.store.remove_claim(id) {
            errors.push(error);
            return errors;
        }
        errors.extend(self.share_anew());
        errors
    }

    /// Brings every container that shares CPUs to what nobody owns.
    pub(super) fn share_anew(&self) -> Vec<Error> {
        let sources = self.sources();
        let shared = || -> Result<Vec<Write>> {
            let node = sources.node(&sources.live_claims()?)?;
            Ok(plan::share(&node, &sources.neighbours("")?).0)
        };
        match shared() {
            Ok(writes) => apply::bring(&writes),
            Err(error) => vec![error],
        }
    }
}

/// The ids a group's name can stand for: cgroupfs names it by the id (CRI-O `crio-<id>`), systemd
/// `<prefix>-<id>.scope`.
pub(super) fn container_ids(group: &Group) -> impl Iterator<Item = ContainerId> + '_ {
    let name = group.name();
    let unit = name.strip_suffix(".scope");
    let id = unit.map(|unit| unit.split_once('-').map_or(unit, |(_, id)| id));
    let long = unit.and_then(|unit| unit.rsplit_once('-')).map(|(_, id)| id);
    let crio = name.strip_prefix("crio-");
    // Kata's Go runtime; the last also where it takes a unit for a path.
    let kata = name.strip_prefix("kata_").or_else(|| name.rsplit_once(':').map(|(_, id)| id));
    [Some(name), crio, kata, id, long].into_iter().flatten().filter_map(|id| id.parse().ok())
}
