//! `plimsoll install` and `uninstall` under engines that run meanwhile. (Every other test here installs, too.)

use super::kit::{Cli, Containerd, Files, Node, Pod, QOS, Suite, cpu};
use crate::common::invariants::{nothing_left, records};
use crate::common::wait_for;
use crate::read;

const WRAPPER: &str = "/usr/local/bin/plimsoll-runtime";

/// Takes Plimsoll off an engine whose container `id` runs, which must keep the programs it needs; `remove` ends it, and
/// then they go too. `/etc` is what it was before.
fn comes_off(node: &Node, engine: &str, before: &Files, id: &str, remove: impl FnOnce()) {
    assert_ne!(node.etc(), *before, "{engine} was installed");
    let refused = node.uninstall(engine);
    assert_eq!(refused.status.code(), Some(1), "{refused:#?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains(&id[..12]), "{id} in {said}");
    assert_eq!(node.etc(), *before);
    assert!(node.path(WRAPPER).exists());
    remove();
    nothing_left(&node.sandbox);
    node.uninstall(engine).ok();
    assert!(!node.path(WRAPPER).exists());
    assert_eq!(node.etc(), *before);
}

#[test]
fn containerd_comes_off_when_its_containers_are_gone() {
    for suite in Suite::ALL {
        let mut engine = Containerd::start(suite, "off");
        let pod = Pod::run(&engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        let id = pod.start(&engine, "main", cpu(512, 50_000)).unwrap();
        let remove = || pod.remove(&engine);
        comes_off(&engine.node, "containerd", &engine.before, &id, remove);

        engine.kill_and_restart();
        let pod = Pod::run(&engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        let id = pod.start(&engine, "main", cpu(512, 50_000)).unwrap();
        assert_eq!(read(&pod.group_of(&id), "cpu.cfs_burst_us"), "0");
        assert!(records(&engine.node.sandbox).is_empty());
        pod.remove(&engine);
    }
}

/// Without `--default`: a RuntimeClass for those who name it, and for nobody else.
#[test]
fn only_pods_that_name_the_runtime_class_are_treated() {
    for suite in Suite::ALL {
        let engine = Containerd::start_with_class(suite, "class");
        for (name, handler, burst) in
            [("ours", "quality", "50000"), ("none", "", "0"), ("other", "runc", "0")]
        {
            let pod = Pod::run_by(&engine, handler, name, "burstable", &[(QOS, "LS")]).unwrap();
            pod.start(&engine, "main", cpu(512, 50_000)).unwrap();
            assert_eq!(pod.probe("main")["files"]["cpu.cfs_burst_us"], burst, "handler {handler:?}");
            assert_eq!(records(&engine.node.sandbox).is_empty(), burst == "0");
            pod.remove(&engine);
            nothing_left(&engine.node.sandbox);
        }
    }
}

#[test]
fn docker_comes_off_when_its_containers_are_gone() {
    for suite in [Suite::Trixie, Suite::Forky] {
        let engine = Cli::docker(suite, "off");
        engine.start("ls", &["--annotation", &format!("{QOS}=LS")]).ok();
        let id = engine.id("ls");
        comes_off(&engine.node, "docker", &engine.before, &id, || engine.remove("ls"));
    }
}

/// Podman has no daemon that remembers: what its file no longer names it cannot stop. So its containers go first.
#[test]
fn podman_comes_off_after_its_containers() {
    for suite in Suite::ALL {
        let engine = Cli::podman(Node::new(suite, "off"), "runc");
        engine.start("ls", &["--annotation", &format!("{QOS}=LS")]).ok();
        assert_eq!(engine.probe("ls")["files"]["cpu.cfs_burst_us"], "50000");
        engine.remove("ls");
        // Its monitor ends a little later than the container is gone.
        wait_for("Podman's monitor to end", || {
            engine.node.uninstall("podman").status.success().then_some(())
        });
        assert!(!engine.node.path(WRAPPER).exists());
        assert_eq!(engine.node.etc(), engine.before);
        engine.start("ls", &["--annotation", &format!("{QOS}=LS")]).ok();
        assert_eq!(engine.probe("ls")["files"]["cpu.cfs_burst_us"], "0");
        engine.remove("ls");
        nothing_left(&engine.node.sandbox);
    }
}
