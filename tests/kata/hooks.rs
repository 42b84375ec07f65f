//! The hook on Kata without a wrapper: which pod, which groups and what to write come from the bundle and `/proc`.

use crate::fixtures::{Driver, Flavour, Kernel, Kube, Layout, Node};

const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";
const BVT: &str = "cpu.bvt_warp_ns";
const BURST: &str = "cpu.cfs_burst_us";

fn lost(node: &Node, id: &str) -> String {
    node.record(id).unwrap()["lost"].to_string()
}

fn phase(node: &Node) -> Vec<String> {
    let mut kept = node.kept("containers");
    kept.sort();
    kept
}

/// Both ways of Go's runtime: `prestart` before 3.5, either one since.
#[test]
fn gos_sandbox_gets_its_class_at_prestart() {
    for stage in ["prestart", "createRuntime"] {
        for layout in [Layout::V1, Layout::V2, Layout::Hybrid] {
            for driver in [Driver::Cgroupfs, Driver::Systemd] {
                let Some(node) = Node::new(Kernel::anck_5_10().on(layout)) else { return };
                node.config("[identity]\nkube_qos_groups = false\n");
                let pod = node.kata(Flavour::Go, driver, Kube::Burstable, true, "sb1").class("LS");
                pod.bundle("sb1");
                pod.shim();
                pod.boot("qemu-system-x86");
                pod.hook(stage, "sb1");
                let what = format!("{stage} {layout:?} {driver:?}: {:?}", node.log());
                assert_eq!((pod.pod(BVT), pod.own(BVT)), ("2".to_owned(), "2".to_owned()), "{what}");
                assert_eq!(phase(&node), ["sb1.json"], "{what}");
                assert_eq!(node.refused(), [], "{what}");
                // The workload's own group is never made on the host, and the class is there already.
                let before = node.files();
                pod.bundle("c1");
                pod.hook(stage, "c1");
                assert_eq!(node.changed(&before), [], "{what}");
                assert_eq!(phase(&node), ["sb1.json"], "{what}");
                pod.hook("poststop", "c1");
                assert_eq!(phase(&node), ["sb1.json"], "{what}");
                pod.end();
                pod.hook("poststop", "sb1");
                assert_eq!(phase(&node), [""; 0], "{what}");
                assert_eq!((pod.pod(BVT), node.kept("groups").len()), ("0".to_owned(), 0), "{what}");
            }
        }
    }
}

#[test]
fn burst_goes_where_the_quota_is() {
    let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    node.write(&pod.path, "cpu.cfs_quota_us", "150000");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("cloud-hyperviso");
    pod.hook("prestart", "sb1");
    // At most the quota on this kernel; the machine's own group has no quota to burst over.
    assert_eq!((pod.pod(BURST), pod.own(BURST)), ("150000".to_owned(), "0".to_owned()));
    // It is no sum of containers': a later look leaves it.
    pod.bundle("c1");
    pod.hook("prestart", "c1");
    pod.hook("poststart", "c1");
    assert_eq!(pod.pod(BURST), "150000");
    node.write(&pod.path, BURST, "0");
    pod.hook("poststart", "c1");
    assert_eq!(pod.pod(BURST), "150000");
}

/// A pod is low only when its guest has answered, or a starved machine would miss its boot limit.
#[test]
fn a_low_identity_waits_for_the_guest() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    node.config("[identity]\nkube_qos_groups = false\n");
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::BestEffort, true, "sb1").class("BE");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    pod.hook("prestart", "sb1");
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("0".to_owned(), "0".to_owned()));
    assert_eq!(phase(&node), ["sb1.applying"]);
    // The id is the sandbox's, the process a thread of the shim; version and status are empty.
    pod.hook("poststart", "sb1");
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("-1".to_owned(), "-1".to_owned()));
    assert_eq!(phase(&node), ["sb1.json"]);

    // Or before, where that is wanted.
    node.config("[identity]\nkube_qos_groups = false\n[shim]\nlow_identity = \"before-boot\"\n");
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::BestEffort, true, "sb2").class("BE");
    pod.bundle("sb2");
    pod.shim();
    pod.boot("qemu-system-x86");
    pod.hook("prestart", "sb2");
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("-1".to_owned(), "-1".to_owned()));
}

