//! Quota, burst, weight and memory.

use crate::fixtures::{Burst, Driver, Errno, Kernel, Kube, Layout, Node, Written};

/// Everyone may loosen limits.
const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";

/// The writes of a file to groups whose path ends like this, in order.
fn texts(writes: &[Written], end: &str, file: &str) -> Vec<String> {
    let these = writes.iter().filter(|w| w.group.ends_with(end) && w.file == file);
    these.map(|w| w.text.clone()).collect()
}

#[test]
fn burst_is_at_most_the_quota_and_the_pods_is_the_sum() {
    for burst in [Burst::UpToQuota, Burst::Divided] {
        let Some(node) = Node::new(Kernel { burst, ..Kernel::mainline_6_12() }) else { return };
        let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.max", "60000");
        let one = pod.container("one").class("LS").set("cpu.max", "50000");
        let two = pod.container("two").class("LS").set("cpu.max", "20000");
        let free = pod.container("free").class("LS");
        one.create();
        assert_eq!((one.read("cpu.max.burst"), pod.read("cpu.max.burst")), ("50000".into(), "50000".into()));
        two.create();
        assert_eq!((two.read("cpu.max.burst"), pod.read("cpu.max.burst")), ("20000".into(), "60000".into()));
        free.create();
        assert_eq!((free.read("cpu.max.burst"), node.refused()), ("0".into(), vec![]));
        assert!(free.lost().iter().any(|l| l.contains("no CPU limit")), "{:?}", free.lost());
        one.stop();
        assert_eq!(pod.read("cpu.max.burst"), "20000");
        two.stop();
        free.stop();
        assert_eq!((pod.read("cpu.max.burst"), node.kept("groups")), ("0".into(), vec![]));
    }
}

#[test]
fn no_burst_on_a_kernel_without_it_is_said() {
    let Some(node) = Node::new(Kernel { burst: Burst::Absent, ..Kernel::mainline_6_12() }) else { return };
    let one =
        node.pod(Driver::Systemd, Kube::Burstable, "a").container("one").class("LS").set("cpu.max", "50000");
    one.create();
    assert!(one.lost().iter().any(|l| l.contains("burst: this kernel has none")), "{:?}", one.lost());
    assert_eq!((one.phase(), node.refused()), ("applied", vec![]));
}

/// From 5.14 to 6.9 each write of `cpu.max` divides the burst by 1000.
#[test]
fn a_burst_the_kernel_divides_is_made_whole_again() {
    let Some(node) = Node::new(Kernel::mainline_6_1()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.max", "60000");
    let one = pod.container("one").class("LS").set("cpu.max", "50000");
    one.create();
    // The engine updates the limit before the start.
    node.write(&one.path, "cpu.max", "50000 100000");
    assert_eq!(one.read("cpu.max.burst"), "50");
    one.start();
    assert_eq!((one.read("cpu.max.burst"), node.refused()), ("50000".into(), vec![]));
}

/// The burst is the engine's, the quota ours: to write the one must not destroy the other.
#[test]
fn the_engines_burst_survives_our_quota() {
    for (kernel, quota, burst) in [
        (Kernel::mainline_6_1(), 1000, "30000"),
        (Kernel::mainline_6_12(), 1000, "30000"),
        // The largest that the smaller quota holds.
        (Kernel::mainline_6_1(), 200, "20000"),
        (Kernel::mainline_6_12(), 200, "20000"),
        (Kernel { burst: Burst::Free, ..Kernel::mainline_6_12() }, 200, "30000"),
    ] {
        let Some(node) = Node::new(kernel) else { return };
        node.config(OPEN);
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let one = pod.container("one").class("BE").batch(200, quota, "1Gi");
        let one = one.set("cpu.max", "50000").set("cpu.max.burst", "30000");
        one.create();
        assert_eq!(one.read("cpu.max"), format!("{}00 100000", quota));
        assert_eq!((one.read("cpu.max.burst"), node.refused()), (burst.into(), vec![]), "{quota}");
    }
}

#[test]
fn the_engines_burst_survives_a_quota_taken_away() {
    let Some(node) = Node::new(Kernel::mainline_6_1()) else { return };
    node.config(OPEN);
    let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a").set("cpu.max", "200000");
    let one = pod.container("one").class("LSR").cpuset("2-3");
    let one = one.set("cpu.max", "200000").set("cpu.max.burst", "40000");
    one.create();
    assert_eq!((one.read("cpu.max"), pod.read("cpu.max")), ("max 100000".into(), "max 100000".into()));
    assert_eq!((one.read("cpu.max.burst"), node.refused()), ("40000".into(), vec![]));
    one.stop();
    assert_eq!(pod.read("cpu.max"), "200000 100000");
}

/// kubelet's linear map of shares to weight (KEP-2254), not runc's.
#[test]
fn batch_resources_become_weight_quota_and_memory() {
    for layout in [Layout::V2, Layout::Hybrid, Layout::V1] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
        let one = pod.container("one").class("BE").batch(2500, 3000, "1Gi");
        one.create();
        assert_eq!(node.refused(), [], "{layout:?}");
        let files: [(&str, &str); 3] = match layout {
            Layout::V2 => [("cpu.weight", "98"), ("cpu.max", "300000 100000"), ("memory.max", "1073741824")],
            _ => [
                ("cpu.shares", "2560"),
                ("cpu.cfs_quota_us", "300000"),
                ("memory.limit_in_bytes", "1073741824"),
            ],
        };
        for (file, text) in files {
            assert_eq!(one.read(file), text, "{layout:?} {file}");
        }
        // The pod is idle: its weight is the kernel's, and that is said.
        for (file, text) in &files[1..] {
            assert_eq!(pod.read(file), *text, "{layout:?} pod {file}");
        }
        assert!(one.lost().iter().any(|l| l.contains("2560 shares are not written")), "{:?}", one.lost());
        assert_eq!(one.phase(), "applied", "{:?}", one.errors());
    }
}

