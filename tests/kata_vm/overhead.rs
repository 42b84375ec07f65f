//! The group above Kata's overhead groups, which Kata leaves: whoever made it takes it away again.

use std::fs;
use std::sync::OnceLock;

use crate::common::cgroup;

const GROUP: &str = "/kata_overhead";

/// Removes it at its end, unless it was there before the first test. While another test uses it, it stays for that one.
#[derive(Debug)]
pub struct Overhead(());

impl Overhead {
    pub fn new() -> Self {
        was_there();
        Self(())
    }
}

impl Drop for Overhead {
    fn drop(&mut self) {
        if !was_there() {
            for hierarchy in cgroup::hierarchies() {
                let _ = fs::remove_dir(hierarchy.dir(GROUP));
            }
        }
    }
}

fn was_there() -> bool {
    static WAS_THERE: OnceLock<bool> = OnceLock::new();
    *WAS_THERE.get_or_init(|| cgroup::dir("cpu", GROUP).exists())
}
