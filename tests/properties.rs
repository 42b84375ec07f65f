//! Properties of the parsers of hostile input: they never panic, keep their bounds, and what they print reads back.

use plimsoll::annotations::node::{NodeReservation, SystemQosResource, parse_pools};
use plimsoll::annotations::{
    ContainerResources, CpuBurst, CpuQos, ExtendedResourceSpec, Request, ResourceStatus,
};
use plimsoll::container::kube::{Driver, PodGroup, container_group, pod_group};
use plimsoll::cpuset::{CpuSet, MAX_CPU};
use plimsoll::policy::koordinator::batch::BatchRule;
use plimsoll::policy::koordinator::burst::burst_us;
use plimsoll::policy::koordinator::slo::NodeSlo;
use plimsoll::qos::KubeQos;
use plimsoll::quantity::Quantity;
use proptest::prelude::*;

/// Texts near the ones that are parsed: JSON, numbers and lists with a few characters wrong.
fn near_miss() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+]?[0-9.]{0,30}[numkMGTPEieK0-9]{0,4}",
        "[0-9]{1,5}([-,][0-9]{0,11}){0,6}",
        r#"\{("(enable|groupIdentity|policy|cpuBurstPercent|cpuset|containers|numaNodeResources)":[-"0-9a-z{}\[\],:]{0,12},?){0,4}\}?"#,
        "[\\[{]{1,200}",
    ]
}

fn digits() -> impl Strategy<Value = (bool, u64, String, &'static str)> {
    let suffixes = ["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"];
    (any::<bool>(), 0..1_000_000_000_000u64, "[0-9]{0,9}", prop::sample::select(suffixes.to_vec()))
}

