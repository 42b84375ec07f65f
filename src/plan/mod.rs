//! What would be written: a pure function from a treatment and what is there to a list of writes with reasons.

mod build;
mod cpus;
pub mod exclusive;
pub mod facts;
pub mod gather;
pub mod suppose;
mod tree;
mod vm;

use serde::{Deserialize, Serialize};

pub use build::build;
pub use cpus::share;
pub use tree::{Branch, Mover, TreeShape};

use crate::kernel::control::{Knob, Value};
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::Rung;
use crate::kernel::sysctl::Switch;
use crate::policy::config::Placement;
use crate::qos::QosClass;

/// Which group of the container's surroundings a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Kubernetes' own groups: `kubepods`, `burstable`, `besteffort`.
    KubeQos,
    /// The root of the class tree.
    Tree,
    /// A class's group in the class tree.
    Class,
    /// The pod's group.
    Pod,
    /// Another container that shares the CPUs.
    Neighbour,
    /// The group of what a virtual machine runs outside its own.
    Overhead,
    /// The container's own group; the machine's where a pod is one.
    Container,
}

impl Level {
    /// The name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeQos => "kube-qos",
            Self::Tree => "tree",
            Self::Class => "class",
            Self::Pod => "pod",
            Self::Neighbour => "neighbour",
            Self::Overhead => "overhead",
            Self::Container => "container",
        }
    }

    /// Whether the group outlives the container, so that its values before are kept apart from the container's record.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::Container | Self::Overhead)
    }
}

/// One value for one control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Whose group it is.
    pub level: Level,
    /// The group.
    pub group: Group,
    /// The control file.
    pub knob: Knob,
    /// The value.
    pub value: Value,
    /// What to write instead where the kernel refuses the value; once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Value>,
    /// The reason, in a few words.
    pub why: String,
}

/// A container's way into the class tree. All empty for one that the runtime has put there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeMove {
    /// The groups to make where they are missing, parents first.
    pub make: Vec<Group>,
    /// Where the container goes; by a hook `cpu` and `cpuset` only, so that memory and pids stay where others look.
    pub to: Vec<Group>,
    /// Where it came from, in the same order.
    pub from: Vec<Group>,
}

/// Everything that is to be done for one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The class.
    pub class: QosClass,
    /// `keep` or `class-tree`; never `auto`.
    pub placement: Placement,
    /// The identity mechanism.
    pub rung: Rung,
    /// Switches of the node to set first.
    pub switches: Vec<(Switch, bool)>,
    /// The move into the class tree.
    pub tree: Option<TreeMove>,
    /// The writes, in no order: `apply` knows the kernel's.
    pub writes: Vec<Write>,
    /// The container's groups after the plan is applied.
    pub groups: Groups,
    /// What this kernel or placement cannot give, and what it costs.
    pub lost: Vec<String>,
}

impl Plan {
    /// The container's values that its runtime writes too, where it is told them.
    pub fn of_runtime(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(|write| {
            let is_own = self.groups.of(write.knob.controller()) == Some(&write.group);
            write.level == Level::Container && is_own
        })
    }

    /// The value planned for a knob at a level.
    pub fn value(&self, level: Level, knob: Knob) -> Option<&Value> {
        self.writes.iter().find(|write| write.level == level && write.knob == knob).map(|write| &write.value)
    }
}
