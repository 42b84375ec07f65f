//! What kubelet makes of a pod's resources: its QoS class, and shares, quota and memory of pod and containers
//! (`pkg/apis/core/v1/helper/qos/qos.go`, `cm/helpers_linux.go`, `kuberuntime_container_linux.go`).

use super::resources::{Amounts, CPU, Container, MEMORY, Pod};
use crate::plan::suppose::Wanted;
use crate::policy::koordinator::cpu::{PERIOD_US, UNLIMITED, milli_to_quota, milli_to_shares};
use crate::qos::KubeQos;

/// What kubelet sets for a pod or a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) time: Wanted,
    /// Bytes; -1 is no limit.
    pub(super) memory: i64,
}

/// The pod's QoS class.
pub(super) fn qos(pod: &Pod) -> KubeQos {
    let compute = [CPU, MEMORY];
    let names = |of: fn(&Container) -> &Amounts| {
        let has = |name: &str| pod.all().any(|c| of(c).get(name).is_some_and(|q| q.value() > 0));
        compute.iter().filter(|name| has(name)).count()
    };
    let (requests, limits) = (names(|c| &c.requests), names(|c| &c.limits));
    if requests == 0 && limits == 0 {
        return KubeQos::BestEffort;
    }
    let total = |of: fn(&Container) -> &Amounts, name: &str| -> i128 {
        pod.all().filter_map(|c| of(c).get(name)).map(|q| i128::from(q.milli_value())).sum()
    };
    let limited = pod.all().all(|c| compute.iter().all(|n| c.limits.get(*n).is_some_and(|q| q.value() > 0)));
    let equal = compute.iter().all(|name| total(|c| &c.requests, name) == total(|c| &c.limits, name));
    if limited && equal && requests == limits { KubeQos::Guaranteed } else { KubeQos::Burstable }
}

/// What kubelet sets for a container.
pub(super) fn container(container: &Container) -> Set {
    let (request, limit) = (milli(&container.requests), milli(&container.limits));
    // A limit without a request is the request, too.
    let shares = if request == 0 && limit != 0 { limit } else { request };
    Set {
        time: Wanted { shares: milli_to_shares(shares), quota: milli_to_quota(limit), period: PERIOD_US },
        memory: memory(&container.limits).unwrap_or(UNLIMITED),
    }
}

/// What kubelet sets for the pod's group.
pub(super) fn pod(pod: &Pod) -> Set {
    let shares = milli_to_shares(total(pod, |c| milli(&c.requests), milli(&pod.overhead)));
    let quota = milli_to_quota(total(pod, |c| milli(&c.limits), milli(&pod.overhead)));
    let bytes = |amounts: &Amounts| memory(amounts).unwrap_or(0);
    let limit = total(pod, |c| bytes(&c.limits), bytes(&pod.overhead));
    let has_cpu = pod.all().all(|c| milli(&c.limits) > 0);
    let has_memory = pod.all().all(|c| bytes(&c.limits) > 0);
    let set = |shares, quota, memory| Set { time: Wanted { shares, quota, period: PERIOD_US }, memory };
    let or_none = |has: bool, value: i64| if has { value } else { UNLIMITED };
    match qos(pod) {
        KubeQos::Guaranteed => set(shares, quota, limit),
        KubeQos::Burstable => set(shares, or_none(has_cpu, quota), or_none(has_memory, limit)),
        KubeQos::BestEffort => set(milli_to_shares(0), UNLIMITED, UNLIMITED),
    }
}

/// The most a pod needs at any time: all its containers, or one init container beside the sidecars started before it.
fn total(pod: &Pod, of: impl Fn(&Container) -> i64, overhead: i64) -> i64 {
    let (mut sidecars, mut peak) = (0i64, 0i64);
    for init in &pod.init {
        if init.is_sidecar {
            sidecars = sidecars.saturating_add(of(init));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(of(init)));
        }
    }
    let running = pod.containers.iter().fold(sidecars, |sum, c| sum.saturating_add(of(c)));
    running.max(peak).saturating_add(overhead)
}

fn milli(amounts: &Amounts) -> i64 {
    amounts.get(CPU).map_or(0, |quantity| quantity.milli_value())
}

fn memory(amounts: &Amounts) -> Option<i64> {
    amounts.get(MEMORY).map(|quantity| quantity.value()).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::plan::resources;
    use serde_json::json;

    fn pod_of(containers: serde_json::Value, init: serde_json::Value) -> Pod {
        resources::pod("test", &json!({"containers": containers, "initContainers": init})).unwrap()
    }

    fn c(requests: serde_json::Value, limits: serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn the_qos_class_is_kubernetes() {
        let full = json!({"cpu": "1", "memory": "1Gi"});
        for (containers, qos_class) in [
            (json!([c(json!({}), json!({}))]), KubeQos::BestEffort),
            (json!([c(json!({"kubernetes.io/batch-cpu": "1k"}), json!({}))]), KubeQos::BestEffort),
            (json!([c(json!({"cpu": "0"}), json!({}))]), KubeQos::BestEffort),
            (json!([c(full.clone(), full.clone())]), KubeQos::Guaranteed),
            // A limit is a request where none is given.
            (json!([c(json!({}), full.clone())]), KubeQos::Guaranteed),
            (json!([c(full.clone(), full.clone()), c(json!({}), json!({}))]), KubeQos::Burstable),
            (json!([c(json!({"cpu": "500m"}), full.clone())]), KubeQos::Burstable),
            (json!([c(json!({"cpu": 1}), json!({"cpu": 1}))]), KubeQos::Burstable),
        ] {
            assert_eq!(qos(&pod_of(containers.clone(), json!([]))), qos_class, "{containers}");
        }
    }

    #[test]
    fn shares_and_quotas_are_kubelets() {
        let one =
            pod_of(json!([c(json!({"cpu": "250m"}), json!({"cpu": "500m", "memory": "64Mi"}))]), json!([]));
        let set = container(&one.containers[0]);
        assert_eq!((set.time.shares, set.time.quota, set.memory), (256, 50_000, 67_108_864));
        let set = container(&pod_of(json!([{"name": "c"}]), json!([])).containers[0]);
        assert_eq!((set.time.shares, set.time.quota, set.memory), (2, -1, -1));
        // One container without a limit: the pod has none.
        let two = pod_of(
            json!([c(json!({"cpu": 1}), json!({"cpu": 1})), c(json!({"cpu": 1}), json!({}))]),
            json!([]),
        );
        assert_eq!((pod(&two).time.shares, pod(&two).time.quota), (2048, -1));
        assert_eq!((pod(&one).time.quota, pod(&one).memory), (50_000, 67_108_864));
    }

    #[test]
    fn init_containers_and_sidecars_count_as_long_as_they_run() {
        let work = json!([c(json!({"cpu": 1}), json!({}))]);
        let init = json!([
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
            {"name": "i", "resources": {"requests": {"cpu": 2}}},
        ]);
        assert_eq!(pod(&pod_of(work.clone(), init)).time.shares, 2560);
        let init = json!([{"name": "i", "resources": {"requests": {"cpu": "100m"}}}]);
        assert_eq!(pod(&pod_of(work, init)).time.shares, 1024);
    }
}
