//! Kata Containers: the hook on the states, groups and processes of every Kata, and the shim's wrapper.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod fixtures;

#[path = "kata/cpus.rs"]
mod cpus;
#[path = "kata/hooks.rs"]
mod hooks;
#[path = "kata/shim.rs"]
mod shim;
