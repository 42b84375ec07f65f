//! What a ConfigMap may hold for each key, every field of it optional, and which of its strategies count for a node.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::annotations::cpu_burst::PolicyText;
use crate::annotations::json::{Elements, Entries, go_object};
use crate::annotations::{BurstPolicy, CpuBurst, CpuQos};
use crate::error::{Error, Result};

/// The strategies under a key that count for the node, the weakest first.
pub(super) fn layers<T>(
    what: &str,
    data: &Value,
    key: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<T>>
where
    T: for<'de> Deserialize<'de> + Default,
{
    let bad = |e: serde_json::Error| Error::invalid(format!("{what}, {key}"), e.to_string());
    let parsed;
    let config = match data.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Value>(text).map_err(bad)?;
            &parsed
        }
        Some(config) => config,
    };
    let config = Option::<Strategies>::deserialize(config).map_err(bad)?.unwrap_or_default();
    let mut layers = Vec::new();
    if !config.cluster.is_null() {
        layers.push(T::deserialize(&config.cluster).map_err(bad)?);
    }
    for node in &config.nodes {
        let selector = NodeSelection::deserialize(node).map_err(bad)?;
        if selector.node_selector.is_some_and(|selector| selector.fits(labels)) {
            layers.push(T::deserialize(node).map_err(bad)?);
            break;
        }
    }
    Ok(layers)
}

#[derive(Default)]
struct Strategies {
    cluster: Value,
    nodes: Vec<Value>,
}

go_object!(Strategies {
    cluster = "clusterStrategy",
    nodes = "nodeStrategies",
});

#[derive(Default)]
struct NodeSelection {
    node_selector: Option<Selector>,
}

go_object!(NodeSelection {
    node_selector = "nodeSelector",
});

/// A Kubernetes label selector; without terms it fits every node.
#[derive(Default)]
struct Selector {
    labels: BTreeMap<String, String>,
    expressions: Vec<Expression>,
}

go_object!(Selector {
    labels = "matchLabels" via Entries<String>,
    expressions = "matchExpressions" via Elements<Expression>,
});

#[derive(Default)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

go_object!(Expression {
    key = "key",
    operator = "operator",
    values = "values",
});

impl Selector {
    /// Whether all terms hold; a term that Kubernetes refuses holds nowhere.
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|e| {
                let value = labels.get(&e.key);
                let listed = value.is_some_and(|value| e.values.contains(value));
                match (e.operator.as_str(), e.values.is_empty()) {
                    ("In", false) => listed,
                    ("NotIn", false) => !listed,
                    ("Exists", true) => value.is_some(),
                    ("DoesNotExist", true) => value.is_none(),
                    _ => false,
                }
            })
    }
}

#[derive(Default)]
pub(super) struct QosStrategy {
    pub(super) policies: Policies,
    pub(super) lsr_class: ClassLayer,
    pub(super) ls_class: ClassLayer,
    pub(super) be_class: ClassLayer,
    pub(super) system_class: ClassLayer,
}

go_object!(QosStrategy {
    policies = "policies",
    lsr_class = "lsrClass",
    ls_class = "lsClass",
    be_class = "beClass",
    system_class = "systemClass",
});

#[derive(Default)]
pub(super) struct Policies {
    pub(super) cpu_policy: Option<String>,
}

go_object!(Policies {
    cpu_policy = "cpuPolicy",
});

#[derive(Default)]
pub(super) struct ClassLayer {
    pub(super) cpu_qos: CpuQos,
}

go_object!(ClassLayer {
    cpu_qos = "cpuQOS",
});

#[derive(Default)]
pub(super) struct BurstLayer {
    pub(super) policy: Option<BurstPolicy>,
    pub(super) cpu_burst_percent: Option<i64>,
    pub(super) cfs_quota_burst_percent: Option<i64>,
    pub(super) cfs_quota_burst_period_seconds: Option<i64>,
    pub(super) share_pool_threshold_percent: Option<i64>,
}

go_object!(BurstLayer {
    policy = "policy" via PolicyText,
    cpu_burst_percent = "cpuBurstPercent",
    cfs_quota_burst_percent = "cfsQuotaBurstPercent",
    cfs_quota_burst_period_seconds = "cfsQuotaBurstPeriodSeconds",
    share_pool_threshold_percent = "sharePoolThresholdPercent",
});

impl BurstLayer {
    pub(super) fn config(&self) -> CpuBurst {
        CpuBurst {
            policy: self.policy,
            cpu_burst_percent: self.cpu_burst_percent,
            cfs_quota_burst_percent: self.cfs_quota_burst_percent,
            cfs_quota_burst_period_seconds: self.cfs_quota_burst_period_seconds,
            burst_us: None,
        }
    }
}

#[derive(Default)]
pub(super) struct ThresholdLayer {
    pub(super) enable: Option<bool>,
    pub(super) cpu_suppress_threshold_percent: Option<i64>,
    pub(super) cpu_suppress_policy: Option<String>,
    pub(super) memory_evict_threshold_percent: Option<i64>,
    pub(super) cpu_evict_policy: Option<String>,
}

go_object!(ThresholdLayer {
    enable = "enable",
    cpu_suppress_threshold_percent = "cpuSuppressThresholdPercent",
    cpu_suppress_policy = "cpuSuppressPolicy",
    memory_evict_threshold_percent = "memoryEvictThresholdPercent",
    cpu_evict_policy = "cpuEvictPolicy",
});
