//! A pod's containers and their resources, out of a Kubernetes manifest.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::quantity::Quantity;

/// The resource `cpu`.
pub(super) const CPU: &str = "cpu";
/// The resource `memory`.
pub(super) const MEMORY: &str = "memory";

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// A container of a manifest.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
    /// The resources as they were written, for the annotation that Koordinator's webhook makes of them.
    pub(super) written: Value,
    /// An init container that keeps running (`restartPolicy: Always`).
    pub(super) is_sidecar: bool,
}

/// A pod of a manifest.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) init: Vec<Container>,
    pub(super) containers: Vec<Container>,
    pub(super) overhead: Amounts,
}

impl Pod {
    /// Every container, in the order they start.
    pub(super) fn all(&self) -> impl Iterator<Item = &Container> {
        self.init.iter().chain(&self.containers)
    }
}

/// Reads the `spec` of a pod. `what` names it in errors.
pub(super) fn pod(what: &str, spec: &Value) -> Result<Pod> {
    let containers = list(what, spec, "containers")?;
    if containers.is_empty() {
        return Err(Error::invalid(what, "spec.containers is missing or empty").hint("a pod has containers"));
    }
    let overhead = amounts(&format!("{what} spec.overhead"), spec.get("overhead"))?;
    Ok(Pod { init: list(what, spec, "initContainers")?, containers, overhead })
}

fn list(what: &str, spec: &Value, key: &str) -> Result<Vec<Container>> {
    match spec.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(n, item)| container(&format!("{what} spec.{key}[{n}]"), item))
            .collect(),
        Some(_) => Err(Error::invalid(format!("{what} spec.{key}"), "not a list")),
    }
}

fn container(what: &str, item: &Value) -> Result<Container> {
    let name = item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Error::invalid(format!("{what}.name"), "missing"))?;
    let written = item.get("resources").cloned().unwrap_or_default();
    let limits = amounts(&format!("{what}.resources.limits"), written.get("limits"))?;
    let mut requests = amounts(&format!("{what}.resources.requests"), written.get("requests"))?;
    for (resource, limit) in &limits {
        // As the API server fills it in.
        requests.entry(resource.clone()).or_insert(*limit);
    }
    let is_sidecar = item.get("restartPolicy").and_then(Value::as_str) == Some("Always");
    Ok(Container { name: name.to_owned(), requests, limits, written, is_sidecar })
}

fn amounts(what: &str, value: Option<&Value>) -> Result<Amounts> {
    let entries = match value {
        None | Some(Value::Null) => return Ok(Amounts::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Error::invalid(what, "not a mapping of resources to amounts")),
    };
    let amount = |(name, value): (&String, &Value)| -> Result<(String, Quantity)> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(Error::invalid(format!("{what}.{name}"), "not an amount")),
        };
        let quantity: Quantity =
            text.parse().map_err(|e: Error| Error::invalid(format!("{what}.{name}"), e.to_string()))?;
        Ok((name.clone(), quantity))
    };
    entries.iter().map(amount).collect()
}
