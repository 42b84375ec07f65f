//! Putting Plimsoll under the engines of a node, and taking it off again.
//!
//! An engine gets one more runtime handler: that of its default runtime, with our wrapper in the place of the runtime.
//! First everything is planned, and nothing is written where anything is wrong. Then comes the manifest, which says what
//! is about to change, then the programs, then the links to them, and last the engines' configurations: a cut between
//! any two of these leaves engines that start, and an install that can be finished or taken off.

mod annotations;
mod apply;
mod containerd;
mod disk;
mod document;
mod manifest;
mod plan;
mod wrapper;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use annotations::{missing, patterns};
pub use apply::{Outcome, install};
pub use wrapper::{WRAPPER, is_ours};

use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::policy::config::Config;
use crate::programs::Programs;

/// A container engine that Plimsoll can be put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// containerd, for its CRI plugin.
    Containerd,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 1] = [Self::Containerd];

    /// Its name, which is that of its systemd unit, too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
        }
    }

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
        }
    }

    /// What to do so that it reads its configuration again; running containers stay.
    pub fn restart(self) -> Option<[&'static str; 3]> {
        match self {
            Self::Containerd => Some(["systemctl", "restart", "containerd"]),
        }
    }

    /// Where its configuration is.
    fn config(self) -> &'static str {
        match self {
            Self::Containerd => "/etc/containerd/config.toml",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The node to work on.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where its files are.
    pub roots: Roots,
    /// Its programs.
    pub programs: Programs,
    /// Whether it is this one, so that engines may be asked and restarted.
    pub is_live: bool,
    /// The runtime that Plimsoll's own configuration names.
    pub runtime: Option<PathBuf>,
}

impl Node {
    /// The engines that are here: the program is, or its configuration.
    pub fn engines(&self) -> Vec<Engine> {
        let is_here = |engine: &Engine| {
            self.programs.find(engine.program()).is_some() || self.roots.path(engine.config()).exists()
        };
        Engine::ALL.into_iter().filter(is_here).collect()
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The engine; `None` stands for every one that is here.
    pub engine: Option<Engine>,
    /// The engine's main file, where it is not at its usual place.
    pub config: Option<PathBuf>,
    /// Our handler's name.
    pub handler: String,
    /// Whether it is to be the default.
    pub is_default: bool,
    /// Where the programs go, on the node.
    pub bin_dir: PathBuf,
}

impl Wish {
    /// # Errors
    ///
    /// The handler's name is none, or the folder's path is not absolute.
    fn check(&self) -> Result<()> {
        let name = &self.handler;
        let is_label = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_label || wrapper::NAMED.contains(&name.as_str()) {
            return Err(Error::invalid(
                format!("runtime class {name:?}"),
                "not a name for a handler: 1 to 63 of a-z, 0-9 and -, and no runtime's own",
            ));
        }
        let is_plain = self.bin_dir.to_str().is_some_and(|path| !path.contains(char::is_control));
        if !self.bin_dir.is_absolute() || !is_plain {
            return Err(Error::invalid(
                self.bin_dir.display().to_string(),
                "not an absolute path for programs",
            ));
        }
        Ok(())
    }
}

/// The runtime that Plimsoll's configuration names for the wrapper, the last file that does.
///
/// # Errors
///
/// A file cannot be read.
pub fn configured_runtime(config: &std::path::Path) -> Result<Option<PathBuf>> {
    let mut found = None;
    for file in Config::files(config)? {
        let Some(text) = disk::read(&file)? else { continue };
        let value = document::Document::parse(document::Syntax::Toml, &file, &text)?.value();
        let path = document::get(&value, &["runtime", "path"]).and_then(serde_json::Value::as_str);
        found = path.filter(|path| !path.is_empty()).map(PathBuf::from).or(found);
    }
    Ok(found)
}
