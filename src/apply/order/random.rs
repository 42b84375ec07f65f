//! Random changes to small trees, with a model of the kernel's rules as the judge.

use proptest::prelude::*;

use super::{Pending, order};
use crate::cpuset::CpuSet;
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::group::Group;
use crate::plan::facts::BurstRule;
use crate::plan::{Level, Write};

/// Two pods: one with a container in a container, one with two.
const TREE: [(&str, Option<usize>); 7] = [
    ("/k", None),
    ("/k/p", Some(0)),
    ("/k/p/c", Some(1)),
    ("/k/p/c/g", Some(2)),
    ("/k/q", Some(0)),
    ("/k/q/a", Some(4)),
    ("/k/q/b", Some(4)),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    quota: i64,
    burst: i64,
    cpus: u8,
    idle: bool,
    shares: i64,
}

/// A tree on cgroup v1, all periods alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree([State; TREE.len()]);

impl Tree {
    /// A tree that the kernel holds, made of any numbers.
    fn of(numbers: &[(u8, u8, u8, u8)]) -> Self {
        let mut tree = Self(TREE.map(|_| State { quota: -1, burst: 0, cpus: 0xff, idle: false, shares: 5 }));
        for (i, (quota, burst, cpus, other)) in numbers.iter().enumerate() {
            let (limit, parent) = match TREE[i].1 {
                Some(p) => (tree.limit(p), tree.0[p].cpus),
                None => (None, 0xff),
            };
            let quota = if quota % 4 == 0 { -1 } else { 1_000 + 100 * i64::from(*quota) };
            let quota = if quota > 0 { quota.min(limit.unwrap_or(quota)) } else { quota };
            let burst = 300 * i64::from(burst % 100);
            let cpus = if cpus & parent == 0 { parent } else { cpus & parent };
            let idle = other % 3 == 0;
            let shares = if idle { 3 } else { 4 + i64::from(*other) };
            tree.0[i] =
                State { quota, burst: if quota > 0 { burst.min(quota) } else { burst }, cpus, idle, shares };
        }
        tree
    }

    /// The quota that holds for a group: its own, or the nearest above.
    fn limit(&self, i: usize) -> Option<i64> {
        let own = self.0[i].quota;
        if own > 0 { Some(own) } else { TREE[i].1.and_then(|p| self.limit(p)) }
    }

    /// Why the kernel does not hold this tree.
    fn refusal(&self) -> Option<String> {
        TREE.iter().enumerate().find_map(|(i, (path, parent))| {
            let own = &self.0[i];
            if own.quota > 0 && own.burst > own.quota {
                return Some(format!("burst of {path} above its quota"));
            }
            let parent = (*parent)?;
            if own.quota > 0 && self.limit(parent).is_some_and(|limit| own.quota > limit) {
                return Some(format!("quota of {path} above its parent's"));
            }
            (own.cpus & !self.0[parent].cpus != 0).then(|| format!("CPUs of {path} not in its parent's"))
        })
    }

    fn value(&self, i: usize, knob: Knob) -> Value {
        let state = &self.0[i];
        match knob {
            Knob::Quota => Value::Int(state.quota),
            Knob::Burst => Value::Int(state.burst),
            Knob::Idle => Value::Int(state.idle.into()),
            Knob::Shares => Value::Int(state.shares),
            _ => Value::Set((0..8).filter(|cpu| state.cpus & (1 << cpu) != 0).collect::<CpuSet>()),
        }
    }

    /// A write as the kernel does it, or why it does not.
    fn write(&mut self, i: usize, knob: Knob, value: &Value) -> Result<(), String> {
        let mut new = self.clone();
        let state = &mut new.0[i];
        match (knob, value) {
            (Knob::Quota, Value::Int(n)) => state.quota = *n,
            (Knob::Burst, Value::Int(n)) => state.burst = *n,
            (Knob::Shares, _) if state.idle => return Err(format!("{} is idle", TREE[i].0)),
            (Knob::Shares, Value::Int(n)) => state.shares = *n,
            (Knob::Idle, Value::Int(n)) if state.idle != (*n == 1) => {
                state.idle = *n == 1;
                state.shares = if state.idle { 3 } else { 1_024 };
            }
            (Knob::Idle, _) => {}
            (_, Value::Set(set)) => state.cpus = set.iter().fold(0, |cpus, cpu| cpus | 1 << cpu),
            _ => return Err(format!("{knob} {value}")),
        }
        match new.refusal() {
            Some(why) => Err(why),
            None => {
                *self = new;
                Ok(())
            }
        }
    }
}

