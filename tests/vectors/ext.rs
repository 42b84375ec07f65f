//! `ext.*`, `sloconfig.*`

use plimsoll::annotations::node::{
    CPU_NORMALIZATION_RATIO, NodeReservation, RESERVATION, SYSTEM_QOS_RESOURCE, SystemQosResource,
    cpu_normalization_ratio, format_ratio, is_ratio_different,
};
use plimsoll::annotations::priority::{LABEL, PriorityClass, default_class};
use plimsoll::annotations::resources::EXTENDED_RESOURCES;
use plimsoll::annotations::{ExtendedResourceSpec, ResourceStatus};
use plimsoll::policy::koordinator::slo::{ClassCpuQos, NodeSlo};
use plimsoll::qos::KubeQos;
use serde_json::{Value, json};

use crate::input::{Outcome, Row, json_text, kube_qos};

pub(crate) fn run(room: &str, function: &str, row: &Row<'_>) -> Outcome {
    match (room, function) {
        ("sloconfig", "default") => default(row),
        ("ext", "GetPodQoSClassRaw" | "GetQoSClassByAttrs") => {
            json!(row.class().map_or("", |class| class.name())).into()
        }
        ("ext", "GetPodQoSClassWithDefault") => json!(class(row).name()).into(),
        ("ext", "GetPodPriorityClassRaw") => {
            json!(PriorityClass::of_pod(label(row), priority(row)).map_or("", PriorityClass::name)).into()
        }
        ("ext", "GetPodPriorityClassWithDefault") => {
            json!(PriorityClass::with_default(label(row), priority(row), class(row)).name()).into()
        }
        ("ext", "GetPodPriorityValueWithDefault") => match row.input {
            // No pod at all has no priority.
            Value::Null => json!(0).into(),
            _ => json!(PriorityClass::number_with_default(label(row), priority(row), class(row))).into(),
        },
        ("ext", "GetCPUNormalizationRatio") => {
            let value = annotation(row, CPU_NORMALIZATION_RATIO);
            match cpu_normalization_ratio(|_| value.as_deref()) {
                Ok(ratio) => json!({ "ratio": ratio.unwrap_or(-1.0), "err": false }).into(),
                Err(_) => json!({ "ratio": -1, "err": true }).into(),
            }
        }
        ("ext", "SetCPUNormalizationRatio") => match row.get("ratio").as_f64() {
            Some(ratio) => {
                let text = format_ratio(ratio);
                json!({ "changed": row.get("old").as_str() != Some(&text), "annotation": text }).into()
            }
            None => Outcome::UnknownShape("no ratio".to_owned()),
        },
        ("ext", "IsCPUNormalizationRatioDifferent") => {
            match (row.get("old").as_f64(), row.get("new").as_f64()) {
                (Some(old), Some(new)) => json!(is_ratio_different(old, new)).into(),
                _ => Outcome::UnknownShape("no ratios".to_owned()),
            }
        }
        ("ext", "SetResourceStatus") => match ResourceStatus::parse(&row.input.to_string()) {
            Ok(status) => json!(serde_json::to_string(&status).unwrap_or_default()).into(),
            Err(e) => Outcome::UnknownShape(e.to_string()),
        },
        ("ext", "GetResourceStatus") => match row.status() {
            Ok(status) => json!(status).into(),
            Err(_) => json!({ "err": true }).into(),
        },
        ("ext", "GetExtendedResourceSpec") => extended(row),
        ("ext", "GetSystemQOSResource") => system(row),
        ("ext", "IsCPUSetExclusive") => match SystemQosResource::parse(&row.input.to_string()) {
            Ok(system) => json!(system.is_exclusive()).into(),
            Err(e) => Outcome::UnknownShape(e.to_string()),
        },
        ("ext", "GetReservedCPUs") => {
            // Koordinator logs an annotation it cannot read, and reserves nothing.
            let value = row.input.get(RESERVATION).filter(|value| !value.is_null()).map(json_text);
            let got = value.and_then(|value| NodeReservation::parse(&value).ok()).unwrap_or_default();
            json!({ "reservedCPUs": got.reserved_cpus, "numReservedCPUs": got.cpu_count() }).into()
        }
        // Eviction, devices, caches and the network belong to the agent.
        _ => Outcome::NotBuilt,
    }
}

fn label<'a>(row: &Row<'a>) -> Option<&'a str> {
    row.get("labels").get(LABEL).and_then(Value::as_str)
}

fn priority(row: &Row<'_>) -> Option<i32> {
    row.get("priority").as_i64().and_then(|n| i32::try_from(n).ok())
}

/// The class with Koordinator's default; a pod without requests and limits is BestEffort.
fn class(row: &Row<'_>) -> plimsoll::qos::QosClass {
    let kube = kube_qos(row.text("kubeQOS")).unwrap_or(KubeQos::BestEffort);
    row.class().unwrap_or_else(|| default_class(kube))
}

fn annotation(row: &Row<'_>, key: &str) -> Option<String> {
    row.get("annotations").get(key).filter(|value| !value.is_null()).map(json_text)
}

fn extended(row: &Row<'_>) -> Outcome {
    let value = match (row.get("annotation"), annotation(row, EXTENDED_RESOURCES)) {
        (Value::Null, None) => return json!({ "containers": null, "err": false }).into(),
        (Value::Null, Some(value)) => value,
        (value, _) => json_text(value),
    };
    let Ok(got) = ExtendedResourceSpec::parse(&value) else {
        return json!({ "containers": null, "err": true }).into();
    };
    // Amounts are compared, not how they are written.
    let expected = row.expected.get("containers").cloned().unwrap_or(Value::Null);
    let wanted = ExtendedResourceSpec::parse(&json!({ "containers": &expected }).to_string());
    if wanted.is_ok_and(|wanted| wanted == got) {
        return json!({ "containers": expected, "err": false }).into();
    }
    json!({ "containers": got.containers, "err": false }).into()
}

fn system(row: &Row<'_>) -> Outcome {
    if row.get("annotations").is_null() {
        return json!({ "resource": null, "err": false }).into();
    }
    match annotation(row, SYSTEM_QOS_RESOURCE).map(|value| SystemQosResource::parse(&value)).transpose() {
        Ok(system) => {
            let system = system.unwrap_or_default();
            // Go leaves empty texts out.
            let named = row.expected.pointer("/resource/cpuset").is_some();
            let cpus = (named || !system.cpuset.is_empty()).then(|| system.cpuset.to_string());
            let resource = json!({ "cpuset": cpus, "cpusetExclusive": system.cpuset_exclusive });
            json!({ "resource": resource, "err": false }).into()
        }
        Err(_) => json!({ "resource": null, "err": true }).into(),
    }
}

fn default(row: &Row<'_>) -> Outcome {
    let slo = NodeSlo::default();
    let class = |class: &ClassCpuQos| Outcome::Got(json!(class));
    match row.input.as_str().unwrap_or("") {
        "resource-qos-config cpuQOS LSR" => class(&slo.lsr),
        "resource-qos-config cpuQOS LS" => class(&slo.ls),
        "resource-qos-config cpuQOS BE" => class(&slo.be),
        "resource-qos-config cpuQOS SYSTEM" => class(&slo.system),
        "cpu-burst-config" => json!(slo.burst).into(),
        "resource-threshold-config" => json!(slo.threshold).into(),
        // Memory, cache and overcommitment defaults are the agent's.
        _ => Outcome::NotBuilt,
    }
}
