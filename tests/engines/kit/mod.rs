//! Real engines, each in a machine of its own.

#![allow(missing_docs, reason = "CRI's own names")]

pub mod cli;
pub mod containerd;
pub mod cri;
pub mod grpc;
pub mod kubelet;
pub mod node;

pub use cli::Cli;
pub use containerd::{Containerd, IMAGE};
pub use kubelet::{Pod, QOS, cpu, systemctl};
pub use node::{Files, Node, Suite, by_systemd};
