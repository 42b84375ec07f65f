//! The CPUs a container owns.

use serde::{Deserialize, Serialize};

use crate::cpuset::CpuSet;
use crate::kernel::group::Group;
use crate::qos::QosClass;

/// A container's own CPUs. It counts only while the container's group is there, so that a claim whose hook or
/// container died is nobody's loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who shares the CPUs: the pod's uid, or the container's id outside a pod.
    pub owner: String,
    /// The container's class.
    pub class: QosClass,
    /// The CPUs.
    #[serde(with = "crate::cpuset::text")]
    pub cpus: CpuSet,
    /// The group the engine made for the container.
    pub group: Group,
}

impl Claim {
    /// Whether the container is still there.
    pub fn is_live(&self) -> bool {
        self.group.exists()
    }
}
