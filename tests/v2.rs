//! Mainline's cgroup v2 and the hybrid of both, which this machine does not run: the real hook on pretended nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod fixtures;

#[path = "vendor/v2_cpus.rs"]
mod cpus;
#[path = "vendor/v2_limits.rs"]
mod limits;

use fixtures::{Driver, Errno, Kernel, Kube, Layout, Node};

const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";

#[test]
fn best_effort_is_idle_at_the_pod_and_the_others_are_as_they_were() {
    for kernel in [Kernel::mainline_6_1(), Kernel::mainline_6_12()] {
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            let Some(node) = Node::new(kernel.clone()) else { return };
            node.config(OPEN);
            for class in ["LSE", "LSR", "LS", "BE", "SYSTEM"] {
                let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
                let pod = node.pod(driver, kube, &class.to_lowercase()).set("cpu.weight", "55");
                let one = pod.container(class).class(class).set("cpu.weight", "33");
                let before = node.files();
                one.create();
                assert_eq!(node.refused(), [], "{class} {driver:?}");
                assert_eq!((one.read("cpu.idle"), one.read("cpu.weight")), ("0".into(), "33".into()));
                assert_eq!(one.phase(), "applied", "{class}: {:?}", one.errors());
                assert_eq!(one.record()["rung"], "idle");
                let lost = one.lost();
                let says = |words: &str| lost.iter().any(|l| l.contains(words));
                if class == "BE" {
                    assert_eq!(pod.read("cpu.idle"), "1");
                    assert!(says("cpu.idle orders siblings only") && says("class-tree"), "{lost:?}");
                } else {
                    assert_eq!(node.changed(&before), [], "{class}");
                    assert_eq!(says("no wake-up preemption"), class != "SYSTEM", "{class}: {lost:?}");
                }
                one.stop();
                assert_eq!(
                    (pod.read("cpu.idle"), pod.read("cpu.weight")),
                    ("0".into(), "55".into()),
                    "{class}"
                );
                assert_eq!((node.kept("containers"), node.kept("groups")), (vec![], vec![]), "{class}");
            }
        }
    }
}

#[test]
fn without_any_mechanism_best_effort_gets_the_least_weight() {
    for layout in [Layout::V1, Layout::V2, Layout::Hybrid] {
        let Some(node) = Node::new(Kernel::mainline_5_10().on(layout)) else { return };
        let (weight, least) = if layout == Layout::V2 { ("cpu.weight", "1") } else { ("cpu.shares", "2") };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set(weight, "55");
        let one = pod.container("one").class("BE").set(weight, "33");
        one.create();
        assert_eq!((pod.read(weight), one.read(weight)), (least.into(), "33".into()), "{layout:?}");
        assert_eq!((&one.record()["rung"], node.refused()), (&"weight".into(), vec![]));
        assert!(one.lost().iter().any(|l| l.contains("still delays online wake-ups")), "{:?}", one.lost());
        one.stop();
        assert_eq!(pod.read(weight), "55", "{layout:?}");
    }
}

#[test]
fn a_pod_stays_idle_until_its_last_container_ends() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set("cpu.weight", "55");
    let (one, two) = (pod.container("one").class("BE"), pod.container("two").class("BE"));
    one.create();
    two.create();
    one.stop();
    assert_eq!(pod.read("cpu.idle"), "1");
    two.stop();
    assert_eq!((pod.read("cpu.idle"), pod.read("cpu.weight")), ("0".into(), "55".into()));
}

#[test]
fn poststart_makes_a_pod_idle_again() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = node.pod(Driver::Cgroupfs, Kube::BestEffort, "a").set("cpu.weight", "55");
    let one = pod.container("one").class("BE");
    one.create();
    node.write(&pod.path, "cpu.idle", "0");
    one.start();
    assert_eq!(pod.read("cpu.idle"), "1");
    let said = one.logged()["values"].as_str().unwrap().to_owned();
    assert_eq!(said, "pod idle = 1");
    one.stop();
    assert_eq!(pod.read("cpu.weight"), "55");
}

/// A hook cannot move a container of v2: memory and pids would go along.
#[test]
fn the_class_tree_is_out_of_a_hooks_reach_on_v2() {
    for layout in [Layout::V2, Layout::Hybrid] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
        let one = node.container("one", "/docker/one").class("BE");
        let before = node.files();
        one.create();
        assert_eq!(one.record()["placement"], "keep");
        assert_eq!((one.read("cpu.idle"), node.refused()), ("1".into(), vec![]));
        assert_eq!(node.files().len(), before.len(), "no group is made");
        let lost = one.lost();
        let says = |words: &str| lost.iter().any(|l| l.contains(words));
        assert!(says("on cgroup v2 a hook cannot move") && says("later write of its shares"), "{lost:?}");
        one.stop();
        assert_eq!(node.kept("containers"), Vec::<String>::new());
    }
}

