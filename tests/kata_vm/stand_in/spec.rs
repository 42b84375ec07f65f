//! What Kata reads of a bundle's `config.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use plimsoll::cpuset::CpuSet;
use serde::Deserialize;

/// A hook of the spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Hook {
    pub path: String,
    #[serde(default)]
    pub args: Vec<String>,
    pub env: Option<Vec<String>>,
    pub timeout: Option<u64>,
}

/// The hooks Kata runs on the host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    cgroups_path: String,
    resources: Resources,
}

/// `linux.resources`, which an update brings alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu: Option<Cpu>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cpu {
    pub cpus: String,
}

impl Resources {
    fn cpus(&self) -> &str {
        self.cpu.as_ref().map_or("", |cpu| &cpu.cpus)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub annotations: BTreeMap<String, String>,
    pub hooks: Option<Hooks>,
    linux: Linux,
}

impl Spec {
    /// The spec of a bundle.
    pub fn load(bundle: &Path) -> Result<Self, String> {
        let file = bundle.join("config.json");
        let text = fs::read(&file).map_err(|e| format!("open {}: {e}", file.display()))?;
        let value: serde_json::Map<_, _> =
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::deserialize(serde_json::Value::Object(value)).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Whether a VM is made for it: it is a sandbox, or a container by itself.
    pub fn is_sandbox(&self) -> bool {
        self.kind() != "pod_container"
    }

    /// As Kata calls it.
    pub fn kind(&self) -> &'static str {
        match self.annotations.get("io.kubernetes.cri.container-type").map(String::as_str) {
            Some("sandbox") => "pod_sandbox",
            Some("container") => "pod_container",
            _ => "single_container",
        }
    }

    /// The sandbox that a container of a pod is in.
    pub fn sandbox(&self) -> Option<&str> {
        (!self.is_sandbox())
            .then(|| self.annotations.get("io.kubernetes.cri.sandbox-id"))
            .flatten()
            .map(String::as_str)
    }

    pub fn hooks(&self) -> Hooks {
        self.hooks.clone().unwrap_or_default()
    }

    pub fn cgroups_path(&self) -> &str {
        &self.linux.cgroups_path
    }

    /// `linux.resources.cpu.cpus`, as it is written there.
    pub fn cpus(&self) -> &str {
        self.linux.resources.cpus()
    }

    /// Whether it says anything of CPUs.
    pub fn has_cpu(&self) -> bool {
        self.linux.resources.cpu.is_some()
    }

    /// What an update asks for is from now on what the spec asks for.
    pub fn update(&mut self, resources: Resources) {
        if !resources.cpus().is_empty() {
            self.linux.resources = resources;
        }
    }
}

/// All the CPUs that any of these asks for; nothing where none asks.
pub fn union<'a>(specs: impl Iterator<Item = &'a Spec>) -> Result<String, String> {
    let mut all = CpuSet::new();
    for spec in specs.filter(|spec| !spec.cpus().is_empty()) {
        let cpus: CpuSet = spec.cpus().parse().map_err(|e| format!("cpus {:?}: {e}", spec.cpus()))?;
        all = all.union(&cpus);
    }
    Ok(all.to_string())
}
