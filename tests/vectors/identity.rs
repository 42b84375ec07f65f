//! `groupidentity.*`

use std::collections::BTreeMap;

use plimsoll::annotations::CpuQos;
use plimsoll::container::kube::qos_of_path;
use plimsoll::policy::koordinator::identity::{
    IdentityRule, Switch, SwitchWrite, is_supported, switch_writes,
};
use plimsoll::policy::koordinator::slo::{NodeSlo, RESOURCE_QOS};
use plimsoll::qos::{KubeQos, QosClass};
use serde_json::{Map, Value, json};

use crate::input::{Outcome, Row, integer, kube_qos};

const BVT: &str = "cpu.bvt_warp_ns";
const KUBE: [KubeQos; 3] = [KubeQos::Guaranteed, KubeQos::Burstable, KubeQos::BestEffort];
const CLASSES: [QosClass; 4] = [QosClass::Lse, QosClass::Lsr, QosClass::Ls, QosClass::Be];

pub(crate) fn run(function: &str, row: &Row<'_>) -> Outcome {
    match function {
        "parseRule" => parse_rule(row),
        "getPodBvtValue" => {
            let rule = rule_of(row.input);
            json!(rule.pod(row.class(), kube_qos(row.text("kubeQOS")).unwrap_or(KubeQos::Guaranteed))).into()
        }
        "SetPodBvtValue" => set(row, |rule| {
            let own = row.get("podAnnotations").get("koordinator.sh/cpuQOS").and_then(Value::as_str);
            let own = own.map(CpuQos::parse).transpose().ok()?;
            Some(rule.pod_with(row.class(), qos_of_path(row.text("cgroupParent")), own.as_ref()))
        }),
        "SetKubeQOSBvtValue" => {
            set(row, |rule| kube_qos(row.text("kubeQOS")).map(|kube| rule.kube_group(kube)))
        }
        "SetHostAppBvtValue" => set(row, |rule| Some(rule.host_app(row.class()))),
        "SystemSupported" => {
            let switch = if row.flag("sysctl_file") { Switch::Off } else { Switch::Absent };
            json!(is_supported(row.flag("kubepods_root_bvt_file"), switch)).into()
        }
        "initSysctl" => init(row),
        "prepare" => {
            let rule = row.get("rule");
            let applies = !rule.is_null() && rule_of(rule).applies(supported(row), switch(row));
            json!({ "rule": if applies { rule.clone() } else { Value::Null } }).into()
        }
        "ruleUpdateCb" => update(row),
        _ => Outcome::UnknownShape("no such function".to_owned()),
    }
}

fn rule_of(json: &Value) -> IdentityRule {
    let number = |map: &str, key: &str| json.get(map).and_then(|map| map.get(key)).and_then(Value::as_i64);
    let kube = |map: &str| KUBE.map(|kube| number(map, &kube.to_string()).unwrap_or(0));
    IdentityRule {
        enabled: json.get("enable").and_then(Value::as_bool).unwrap_or(true),
        class: QosClass::ALL.map(|class| number("podQOSParams", class.name())),
        kube_group: kube("kubeQOSDirParams"),
        kube_pod: kube("kubeQOSPodParams"),
    }
}

fn rule_json(rule: &IdentityRule) -> Value {
    let kube = |value: &dyn Fn(KubeQos) -> i64| -> Map<String, Value> {
        KUBE.into_iter().map(|kube| (kube.to_string(), value(kube).into())).collect()
    };
    json!({
        "enable": rule.enabled,
        "podQOSParams": CLASSES
            .into_iter()
            .map(|class| (class.to_string(), rule.pod(Some(class), KubeQos::Guaranteed).into()))
            .collect::<Map<_, Value>>(),
        "kubeQOSDirParams": kube(&|kube| rule.kube_group(kube)),
        "kubeQOSPodParams": kube(&|kube| rule.pod(None, kube)),
    })
}

fn parse_rule(row: &Row<'_>) -> Outcome {
    let config = json!({ RESOURCE_QOS: { "clusterStrategy": row.get("resourceQOSStrategy") } });
    match NodeSlo::from_config_map("row", &config.to_string(), &BTreeMap::new()) {
        Ok(slo) => {
            let rule = rule_json(&slo.identity_rule());
            let updated = *row.get("previousRule") != rule;
            json!({ "updated": updated, "err": false, "rule": rule }).into()
        }
        Err(e) => Outcome::UnknownShape(e.to_string()),
    }
}

