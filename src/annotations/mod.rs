//! What a container asks for, read from its annotations. They are hostile input: sizes are bounded, nothing in them
//! becomes a path, and each part that is wrong is an error that names its annotation while the others stand.

pub mod class;
pub mod cpu_burst;
pub mod cpu_qos;
pub mod json;
pub mod node;
pub mod priority;
pub mod resources;

pub use class::{Claim, Source};
pub use cpu_burst::{BurstPolicy, CpuBurst};
pub use cpu_qos::CpuQos;
pub use resources::{ContainerResources, ExtendedResourceSpec, ResourceStatus};

use crate::error::{Error, Result};
use crate::qos::QosClass;

/// Every annotation of a pod that asks for something. What an engine must let through to the runtime.
pub const KEYS: [&str; 12] = [
    Source::Koordinator.key(),
    cpu_qos::KEY,
    cpu_burst::KEY,
    resources::RESOURCE_STATUS,
    resources::EXTENDED_RESOURCES,
    Source::Volcano.key(),
    Source::Rubik.key(),
    cpu_burst::VOLCANO_ENABLE,
    cpu_burst::VOLCANO_TIME,
    Source::Katalyst.key(),
    Source::Crane.key(),
    // CRI-O's copy of the labels is no annotation of the pod's, but counts where it is.
    Source::CrioLabels.key(),
];

/// What a container asks for. A part is `None` where its annotation is not there.
#[derive(Debug, Default)]
pub struct Request {
    /// The class.
    pub class: Option<Result<Claim>>,
    /// The pod's own CPU identity.
    pub cpu_qos: Option<Result<CpuQos>>,
    /// The pod's own burst.
    pub cpu_burst: Option<Result<CpuBurst>>,
    /// What the scheduler gave the pod.
    pub resource_status: Option<Result<ResourceStatus>>,
    /// The pod's batch resources.
    pub extended: Option<Result<ExtendedResourceSpec>>,
}

impl Request {
    /// Reads a container's annotations in one pass. Where a key occurs twice, the last counts.
    pub fn read<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut class = class::Values::default();
        let (mut cpu_qos, mut cpu_burst, mut status, mut extended) = (None, None, None, None);
        let (mut burst_enable, mut burst_time) = (None, None);
        for (key, value) in annotations {
            match key {
                cpu_qos::KEY => cpu_qos = Some(value),
                cpu_burst::KEY => cpu_burst = Some(value),
                cpu_burst::VOLCANO_ENABLE => burst_enable = Some(value),
                cpu_burst::VOLCANO_TIME => burst_time = Some(value),
                resources::RESOURCE_STATUS => status = Some(value),
                resources::EXTENDED_RESOURCES => extended = Some(value),
                _ => {
                    if let Some(source) = Source::ALL.into_iter().find(|source| source.key() == key) {
                        class.set(source, value);
                    }
                }
            }
        }
        Self {
            class: class.claim(),
            cpu_qos: cpu_qos.map(CpuQos::parse),
            cpu_burst: match cpu_burst {
                Some(value) => Some(CpuBurst::parse(value)),
                None => CpuBurst::from_volcano(burst_enable, burst_time).transpose(),
            },
            resource_status: status.map(ResourceStatus::parse),
            extended: extended.map(ExtendedResourceSpec::parse),
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.class.is_none()
            && self.cpu_qos.is_none()
            && self.cpu_burst.is_none()
            && self.resource_status.is_none()
            && self.extended.is_none()
    }

    /// The class, where one is claimed that can be read.
    pub fn claimed_class(&self) -> Option<QosClass> {
        self.class.as_ref()?.as_ref().ok().map(|claim| claim.class)
    }

    /// The first part that could not be read.
    pub fn first_error(&self) -> Option<&Error> {
        fn error<T>(part: Option<&Result<T>>) -> Option<&Error> {
            part.and_then(|part| part.as_ref().err())
        }
        error(self.class.as_ref())
            .or_else(|| error(self.cpu_qos.as_ref()))
            .or_else(|| error(self.cpu_burst.as_ref()))
            .or_else(|| error(self.resource_status.as_ref()))
            .or_else(|| error(self.extended.as_ref()))
    }
}

#[cfg(test)]
mod tests;
