//! The operator's tool, as a person and as a script use it: the real binary, real containers where it matters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

#[path = "cli/containers.rs"]
mod containers;
#[path = "cli/fixtures.rs"]
mod fixtures;
#[path = "cli/manifests.rs"]
mod manifests;
#[path = "cli/usage.rs"]
mod usage;

use common::{Bundle, Ran, Sandbox, dist};
use serde_json::Value;

const QOS: &str = "koordinator.sh/qosClass";

/// Runs the tool with the sandbox's configuration.
fn tool(sandbox: &Sandbox, args: &[&str]) -> Ran {
    tool_with(sandbox, args, b"")
}

fn tool_with(sandbox: &Sandbox, args: &[&str], input: &[u8]) -> Ran {
    let config = sandbox.config_path();
    let all = [&["--config", config.to_str().unwrap()], args].concat();
    sandbox.command_with(dist("plimsoll"), &all, input)
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("not JSON: {e}: {ran:#?}"))
}

fn code(ran: &Ran) -> i32 {
    ran.status.code().unwrap_or_else(|| panic!("killed: {ran:#?}"))
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} should be in:\n{text}");
    }
}

/// The text with runs of blanks made one, for what stands in columns.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

/// A bundle with half a CPU.
fn limited(sandbox: &Sandbox, id: &str) -> Bundle {
    sandbox
        .bundle(id)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .plimsoll_hooks(sandbox)
}