fn switch(row: &Row<'_>) -> Switch {
    let value = match row.get("sched_group_identity_enabled_initial") {
        Value::Null => row.get("sched_group_identity_enabled"),
        value => value,
    };
    switch_of(value, row.flag("hasKernelEnable") || row.flag("hasKernelEnabled"))
}

fn switch_of(value: &Value, said_to_exist: bool) -> Switch {
    match integer(value) {
        Some(0) => Switch::Off,
        Some(_) => Switch::On,
        None if said_to_exist => Switch::Unreadable,
        None => Switch::Absent,
    }
}

fn supported(row: &Row<'_>) -> bool {
    match row.get("systemSupported") {
        Value::Bool(supported) => *supported,
        _ => is_supported(row.flag("kubepods_root_bvt_file"), switch(row)),
    }
}

fn set(row: &Row<'_>, value: impl Fn(&IdentityRule) -> Option<i64>) -> Outcome {
    let rule = row.get("rule");
    let rule =
        (!rule.is_null()).then(|| rule_of(rule)).filter(|rule| rule.applies(supported(row), switch(row)));
    json!({ BVT: rule.and_then(|rule| value(&rule)) }).into()
}

/// The sysctl files, by the names of the row.
fn init(row: &Row<'_>) -> Outcome {
    const IDENTITY: &str = "sched_group_identity_enabled";
    const CORE: &str = "sched_core";
    let mut files: Map<String, Value> = [IDENTITY, CORE]
        .into_iter()
        .filter(|name| !row.get(name).is_null())
        .map(|name| (name.to_owned(), row.get(name).clone()))
        .collect();
    let mut failed = false;
    let core = switch_of(row.get(CORE), row.flag("coreSchedSysctlSupported"));
    for write in switch_writes(switch(row), core) {
        let (name, value) = match write {
            SwitchWrite::DisableCoreScheduling => (CORE, "0"),
            SwitchWrite::EnableGroupIdentity => (IDENTITY, "1"),
        };
        match files.get_mut(name) {
            Some(file) => *file = value.into(),
            None => {
                failed = true;
                break;
            }
        }
    }
    files.insert("err".to_owned(), failed.into());
    Value::Object(files).into()
}

fn update(row: &Row<'_>) -> Outcome {
    let rule = rule_of(row.get("rule"));
    let writes = if rule.enabled {
        // A switch that is said to exist and does not cannot be turned on, and then nothing is written.
        switch(row) != Switch::Unreadable
    } else {
        rule.applies(true, switch(row))
    };
    let before = |kind: &str, name: &str| {
        row.get("initial").get(kind).and_then(|m| m.get(name)).and_then(Value::as_i64)
    };
    let after = |kind: &str, name: &str, value: i64| {
        json!(if writes { value } else { before(kind, name).unwrap_or(0) })
    };

    let dirs: Map<_, _> = KUBE
        .into_iter()
        .map(|kube| (kube.to_string(), after("dirs", &kube.to_string(), rule.kube_group(kube))))
        .collect();
    let mut pods = Map::new();
    for pod in row.get("pods").as_array().into_iter().flatten() {
        let text = |key| pod.get(key).and_then(Value::as_str).unwrap_or("");
        let Some(kube) = kube_qos(text("kubeQOS")) else {
            return Outcome::UnknownShape(format!("pod {pod}"));
        };
        let value = rule.pod(text("qos").parse().ok(), kube);
        pods.insert(text("name").to_owned(), after("pods", text("name"), value));
    }
    // Groups of pods that nobody lists get the value of the group they are in.
    for name in
        row.get("initial").get("pods").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name)
    {
        if !pods.contains_key(name) {
            pods.insert(name.clone(), after("pods", name, rule.kube_group(qos_of_path(name))));
        }
    }
    let containers: Option<Map<_, _>> = row.get("containers").as_object().map(|containers| {
        let inherited =
            |path: &str| pods.get(path.split('/').next().unwrap_or("")).cloned().unwrap_or(Value::Null);
        containers.keys().map(|path| (path.clone(), inherited(path))).collect()
    });
    json!({ "kubeDirs": dirs, "pods": pods, "containers": containers, "err": false }).into()
}
