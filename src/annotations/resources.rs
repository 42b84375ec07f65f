//! What the scheduler and the webhook say about a pod's resources: `scheduling.koordinator.sh/resource-status` and
//! `node.koordinator.sh/extended-resource-spec` (`apis/extension/{numa_aware,resource}.go`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::json::{CpuList, Elements, Entries, go_object, read, write_cpus};
use crate::cpuset::CpuSet;
use crate::error::Result;
use crate::quantity::Quantity;

/// Where the scheduler says which CPUs a pod has.
pub const RESOURCE_STATUS: &str = "scheduling.koordinator.sh/resource-status";
/// Where the webhook says what batch resources a pod has.
pub const EXTENDED_RESOURCES: &str = "node.koordinator.sh/extended-resource-spec";
/// The resource `batch-cpu`, in thousandths of a CPU.
pub const BATCH_CPU: &str = "kubernetes.io/batch-cpu";
/// The resource `batch-memory`, in bytes.
pub const BATCH_MEMORY: &str = "kubernetes.io/batch-memory";

/// Amounts by resource name.
pub type Resources = BTreeMap<String, Quantity>;

/// What the scheduler gave the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// CPUs of the pod's own; empty for pods of the shared pool.
    #[serde(skip_serializing_if = "CpuSet::is_empty", serialize_with = "write_cpus")]
    pub cpuset: CpuSet,
    /// The NUMA nodes the pod is bound to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa_node_resources: Vec<NumaNodeResource>,
}

/// A pod's share of one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NumaNodeResource {
    /// The NUMA node's number.
    pub node: i32,
    /// What the pod has of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: Resources,
}

go_object!(ResourceStatus {
    cpuset = "cpuset" via CpuList,
    numa_node_resources = "numaNodeResources" via Elements<NumaNodeResource>,
});

go_object!(NumaNodeResource {
    node = "node",
    resources = "resources" via Entries<Quantity>,
});

impl ResourceStatus {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Result<Self> {
        read(RESOURCE_STATUS, value)
    }

    /// Whether CPU was given by NUMA node: some node lists `cpu` or a positive `batch-cpu`.
    pub fn is_numa_aware(&self) -> bool {
        self.numa_node_resources.iter().any(|node| {
            node.resources.get("cpu").is_some_and(|cpu| !cpu.is_zero())
                || node.resources.get(BATCH_CPU).is_some_and(|cpu| cpu.value() > 0)
        })
    }
}

/// The batch resources of a pod's containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExtendedResourceSpec {
    /// By the container's name in the pod; init containers are not in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerResources>,
}

/// The batch resources of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerResources {
    /// The limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: Resources,
    /// The requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: Resources,
}

go_object!(ExtendedResourceSpec {
    containers = "containers" via Entries<ContainerResources>,
});

go_object!(ContainerResources {
    limits = "limits" via Entries<Quantity>,
    requests = "requests" via Entries<Quantity>,
});

impl ExtendedResourceSpec {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Result<Self> {
        read(EXTENDED_RESOURCES, value)
    }
}