const KNOBS: [Knob; 5] = [Knob::Quota, Knob::Burst, Knob::Cpus, Knob::Idle, Knob::Shares];

/// Writes for the chosen files of `after`, in any order; none that could not hold in the end.
fn wanted(before: &Tree, after: &Tree, chosen: &[bool], turn: usize) -> Vec<(usize, Knob)> {
    let files = (0..TREE.len()).flat_map(|i| KNOBS.map(|knob| (i, knob)));
    let mut files: Vec<(usize, Knob)> =
        files.zip(chosen).filter(|(_, on)| **on).map(|(file, _)| file).collect();
    // An idle group has no weight of its own to write.
    let idle = |i: usize, files: &[(usize, Knob)]| {
        if files.contains(&(i, Knob::Idle)) { after.0[i].idle } else { before.0[i].idle }
    };
    let all = files.clone();
    files.retain(|(i, knob)| *knob != Knob::Shares || (!idle(*i, &all) && !after.0[*i].idle));
    // A burst that is asked for goes with its quota.
    let quotas: Vec<usize> = files.iter().filter(|(_, knob)| *knob == Knob::Quota).map(|(i, _)| *i).collect();
    files.retain(|(i, knob)| *knob != Knob::Burst || quotas.contains(i));
    let turn = turn % files.len().max(1);
    files.rotate_left(turn);
    files
}

/// The end, as a tree; a burst that nobody wrote makes room for its quota.
fn end(before: &Tree, after: &Tree, files: &[(usize, Knob)]) -> Tree {
    let mut end = before.clone();
    for (i, knob) in files {
        match knob {
            Knob::Quota => end.0[*i].quota = after.0[*i].quota,
            Knob::Burst => end.0[*i].burst = after.0[*i].burst,
            Knob::Cpus => end.0[*i].cpus = after.0[*i].cpus,
            _ => {}
        }
    }
    for state in &mut end.0 {
        state.burst = if state.quota > 0 { state.burst.min(state.quota) } else { state.burst };
    }
    end
}

fn group(path: &str) -> Group {
    Group { version: Version::V1, mount: "/m".into(), path: path.into() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, max_global_rejects: 200_000, ..ProptestConfig::default() })]

    #[test]
    fn no_step_is_refused_on_the_way_to_values_that_the_kernel_holds(
        numbers in prop::collection::vec(any::<(u8, u8, u8, u8)>(), TREE.len()),
        others in prop::collection::vec(any::<(u8, u8, u8, u8)>(), TREE.len()),
        chosen in prop_oneof![
            prop::collection::vec(prop::bool::weighted(0.25), TREE.len() * KNOBS.len()),
            prop::collection::vec(prop::bool::weighted(0.9), TREE.len() * KNOBS.len()),
        ],
        turn in any::<usize>(),
    ) {
        let (before, after) = (Tree::of(&numbers), Tree::of(&others));
        prop_assert_eq!(before.refusal(), None);
        let files = wanted(&before, &after, &chosen, turn);
        prop_assume!(end(&before, &after, &files).refusal().is_none());
        let write = |(i, knob): &(usize, Knob)| Write {
            level: Level::Container,
            group: group(TREE[*i].0),
            knob: *knob,
            value: after.value(*i, *knob),
            fallback: None,
            why: String::new(),
        };
        let writes: Vec<Write> = files.iter().map(write).collect();
        let pending = |(write, (i, knob)): (_, &(usize, Knob))| Pending {
            write,
            before: Some(before.value(*i, *knob)),
            burst_before: (*knob == Knob::Quota).then_some(before.0[*i].burst),
            burst_rule: if *knob == Knob::Quota { BurstRule::UpToQuota } else { BurstRule::Absent },
        };
        let pending: Vec<Pending<'_>> = writes.iter().zip(&files).map(pending).collect();
        let mut tree = before.clone();
        let steps = order(&pending);
        for step in &steps {
            let i = TREE.iter().position(|(path, _)| *path == step.group.path).unwrap();
            let done = tree.write(i, step.knob, &step.value);
            prop_assert_eq!(done, Ok(()), "{:?} of {:?}", step, steps);
        }
        for (i, knob) in files {
            // The weight that a group had before it was idle is read back and written again if the kernel reset it.
            let left_idle = knob == Knob::Shares && before.0[i].idle;
            if !(left_idle && before.value(i, knob) == after.value(i, knob)) {
                prop_assert_eq!(tree.value(i, knob), after.value(i, knob), "{} of {}", knob, TREE[i].0);
            }
        }
    }
}
