//! `batchresource.*`, `cpunormalization.*`, `cpuburst.*`, `cgroup.*`, `cgroup2.*`

use plimsoll::annotations::node::{CPU_NORMALIZATION_RATIO, cpu_normalization_ratio};
use plimsoll::annotations::resources::{BATCH_CPU, ContainerResources};
use plimsoll::annotations::{CpuBurst, ExtendedResourceSpec, ResourceStatus};
use plimsoll::policy::koordinator::batch::{BatchRule, Limits};
use plimsoll::policy::koordinator::burst::{burst_us, is_burstable};
use plimsoll::policy::koordinator::cpu::{
    SHARES, milli_to_quota, milli_to_shares, parse_cpu_max, parse_in_range, shares_to_weight,
    weight_to_shares,
};
use plimsoll::policy::koordinator::normalization::{adjusted_quota, is_cpu_share, is_rule_changed};
use plimsoll::policy::koordinator::slo::{NodeSlo, RESOURCE_THRESHOLD};
use plimsoll::policy::koordinator::stat::CpuStat;
use plimsoll::qos::QosClass;
use plimsoll::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::input::{NIL, Outcome, Row, class_of_labels, integer, json_text, pairs, ratio};

pub(crate) fn run(room: &str, function: &str, row: &Row<'_>) -> Outcome {
    if row.is_nil() {
        return NIL;
    }
    match (room, function) {
        ("batchresource", _) => batch(function, row),
        ("cpunormalization", _) => normalization(function, row),
        ("cpuburst", "applyCPUBurst") => apply_burst(row),
        ("cpuburst", "genPodBurstConfig") => burst_config(row),
        ("cgroup", "parseCPUStatRaw") => stat(row, CpuStat::parse_v1),
        ("cgroup2", "parseCPUStatRawV2") => stat(row, CpuStat::parse_v2),
        ("cgroup", "calcCPUThrottledRatio") => throttled(row),
        ("cgroup", f) if f.starts_with("MilliCPU") => match integer(row.get("milli")) {
            Some(milli) => {
                json!({ "cfs_quota": milli_to_quota(milli), "shares": milli_to_shares(milli) }).into()
            }
            None => Outcome::UnknownShape("no milli".to_owned()),
        },
        ("cgroup2", "parseCPUCFSQuotaV2") => or_error(parse_cpu_max(row.input.as_str().unwrap_or(""))),
        ("cgroup2", "sharesToWeight") => {
            or_error(parse_in_range("cpu.shares", &json_text(row.input), &SHARES).and_then(shares_to_weight))
        }
        ("cgroup2", "weightToShares") => match integer(row.input) {
            Some(weight) => or_error(weight_to_shares(weight)),
            None => Outcome::UnknownShape("no weight".to_owned()),
        },
        // Raised quotas, memory and usage figures are the agent's.
        _ => Outcome::NotBuilt,
    }
}

fn or_error(result: plimsoll::error::Result<i64>) -> Outcome {
    result.map_or_else(|_| json!("error"), |value| json!(value)).into()
}

fn batch(function: &str, row: &Row<'_>) -> Outcome {
    match function {
        "isPodQoSBEByAttr" => json!(class_of_labels(row.get("labels")) == Some(QosClass::Be)).into(),
        "SetPodResources" => written(limits(row, |rule, spec| rule.pod(spec))),
        "SetContainerResources" => written(limits(row, |rule, spec| {
            spec.containers.get(row.text("container")).map(|container| rule.container(container))
        })),
        "parseRuleForNodeSLO" => {
            let quota = match slo_quota(row.get("nodeSLO")) {
                Ok(quota) => quota,
                Err(e) => return Outcome::UnknownShape(e.to_string()),
            };
            let before = row.get("rule").get("cfsQuotaEnabled").and_then(Value::as_bool);
            json!({ "updated": before != Some(quota), "cfsQuotaEnabled": quota }).into()
        }
        "parseRuleForNodeMeta" => node_meta(row),
        "ruleUpdateCbForNodeSLO" => {
            let pod = quota(row, |rule, spec| rule.pod(spec));
            let container =
                quota(row, |rule, spec| spec.containers.values().next().map(|c| rule.container(c)));
            let initial = row.text("initialQuota");
            let text =
                |quota: Option<i64>| quota.map_or_else(|| initial.to_owned(), |quota| quota.to_string());
            let of = |key: &str| match (key.contains("pod"), key.contains("container")) {
                (true, true) if pod == container => json!(text(pod)),
                (true, true) => json!(format!("{} and {}", text(pod), text(container))),
                (true, false) => json!(text(pod)),
                _ => json!(text(container)),
            };
            let keys = row.expected.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), of(key)));
            Value::Object(keys.collect::<Map<_, _>>()).into()
        }
        "ruleUpdateCbForNodeMeta" => {
            let limit = Quantity::deserialize_or_zero(row.get("batchCPULimit"));
            let container = ContainerResources {
                limits: [(BATCH_CPU.to_owned(), limit)].into(),
                requests: [(BATCH_CPU.to_owned(), limit)].into(),
            };
            let rule = BatchRule { cfs_quota: true, ratio: ratio(row.get("ratio")) };
            let is_be = row.class() == Some(QosClass::Be);
            callback(row, is_be.then(|| rule.container(&container).quota_us))
        }
        _ => Outcome::UnknownShape("no such function".to_owned()),
    }
}

