//! `prestart` and `createRuntime`: everything a container gets, before its first instruction.

use super::shared::Before;
use super::vm::Progress;
use super::{Failure, Hook, Report};
use crate::apply::{self, Done, Snapshot};
use crate::container::{Place, State};
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::Knob;
use crate::kernel::identity::Rung;
use crate::plan::gather::{self, owner, within_parent};
use crate::plan::{self, Level, Plan};
use crate::policy::config::{OnError, Placement};
use crate::policy::treatment::{CpusRule, Treatment};
use crate::record::{Claim, ContainerId, Record, Who};

/// How often a container that shares CPUs looks again whether someone took some meanwhile.
const LOOKS: usize = 4;

impl Hook {
    pub(super) fn create(&self, state: &State) -> Result<Report, Failure> {
        let earlier = match self.store.load(&state.id) {
            // Another process under the same id: nobody said that the one before had gone.
            Ok(Some(record)) if state.pid.is_some_and(|pid| pid != record.pid) => {
                self.release(&state.id, &record);
                Ok(None)
            }
            earlier => earlier,
        };
        let Some(request) = self.request(&state.annotations)? else {
            return Ok(Report::default());
        };
        let class = request.claimed_class();
        let (pid, place) = self.place(state).map_err(|error| Failure { class, error })?;
        let mut who = state.who();
        who.pod_uid.clone_from(&place.pod_uid);
        let Some(treatment) = self.treatment(&request, &state.annotations, &who, place.kube_qos) else {
            return Ok(Report::default());
        };
        let failure = |error| Failure { class: Some(treatment.class), error };
        match earlier {
            // Both prestart and createRuntime may be configured, and either may run twice.
            Ok(Some(record)) => return self.again(state, record).map_err(failure),
            Ok(None) => {}
            Err(error) => self.set_aside(&state.id, &error),
        }
        let allowed = self.allowed(&place).map_err(failure)?;
        let subject = Subject { id: &state.id, pid, place: &place, who: &who, allowed, machine: None };
        self.treat(&subject, treatment.clone(), Vec::new()).map_err(failure)
    }