/// Where the sandbox's poststart was lost, the first container of the pod is before its workload.
#[test]
fn a_workloads_hook_finishes_what_is_left() {
    for (flavour, stage) in [(Flavour::Go, "prestart"), (Flavour::Rust, "createContainer")] {
        let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
        node.config("[identity]\nkube_qos_groups = false\n");
        let pod = node.kata(flavour, Driver::Cgroupfs, Kube::BestEffort, true, "sb1").class("BE");
        pod.bundle("sb1");
        pod.shim();
        pod.boot("qemu-system-x86");
        pod.hook("prestart", "sb1");
        assert_eq!(pod.own(BVT), "0");
        pod.bundle("c1");
        pod.hook(stage, "c1");
        assert_eq!((pod.pod(BVT), pod.own(BVT)), ("-1".to_owned(), "-1".to_owned()), "{flavour:?}");
        assert_eq!(phase(&node), ["sb1.json"], "{flavour:?}");
    }
}

/// The VMM runs in the overhead's group, and the machine's own is empty until the vCPUs come.
#[test]
fn the_overhead_has_the_identity_too() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
        let pod = node.kata(Flavour::Go, driver, Kube::Burstable, false, "sb1").class("LS");
        pod.bundle("sb1");
        pod.shim();
        pod.boot("qemu-system-x86");
        pod.hook("prestart", "sb1");
        let overhead = node.read(&pod.overhead(), BVT);
        assert_eq!([pod.pod(BVT), pod.own(BVT), overhead], ["2", "2", "2"], "{driver:?}");
        let lost = lost(&node, "sb1");
        assert!(lost.contains("sandbox_cgroup_only = true") && lost.contains("/kata_overhead/sb1"), "{lost}");
        let is_outside = lost.contains("outside its pod");
        assert_eq!(is_outside, driver == Driver::Systemd, "{lost}");
        // As on cgroup v2, where all of the VMM is moved.
        pod.split();
        pod.hook("poststart", "sb1");
        assert_eq!(node.record("sb1").unwrap()["errors"].to_string(), "[]");
    }
}

/// runtime-rs makes the machine's group after its `prestart` only.
#[test]
fn runtime_rs_makes_the_group_later() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
        let pod = node.kata(Flavour::Rust, driver, Kube::Burstable, false, "sb1").class("LS");
        pod.bundle("sb1");
        pod.shim();
        pod.boot("qemu-system-x86");
        pod.hook("prestart", "sb1");
        assert_eq!((pod.pod(BVT), node.read(&pod.overhead(), BVT)), ("2".to_owned(), "2".to_owned()));
        assert_eq!(phase(&node), ["sb1.applying"], "{driver:?}");
        pod.split();
        pod.hook("createContainer", "sb1");
        assert_eq!(pod.own(BVT), "2");
        assert_eq!(phase(&node), ["sb1.json"], "{driver:?}");
        // Its own id, and no process any more.
        pod.end();
        pod.hook("poststop", "sb1");
        assert_eq!(phase(&node), [""; 0]);
    }
}

#[test]
fn runtime_rs_answers_before_createcontainer() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    node.config("[identity]\nkube_qos_groups = false\n");
    let pod = node.kata(Flavour::Rust, Driver::Cgroupfs, Kube::BestEffort, true, "sb1").class("BE");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    pod.hook("createRuntime", "sb1");
    assert_eq!(pod.own(BVT), "0");
    pod.hook("createContainer", "sb1");
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("-1".to_owned(), "-1".to_owned()));
}

/// Firecracker: at prestart there is a shim and no machine.
#[test]
fn without_a_machine_yet_the_shims_thread_will_do() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    pod.bundle("sb1");
    pod.shim();
    let state = pod.state("sb1", "sb1", pod.shim_thread());
    assert!(node.hook("prestart", &state).ok);
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("2".to_owned(), "2".to_owned()));
    assert_eq!(node.record("sb1").unwrap()["pid"], 0);
}

