//! `cpu.qos_level` of openEuler and Huawei Cloud EulerOS, `cpu.offline` of TencentOS.

use crate::fixtures::{Driver, Kernel, Kube, Node};

const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";

#[test]
fn openeuler_has_offline_and_nothing_above_normal() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Some(node) = Node::new(Kernel::openeuler()) else { return };
        node.config(OPEN);
        for (class, level) in [("LSE", "0"), ("LSR", "0"), ("LS", "0"), ("BE", "-1"), ("SYSTEM", "0")] {
            let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
            let pod = node.pod(driver, kube, &class.to_lowercase());
            let one = pod.container(class).class(class);
            one.create();
            assert_eq!(
                (pod.read("cpu.qos_level"), one.read("cpu.qos_level")),
                (level.into(), level.into()),
                "{class}"
            );
            assert_eq!(one.record()["rung"], "qos-level");
            assert_eq!(one.phase(), "applied", "{class}: {:?}", one.errors());
            let says = one.lost().iter().any(|l| l.contains("runs at the normal level"));
            assert_eq!(says, matches!(class, "LSE" | "LSR" | "LS"), "{class}: {:?}", one.lost());
            // 2 is tried, and 0 taken: no more than that, and no error of it.
            let tried: Vec<String> = node.refused().into_iter().map(|w| w.text).collect();
            assert!(tried.iter().all(|text| text == "2"), "{class}: {tried:?}");
        }
    }
}

/// The kernel never takes an offline group back.
#[test]
fn an_online_container_in_an_offline_pod_is_reported() {
    let Some(node) = Node::new(Kernel::openeuler()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set("cpu.qos_level", "-1");
    let one = pod.container("one").class("LS");
    assert_eq!(one.read("cpu.qos_level"), "-1");
    one.create();
    assert_eq!(one.read("cpu.qos_level"), "-1");
    assert_eq!(one.phase(), "degraded");
    let errors = one.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("never takes an offline group back"), "{errors}");

    node.config("on_error = \"fail\"\n");
    let two = pod.container("two").class("LS");
    let ran = two.hook("createRuntime");
    assert!(!ran.ok && ran.stderr.contains("never takes an offline group back"), "{ran:?}");
    assert_eq!(node.record("two"), None);
}

#[test]
fn an_offline_pod_stays_offline_and_its_end_is_no_error() {
    let Some(node) = Node::new(Kernel::openeuler()) else { return };
    let pod = node.pod(Driver::Cgroupfs, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE");
    one.create();
    one.stop();
    assert_eq!((pod.read("cpu.qos_level"), node.refused()), ("-1".into(), vec![]));
    assert_eq!((node.kept("containers"), node.kept("groups")), (vec![], vec![]));
    assert!(node.log().iter().all(|line| line["errors"].is_null()), "{:?}", node.log());
}

/// What cannot be put back must not be said to be.
#[test]
fn a_rollback_the_kernel_refuses_is_said() {
    let Some(node) = Node::new(Kernel::openeuler()) else { return };
    node.config("on_error = \"fail\"\n");
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE").batch(500, 1000, "1Gi");
    node.fail("one.scope/memory.limit_in_bytes", crate::fixtures::Errno::EBUSY, 2);
    let ran = one.hook("createRuntime");
    assert!(!ran.ok && ran.stderr.contains("EBUSY"), "{ran:?}");
    assert_eq!(pod.read("cpu.qos_level"), "-1");
    assert!(!ran.stderr.contains("everything was put back"), "{ran:?}");
    assert!(ran.stderr.contains("never takes an offline group back"), "{ran:?}");
}

#[test]
fn multilevel_kernels_take_every_level_and_nothing_is_lost() {
    for (identity, class, level) in [
        ("", "LS", "2"),
        ("", "BE", "-1"),
        ("[class.BE]\nidentity = -2\n", "BE", "-2"),
        ("[class.LS]\nidentity = 1\n", "LS", "1"),
    ] {
        let Some(node) = Node::new(Kernel::hce()) else { return };
        node.config(identity);
        let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
        let pod = node.pod(Driver::Systemd, kube, "a");
        let one = pod.container("one").class(class);
        one.create();
        assert_eq!(node.refused(), [], "{level}");
        assert_eq!((pod.read("cpu.qos_level"), one.read("cpu.qos_level")), (level.into(), level.into()));
        assert_eq!(one.logged()["qos_level"], level);
        assert!(!one.lost().iter().any(|l| l.starts_with("identity")), "{level}: {:?}", one.lost());
        one.stop();
        let left = if class == "BE" { level } else { "0" };
        assert_eq!(pod.read("cpu.qos_level"), left, "{level}");
    }
}

#[test]
fn tencent_marks_offline_work() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Some(node) = Node::new(Kernel::opencloudos()) else { return };
        node.config(OPEN);
        for (class, offline) in [("LSE", "0"), ("LSR", "0"), ("LS", "0"), ("BE", "1"), ("SYSTEM", "0")] {
            let kube = if class == "BE" { Kube::BestEffort } else { Kube::Burstable };
            let pod = node.pod(driver, kube, &class.to_lowercase());
            let one = pod.container(class).class(class);
            one.create();
            assert_eq!(
                (pod.read("cpu.offline"), one.read("cpu.offline")),
                (offline.into(), offline.into()),
                "{class}"
            );
            assert_eq!((&one.record()["rung"], node.refused()), (&"offline".into(), vec![]));
            assert_eq!(one.logged()["offline"], offline);
            let says = one.lost().iter().any(|l| l.contains("cpu.offline lowers offline work only"));
            assert_eq!(says, matches!(class, "LSE" | "LSR" | "LS"), "{class}: {:?}", one.lost());
            one.stop();
            assert_eq!(pod.read("cpu.offline"), "0", "{class}");
        }
    }
}
