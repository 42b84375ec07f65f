//! `cgroupPath.*`, `hostapp.*`, `validator.*`, `resourceexecutor.*`

use plimsoll::container::kube::{
    Driver, container_group, container_id_of_name, parse_container_id, pod_group, pod_uid_of_name,
    qos_of_path,
};
use plimsoll::cpuset::CpuSet;
use plimsoll::policy::koordinator::cpu::{is_wider, parse_cpu_max, parse_in_range};
use plimsoll::policy::koordinator::host_app::HostApp;
use serde_json::json;

use crate::input::{NIL, Outcome, Row, kube_qos};

pub(crate) fn run(room: &str, function: &str, row: &Row<'_>) -> Outcome {
    match (room, function) {
        ("cgroupPath", _) => path(function, row),
        ("hostapp", f) if f.starts_with("cgroupRelativePath") => host_app(f, row),
        ("validator", f) if f.starts_with("range[") => range(f, row),
        ("resourceexecutor", "mergeUpdate") => merge(row),
        // The writer has its own tests.
        _ => Outcome::NotBuilt,
    }
}

fn driver(name: &str) -> Option<Driver> {
    match name {
        "systemd" => Some(Driver::Systemd),
        "cgroupfs" => Some(Driver::Cgroupfs),
        _ => None,
    }
}

fn path(function: &str, row: &Row<'_>) -> Outcome {
    let (function, named) = function.split_once('.').unwrap_or_else(|| (function, row.text("driver")));
    let text = row.input.as_str().unwrap_or("");
    if function == "kubeQOSByCgroupParent" {
        return json!(qos_of_path(text).to_string()).into();
    }
    let Some(driver) = driver(named) else {
        return Outcome::UnknownShape(format!("driver {named:?}"));
    };
    let error = || json!("error");
    match function {
        "podIDParser" => pod_uid_of_name(driver, text).map_or_else(error, |uid| json!(uid)).into(),
        "containerIDParser" => container_id_of_name(driver, text).map_or_else(error, |id| json!(id)).into(),
        "containerDir" => match (parse_container_id(text), container_group(driver, "", text)) {
            (Ok((engine, _)), Ok(dir)) => {
                json!({ "runtime": engine.name(), "dir": dir, "err": false }).into()
            }
            _ => json!({ "runtime": "unknown", "dir": "", "err": true }).into(),
        },
        "podDir" => match kube_qos(row.text("kubeQOS")) {
            Some(kube) => {
                pod_group(driver, kube, row.text("podUID")).map_or_else(|_| error(), |dir| json!(dir)).into()
            }
            None => Outcome::UnknownShape("no kubeQOS".to_owned()),
        },
        "containerCgroupDir" => container_group(driver, row.text("podDir"), row.text("containerID"))
            .map_or_else(|_| error(), |dir| json!(dir))
            .into(),
        _ => Outcome::UnknownShape("no such function".to_owned()),
    }
}

fn host_app(function: &str, row: &Row<'_>) -> Outcome {
    if row.input.is_null() {
        return NIL;
    }
    let driver = if function.contains("cgroupfs") { Driver::Cgroupfs } else { Driver::Systemd };
    match serde_json::from_value::<HostApp>(row.input.clone()) {
        Ok(app) => app.group(driver).map_or_else(|_| json!("error"), |group| json!(group)).into(),
        Err(e) => Outcome::UnknownShape(e.to_string()),
    }
}

fn range(function: &str, row: &Row<'_>) -> Outcome {
    let bounds = function.trim_start_matches("range[").trim_end_matches(']').split_once(',');
    match bounds.map(|(min, max)| (min.trim().parse(), max.trim().parse())) {
        Some((Ok(min), Ok(max))) => {
            json!(parse_in_range("row", row.input.as_str().unwrap_or(""), &(min..=max)).is_ok()).into()
        }
        _ => Outcome::UnknownShape(format!("bounds of {function}")),
    }
}

/// First the way down, which only widens, then the way up, which writes what is wanted.
fn merge(row: &Row<'_>) -> Outcome {
    let (current, wanted) = (row.text("current"), row.text("value"));
    let v2 = row.text("cgroup") == "v2";
    let number = |text: &str| match text {
        "max" => Some(-1),
        text => text.parse::<i64>().ok(),
    };
    let (merged, last) = match row.text("file") {
        "cpuset.cpus" => match (current.parse::<CpuSet>(), wanted.parse::<CpuSet>()) {
            (Ok(old), Ok(new)) if new.is_subset(&old) => (current.to_owned(), wanted),
            (Ok(old), Ok(new)) => (old.union(&new).to_string(), wanted),
            _ => return json!("error").into(),
        },
        file => {
            let old =
                if file.starts_with("cpu.") && v2 { parse_cpu_max(current).ok() } else { number(current) };
            let (Some(old), Some(new)) = (old, number(wanted)) else {
                return if row.expected.is_object() {
                    json!({ "err": true }).into()
                } else {
                    json!("error").into()
                };
            };
            let written = if v2 && new == -1 { "max" } else { wanted };
            (if is_wider(new, old) { written } else { current }.to_owned(), written)
        }
    };
    json!({ "afterMerge": merged, "afterFinal": last }).into()
}
