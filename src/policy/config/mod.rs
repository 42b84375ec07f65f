//! The node's configuration: one file and its drop-ins, every key with a default.
//!
//! The schema stands in one place, `sections`: the same lines make the types, the reader, the messages about wrong
//! values and the commented file that `plimsoll config show` prints.

mod choice;
mod kind;
mod load;
mod programs;
mod reader;
mod section;
mod sections;
mod show;
mod suggest;

pub use choice::{Boot, CoreScheduling, IdentitySwitch, Mechanism, OnError, Placement};
pub(in crate::policy) use load::read;
pub use load::{MAX_FILE_BYTES, MAX_FILES};
pub use programs::Programs;
pub use sections::{
    Claims, ClassConfig, Classes, Config, Cpusets, Exclusive, Identity, Koordinator, Log, Paths, Runtime,
    Shim, SystemCpus,
};

use crate::qos::QosClass;

/// Where the configuration is read from unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/plimsoll/config.toml";

impl Config {
    /// The settings of a class.
    pub fn class(&self, class: QosClass) -> &ClassConfig {
        match class {
            QosClass::Lse => &self.class.lse,
            QosClass::Lsr => &self.class.lsr,
            QosClass::Ls => &self.class.ls,
            QosClass::Be => &self.class.be,
            QosClass::System => &self.class.system,
        }
    }

    /// What happens to a container of this class when something could not be done; `None` where the class is not known.
    pub fn on_error(&self, class: Option<QosClass>) -> OnError {
        class.and_then(|class| self.class(class).on_error).unwrap_or(self.on_error)
    }

    /// Where containers of this class live.
    pub fn placement(&self, class: QosClass) -> Placement {
        self.class(class).placement.unwrap_or(self.placement)
    }
}

impl Claims {
    /// Whether a container of this namespace may claim LSE, LSR or SYSTEM, or pin CPUs; `None` is a container that has
    /// no Kubernetes namespace and is in no pod; of a pod whose namespace is not known ask for `Some("")`.
    pub fn allows(&self, namespace: Option<&str>) -> bool {
        let Some(namespace) = namespace else {
            return self.outside_kubernetes;
        };
        is_among(&self.namespaces, namespace)
    }
}

impl Shim {
    /// Whether the shim of a wrapper's name is Kata's.
    pub fn is_kata(&self, name: &str) -> bool {
        is_among(&self.kata, name)
    }
}

/// Whether a name is one of those listed; a `*` at an entry's end stands for any rest.
fn is_among(entries: &[String], name: &str) -> bool {
    entries.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == entry,
    })
}
