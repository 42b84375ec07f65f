//! Plimsoll under real engines, each in several versions: what kubelet, Docker and Podman users get.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "a test")]

mod common;

#[path = "engines/hand.rs"]
mod hand;
#[path = "engines/installed.rs"]
mod installed;
#[path = "engines/kit/mod.rs"]
mod kit;
#[path = "engines/pods.rs"]
mod pods;

/// The cpu group in a `/proc/<pid>/cgroup`.
fn cpu_group(text: &str) -> String {
    let of_cpu = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "cpu").then(|| path.to_owned())
    });
    of_cpu.unwrap_or_else(|| panic!("no cpu group in {text}"))
}

/// What a control file says; its group has to be there.
fn read(group: &str, name: &str) -> String {
    common::cgroup::read(group, name).unwrap_or_else(|| panic!("{name} of {group}"))
}