trait OrZero {
    fn deserialize_or_zero(value: &Value) -> Self;
}

impl OrZero for Quantity {
    fn deserialize_or_zero(value: &Value) -> Self {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }
}

fn slo_quota(slo: &Value) -> plimsoll::error::Result<bool> {
    let strategy = slo.get("resourceUsedThresholdWithBE").cloned().unwrap_or(Value::Null);
    let config = json!({ RESOURCE_THRESHOLD: { "clusterStrategy": strategy } });
    NodeSlo::from_config_map("row", &config.to_string(), &Default::default()).map(|slo| slo.batch_cfs_quota())
}

fn batch_rule(row: &Row<'_>) -> BatchRule {
    let quota = match row.get("rule") {
        Value::Object(rule) => rule.get("cfsQuotaEnabled").and_then(Value::as_bool),
        _ => row.get("cfsQuotaEnabled").as_bool(),
    };
    BatchRule { cfs_quota: quota.unwrap_or(true), ratio: ratio(row.get("cpuNormalizationRatio")) }
}

fn limits(
    row: &Row<'_>,
    of: impl Fn(&BatchRule, &ExtendedResourceSpec) -> Option<Limits>,
) -> Result<Option<Limits>, Outcome> {
    let spec = match (row.get("extendedResourceSpec"), row.get("spec")) {
        (Value::Null, spec) | (spec, _) => spec,
    };
    let spec =
        ExtendedResourceSpec::parse(&spec.to_string()).map_err(|e| Outcome::UnknownShape(e.to_string()))?;
    if row.class() != Some(QosClass::Be) {
        return Ok(None);
    }
    Ok(of(&batch_rule(row), &spec))
}

fn written(limits: Result<Option<Limits>, Outcome>) -> Outcome {
    match limits {
        Ok(Some(limits)) => json!({
            "cpu.shares": limits.shares,
            "cpu.cfs_quota_us": limits.quota_us,
            "memory.limit_in_bytes": limits.memory_bytes,
        })
        .into(),
        Ok(None) => json!({ "written": {} }).into(),
        Err(outcome) => outcome,
    }
}

fn quota(row: &Row<'_>, of: impl Fn(&BatchRule, &ExtendedResourceSpec) -> Option<Limits>) -> Option<i64> {
    limits(row, of).ok().flatten().map(|limits| limits.quota_us)
}

fn node_ratio(row: &Row<'_>) -> plimsoll::error::Result<Option<f64>> {
    let annotations = pairs(row.get("nodeAnnotations"));
    let value = annotations.iter().find(|(key, _)| key == CPU_NORMALIZATION_RATIO);
    cpu_normalization_ratio(|_| value.map(|(_, value)| value.as_str()))
}

fn node_meta(row: &Row<'_>) -> Outcome {
    if row.input.get("node").is_some_and(Value::is_null) {
        return NIL;
    }
    let before = row.get("rule").get("ratio").map(ratio);
    let mut rule = batch_rule(row);
    rule.ratio = before.flatten();
    let (failed, updated) = match node_ratio(row) {
        Ok(after) => {
            rule.ratio = after;
            (false, before.is_none_or(|before| is_rule_changed(before, after)))
        }
        Err(_) => (true, false),
    };
    json!({
        "err": failed,
        "updated": updated,
        "cfsQuotaEnabled": rule.cfs_quota,
        "ratio": rule.quota_ratio().unwrap_or(-1.0),
    })
    .into()
}

/// The files of pod and container after a callback that writes only the quota.
fn callback(row: &Row<'_>, quota: Option<i64>) -> Outcome {
    let mut files = row.get("initial").clone();
    if let (Some(quota), Some(file)) = (quota, files.get_mut("cfs_quota")) {
        *file = quota.to_string().into();
    }
    let levels = row.expected.as_object().into_iter().flatten().filter(|(key, _)| *key != "note");
    Value::Object(levels.map(|(level, _)| (level.clone(), files.clone())).collect()).into()
}

