//! Which CPUs a container runs on, and whether it keeps a quota (`runtimehooks/hooks/cpuset`).

use serde::Serialize;

use crate::annotations::node::{
    BE_CPU_SHARED_POOLS, CPU_MANAGER_POLICY, CPU_SHARED_POOLS, CpuManagerPolicy, CpuSharedPool,
    SYSTEM_QOS_RESOURCE, SystemQosResource, parse_pools,
};
use crate::annotations::resources::ResourceStatus;
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::qos::{KubeQos, QosClass};

/// What to do about a container's CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpusetChoice {
    /// Leave them as they are.
    Leave,
    /// Take any pinning away: the group it is in decides.
    Inherit,
    /// Pin it to these.
    Cpus(CpuSet),
}

impl From<CpuSet> for CpusetChoice {
    fn from(cpus: CpuSet) -> Self {
        if cpus.is_empty() { Self::Inherit } else { Self::Cpus(cpus) }
    }
}

/// How the node's CPUs are shared out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpusetRule {
    /// Whether kubelet pins containers itself.
    pub kubelet_static: bool,
    /// The CPUs that are nobody's own.
    pub shared: Vec<CpuSharedPool>,
    /// The CPUs best effort may use.
    pub best_effort: Vec<CpuSharedPool>,
    /// The CPUs for SYSTEM pods.
    #[serde(serialize_with = "crate::annotations::json::write_cpus")]
    pub system: CpuSet,
}

/// What is known of a container when its CPUs are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    /// The pod's class.
    pub class: Option<QosClass>,
    /// The Kubernetes QoS of its cgroup path.
    pub kube: KubeQos,
    /// What the scheduler gave it.
    pub status: &'a ResourceStatus,
}

impl CpusetRule {
    /// The rule out of a node's annotations (`parseRule`).
    pub fn from_annotations<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let pools = |key| annotation(key).map_or(Ok(Vec::new()), |value| parse_pools(key, value));
        let manager =
            annotation(CPU_MANAGER_POLICY).map(CpuManagerPolicy::parse).transpose()?.unwrap_or_default();
        let system =
            annotation(SYSTEM_QOS_RESOURCE).map(SystemQosResource::parse).transpose()?.unwrap_or_default();
        Ok(Self {
            kubelet_static: manager.is_static(),
            shared: pools(CPU_SHARED_POOLS)?,
            best_effort: pools(BE_CPU_SHARED_POOLS)?,
            system: system.cpuset,
        })
    }

    /// A container's CPUs. `be_by_numa` is Koordinator's feature gate `BECPUManager`: pin BE pods to the NUMA nodes the
    /// scheduler chose, instead of leaving them to the water-line.
    pub fn container(&self, pod: Pod<'_>, be_by_numa: bool) -> CpusetChoice {
        if pod.status.is_numa_aware() {
            if pod.class != Some(QosClass::Be) {
                return on_nodes(&self.shared, pod.status).into();
            }
            if be_by_numa {
                return on_nodes(&self.best_effort, pod.status).into();
            }
        }
        match pod.class {
            Some(QosClass::System) if !self.system.is_empty() => CpusetChoice::Cpus(self.system.clone()),
            Some(QosClass::Ls) => self.all_shared().into(),
            _ if pod.kube == KubeQos::BestEffort => CpusetChoice::Inherit,
            _ if self.kubelet_static => CpusetChoice::Leave,
            _ => self.all_shared().into(),
        }
    }

    /// A host application's CPUs; only LS ones may have any.
    pub fn host_app(&self, class: Option<QosClass>) -> Result<CpusetChoice> {
        match class {
            Some(QosClass::Ls) => Ok(self.all_shared().into()),
            _ => Err(Error::invalid("host application", "only class LS gets CPUs")),
        }
    }

    /// All CPUs that are nobody's own.
    pub fn all_shared(&self) -> CpuSet {
        self.shared.iter().fold(CpuSet::new(), |all, pool| all.union(&pool.cpuset))
    }
}

/// A container's CPUs (`SetContainerCPUSet`): its own where the scheduler gave it some, else by the rule, where there is one.
pub fn choose(pod: Pod<'_>, rule: Option<&CpusetRule>, be_by_numa: bool) -> CpusetChoice {
    if !pod.status.cpuset.is_empty() {
        return CpusetChoice::Cpus(pod.status.cpuset.clone());
    }
    rule.map_or(CpusetChoice::Leave, |rule| rule.container(pod, be_by_numa))
}

/// Whether the quota of the pod and its containers is taken away: where the scheduler gave the pod CPUs of its own, whatever
/// its class, unless the node's configuration says to keep it. A quota would throttle them at random.
pub fn unsets_quota(status: &ResourceStatus, keep_quota: bool) -> bool {
    !keep_quota && !status.cpuset.is_empty()
}

fn on_nodes(pools: &[CpuSharedPool], status: &ResourceStatus) -> CpuSet {
    pools
        .iter()
        .filter(|pool| status.numa_node_resources.iter().any(|n| n.node == pool.node))
        .fold(CpuSet::new(), |cpus, pool| cpus.union(&pool.cpuset))
}
