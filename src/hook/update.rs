//! A runtime's `update` of a treated container: room is made for it first, what is Plimsoll's is merged into it, and
//! the treatment is brought back after it.

use super::Hook;
use crate::apply::Done;
use crate::container::Place;
use crate::container::bundle::Cpu;
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::group::Group;
use crate::plan::facts::BurstRule;
use crate::plan::gather::within_parent;
use crate::plan::suppose::weight;
use crate::plan::{self, Level, Plan, Write};
use crate::policy::treatment::{CpusRule, Treatment};
use crate::record::{ContainerId, Record};

/// What an update asks for, as far as Plimsoll has a say in it.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `cpu`.
    pub cpu: Cpu,
    /// `memory.limit`, bytes; 0 is unset, -1 is no limit.
    pub memory: Option<i64>,
}

/// An update under way.
#[derive(Debug)]
pub struct Update {
    record: Record,
    /// What the container is to have after it; none where that cannot be told.
    planned: Option<Planned>,
}

#[derive(Debug)]
struct Planned {
    plan: Plan,
    allowed: Option<CpuSet>,
    /// The quota that the runtime is about to write.
    quota: i64,
}

impl Update {
    /// The values that the runtime is to write in place of those it was given.
    pub fn owned(&self) -> impl Iterator<Item = &Write> {
        self.planned.iter().flat_map(|planned| planned.plan.of_runtime())
    }
}

impl Hook {
    /// Plans what a treated container is to have after an update. An error is for the log: the update goes on without.
    pub fn update(&self, record: Record, wishes: &Wishes) -> (Update, Option<Error>) {
        match self.plan_update(&record, wishes) {
            Ok(planned) => (Update { record, planned: Some(planned) }, None),
            Err(error) => (Update { record, planned: None }, Some(error)),
        }
    }

    fn plan_update(&self, record: &Record, wishes: &Wishes) -> Result<Planned> {
        let mut treatment = record.treatment.clone();
        let _lock = treatment.owns_cpus().then(|| self.store.lock(self.lock_budget())).transpose()?;
        let place = Place { inner: record.groups.map(Place::inner_of), ..Place::at(record.groups.clone()) };
        let allowed = allowed(record, &treatment, wishes)?;
        let mut facts = self.sources().facts(&treatment, &place, &record.who, allowed.clone())?;
        let version = facts.groups.cpu.version;
        let number = |n: Option<u64>| n.filter(|n| *n > 0).and_then(|n| i64::try_from(n).ok());
        if let Some(quota) = wishes.cpu.quota.filter(|quota| *quota != 0) {
            facts.cpu.quota = quota.max(-1);
        }
        if let Some(period) = number(wishes.cpu.period) {
            facts.cpu.period = period;
        }
        if let Some(shares) = number(wishes.cpu.shares) {
            facts.cpu.weight = weight(version, shares);
        }
        if let Some(memory) = wishes.memory.filter(|memory| *memory != 0) {
            facts.memory = memory.max(-1);
        }
        if facts.refusal.is_some() {
            treatment.cpus = CpusRule::SharedPool;
        }
        let mut plan = plan::build(&treatment, &facts, &self.shape_at(&facts.groups.cpu, treatment.class));
        if record.tree.as_ref().is_some_and(|tree| !tree.to.is_empty()) {
            carry(&mut plan, wishes);
        }
        let quota = plan.value(Level::Container, Knob::Quota).and_then(Value::int).unwrap_or(facts.cpu.quota);
        if plan.value(Level::Container, Knob::Burst).is_none() {
            // There was a quota to burst over, and now there is none.
            let had = |done: &&Done| done.write.level == Level::Container && done.write.knob == Knob::Burst;
            let none = |done: &Done| Write { value: Value::Int(0), ..done.write.clone() };
            plan.writes.extend(record.writes.iter().filter(had).map(none));
        }
        Ok(Planned { plan, allowed, quota })
    }

    /// Makes room for what the runtime is about to write: the kernel takes no quota below a burst, and no weight of an
    /// idle group.
    pub fn make_way(&self, update: &Update) -> Vec<Error> {
        let record = &update.record;
        let quota = update.planned.as_ref().map_or(0, |planned| planned.quota);
        let mut errors = Vec::new();
        for group in own_groups(record) {
            let rule = BurstRule::of(group);
            let read = |knob| group.read(knob).ok().flatten().and_then(|value: Value| value.int());
            if let Some(burst) = read(Knob::Burst).filter(|burst| rule.bound(*burst, quota) < *burst) {
                errors.extend(group.write(Knob::Burst, &Value::Int(rule.bound(burst, quota))).err());
            }
            let ours = record.writes.iter().map(|done| &done.write).find(|write| {
                write.group == *group && write.knob == Knob::Idle && write.value == Value::Int(1)
            });
            if ours.is_some() && read(Knob::Idle) == Some(1) {
                errors.extend(group.write(Knob::Idle, &Value::Int(0)).err());
            }
        }
        errors
    }

