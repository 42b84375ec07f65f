//! `poststop`: what a container had is given back, and nothing of it stays behind. Running it twice is fine.

use super::{Hook, Report};
use crate::apply;
use crate::container::State;
use crate::error::{Error, Result};
use crate::kernel::control::{Controller, Knob, Value};
use crate::kernel::group::Group;
use crate::log;
use crate::plan::facts::BurstRule;
use crate::plan::{self, Level, Write};
use crate::record::{ContainerId, GroupLock, Record};

impl Hook {
    pub(super) fn stop(&self, state: &State) -> Result<Report> {
        let errors = match self.store.load(&state.id) {
            Ok(Some(record)) => self.release(&state.id, &record),
            // No record although something was asked for: it was lost. The claim and the class tree's groups still bear
            // the container's id.
            Ok(None) if self.asks(state) => self.release_by_id(&state.id),
            Ok(None) => return Ok(Report::default()),
            Err(error) => {
                let mut errors = vec![error];
                errors.extend(self.store.remove(&state.id).err());
                errors.extend(self.release_by_id(&state.id));
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
        if let Some(tree) = &record.tree {
            errors.extend(apply::remove(&tree.make, &tree.to));
        }
        errors.extend(self.store.remove(id).err());
        errors.extend(self.give_back_cpus(id));
        for group in self.shared_groups(record) {
            errors.extend(self.restore_shared(&group, Some(record)));
        }
        errors
    }

    fn release_by_id(&self, id: &ContainerId) -> Vec<Error> {
        let mut errors = self.give_back_cpus(id);
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

    /// Puts a shared group back once no treated container is left in it; while some are, its burst is the sum of
    /// theirs. `last` is the record of the container that leaves.
    pub(super) fn restore_shared(&self, group: &Group, last: Option<&Record>) -> Vec<Error> {
        if !group.exists() {
            return self.store.remove_journal(group).err().into_iter().collect();
        }
        let mut errors = Vec::new();
        let _lock = GroupLock::of(group, self.lock_budget()).map_err(|error| errors.push(error)).ok();
        let journal = match self.store.journal(group) {
            Ok(Some(journal)) => journal,
            Ok(None) => return errors,
            Err(error) => {
                errors.push(error);
                return errors;
            }
        };
        let ours = |knob: Knob| {
            last.and_then(|r| r.writes.iter().find(|d| d.write.group == *group && d.write.knob == knob))
                .map(|done| &done.write.value)
        };
        if self.is_used(group) {
            if journal.before.iter().any(|(knob, _)| *knob == Knob::Burst) {
                errors.extend(apply::bring(pod_burst(group, None).as_slice()));
            }
            return errors;
        }
        let leaves_idle = journal
            .before
            .iter()
            .any(|(knob, before)| matches!(knob, Knob::Idle | Knob::Priority) && !knob.makes_idle(before));
        let restores = journal.before.iter().filter(|(knob, before)| {
            let now = group.read(*knob).ok().flatten();
            match knob {
                // The kernel never takes an offline group back.
                Knob::QosLevel if before.int() >= Some(0) && now.as_ref().and_then(Value::int) < Some(0) => {
                    false
                }
                // It was the sum of whoever was left, not what the last container's record says.
                Knob::Burst => true,
                // The weight went when the group became idle.
                Knob::Shares | Knob::Weight if leaves_idle => true,
                // Somebody else has written it since: it is theirs now.
                _ => ours(*knob).is_none_or(|value| now.as_ref() == Some(value)),
            }
        });
        let writes: Vec<Write> = restores
            .map(|(knob, value)| pod_write(group, *knob, value.clone(), "as it was before"))
            .collect();
        errors.extend(apply::bring(&writes));
        errors.extend(self.store.remove_journal(group).err());
        errors
    }

    /// Whether a treated container is in the group.
    pub(super) fn is_used(&self, group: &Group) -> bool {
        group.children().iter().any(|child| container_ids(child).any(|id| self.store.has(&id)))
    }

    /// The groups a record's container shared with others and that are not Plimsoll's own: those it wrote to, and its
    /// pod's, which is to be put back by the last to leave even if that one wrote nothing there.
    fn shared_groups(&self, record: &Record) -> Vec<Group> {
        let is_ours = |group: &Group| record.tree.as_ref().is_some_and(|tree| tree.make.contains(group));
        let written = record.writes.iter().filter(|done| done.write.level == Level::Pod);
        let mut groups: Vec<Group> = Vec::new();
        for group in written.map(|done| &done.write.group) {
            if !is_ours(group) && !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        let parents = Controller::ALL.into_iter().filter_map(|c| record.origin.of(c)?.parent());
        for group in parents {
            if !groups.contains(&group) && self.store.journal(&group).is_ok_and(|journal| journal.is_some()) {
                groups.push(group);
            }
        }
        groups
    }
}

/// The burst of a pod that is throttled as a whole: its containers' together, as far as the kernel takes it.
/// `wanted` is the one that a container of it is about to get.
pub(super) fn pod_burst(pod: &Group, wanted: Option<&Write>) -> Option<Write> {
    let int = |group: &Group, knob| group.read(knob).ok().flatten().and_then(|value| value.int());
    let quota = int(pod, Knob::Quota).filter(|quota| *quota > 0)?;
    let of = |child: &Group| match wanted.filter(|write| write.group == *child) {
        Some(write) => write.value.int(),
        None => int(child, Knob::Burst),
    };
    let sum: i64 = pod.children().iter().filter_map(of).sum();
    let sum = BurstRule::of(pod).bound(sum, quota);
    Some(pod_write(pod, Knob::Burst, Value::Int(sum), "the sum of its containers'"))
}

fn pod_write(group: &Group, knob: Knob, value: Value, why: &str) -> Write {
    Write { level: Level::Pod, group: group.clone(), knob, value, fallback: None, why: why.to_owned() }
}

/// The ids a group's name can stand for: cgroupfs names it by the id, systemd `<prefix>-<id>.scope`.
pub(super) fn container_ids(group: &Group) -> impl Iterator<Item = ContainerId> + '_ {
    let name = group.name();
    let unit = name.strip_suffix(".scope");
    let id = unit.map(|unit| unit.split_once('-').map_or(unit, |(_, id)| id));
    let long = unit.and_then(|unit| unit.rsplit_once('-')).map(|(_, id)| id);
    [Some(name), id, long].into_iter().flatten().filter_map(|id| id.parse().ok())
}
