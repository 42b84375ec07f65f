//! Batch resources: shares, quota and memory of BE pods and containers (`runtimehooks/hooks/batchresource`).

use serde::{Deserialize, Serialize};

use super::cpu::{UNLIMITED, milli_to_quota, milli_to_shares, normalize_quota};
use crate::annotations::resources::{BATCH_CPU, BATCH_MEMORY, Resources};
use crate::annotations::{ContainerResources, ExtendedResourceSpec};

/// What limits a BE pod or container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `cpu.shares`
    pub shares: i64,
    /// The CFS quota in µs per 100 ms; −1 = none.
    pub quota_us: i64,
    /// The memory limit in bytes; −1 = none.
    pub memory_bytes: i64,
}

/// How the node treats batch quotas.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BatchRule {
    /// Whether pods have a quota of their own. Not where the node throttles the whole `besteffort` group by quota, for a
    /// child's must not exceed its parent's.
    pub cfs_quota: bool,
    /// The CPU normalization ratio of the node.
    pub ratio: Option<f64>,
}

impl Default for BatchRule {
    fn default() -> Self {
        Self { cfs_quota: true, ratio: None }
    }
}

impl BatchRule {
    /// The limits of the pod: requests and limits summed, no limit where one container has none. `None` without containers.
    /// Init containers and the pod's overhead are not counted; they are not in the annotation.
    pub fn pod(&self, spec: &ExtendedResourceSpec) -> Option<Limits> {
        if spec.containers.is_empty() {
            return None;
        }
        let containers = || spec.containers.values();
        let request =
            containers().fold(0i64, |sum, c| sum.saturating_add(amount(&c.requests, BATCH_CPU).unwrap_or(0)));
        let total = |resource| {
            containers()
                .try_fold(0i64, |sum, c| amount(&c.limits, resource).map(|limit| sum.saturating_add(limit)))
        };
        Some(self.limits(request, total(BATCH_CPU), total(BATCH_MEMORY)))
    }

    /// The limits of one container.
    pub fn container(&self, container: &ContainerResources) -> Limits {
        self.limits(
            amount(&container.requests, BATCH_CPU).unwrap_or(0),
            amount(&container.limits, BATCH_CPU),
            amount(&container.limits, BATCH_MEMORY),
        )
    }

    /// The ratio that quotas are divided by; none where there are no quotas.
    pub fn quota_ratio(&self) -> Option<f64> {
        self.ratio.filter(|_| self.cfs_quota)
    }

    fn limits(&self, request_milli: i64, limit_milli: Option<i64>, memory: Option<i64>) -> Limits {
        let quota_us = match limit_milli {
            Some(milli) if self.cfs_quota => normalize_quota(milli_to_quota(milli), self.quota_ratio()),
            _ => UNLIMITED,
        };
        Limits { shares: milli_to_shares(request_milli), quota_us, memory_bytes: memory.unwrap_or(UNLIMITED) }
    }
}

/// The amount of the resource, if it is above zero.
fn amount(resources: &Resources, name: &str) -> Option<i64> {
    resources.get(name).map(|q| q.value()).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_one_unlimited_container_is_unlimited() {
        let json = "{\"containers\":{\"a\":{\"limits\":{\"kubernetes.io/batch-cpu\":500,\"kubernetes.io/batch-memory\":\"1Gi\"},\
                    \"requests\":{\"kubernetes.io/batch-cpu\":500}},\"b\":{\"limits\":{\"kubernetes.io/batch-cpu\":\"0\"}},\"c\":null}}";
        let limits = BatchRule::default().pod(&ExtendedResourceSpec::parse(json).unwrap()).unwrap();
        assert_eq!((limits.shares, limits.quota_us, limits.memory_bytes), (512, -1, -1));
    }

    #[test]
    fn absurd_sums_do_not_overflow() {
        let json = "{\"containers\":{\"a\":{\"limits\":{\"kubernetes.io/batch-cpu\":\"9E\",\"kubernetes.io/batch-memory\":\"9E\"}},\
                    \"b\":{\"limits\":{\"kubernetes.io/batch-cpu\":\"9E\",\"kubernetes.io/batch-memory\":\"9E\"}}}}";
        let limits = BatchRule::default().pod(&ExtendedResourceSpec::parse(json).unwrap()).unwrap();
        assert_eq!((limits.memory_bytes, limits.quota_us > 0), (i64::MAX, true));
    }
}
