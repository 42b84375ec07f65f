//! What the model knows: what others want of every group (the twin's values), and what Plimsoll laid over that.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll::cpuset::CpuSet;
use plimsoll::kernel::control::{Knob, Value};
use plimsoll::record::Record;

use super::asks::Asks;
use super::op::{PER_POD, PODS, SLOTS, Target};

/// A file of a group, by the group's path in its tree.
pub(crate) type Key = (String, Knob);

/// How long a removed group may count.
const DYING: Duration = Duration::from_millis(500);

/// A value of Plimsoll's over that of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    /// What the file says.
    pub(crate) value: Value,
    /// What the plan says; `None` for side effects, for pools, and for what the kernel did not take.
    pub(crate) wanted: Option<Value>,
    /// What the plan said before.
    pub(crate) earlier: Option<Value>,
    /// Whether Plimsoll ever changed it.
    pub(crate) changed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) rel: String,
    pub(crate) asks: Asks,
}

/// A group that was just removed: the kernel goes on counting its quota for some 20 ms.
#[derive(Clone, Debug)]
pub(crate) struct Dying {
    rel: String,
    since: Instant,
}

/// A container whose groups are there.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) rel: String,
    pub(crate) pid: i32,
    pub(crate) asks: Asks,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) times: usize,
    pub(crate) id: String,
    pub(crate) live: Option<Live>,
    /// It is gone and its `poststop` is still to come.
    pub(crate) pending: bool,
}

/// A container with a record.
#[derive(Clone, Debug)]
pub(crate) struct Treated {
    pub(crate) rel: String,
    pub(crate) pod: Option<String>,
    pub(crate) record: Rc<Record>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// What the tree without Plimsoll says: what others want.
    pub(crate) twin: BTreeMap<String, BTreeMap<Knob, Value>>,
    dying: Vec<Dying>,
    pub(crate) covers: BTreeMap<Key, Cover>,
    pub(crate) pods: [Option<Pod>; PODS],
    pub(crate) pod_times: usize,
    pub(crate) slots: Vec<Slot>,
    /// By container id.
    pub(crate) treated: BTreeMap<String, Treated>,
}

