//! `plimsoll install` and `uninstall`: the real tool on trees of files, and inside Debian releases with their own engines,
//! which are asked what they make of the result.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

#[path = "install/bad_input.rs"]
mod bad_input;
#[path = "install/check.rs"]
mod check;
#[path = "install/containerd.rs"]
mod containerd;
#[path = "install/cut.rs"]
mod cut;
#[path = "install/engines.rs"]
mod engines;
#[path = "install/kata.rs"]
mod kata;
#[path = "install/real.rs"]
mod real;
#[path = "install/tree.rs"]
mod tree;
#[path = "install/uninstall.rs"]
mod uninstall;

use common::Ran;

/// What every handler of ours lets through.
const PATTERNS: &str = r#""koordinator.sh/*", "*.koordinator.sh/*", "volcano.sh/*", "katalyst.kubewharf.io/*", "qos.gocrane.io/*""#;

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} should be in:\n{text}");
    }
}

/// It failed with 1, said this on standard error, and on standard output nothing.
#[track_caller]
fn refuses(ran: &Ran, parts: &[&str]) {
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    says(&ran.stderr, parts);
}
