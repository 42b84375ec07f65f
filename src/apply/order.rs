//! The kernel's order rules, in one place. Pure: what is there and what is wanted become a list of steps, each of
//! which the kernel accepts after the one before.
//!
//! - Burst may not be above the quota (mainline): shrink burst, then quota; grow quota, then burst. On kernels 5.14
//!   to 6.9 every write of `cpu.max` divides `cpu.max.burst` by 1000: burst is always written after it, also one that
//!   nobody asked to change.
//! - On v1 a child's quota and CPUs must fit into its parent's: grow top-down, shrink bottom-up.
//! - While a group is idle its weight cannot be written: leave idle before weights, enter it after.

use crate::cpuset::CpuSet;
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::group::Group;
use crate::plan::Write;
use crate::plan::facts::BurstRule;

/// One write the kernel is to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The group.
    pub(super) group: Group,
    /// The control file.
    pub(super) knob: Knob,
    /// The value.
    pub(super) value: Value,
    /// The planned write this step completes; none for a step that only makes way for another.
    pub(super) completes: Option<usize>,
}

/// A planned write and what its file said before.
#[derive(Clone, Debug)]
pub(super) struct Pending<'a> {
    /// The write.
    pub(super) write: &'a Write,
    /// What the file said; `None` where the group is new or the file is missing.
    pub(super) before: Option<Value>,
    /// The group's burst, for a write of the quota.
    pub(super) burst_before: Option<i64>,
    /// The bound on that burst.
    pub(super) burst_rule: BurstRule,
}

