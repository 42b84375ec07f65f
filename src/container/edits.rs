//! What the runtime wrapper changed in a bundle's `config.json`: where, and what the engine had written there. It goes
//! along in the arguments of the hooks that the wrapper puts into the same file, so that the hook knows the engine's
//! values and the wrapper, meeting its own work again, starts from them.

use serde_json::{Map, Value};

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};

/// `linux.cgroupsPath`, as a JSON pointer (RFC 6901).
pub const CGROUPS_PATH: &str = "/linux/cgroupsPath";
/// `linux.resources.cpu.cpus`.
pub const CPUS: &str = "/linux/resources/cpu/cpus";

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
        Value::Object(self.0.clone()).to_string()
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
    fn nonsense_is_an_error() {
        for text in ["", "[]", "7", "{"] {
            assert!(Edits::parse(text).is_err(), "{text}");
        }
        assert!(Edits::parse(r#"{"/linux/resources/cpu/cpus":"x"}"#).unwrap().cpus().is_err());
    }
}
