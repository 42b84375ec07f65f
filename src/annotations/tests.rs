use super::*;
use crate::qos::QosClass;

fn read(pairs: &[(&str, &str)]) -> Request {
    Request::read(pairs.iter().copied())
}

fn class(pairs: &[(&str, &str)]) -> Option<(QosClass, Source)> {
    read(pairs).class.map(|claim| {
        let claim = claim.unwrap();
        (claim.class, claim.source)
    })
}

#[test]
fn a_container_without_our_annotations_asks_for_nothing() {
    let request = read(&[("io.kubernetes.cri.container-name", "app"), ("koordinator.sh/other", "{")]);
    assert!(request.is_empty() && request.first_error().is_none());
}

#[test]
fn every_dialect_names_its_classes() {
    for (key, value, wanted) in [
        ("koordinator.sh/qosClass", "LSR", Some(QosClass::Lsr)),
        ("koordinator.sh/qosClass", "SYSTEM", Some(QosClass::System)),
        ("volcano.sh/qos-level", "LC", Some(QosClass::Lse)),
        ("volcano.sh/qos-level", "HLS", Some(QosClass::Ls)),
        ("volcano.sh/qos-level", "BE", Some(QosClass::Be)),
        ("volcano.sh/preemptable", "true", Some(QosClass::Be)),
        ("volcano.sh/preemptable", "false", Some(QosClass::Ls)),
        ("katalyst.kubewharf.io/qos_level", "dedicated_cores", Some(QosClass::Lse)),
        ("katalyst.kubewharf.io/qos_level", "reclaimed_cores", Some(QosClass::Be)),
        ("qos.gocrane.io/cpu-manager", "exclusive", Some(QosClass::Lse)),
        ("qos.gocrane.io/cpu-manager", "none", None),
        (
            "io.kubernetes.cri-o.Labels",
            "{\"koordinator.sh/qosClass\":\"BE\",\"app\":\"x\"}",
            Some(QosClass::Be),
        ),
        ("io.kubernetes.cri-o.Labels", "{\"app\":\"x\"}", None),
        ("koordinator.sh/qosClass", "", None),
    ] {
        let got = class(&[(key, value)]);
        assert_eq!(got.map(|(class, _)| class), wanted, "{key}={value}");
        assert!(got.is_none_or(|(_, source)| source.key() == key));
    }
}

#[test]
fn koordinators_own_key_wins_over_the_dialects() {
    let all = [
        ("io.kubernetes.cri-o.Labels", "{\"koordinator.sh/qosClass\":\"LSE\"}"),
        ("qos.gocrane.io/cpu-manager", "exclusive"),
        ("katalyst.kubewharf.io/qos_level", "system_cores"),
        ("volcano.sh/preemptable", "true"),
        ("volcano.sh/qos-level", "LS"),
        ("koordinator.sh/qosClass", "LSR"),
    ];
    let expected = [
        Source::CrioLabels,
        Source::Crane,
        Source::Katalyst,
        Source::Rubik,
        Source::Volcano,
        Source::Koordinator,
    ];
    for (n, source) in expected.into_iter().enumerate() {
        assert_eq!(class(&all[..=n]).unwrap().1, source);
    }
}

#[test]
fn an_unknown_class_is_an_error_that_lists_the_classes() {
    for (key, value) in [
        ("koordinator.sh/qosClass", "ls"),
        ("io.kubernetes.cri-o.Labels", "{\"koordinator.sh/qosClass\":\"ls\"}"),
    ] {
        let request = read(&[(key, value), ("volcano.sh/qos-level", "BE")]);
        let error = if key == "koordinator.sh/qosClass" {
            request.first_error().unwrap().to_string()
        } else {
            assert_eq!(request.class.unwrap().unwrap().source, Source::Volcano);
            continue;
        };
        assert!(error.contains(key) && error.contains("LSE, LSR, LS, BE, SYSTEM"), "{error}");
    }
}

