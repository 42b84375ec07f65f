//! What the prober's line says, in the terms of [`super::cgroup`].

use serde_json::Value;

use super::cgroup;

/// A control file as the container saw it, by its v1 name.
#[track_caller]
pub fn file(seen: &Value, name: &str) -> String {
    let text = seen["files"][cgroup::here(name)].as_str();
    cgroup::as_v1(name, text.unwrap_or_else(|| panic!("{name} in {seen}")))
}

/// The container's group of a controller.
#[track_caller]
pub fn group<'a>(seen: &'a Value, controller: &str) -> &'a str {
    let groups = seen["cgroup"].as_object().unwrap();
    let own = groups.iter().find(|(names, _)| names.split(',').any(|name| name == controller));
    let path = own.map(|(_, path)| path).or_else(|| groups.get(""));
    path.and_then(Value::as_str).unwrap_or_else(|| panic!("{controller} in {seen}"))
}