    /// After the runtime has done its part: the treatment holds again, and the record says what is so now. Where the
    /// runtime failed everything is as it was before.
    pub fn after_update(&self, id: &ContainerId, update: Update, has_worked: bool) -> Vec<Error> {
        let Update { mut record, planned } = update;
        let Some(Planned { plan, allowed, .. }) = planned.filter(|_| has_worked) else {
            return match self.drift(&record) {
                Ok(drift) => self.mend(&drift),
                Err(error) => vec![error],
            };
        };
        let mut errors = self.mend(&plan.writes);
        let before = |write: &Write| {
            let same = |done: &&Done| done.write.group == write.group && done.write.knob == write.knob;
            record.writes.iter().find(same).and_then(|done| done.before.clone())
        };
        let done = |write: &Write| Done {
            before: before(write),
            after: write.group.read(write.knob).ok().flatten(),
            write: write.clone(),
        };
        let mut writes: Vec<Done> = plan.writes.iter().map(done).collect();
        let is_left = |done: &Done| {
            let write = &done.write;
            write.level != Level::Container
                && !plan.writes.iter().any(|new| new.group == write.group && new.knob == write.knob)
        };
        writes.extend(record.writes.iter().filter(|done| is_left(done)).cloned());
        record.writes = writes;
        record.allowed = allowed.or(record.allowed);
        record.lost = plan.lost;
        errors.extend(self.share_what_is_left(&record));
        record.errors = errors.iter().map(ToString::to_string).collect();
        errors.extend(self.store.finish(id, &mut record).err());
        if !record.is_live() {
            // Its end came meanwhile, and nobody else will look at this record.
            errors.extend(self.release(id, &record));
        }
        errors
    }
}

/// The container's own groups of the `cpu` hierarchy: the one a hook moved it to, the one the runtime writes, and the
/// one the runtime made below.
fn own_groups(record: &Record) -> Vec<&Group> {
    let mut groups = vec![&record.groups.cpu, &record.origin.cpu];
    groups.extend(record.writes.iter().filter(|d| d.write.level == Level::Container).map(|d| &d.write.group));
    groups.retain(|group| group.mount == record.groups.cpu.mount && group.has(Knob::Quota));
    groups.sort_by(|a, b| b.path.cmp(&a.path));
    groups.dedup();
    groups
}

/// The CPUs the engine lets the container have from now on.
fn allowed(record: &Record, treatment: &Treatment, wishes: &Wishes) -> Result<Option<CpuSet>> {
    if treatment.cpus == CpusRule::Keep {
        return Ok(None);
    }
    let named = wishes.cpu.cpus.as_deref().filter(|text| !text.is_empty());
    let named = named.map(str::parse::<CpuSet>).transpose();
    let named = named.map_err(|e| Error::invalid("update: cpu.cpus", e.to_string()))?;
    Ok(match (named, &record.groups.cpuset) {
        (Some(cpus), Some(group)) => Some(within_parent(group, &cpus)),
        _ => record.allowed.clone(),
    })
}

/// The runtime writes the group it made; a container that a hook has moved from there gets its values here.
fn carry(plan: &mut Plan, wishes: &Wishes) {
    let cpu = &wishes.cpu;
    let shares = match plan.groups.cpu.version {
        Version::V1 => Knob::Shares,
        Version::V2 => Knob::Weight,
    };
    let number = |n: Option<u64>| n.filter(|n| *n > 0).and_then(|n| i64::try_from(n).ok());
    let values = [
        (shares, number(cpu.shares).map(|n| weight(plan.groups.cpu.version, n))),
        (Knob::Period, number(cpu.period)),
        (Knob::Quota, cpu.quota.filter(|quota| *quota != 0).map(|quota| quota.max(-1))),
    ];
    let group = plan.groups.cpu.clone();
    for (knob, value) in values {
        let is_planned =
            plan.writes.iter().any(|w| w.group == group && (w.knob == knob || w.knob.makes_idle(&w.value)));
        if let (Some(value), false) = (value, is_planned) {
            plan.writes.push(Write {
                level: Level::Container,
                group: group.clone(),
                knob,
                value: Value::Int(value),
                fallback: None,
                why: "as updated in the engine's group".to_owned(),
            });
        }
    }
}
