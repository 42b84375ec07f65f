//! The first container of a machine: run by itself in the lab, before any group is there.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::common::{Sandbox, cgroup, probed};

/// Starts a best-effort container where no other is; it has to be in the class tree.
fn starts_in_the_class_tree(when: &str) {
    let sandbox = Sandbox::wrapped("first");
    let be = sandbox.bundle("be").cgroup("plain/be").annotation("koordinator.sh/qosClass", "BE").waiting();
    sandbox.run_detached(&be).ok();
    let class = format!("{}/best-effort", sandbox.class_tree());
    assert_eq!(probed::group(&sandbox.probe(&be), "cpu"), format!("{class}/be"), "{when}: {}", sandbox.log());
    assert_eq!(cgroup::read(&class, "cpu.idle").as_deref(), Some("1"), "{when}");
    sandbox.delete_force(&be).ok();
}

fn groups(root: &Path) -> usize {
    fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir()).count()
}

/// Nothing tells by then what this kernel gives a group: on v2 the root group has no such files.
#[test]
#[ignore = "for cgroup v2 without a group: make lab"]
fn the_first_container_is_planned_for_as_all_others() {
    let root = cgroup::dir("cpu", "/");
    for enabled in ["+cpu", "-cpu"] {
        assert_eq!(groups(&root), 0, "this is a test of a machine without groups");
        fs::write(root.join("cgroup.subtree_control"), enabled).unwrap();
        starts_in_the_class_tree(enabled);
    }
    // What would tell may be gone the next moment.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let passing = root.join("plimsoll-test-passing");
            while !is_over.load(Ordering::Relaxed) {
                fs::create_dir(&passing).unwrap();
                fs::remove_dir(&passing).unwrap();
            }
        });
        let ran = std::panic::catch_unwind(|| {
            (0..8).for_each(|_| starts_in_the_class_tree("while others come and go"));
        });
        is_over.store(true, Ordering::Relaxed);
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