#[test]
fn json_is_read_as_go_reads_it() {
    let qos = CpuQos::parse("{\"ENABLE\":true,\"groupidentity\":-1,\"x\":[{}],\"schedIdle\":null}").unwrap();
    assert_eq!((qos.enable, qos.group_identity, qos.sched_idle), (Some(true), Some(-1), None));
    assert_eq!(CpuQos::parse("null").unwrap(), CpuQos::default());
    for bad in
        ["", "{} x", "[]", "{\"enable\":1}", "{\"groupIdentity\":\"2\"}", "{\"groupIdentity\":1.5}", "{"]
    {
        assert!(CpuQos::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn numbers_outside_their_range_are_errors() {
    for bad in ["{\"groupIdentity\":3}", "{\"groupIdentity\":-2}"] {
        assert!(CpuQos::parse(bad).is_err(), "{bad}");
    }
    for bad in [
        "{\"cpuBurstPercent\":0}",
        "{\"cpuBurstPercent\":10001}",
        "{\"cfsQuotaBurstPercent\":99}",
        "{\"cfsQuotaBurstPeriodSeconds\":-2}",
        "{\"policy\":\"Auto\"}",
    ] {
        let error = CpuBurst::parse(bad).unwrap_err().to_string();
        assert!(error.contains("koordinator.sh/cpuBurst"), "{error}");
    }
}

#[test]
fn values_that_are_too_long_or_hold_nul_are_errors() {
    let long = format!("{{\"x\":\"{}\"}}", "a".repeat(json::MAX_VALUE));
    for value in [long.as_str(), "{\"x\":\"\0\"}"] {
        assert!(CpuQos::parse(value).is_err());
        let request = read(&[("volcano.sh/quota-burst-time", value), ("koordinator.sh/qosClass", value)]);
        assert!(request.class.unwrap().is_err() && request.cpu_burst.unwrap().is_err());
    }
    let error = ResourceStatus::parse(&format!("{{\"cpuset\":\"{}\"}}", "x".repeat(60_000))).unwrap_err();
    assert!(error.to_string().len() < 1000);
}

#[test]
fn quantities_may_be_strings_or_numbers() {
    let json =
        "{\"numaNodeResources\":[{\"node\":1,\"resources\":{\"kubernetes.io/batch-cpu\":\"2k\"}},null]}";
    let status = ResourceStatus::parse(json).unwrap();
    assert!(status.is_numa_aware() && status.cpuset.is_empty());
    let zero = "{\"cpuset\":\"0-3\",\"numaNodeResources\":[{\"node\":1,\"resources\":{\"cpu\":0}},{\"node\":0,\"resources\":null}]}";
    let status = ResourceStatus::parse(zero).unwrap();
    assert!(!status.is_numa_aware() && status.cpuset.len() == 4);
    for bad in ["{\"cpuset\":\"3-1\"}", "{\"cpuset\":\"0-4294967295\"}", "{\"cpuset\":[1]}", "bad"] {
        assert!(ResourceStatus::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn volcano_and_rubik_bursts() {
    let burst = |pairs: &[(&str, &str)]| read(pairs).cpu_burst.map(Result::unwrap);
    let (enable, time) = (cpu_burst::VOLCANO_ENABLE, cpu_burst::VOLCANO_TIME);
    let got = burst(&[(time, "20000")]).unwrap();
    assert_eq!((got.policy, got.burst_us), (Some(BurstPolicy::CpuBurstOnly), Some(20000)));
    assert_eq!(burst(&[(enable, "true")]).unwrap().policy, Some(BurstPolicy::CpuBurstOnly));
    assert_eq!(burst(&[(enable, "false"), (time, "1")]).unwrap().policy, Some(BurstPolicy::None));
    assert_eq!(burst(&[(time, "-1")]), None);
    let koordinator = burst(&[(time, "1"), (cpu_burst::KEY, "{\"policy\":\"none\"}")]).unwrap();
    assert_eq!((koordinator.policy, koordinator.burst_us), (Some(BurstPolicy::None), None));
    for bad in [(enable, "yes"), (time, "-2"), (time, "100000001"), (time, "1ms")] {
        assert!(read(&[bad]).first_error().is_some(), "{bad:?}");
    }
}

#[test]
fn what_is_recorded_reads_back() {
    let json = "{\"cpuset\":\"0-3\",\"numaNodeResources\":[{\"node\":0,\"resources\":{\"cpu\":\"1500m\"}}]}";
    let status = ResourceStatus::parse(json).unwrap();
    assert_eq!(serde_json::to_string(&status).unwrap(), json);
    let burst = CpuBurst::parse("{\"policy\":\"auto\",\"cpuBurstPercent\":500}").unwrap();
    let text = serde_json::to_string(&burst).unwrap();
    assert_eq!(serde_json::from_str::<CpuBurst>(&text).unwrap(), burst);
    let claim = Claim { class: QosClass::Be, source: Source::Rubik };
    let text = serde_json::to_string(&claim).unwrap();
    assert_eq!(text, "{\"class\":\"BE\",\"source\":\"volcano.sh/preemptable\"}");
    assert_eq!(serde_json::from_str::<Claim>(&text).unwrap(), claim);
}
