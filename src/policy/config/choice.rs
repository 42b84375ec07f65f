//! The keys whose value is one of a few words.

use serde::{Deserialize, Serialize};

use crate::annotations::BurstPolicy;

/// A value written as one of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every word, and what it stands for. The words are those that serde writes, too.
    const ALL: &'static [(&'static str, Self)];
}

/// Makes an enum and its words from one list.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $( $(#[doc = $doc])+ #[serde(rename = $word)] $variant, )+ }

        impl Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[ $( ($word, Self::$variant), )+ ];
        }
    };
}

choice! {
    /// What happens to a container when something could not be done for it.
    pub enum OnError {
        /// The container starts; the error is logged.
        Ignore = "ignore",
        /// The container does not start.
        Fail = "fail",
    }
}

choice! {
    /// Where a container's groups are.
    pub enum Placement {
        /// `keep` or `class-tree`, whichever this node and its kernel call for.
        Auto = "auto",
        /// The group that the engine chose.
        Keep = "keep",
        /// A group below Plimsoll's own group for the class.
        ClassTree = "class-tree",
    }
}

choice! {
    /// When a virtual machine gets a low identity.
    pub enum Boot {
        /// When its guest has answered.
        After = "after-boot",
        /// Before it is started.
        Before = "before-boot",
    }
}

choice! {
    /// How a group is made to run before or after its siblings.
    pub enum Mechanism {
        /// The best that the kernel has.
        Auto = "auto",
        /// Group Identity, `cpu.bvt_warp_ns`.
        GroupIdentity = "group-identity",
        /// `cpu.qos_level`.
        QosLevel = "qos-level",
        /// `cpu.offline`.
        Offline = "offline",
        /// `cpu.idle`.
        Idle = "idle",
        /// `cpu.shares` or `cpu.weight`.
        Weight = "weight",
        /// Nothing is written.
        None = "none",
    }
}

choice! {
    /// Whether the hook may switch Group Identity on, for the whole node.
    pub enum IdentitySwitch {
        /// Write 1 to `kernel.sched_group_identity_enabled` where it is 0.
        Enable = "enable",
        /// Leave the switch as it is.
        Leave = "leave",
    }
}

choice! {
    /// What to do about core scheduling, which excludes Group Identity.
    pub enum CoreScheduling {
        /// Leave it as it is; where it is on, Group Identity is not used.
        Leave = "leave",
        /// Write 0 to `kernel.sched_core` first.
        Disable = "disable",
    }
}

impl Choice for BurstPolicy {
    const ALL: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("auto", Self::Auto),
        ("cpuBurstOnly", Self::CpuBurstOnly),
        ("cfsQuotaBurstOnly", Self::CfsQuotaBurstOnly),
    ];
}
