//! Groups that outlive a container: a pod's. What others want there is kept in a journal and put back.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::Hook;
use super::release::container_ids;
use crate::apply::{self, Snapshot};
use crate::error::Error;
use crate::kernel::control::{Controller, Knob, Value};
use crate::kernel::group::Group;
use crate::plan::facts::BurstRule;
use crate::plan::{Level, Write};
use crate::record::{Change, GroupLock, Journal, Record};

/// A container's group that was just removed still counts for a moment (measured on 6.18: 8 to 42 ms): its pod's quota
/// may not go below its. How often, and after how long, the quota is tried again.
const DYING: (usize, Duration) = (20, Duration::from_millis(5));

/// A shared group and its journal before something was noted.
pub(super) type Before = (Group, Option<Journal>);

impl Hook {
    /// Whether a treated container is in the group, or in a pod of it.
    pub(super) fn is_used(&self, group: &Group) -> bool {
        /// A container below a pod below a QoS class below `kubepods`.
        const DEPTH: usize = 3;
        self.is_used_within(group, DEPTH)
    }

    fn is_used_within(&self, group: &Group, depth: usize) -> bool {
        let has_record = |child: &Group| container_ids(child).any(|id| self.store.has(&id));
        group
            .children()
            .iter()
            .any(|child| has_record(child) || (depth > 1 && self.is_used_within(child, depth - 1)))
    }

    /// The class tree is Plimsoll's own: nobody else wants anything there.
    fn is_shared(&self, write: &Write) -> bool {
        matches!(write.level, Level::Pod | Level::KubeQos) && !self.shape().is_below_class(&write.group)
    }

    /// Locks the pod's groups that the writes are for.
    pub(super) fn lock_shared(&self, writes: &[Write], errors: &mut Vec<Error>) -> Vec<GroupLock> {
        let mut groups: Vec<&Group> = Vec::new();
        for write in writes.iter().filter(|write| write.level == Level::Pod && self.is_shared(write)) {
            if !groups.contains(&&write.group) {
                groups.push(&write.group);
            }
        }
        let lock = |group| self.store.lock_group(group, self.lock_budget()).map_err(|e| errors.push(e)).ok();
        groups.into_iter().filter_map(lock).collect()
    }

    /// Notes what writes are about to change in shared groups. Returns the journals as they were.
    pub(super) fn note_shared(&self, writes: &[Write], snapshot: &Snapshot) -> (Vec<Before>, Vec<Error>) {
        let (mut before, mut errors) = (Vec::new(), Vec::new());
        for (group, changes) in self.changes(writes, snapshot) {
            let old = self.store.journal(&group).unwrap_or_default();
            errors.extend(self.store.note(&group, old.as_ref(), &changes).err());
            before.push((group, old));
        }
        (before, errors)
    }

    /// Takes notes back, after the writes were.
    pub(super) fn forget_notes(&self, before: &[Before]) -> Vec<Error> {
        let put_back = |(group, journal): &Before| match journal {
            Some(journal) => self.store.save_journal(journal).err(),
            None => self.store.remove_journal(group).err(),
        };
        before.iter().filter_map(put_back).collect()
    }

