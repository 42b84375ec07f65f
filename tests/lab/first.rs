//! The first container of a machine: run by itself in the lab, before any group is there.

use std::fs;

use super::common::{Sandbox, cgroup, probed};

/// Nothing tells by then what this kernel gives a group: on v2 the root group has no such files.
#[test]
#[ignore = "for cgroup v2 without a group: make lab"]
fn the_first_container_is_planned_for_as_all_others() {
    let root = cgroup::dir("cpu", "/");
    for enabled in ["+cpu", "-cpu"] {
        let groups = fs::read_dir(&root).unwrap().flatten().filter(|entry| entry.path().is_dir());
        assert_eq!(groups.count(), 0, "this is a test of a machine without groups");
        fs::write(root.join("cgroup.subtree_control"), enabled).unwrap();
        let sandbox = Sandbox::wrapped("first");
        let be =
            sandbox.bundle("be").cgroup("plain/be").annotation("koordinator.sh/qosClass", "BE").waiting();
        sandbox.run_detached(&be).ok();
        let class = format!("{}/best-effort", sandbox.class_tree());
        assert_eq!(probed::group(&sandbox.probe(&be), "cpu"), format!("{class}/be"), "{}", sandbox.log());
        assert_eq!(cgroup::read(&class, "cpu.idle").as_deref(), Some("1"), "{enabled}");
        sandbox.delete_force(&be).ok();
    }
}
