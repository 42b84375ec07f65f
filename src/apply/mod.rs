//! Writes a plan: in the order the kernel's rules demand, read back, and put back where the policy says so.

mod look;
mod order;
mod tree;
mod write;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Value};
use crate::kernel::fs::Roots;
use crate::kernel::group::Group;
use crate::plan::facts::BurstRule;
use crate::plan::{Level, Plan, TreeMove, Write};
use order::Pending;

pub use look::Look;
use tree::attached;
pub use tree::{attach, make, remove};
pub use write::differs;

/// What became of one planned write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The write.
    #[serde(flatten)]
    pub write: Write,
    /// What the file said before; `None` where the group is new.
    pub before: Option<Value>,
    /// What the file says now; `None` where it could not be read. Not written down where it is the planned value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl Done {
    /// Whether the file says what was planned.
    pub fn holds(&self) -> bool {
        self.after.as_ref().is_some_and(|after| self.write.knob.reads_back_as(&self.write.value, after))
    }
}

/// The values a set of writes is about to change: what is put back, and what a record keeps.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    values: Vec<Option<Value>>,
    /// For writes of a quota: the burst beside it, which the kernel may bind to it or destroy.
    bursts: Vec<Option<i64>>,
    /// The weights of groups about to become idle, which the kernel forgets.
    weights: Vec<(Group, Knob, Value)>,
}

impl Snapshot {
    /// Reads what the writes' files say. A group that is about to be made says nothing.
    pub fn take(writes: &[Write], made: Option<&TreeMove>) -> Result<Self> {
        let mut snapshot = Self::default();
        for write in writes {
            let is_new = made.is_some_and(|tree| tree.make.contains(&write.group)) && !write.group.exists();
            let read = |knob| if is_new { Ok(None) } else { write.group.read(knob) };
            snapshot.values.push(match read(write.knob) {
                Ok(value) => value,
                // A neighbour may go at any time; it needs nothing then.
                Err(e) if e.is_gone() && write.level == Level::Neighbour => Some(write.value.clone()),
                Err(e) => return Err(e),
            });
            snapshot.bursts.push(match write.knob {
                Knob::Quota => read(Knob::Burst)?.and_then(|burst| burst.int()),
                _ => None,
            });
            let becomes_idle =
                write.knob.makes_idle(&write.value) && read(Knob::Idle)? == Some(Value::Int(0));
            if becomes_idle && !is_new {
                for knob in [Knob::Shares, Knob::Weight] {
                    if let Some(value) = write.group.read(knob)? {
                        snapshot.weights.push((write.group.clone(), knob, value));
                    }
                }
            }
        }
        Ok(snapshot)
    }

    /// What the file of the `index`th write said.
    pub fn before(&self, index: usize) -> Option<&Value> {
        self.values.get(index).and_then(Option::as_ref)
    }

    /// The weights of groups about to become idle.
    pub fn weights(&self) -> impl Iterator<Item = &(Group, Knob, Value)> {
        self.weights.iter()
    }

    /// The burst of the group of the `index`th write, where that is a quota which the burst has to make room for and
    /// no other write sets it.
    pub fn lowered_burst(&self, writes: &[Write], index: usize) -> Option<i64> {
        let write = writes.get(index).filter(|write| write.knob == Knob::Quota)?;
        let burst = self.bursts.get(index).copied().flatten()?;
        let is_set = writes.iter().any(|w| w.knob == Knob::Burst && w.group == write.group);
        let makes_room = BurstRule::of(&write.group).bound(burst, write.value.int()?) < burst;
        (makes_room && !is_set).then_some(burst)
    }

    /// The writes that put everything back, except what is as it was.
    pub fn restoring(&self, writes: &[Write]) -> Vec<Write> {
        let why = "as it was before";
        let values = writes.iter().zip(&self.values).filter_map(|(write, before)| {
            let value = before.clone()?;
            Some(Write { value, fallback: None, why: why.to_owned(), ..write.clone() })
        });
        let weights = self.weights.iter().map(|(group, knob, value)| (group, *knob, value.clone()));
        let bursts = writes.iter().zip(&self.bursts).filter_map(|(write, burst)| {
            let burst = Value::Int((*burst)?);
            Some((&write.group, Knob::Burst, burst))
        });
        // What was not to be written, and went along.
        let along = weights.chain(bursts).filter(|(group, knob, _)| {
            !writes.iter().any(|write| write.group == **group && write.knob == *knob)
        });
        let along = along.map(|(group, knob, value)| Write {
            level: Level::Pod,
            group: group.clone(),
            knob,
            value,
            fallback: None,
            why: why.to_owned(),
        });
        values.chain(along).collect()
    }
}