/// Dragonball: the machine is a thread of the shim.
#[test]
fn a_machine_in_the_shim_is_found_by_its_thread() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.kata(Flavour::Rust, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    pod.bundle("sb1");
    pod.shim();
    let thread = pod.shim_thread();
    node.machine().name(thread, thread - 1, "vmm_master");
    assert!(node.hook("createContainer", &pod.state("sb1", "sb1", thread)).ok);
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("2".to_owned(), "2".to_owned()));
    assert_eq!(node.record("sb1").unwrap()["pid"], thread - 1);
}

/// `sandboxer = "shim"`: the sandbox has neither bundle nor hooks, and a group at the root.
#[test]
fn a_sandbox_without_a_bundle_is_found_by_its_workload() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.kata(Flavour::Rust, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    let group = "/kata_sandboxed_pod/sb1";
    {
        let mut machine = node.machine();
        machine.make_group(group);
        machine.name(pod.vmm(), pod.vmm(), "qemu-system-x86");
        machine.join(group, pod.vmm());
    }
    pod.bundle("c1");
    pod.hook("createContainer", "c1");
    assert_eq!((pod.pod(BVT), node.read(group, BVT)), ("2".to_owned(), "2".to_owned()));
    assert!(lost(&node, "sb1").contains("outside its pod"), "{}", lost(&node, "sb1"));
}

/// The machine's class is its sandbox's, whatever a container says that is seen first.
#[test]
fn the_sandbox_says_what_the_pod_is() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    let other = pod.class("BE");
    other.bundle("c1");
    other.hook("prestart", "c1");
    assert_eq!(other.own(BVT), "2");
    assert_eq!(node.record("sb1").unwrap()["treatment"]["class"], "LS");
}

/// A cgroup v2 group whose pod does not hand the controller on: the pod's values hold for it.
#[test]
fn a_group_without_the_controller_is_its_pods() {
    let Some(node) = Node::new(Kernel::anck_5_10().on(Layout::V2)) else { return };
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    pod.bundle("sb1");
    pod.shim();
    pod.boot("qemu-system-x86");
    node.machine().disable(&pod.path, "cpu");
    pod.hook("prestart", "sb1");
    assert_eq!(pod.pod(BVT), "2");
    assert_eq!(node.record("sb1").unwrap()["errors"].to_string(), "[]");
    assert_eq!(node.refused(), []);
}

/// Kata's Go runtime has the groups above give away what the sandbox's resources name, and nothing for the overhead's.
#[test]
fn groups_without_controllers_are_not_written_and_the_pods_stands_for_the_machines() {
    for (in_one_group, lacks) in [(false, &["cpu", "cpuset"][..]), (true, &["cpuset"])] {
        let Some(node) = Node::new(Kernel::anck_5_10().on(Layout::V2)) else { return };
        node.config(OPEN);
        let pod =
            node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Guaranteed, in_one_group, "sb1").class("LSR");
        let pod = pod.annotation("scheduling.koordinator.sh/resource-status", r#"{"cpuset":"2-3"}"#);
        pod.bundle("sb1");
        pod.shim();
        pod.boot("qemu-system-x86");
        for controller in lacks {
            if !in_one_group {
                node.machine().disable("/kata_overhead", controller);
            }
            node.machine().disable(&pod.path, controller);
        }
        for stage in ["prestart", "poststart"] {
            pod.hook(stage, "sb1");
            let values = (pod.pod(BVT), pod.pod("cpuset.cpus"));
            assert_eq!(values, ("2".to_owned(), "2-3".to_owned()), "{stage} {in_one_group}");
            assert_eq!(node.record("sb1").unwrap()["errors"].to_string(), "[]");
            assert_eq!(node.refused(), []);
        }
        let lost = lost(&node, "sb1");
        assert!(!lost.contains("cpus: "), "{lost}");
        assert_eq!(lost.contains("has no cpu controller"), !in_one_group, "{lost}");
    }
}