    pub(super) fn treat(
        &self,
        subject: &Subject<'_>,
        mut treatment: Treatment,
        mut errors: Vec<Error>,
    ) -> Result<Report> {
        let Subject { id, pid, place, who, .. } = *subject;
        let lock = if treatment.owns_cpus() {
            match self.store.lock(self.lock_budget()) {
                Ok(lock) => Some(lock),
                Err(error) => {
                    errors.push(error);
                    treatment.cpus = CpusRule::SharedPool;
                    None
                }
            }
        } else {
            None
        };
        let sources = self.sources();
        let facts = sources.facts(&treatment, place, who, subject.allowed.clone())?;
        if let Some(refusal) = &facts.refusal {
            errors.push(Error::invalid(format!("CPUs of its own for {}", treatment.class), refusal.clone()));
            // Whoever gets none of its own shares, and goes on to make room for those who have some.
            treatment.cpus = CpusRule::SharedPool;
        }
        let mut plan = plan::build(&treatment, &facts, &self.shape_at(&place.groups.cpu, treatment.class));
        let held = self.hold_back(subject, &treatment, &mut plan);
        // From the look at the values before until they are written down, nobody may put them back.
        let shared = self.lock_shared(&plan.writes, &mut errors);
        let snapshot = Snapshot::take(&plan.writes, plan.tree.as_ref())?;
        let allowed = facts.cpus.clone();

        // Intent first: whoever is cut off from here on leaves behind what is needed to put things right.
        if let (Some(own), true) = (&facts.own, treatment.owns_cpus()) {
            let claim = Claim {
                owner: owner(place, who),
                class: treatment.class,
                cpus: own.clone(),
                group: place.groups.cpuset.clone().unwrap_or_else(|| place.groups.cpu.clone()),
                bundle: who.bundle.clone().filter(|_| place.vm.is_some()),
            };
            // Nobody can be kept off CPUs that nobody knows to be taken.
            self.store.save_claim(id, &claim)?;
        }
        let ready = plan.writes.len();
        let mut planned: Vec<Done> = planned(&plan, &snapshot);
        planned.extend(held.iter().map(|write| Done { write: write.clone(), before: None, after: None }));
        if let Some(earlier) = subject.earlier() {
            keep_before(&mut planned, earlier);
        }
        let mut record =
            Record::planned(who.clone(), pid, treatment, &plan, place.groups.clone(), allowed, planned);
        record.vm.clone_from(&place.vm);
        let unsure = match (record.rung, record.treatment.identity) {
            (Rung::QosLevel, Some(identity)) => record.rung.lost(identity),
            _ => None,
        };
        record.lost.retain(|text| Some(text.as_str()) != unsure);
        // Without them the container is treated all the same: records are a cache of intent.
        let (journals, failed) = self.note_shared(&plan.writes, &snapshot);
        errors.extend(failed);
        errors.extend(self.store.begin(id, &record).err());
        drop(shared);

        let applied = apply::apply(&plan, &snapshot, &self.roots, pid);
        errors.extend(applied.errors);
        if !applied.is_in_place {
            // It is where the engine put it: there it gets what can be had there, as if no move had been tried.
            errors.extend(apply::undo_move(&plan, &snapshot));
            errors.extend(self.leave_tree(&record));
            drop(lock);
            let treatment = Treatment { placement: Placement::Keep, ..record.treatment.clone() };
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            return self.treat(subject, treatment, errors).map_err(|error| {
                self.release(id, &record);
                match error.to_string() {
                    text if text.contains(&first) => error,
                    text => Error::invalid(format!("move of container {id}"), format!("{first}; {text}")),
                }
            });
        }
        for (done, after) in record.writes.iter_mut().zip(applied.after) {
            done.after = after;
        }
        let written = record.writes.iter().take(ready);
        let missed = written.filter(|done| !done.holds()).map(|done| &done.write);
        errors.extend(self.note_missed(missed));
        if let Some(text) = unsure {
            // Only the write tells which levels a kernel takes.
            let is_given = |done: &Done| done.write.knob != Knob::QosLevel || done.holds();
            record.lost.extend((!record.writes.iter().take(ready).all(is_given)).then(|| text.to_owned()));
        }
        errors.extend(self.share_what_is_left(&record));
        errors.extend(self.unbind_pod(subject, &record));
        if let Some(error) = subject.missing(&held) {
            errors.push(error);
        }
        if !errors.is_empty() && record.treatment.on_error == OnError::Fail {
            // Giving CPUs back takes the lock again.
            drop(lock);
            return Err(self.roll_back(id, &record, &plan, &snapshot, &journals, errors));
        }
        record.errors = errors.iter().map(ToString::to_string).collect();
        if !subject.is_done(&held) {
            // The intent stays: whoever comes next does the rest.
            return Ok(report(&record));
        }
        if let Err(error) = self.store.finish(id, &mut record) {
            let error = error.to_string();
            // A folder that cannot be written to has been said already.
            if !record.errors.contains(&error) {
                record.errors.push(error);
            }
        }
        Ok(report(&record))
    }

    /// The CPUs the engine lets the container have, where the wrapper has had the runtime give it others.
    fn allowed(&self, place: &Place) -> Result<Option<CpuSet>> {
        let Some(named) = self.edits.cpus()? else { return Ok(None) };
        let Some(cpuset) = &place.groups.cpuset else { return Ok(None) };
        match (named, cpuset.parent()) {
            (Some(cpus), _) => Ok(Some(within_parent(cpuset, &cpus))),
            (None, Some(parent)) => gather::allowed(&parent),
            (None, None) => Ok(None),
        }
    }

    /// An exclusive container may have taken CPUs between this container's look and its write: look again until
    /// nothing changed. Each looks again after it has left its own record or claim, so one of the two sees the other.
    pub(super) fn share_what_is_left(&self, record: &Record) -> Vec<Error> {
        let mut errors = Vec::new();
        if record.treatment.owns_cpus() {
            return self.share_anew();
        }
        if !matches!(record.treatment.cpus, CpusRule::SharedPool | CpusRule::BestEffortPool) {
            return errors;
        }
        let mut was_shrunk = record.writes.iter().any(|done| done.write.knob == Knob::Cpus);
        for _ in 0..LOOKS {
            // By far the most common case: nobody owned CPUs then, and nobody does now.
            if !was_shrunk && self.store.claims().is_ok_and(|claims| claims.is_empty()) {
                break;
            }
            match self.pool_writes(record) {
                Ok(writes) if writes.is_empty() => break,
                Ok(writes) => {
                    was_shrunk = true;
                    errors.extend(apply::bring(&writes));
                }
                Err(error) => {
                    errors.push(error);
                    break;
                }
            }
        }
        errors
    }

