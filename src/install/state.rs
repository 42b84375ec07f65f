//! Whether a container that an engine starts now would pass through Plimsoll.

use std::path::PathBuf;

use super::{Engine, Node, containerd, crio, docker, podman};
use crate::error::Result;

/// What an engine is told to do.
#[derive(Clone, Debug)]
pub struct State {
    /// Its handlers that call our wrapper.
    pub handlers: Vec<Handler>,
    /// The handler of containers that name none.
    pub default: String,
    /// The files that say so.
    pub files: Vec<PathBuf>,
    /// Why nothing passes at all.
    pub off: Option<String>,
    /// Its handlers of Kata Containers, ours among them.
    pub katas: Vec<Kata>,
}

/// A handler of Kata Containers.
#[derive(Clone, Debug)]
pub struct Kata {
    /// Its name.
    pub name: String,
    /// Kata's own configuration, where the handler names one.
    pub config: Option<PathBuf>,
    /// Whether a pod's annotation may choose where its virtual machine's groups are.
    pub is_open: bool,
}

/// A handler that calls our wrapper.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// The wrapper's path in it.
    pub runtime: String,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

impl Node {
    /// What an engine is told to do, by its files at their usual places.
    ///
    /// # Errors
    ///
    /// They cannot be read or understood.
    pub fn state(&self, engine: Engine) -> Result<State> {
        let main = self.roots.path(engine.config());
        match engine {
            Engine::Containerd => containerd::state(self, &main),
            Engine::Crio => crio::state(self, &main),
            Engine::Docker => docker::state(&main),
            Engine::Podman => podman::state(self, &main),
        }
    }
}