pub(crate) fn parent(rel: &str) -> &str {
    rel.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The pod a slot is in.
pub(crate) fn pod_of(slot: usize) -> Option<usize> {
    (slot < PODS * PER_POD).then_some(slot / PER_POD)
}

pub(crate) fn int(value: &Value) -> i64 {
    value.int().unwrap()
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Slot::default(); SLOTS], ..Self::default() }
    }

    pub(crate) fn exists(&self, rel: &str) -> bool {
        self.twin.contains_key(rel)
    }

    /// What the tree without Plimsoll says.
    pub(crate) fn without(&self, rel: &str, knob: Knob) -> Value {
        self.twin[rel][&knob].clone()
    }

    /// What the tree with Plimsoll says.
    pub(crate) fn with(&self, rel: &str, knob: Knob) -> Value {
        let cover = self.covers.get(&(rel.to_owned(), knob));
        cover.map_or_else(|| self.without(rel, knob), |cover| cover.value.clone())
    }

    pub(crate) fn cover(&self, rel: &str, knob: Knob) -> Option<&Cover> {
        self.covers.get(&(rel.to_owned(), knob))
    }

    pub(crate) fn set_cover(&mut self, rel: &str, knob: Knob, value: Value, wanted: Option<Value>) {
        let old = self.cover(rel, knob).cloned();
        let changed = self.with(rel, knob) != value || old.as_ref().is_some_and(|old| old.changed);
        let earlier = old.and_then(|old| if old.wanted == wanted { old.earlier } else { old.wanted });
        self.covers.insert((rel.to_owned(), knob), Cover { value, wanted, earlier, changed });
    }

    pub(crate) fn target(&self, target: Target) -> Option<String> {
        match target {
            Target::Besteffort => Some("kubepods/besteffort".to_owned()),
            Target::Burstable => Some("kubepods/burstable".to_owned()),
            Target::Pod(pod) => self.pods[pod].as_ref().map(|pod| pod.rel.clone()),
            Target::Container(slot) => self.slots[slot].live.as_ref().map(|live| live.rel.clone()),
        }
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        let live = self.slots.iter().filter_map(|slot| slot.live.as_ref());
        // A container that comes back under its id has another process than its record says.
        live.map(|live| live.pid).chain(self.treated.values().map(|t| t.record.pid)).collect()
    }

    /// The groups in a group, and itself.
    pub(crate) fn subtree<'a>(&'a self, rel: &'a str) -> impl Iterator<Item = &'a String> {
        self.twin.keys().filter(move |other| {
            rel.is_empty() || other.strip_prefix(rel).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        })
    }

    /// Whether a treated container is left in a pod.
    pub(crate) fn is_held(&self, pod: &str) -> bool {
        self.treated.values().any(|t| t.pod.as_deref() == Some(pod) && self.exists(&t.rel))
    }

    /// A container of this pod is no longer treated; its burst may have been in the pod's.
    pub(crate) fn released(&mut self, pod: &str, was_in_sum: bool) {
        if !self.exists(pod) || !self.is_held(pod) {
            self.covers.retain(|(rel, _), _| rel != pod);
        } else if was_in_sum && self.cover(pod, Knob::Burst).is_some_and(|cover| cover.changed) {
            let burst = Value::Int(self.sum_of_bursts(pod));
            self.set_cover(pod, Knob::Burst, burst.clone(), Some(burst));
        }
    }

    /// The bursts of a pod's containers together, at most its quota.
    pub(crate) fn sum_of_bursts(&self, pod: &str) -> i64 {
        let children = self.twin.keys().filter(|rel| parent(rel) == pod);
        let sum: i64 = children.map(|rel| int(&self.with(rel, Knob::Burst))).sum();
        match int(&self.with(pod, Knob::Quota)) {
            quota if quota > 0 => sum.min(quota),
            _ => sum,
        }
    }

    pub(crate) fn forget_group(&mut self, rel: &str) {
        self.dying.retain(|group| group.since.elapsed() < DYING);
        if int(&self.with(rel, Knob::Quota)).max(int(&self.without(rel, Knob::Quota))) > 0 {
            self.dying.push(Dying { rel: rel.to_owned(), since: Instant::now() });
        }
        self.twin.remove(rel);
        self.covers.retain(|(group, _), _| group != rel);
    }

    /// Whether a group that is being removed may still stand in the way of a quota.
    pub(crate) fn is_dying_in(&self, rel: &str) -> bool {
        let mut fresh = self.dying.iter().filter(|group| group.since.elapsed() < DYING);
        fresh.any(|group| group.rel.strip_prefix(rel).is_some_and(|rest| rest.starts_with('/')))
    }

    pub(crate) fn cpus(&self, rel: &str) -> CpuSet {
        self.with(rel, Knob::Cpus).set().unwrap().clone()
    }
}

/// Why the kernel cannot hold these values together: its rules for the state they end in.
pub(crate) fn refusals(model: &Model, targets: &BTreeMap<Key, Value>) -> Vec<String> {
    let end = |rel: &str, knob: Knob| {
        targets.get(&(rel.to_owned(), knob)).cloned().unwrap_or_else(|| model.with(rel, knob))
    };
    let mut reasons = BTreeSet::new();
    for (rel, knob) in targets.keys() {
        match knob {
            Knob::Quota | Knob::Period => {
                if model.is_dying_in(rel) && int(&end(rel, Knob::Quota)) > 0 {
                    reasons.insert(format!("a container of {rel} is not quite gone"));
                }
                for group in model.subtree(rel) {
                    if let Some(reason) = too_large(&end, group) {
                        reasons.insert(reason);
                    }
                }
            }
            Knob::Shares if end(rel, Knob::Idle) == Value::Int(1) => {
                reasons.insert(format!("{rel} is idle"));
            }
            Knob::Cpus => {
                let (cpus, above) = (end(rel, Knob::Cpus), end(parent(rel), Knob::Cpus));
                if !cpus.set().unwrap().is_subset(above.set().unwrap()) {
                    reasons.insert(format!("cpus {cpus} of {rel} are not in {above}"));
                }
            }
            _ => {}
        }
    }
    reasons.into_iter().collect()
}

/// cgroup v1: a group's share of a CPU is at most that of the groups above it (`tg_cfs_schedulable_down`).
fn too_large(end: &impl Fn(&str, Knob) -> Value, rel: &str) -> Option<String> {
    let ratio = |rel: &str| {
        let (quota, period) = (int(&end(rel, Knob::Quota)), int(&end(rel, Knob::Period)));
        (quota > 0).then(|| (quota << 20) / period)
    };
    let own = ratio(rel)?;
    let mut above = rel;
    while !above.is_empty() {
        above = parent(above);
        if let Some(limit) = ratio(above) {
            return (own > limit).then(|| format!("quota of {rel} is above that of {above:?}"));
        }
    }
    None
}
