//! Plimsoll under real engines, each in several versions: what kubelet, Docker and Podman users get.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "a test")]

mod common;

#[path = "engines/kit/mod.rs"]
mod kit;
#[path = "engines/pods.rs"]
mod pods;
