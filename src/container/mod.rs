//! Who a container is: the state the runtime hands to a hook, its bundle, and the groups its process is in.

pub mod bundle;
pub mod edits;
pub mod kube;
mod pairs;
pub mod place;
pub mod state;
pub mod vm;
pub mod vmm;

pub use edits::Edits;
pub use place::Place;
pub use state::{Role, Sandbox, State};
pub use vm::Vm;
pub use vmm::Vmm;
