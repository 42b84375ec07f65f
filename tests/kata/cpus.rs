//! A machine's CPUs: Kata writes its group's anew at every create, delete and update, from its containers' specifications.

use crate::fixtures::{Driver, Flavour, Kernel, Kube, Layout, Node};

const CPUS: &str = "cpuset.cpus";

#[test]
fn a_shared_pool_comes_back_after_katas_own_write() {
    for layout in [Layout::V1, Layout::V2] {
        let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
        node.config("[claims]\nnamespaces = [\"*\"]\n");
        let owner = node.pod(Driver::Cgroupfs, Kube::Guaranteed, "own").container("own");
        owner.class("LSE").cpuset("0-1").create();
        let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::BestEffort, false, "sb1").class("BE");
        pod.bundle("sb1");
        pod.shim();
        pod.boot("qemu-system-x86");
        pod.hook("prestart", "sb1");
        let pool = pod.own(CPUS);
        assert!(pool.starts_with('2'), "{pool}");
        // What runs outside the machine's group stays off them as well.
        assert_eq!(node.read(&pod.overhead(), CPUS), pool);
        // A container whose specification names all CPUs; then its end.
        for (stage, written) in [("prestart", "0-3"), ("poststop", "0-3"), ("poststart", "1-2")] {
            pod.bundle("c1");
            node.write(&pod.group(), CPUS, written);
            pod.hook(stage, "c1");
            assert_eq!(pod.own(CPUS), pool, "{stage} {layout:?}");
        }
    }
}

#[test]
fn a_machine_shrinks_and_grows_with_its_neighbours() {
    let Some(node) = Node::new(Kernel::anck_5_10().on(Layout::V1)) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n");
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::BestEffort, false, "sb1").class("BE");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    pod.hook("prestart", "sb1");
    pod.hook("poststart", "sb1");
    let before = pod.own(CPUS);
    let owner = node.pod(Driver::Cgroupfs, Kube::Guaranteed, "own").container("own");
    let owner = owner.class("LSE").cpuset("0-1");
    owner.create();
    let pool = pod.own(CPUS);
    assert_ne!(pool, before);
    assert_eq!(node.read(&pod.overhead(), CPUS), pool);
    owner.stop();
    assert_eq!((pod.own(CPUS), node.read(&pod.overhead(), CPUS)), (before.clone(), before));
}

#[test]
fn a_machine_owns_its_pods_cpus() {
    let Some(node) = Node::new(Kernel::anck_5_10().on(Layout::V1)) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n[exclusive]\nallocate = true\n");
    let web = node.pod(Driver::Cgroupfs, Kube::Burstable, "web").container("web").class("LS");
    web.create();
    let pod = node.kata(Flavour::Rust, Driver::Cgroupfs, Kube::Guaranteed, true, "sb1").class("LSR");
    // As many as the pod's limit says: the sandbox's own container has none.
    node.write(&pod.path, "cpu.cfs_quota_us", "200000");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    pod.hook("prestart", "sb1");
    let own = pod.own(CPUS);
    assert_eq!(own, "0-1");
    assert_eq!(pod.pod("cpu.cfs_quota_us"), "-1");
    assert!(!web.read(CPUS).starts_with('0'), "{}", web.read(CPUS));
    pod.hook("createContainer", "sb1");
    assert_eq!((pod.own(CPUS), node.kept("exclusive").len()), (own, 1));
    pod.end();
    std::fs::remove_dir_all(node.bundles()).unwrap();
    pod.hook("poststop", "sb1");
    assert_eq!(node.kept("exclusive").len(), 0);
    assert!(web.read(CPUS).starts_with('0'), "{}", web.read(CPUS));
}
