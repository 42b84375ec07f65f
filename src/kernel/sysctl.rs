//! The scheduler's switches below `/proc/sys/kernel`.

use super::fs::{self, Roots};
use crate::error::Result;

/// A switch in `/proc/sys/kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// `sched_group_identity_enabled`: Group Identity on (1) or off (0); absent on kernels where it is always on.
    GroupIdentity,
    /// `sched_core`: core scheduling on (1) or off (0), vendor kernels only.
    CoreScheduling,
}

impl Switch {
    /// The file's path on the node.
    pub fn path(self) -> &'static str {
        match self {
            Self::GroupIdentity => "/proc/sys/kernel/sched_group_identity_enabled",
            Self::CoreScheduling => "/proc/sys/kernel/sched_core",
        }
    }

    /// Whether the switch is on; `None` where this kernel has no such switch.
    pub fn read(self, roots: &Roots) -> Result<Option<bool>> {
        Ok(fs::read_if_there(&roots.path(self.path()))?.map(|text| text.trim() != "0"))
    }

    /// Turns the switch on or off.
    pub fn write(self, roots: &Roots, on: bool) -> Result<()> {
        fs::write(&roots.path(self.path()), if on { "1" } else { "0" })
    }
}
