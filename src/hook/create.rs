//! `prestart` and `createRuntime`: everything a container gets, before its first instruction.

use super::shared::Before;
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
use crate::record::{Claim, Record, Who};

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
        self.treat(state, pid, &place, who, treatment.clone(), Vec::new()).map_err(failure)
    }

    fn treat(
        &self,
        state: &State,
        pid: i32,
        place: &Place,
        who: Who,
        mut treatment: Treatment,
        mut errors: Vec<Error>,
    ) -> Result<Report> {
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
        let facts = sources.facts(&treatment, place, &who, self.allowed(place)?)?;
        if let Some(refusal) = &facts.refusal {
            errors.push(Error::invalid(format!("CPUs of its own for {}", treatment.class), refusal.clone()));
            // Whoever gets none of its own shares, and goes on to make room for those who have some.
            treatment.cpus = CpusRule::SharedPool;
        }
        let plan = plan::build(&treatment, &facts, &self.shape_at(&place.groups.cpu, treatment.class));
        // From the look at the values before until they are written down, nobody may put them back.
        let shared = self.lock_shared(&plan.writes, &mut errors);
        let snapshot = Snapshot::take(&plan.writes, plan.tree.as_ref())?;
        let allowed = facts.cpus.clone();

        // Intent first: whoever is cut off from here on leaves behind what is needed to put things right.
        if let (Some(own), true) = (&facts.own, treatment.owns_cpus()) {
            let claim = Claim {
                owner: owner(place, &who),
                class: treatment.class,
                cpus: own.clone(),
                group: place.groups.cpuset.clone().unwrap_or_else(|| place.groups.cpu.clone()),
            };
            // Nobody can be kept off CPUs that nobody knows to be taken.
            self.store.save_claim(&state.id, &claim)?;
        }
        let planned: Vec<Done> = planned(&plan, &snapshot);
        let mut record = Record::planned(who, pid, treatment, &plan, place.groups.clone(), allowed, planned);
        let unsure = match (record.rung, record.treatment.identity) {
            (Rung::QosLevel, Some(identity)) => record.rung.lost(identity),
            _ => None,
        };
        record.lost.retain(|text| Some(text.as_str()) != unsure);
        // Without them the container is treated all the same: records are a cache of intent.
        let (journals, failed) = self.note_shared(&plan.writes, &snapshot);
        errors.extend(failed);
        errors.extend(self.store.begin(&state.id, &record).err());
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
            return self.treat(state, pid, place, record.who.clone(), treatment, errors).map_err(|error| {
                self.release(&state.id, &record);
                match error.to_string() {
                    text if text.contains(&first) => error,
                    text => {
                        Error::invalid(format!("move of container {}", state.id), format!("{first}; {text}"))
                    }
                }
            });
        }
        for (done, after) in record.writes.iter_mut().zip(applied.after) {
            done.after = after;
        }
        let missed = record.writes.iter().filter(|done| !done.holds()).map(|done| &done.write);
        errors.extend(self.note_missed(missed));
        if let Some(text) = unsure {
            // Only the write tells which levels a kernel takes.
            let is_given = |done: &Done| done.write.knob != Knob::QosLevel || done.holds();
            record.lost.extend((!record.writes.iter().all(is_given)).then(|| text.to_owned()));
        }
        errors.extend(self.share_what_is_left(&record));
        if !errors.is_empty() && record.treatment.on_error == OnError::Fail {
            // Giving CPUs back takes the lock again.
            drop(lock);
            return Err(self.roll_back(state, &record, &plan, &snapshot, &journals, errors));
        }
        record.errors = errors.iter().map(ToString::to_string).collect();
        if let Err(error) = self.store.finish(&state.id, &mut record) {
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
        state: &State,
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
        left.extend(self.release(&state.id, record));
        let end = match left.is_empty() {
            true => "everything was put back",
            false => "the rest was put back",
        };
        errors.extend(left);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::invalid(format!("{} for container {}", record.treatment.class, state.id), texts.join("; "))
            .hint(format!("{end}; on_error = \"fail\" says that it must not start like this"))
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
        message: match record.errors.is_empty() {
            true => "container placed".to_owned(),
            false => "container placed in part".to_owned(),
        },
        fields,
        lost: record.lost.clone(),
        errors: record.errors.clone(),
    }
}
