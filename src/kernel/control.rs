//! One control file, one [`Knob`]: its name on either hierarchy, its range, its parse and its print.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};

/// The version of the hierarchy a controller is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// cgroup v1: a hierarchy per controller.
    V1,
    /// cgroup v2: the unified hierarchy.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// A controller whose files Plimsoll writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Shares, quota, burst, idle and every identity.
    Cpu,
    /// CPUs and memory nodes.
    Cpuset,
    /// The memory limit.
    Memory,
}

impl Controller {
    /// Every controller, in the order groups are made.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cpuset, Self::Memory];

    /// The name in `/proc/<pid>/cgroup` and `cgroup.controllers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
        }
    }
}

/// What one control file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knob {
    /// `cpu.bvt_warp_ns`, Group Identity: -2..=2.
    BvtWarp,
    /// `cpu.priority`, Group Identity 2.0: -1..=1.
    Priority,
    /// `cpu.identity` of Group Identity 2.0: -1 expellee, 0 normal, 1 expeller.
    Expel,
    /// `cpu.qos_level`: -2..=2 (openEuler knows -1 and 0 only, and never goes back to 0).
    QosLevel,
    /// `cpu.offline`: 0 or 1.
    Offline,
    /// `cpu.idle`: 0 or 1.
    Idle,
    /// `cpu.shares` (v1): 2..=262144.
    Shares,
    /// `cpu.weight` (v2): 1..=10000.
    Weight,
    /// `cpu.cfs_quota_us`, or the first field of `cpu.max`: microseconds per period, at least 1000; -1 is no limit.
    Quota,
    /// `cpu.cfs_period_us`, or the second field of `cpu.max`: 1000..=1000000 microseconds.
    Period,
    /// `cpu.cfs_burst_us`, or `cpu.max.burst`: microseconds, from 0.
    Burst,
    /// `cpuset.cpus`.
    Cpus,
    /// `cpuset.mems`.
    Mems,
    /// `memory.limit_in_bytes`, or `memory.max`: bytes; -1 is no limit.
    MemoryLimit,
}

/// A knob's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number, in the knob's unit.
    Int(i64),
    /// A list of CPUs or memory nodes.
    Set(#[serde(with = "crate::cpuset::text")] CpuSet),
}

impl Value {
    /// The number, where it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Set(_) => None,
        }
    }

    /// The set, where it is one.
    pub fn set(&self) -> Option<&CpuSet> {
        match self {
            Self::Set(set) => Some(set),
            Self::Int(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => f.pad(&n.to_string()),
            Self::Set(set) => f.pad(&set.to_string()),
        }
    }
}

/// What the kernel prints for "no memory limit" on v1: the largest page-aligned signed number. Limits this large
/// mean the same.
const V1_UNLIMITED: i64 = i64::MAX - 4095;

impl Knob {
    /// The controller the file belongs to.
    pub fn controller(self) -> Controller {
        match self {
            Self::Cpus | Self::Mems => Controller::Cpuset,
            Self::MemoryLimit => Controller::Memory,
            _ => Controller::Cpu,
        }
    }

