//! A node's QoS configuration: the `slo-controller-config` ConfigMap over Koordinator's defaults
//! (`pkg/util/sloconfig/nodeslo_config.go`, `pkg/slo-controller/nodeslo/resource_strategy.go`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use self::layers::{BurstLayer, QosStrategy, ThresholdLayer, layers};
use super::identity::IdentityRule;
use crate::annotations::json::in_range;
use crate::annotations::{BurstPolicy, CpuBurst};
use crate::error::{Error, Result};

mod layers;

/// The key of the CPU identities.
pub const RESOURCE_QOS: &str = "resource-qos-config";
/// The key of the burst.
pub const CPU_BURST: &str = "cpu-burst-config";
/// The key of the water-line.
pub const RESOURCE_THRESHOLD: &str = "resource-threshold-config";

/// The largest ConfigMap that is read, in bytes; Kubernetes' own bound.
pub const MAX_CONFIG: usize = 1024 * 1024;

/// How the node keeps classes apart on the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CpuPolicy {
    /// Group Identity, the default.
    #[default]
    GroupIdentity,
    /// Core scheduling and `cpu.idle`.
    CoreSched,
    /// Something Koordinator does not know either; no identities.
    Other,
}

/// A class's CPU settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassCpuQos {
    /// Whether they count.
    pub enable: bool,
    /// The Group Identity, −1..=2.
    pub group_identity: i64,
    /// `cpu.idle`, 0 or 1; with core scheduling only.
    pub sched_idle: i64,
    /// Whether idle neighbours are expelled from the core; with core scheduling only.
    pub core_expeller: bool,
}

/// The node's burst settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BurstStrategy {
    /// What pods get that do not say otherwise; every field but `burst_us` is set.
    #[serde(flatten)]
    pub config: CpuBurst,
    /// How full the shared pool may be before raised quotas are taken back, in percent.
    pub share_pool_threshold_percent: i64,
}

/// The water-line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdStrategy {
    /// Whether it counts.
    pub enable: bool,
    /// How full the node's CPUs may be in percent; best effort gets what is left.
    pub cpu_suppress_threshold_percent: i64,
    /// `cpuset` or `cfsQuota`.
    pub cpu_suppress_policy: String,
    /// How full memory may be in percent before best effort is evicted.
    pub memory_evict_threshold_percent: i64,
    /// `evictByRealLimit` or `evictByAllocatable`.
    pub cpu_evict_policy: String,
}

/// What Koordinator's configuration says about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSlo {
    /// How classes are kept apart.
    pub cpu_policy: CpuPolicy,
    /// LSE and LSR.
    pub lsr: ClassCpuQos,
    /// LS.
    pub ls: ClassCpuQos,
    /// BE.
    pub be: ClassCpuQos,
    /// SYSTEM.
    pub system: ClassCpuQos,
    /// The burst.
    pub burst: BurstStrategy,
    /// The water-line.
    pub threshold: ThresholdStrategy,
}

impl Default for NodeSlo {
    fn default() -> Self {
        let class = |group_identity, core_expeller| ClassCpuQos {
            enable: false,
            group_identity,
            sched_idle: 0,
            core_expeller,
        };
        Self {
            cpu_policy: CpuPolicy::GroupIdentity,
            lsr: class(2, true),
            ls: class(2, true),
            be: class(-1, false),
            system: class(0, false),
            burst: BurstStrategy {
                config: CpuBurst {
                    policy: Some(BurstPolicy::None),
                    cpu_burst_percent: Some(1000),
                    cfs_quota_burst_percent: Some(300),
                    cfs_quota_burst_period_seconds: Some(-1),
                    burst_us: None,
                },
                share_pool_threshold_percent: 50,
            },
            threshold: ThresholdStrategy {
                enable: false,
                cpu_suppress_threshold_percent: 65,
                cpu_suppress_policy: "cpuset".to_owned(),
                memory_evict_threshold_percent: 70,
                cpu_evict_policy: "evictByRealLimit".to_owned(),
            },
        }
    }
}

