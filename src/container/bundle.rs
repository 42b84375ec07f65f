//! The bundle's `config.json`, where the state alone does not do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::pairs::Annotations;
use crate::error::{Error, Result};

/// How large a `config.json` may be, in bytes; real ones are tens of kilobytes.
pub const MAX_SPEC: u64 = 16 * 1024 * 1024;

/// `linux.resources.cpu`, as far as it is of use.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cpu {
    /// Relative weight; 0 is unset.
    #[serde(default)]
    pub shares: Option<u64>,
    /// CFS quota, microseconds per period; 0 is unset, -1 is no limit.
    #[serde(default)]
    pub quota: Option<i64>,
    /// CFS period, microseconds; 0 is unset.
    #[serde(default)]
    pub period: Option<u64>,
    /// The CPUs, as a list; empty is unset.
    #[serde(default)]
    pub cpus: Option<String>,
    /// The memory nodes, likewise.
    #[serde(default)]
    pub mems: Option<String>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Option<Annotations>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath", default)]
    cgroups_path: Option<String>,
}

fn read(bundle: &str) -> Result<Spec> {
    let path = Path::new(bundle).join("config.json");
    let file = File::open(&path).map_err(|e| Error::os("read", &path, &e))?;
    let mut bytes = Vec::new();
    file.take(MAX_SPEC).read_to_end(&mut bytes).map_err(|e| Error::os("read", &path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::invalid(path.display().to_string(), e.to_string()))
}

/// The annotations in a bundle.
pub fn annotations(bundle: &str) -> Result<Vec<(String, String)>> {
    Ok(read(bundle)?.annotations.map(|Annotations(pairs)| pairs).unwrap_or_default())
}

/// `linux.cgroupsPath` in a bundle.
pub fn cgroups_path(bundle: &str) -> Result<Option<String>> {
    Ok(read(bundle)?.linux.and_then(|linux| linux.cgroups_path))
}
