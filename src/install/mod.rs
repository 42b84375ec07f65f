//! Putting Plimsoll under the engines of a node, and taking it off again.
//!
//! An engine gets one more runtime handler: that of its default runtime, with our wrapper in the place of the runtime.
//! First everything is planned, and nothing is written where anything is wrong. Then comes the manifest, which says what
//! is about to change, then the programs, then the links to them, and last the engines' configurations: a cut between
//! any two of these leaves engines that start, and an install that can be finished or taken off.

mod annotations;
mod apply;
mod containerd;
mod crio;
mod disk;
mod docker;
mod document;
mod layers;
mod live;
mod manifest;
mod plan;
mod podman;
mod state;
mod uninstall;
mod wrapper;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use apply::{Outcome, install};
pub use state::{Handler, Kata, State};
pub use uninstall::uninstall;
pub use wrapper::is_ours;

use self::document::Keys;
use self::live::Made;
use self::manifest::Installed;
use self::plan::Plan;
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::policy::config::Shim;
use crate::programs::Programs;
use crate::runtime::real::KNOWN;

/// What a file of ours begins with.
const HEAD: &str = "# Made by `plimsoll install`; `plimsoll uninstall` removes it.\n";

/// A container engine that Plimsoll can be put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// containerd, for its CRI plugin.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker.
    Docker,
    /// Podman, for root.
    Podman,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 4] = [Self::Containerd, Self::Crio, Self::Docker, Self::Podman];

    /// Its name, as `--engine` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Its program, which is the name of its process, too.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "dockerd",
            other => other.name(),
        }
    }

    /// What makes it read its configuration again; running containers stay. Podman reads it each time.
    pub fn restart(self) -> Option<[&'static str; 3]> {
        match self {
            Self::Containerd => Some(["systemctl", "restart", "containerd"]),
            Self::Crio => Some(["systemctl", "restart", "crio"]),
            // Runtimes and the default one are among what dockerd reloads.
            Self::Docker => Some(["systemctl", "reload", "docker"]),
            Self::Podman => None,
        }
    }

    /// Whether its pods name a handler by a Kubernetes RuntimeClass.
    pub fn is_kubernetes(self) -> bool {
        matches!(self, Self::Containerd | Self::Crio)
    }

    /// Where its configuration is.
    fn config(self) -> &'static str {
        match self {
            Self::Containerd => "/etc/containerd/config.toml",
            Self::Crio => "/etc/crio/crio.conf",
            Self::Docker => "/etc/docker/daemon.json",
            Self::Podman => "/etc/containers/containers.conf",
        }
    }

    /// What would be done for it.
    fn plan(self, node: &Node, wish: &Wish, main: PathBuf, installed: Option<&Installed>) -> Result<Plan> {
        match self {
            Self::Containerd => containerd::plan(node, wish, main, installed),
            Self::Crio => crio::plan(node, wish, main, installed),
            Self::Docker => docker::plan(node, wish, main, installed),
            Self::Podman => podman::plan(node, wish, main, installed),
        }
    }

    /// What its file has to name besides a handler that stays, so that ours is not the default any more.
    fn other_default(self, base: &str, now: &Value, without: &Value) -> Option<(Keys, Value)> {
        match self {
            Self::Docker => docker::other_default(base, now, without),
            Self::Containerd | Self::Crio | Self::Podman => None,
        }
    }

    /// The containers whose runtime it asks for by its handler's name each time they are started, and where it has no
    /// daemon that remembers, each time it does anything to them.
    fn made(self, node: &Node, main: &Path) -> Result<Vec<Made>> {
        match self {
            Self::Containerd | Self::Crio => Ok(Vec::new()),
            Self::Docker => docker::made(node, main),
            Self::Podman => podman::made(node),
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
    /// The shims that it knows.
    pub shims: Shim,
}

impl Node {
    /// The engines whose programs are here.
    pub fn engines(&self) -> Vec<Engine> {
        Engine::ALL.into_iter().filter(|engine| self.programs.find(engine.program()).is_some()).collect()
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
        if !is_label || KNOWN.contains(&name.as_str()) {
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
