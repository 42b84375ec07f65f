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
    for suite in Suite::all() {
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
    for suite in Suite::all() {
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

/// What Docker and Podman made through the wrapper they know by its handler's name, which stays for so long: what runs
/// is killed, and what is stopped starts again. The default goes at once.
fn comes_off_by_and_by(engine: &Cli, name: &str) {
    let (node, asks) = (&engine.node, format!("{QOS}=LS"));
    let burst = |name: &str| engine.probe(name)["files"]["cpu.cfs_burst_us"].clone();
    let options = ["--annotation", &asks];
    for container in ["running", "stopped"] {
        engine.start(container, &options).ok();
        assert_eq!(burst(container), "50000");
    }
    let ids = ["running", "stopped"].map(|container| engine.id(container));
    engine.stop("stopped");
    let refused = |ids: &[String]| {
        let ran = node.uninstall(name);
        assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
        for id in ids {
            assert!(ran.stdout.contains(id.as_str()), "{id} in {ran:#?}");
        }
        assert!(node.path(WRAPPER).exists());
    };
    refused(&ids);
    engine.reload();
    // Who names no runtime is not treated any more; who has one keeps it.
    engine.start("new", &options).ok();
    assert_eq!(burst("new"), "0");
    engine.remove("new");
    engine.remove("running");
    refused(&ids[1..]);
    engine.call(&["start", "stopped"]).ok();
    let treated: Vec<String> = records(&node.sandbox).into_iter().map(|(id, _)| id).collect();
    assert_eq!(treated, ids[1..]);
    engine.stop("stopped");
    engine.remove("stopped");
    nothing_left(&node.sandbox);
    // Podman's monitor ends a little later than the container is gone.
    wait_for("the last monitor to end", || node.uninstall(name).status.success().then_some(()));
    assert!(!node.path(WRAPPER).exists());
    assert_eq!(node.etc(), engine.before);
    engine.reload();
    engine.start("new", &options).ok();
    assert_eq!(burst("new"), "0");
    engine.remove("new");
    nothing_left(&node.sandbox);
}

#[test]
fn docker_comes_off_when_its_containers_are_gone() {
    for suite in [Suite::Trixie, Suite::Forky] {
        comes_off_by_and_by(&Cli::docker(suite, "off"), "docker");
    }
}

/// A reload leaves Docker the default that its file no longer names: until it has another nothing it calls is removed.
#[test]
fn docker_comes_off_when_its_daemon_has_another_default() {
    let engine = Cli::docker(Suite::Forky, "default");
    let refused = engine.node.uninstall("docker");
    assert_eq!(refused.status.code(), Some(1), "{refused:#?}");
    assert!(
        refused.stdout.contains("the daemon of docker still refers to the runtime plimsoll"),
        "{refused:#?}"
    );
    engine.start("between", &[]).ok();
    engine.remove("between");
    engine.reload();
    engine.node.uninstall("docker").ok();
    assert!(!engine.node.path(WRAPPER).exists());
    assert_eq!(engine.node.etc(), engine.before);
    engine.reload();
    engine.start("after", &[]).ok();
    engine.remove("after");
}

#[test]
fn podman_comes_off_when_its_containers_are_gone() {
    for suite in Suite::all() {
        comes_off_by_and_by(&Cli::podman(Node::new(suite, "off"), "runc"), "podman");
    }
}
