//! Group Identity of ANCK 5.10: `cpu.bvt_warp_ns`, its switch, and burst without mainline's bound.

use crate::fixtures::{Driver, Errno, Kernel, Kube, Layout, Node};

const CLASSES: [(&str, &str, &str); 5] =
    [("LSE", "2", "22"), ("LSR", "2", "22"), ("LS", "2", "22"), ("BE", "-1", "9"), ("SYSTEM", "0", "0")];
const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";

#[test]
fn every_class_gets_its_identity_on_pod_and_container() {
    for layout in [Layout::V1, Layout::V2, Layout::Hybrid] {
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
            node.config(OPEN);
            for (class, bvt, flags) in CLASSES {
                let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
                let pod = node.pod(driver, kube, &class.to_lowercase());
                let one = pod.container(class).class(class);
                one.create();
                let what = format!("{class} {driver:?} {layout:?}");
                assert_eq!(node.refused(), [], "{what}");
                for path in [&pod.path, &one.path] {
                    assert_eq!(node.read(path, "cpu.bvt_warp_ns"), bvt, "{what} {path}");
                    assert_eq!(node.read(path, "cpu.identity"), flags, "{what} {path}");
                }
                assert_eq!(one.record()["rung"], "group-identity", "{what}");
                assert_eq!(one.phase(), "applied", "{what}: {:?}", one.errors());
                let logged = one.logged();
                assert_eq!(
                    (&logged["class"], &logged["bvt_warp_ns"]),
                    (&class.into(), &bvt.into()),
                    "{what}"
                );
                let lost = one.lost();
                assert!(!lost.iter().any(|l| l.starts_with("identity")), "{what}: {lost:?}");
            }
        }
    }
}

#[test]
fn the_qos_groups_get_what_koordlet_gives_them() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
        let low = node.pod(driver, Kube::BestEffort, "a");
        let high = node.pod(driver, Kube::Burstable, "b");
        node.write(low.root, "cpu.shares", "2048");
        low.container("low").class("BE").create();
        high.container("high").class("LS").create();
        let bvt = |group: &str| node.read(group, "cpu.bvt_warp_ns");
        assert_eq!([bvt(low.root), bvt(high.qos), bvt(low.qos)], ["0", "2", "-1"]);
        // A pod made later inherits.
        let later = node.pod(driver, Kube::BestEffort, "c");
        assert_eq!(later.read("cpu.bvt_warp_ns"), "-1");
    }
}

#[test]
fn the_qos_groups_are_left_alone_where_the_configuration_says_so() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    node.config("[identity]\nkube_qos_groups = false\n");
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE");
    one.create();
    assert_eq!(node.read(pod.qos, "cpu.bvt_warp_ns"), "0");
    assert_eq!(pod.read("cpu.bvt_warp_ns"), "-1");
}

#[test]
fn the_switch_is_turned_on_before_the_first_identity() {
    // What a write says while the switch is off is not known; it must not matter.
    for off_errno in [Errno::EINVAL, Errno::EPERM] {
        let Some(node) = Node::new(Kernel { off_errno, ..Kernel::anck_5_10() }) else { return };
        let one = node.pod(Driver::Systemd, Kube::Burstable, "a").container("one").class("LS");
        one.create();
        assert_eq!(node.sysctl("sched_group_identity_enabled"), "1");
        assert_eq!((node.refused(), one.read("cpu.bvt_warp_ns")), (vec![], "2".to_owned()));
    }
}

#[test]
fn a_switch_left_off_leaves_the_next_rung_and_says_so() {
    for (idle, rung, shares) in [(true, "idle", "3"), (false, "weight", "2")] {
        let Some(node) = Node::new(Kernel { idle, ..Kernel::anck_5_10() }) else { return };
        node.config("[identity]\ngroup_identity_switch = \"leave\"\n");
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let one = pod.container("one").class("BE");
        one.create();
        assert_eq!(node.sysctl("sched_group_identity_enabled"), "0");
        assert_eq!(
            (one.read("cpu.bvt_warp_ns"), pod.read("cpu.shares")),
            ("0".to_owned(), shares.to_owned())
        );
        assert_eq!(one.record()["rung"], rung);
        let said = one.logged()["lost"].as_str().unwrap().to_owned();
        assert!(said.contains("sched_group_identity_enabled is 0"), "{said}");
        assert_eq!(node.refused(), []);
    }
}

#[test]
fn a_switch_that_cannot_be_turned_is_reported_and_no_identity_is_tried() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    node.fail("sched_group_identity_enabled", Errno::EPERM, usize::MAX);
    let one = node.pod(Driver::Systemd, Kube::Burstable, "a").container("one").class("LS");
    one.create();
    let refused = node.refused();
    assert!(refused.iter().all(|w| w.file == "sched_group_identity_enabled"), "{refused:?}");
    assert_eq!(one.phase(), "degraded");
    let errors = one.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("sched_group_identity_enabled") && errors.contains("EPERM"), "{errors}");
}

