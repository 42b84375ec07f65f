//! What the runtime wrapper changed in a bundle's `config.json`: where, and what the engine had written there. It is noted
//! in the same file, so that the wrapper, meeting its own work again, starts from the engine's values; and it goes along
//! in the arguments of a hook that is put there, which must know them, too.

use serde_json::{Map, Value};

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};

/// `linux.cgroupsPath`, as a JSON pointer (RFC 6901).
pub const CGROUPS_PATH: &str = "/linux/cgroupsPath";
/// `linux.resources.cpu.cpus`.
pub const CPUS: &str = "/linux/resources/cpu/cpus";

/// Where the wrapper notes what it changed, at the top of `config.json`: a name that no runtime knows and each therefore
/// ignores (runtime-spec, "Extensibility"), and that no annotation of a pod can reach.
const NOTE: &str = "io.plimsoll.engine";

/// The engine's values, by JSON pointer; null where there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits(Map<String, Value>);

impl Edits {
    /// Parses the argument of `--engine`.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = serde_json::from_str(text);
        parsed.map(Self).map_err(|e| Error::invalid("--engine", e.to_string()))
    }

    /// The argument.
    pub fn text(&self) -> String {
        self.value().to_string()
    }

    /// As JSON.
    fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Leaves a note of it in a `config.json`.
    pub fn leave(&self, spec: &mut Value) -> Result<()> {
        put(spec, &format!("/{NOTE}"), Some(self.value()))
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what stood at a pointer.
    pub fn note(&mut self, pointer: &str, before: Option<Value>) {
        self.0.insert(pointer.to_owned(), before.unwrap_or(Value::Null));
    }

    /// The engine's value at each pointer, the one changed last first.
    pub fn undone(&self) -> impl Iterator<Item = (&str, Option<&Value>)> {
        self.0.iter().rev().map(|(pointer, value)| (pointer.as_str(), Some(value).filter(|v| !v.is_null())))
    }

    /// The `linux.cgroupsPath` of the engine, where it was changed.
    pub fn cgroups_path(&self) -> Option<&str> {
        self.0.get(CGROUPS_PATH)?.as_str()
    }

    /// The CPUs the engine named, where they were changed; none in it where it had named none.
    pub fn cpus(&self) -> Result<Option<Option<CpuSet>>> {
        let Some(cpus) = self.0.get(CPUS) else { return Ok(None) };
        cpus.as_str().filter(|text| !text.is_empty()).map(str::parse).transpose().map(Some)
    }
}

/// Puts back in a `config.json` what was noted there, and takes out the note. Returns whether there was one.
pub fn undo(spec: &mut Value) -> Result<bool> {
    let edits = match spec.get(NOTE) {
        Some(Value::Object(note)) => Edits(note.clone()),
        Some(_) => return Err(Error::invalid(NOTE, "not an object")),
        None => return Ok(false),
    };
    put(spec, &format!("/{NOTE}"), None)?;
    edits.undone().try_for_each(|(pointer, value)| put(spec, pointer, value.cloned()))?;
    Ok(true)
}

/// Puts a value at a JSON pointer, or takes away what is there. Objects on the way to a value are made; what else stands in
/// an object keeps its place.
pub fn put(root: &mut Value, pointer: &str, value: Option<Value>) -> Result<()> {
    let (parents, last) = pointer.rsplit_once('/').unwrap_or_default();
    let mut at = root;
    for name in parents.split('/').skip(1) {
        let object = object(at, pointer)?;
        if value.is_none() && !object.contains_key(name) {
            return Ok(());
        }
        at = object.entry(name).or_insert(Value::Null);
    }
    let object = object(at, pointer)?;
    match value {
        Some(value) => drop(object.insert(last.to_owned(), value)),
        None => drop(object.shift_remove(last)),
    }
    Ok(())
}

/// A value as an object; null becomes an empty one.
pub fn object<'v>(value: &'v mut Value, what: &str) -> Result<&'v mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| Error::invalid(what, "not an object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_noted_is_read_back() {
        let mut edits = Edits::default();
        edits.note(CGROUPS_PATH, Some(json!("/a/b")));
        edits.note(CPUS, None);
        let read = Edits::parse(&edits.text()).unwrap();
        assert_eq!(read, edits);
        assert_eq!((read.cgroups_path(), read.cpus().unwrap()), (Some("/a/b"), Some(None)));
        let undone: Vec<_> = read.undone().map(|(pointer, _)| pointer).collect();
        assert_eq!(undone, [CPUS, CGROUPS_PATH]);
        edits.note(CPUS, Some(json!("0-2")));
        assert_eq!(edits.cpus().unwrap(), Some(Some("0-2".parse().unwrap())));
        assert_eq!(Edits::default().cpus().unwrap(), None);
    }

    #[test]
    fn what_was_changed_is_undone() {
        let engines =
            json!({"z": 1, "linux": {"cgroupsPath": "/a", "resources": {"cpu": {"shares": 2}}}, "a": 2});
        let mut spec = engines.clone();
        let mut edits = Edits::default();
        for (pointer, value) in [(CGROUPS_PATH, json!("/b")), (CPUS, json!("0-1"))] {
            edits.note(pointer, spec.pointer(pointer).cloned());
            put(&mut spec, pointer, Some(value)).unwrap();
        }
        edits.leave(&mut spec).unwrap();
        assert_eq!(spec.pointer(CPUS), Some(&json!("0-1")));
        assert!(undo(&mut spec).unwrap() && !undo(&mut spec).unwrap());
        // Text does not compare without order.
        assert_eq!(spec.to_string(), engines.to_string());
        assert!(undo(&mut json!({NOTE: 7})).is_err());
        assert!(put(&mut json!({"linux": []}), CPUS, Some(json!(""))).is_err());
        put(&mut spec, "/not/there", None).unwrap();
        assert_eq!(spec.to_string(), engines.to_string());
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "[]", "7", "{"] {
            assert!(Edits::parse(text).is_err(), "{text}");
        }
        assert!(Edits::parse(r#"{"/linux/resources/cpu/cpus":"x"}"#).unwrap().cpus().is_err());
    }
}