/// The pod's CPUs bind nothing that is outside the pod: then they are lost, and not written for nothing.
#[test]
fn a_pods_cpus_do_not_stand_for_those_of_a_machine_outside_it() {
    let Some(node) = Node::new(Kernel::anck_5_10().on(Layout::V2)) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n");
    let pod = node.kata(Flavour::Rust, Driver::Cgroupfs, Kube::Guaranteed, true, "sb1").class("LSR");
    let pod = pod.annotation("scheduling.koordinator.sh/resource-status", r#"{"cpuset":"2-3"}"#);
    let group = "/kata_sandboxed_pod/sb1";
    {
        let mut machine = node.machine();
        machine.make_group(group);
        machine.disable("/kata_sandboxed_pod", "cpuset");
        machine.name(pod.vmm(), pod.vmm(), "qemu-system-x86");
        machine.join(group, pod.vmm());
    }
    pod.bundle("c1");
    let before = pod.pod("cpuset.cpus");
    pod.hook("createContainer", "c1");
    assert_eq!(pod.pod("cpuset.cpus"), before);
    let lost = lost(&node, "sb1");
    assert!(
        lost.contains(&format!("cpus: {group} has no cpuset controller, and nothing above it")),
        "{lost}"
    );
    assert_eq!(node.record("sb1").unwrap()["errors"].to_string(), "[]");
}

/// Kata keeps all pods without a path in one group.
#[test]
fn a_group_of_several_pods_is_never_written() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let pod = node.kata(Flavour::Go, Driver::Cgroupfs, Kube::Burstable, true, "sb1").class("LS");
    let bundle = pod.bundle("sb1");
    let file = bundle.join("config.json");
    let spec = std::fs::read_to_string(&file).unwrap().replace(&pod.cgroups_path("sb1"), "");
    std::fs::write(&file, spec).unwrap();
    node.machine().make_group("/kata_vc");
    let vmm = pod.vmm();
    node.machine().name(vmm, vmm, "qemu-system-x86");
    node.machine().join("/kata_vc", vmm);
    let before = node.files();
    // The start goes on: a failed hook leaves a container in the guest.
    pod.hook("prestart", "sb1");
    assert_eq!(node.changed(&before), []);
    // Unless the policy is to fail.
    node.config("on_error = \"fail\"\n");
    let ran = pod.try_hook("prestart", "sb1", &[]);
    assert!(!ran.ok && ran.stderr.contains("all pods"), "{ran:?}");
}

/// A machine that is in neither of the groups is told, not guessed: runtime-rs before 4.1 could leave it with containerd.
#[test]
fn a_vmm_that_is_elsewhere_is_reported() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    node.config(OPEN);
    let pod = node.kata(Flavour::Rust, Driver::Systemd, Kube::Burstable, true, "sb1").class("LS");
    pod.bundle("sb1");
    pod.shim();
    let vmm = pod.vmm();
    {
        let mut machine = node.machine();
        machine.make_group("/system.slice/containerd.service");
        machine.name(vmm, vmm, "qemu-system-x86");
        machine.join("/system.slice/containerd.service", vmm);
    }
    pod.hook("createContainer", "sb1");
    assert_eq!((pod.pod(BVT), pod.own(BVT)), ("2".to_owned(), "2".to_owned()));
    assert_eq!(node.read("/system.slice/containerd.service", BVT), "0");
    assert!(lost(&node, "sb1").contains("/system.slice/containerd.service"), "{}", lost(&node, "sb1"));
}

/// An ordinary container has nothing to do with all this.
#[test]
fn createcontainer_does_nothing_for_other_runtimes() {
    let Some(node) = Node::new(Kernel::anck_5_10()) else { return };
    let web = node.pod(Driver::Cgroupfs, Kube::Burstable, "a").container("web").class("LS");
    let before = node.files();
    assert!(web.hook("createContainer").ok);
    assert_eq!(node.changed(&before), []);
}
