//! The CPUs a container owns.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::apply::Done;
use crate::cpuset::CpuSet;
use crate::kernel::control::Knob;
use crate::kernel::group::Group;
use crate::plan::Level;
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
    /// The bundle of a virtual machine, which has no group before it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

impl Claim {
    /// The claim of a container that owns CPUs, by its record; `None` where it owns none.
    pub fn of(record: &Record) -> Option<Self> {
        let is_own = |done: &&Done| done.write.level == Level::Container && done.write.knob == Knob::Cpus;
        let write = &record.writes.iter().find(is_own).filter(|_| record.treatment.owns_cpus())?.write;
        Some(Self {
            owner: record.who.pod_uid.clone().unwrap_or_else(|| record.who.id.clone()),
            class: record.treatment.class,
            cpus: write.value.set()?.clone(),
            group: record.origin.cpuset.clone().unwrap_or_else(|| record.origin.cpu.clone()),
            bundle: record.who.bundle.clone().filter(|_| record.vm.is_some()),
        })
    }

    /// Whether the container is still there.
    pub fn is_live(&self) -> bool {
        self.group.exists() || super::is_bundle(self.bundle.as_deref())
    }
}
