//! What takes a machine of a certain kind: run in the guests of `lab/`, each of which is one. Elsewhere these are ignored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

#[path = "lab/first.rs"]
mod first;
#[path = "lab/systemd.rs"]
mod systemd;
#[path = "lab/topology.rs"]
mod topology;
#[path = "lab/v2.rs"]
mod v2;
#[path = "lab/vendor.rs"]
mod vendor;
