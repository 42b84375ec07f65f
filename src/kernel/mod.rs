//! What this node can do: its cgroup hierarchies, control files, identity mechanism and burst rules.

pub mod control;
pub mod fs;
pub mod group;
pub mod identity;
pub mod sysctl;
pub mod systemd;
pub mod topology;