/// As systemd takes one away when the last scope that wants it is gone.
#[test]
fn a_controller_that_was_taken_away_leaves_nothing_to_give_back() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE");
    one.create();
    assert_eq!((pod.read("cpu.idle"), node.kept("groups").len()), ("1".into(), 1));
    let above = pod.path.rsplit_once('/').unwrap().0.to_owned();
    node.machine().disable(&above, "cpu");
    assert_eq!(node.try_read(&pod.path, "cpu.idle"), None);
    one.stop();
    let in_part = |line: &serde_json::Value| line["msg"] == "container given back in part";
    assert!(!node.log().iter().any(in_part), "{:?}", node.log());
    assert_eq!((node.kept("containers"), node.kept("groups")), (vec![], vec![]));
}

#[test]
fn without_the_cpuset_controller_the_rest_is_done() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(OPEN);
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a");
    let one = pod.container("one").class("LSR").cpuset("2-3").set("cpu.max", "50000");
    node.machine().disable(&pod.path, "cpuset");
    assert_eq!(node.try_read(&one.path, "cpuset.cpus"), None);
    one.create();
    assert_eq!(node.refused(), []);
    assert!(
        one.lost().iter().any(|l| *l == format!("cpus: {} has no cpuset controller", one.path)),
        "{:?}",
        one.lost()
    );
    // Its quota stays: the CPUs are not its own.
    assert_eq!(one.read("cpu.max"), "50000 100000");
}

/// Without Kubernetes, on v1, a hook moves `cpu` and `cpuset`; what it made for the container goes at the end.
#[test]
fn on_v1_best_effort_moves_to_the_class_tree_and_leaves_it() {
    for kernel in [
        Kernel::mainline_5_10(),
        Kernel::mainline_6_12().on(Layout::V1),
        Kernel::openeuler(),
        Kernel::anck_6_6().on(Layout::V1),
        Kernel { switch: None, ..Kernel::anck_5_10() },
    ] {
        let release = kernel.release;
        let Some(node) = Node::new(kernel) else { return };
        node.config("[class.BE]\nplacement = \"class-tree\"\n");
        let one = node.container("one", "/docker/one").class("BE");
        let one = one.set("cpu.shares", "500").set("cpu.cfs_quota_us", "30000");
        let before = node.files();
        one.create();
        let moved = "/plimsoll/best-effort/one";
        assert_eq!(node.refused(), [], "{release}");
        assert_eq!(one.phase(), "applied", "{release}: {:?}", one.errors());
        assert_eq!(node.read(moved, "cpu.shares"), "500", "{release}");
        assert_eq!(node.read(moved, "cpu.cfs_quota_us"), "30000", "{release}");
        let (left, here) = (node.read("/docker/one", "cgroup.procs"), node.read(moved, "cgroup.procs"));
        assert_eq!((left.as_str(), here.is_empty()), ("", false), "{release}");
        one.stop();
        assert_eq!(node.try_read(moved, "cpu.shares"), None, "{release}");
        assert_eq!((node.changed(&before), node.kept("groups")), (vec![], vec![]), "{release}");
    }
}

/// What an engine calls its groups need not be unique, and a record can be lost: the id finds the group again.
#[test]
fn a_group_in_the_class_tree_is_named_by_the_containers_id() {
    let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    let (one, two) =
        (node.container("one", "/a/docker-one.scope"), node.container("two", "/b/docker-two.scope"));
    let (one, two) = (one.class("BE"), two.class("BE"));
    one.create();
    two.create();
    let leaf = |id: &str| node.try_read(&format!("/plimsoll/best-effort/{id}"), "cgroup.procs");
    assert!(leaf("one").is_some_and(|procs| !procs.is_empty()) && leaf("two").is_some());
    node.forget("one");
    one.stop();
    assert_eq!((leaf("one"), leaf("two").is_some()), (None, true));
}

