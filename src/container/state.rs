//! The OCI state a runtime writes to a hook's standard input (runtime-spec, "State").
//!
//! Runtimes disagree about it: Kata leaves out version and status, crun says `created` for `creating` and a version of
//! `1.0`, older crun leaves out the bundle. Only `id` is sure, so nothing else is demanded.

use std::io::{self, Read};

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

    /// Takes in a state that is of no use: a runtime that is still writing it would be killed (SIGPIPE; crun), and the
    /// container's start with it.
    pub fn skip(input: impl Read) {
        // What cannot be read cannot be waited for either.
        let _ = io::copy(&mut input.take(MAX_STATE + 1), &mut io::sink());
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

    /// Who the container is, in the words of the engine that made it: containerd's CRI plugin or CRI-O.
    ///
    /// An engine's own keys win over annotations of the pod that it copies, the other engine's do not: CRI-O copies the
    /// pod's annotations and then writes its type and kubelet's labels over them (`internal/factory/container`,
    /// `SpecAddAnnotations`), containerd lets through what `pod_annotations` names and then writes `io.kubernetes.cri.*`.
    pub fn who(&self) -> Who {
        let (crio, containerd) = (self.annotation(CRIO_TYPE), self.annotation(CRI_TYPE));
        let of_engine = |cri: &str, label: &str| {
            let (cri, label) = (self.annotation(cri), self.annotation(label));
            match (containerd.is_some(), crio.is_some()) {
                (false, true) => label,
                (true, false) => cri,
                // One of the two is the pod's doing: only what both say is sure.
                (true, true) => cri.filter(|_| cri == label),
                (false, false) => cri.or(label),
            }
        };
        let namespaces = ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
        let namespace = match namespaces.map(|key| self.annotation(key)) {
            // No entry of `claims.namespaces` but "*" fits that.
            [Some(one), Some(other)] if one != other => {
                Some(format!("({} or {})", bounded(one), bounded(other)))
            }
            _ => of_engine(namespaces[0], namespaces[1]).map(bounded),
        };
        Who {
            id: self.id.to_string(),
            bundle: self.bundle.clone(),
            namespace,
            pod: of_engine("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name").map(bounded),
            pod_uid: None,
            container: of_engine("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
                .map(bounded),
        }
    }
}

/// The sandbox that a container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The sandbox's id.
    pub id: ContainerId,
    /// What the container is to it.
    pub role: Role,
}

/// What a container is to its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The sandbox itself.
    Sandbox,
    /// One of the pod's containers.
    Workload,
    /// There is no pod: it is alone.
    Single,
}

impl State {
    /// The sandbox of the container, in the words of the engine that made it. The id of a state cannot be trusted where
    /// Kata wrote it: its Go runtime puts the sandbox's there at poststart and poststop.
    pub fn sandbox(&self) -> Result<Sandbox> {
        let kinds = [(CRI_TYPE, CRI_SANDBOX), (CRIO_TYPE, CRIO_SANDBOX)];
        let told = kinds.into_iter().find_map(|(kind, sandbox)| Some((self.annotation(kind)?, sandbox)));
        Ok(match told {
            Some(("sandbox", _)) => Sandbox { id: self.id.clone(), role: Role::Sandbox },
            Some((_, sandbox)) => {
                let id = self.annotation(sandbox).unwrap_or_else(|| self.id.as_str()).parse()?;
                Sandbox { id, role: Role::Workload }
            }
            None => Sandbox { id: self.id.clone(), role: Role::Single },
        })
    }
}

/// Whether annotations say that the container is a pod's sandbox (pause), which does no work of its own.
pub fn is_sandbox(annotations: &[(String, String)]) -> bool {
    let kind = |key| annotations.iter().rev().find(|(k, _)| k == key).map(|(_, kind)| kind.as_str());
    [CRI_TYPE, CRIO_TYPE].into_iter().any(|key| kind(key) == Some("sandbox"))
}

/// containerd's annotation that says `sandbox` or `container`.
const CRI_TYPE: &str = "io.kubernetes.cri.container-type";
/// The sandbox's id.
const CRI_SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
/// The same of CRI-O.
const CRIO_SANDBOX: &str = "io.kubernetes.cri-o.SandboxID";
/// The type in CRI-O's words.
const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";

/// Names go into records and logs; Kubernetes' are at most 253 bytes.
fn bounded(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::config::Config;

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

    fn who(pairs: &[(&str, &str)]) -> Who {
        let pairs: serde_json::Map<_, _> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let state = serde_json::json!({ "id": "a", "annotations": pairs });
        State::parse(state.to_string().as_bytes()).unwrap().who()
    }

    const CRI: &str = "io.kubernetes.cri.sandbox-namespace";
    const LABEL: &str = "io.kubernetes.pod.namespace";

    #[test]
    fn a_namespace_is_the_engines_word_and_not_the_pods() {
        let no_claim = Config::from_toml("c".as_ref(), "[claims]\nnamespaces = ['prod*']").unwrap().claims;
        for (pairs, namespace) in [
            (vec![(CRI_TYPE, "container"), (CRI, "prod")], Some("prod")),
            (vec![(CRIO_TYPE, "container"), (LABEL, "prod")], Some("prod")),
            (vec![(LABEL, "prod")], Some("prod")),
            // A pod's annotation on the other engine, alone or against the engine's.
            (vec![(CRIO_TYPE, "container"), (CRI, "prod")], None),
            (vec![(CRI_TYPE, "container"), (LABEL, "prod")], None),
            (vec![(CRIO_TYPE, "container"), (LABEL, "mine"), (CRI, "prod")], Some("(prod or mine)")),
            (vec![(CRI_TYPE, "container"), (LABEL, "prod"), (CRI, "mine")], Some("(mine or prod)")),
            // Both engines' marks: one of them is false.
            (vec![(CRI_TYPE, "container"), (CRIO_TYPE, "container"), (LABEL, "prod")], None),
            (vec![(CRI_TYPE, "container"), (CRIO_TYPE, "container"), (CRI, "prod")], None),
        ] {
            let found = who(&pairs).namespace;
            assert_eq!(found.as_deref(), namespace, "{pairs:?}");
            let may = no_claim.allows(Some(found.as_deref().unwrap_or("")));
            assert_eq!(may, namespace == Some("prod"), "{pairs:?}");
        }
    }

    #[test]
    fn a_container_name_is_the_engines_word_too() {
        let names = [("io.kubernetes.cri.container-name", "cri"), ("io.kubernetes.container.name", "label")];
        for (kind, name) in [(CRIO_TYPE, "label"), (CRI_TYPE, "cri")] {
            let pairs = [(kind, "container"), names[0], names[1]];
            assert_eq!(who(&pairs).container.as_deref(), Some(name), "{kind}");
        }
    }

    #[test]
    fn a_sandbox_is_told_from_a_container_on_both_engines() {
        for (key, kind, sandbox) in [
            (CRI_TYPE, "sandbox", true),
            (CRIO_TYPE, "sandbox", true),
            (CRI_TYPE, "container", false),
            ("other", "sandbox", false),
        ] {
            assert_eq!(is_sandbox(&[(key.to_owned(), kind.to_owned())]), sandbox, "{key} {kind}");
        }
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
