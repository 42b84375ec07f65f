//! A treatment: everything a container is to get, before anybody looked at what this kernel can do.

use serde::{Deserialize, Serialize};

use crate::cpuset::CpuSet;
use crate::policy::config::{OnError, Placement};
use crate::policy::koordinator::batch::Limits;
use crate::qos::QosClass;

/// Which CPUs a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpusRule {
    /// Those it has.
    Keep,
    /// Exactly these: the scheduler's or the configuration's choice.
    Exact(#[serde(with = "crate::cpuset::text")] CpuSet),
    /// CPUs of its own, chosen by Plimsoll.
    Allocate,
    /// All but those that belong to LSE and LSR.
    SharedPool,
    /// All but those that belong to LSE.
    BestEffortPool,
}

/// How much CPU burst a container gets, before the kernel's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Burst {
    /// Percent of the CPU limit, 1..=10000.
    Percent(u32),
    /// Microseconds.
    Micros(i64),
}

/// What a container is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Treatment {
    /// The class.
    pub class: QosClass,
    /// What said so: an annotation's key, or the cgroup path.
    pub source: String,
    /// The identity, in the terms of `cpu.bvt_warp_ns`: -2..=2; `None` leaves it alone.
    pub identity: Option<i8>,
    /// Why this identity.
    pub identity_why: String,
    /// CPU burst; `None` leaves it alone.
    pub burst: Option<Burst>,
    /// The CPUs.
    pub cpus: CpusRule,
    /// The NUMA nodes whose part of a pool or of the free CPUs is meant; all where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<i32>,
    /// Whether container and pod lose their CFS quota because the CPUs are theirs alone.
    pub unset_quota: bool,
    /// The container's batch resources.
    pub batch: Option<Limits>,
    /// The pod's batch resources.
    pub pod_batch: Option<Limits>,
    /// Whether batch resources may loosen a limit that is there. Not everybody's: they stand in an annotation.
    #[serde(default)]
    pub may_loosen: bool,
    /// Where the groups are to be.
    pub placement: Placement,
    /// What happens on failure.
    pub on_error: OnError,
    /// What was asked for and is not given, and why.
    pub refused: Vec<String>,
}

impl Treatment {
    /// Whether the container takes CPUs out of the shared pool.
    pub fn owns_cpus(&self) -> bool {
        matches!(self.cpus, CpusRule::Exact(_) | CpusRule::Allocate)
            && !matches!(self.class, QosClass::Be | QosClass::System)
    }
}
