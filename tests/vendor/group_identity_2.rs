//! Group Identity 2.0 of ANCK 6.6: `cpu.priority`, which drives `cpu.idle`, and a `cpu.identity` of another meaning.

use crate::fixtures::{Driver, Kernel, Kube, Layout, Node};

fn weight(layout: Layout) -> &'static str {
    if layout == Layout::V1 { "cpu.shares" } else { "cpu.weight" }
}

#[test]
fn online_classes_run_first_and_expel() {
    for layout in [Layout::V1, Layout::V2, Layout::Hybrid] {
        let Some(node) = Node::new(Kernel::anck_6_6().on(layout)) else { return };
        node.config("[claims]\nnamespaces = [\"*\"]\n");
        for (class, priority, identity) in
            [("LSE", "1", "1"), ("LSR", "1", "1"), ("LS", "1", "1"), ("SYSTEM", "0", "0")]
        {
            let pod = node.pod(Driver::Systemd, Kube::Burstable, &class.to_lowercase());
            let one = pod.container(class).class(class);
            one.create();
            assert_eq!(node.refused(), [], "{class} {layout:?}");
            for path in [&pod.path, &one.path] {
                assert_eq!(node.read(path, "cpu.priority"), priority, "{class} {path}");
                assert_eq!(node.read(path, "cpu.identity"), identity, "{class} {path}");
                assert_eq!(node.read(path, "cpu.idle"), "0", "{class} {path}");
            }
            assert_eq!(one.record()["rung"], "group-identity-2");
            assert_eq!(one.phase(), "applied", "{:?}", one.errors());
            assert_eq!(one.logged()["priority"], priority);
        }
    }
}

/// A low priority makes its group idle, and an idle group's weight cannot be written: on the container it would make
/// the runtime's next `update` fail.
#[test]
fn best_effort_is_low_at_the_pod_and_keeps_its_weight_in_it() {
    for layout in [Layout::V1, Layout::V2, Layout::Hybrid] {
        let Some(node) = Node::new(Kernel::anck_6_6().on(layout)) else { return };
        let weight = if layout == Layout::V2 { "cpu.weight" } else { "cpu.shares" };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let one = pod.container("one").class("BE").set(weight, "700");
        one.create();
        assert_eq!(node.refused(), [], "{layout:?}");
        assert_eq!((pod.read("cpu.priority"), pod.read("cpu.idle")), ("-1".into(), "1".into()), "{layout:?}");
        assert_eq!((pod.read("cpu.identity"), one.read("cpu.identity")), ("-1".into(), "-1".into()));
        assert_eq!((one.read("cpu.idle"), one.read(weight)), ("0".into(), "700".into()), "{layout:?}");
        assert_eq!(node.try_write(&one.path, weight, "300"), Ok(()));
        let lost = one.lost();
        assert!(lost.iter().any(|l| l.contains("unless the kernel's scheduler feature")), "{lost:?}");
        // Made later, it inherits the priority, and its weight can still be written.
        let two = pod.container("two").class("BE").set(weight, "500");
        two.create();
        assert_eq!(
            (two.read("cpu.priority"), two.read("cpu.idle"), two.read(weight)),
            ("-1".into(), "0".into(), "500".into())
        );
        assert_eq!(two.phase(), "applied", "{:?}", two.errors());
        assert_eq!(node.refused(), []);
    }
}

#[test]
fn batch_shares_of_a_low_pod_are_said_to_be_lost_and_the_containers_are_written() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_6_6().on(layout)) else { return };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let one = pod.container("one").class("BE").batch(500, 1000, "1Gi");
        one.create();
        assert_eq!(node.refused(), [], "{layout:?}");
        assert_eq!(one.phase(), "applied", "{layout:?}: {:?}", one.errors());
        let wanted = if layout == Layout::V1 { "512" } else { "20" };
        assert_eq!(one.read(weight(layout)), wanted);
        assert!(one.lost().iter().any(|l| l.contains("512 shares are not written")), "{:?}", one.lost());
    }
}

#[test]
fn poststop_gives_back_priority_idle_and_weight() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_6_6().on(layout)) else { return };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set(weight(layout), "77");
        let one = pod.container("one").class("BE");
        let before = node.files();
        one.create();
        assert_ne!(pod.read(weight(layout)), "77");
        one.stop();
        assert_eq!(node.changed(&before), [], "{layout:?}");
        assert_eq!((node.kept("containers"), node.kept("groups")), (vec![], vec![]));
        assert_eq!(node.refused(), []);
    }
}

/// What the kernel says where `cpu.idle` is written against the priority: the reason for the above.
#[test]
fn the_stand_in_refuses_idle_against_the_priority() {
    let Some(node) = Node::new(Kernel::anck_6_6()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set("cpu.priority", "-1");
    assert_eq!(pod.read("cpu.idle"), "1");
    assert!(node.try_write(&pod.path, "cpu.idle", "0").is_err());
    assert!(node.try_write(&pod.path, "cpu.weight", "50").is_err());
    let pod = pod.set("cpu.priority", "1");
    assert_eq!(pod.read("cpu.idle"), "0");
    assert!(node.try_write(&pod.path, "cpu.idle", "1").is_err());
    for bad in ["2", "-2", "x"] {
        assert!(node.try_write(&pod.path, "cpu.priority", bad).is_err(), "{bad}");
        assert!(node.try_write(&pod.path, "cpu.identity", bad).is_err(), "{bad}");
    }
}
