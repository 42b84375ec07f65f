//! What others write: on both trees, and the kernel must answer the same but for the named rules.

use nix::errno::Errno;
use plimsoll::kernel::control::{Knob, Value};

use super::state::{Model, int, parent};
use super::world::{Check, World};

/// Where a write may be refused because of Plimsoll, and only while a treatment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A quota below a burst of ours.
    QuotaBelowOurBurst,
    /// Shares of a group that is idle because of us: a pod's, or a container's own outside Kubernetes.
    SharesOfOurIdle,
    /// A quota, period or burst that does not fit into a quota of ours (batch-cpu) at its own group or around it.
    BesideOurQuota,
    /// A pod's CPUs without those that a container of it was given.
    PodWithoutOurCpus,
    /// Not refused with us although it is without: what we took away or lowered cannot stand in the way.
    Looser,
}

impl World<'_> {
    /// One foreign write. A value that Plimsoll wants there, or wanted just before, is left out: nobody could tell
    /// whose it is.
    pub(crate) fn foreign(&mut self, rel: &str, knob: Knob, value: &Value) -> Check {
        if self
            .model
            .cover(rel, knob)
            .is_some_and(|c| [&c.wanted, &c.earlier].contains(&&Some(value.clone())))
        {
            return Ok(());
        }
        self.stats.ops += 1;
        let (ours, theirs) = (self.model.with(rel, knob), self.model.without(rel, knob));
        let with = self.with.write(rel, knob, value);
        let without = self.without.write(rel, knob, value);
        match (with, without) {
            (Ok(()), Ok(())) => self.model.written(rel, knob, value),
            (Err(a), Err(b)) if a == b => {}
            (Err(errno), Ok(())) => {
                match self.model.named(rel, knob, value, errno) {
                    Some(rule) => self.stats.rule(rule),
                    None if self.is_dying(rel, knob) => {}
                    None => return Err(format!("{knob} {value} of {rel}: {errno} because of Plimsoll")),
                }
                self.undo(rel, knob, &theirs, false)?;
            }
            (Ok(()), Err(errno)) => {
                match self.model.is_looser(rel, knob) {
                    true => self.stats.rule(Rule::Looser),
                    false if self.is_dying(rel, knob) => {}
                    false => return Err(format!("{knob} {value} of {rel}: {errno} only without Plimsoll")),
                }
                self.undo(rel, knob, &ours, true)?;
            }
            (Err(a), Err(b)) => {
                return Err(format!("{knob} {value} of {rel}: {a} with Plimsoll, {b} without"));
            }
        }
        self.check_group(rel)
    }

    /// The kernel lets go of a removed group's quota when it pleases, on either side.
    fn is_dying(&self, rel: &str, knob: Knob) -> bool {
        matches!(knob, Knob::Quota | Knob::Period) && self.model.is_dying_in(rel)
    }

    /// Takes the half of a write back that only one tree took, so that both have seen the same.
    fn undo(&mut self, rel: &str, knob: Knob, old: &Value, with: bool) -> Check {
        let side = if with { &self.with } else { &self.without };
        side.write(rel, knob, old).map_err(|errno| format!("taking back {knob} {old} of {rel}: {errno}"))
    }
}

impl Model {
    /// A write that both trees took.
    fn written(&mut self, rel: &str, knob: Knob, value: &Value) {
        let was = (self.with(rel, knob), self.without(rel, knob));
        let key = (rel.to_owned(), knob);
        if let Some(cover) = self.covers.get_mut(&key) {
            cover.value = value.clone();
        }
        self.twin.get_mut(rel).unwrap().insert(knob, value.clone());
        if knob == Knob::Idle {
            // The kernel: an idle group has 3 shares, and one that no longer is has 1024.
            let shares = Value::Int(if *value == Value::Int(1) { 3 } else { 1024 });
            if was.1 != *value {
                self.twin.get_mut(rel).unwrap().insert(Knob::Shares, shares.clone());
            }
            if was.0 != *value {
                if let Some(cover) = self.covers.get_mut(&(rel.to_owned(), Knob::Shares)) {
                    cover.value = shares;
                }
            }
        }
    }

    /// The rule that lets the kernel refuse this with Plimsoll and not without.
    fn named(&self, rel: &str, knob: Knob, value: &Value, errno: Errno) -> Option<Rule> {
        match (knob, errno) {
            (Knob::Shares, Errno::EINVAL) => {
                let idle = self.cover(rel, Knob::Idle)?;
                let is_pod = self.pods.iter().flatten().any(|pod| pod.rel == rel);
                let ours = idle.wanted == Some(Value::Int(1)) && idle.value == Value::Int(1);
                (ours && (is_pod || parent(rel).is_empty())).then_some(Rule::SharesOfOurIdle)
            }
            (Knob::Quota, Errno::EINVAL) => {
                let burst = self.cover(rel, Knob::Burst);
                if int(value) > 0 && burst.is_some_and(|burst| int(&burst.value) > int(value)) {
                    return Some(Rule::QuotaBelowOurBurst);
                }
                self.has_our_quota_around(rel).then_some(Rule::BesideOurQuota)
            }
            (Knob::Period, Errno::EINVAL) => self.has_our_quota_around(rel).then_some(Rule::BesideOurQuota),
            (Knob::Burst, Errno::EINVAL) => {
                let quota = self.cover(rel, Knob::Quota)?;
                (int(&quota.value) > 0 && int(&quota.value) < int(value)).then_some(Rule::BesideOurQuota)
            }
            (Knob::Cpus, Errno::EBUSY) => {
                let set = value.set()?;
                let pinned =
                    self.twin.keys().filter(|child| parent(child) == rel).any(|child| {
                        self.cover(child, Knob::Cpus).is_some() && !self.cpus(child).is_subset(set)
                    });
                pinned.then_some(Rule::PodWithoutOurCpus)
            }
            _ => None,
        }
    }

    /// Whether a quota of ours that limits something is at the group, above it or in it.
    fn has_our_quota_around(&self, rel: &str) -> bool {
        let ours = |group: &str| {
            self.cover(group, Knob::Quota)
                .is_some_and(|c| int(&c.value) > 0 && c.value != self.without(group, Knob::Quota))
        };
        let mut above = rel;
        while !above.is_empty() {
            if ours(above) {
                return true;
            }
            above = parent(above);
        }
        self.subtree(rel).any(|group| ours(group))
    }

    /// Whether a value that this write depends on differs between the trees.
    fn is_looser(&self, rel: &str, knob: Knob) -> bool {
        let differs = |group: &str, knob| self.with(group, knob) != self.without(group, knob);
        let mut above = vec![rel];
        while !above[above.len() - 1].is_empty() {
            above.push(parent(above[above.len() - 1]));
        }
        let quotas = || {
            above
                .iter()
                .copied()
                .chain(self.subtree(rel).map(String::as_str))
                .any(|g| differs(g, Knob::Quota))
        };
        match knob {
            Knob::Quota => differs(rel, Knob::Burst) || quotas(),
            Knob::Period => quotas(),
            Knob::Burst => differs(rel, Knob::Quota),
            Knob::Shares => differs(rel, Knob::Idle),
            Knob::Cpus => self.subtree(rel).any(|group| group != rel && differs(group, Knob::Cpus)),
            _ => false,
        }
    }
}
