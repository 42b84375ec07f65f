//! Plimsoll under real engines, each in several versions: what kubelet, Docker and Podman users get.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "a test")]

mod common;

use common::cgroup::is_v1;

#[path = "engines/hand.rs"]
mod hand;
#[path = "engines/installed.rs"]
mod installed;
#[path = "engines/kit/mod.rs"]
mod kit;
#[path = "engines/pods.rs"]
mod pods;
#[path = "engines/systemd.rs"]
mod systemd;

/// The cpu group in a `/proc/<pid>/cgroup`.
fn cpu_group(text: &str) -> String {
    let of_cpu = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_cpus =
            controllers.split(',').any(|name| name == "cpu") || (controllers.is_empty() && !is_v1());
        is_cpus.then(|| path.to_owned())
    });
    of_cpu.unwrap_or_else(|| panic!("no cpu group in {text}"))
}

/// The class tree's group for best effort.
fn best_effort(node: &kit::Node) -> String {
    if kit::by_systemd() {
        let stem = node.stem();
        return format!("/{stem}.slice/{stem}-plimsoll.slice/{stem}-plimsoll-besteffort.slice");
    }
    format!("{}/best-effort", node.sandbox.class_tree())
}

/// What a control file says; its group has to be there.
fn read(group: &str, name: &str) -> String {
    common::cgroup::read(group, name).unwrap_or_else(|| panic!("{name} of {group}"))
}
