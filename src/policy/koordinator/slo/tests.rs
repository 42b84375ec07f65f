use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn read(json: &str, pairs: &[(&str, &str)]) -> NodeSlo {
    NodeSlo::from_config_map("test", json, &labels(pairs)).unwrap()
}

const CONFIG: &str = r#"{"data": {
    "resource-qos-config": "{\"clusterStrategy\":{\"lsClass\":{\"cpuQOS\":{\"enable\":true}},\"beClass\":{\"cpuqos\":{\"enable\":true,\"groupIdentity\":0}}},\"nodeStrategies\":[{\"name\":\"a\",\"nodeSelector\":{\"matchLabels\":{\"pool\":\"a\"}},\"beClass\":{\"cpuQOS\":{\"groupIdentity\":-1}}},{\"nodeSelector\":{},\"lsClass\":{\"cpuQOS\":{\"enable\":false}}}]}",
    "cpu-burst-config": "{\"clusterStrategy\":{\"policy\":\"auto\",\"cpuBurstPercent\":200}}",
    "resource-threshold-config": "{\"clusterStrategy\":{\"enable\":true,\"cpuSuppressPolicy\":\"cfsQuota\"}}",
    "colocation-config": "not read"}}"#;

#[test]
fn the_cluster_goes_over_the_defaults_and_the_first_fitting_node_over_the_cluster() {
    let slo = read(CONFIG, &[("pool", "a")]);
    assert!(slo.ls.enable && slo.be.enable && !slo.lsr.enable);
    assert_eq!((slo.ls.group_identity, slo.be.group_identity), (2, -1));
    // A selector without terms fits every node, and only the first fit counts.
    let slo = read(CONFIG, &[("pool", "b")]);
    assert_eq!((slo.ls.enable, slo.be.group_identity), (false, 0));
}

#[test]
fn burst_and_threshold_are_merged_field_by_field() {
    let slo = read(CONFIG, &[]);
    assert_eq!(slo.burst.config.policy, Some(BurstPolicy::Auto));
    assert_eq!(
        (slo.burst.config.cpu_burst_percent, slo.burst.config.cfs_quota_burst_percent),
        (Some(200), Some(300))
    );
    assert!(!slo.batch_cfs_quota());
    assert_eq!(slo.threshold.cpu_suppress_threshold_percent, 65);
}

#[test]
fn nothing_configured_is_the_defaults() {
    for json in ["{}", "{\"data\":{}}", "{\"resource-qos-config\":\"{}\"}", "{\"resource-qos-config\":null}"]
    {
        assert_eq!(read(json, &[]), NodeSlo::default(), "{json}");
    }
    assert!(!NodeSlo::default().identity_rule().enabled && NodeSlo::default().batch_cfs_quota());
}

#[test]
fn what_cannot_be_meant_is_an_error_that_names_the_key() {
    for (json, word) in [
        ("", "test"),
        ("[]", "test"),
        (r#"{"resource-qos-config": "{"}"#, RESOURCE_QOS),
        (
            r#"{"resource-qos-config": {"clusterStrategy":{"beClass":{"cpuQOS":{"groupIdentity":9}}}}}"#,
            "groupIdentity",
        ),
        (r#"{"cpu-burst-config": {"clusterStrategy":{"policy":"often"}}}"#, CPU_BURST),
        (r#"{"cpu-burst-config": {"clusterStrategy":{"cpuBurstPercent":-5}}}"#, "cpuBurstPercent"),
    ] {
        let error = NodeSlo::from_config_map("test", json, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(word), "{json}: {error}");
    }
}

#[test]
fn selectors_with_expressions() {
    let fits = |expression: &str, pairs: &[(&str, &str)]| {
        let json = format!(
            r#"{{"resource-qos-config":{{"nodeStrategies":[{{"nodeSelector":{{"matchExpressions":[{expression}]}},"lsClass":{{"cpuQOS":{{"enable":true}}}}}}]}}}}"#
        );
        read(&json, pairs).ls.enable
    };
    let (a, none) = (&[("k", "a")][..], &[][..]);
    for (expression, on_a, on_none) in [
        (r#"{"key":"k","operator":"In","values":["a","b"]}"#, true, false),
        (r#"{"key":"k","operator":"NotIn","values":["a"]}"#, false, true),
        (r#"{"key":"k","operator":"Exists"}"#, true, false),
        (r#"{"key":"k","operator":"DoesNotExist"}"#, false, true),
        (r#"{"key":"k","operator":"Near","values":["a"]}"#, false, false),
    ] {
        assert_eq!((fits(expression, a), fits(expression, none)), (on_a, on_none), "{expression}");
    }
}