#[test]
fn a_batch_limit_holds_for_the_containers_own_period() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE").batch(500, 500, "1Gi").set("cpu.max", "10000 20000");
    one.create();
    assert_eq!((one.read("cpu.max"), pod.read("cpu.max")), ("10000 20000".into(), "50000 100000".into()));
}

/// On v1 a child's limit must fit into its parent's at every moment.
#[test]
fn limits_grow_top_down_and_shrink_bottom_up() {
    for (before, limit) in [("50000", 2000), ("300000", 1000)] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
        node.config(OPEN);
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set("cpu.cfs_quota_us", before);
        let one = pod.container("one").class("BE").batch(500, limit, "1Gi").set("cpu.cfs_quota_us", before);
        let one = one.set("cpu.cfs_burst_us", before);
        one.create();
        let writes = node.writes();
        assert!(writes.iter().all(|w| w.errno.is_none()), "{writes:?}");
        let order: Vec<_> =
            writes.iter().filter(|w| w.file == "cpu.cfs_quota_us").map(|w| &w.group).collect();
        let (pod, one_) = (&pod.path, &one.path);
        assert_eq!(order, if before == "50000" { [pod, one_] } else { [one_, pod] });
        // The burst makes way for a smaller quota, and only then.
        let bursts = texts(&writes, "one.scope", "cpu.cfs_burst_us");
        assert_eq!(bursts, if before == "50000" { vec![] } else { vec!["100000".to_owned()] });
    }
}

#[test]
fn a_refused_container_gets_back_what_it_had() {
    for kernel in [Kernel::mainline_6_1(), Kernel::mainline_6_12(), Kernel::mainline_6_12().on(Layout::V1)] {
        let v1 = kernel.layout == Layout::V1;
        let Some(node) = Node::new(kernel) else { return };
        node.config("on_error = \"fail\"\n");
        let (max, burst, weight) = match v1 {
            true => ("cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.shares"),
            false => ("cpu.max", "cpu.max.burst", "cpu.weight"),
        };
        let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set(weight, "55").set(max, "90000");
        let one = pod.container("one").class("BE").batch(500, 300, "1Gi");
        let one = one.set(max, "50000").set(burst, "40000").set(weight, "33");
        let before = node.files();
        node.fail(if v1 { "one.scope/memory.limit_in_bytes" } else { "one.scope/memory.max" }, Errno::EIO, 2);
        let ran = one.hook("createRuntime");
        assert!(
            !ran.ok && ran.stderr.contains("EIO") && ran.stderr.contains("everything was put back"),
            "{ran:?}"
        );
        assert_eq!(node.changed(&before), []);
        assert_eq!((node.kept("containers"), node.kept("groups")), (vec![], vec![]));
    }
}