#[test]
fn never_together_with_core_scheduling() {
    let Some(node) = Node::new(Kernel { core_sched: Some(true), idle: true, ..Kernel::anck_5_10() }) else {
        return;
    };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE");
    one.create();
    assert_eq!(
        (node.sysctl("sched_core"), node.sysctl("sched_group_identity_enabled")),
        ("1".into(), "0".into())
    );
    assert_eq!((pod.read("cpu.bvt_warp_ns"), pod.read("cpu.idle")), ("0".into(), "1".into()));
    let said = one.logged()["lost"].as_str().unwrap().to_owned();
    assert!(said.contains("core scheduling is on"), "{said}");
    one.stop();

    node.config("[identity]\ncore_scheduling = \"disable\"\n");
    let two = pod.container("two").class("BE");
    two.create();
    assert_eq!(node.refused(), []);
    assert_eq!(
        (node.sysctl("sched_core"), node.sysctl("sched_group_identity_enabled")),
        ("0".into(), "1".into())
    );
    assert_eq!((pod.read("cpu.bvt_warp_ns"), pod.read("cpu.idle")), ("-1".into(), "0".into()));
}

#[test]
fn kernels_that_crash_with_it_are_not_given_it() {
    for (release, rung) in [
        ("4.19.91-25.1.al7.x86_64", "weight"),
        ("4.19.91-25.5.al7.x86_64", "weight"),
        ("4.19.91-25.6.al7.x86_64", "group-identity"),
        ("4.19.91-24.al7.x86_64", "group-identity"),
    ] {
        let kernel = Kernel { release, switch: None, core_sched: None, ..Kernel::anck_5_10() };
        let Some(node) = Node::new(kernel) else { return };
        let one = node.pod(Driver::Cgroupfs, Kube::BestEffort, "a").container("one").class("BE");
        one.create();
        assert_eq!(one.record()["rung"], rung, "{release}");
        if rung == "weight" {
            assert_eq!(one.read("cpu.bvt_warp_ns"), "0", "{release}");
            let said = one.logged()["lost"].as_str().unwrap().to_owned();
            assert!(said.contains(release) && said.contains("crash"), "{said}");
        }
    }
}

/// The kernel ignores a write of the value that is there, also where `cpu.identity` was changed behind it.
#[test]
fn flags_changed_by_hand_are_repaired_though_the_value_is_right() {
    for (class, bvt, flags, foreign) in
        [("LS", "2", "22", "9"), ("BE", "-1", "9", "0"), ("SYSTEM", "0", "0", "22")]
    {
        let Some(node) = Node::new(Kernel { switch: None, ..Kernel::anck_5_10() }) else { return };
        node.config(OPEN);
        let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
        let pod =
            node.pod(Driver::Systemd, kube, "a").set("cpu.bvt_warp_ns", bvt).set("cpu.identity", foreign);
        let one = pod.container("one").class(class).set("cpu.bvt_warp_ns", bvt).set("cpu.identity", foreign);
        one.create();
        for path in [&pod.path, &one.path] {
            assert_eq!(node.read(path, "cpu.bvt_warp_ns"), bvt, "{class} {path}");
            assert_eq!(node.read(path, "cpu.identity"), flags, "{class} {path}");
        }
        assert_eq!(one.phase(), "applied", "{class}: {:?}", one.errors());
        // Somebody does it again before the start.
        node.write(&one.path, "cpu.identity", foreign);
        one.start();
        assert_eq!(one.read("cpu.identity"), flags, "{class}");
    }
}

#[test]
fn poststart_puts_back_what_others_changed() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.cfs_quota_us", "100000");
    let one = pod.container("one").class("LS").set("cpu.cfs_quota_us", "50000");
    one.create();
    node.write(&one.path, "cpu.bvt_warp_ns", "0");
    node.write(&pod.path, "cpu.bvt_warp_ns", "-1");
    node.write(&one.path, "cpu.cfs_burst_us", "0");
    one.start();
    assert_eq!((one.read("cpu.bvt_warp_ns"), pod.read("cpu.bvt_warp_ns")), ("2".into(), "2".into()));
    assert_eq!(one.read("cpu.cfs_burst_us"), "500000");
    let said = one.logged()["values"].as_str().unwrap().to_owned();
    assert!(said.contains("container bvt_warp_ns = 2") && said.contains("pod bvt_warp_ns = 2"), "{said}");
    // Nothing to say where nothing changed.
    let lines = node.log().len();
    one.start();
    assert_eq!(node.log().len(), lines);
}

