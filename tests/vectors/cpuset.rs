//! `cpuset.*`

use plimsoll::annotations::node::{
    BE_CPU_SHARED_POOLS, CPU_MANAGER_POLICY, CPU_SHARED_POOLS, CpuManagerPolicy, CpuSharedPool, parse_pools,
};
use plimsoll::container::kube::qos_of_path;
use plimsoll::cpuset::CpuSet;
use plimsoll::policy::koordinator::cpu::UNLIMITED;
use plimsoll::policy::koordinator::cpuset::{CpusetChoice, CpusetRule, Pod, choose, unsets_quota};
use serde_json::{Value, json};

use crate::input::{NIL, Outcome, Row, json_text, pairs};

const QUOTA: &str = "cpu.cfs_quota_us";

/// Whether the area's strings are CPUs that something is pinned to.
pub(crate) fn is_pinning(area: &str) -> bool {
    let text = ["String", "GenerateCPUSetStr"];
    area.strip_prefix("cpuset.").is_some_and(|function| !text.contains(&function))
}

pub(crate) fn run(function: &str, row: &Row<'_>) -> Outcome {
    if row.is_nil() {
        return NIL;
    }
    match function {
        "getContainerCPUSet" => container(row, Some(row.input)),
        "SetContainerCPUSet" => container(row, Some(row.get("rule")).filter(|rule| !rule.is_null())),
        "SetContainerCPUSetAndUnsetCFS" | "UnsetPodCPUQuota" | "UnsetContainerCPUQuota" => {
            if row.flag("disableUnsetCPUQuota") {
                return json!({ QUOTA: null, "err": false }).into();
            }
            match row.status() {
                Ok(status) => {
                    json!({ QUOTA: unsets_quota(&status, false).then_some(UNLIMITED), "err": false }).into()
                }
                Err(_) => json!({ QUOTA: null, "err": true }).into(),
            }
        }
        "getHostAppCpuset" | "SetHostAppCPUSet" | "ruleUpdateCbForHostApp" => host_app(function, row),
        "parseRule" => parse_rule(row),
        "ruleUpdateCb" => update(row),
        "MergeCPUSet" => json!(numbers(&cpus(row.get("old")).union(&cpus(row.get("new"))))).into(),
        "ParseCPUSetStr" | "Parse" => match row.input.as_str().unwrap_or("").parse::<CpuSet>() {
            Ok(cpus) => json!(numbers(&cpus)).into(),
            Err(_) => json!("error").into(),
        },
        "GenerateCPUSetStr" | "String" => json!(cpus(row.input).to_string()).into(),
        _ => Outcome::UnknownShape("no such function".to_owned()),
    }
}

fn cpus(list: &Value) -> CpuSet {
    let numbers = list.as_array().into_iter().flatten();
    numbers.filter_map(Value::as_u64).filter_map(|cpu| usize::try_from(cpu).ok()).collect()
}

fn numbers(cpus: &CpuSet) -> Vec<usize> {
    cpus.iter().collect()
}

fn rule_of(json: &Value) -> Result<CpusetRule, Outcome> {
    let unknown = |e: plimsoll::error::Error| Outcome::UnknownShape(e.to_string());
    let pools = |field, key| match json.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(pools) => parse_pools(key, &pools.to_string()).map_err(unknown),
    };
    let text = |field| match json.get(field) {
        Some(Value::Object(policy)) => policy.get("policy").and_then(Value::as_str).unwrap_or(""),
        Some(value) => value.as_str().unwrap_or(""),
        None => "",
    };
    Ok(CpusetRule {
        kubelet_static: text("kubeletPolicy") == "static",
        shared: pools("sharePools", CPU_SHARED_POOLS)?,
        best_effort: pools("beSharePools", BE_CPU_SHARED_POOLS)?,
        system: text("systemQOSCPUSet").parse().map_err(unknown)?,
    })
}