/// A container that could not be moved is where it was: there it is treated, and nothing says otherwise.
#[test]
fn a_move_that_fails_leaves_the_container_treated_where_it_is() {
    for (end, errno) in [
        ("cpu,cpuacct/plimsoll/best-effort/one/cgroup.procs", Errno::EBUSY),
        ("cpuset/plimsoll/best-effort/one/cgroup.procs", Errno::ENOSPC),
        ("cpuset/plimsoll/best-effort/one", Errno::ENOSPC),
    ] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
        let one = node.container("one", "/docker/one").class("BE");
        let before = node.files();
        node.fail(end, errno, 1);
        one.create();
        let record = one.record();
        assert_eq!(
            (&record["placement"], &record["tree"]),
            (&"keep".into(), &serde_json::Value::Null),
            "{end}"
        );
        assert_eq!(record["groups"]["cpu"]["path"], "/docker/one", "{end}");
        assert_eq!(one.read("cpu.idle"), "1", "{end}");
        assert!(one.errors().iter().any(|error| error.contains(&errno.to_string())), "{:?}", one.errors());
        assert!(one.lost().iter().all(|lost| !lost.contains("moved by a hook")), "{:?}", one.lost());
        for file in ["cpu.shares", "cpuset.cpus"] {
            assert!(!node.read("/docker/one", "cgroup.procs").is_empty(), "{end}");
            assert_eq!(node.try_read("/plimsoll/best-effort/one", file), None, "{end}");
        }
        one.stop();
        assert_eq!((node.changed(&before), node.kept("containers")), (vec![], vec![]), "{end}");

        node.config("on_error = \"fail\"\n");
        let two = node.container("two", "/docker/two").class("BE");
        let before = node.files();
        node.fail(&end.replace("/one", "/two"), errno, 1);
        assert!(!two.hook("createRuntime").ok, "{end}");
        assert_eq!((node.changed(&before), node.kept("containers")), (vec![], vec![]), "{end}");
        assert_eq!(node.files().len(), before.len(), "{end}");
    }
}

#[test]
fn memory_nodes_and_burst_go_along_into_the_class_tree() {
    let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    let one = node.container("one", "/docker/one").class("BE").set("cpuset.mems", "1");
    let one = one.set("cpu.cfs_quota_us", "50000").set("cpu.cfs_burst_us", "20000");
    one.create();
    let moved = "/plimsoll/best-effort/one";
    assert_eq!(
        (node.read(moved, "cpuset.mems"), node.read(moved, "cpu.cfs_burst_us")),
        ("1".into(), "20000".into())
    );
    assert_eq!((node.refused(), one.phase()), (vec![], "applied"));
}

const BOTH_IN_TREE: &str = "[class.LS]\nplacement = \"class-tree\"\n[class.BE]\nplacement = \"class-tree\"\n";

/// A class's group is every container's of the class.
#[test]
fn a_container_with_an_identity_of_its_own_stays_out_of_its_classs_group() {
    for kernel in [
        Kernel::mainline_6_12().on(Layout::V1),
        Kernel::mainline_5_10(),
        Kernel::anck_6_6().on(Layout::V1),
        Kernel::anck_5_10(),
    ] {
        let Some(node) = Node::new(kernel) else { return };
        node.config(BOTH_IN_TREE);
        let ls = node.container("ls", "/docker/ls").class("LS");
        ls.create();
        let class: Vec<_> =
            node.files().into_iter().filter(|(path, _)| path.contains(":/plimsoll/")).collect();
        let low = node.container("low", "/docker/low").class("LS");
        let low = low.annotation("koordinator.sh/cpuQOS", r#"{"enable":true,"groupIdentity":-1}"#);
        low.create();
        assert_eq!(low.record()["placement"], "keep");
        assert!(low.lost().iter().any(|l| l.contains("not that of LS (2)")), "{:?}", low.lost());
        let after: Vec<_> =
            node.files().into_iter().filter(|(path, _)| path.contains(":/plimsoll/")).collect();
        assert_eq!(class, after);
        assert_eq!((low.phase(), ls.record()["placement"].as_str()), ("applied", Some("class-tree")));
    }
}

/// Best effort alone makes the whole tree low; online containers must not come to live in that.
#[test]
fn a_tree_that_was_best_efforts_alone_is_normal_again_for_an_online_container() {
    for (kernel, file, low, normal) in [
        (Kernel::mainline_6_12().on(Layout::V1), "cpu.idle", "1", "0"),
        (Kernel::mainline_5_10(), "cpu.shares", "2", "1024"),
        (Kernel::anck_6_6().on(Layout::V1), "cpu.priority", "-1", "0"),
    ] {
        let Some(node) = Node::new(kernel) else { return };
        node.config("[class.BE]\nplacement = \"class-tree\"\n");
        let be = node.container("be", "/docker/be").class("BE");
        be.create();
        assert_eq!(node.read("/plimsoll", file), low);
        node.config(BOTH_IN_TREE);
        let class = "/plimsoll/latency-sensitive";
        for ls in ["one", "two"] {
            let ls = node.container(ls, &format!("/docker/{ls}")).class("LS");
            ls.create();
            assert_eq!((ls.phase(), node.refused()), ("applied", vec![]), "{:?}", ls.errors());
            assert_eq!(node.read("/plimsoll", file), normal, "{file}");
            assert_ne!(node.read(class, file), low, "{file}");
            assert_eq!(node.read("/plimsoll/best-effort", file), low, "{file}");
            if file != "cpu.priority" {
                // As a configuration before may have left it.
                node.write(class, file, low);
            }
        }
        be.start();
        assert_eq!(node.read("/plimsoll", file), normal, "{file}: best effort's record is older");
    }
}