    /// The file's name; none where that version has no such file.
    pub fn file(self, version: Version) -> Option<&'static str> {
        use Version::{V1, V2};
        Some(match (self, version) {
            (Self::BvtWarp, _) => "cpu.bvt_warp_ns",
            (Self::Priority, _) => "cpu.priority",
            (Self::Expel, _) => "cpu.identity",
            (Self::QosLevel, _) => "cpu.qos_level",
            (Self::Offline, _) => "cpu.offline",
            (Self::Idle, _) => "cpu.idle",
            (Self::Shares, V1) => "cpu.shares",
            (Self::Weight, V2) => "cpu.weight",
            (Self::Quota, V1) => "cpu.cfs_quota_us",
            (Self::Period, V1) => "cpu.cfs_period_us",
            (Self::Quota | Self::Period, V2) => "cpu.max",
            (Self::Burst, V1) => "cpu.cfs_burst_us",
            (Self::Burst, V2) => "cpu.max.burst",
            (Self::Cpus, _) => "cpuset.cpus",
            (Self::Mems, _) => "cpuset.mems",
            (Self::MemoryLimit, V1) => "memory.limit_in_bytes",
            (Self::MemoryLimit, V2) => "memory.max",
            (Self::Shares, V2) | (Self::Weight, V1) => return None,
        })
    }

    /// Whether this value makes its group idle: the kernel then takes no weight for it, and forgets the one it had.
    /// Group Identity 2.0 drives `cpu.idle` by `cpu.priority` (ANCK 6.6, `sched_group_set_priority`).
    pub fn makes_idle(self, value: &Value) -> bool {
        matches!((self, value), (Self::Idle, Value::Int(1)) | (Self::Priority, Value::Int(-1)))
    }

    /// The numbers the kernel accepts, where the knob is a number (`facts`: kernel documentation, measured on 6.18).
    pub fn range(self) -> Option<(i64, i64)> {
        // 2^44 - 1 microseconds is the scheduler's largest runtime.
        const MAX_RUNTIME: i64 = (1 << 44) - 1;
        Some(match self {
            Self::BvtWarp | Self::QosLevel => (-2, 2),
            Self::Priority | Self::Expel => (-1, 1),
            Self::Offline | Self::Idle => (0, 1),
            Self::Shares => (2, 262_144),
            Self::Weight => (1, 10_000),
            Self::Quota => (-1, MAX_RUNTIME),
            Self::Period => (1_000, 1_000_000),
            Self::Burst => (0, MAX_RUNTIME),
            Self::MemoryLimit => (-1, V1_UNLIMITED),
            Self::Cpus | Self::Mems => return None,
        })
    }

    /// Whether the kernel could accept the value at all.
    pub fn accepts(self, value: &Value) -> bool {
        match (self.range(), value) {
            (Some((low, high)), Value::Int(n)) => {
                (low..=high).contains(n) && (self != Self::Quota || *n == -1 || *n >= 1_000)
            }
            (None, Value::Set(_)) => true,
            _ => false,
        }
    }

    /// Reads the file's text.
    pub fn parse(self, version: Version, text: &str) -> Result<Value> {
        let bad =
            || Error::invalid(format!("control file of {self}"), format!("{text:?} is not a value of it"));
        if matches!(self, Self::Cpus | Self::Mems) {
            return text.trim().parse().map(Value::Set);
        }
        let mut fields = text.split_ascii_whitespace();
        let field = match (self, version) {
            (Self::Period, Version::V2) => fields.nth(1),
            _ => fields.next(),
        };
        let number = match field.ok_or_else(bad)? {
            "max" => -1,
            digits => digits.parse::<i64>().map_err(|_| bad())?,
        };
        Ok(Value::Int(match self {
            Self::MemoryLimit if number >= V1_UNLIMITED => -1,
            // Any negative quota is no limit; the kernel prints -1.
            Self::Quota if number < 0 => -1,
            _ => number,
        }))
    }

    /// The text to write for a value.
    pub fn print(self, version: Version, value: &Value) -> String {
        match (self, version, value) {
            // A single field leaves the period as it is.
            (Self::Quota | Self::MemoryLimit, Version::V2, Value::Int(-1)) => "max".to_owned(),
            _ => value.to_string(),
        }
    }

    /// Whether `found` is what a successful write of `wanted` reads back as.
    pub fn reads_back_as(self, wanted: &Value, found: &Value) -> bool {
        match (self, wanted, found) {
            // The memory controller keeps whole pages.
            (Self::MemoryLimit, Value::Int(w), Value::Int(f)) if *w > 0 => w - w % 4096 == *f || w == f,
            _ => wanted == found,
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BvtWarp => "bvt_warp_ns",
            Self::Priority => "priority",
            Self::Expel => "identity",
            Self::QosLevel => "qos_level",
            Self::Offline => "offline",
            Self::Idle => "idle",
            Self::Shares => "shares",
            Self::Weight => "weight",
            Self::Quota => "quota",
            Self::Period => "period",
            Self::Burst => "burst",
            Self::Cpus => "cpus",
            Self::Mems => "mems",
            Self::MemoryLimit => "memory limit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_both_versions_round_trips() {
        for (knob, version, text, value) in [
            (Knob::Quota, Version::V1, "-1", Value::Int(-1)),
            (Knob::Quota, Version::V2, "max 100000", Value::Int(-1)),
            (Knob::Quota, Version::V2, "50000 100000", Value::Int(50_000)),
            (Knob::Period, Version::V2, "max 100000", Value::Int(100_000)),
            (Knob::MemoryLimit, Version::V1, "9223372036854771712", Value::Int(-1)),
            (Knob::MemoryLimit, Version::V2, "max", Value::Int(-1)),
            (Knob::BvtWarp, Version::V1, "-1", Value::Int(-1)),
            (Knob::Cpus, Version::V2, "", Value::Set(CpuSet::new())),
        ] {
            assert_eq!(knob.parse(version, text).unwrap(), value, "{knob} {version}");
        }
        assert_eq!(Knob::Quota.print(Version::V2, &Value::Int(-1)), "max");
        assert_eq!(Knob::Quota.print(Version::V1, &Value::Int(-1)), "-1");
        assert!(Knob::Quota.parse(Version::V1, "abc").is_err());
        assert!(Knob::Quota.parse(Version::V1, "").is_err());
        assert!(Knob::Period.parse(Version::V2, "max").is_err());
    }

    #[test]
    fn ranges_are_the_kernels() {
        for (knob, good, bad) in [
            (Knob::BvtWarp, vec![-2, 2], vec![-3, 3]),
            (Knob::Idle, vec![0, 1], vec![-1, 2]),
            (Knob::Shares, vec![2, 262_144], vec![1, 262_145]),
            (Knob::Quota, vec![-1, 1_000], vec![0, 999, -2]),
            (Knob::Burst, vec![0], vec![-1, 1 << 44]),
        ] {
            for n in good {
                assert!(knob.accepts(&Value::Int(n)), "{knob} {n}");
            }
            for n in bad {
                assert!(!knob.accepts(&Value::Int(n)), "{knob} {n}");
            }
        }
        assert!(!Knob::Cpus.accepts(&Value::Int(1)));
    }

    #[test]
    fn a_memory_limit_reads_back_in_whole_pages() {
        let wanted = Value::Int(1_000_000_000);
        assert!(Knob::MemoryLimit.reads_back_as(&wanted, &Value::Int(999_997_440)));
        assert!(!Knob::MemoryLimit.reads_back_as(&wanted, &Value::Int(999_993_344)));
        assert!(!Knob::Quota.reads_back_as(&Value::Int(5_000), &Value::Int(4_096)));
    }
}