fn normalization(function: &str, row: &Row<'_>) -> Outcome {
    match function {
        "AdjustPodCFSQuota" | "AdjustContainerCFSQuota" => {
            let rule = row.get("rule");
            let enabled = rule.get("enable").and_then(Value::as_bool).unwrap_or(false);
            let ratio = rule.get("ratio").and_then(Value::as_f64).filter(|_| enabled);
            let before = row.get("requestResources").get("cfsQuota").and_then(Value::as_i64);
            let own_cpus = own_cpus(row);
            let after = before
                .filter(|_| is_cpu_share(row.class(), own_cpus))
                .and_then(|quota| adjusted_quota(quota, ratio));
            json!({ "err": false, "cfsQuota": after }).into()
        }
        "isPodCPUShare" => json!(is_cpu_share(row.class(), own_cpus(row))).into(),
        "parseRule" => {
            if row.input.get("node").is_some_and(Value::is_null) {
                return NIL;
            }
            let before = ratio(row.get("previousRatio"));
            let (failed, updated, now) = match node_ratio(row) {
                Ok(after) => (false, is_rule_changed(before, after), after),
                Err(_) => (true, false, before),
            };
            json!({ "err": failed, "updated": updated, "ratio": now.unwrap_or(-1.0) }).into()
        }
        "ruleUpdateCb" => {
            let limit = Quantity::deserialize_or_zero(row.get("cpuLimit"));
            let quota = milli_to_quota(limit.milli_value());
            let applies = is_cpu_share(row.class(), own_cpus(row));
            callback(row, adjusted_quota(quota, ratio(row.get("ratio"))).filter(|_| applies))
        }
        _ => Outcome::UnknownShape("no such function".to_owned()),
    }
}

fn own_cpus(row: &Row<'_>) -> bool {
    ["annotations", "podAnnotations"].into_iter().any(|annotations| {
        let status = row.get(annotations).get("scheduling.koordinator.sh/resource-status");
        status.is_some_and(|status| {
            ResourceStatus::parse(&json_text(status)).is_ok_and(|s| !s.cpuset.is_empty())
        })
    })
}

fn apply_burst(row: &Row<'_>) -> Outcome {
    let Some(containers) = row.get("containers").as_object() else {
        return Outcome::UnknownShape("no containers".to_owned());
    };
    let config = match CpuBurst::parse(&row.get("cfg").to_string()) {
        Ok(config) => config,
        Err(e) => return Outcome::UnknownShape(e.to_string()),
    };
    if !is_burstable(row.class()) {
        return json!({ "containers": {}, "pod": null }).into();
    }
    let burst = |container: &Value| {
        let limit = container.get("limitMilli").and_then(Value::as_i64).unwrap_or(0);
        burst_us(limit, &config)
    };
    let bursts: Map<_, _> = containers.iter().map(|(name, c)| (name.clone(), burst(c).into())).collect();
    let pod: i64 = containers.values().map(burst).sum();
    json!({ "containers": bursts, "pod": pod }).into()
}

fn burst_config(row: &Row<'_>) -> Outcome {
    // A pod's annotation that cannot be read is as good as none.
    let read = |value: &Value| (!value.is_null()).then(|| CpuBurst::parse(&json_text(value)).ok()).flatten();
    match (read(row.get("podCfg")), read(row.get("nodeCfg"))) {
        (Some(pod), Some(node)) => json!(pod.over(&node)),
        (pod, node) => json!(pod.or(node)),
    }
    .into()
}

fn stat(row: &Row<'_>, parse: fn(&str) -> plimsoll::error::Result<CpuStat>) -> Outcome {
    let Ok(stat) = parse(row.input.as_str().unwrap_or("")) else {
        return json!("error").into();
    };
    let mut got = json!({ "nr_periods": stat.periods, "nr_throttled": stat.throttled });
    let keys = row.expected.as_object().into_iter().flatten();
    for (key, _) in keys.filter(|(key, _)| key.starts_with("throttled")) {
        got[key] = stat.throttled_ns.into();
    }
    got.into()
}

fn throttled(row: &Row<'_>) -> Outcome {
    let point = |key: &str| {
        let number = |field| row.get(key).get(field).and_then(Value::as_i64).unwrap_or(0);
        CpuStat { periods: number("nr_periods"), throttled: number("nr_throttled"), throttled_ns: 0 }
    };
    json!(point("cur").throttled_ratio(&point("prev"))).into()
}
