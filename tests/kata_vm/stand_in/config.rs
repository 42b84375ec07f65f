//! The file a shim is configured by: Kata's `configuration.toml`, as far as it counts here, and a table of the
//! stand-in's own.

use std::env;
use std::fs;
use std::path::PathBuf;

use prost::Message;
use serde::Deserialize;

use super::messages::{Any, RuntimeOptions};

/// Whose ways the shim has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Flavour {
    /// The Go runtime before 3.5, which runs no `createRuntime` for the containers of a pod.
    #[serde(rename = "go-3.2")]
    Go32,
    /// The Go runtime since.
    #[serde(rename = "go-3.5")]
    Go35,
    /// The runtime in Rust.
    #[serde(rename = "runtime-rs")]
    RuntimeRs,
}

impl Flavour {
    pub fn is_go(self) -> bool {
        self != Self::RuntimeRs
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub hypervisor: Hypervisors,
    pub runtime: Runtime,
    pub stand_in: StandIn,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Hypervisors {
    pub qemu: Qemu,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Qemu {
    pub path: String,
    pub kernel: String,
    pub initrd: String,
    pub default_vcpus: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Runtime {
    pub sandbox_cgroup_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct StandIn {
    pub flavour: Flavour,
    /// The file that tells what was done.
    pub journal: PathBuf,
    /// The VMM's files are there; it has that name for the VMM too.
    pub folder: PathBuf,
    /// The command that becomes the VMM in the place where it is, if that is not here.
    pub enter: Vec<String>,
    /// QEMU's machine and accelerator.
    pub machine: String,
    pub accelerator: String,
    /// What the guest says on its console once it runs, which stands for the agent's first answer.
    pub answer: String,
    /// How long the guest may take to answer.
    pub dial_timeout_s: u64,
}

impl Config {
    /// The file is named by the options of the request, or by the environment.
    pub fn load(options: Option<&Any>) -> Result<Self, String> {
        // Other shims' options are no concern of Kata's.
        let is_ours = |options: &&Any| options.type_url.ends_with("runtimeoptions.v1.Options");
        let told = options.filter(is_ours).map(|options| RuntimeOptions::decode(options.value.as_slice()));
        let told = told.transpose().map_err(|e| format!("runtime options: {e}"))?;
        let path = told.map(|options| options.config_path).filter(|path| !path.is_empty());
        let path =
            path.or_else(|| env::var("KATA_CONF_FILE").ok()).ok_or("no configuration file was named")?;
        let text = fs::read_to_string(&path).map_err(|e| format!("read {path}: {e}"))?;
        toml::from_str(&text).map_err(|e| format!("{path}: {e}"))
    }
}