/// What became of a plan.
#[derive(Debug)]
pub struct Applied {
    /// What each write's file says now, in the plan's order.
    pub after: Vec<Option<Value>>,
    /// What could not be done.
    pub errors: Vec<Error>,
    /// Whether the process is where the plan wants it; if not, it is where it was.
    pub is_in_place: bool,
}

/// Applies a plan for a process. Everything that can be done is done; what cannot is in the errors, and the caller's
/// policy decides what follows.
pub fn apply(plan: &Plan, snapshot: &Snapshot, roots: &Roots, pid: i32) -> Applied {
    let mut errors = Vec::new();
    let mut after = vec![None; plan.writes.len()];
    let mut writes: Vec<(usize, &Write)> = plan.writes.iter().enumerate().collect();
    let mut made = Vec::new();
    if let Some(tree) = &plan.tree {
        if let Err(error) = make(&tree.make, &mut made) {
            return Applied { after, errors: vec![error], is_in_place: false };
        }
    }
    for (switch, on) in &plan.switches {
        if let Err(error) = switch.write(roots, *on) {
            errors.push(error.hint("without this switch the identity is not written"));
            writes.retain(|(_, write)| !matches!(write.knob, Knob::BvtWarp | Knob::Priority | Knob::Expel));
            break;
        }
    }
    for ((index, _), value) in writes.iter().zip(run(&writes, snapshot, &made, &mut errors)) {
        if let Some(slot) = after.get_mut(*index) {
            *slot = value;
        }
    }
    let move_in = |tree| attach(tree, pid).and_then(|()| attached(tree, roots, pid));
    let refused = plan.tree.as_ref().and_then(|tree| move_in(tree).err());
    let is_in_place = refused.is_none();
    errors.extend(refused);
    Applied { after, errors, is_in_place }
}

/// After a move that failed: puts back what was written for it. What others do in the class tree by now stays.
pub fn undo_move(plan: &Plan, snapshot: &Snapshot) -> Vec<Error> {
    let Some(tree) = &plan.tree else { return Vec::new() };
    let mut back = snapshot.restoring(&plan.writes);
    back.retain(|write| write.level != Level::Neighbour && !tree.make.contains(&write.group));
    bring(&back)
}

/// Brings files to the values wanted, from whatever they say now.
pub fn bring(writes: &[Write]) -> Vec<Error> {
    match Snapshot::take(writes, None) {
        Ok(snapshot) => {
            let mut errors = Vec::new();
            run(&writes.iter().enumerate().collect::<Vec<_>>(), &snapshot, &[], &mut errors);
            errors
        }
        Err(error) => vec![error],
    }
}

/// Puts values back. A controller that was taken away from a group took its values along: then there is nothing to do.
pub fn give_back(writes: &[Write]) -> Vec<Error> {
    let mut errors = bring(writes);
    errors.retain(|error| error.as_errno() != Some(Errno::ENOENT));
    errors
}

