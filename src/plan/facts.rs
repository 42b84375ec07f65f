//! What is there before a plan is made: read from the cgroup files at the start, or supposed from a manifest.

use super::exclusive;
use crate::cpuset::CpuSet;
use crate::kernel::control::{Controller, Knob, Version};
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::Ladder;
use crate::qos::{KubeQos, QosClass};

/// How this kernel bounds CPU burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstRule {
    /// There is no burst.
    Absent,
    /// Burst must not be above the quota (mainline).
    UpToQuota,
    /// Any burst (Anolis OS and Alibaba Cloud Linux: `cpu.cfs_init_buffer_us`).
    Free,
}

impl BurstRule {
    /// How this kernel bounds burst, told by the files it gives the group.
    pub fn of(cpu: &Group) -> Self {
        if !cpu.has(Knob::Burst) {
            return Self::Absent;
        }
        let free = match cpu.version {
            Version::V1 => "cpu.cfs_init_buffer_us",
            Version::V2 => "cpu.max.init_buffer",
        };
        if cpu.dir().join(free).exists() { Self::Free } else { Self::UpToQuota }
    }

    /// The most of a wanted burst that goes with a quota, both in microseconds.
    pub fn bound(self, wanted: i64, quota: i64) -> i64 {
        match self {
            _ if quota < 0 => wanted,
            Self::UpToQuota => wanted.min(quota),
            // The scheduler's largest runtime holds for quota and burst together.
            _ => wanted.min((1 << 44) - 1 - quota),
        }
    }
}

/// A pod's surroundings in the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    /// The pod's group.
    pub groups: Groups,
    /// Kubernetes' QoS class, where the pod is under `kubepods`.
    pub kube_qos: Option<KubeQos>,
    /// `kubepods` and, unless Guaranteed, the QoS group below it; the `cpu` hierarchy.
    pub kube_groups: Vec<(KubeQos, Group)>,
    /// CFS quota, microseconds per period; -1 is no limit.
    pub quota: i64,
    /// CFS period, microseconds.
    pub period: i64,
    /// The bursts of the pod's other containers together, microseconds.
    pub other_bursts: i64,
    /// The memory limit, bytes; -1 is no limit. Read only for plans that may write it.
    pub memory: i64,
}

/// The container's CPU time as the runtime set it; all but the quota are read only for plans that need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// `cpu.shares` on v1, `cpu.weight` on v2.
    pub weight: i64,
    /// CFS quota, microseconds per period; -1 is no limit.
    pub quota: i64,
    /// Whether this kernel limits CPU time at all (`CONFIG_CFS_BANDWIDTH`).
    pub can_limit: bool,
    /// CFS period, microseconds.
    pub period: i64,
    /// CFS burst, microseconds; 0 where there is none.
    pub burst: i64,
}

/// Another container whose CPUs depend on who owns some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its container id.
    pub id: String,
    /// Its class.
    pub class: QosClass,
    /// Its `cpuset` group.
    pub group: Group,
    /// The CPUs it may have at most: those it had before Plimsoll.
    pub allowed: CpuSet,
    /// The CPUs it has now.
    pub now: CpuSet,
    /// Its other groups, with the CPUs they have now, which do not follow the group's: the one a runtime made below on
    /// cgroup v1, and a virtual machine's overhead.
    pub others: Vec<(Group, CpuSet)>,
}

/// The node's CPUs and who owns some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCpus {
    /// All that are online.
    pub online: CpuSet,
    /// Those that belong to LSE containers.
    pub lse: CpuSet,
    /// Those that belong to LSR and other pinned containers.
    pub lsr: CpuSet,
    /// Those kept for SYSTEM alone.
    pub system: CpuSet,
}

impl NodeCpus {
    /// Whether nobody owns any CPU.
    pub fn is_whole(&self) -> bool {
        self.lse.is_empty() && self.lsr.is_empty() && self.system.is_empty()
    }

    /// What containers of a class share; empty where nothing is left.
    pub fn pool(&self, class: QosClass) -> CpuSet {
        match class {
            QosClass::Be => exclusive::best_effort_pool(&self.online, &self.lse, &self.system),
            _ => exclusive::shared_pool(&self.online, &self.lse, &self.lsr, &self.system),
        }
        .unwrap_or_default()
    }
}

/// A virtual machine in place of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whether its own group is there.
    pub is_there: bool,
    /// The controllers that this group has not although it is there: on cgroup v2 the pod's need not hand them on.
    pub lacks: Vec<Controller>,
    /// Whether that group is outside its pod's, or would be.
    pub is_outside: bool,
    /// The group of what does not run in its own.
    pub overhead: Option<Groups>,
    /// The same of that one: on cgroup v2 Kata's Go runtime gives it none.
    pub overhead_lacks: Vec<Controller>,
    /// Where else its VMM is.
    pub astray: Option<String>,
}

/// What is there before a plan is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The container's groups.
    pub groups: Groups,
    /// The group below them the process really is in, where the runtime makes one.
    pub inner: Option<Groups>,
    /// The virtual machine that stands for the containers of a pod; its groups are the container's here.
    pub vm: Option<Machine>,
    /// The container's id, which names its group in the class tree: the engine's name for it need not be the only one of
    /// its kind.
    pub name: String,
    /// The pod around it.
    pub pod: Option<PodPlace>,
    /// The container's CPU time.
    pub cpu: CpuTime,
    /// The container's memory limit, bytes; -1 is no limit. Read only for plans that may write it.
    pub memory: i64,
    /// The CPUs the container may run on now, and those it was given before Plimsoll; `None` without `cpuset`.
    pub cpus: Option<CpuSet>,
    /// Whether those CPUs are only what the pod's NUMA nodes have of them.
    pub on_nodes: bool,
    /// The memory nodes the container may use, where a plan may carry them over.
    pub mems: Option<CpuSet>,
    /// The bound on burst.
    pub burst: BurstRule,
    /// The identity mechanism.
    pub ladder: Ladder,
    /// The node's CPUs.
    pub node: NodeCpus,
    /// The CPUs this container owns: honoured or allocated.
    pub own: Option<CpuSet>,
    /// Why this container gets no CPUs of its own although it should.
    pub refusal: Option<String>,
    /// The other containers whose CPUs change with that.
    pub neighbours: Vec<Neighbour>,
}