impl NodeSlo {
    /// Reads the ConfigMap (the whole object, or its `data`) for a node with these labels: defaults, under the cluster's
    /// strategy, under the first node strategy whose selector fits. `what` names the file in errors.
    pub fn from_config_map(what: &str, json: &str, labels: &BTreeMap<String, String>) -> Result<Self> {
        if json.len() > MAX_CONFIG {
            return Err(Error::invalid(what, format!("{} bytes are more than {MAX_CONFIG}", json.len())));
        }
        let root: Value = serde_json::from_str(json).map_err(|e| Error::invalid(what, e.to_string()))?;
        let data = root.get("data").filter(|data| data.is_object()).unwrap_or(&root);
        if !data.is_object() {
            return Err(Error::invalid(what, "not a ConfigMap or its data"));
        }
        let mut slo = Self::default();
        for strategy in layers::<QosStrategy>(what, data, RESOURCE_QOS, labels)? {
            slo.merge_qos(&strategy);
        }
        for strategy in layers::<BurstLayer>(what, data, CPU_BURST, labels)? {
            slo.burst.config = strategy.config().over(&slo.burst.config);
            set(&mut slo.burst.share_pool_threshold_percent, strategy.share_pool_threshold_percent);
        }
        for strategy in layers::<ThresholdLayer>(what, data, RESOURCE_THRESHOLD, labels)? {
            slo.merge_threshold(strategy);
        }
        slo.check().map_err(|why| Error::invalid(what, why))?;
        Ok(slo)
    }

    /// Which identity goes where.
    pub fn identity_rule(&self) -> IdentityRule {
        IdentityRule::from_slo(self)
    }

    /// Whether BE pods have quotas of their own: not where the whole `besteffort` group is throttled by quota.
    pub fn batch_cfs_quota(&self) -> bool {
        !(self.threshold.enable && self.threshold.cpu_suppress_policy == "cfsQuota")
    }

    fn merge_qos(&mut self, strategy: &QosStrategy) {
        match strategy.policies.cpu_policy.as_deref() {
            None => {}
            Some("" | "groupIdentity") => self.cpu_policy = CpuPolicy::GroupIdentity,
            Some("coreSched") => self.cpu_policy = CpuPolicy::CoreSched,
            Some(_) => self.cpu_policy = CpuPolicy::Other,
        }
        for (class, layer) in [
            (&mut self.lsr, &strategy.lsr_class),
            (&mut self.ls, &strategy.ls_class),
            (&mut self.be, &strategy.be_class),
            (&mut self.system, &strategy.system_class),
        ] {
            let qos = &layer.cpu_qos;
            set(&mut class.enable, qos.enable);
            set(&mut class.group_identity, qos.group_identity);
            set(&mut class.sched_idle, qos.sched_idle);
            set(&mut class.core_expeller, qos.core_expeller);
        }
    }

    fn merge_threshold(&mut self, layer: ThresholdLayer) {
        let threshold = &mut self.threshold;
        set(&mut threshold.enable, layer.enable);
        set(&mut threshold.cpu_suppress_threshold_percent, layer.cpu_suppress_threshold_percent);
        set(&mut threshold.memory_evict_threshold_percent, layer.memory_evict_threshold_percent);
        // Empty texts are unset in Go.
        set(&mut threshold.cpu_suppress_policy, layer.cpu_suppress_policy.filter(|p| !p.is_empty()));
        set(&mut threshold.cpu_evict_policy, layer.cpu_evict_policy.filter(|p| !p.is_empty()));
    }

    fn check(&self) -> std::result::Result<(), String> {
        for class in [&self.lsr, &self.ls, &self.be, &self.system] {
            in_range("groupIdentity", Some(class.group_identity), -1..=2)?;
        }
        self.burst.config.check()?;
        let percent = |field, value| in_range(field, Some(value), 0..=100);
        percent("sharePoolThresholdPercent", self.burst.share_pool_threshold_percent)?;
        percent("cpuSuppressThresholdPercent", self.threshold.cpu_suppress_threshold_percent)?;
        percent("memoryEvictThresholdPercent", self.threshold.memory_evict_threshold_percent)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests;