#[test]
fn poststop_gives_the_pod_back_and_keeps_nothing() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
        node.config("[identity]\nkube_qos_groups = false\n");
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let (one, two) = (pod.container("one").class("BE"), pod.container("two").class("BE"));
        let before = node.files();
        one.create();
        two.create();
        one.stop();
        assert_eq!(pod.read("cpu.bvt_warp_ns"), "-1", "the other one is still there");
        two.stop();
        let switched = ("sched_group_identity_enabled".into(), "0".into(), "1".into());
        assert_eq!(node.changed(&before), [switched], "{layout:?}");
        for folder in ["containers", "exclusive", "groups"] {
            assert_eq!(node.kept(folder), Vec::<String>::new(), "{folder}");
        }
        let errors: Vec<_> = node.log().into_iter().filter(|line| !line["errors"].is_null()).collect();
        assert_eq!(errors, Vec::<serde_json::Value>::new());
    }
}

/// Anolis takes any burst; mainline's bound would take from the container what Koordinator gives it.
#[test]
fn burst_is_not_bound_to_the_quota() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
        let (quota, burst) = match layout {
            Layout::V1 => ("cpu.cfs_quota_us", "cpu.cfs_burst_us"),
            _ => ("cpu.max", "cpu.max.burst"),
        };
        let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set(quota, "150000");
        let one = pod.container("one").class("LS").set(quota, "50000");
        let two = pod.container("two").class("LS").set(quota, "20000");
        one.create();
        assert_eq!((one.read(burst), pod.read(burst)), ("500000".into(), "500000".into()), "{layout:?}");
        two.create();
        assert_eq!((two.read(burst), pod.read(burst)), ("200000".into(), "700000".into()), "{layout:?}");
        assert_eq!(node.refused(), []);
        two.stop();
        assert_eq!(pod.read(burst), "500000", "{layout:?}: one is still there");
        one.stop();
        assert_eq!(pod.read(burst), "0", "{layout:?}");
    }
}

/// crun with systemd puts the process into `<scope>/container`.
#[test]
fn the_group_crun_makes_below_the_scope_gets_the_same() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
        let (quota, burst) = match layout {
            Layout::V1 => ("cpu.cfs_quota_us", "cpu.cfs_burst_us"),
            _ => ("cpu.max", "cpu.max.burst"),
        };
        let pod = node.pod(Driver::Systemd, Kube::Burstable, "a");
        let one = pod.container("one").class("LS").set(quota, "50000").inner();
        let inner = format!("{}/container", one.path);
        node.write(&inner, quota, "50000");
        one.create();
        assert_eq!(node.refused(), []);
        for path in [&one.path, &inner] {
            assert_eq!(node.read(path, "cpu.bvt_warp_ns"), "2", "{layout:?} {path}");
            assert_eq!(node.read(path, burst), "500000", "{layout:?} {path}");
        }
        assert_eq!(one.logged()["cgroup"], one.path.as_str());
        node.write(&inner, burst, "0");
        one.start();
        assert_eq!(node.read(&inner, burst), "500000");
    }
}

/// Both `prestart` and `createRuntime` may be configured.
#[test]
fn a_hook_that_runs_twice_writes_once() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.cfs_quota_us", "90000");
    let one = pod.container("one").class("LS").set("cpu.cfs_quota_us", "50000");
    assert!(one.hook("prestart").ok);
    let (record, files, lines) = (one.record(), node.files(), node.log().len());
    one.create();
    assert_eq!((node.writes(), node.changed(&files)), (vec![], vec![]));
    assert_eq!((one.record(), node.log().len()), (record, lines));
}

/// A later write fails, and the policy says that the container must not start like this.
#[test]
fn a_refused_container_leaves_every_file_as_it_was() {
    let Some(node) = Node::new(Kernel { switch: Some(true), ..Kernel::anck_5_10() }) else { return };
    node.config("on_error = \"fail\"\n");
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.cfs_quota_us", "90000");
    let one = pod.container("one").class("LS").set("cpu.cfs_quota_us", "50000");
    let before = node.files();
    node.fail("cri-containerd-one.scope/cpu.cfs_burst_us", Errno::EIO, 2);
    let ran = one.hook("createRuntime");
    assert!(!ran.ok && ran.stderr.contains("EIO") && ran.stderr.contains("cpu.cfs_burst_us"), "{ran:?}");
    assert_eq!(node.changed(&before), []);
    assert_eq!((node.kept("containers"), node.record("one")), (vec![], None));
    let logged = one.logged();
    assert_eq!((&logged["msg"], &logged["level"]), (&"container refused".into(), &"error".into()));
}

/// Where it may start, the rest of what it asked for is there, and the failure is said.
#[test]
fn by_default_one_failed_write_costs_only_itself() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let one = node.pod(Driver::Systemd, Kube::Burstable, "a").container("one").class("LS");
    let one = one.set("cpu.cfs_quota_us", "50000");
    node.fail("cri-containerd-one.scope/cpu.bvt_warp_ns", Errno::EPERM, usize::MAX);
    one.create();
    assert_eq!((one.read("cpu.bvt_warp_ns"), one.read("cpu.cfs_burst_us")), ("0".into(), "500000".into()));
    assert_eq!(one.phase(), "degraded");
    assert!(one.errors()[0].contains("EPERM"), "{:?}", one.errors());
    assert_eq!(one.logged()["level"], "error");
}