fn choice(choice: &CpusetChoice) -> Value {
    match choice {
        CpusetChoice::Leave => Value::Null,
        CpusetChoice::Inherit => json!(""),
        CpusetChoice::Cpus(cpus) => json!(cpus.to_string()),
    }
}

fn container(row: &Row<'_>, rule: Option<&Value>) -> Outcome {
    let Ok(status) = row.status() else {
        return json!({ "cpuset": null, "err": true }).into();
    };
    let rule = match rule.map(rule_of).transpose() {
        Ok(rule) => rule,
        Err(outcome) => return outcome,
    };
    let pod = Pod { class: row.class(), kube: qos_of_path(row.text("cgroupParent")), status: &status };
    let got = choose(pod, rule.as_ref(), row.flag("beCPUManagerEnabled"));
    json!({ "cpuset": choice(&got), "err": false }).into()
}

fn host_app(function: &str, row: &Row<'_>) -> Outcome {
    if row.get("qos").is_null() {
        return NIL;
    }
    let rule = if function == "SetHostAppCPUSet" {
        match row.get("rule") {
            Value::Null => return json!({ "cpuset": null, "err": false }).into(),
            rule => rule_of(rule),
        }
    } else {
        rule_of(row.input)
    };
    let rule = match rule {
        Ok(rule) => rule,
        Err(outcome) => return outcome,
    };
    match rule.host_app(row.class()) {
        Ok(got) => json!({ "cpuset": choice(&got), "err": false }).into(),
        // The callback logs the error and leaves the file as it was, which is empty in the table.
        Err(_) if function == "ruleUpdateCbForHostApp" => json!({ "cpuset": "", "err": false }).into(),
        Err(_) => json!({ "cpuset": null, "err": true }).into(),
    }
}

fn parse_rule(row: &Row<'_>) -> Outcome {
    let annotations = row.get("nrtAnnotations");
    if !annotations.is_object() {
        return NIL;
    }
    let annotations = pairs(annotations);
    let annotation = |key: &str| annotations.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let before = match row.get("previousSharePools") {
        Value::Null => None,
        pools => match parse_pools(CPU_SHARED_POOLS, &json_text(pools)) {
            Ok(pools) => Some(pools),
            Err(e) => return Outcome::UnknownShape(e.to_string()),
        },
    };
    let pools_json = |pools: Option<&[CpuSharedPool]>| pools.map_or(Value::Null, |pools| json!(pools));
    let (after, failed) = match CpusetRule::from_annotations(annotation) {
        Ok(rule) => (Some(rule), false),
        Err(_) => (None, true),
    };
    let rule_before =
        before.as_ref().map(|pools| CpusetRule { shared: pools.clone(), ..CpusetRule::default() });
    let updated = after.is_some() && after != rule_before;
    let rule = after.or(rule_before);
    let manager = annotation(CPU_MANAGER_POLICY).and_then(|value| CpuManagerPolicy::parse(value).ok());
    let system = rule.as_ref().map(|rule| rule.system.to_string()).filter(|cpus| !cpus.is_empty());
    json!({
        "updated": updated,
        "err": failed,
        "sharePools": pools_json(rule.as_ref().map(|rule| rule.shared.as_slice())),
        "kubeletPolicy": manager.map(|manager| manager.policy),
        "systemQOSCPUSet": system,
    })
    .into()
}

/// Every container of the pod, and its sandbox, get the same CPUs.
fn update(row: &Row<'_>) -> Outcome {
    let (Ok(status), Ok(rule)) = (row.status(), rule_of(row.input)) else {
        return Outcome::UnknownShape("no rule or status".to_owned());
    };
    let pod = Pod {
        class: row.text("pod").split([',', ' ']).next().and_then(|word| word.parse().ok()),
        kube: qos_of_path(row.text("cgroupParent")),
        status: &status,
    };
    let got = choice(&choose(pod, Some(&rule), false));
    let keys = row.expected.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), got.clone()));
    Value::Object(keys.collect()).into()
}