proptest! {
    // A failure prints its input; there is no need to keep it in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cpu_set_reads_back_as_it_was_printed(cpus in prop::collection::btree_set(0..=MAX_CPU, 0..200)) {
        let set: CpuSet = cpus.iter().copied().collect();
        let back: CpuSet = set.to_string().parse().unwrap();
        prop_assert_eq!(&back, &set);
        prop_assert_eq!(back.iter().collect::<Vec<_>>(), cpus.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_cpu_list_never_panics_or_leaves_its_bounds(text in near_miss()) {
        if let Ok(set) = text.parse::<CpuSet>() {
            prop_assert!(set.iter().all(|cpu| cpu <= MAX_CPU));
            prop_assert_eq!(&set.to_string().parse::<CpuSet>().unwrap(), &set);
        }
    }

    #[test]
    fn a_quantity_reads_back_as_it_was_printed((negative, whole, fraction, suffix) in digits()) {
        let text = format!("{}{whole}.{fraction}{suffix}", if negative { "-" } else { "" });
        let quantity: Quantity = text.parse().unwrap();
        let printed = quantity.to_string();
        prop_assert_eq!(printed.parse::<Quantity>().unwrap(), quantity, "{} printed as {}", text, printed);
        prop_assert!(!printed.contains('.'));
        let json = serde_json::to_string(&quantity).unwrap();
        prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), quantity);
    }

    #[test]
    fn whole_quantities_have_their_number_as_value(number in any::<i64>()) {
        let quantity: Quantity = number.to_string().parse().unwrap();
        prop_assert_eq!(quantity.value(), number.max(-i64::MAX));
        prop_assert_eq!(quantity.milli_value(), number.saturating_mul(1000));
    }

    #[test]
    fn a_milli_value_is_never_below_the_amount((_, whole, fraction, suffix) in digits()) {
        let quantity: Quantity = format!("{whole}.{fraction}{suffix}").parse().unwrap();
        let (value, milli) = (quantity.value(), quantity.milli_value());
        prop_assume!(milli < i64::MAX);
        prop_assert!(value.saturating_mul(1000) >= milli);
        prop_assert!((value - 1).saturating_mul(1000) < milli || value == 0);
        prop_assert_eq!(value == 0, quantity.is_zero());
    }

    #[test]
    fn a_quantity_never_panics(text in near_miss()) {
        let _ = text.parse::<Quantity>().map(|q| (q.value(), q.milli_value(), q.to_string()));
        let _ = serde_json::from_str::<Quantity>(&text);
    }

    #[test]
    fn no_annotation_panics_and_each_error_names_its_key(
        key in prop::sample::select(vec![
            "koordinator.sh/qosClass", "koordinator.sh/cpuQOS", "koordinator.sh/cpuBurst",
            "scheduling.koordinator.sh/resource-status", "node.koordinator.sh/extended-resource-spec",
            "volcano.sh/qos-level", "volcano.sh/preemptable", "volcano.sh/enable-quota-burst",
            "volcano.sh/quota-burst-time", "katalyst.kubewharf.io/qos_level", "qos.gocrane.io/cpu-manager",
            "io.kubernetes.cri-o.Labels",
        ]),
        value in near_miss(),
    ) {
        let request = Request::read([(key, value.as_str())].into_iter());
        if let Some(error) = request.first_error() {
            prop_assert!(error.to_string().contains(key));
            prop_assert!(error.to_string().chars().count() < 1000);
        }
    }

    #[test]
    fn annotations_that_are_not_ours_ask_for_nothing(key in "[a-z./]{0,30}", value in any::<String>()) {
        prop_assume!(!key.starts_with("volcano.sh/"));
        prop_assert!(Request::read([(key.as_str(), value.as_str())].into_iter()).is_empty());
    }

    #[test]
    fn what_was_read_reads_back_from_what_is_recorded(
        cpus in prop::collection::btree_set(0..=MAX_CPU, 0..20),
        milli in 0..1_000_000i64,
        percent in 1..=10_000i64,
        identity in -1..=2i64,
    ) {
        let status = ResourceStatus {
            cpuset: cpus.into_iter().collect(),
            ..ResourceStatus::default()
        };
        prop_assert_eq!(&ResourceStatus::parse(&serde_json::to_string(&status).unwrap()).unwrap(), &status);
        let amount: Quantity = format!("{milli}m").parse().unwrap();
        let spec = ExtendedResourceSpec {
            containers: [("c".to_owned(), ContainerResources {
                limits: [("kubernetes.io/batch-cpu".to_owned(), amount)].into(),
                ..ContainerResources::default()
            })].into(),
        };
        prop_assert_eq!(&ExtendedResourceSpec::parse(&serde_json::to_string(&spec).unwrap()).unwrap(), &spec);
        let burst = CpuBurst { cpu_burst_percent: Some(percent), ..CpuBurst::default() };
        prop_assert_eq!(&CpuBurst::parse(&serde_json::to_string(&burst).unwrap()).unwrap(), &burst);
        let qos = CpuQos { group_identity: Some(identity), ..CpuQos::default() };
        prop_assert_eq!(&CpuQos::parse(&serde_json::to_string(&qos).unwrap()).unwrap(), &qos);
    }

    #[test]
    fn node_annotations_and_configs_never_panic(value in near_miss()) {
        let _ = NodeReservation::parse(&value).map(|r| (r.cpus().is_ok(), r.cpu_count()));
        let _ = SystemQosResource::parse(&value);
        let _ = parse_pools("key", &value);
        let _ = NodeSlo::from_config_map("file", &value, &Default::default());
    }

    #[test]
    fn batch_limits_stay_in_the_kernels_ranges(
        cpu in any::<i64>(), memory in any::<i64>(), ratio in prop::option::of(any::<f64>()), cfs_quota in any::<bool>(),
    ) {
        let amounts = format!("{{\"kubernetes.io/batch-cpu\":{cpu},\"kubernetes.io/batch-memory\":{memory}}}");
        let json = format!("{{\"containers\":{{\"a\":{{\"limits\":{amounts},\"requests\":{amounts}}},\"b\":{{\"limits\":{amounts}}}}}}}");
        let spec = ExtendedResourceSpec::parse(&json).unwrap();
        let rule = BatchRule { cfs_quota, ratio };
        for limits in spec.containers.values().map(|c| rule.container(c)).chain(rule.pod(&spec)) {
            prop_assert!((2..=262_144).contains(&limits.shares));
            prop_assert!(limits.quota_us == -1 || limits.quota_us >= 1000);
            prop_assert!(limits.memory_bytes == -1 || limits.memory_bytes > 0);
        }
    }

    #[test]
    fn a_burst_is_never_negative(limit in any::<i64>(), percent in 1..=10_000i64) {
        let config = CpuBurst::parse(&format!("{{\"policy\":\"auto\",\"cpuBurstPercent\":{percent}}}")).unwrap();
        prop_assert!(burst_us(limit, &config) >= 0);
    }

    #[test]
    fn a_pod_is_found_in_every_path_that_was_built(
        systemd in any::<bool>(), kube in 0..3usize, uid in "[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,4}", id in "[a-f0-9]{1,64}",
        above in "(/[a-z-]{1,12}){0,3}", below in "(/[a-z-]{1,12}){0,2}",
    ) {
        let driver = if systemd { Driver::Systemd } else { Driver::Cgroupfs };
        let kube = [KubeQos::Guaranteed, KubeQos::Burstable, KubeQos::BestEffort][kube];
        let pod = pod_group(driver, kube, &uid).unwrap();
        let path = format!("{above}/{}{below}", container_group(driver, &pod, &format!("containerd://{id}")).unwrap());
        let found = PodGroup::find(&path).unwrap();
        prop_assert_eq!((&*found.uid, found.qos, found.driver), (uid.as_str(), kube, driver));
        prop_assert_eq!(found.container_id(), Some(id.as_str()));
    }

    #[test]
    fn no_cgroup_path_panics(path in "[a-z/._-]{0,60}|(/(kubepods|pod|burstable|-pod|kubepods.slice|kubepods-pod1.slice)){0,6}") {
        if let Some(found) = PodGroup::find(&path) {
            prop_assert!(path.starts_with(found.pod) && found.pod.starts_with(found.qos_group));
            prop_assert!(found.qos_group.starts_with(found.root) && !found.uid.is_empty());
        }
    }
}