/// The order of the writes that change something.
pub(super) fn order(pending: &[Pending<'_>]) -> Vec<Step> {
    let changing: Vec<(usize, &Pending<'_>)> =
        pending.iter().enumerate().filter(|(_, p)| p.before.as_ref() != Some(&p.write.value)).collect();
    let mut steps: Vec<(Rank, Step)> = Vec::new();
    for &(index, p) in &changing {
        let step = |value: Value, completes| Step {
            group: p.write.group.clone(),
            knob: p.write.knob,
            value,
            completes,
        };
        let depth = depth(&p.write.group);
        let last = step(p.write.value.clone(), Some(index));
        match (p.write.knob, &p.write.value) {
            (knob, value) if knob.makes_idle(value) => steps.push((Rank(Phase::EnterIdle, depth), last)),
            (Knob::Idle | Knob::Priority, _) => steps.push((Rank(Phase::LeaveIdle, depth), last)),
            (Knob::Shares | Knob::Weight, _) => steps.push((Rank(Phase::Weight, depth), last)),
            (Knob::Period, _) => steps.push((Rank(Phase::Period, depth), last)),
            (Knob::Quota, Value::Int(quota)) => {
                if let Some(burst) = p.burst_before.filter(|burst| *burst > 0) {
                    let planned = final_burst(pending, &p.write.group);
                    let fits = p.burst_rule.bound(planned.unwrap_or(burst), *quota);
                    let set = Step { knob: Knob::Burst, ..step(Value::Int(fits), None) };
                    if p.burst_rule.bound(burst, *quota) < burst {
                        steps.push((Rank(Phase::LowerBurst, 0), set.clone()));
                    }
                    if planned.is_none() && p.write.group.version == Version::V2 {
                        steps.push((Rank(Phase::Burst, depth), set));
                    }
                }
                steps.push((direction(quota_grows(p.before.as_ref(), *quota), depth), last));
            }
            (Knob::Burst, _) => steps.push((Rank(Phase::Burst, depth), last)),
            (Knob::Cpus | Knob::Mems, Value::Set(wanted)) => {
                let before = p.before.as_ref().and_then(Value::set).cloned().unwrap_or_else(CpuSet::new);
                let grows = before.is_subset(wanted);
                let has_children =
                    changing.iter().any(|(_, other)| is_below(&other.write.group, &p.write.group));
                if !grows && !wanted.is_subset(&before) && has_children {
                    let both = step(Value::Set(before.union(wanted)), None);
                    steps.push((Rank(Phase::Grow, depth), both));
                }
                steps.push((direction(grows, depth), last));
            }
            _ => steps.push((Rank(Phase::Rest, depth), last)),
        }
    }
    steps.sort_by_key(|(rank, _)| *rank);
    steps.into_iter().map(|(_, step)| step).collect()
}

/// When a step comes: its phase, then its place among the phase's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(Phase, i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    LeaveIdle,
    LowerBurst,
    Period,
    Grow,
    Shrink,
    Burst,
    Weight,
    EnterIdle,
    Rest,
}

fn direction(grows: bool, depth: i64) -> Rank {
    if grows { Rank(Phase::Grow, depth) } else { Rank(Phase::Shrink, -depth) }
}

fn depth(group: &Group) -> i64 {
    group.path.bytes().fold(0, |n, b| n + i64::from(b == b'/'))
}

fn is_below(group: &Group, above: &Group) -> bool {
    group.mount == above.mount
        && group.path.strip_prefix(above.path.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn quota_grows(before: Option<&Value>, quota: i64) -> bool {
    // A new group has no limit, so any limit shrinks it.
    let before = before.and_then(Value::int).unwrap_or(-1);
    quota < 0 || (before >= 0 && quota > before)
}

fn final_burst(pending: &[Pending<'_>], group: &Group) -> Option<i64> {
    pending
        .iter()
        .find(|p| p.write.knob == Knob::Burst && p.write.group == *group)
        .and_then(|p| p.write.value.int())
}

#[cfg(test)]
mod random;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Level;

    fn write(path: &str, knob: Knob, value: Value) -> Write {
        let group = Group { version: Version::V1, mount: "/m".into(), path: path.into() };
        Write { level: Level::Container, group, knob, value, fallback: None, why: String::new() }
    }

    /// Group, knob, value wanted, value before, and the group's burst before.
    type Given<'a> = (&'a str, Knob, Value, Option<Value>, Option<i64>);

    fn ordered(given: &[Given<'_>]) -> Vec<String> {
        let writes: Vec<Write> =
            given.iter().map(|(path, knob, value, ..)| write(path, *knob, value.clone())).collect();
        let pending: Vec<Pending<'_>> = writes
            .iter()
            .zip(given)
            .map(|(write, (.., before, burst))| Pending {
                write,
                before: before.clone(),
                burst_before: *burst,
                burst_rule: BurstRule::UpToQuota,
            })
            .collect();
        order(&pending).iter().map(|s| format!("{} {}={}", s.group.path, s.knob, s.value)).collect()
    }

    fn int(n: i64) -> Value {
        Value::Int(n)
    }

    fn set(text: &str) -> Value {
        Value::Set(text.parse().unwrap())
    }

    #[test]
    fn burst_shrinks_before_the_quota_and_grows_after_it() {
        assert_eq!(
            ordered(&[
                ("/p/c", Knob::Burst, int(20_000), Some(int(40_000)), None),
                ("/p/c", Knob::Quota, int(30_000), Some(int(50_000)), Some(40_000)),
            ]),
            ["/p/c burst=20000", "/p/c quota=30000", "/p/c burst=20000"]
        );
        assert_eq!(
            ordered(&[
                ("/p/c", Knob::Burst, int(50_000), Some(int(0)), None),
                ("/p/c", Knob::Quota, int(50_000), Some(int(20_000)), Some(0)),
            ]),
            ["/p/c quota=50000", "/p/c burst=50000"]
        );
        // Nobody asked for a burst, yet the quota must fit.
        assert_eq!(
            ordered(&[("/p/c", Knob::Quota, int(30_000), Some(int(50_000)), Some(40_000))]),
            ["/p/c burst=30000", "/p/c quota=30000"]
        );
    }

    #[test]
    fn quotas_grow_top_down_and_shrink_bottom_up() {
        let both = |value: i64, before: i64| {
            ordered(&[
                ("/p/c", Knob::Quota, int(value), Some(int(before)), None),
                ("/p", Knob::Quota, int(value), Some(int(before)), None),
            ])
        };
        assert_eq!(both(-1, 10_000), ["/p quota=-1", "/p/c quota=-1"]);
        assert_eq!(both(20_000, 10_000), ["/p quota=20000", "/p/c quota=20000"]);
        assert_eq!(both(5_000, 10_000), ["/p/c quota=5000", "/p quota=5000"]);
        assert_eq!(both(5_000, -1), ["/p/c quota=5000", "/p quota=5000"]);
    }

    #[test]
    fn cpus_grow_top_down_and_shrink_bottom_up_and_move_by_way_of_both() {
        assert_eq!(
            ordered(&[
                ("/p/c", Knob::Cpus, set("2-3"), Some(set("0-1")), None),
                ("/p", Knob::Cpus, set("2-3"), Some(set("0-1")), None),
                ("/n", Knob::Cpus, set("0"), Some(set("0-3")), None),
            ]),
            ["/p cpus=0-3", "/p/c cpus=2-3", "/p cpus=2-3", "/n cpus=0"]
        );
    }

    #[test]
    fn weights_come_before_idle_and_after_leaving_it() {
        assert_eq!(
            ordered(&[
                ("/p", Knob::Idle, int(1), Some(int(0)), None),
                ("/p", Knob::Shares, int(2), Some(int(1024)), None),
            ]),
            ["/p shares=2", "/p idle=1"]
        );
        assert_eq!(
            ordered(&[
                ("/p", Knob::Shares, int(1024), Some(int(3)), None),
                ("/p", Knob::Idle, int(0), Some(int(1)), None),
            ]),
            ["/p idle=0", "/p shares=1024"]
        );
    }

    #[test]
    fn what_is_already_so_is_not_written() {
        assert!(ordered(&[("/p", Knob::BvtWarp, int(2), Some(int(2)), None)]).is_empty());
    }
}
