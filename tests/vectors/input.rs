//! Rows, their fields, and how results are compared.

use plimsoll::annotations::{Request, ResourceStatus};
use plimsoll::cpuset::CpuSet;
use plimsoll::error::Result;
use plimsoll::qos::{KubeQos, QosClass};
use serde_json::Value;

/// Why rows with a nil argument are not run.
pub(crate) const NIL: Outcome =
    Outcome::Differs("Koordinator is handed a nil pointer; Rust has none to hand over");

pub(crate) struct Row<'a> {
    pub(crate) id: &'a str,
    pub(crate) area: &'a str,
    pub(crate) input: &'a Value,
    pub(crate) expected: &'a Value,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Got(Value),
    Differs(&'static str),
    NotBuilt,
    UnknownShape(String),
}

impl From<Value> for Outcome {
    fn from(value: Value) -> Self {
        Self::Got(value)
    }
}

static NULL: Value = Value::Null;

impl<'a> Row<'a> {
    pub(crate) fn new(row: &'a Value) -> Self {
        let text = |key| row.get(key).and_then(Value::as_str).unwrap_or("?");
        Self {
            id: text("id"),
            area: text("area"),
            input: row.get("input").unwrap_or(&NULL),
            expected: row.get("expected").unwrap_or(&NULL),
        }
    }

    /// A field of the input; `Null` where there is none.
    pub(crate) fn get(&self, key: &str) -> &'a Value {
        self.input.get(key).unwrap_or(&NULL)
    }

    pub(crate) fn text(&self, key: &str) -> &'a str {
        self.get(key).as_str().unwrap_or("")
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).as_bool().unwrap_or(false)
    }

    /// Whether the row hands over a nil protocol, input or node.
    pub(crate) fn is_nil(&self) -> bool {
        self.text("case").contains("nil p") || self.text("case").contains("nil i")
    }

    /// The pod's class: of its labels, or as named by `qos`. What Koordinator does not know counts as none.
    pub(crate) fn class(&self) -> Option<QosClass> {
        match self.get("qos") {
            Value::Null => class_of_labels(match self.get("podLabels") {
                Value::Null => self.get("labels"),
                labels => labels,
            }),
            qos => qos.as_str().and_then(|qos| qos.parse().ok()),
        }
    }

    /// The pod's resource status, given as an object or as the annotation's text.
    pub(crate) fn status(&self) -> Result<ResourceStatus> {
        match (self.get("resourceStatus"), self.get("resourceStatusAnnotation")) {
            (Value::Null, Value::Null) => Ok(ResourceStatus::default()),
            (Value::Null, annotation) => ResourceStatus::parse(&json_text(annotation)),
            (status, _) => ResourceStatus::parse(&json_text(status)),
        }
    }
}

pub(crate) fn class_of_labels(labels: &Value) -> Option<QosClass> {
    let labels = pairs(labels);
    let request = Request::read(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    request.class.and_then(Result::ok).map(|claim| claim.class)
}

/// The entries of an object of annotations or labels; values that are no strings are written as JSON.
pub(crate) fn pairs(object: &Value) -> Vec<(String, String)> {
    let entries = object.as_object().into_iter().flatten();
    entries
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), json_text(value)))
        .collect()
}

/// A string as it is, anything else as JSON.
pub(crate) fn json_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn kube_qos(name: &str) -> Option<KubeQos> {
    [KubeQos::Guaranteed, KubeQos::Burstable, KubeQos::BestEffort]
        .into_iter()
        .find(|kube| kube.to_string() == name)
}

/// A number, or a number in a string.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Koordinator's −1 for "no ratio".
pub(crate) fn ratio(value: &Value) -> Option<f64> {
    value.as_f64().filter(|ratio| *ratio != -1.0)
}

/// Whether all that is expected was got and nothing else. A field that is not there is `null`; `note` is for people.
/// With `cpus`, strings that are CPU lists are compared as sets.
pub(crate) fn same(expected: &Value, got: &Value, cpus: bool) -> bool {
    match (expected, got) {
        (Value::Object(e), Value::Object(g)) => {
            e.iter()
                .filter(|(key, _)| *key != "note")
                .all(|(key, value)| same(value, g.get(key).unwrap_or(&NULL), cpus))
                && g.iter().all(|(key, value)| e.contains_key(key) || value.is_null())
        }
        (Value::Array(e), Value::Array(g)) => {
            e.len() == g.len() && e.iter().zip(g).all(|(e, g)| same(e, g, cpus))
        }
        (Value::Number(e), Value::Number(g)) => e == g || e.as_f64() == g.as_f64(),
        (Value::String(e), Value::String(g)) if cpus && !e.is_empty() && !g.is_empty() => {
            e == g || matches!((e.parse::<CpuSet>(), g.parse::<CpuSet>()), (Ok(e), Ok(g)) if e == g)
        }
        _ => expected == got,
    }
}
