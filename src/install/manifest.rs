//! What was installed: enough to take it all off again, byte for byte.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Engine;
use super::disk;
use super::document::{Keys, Syntax};
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;

/// Where it is kept.
const PATH: &str = "/var/lib/plimsoll/install.json";
/// The form this version writes.
const VERSION: u32 = 1;

/// Everything `plimsoll install` did on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// What was changed, for each engine and main file.
    pub(super) engines: Vec<Installed>,
    /// The programs and links that were put there.
    pub(super) programs: Vec<PathBuf>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { version: VERSION, engines: Vec::new(), programs: Vec::new() }
    }
}

/// What was done for one engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installed {
    pub(super) engine: Engine,
    /// The engine's main file.
    pub(super) main: PathBuf,
    /// Our handler's name.
    pub(super) handler: String,
    /// The handler it was made from.
    pub(super) base: String,
    /// The files that were changed.
    pub(super) files: Vec<Touched>,
}

/// A file that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Touched {
    pub(super) path: PathBuf,
    pub(super) syntax: Syntax,
    /// Its text before; `None` where it was not there.
    pub(super) before: Option<String>,
    /// Its text after.
    pub(super) after: String,
    /// What is ours whatever others write below it.
    pub(super) owned: Vec<Keys>,
    /// The folders that were made for it, the topmost first.
    #[serde(default)]
    pub(super) folders: Vec<PathBuf>,
    /// Where it stands until it is whole.
    pub(super) beside: PathBuf,
}

impl Manifest {
    /// Where it is kept below a root.
    pub(super) fn path(roots: &Roots) -> PathBuf {
        roots.path(PATH)
    }

    /// Reads it; one that is not there is empty.
    pub(super) fn load(roots: &Roots) -> Result<Self> {
        let path = Self::path(roots);
        let Some(text) = disk::read(&path)? else { return Ok(Self::default()) };
        let invalid = |why: String| {
            Error::invalid(path.display().to_string(), why)
                .hint("it says what `plimsoll install` changed; without it take our handler out of the engine's configuration by hand, then remove it")
        };
        let manifest: Self =
            serde_json::from_str(&text).map_err(|e| invalid(format!("not understood: {e}")))?;
        match manifest.version {
            VERSION => Ok(manifest),
            other => Err(invalid(format!("version {other} is not {VERSION}"))),
        }
    }

    /// What was done for an engine with this main file.
    pub(super) fn of(&self, engine: Engine, main: &Path) -> Option<&Installed> {
        self.engines.iter().find(|installed| installed.engine == engine && installed.main == main)
    }

    /// Writes it, or removes it where there is nothing to say. It holds copies of configurations, so it is root's only.
    pub(super) fn save(&self, roots: &Roots) -> Result<()> {
        let path = Self::path(roots);
        let folder = path.parent().unwrap_or(&path);
        if self.engines.is_empty() && self.programs.is_empty() {
            disk::remove(&path)?;
            disk::sweep(&path, folder)?;
            // Whatever else is in the folder stays, and then the folder, too.
            let _ = std::fs::remove_dir(folder);
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::invalid(path.display().to_string(), e.to_string()))?;
        disk::write(&path, folder, 0o600, &text)
    }
}
