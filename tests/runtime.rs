//! `plimsoll-runtime`: real containers started through it, on the real runc.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

#[path = "runtime/after_create.rs"]
mod after_create;
#[path = "runtime/failure.rs"]
mod failure;
#[path = "runtime/killed.rs"]
mod killed;
#[path = "runtime/process.rs"]
mod process;
#[path = "runtime/real.rs"]
mod real;
#[path = "runtime/spec_edit.rs"]
mod spec_edit;
#[path = "runtime/transparency.rs"]
mod transparency;
#[path = "runtime/treated.rs"]
mod treated;
#[path = "runtime/twin.rs"]
mod twin;
#[path = "runtime/usage.rs"]
mod usage;

const QOS: &str = "koordinator.sh/qosClass";