    /// After writes that read back as something else: what their files say now is somebody else's, but for a burst
    /// that had to be smaller.
    pub(super) fn note_missed<'w>(&self, writes: impl Iterator<Item = &'w Write>) -> Vec<Error> {
        let mut errors = Vec::new();
        for write in writes.filter(|write| self.is_shared(write)) {
            let Ok(Some(journal)) = self.store.journal(&write.group) else { continue };
            // A quota may have changed the burst beside it.
            let knobs = [Some(write.knob), (write.knob == Knob::Quota).then_some(Knob::Burst)];
            let noted = |knob: &Knob| journal.before.iter().any(|(k, _)| k == knob);
            let changes = knobs.into_iter().flatten().filter(noted).filter_map(|knob| {
                let now = write.group.read(knob).ok()??;
                let is_planned = knob == write.knob;
                let is_ours = is_planned && is_cut_short(write, &now);
                let next = (is_planned && !is_ours).then(|| write.value.clone());
                Some(Change { knob, now, next, is_ours })
            });
            let changes: Vec<Change> = changes.collect();
            errors.extend(self.store.note(&write.group, Some(&journal), &changes).err());
        }
        errors
    }

    /// Brings values that had changed back to what is wanted.
    pub(super) fn mend(&self, drift: &[Write]) -> Vec<Error> {
        let mut errors = Vec::new();
        let _locks = self.lock_shared(drift, &mut errors);
        errors.extend(self.mend_locked(drift));
        errors
    }

    fn mend_locked(&self, drift: &[Write]) -> Vec<Error> {
        let snapshot = match Snapshot::take(drift, None) {
            Ok(snapshot) => snapshot,
            Err(error) => return vec![error],
        };
        let (_, mut errors) = self.note_shared(drift, &snapshot);
        errors.extend(apply::bring(drift));
        let differs = |write: &&Write| {
            let now = || write.group.read(write.knob).ok().flatten();
            self.is_shared(write) && now().is_some_and(|now| now != write.value)
        };
        errors.extend(self.note_missed(drift.iter().filter(differs)));
        errors
    }

    /// Puts a shared group back once no treated container is left in it; while some are, its burst is the sum of
    /// theirs. `last` is the record of the container that leaves.
    pub(super) fn restore_shared(&self, group: &Group, last: Option<&Record>) -> Vec<Error> {
        let mut errors = Vec::new();
        let lock = self.store.lock_group(group, self.lock_budget()).map_err(|e| errors.push(e)).ok();
        if !group.exists() {
            errors.extend(self.store.remove_journal(group).err());
            errors.extend(lock.and_then(|lock| lock.retire().err()));
            return errors;
        }
        let journal = match self.store.journal(group) {
            Ok(Some(journal)) => journal,
            Ok(None) => return errors,
            Err(error) => {
                errors.push(error);
                return errors;
            }
        };
        if self.is_used(group) {
            let in_sum = |w: &Write| w.level == Level::Pod && w.knob == Knob::Burst && w.group == *group;
            let was_in_sum = last.is_some_and(|record| record.writes.iter().any(|done| in_sum(&done.write)));
            if was_in_sum && journal.wanted(Knob::Burst).is_some() {
                errors.extend(self.mend_locked(&[sum_of_bursts(group, None)]));
            }
            return errors;
        }
        let writes = put_back(&journal);
        let mut left = apply::give_back(&writes);
        for _ in 0..DYING.0 {
            if !left.iter().any(|error| matches!(error.as_errno(), Some(Errno::EINVAL | Errno::EBUSY))) {
                break;
            }
            thread::sleep(DYING.1);
            left = apply::give_back(&writes);
        }
        // What cannot be put back now, a repair can.
        if left.is_empty() || !group.exists() {
            errors.extend(self.store.remove_journal(group).err());
            errors.extend(lock.and_then(|lock| lock.retire().err()));
        }
        errors.extend(left);
        errors
    }

    /// The groups a record's container shared with others and that are not Plimsoll's own: those it wrote to, and its
    /// pod's, which is to be put back by the last to leave even if that one wrote nothing there.
    pub(super) fn shared_groups(&self, record: &Record) -> Vec<Group> {
        let written = record.writes.iter().map(|done| &done.write);
        let mut groups: Vec<Group> = Vec::new();
        for write in written.filter(|write| write.level == Level::Pod && self.is_shared(write)) {
            if !groups.contains(&write.group) {
                groups.push(write.group.clone());
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

    /// What writes are about to change in groups that outlive the container, and what the kernel and the order of
    /// the writes change beside it.
    fn changes(&self, writes: &[Write], snapshot: &Snapshot) -> Vec<(Group, Vec<Change>)> {
        let mut groups: Vec<(Group, Vec<Change>)> = Vec::new();
        let mut add = |group: &Group, change: Change| match groups.iter_mut().find(|(g, _)| g == group) {
            Some((_, changes)) => changes.push(change),
            None => groups.push((group.clone(), vec![change])),
        };
        for (index, write) in writes.iter().enumerate().filter(|(_, write)| self.is_shared(write)) {
            let Some(before) = snapshot.before(index).filter(|before| **before != write.value) else {
                continue;
            };
            let (group, knob) = (&write.group, write.knob);
            if knob.makes_idle(&write.value) {
                // Before idle itself: whether the weight is the kernel's reset depends on what idle was.
                for (_, knob, now) in snapshot.weights().filter(|(weighed, ..)| weighed == group) {
                    add(group, Change { knob: *knob, now: now.clone(), next: None, is_ours: false });
                }
            }
            let next = Some(write.value.clone());
            add(group, Change { knob, now: before.clone(), next: next.clone(), is_ours: false });
            if let Some(burst) = snapshot.lowered_burst(writes, index) {
                add(group, Change { knob: Knob::Burst, now: Value::Int(burst), next, is_ours: false });
            }
        }
        groups
    }
}

/// What gives a shared group back to others.
fn put_back(journal: &Journal) -> Vec<Write> {
    let group = &journal.group;
    let read = |knob: Knob| group.read(knob).ok().flatten();
    let is_ours = |knob: Knob| read(knob).is_some_and(|now| journal.is_ours(knob, &now));
    let is_idle = [Knob::Idle, Knob::Priority]
        .into_iter()
        .any(|knob| journal.wanted(knob).is_some_and(|ours| knob.makes_idle(ours)) && is_ours(knob));
    let restores = journal.before.iter().filter(|(knob, before)| match knob {
        // The kernel never takes an offline group back.
        Knob::QosLevel if before.int() >= Some(0) && read(*knob).and_then(|now| now.int()) < Some(0) => false,
        // The weight went when the group became idle.
        Knob::Shares | Knob::Weight => is_idle || is_ours(*knob),
        // Somebody else has written it since: it is theirs now.
        _ => is_ours(*knob),
    });
    restores.map(|(knob, value)| pod_write(group, *knob, value.clone(), "as it was before")).collect()
}

/// Whether a burst is smaller than planned because somebody lowered the quota: the kernel takes no more.
fn is_cut_short(write: &Write, now: &Value) -> bool {
    write.knob == Knob::Burst
        && now.int() < write.value.int()
        && write.group.read(Knob::Quota).ok().flatten().as_ref() == Some(now)
}

/// The burst of a pod that is throttled as a whole; a pod that is not needs none. See [`sum_of_bursts`].
pub(super) fn pod_burst(pod: &Group, wanted: Option<&Write>) -> Option<Write> {
    quota(pod).is_some_and(|quota| quota > 0).then(|| sum_of_bursts(pod, wanted))
}

/// A pod's burst: its containers' together, as far as the kernel takes it. `wanted` is the one that a container of it
/// is about to get.
fn sum_of_bursts(pod: &Group, wanted: Option<&Write>) -> Write {
    let of = |child: &Group| match wanted.filter(|write| write.group == *child) {
        Some(write) => write.value.int(),
        None => child.read(Knob::Burst).ok().flatten().and_then(|value| value.int()),
    };
    let sum: i64 = pod.children().iter().filter_map(of).sum();
    let sum = BurstRule::of(pod).bound(sum, quota(pod).unwrap_or(-1));
    pod_write(pod, Knob::Burst, Value::Int(sum), "the sum of its containers'")
}

fn quota(group: &Group) -> Option<i64> {
    group.read(Knob::Quota).ok().flatten().and_then(|value| value.int())
}

fn pod_write(group: &Group, knob: Knob, value: Value, why: &str) -> Write {
    Write { level: Level::Pod, group: group.clone(), knob, value, fallback: None, why: why.to_owned() }
}
