//! The classes: Koordinator's QoS classes, and Kubernetes' own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Koordinator QoS class. The names are matched exactly, as Koordinator does (`apis/extension/qos.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum QosClass {
    /// Latency Sensitive Exclusive: its own CPUs, shared with nobody.
    Lse,
    /// Latency Sensitive Reserved: its own CPUs; best effort may use what it leaves idle.
    Lsr,
    /// Latency Sensitive: the shared pool, with CPU burst.
    Ls,
    /// Best Effort: whatever the others leave.
    Be,
    /// System services.
    System,
}

impl QosClass {
    /// Every class, in the order of the class table.
    pub const ALL: [Self; 5] = [Self::Lse, Self::Lsr, Self::Ls, Self::Be, Self::System];

    /// The name as Koordinator writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lse => "LSE",
            Self::Lsr => "LSR",
            Self::Ls => "LS",
            Self::Be => "BE",
            Self::System => "SYSTEM",
        }
    }

    /// The name of the class's own group in the class tree (`/plimsoll/<name>`).
    pub fn group_name(self) -> &'static str {
        match self {
            Self::Lse => "latency-sensitive-exclusive",
            Self::Lsr => "latency-sensitive-reserved",
            Self::Ls => "latency-sensitive",
            Self::Be => "best-effort",
            Self::System => "system",
        }
    }

    /// Whether containers of this class have CPUs of their own.
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Lse | Self::Lsr)
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is not the name of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of LSE, LSR, LS, BE, SYSTEM")]
pub struct UnknownClass;

impl FromStr for QosClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::ALL.into_iter().find(|class| class.name() == text).ok_or(UnknownClass)
    }
}

/// Kubernetes' own QoS class, which kubelet turns into the cgroup a pod lives under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KubeQos {
    /// Requests equal limits; pods sit right under `kubepods`.
    Guaranteed,
    /// Pods sit under `kubepods/burstable`.
    Burstable,
    /// No requests, no limits; pods sit under `kubepods/besteffort`.
    BestEffort,
}

impl fmt::Display for KubeQos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}
