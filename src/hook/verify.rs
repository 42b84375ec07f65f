//! `poststart`, and a hook that runs twice: the files are read again and what the runtime touched is put right.

use super::create::report;
use super::shared::pod_burst;
use super::{Hook, Report};
use crate::apply;
use crate::container::State;
use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Value};
use crate::plan::facts::{BurstRule, Neighbour};
use crate::plan::gather::{other_cpus, within_parent};
use crate::plan::{self, Level, Write};
use crate::policy::config::OnError;
use crate::policy::treatment::CpusRule;
use crate::record::{Journal, Phase, Record};

impl Hook {
    pub(super) fn verify(&self, state: &State) -> Result<Report> {
        match self.store.load(&state.id)? {
            Some(record) => self.again(state, record),
            None => Ok(Report::default()),
        }
    }

    /// A container that has a record: what was cut off is finished, and what changed is put back.
    pub(super) fn again(&self, state: &State, record: Record) -> Result<Report> {
        if record.phase == Phase::Applying && record.vm.is_some() {
            return self.rest_of_machine(&state.id, &record);
        }
        if record.phase == Phase::Applying {
            let record = self.finish(&state.id, record)?;
            if !record.errors.is_empty() && record.treatment.on_error == OnError::Fail {
                let what = format!("{} for container {}", record.treatment.class, state.id);
                return Err(Error::invalid(what, record.errors.join("; ")));
            }
            return Ok(report(&record));
        }
        let drift = self.drift(&record)?;
        if drift.is_empty() {
            return Ok(Report::default());
        }
        let mut errors: Vec<Error> = self.mend(&drift);
        if !record.treatment.owns_cpus() {
            errors.extend(self.share_what_is_left(&record));
        }
        let files: Vec<String> = drift
            .iter()
            .map(|write| format!("{} {} = {}", write.level.name(), write.knob, write.value))
            .collect();
        Ok(Report {
            message: "values had changed and were put back".to_owned(),
            fields: vec![("class", record.treatment.class.to_string()), ("values", files.join(", "))],
            lost: Vec::new(),
            errors: errors.iter().map(ToString::to_string).collect(),
        })
    }

    /// The values of a treated container that are not as they should be now.
    pub fn drift(&self, record: &Record) -> Result<Vec<Write>> {
        let shares = matches!(record.treatment.cpus, CpusRule::SharedPool | CpusRule::BestEffortPool);
        let mut drift = Vec::new();
        let mut journal: Option<Journal> = None;
        for done in &record.writes {
            let write = &done.write;
            // What could not be written at all is in the record's errors, and no drift.
            let was_given = done.holds();
            let is_pool = shares && write.knob == Knob::Cpus;
            // Planned while only best effort could be in the tree, which is not so any more.
            let is_over = write.level == Level::Tree && !self.shape().offline_only;
            if !was_given || is_pool || is_over || matches!(write.level, Level::Neighbour | Level::KubeQos) {
                continue;
            }
            if write.level == Level::Pod && write.knob == Knob::Burst && record.vm.is_none() {
                // It follows from all containers that are in the pod by now.
                let own = record
                    .writes
                    .iter()
                    .map(|done| &done.write)
                    .find(|own| own.group == record.groups.cpu && own.knob == Knob::Burst);
                let sum = pod_burst(&write.group, own.map(at_most_the_quota).as_ref());
                drift.extend(sum.filter(|sum| Some(&sum.value) != now(sum).as_ref()));
                continue;
            }
            let mut write = write.clone();
            if write.level == Level::Pod {
                // The pod's other containers have a say too: what was planned last is what is wanted.
                if journal.as_ref().is_none_or(|journal| journal.group != write.group) {
                    journal = self.store.journal(&write.group).unwrap_or_default();
                }
                let latest = journal.as_ref().and_then(|journal| journal.wanted(write.knob));
                write.value = latest.cloned().unwrap_or(write.value);
            }
            write = at_most_the_quota(&write);
            if apply::differs(&write.group, write.knob, &write.value)?.is_some() {
                drift.push(write);
            }
        }
        if shares {
            drift.extend(self.pool_writes(record)?);
        }
        Ok(drift)
    }

    /// What a container that shares CPUs should have by now, where it has something else.
    pub(super) fn pool_writes(&self, record: &Record) -> Result<Vec<Write>> {
        let (Some(allowed), Some(group)) = (&record.allowed, &record.groups.cpuset) else {
            return Ok(Vec::new());
        };
        let sources = self.sources();
        let claims = sources.live_claims()?;
        let nobody_owns = claims.is_empty() && self.cpus.system.is_empty();
        let Some(now) = group.read(Knob::Cpus)?.as_ref().and_then(Value::set).cloned() else {
            return Ok(Vec::new());
        };
        let allowed = within_parent(group, allowed);
        // What is above is more than the pod's NUMA nodes.
        let inherits = now.is_empty() && record.treatment.nodes.is_empty();
        let others = other_cpus(group, record.vm.as_ref());
        let are_others_whole = others.iter().all(|(_, cpus)| *cpus == allowed);
        if nobody_owns && are_others_whole && (now == allowed || inherits) {
            return Ok(Vec::new());
        }
        let node = sources.node(&claims)?;
        let neighbour = Neighbour {
            id: record.who.id.clone(),
            class: record.treatment.class,
            group: group.clone(),
            allowed,
            now,
            others,
        };
        let (writes, _) = plan::share(&node, &[neighbour]);
        Ok(writes.into_iter().map(|write| Write { level: Level::Container, ..write }).collect())
    }
}

fn now(write: &Write) -> Option<Value> {
    write.group.read(write.knob).ok().flatten()
}

/// Somebody may have lowered the quota since: the kernel takes no more burst than that.
fn at_most_the_quota(write: &Write) -> Write {
    let mut write = write.clone();
    if let (Knob::Burst, Value::Int(burst)) = (write.knob, &write.value) {
        let quota = write.group.read(Knob::Quota).ok().flatten().and_then(|quota| quota.int()).unwrap_or(-1);
        write.value = Value::Int(BurstRule::of(&write.group).bound(*burst, quota));
    }
    write
}