/// The steps, and a second look at every file that may have changed: what reads back wrong is written once more.
/// Returns what the files say at the end, in the order of the writes.
fn run(
    writes: &[(usize, &Write)],
    snapshot: &Snapshot,
    made: &[Group],
    errors: &mut Vec<Error>,
) -> Vec<Option<Value>> {
    let pending: Vec<Pending<'_>> = writes
        .iter()
        .map(|(index, write)| Pending {
            write,
            // A group that was there when it was looked at, and has been made anew since, says nothing of that.
            before: snapshot.values.get(*index).cloned().flatten().filter(|_| !made.contains(&write.group)),
            burst_before: snapshot.bursts.get(*index).copied().flatten(),
            burst_rule: match write.knob {
                Knob::Quota => BurstRule::of(&write.group),
                _ => BurstRule::Absent,
            },
        })
        .collect();
    let steps = order::order(&pending);
    let mut accepted: Vec<Option<Value>> = pending.iter().map(|p| Some(p.write.value.clone())).collect();
    let mut fail = |write: Option<&Write>, error: Error| {
        // A neighbour may end at any time; it needs nothing then.
        if !(write.is_some_and(|write| write.level == Level::Neighbour) && error.is_gone()) {
            errors.push(error);
        }
    };
    for step in &steps {
        let planned = step.completes.and_then(|index| pending.get(index)).map(|p| p.write);
        let fallback = planned.and_then(|write| write.fallback.as_ref());
        let result = write::write(&step.group, step.knob, &step.value, fallback);
        let slot = step.completes.and_then(|index| accepted.get_mut(index));
        match (result, slot) {
            (Ok(value), Some(slot)) => {
                if let Some(error) = planned.and_then(|write| less(write, &value)) {
                    fail(planned, error);
                }
                *slot = Some(value);
            }
            (Ok(_), None) => {}
            (Err(error), slot) => {
                let pending = step.completes.and_then(|index| pending.get(index));
                if let (Knob::Quota, Some(burst)) = (step.knob, pending.and_then(|p| p.burst_before)) {
                    // It made room for a quota that did not come.
                    let _ = step.group.write(Knob::Burst, &Value::Int(burst));
                }
                fail(planned, error);
                if let Some(slot) = slot {
                    *slot = None;
                }
            }
        }
    }
    let look = |(p, value): (&Pending<'_>, Option<Value>)| {
        let write = p.write;
        let touched = steps.iter().any(|step| step.group == write.group);
        match value {
            // Just read, and nothing was written near it. (Some files say more than their own text.)
            Some(value) if !touched && !matches!(write.knob, Knob::BvtWarp | Knob::Cpus) => Some(value),
            Some(value) => settle(write, &value).unwrap_or_else(|error| {
                fail(Some(write), error);
                now(write)
            }),
            None => now(write),
        }
    };
    pending.iter().zip(accepted).map(look).collect()
}

/// What a file says, of CPUs what the kernel really uses, which on cgroup v2 is not the same; nothing where that cannot
/// be told.
fn now(write: &Write) -> Option<Value> {
    if write.knob == Knob::Cpus {
        if let Ok(Some(found)) = differs(&write.group, write.knob, &write.value) {
            return Some(found);
        }
    }
    write.group.read(write.knob).ok().flatten()
}

/// CPUs of one's own that are fewer than planned must not go unnoticed.
fn less(write: &Write, accepted: &Value) -> Option<Error> {
    let is_part = write.knob == Knob::Cpus
        && write.level != Level::Neighbour
        && write.value.set().is_some_and(|planned| !planned.is_empty())
        && *accepted != write.value;
    is_part.then(|| {
        Error::invalid(
            format!("{} of {}", write.knob, write.group.dir().display()),
            format!("{} wanted, the group above has only {accepted} of them", write.value),
        )
        .hint("give the parent group those CPUs")
    })
}

/// Reads back; a file that says something else is written once more, and then it is an error.
fn settle(write: &Write, value: &Value) -> Result<Option<Value>> {
    let (group, knob) = (&write.group, write.knob);
    if write::differs(group, knob, value)?.is_none() {
        return Ok(Some(value.clone()));
    }
    if knob == Knob::BvtWarp {
        // Writing the value that is there is a no-op; the flags behind it follow a change only. By way of the value
        // nearest to it: the group must not change sides meanwhile.
        let near = match value.int() {
            Some(-1) => -2,
            Some(-2) => -1,
            Some(2 | 0) => 1,
            _ => 2,
        };
        group.write(knob, &Value::Int(near))?;
    }
    group.write(knob, value)?;
    match write::differs(group, knob, value)? {
        None => Ok(Some(value.clone())),
        Some(found) => Err(Error::invalid(
            format!("{knob} of {}", group.dir().display()),
            format!("wrote {value}, reads back {found}"),
        )
        .hint("somebody else writes it, or the kernel cannot do it")),
    }
}
