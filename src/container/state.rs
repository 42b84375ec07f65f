//! The OCI state a runtime writes to a hook's standard input (runtime-spec, "State").
//!
//! Runtimes disagree about it: Kata leaves out version and status, crun says `created` for `creating` and a version of
//! `1.0`, older crun leaves out the bundle. Only `id` is sure, so nothing else is demanded.

use std::io::Read;

use serde::Deserialize;

use super::bundle;
use super::pairs::Annotations;
use crate::error::{Error, Result};
use crate::record::{ContainerId, Who};

/// How much of the state is read; real ones are a few kilobytes.
pub const MAX_STATE: u64 = 1024 * 1024;

/// The state, as far as it is of use.
#[derive(Clone, Debug)]
pub struct State {
    /// The container's id.
    pub id: ContainerId,
    /// Its first process, as seen from the runtime; none at `poststop`.
    pub pid: Option<i32>,
    /// Its bundle folder.
    pub bundle: Option<String>,
    /// Its annotations, in the order given. Later ones win.
    pub annotations: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    #[serde(default)]
    pid: Option<i64>,
    #[serde(default)]
    bundle: Option<String>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

impl State {
    /// Reads the state, at most [`MAX_STATE`] bytes of it.
    pub fn read(input: impl Read) -> Result<Self> {
        // Room for a usual state, so that it is read at once.
        let mut bytes = Vec::with_capacity(16 * 1024);
        let read = input.take(MAX_STATE + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::invalid("OCI state on standard input", e.to_string()))?;
        if bytes.len() as u64 > MAX_STATE {
            return Err(Error::invalid(
                "OCI state on standard input",
                format!("longer than {MAX_STATE} bytes"),
            ));
        }
        Self::parse(&bytes)
    }

    /// Parses the state.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid("OCI state on standard input", e.to_string())
                .hint("a hook is called by an OCI runtime, which writes the container's state to it")
        })?;
        let pid = match raw.pid {
            None | Some(0) => None,
            Some(pid) => Some(i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or_else(|| {
                Error::invalid(
                    "OCI state on standard input",
                    format!("pid {pid} is not a container's process"),
                )
            })?),
        };
        let annotations = match (raw.annotations, &raw.bundle) {
            (Some(Annotations(pairs)), _) => pairs,
            // Not every runtime passes them on; the bundle has them.
            (None, Some(bundle)) => bundle::annotations(bundle).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        Ok(Self { id: raw.id.parse()?, pid, bundle: raw.bundle, annotations })
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Who the container is, in the words of containerd's CRI plugin, of CRI-O, or of neither.
    pub fn who(&self) -> Who {
        let first = |keys: &[&str]| keys.iter().find_map(|key| self.annotation(key)).map(bounded);
        Who {
            id: self.id.to_string(),
            bundle: self.bundle.clone(),
            namespace: first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
            pod: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
            pod_uid: None,
            container: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]),
        }
    }
}

/// Names go into records and logs; Kubernetes' are at most 253 bytes.
fn bounded(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtimes_state_is_understood() {
        // Kata's Go runtime: neither version nor status; crun: an odd version and an extra field.
        for text in [
            r#"{"id":"a"}"#,
            r#"{"ociVersion":"1.0","id":"a","pid":0,"root":"/x","bundle":"/b","status":"created","annotations":null}"#,
            r#"{"ociVersion":"1.1.0","id":"a","status":"creating","pid":77,"bundle":"/b","annotations":{"k":"v"}}"#,
        ] {
            assert_eq!(State::parse(text.as_bytes()).unwrap().id.as_str(), "a", "{text}");
        }
        let state = State::parse(br#"{"id":"a","pid":77,"annotations":{"k":"v","k":"w"}}"#).unwrap();
        assert_eq!((state.pid, state.annotation("k")), (Some(77), Some("w")));
    }

    #[test]
    fn hostile_states_are_errors_and_never_panics() {
        let deep = format!("{{\"id\":\"a\",\"annotations\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        for text in [
            "",
            "{}",
            "[]",
            "null",
            "not json",
            "{\"id\":7}",
            "{\"id\":\"../../etc\"}",
            "{\"id\":\"a\",\"pid\":-1}",
            "{\"id\":\"a\",\"pid\":1}",
            "{\"id\":\"a\",\"pid\":99999999999}",
            "{\"id\":\"a\"} trailing",
            "{\"id\":\"a\",\"annotations\":{\"k\":1}}",
            "{\"id\":\"a\\u0000b\"}",
            &deep,
        ] {
            assert!(State::parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(60)]);
        }
        let endless = std::io::repeat(b' ');
        assert!(State::read(endless).unwrap_err().to_string().contains("longer than"));
    }
}