    fn roll_back(
        &self,
        id: &ContainerId,
        record: &Record,
        plan: &Plan,
        snapshot: &Snapshot,
        journals: &[Before],
        mut errors: Vec<Error>,
    ) -> Error {
        if let Some(tree) = &plan.tree {
            let back = plan::TreeMove { make: Vec::new(), to: tree.from.clone(), from: Vec::new() };
            errors.extend(apply::attach(&back, record.pid).err());
        }
        let mut back = snapshot.restoring(&plan.writes);
        // Neighbours grow again when the claim is given back, under the lock: somebody else may have taken CPUs by now.
        back.retain(|write| write.level != Level::Neighbour);
        let mut left = apply::bring(&back);
        errors.extend(self.forget_notes(journals));
        left.extend(self.release(id, record));
        let end = match left.is_empty() {
            true => "everything was put back",
            false => "the rest was put back",
        };
        errors.extend(left);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::invalid(format!("{} for container {id}", record.treatment.class), texts.join("; "))
            .hint(format!("{end}; on_error = \"fail\" says that it must not start like this"))
    }
}

/// A container that is to be treated.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    pub(super) id: &'a ContainerId,
    /// Its first process; of a virtual machine the VMM's, 0 while there is none.
    pub(super) pid: i32,
    pub(super) place: &'a Place,
    pub(super) who: &'a Who,
    /// The CPUs the engine lets it have, where its group does not say so any more.
    pub(super) allowed: Option<CpuSet>,
    /// How far it is, where it is a virtual machine.
    pub(super) machine: Option<Progress<'a>>,
}

/// What came before is kept: it was the engine's.
fn keep_before(planned: &mut [Done], earlier: &Record) {
    for done in planned {
        let same = |old: &&Done| old.write.group == done.write.group && old.write.knob == done.write.knob;
        if let Some(before) = earlier.writes.iter().find(same).and_then(|old| old.before.clone()) {
            done.before = Some(before);
        }
    }
}

fn planned(plan: &Plan, snapshot: &Snapshot) -> Vec<Done> {
    let done = |(index, write): (usize, &plan::Write)| Done {
        write: write.clone(),
        before: snapshot.before(index).cloned(),
        after: None,
    };
    plan.writes.iter().enumerate().map(done).collect()
}

pub(super) fn report(record: &Record) -> Report {
    let mut fields = vec![
        ("class", record.treatment.class.to_string()),
        ("source", record.treatment.source.clone()),
        ("placement", if record.tree.is_some() { "class-tree" } else { "keep" }.to_owned()),
        ("rung", record.rung.to_string()),
        ("cgroup", record.groups.cpu.path.clone()),
    ];
    let who = &record.who;
    for (name, value) in [("namespace", &who.namespace), ("pod", &who.pod), ("name", &who.container)] {
        fields.extend(value.clone().map(|value| (name, value)));
    }
    // The group a runtime makes below has the same values.
    let own = |write: &plan::Write| {
        write.level == Level::Container && record.groups.of(write.knob.controller()) == Some(&write.group)
    };
    for done in record.writes.iter().filter(|done| own(&done.write)) {
        let name = match done.write.knob {
            Knob::BvtWarp => "bvt_warp_ns",
            Knob::Priority => "priority",
            Knob::Expel => "identity",
            Knob::QosLevel => "qos_level",
            Knob::Offline => "offline",
            Knob::Idle => "idle",
            Knob::Shares => "shares",
            Knob::Weight => "weight",
            Knob::Quota => "quota",
            Knob::Burst => "burst",
            Knob::Cpus => "cpus",
            _ => continue,
        };
        fields.extend(done.after.as_ref().map(|value| (name, value.to_string())));
    }
    Report {
        message: match (&record.vm, record.errors.is_empty()) {
            (None, true) => "container placed",
            (None, false) => "container placed in part",
            (Some(_), true) => "virtual machine placed",
            (Some(_), false) => "virtual machine placed in part",
        }
        .to_owned(),
        fields,
        lost: record.lost.clone(),
        errors: record.errors.clone(),
    }
}
