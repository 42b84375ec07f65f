//! CPUs on v2, where the kernel takes any list and silently uses what the parent has of it.

use crate::fixtures::{Driver, Errno, Kernel, Kube, Layout, Node};

const OPEN: &str = "[claims]\nnamespaces = [\"*\"]\n";

fn cpus(node: &Node, group: &str) -> String {
    node.read(group, "cpuset.cpus")
}

#[test]
fn every_class_gets_its_cpus_and_gives_them_back() {
    for layout in [Layout::V2, Layout::Hybrid, Layout::V1] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
        node.config("[claims]\nnamespaces = [\"*\"]\n[system]\ncpus = \"0-1\"\n");
        let quota = if layout == Layout::V2 { "cpu.max" } else { "cpu.cfs_quota_us" };
        let pod = |kube, uid| node.pod(Driver::Systemd, kube, uid);
        let system = pod(Kube::Burstable, "sys").container("system").class("SYSTEM");
        let ls = pod(Kube::Burstable, "ls").container("ls").class("LS");
        let be = pod(Kube::BestEffort, "be").container("be").class("BE");
        let lse_pod = pod(Kube::Guaranteed, "lse").set(quota, "200000");
        let lse = lse_pod.container("lse").class("LSE").cpuset("4-5").set(quota, "200000");
        let lsr = pod(Kube::Guaranteed, "lsr").container("lsr").class("LSR").cpuset("2-3");
        let all = || {
            [&system, &lse, &lsr, &ls, &be].map(|c| node.try_read(&c.path, "cpuset.cpus").unwrap_or_default())
        };
        system.create();
        ls.create();
        be.create();
        assert_eq!(
            [cpus(&node, &system.path), cpus(&node, &ls.path), cpus(&node, &be.path)],
            ["0-1", "2-7", "2-7"]
        );
        lse.create();
        lsr.create();
        assert_eq!(all(), ["0-1", "4-5", "2-3", "6-7", "2-3,6-7"], "{layout:?}");
        assert_eq!(node.refused(), []);
        for one in [&system, &lse, &lsr, &ls, &be] {
            assert_eq!(one.phase(), "applied", "{}: {:?}", one.id, one.errors());
        }
        let unlimited = if layout == Layout::V2 { "max 100000" } else { "-1" };
        assert_eq!((lse.read(quota), lse_pod.read(quota)), (unlimited.into(), unlimited.into()));
        lse.stop();
        assert_eq!(all(), ["0-1", "", "2-3", "4-7", "2-7"], "{layout:?}");
        assert!(lse_pod.read(quota).starts_with("200000"));
        lsr.stop();
        assert_eq!(all(), ["0-1", "", "", "2-7", "2-7"], "{layout:?}");
        assert_eq!((node.kept("exclusive"), node.refused()), (vec![], vec![]));
    }
}

#[test]
fn cpus_the_parent_does_not_have_are_reported_not_believed() {
    for (parent, has) in [("0-3", "0-3"), ("0-5", "4-5")] {
        let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
        node.config(OPEN);
        let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a").set("cpuset.cpus", parent);
        let one = pod.container("one").class("LSR").cpuset("4-7");
        one.create();
        assert_eq!((one.read("cpuset.cpus"), one.read("cpuset.cpus.effective")), ("4-7".into(), has.into()));
        assert_eq!(one.phase(), "degraded");
        let errors = one.logged()["errors"].as_str().unwrap().to_owned();
        assert!(errors.contains(&format!("wrote 4-7, reads back {has}")), "{errors}");

        node.config("on_error = \"fail\"\n[claims]\nnamespaces = [\"*\"]\n");
        one.stop();
        let two = pod.container("two").class("LSR").cpuset("4-7");
        assert!(!two.hook("createRuntime").ok);
        assert_eq!(node.kept("exclusive"), Vec::<String>::new());
    }
}

/// v1 says EACCES; the part that fits is taken, and that it is only a part is said.
#[test]
fn on_v1_a_part_of_the_cpus_is_reported_as_a_part() {
    let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    node.config(OPEN);
    let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a").set("cpuset.cpus", "0-5");
    let one = pod.container("one").class("LSR").cpuset("4-7");
    one.create();
    assert_eq!(one.read("cpuset.cpus"), "4-5");
    assert_eq!(one.phase(), "degraded", "{:?}", one.errors());
    let errors = one.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("4-7") && errors.contains("4-5"), "{errors}");
}

#[test]
fn cpus_that_are_not_online_are_refused_with_the_list_of_those_that_are() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(OPEN);
    let one = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("one").class("LSR").cpuset("6-9");
    let before = node.files();
    one.create();
    assert_eq!(node.changed(&before), []);
    let errors = one.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("8-9 are not online") && errors.contains("0-7"), "{errors}");
}

#[test]
fn own_cpus_are_whole_cores_and_never_anothers() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n[exclusive]\nallocate = true\n");
    let pod = |uid| node.pod(Driver::Systemd, Kube::Guaranteed, uid);
    let one = pod("a").container("one").class("LSR").set("cpu.max", "200000");
    let two = pod("b").container("two").class("LSE").set("cpu.max", "300000");
    one.create();
    two.create();
    assert_eq!((one.read("cpuset.cpus"), two.read("cpuset.cpus")), ("0-1".into(), "2-5".into()));
    // Two are left, and one must stay.
    let three = pod("c").container("three").class("LSR").set("cpu.max", "200000");
    three.create();
    assert_eq!((three.read("cpuset.cpus"), three.read("cpu.max")), ("6-7".into(), "200000 100000".into()));
    assert_eq!(three.phase(), "degraded");
    assert!(three.logged()["errors"].as_str().unwrap().contains("shared pool"), "{}", three.logged());
    // Nobody else's claim counts once it is gone.
    one.stop();
    assert_eq!(three.read("cpuset.cpus"), "0-1,6-7");
}

#[test]
fn poststart_puts_back_cpus_that_kubelet_wrote() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(OPEN);
    let lsr = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("lsr").class("LSR").cpuset("2-3");
    let ls = node.pod(Driver::Systemd, Kube::Burstable, "b").container("ls").class("LS");
    ls.create();
    lsr.create();
    for one in [&lsr, &ls] {
        node.write(&one.path, "cpuset.cpus", "0-7");
        one.start();
    }
    assert_eq!((lsr.read("cpuset.cpus"), ls.read("cpuset.cpus")), ("2-3".into(), "0-1,4-7".into()));
}

/// The file says the right CPUs and the kernel uses others: the parent lost them meanwhile.
#[test]
fn poststart_says_when_the_parent_lost_the_cpus() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(OPEN);
    let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a");
    let one = pod.container("one").class("LSR").cpuset("2-3");
    one.create();
    node.write(&pod.path, "cpuset.cpus", "4-7");
    let ran = one.hook("poststart");
    assert!(ran.ok, "{ran:?}");
    let logged = one.logged();
    assert!(logged["errors"].as_str().is_some_and(|e| e.contains("wrote 2-3, reads back 4-7")), "{logged}");
}

/// v2 refuses to clear the list of a populated group: the CPUs it really had are put back.
#[test]
fn a_refused_container_gets_back_its_cpus() {
    for (had, after) in [("1-6", "1-6"), ("", "0-7")] {
        let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
        node.config("on_error = \"fail\"\n[claims]\nnamespaces = [\"*\"]\n");
        let ls = node.pod(Driver::Systemd, Kube::Burstable, "b").container("ls").class("LS");
        ls.create();
        let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a").set("cpu.max", "300000");
        let one = pod.container("one").class("LSR").cpuset("2-3").set("cpu.max", "200000");
        let one = if had.is_empty() { one } else { one.set("cpuset.cpus", had) };
        let before = node.files();
        node.fail("one.scope/cpu.max", Errno::EIO, 2);
        let ran = one.hook("createRuntime");
        assert!(!ran.ok && ran.stderr.contains("EIO") && !ran.stderr.contains("ENOSPC"), "{ran:?}");
        let one_cpus = format!(":{}/cpuset.cpus", one.path);
        let ls_cpus = format!(":{}/cpuset.cpus", ls.path);
        let changed: Vec<_> =
            node.changed(&before).into_iter().filter(|(path, ..)| *path != ls_cpus).collect();
        let expected =
            if had.is_empty() { vec![(one_cpus, String::new(), after.to_owned())] } else { vec![] };
        assert_eq!(changed, expected);
        assert_eq!(ls.read("cpuset.cpus.effective"), "0-7");
        assert_eq!(node.kept("exclusive"), Vec::<String>::new());
    }
}

#[test]
fn the_allocator_leaves_a_container_the_cpus_it_cannot_leave() {
    for (bound, limit, own) in [("0", "200000", "2-3"), ("0-3", "400000", "2-5"), ("0-1", "600000", "2-7")] {
        let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
        node.config("[claims]\nnamespaces = [\"*\"]\n[exclusive]\nallocate = true\n");
        let ls = node.pod(Driver::Systemd, Kube::Burstable, "b").container("ls").class("LS");
        let ls = ls.set("cpuset.cpus", bound);
        ls.create();
        let lse = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("lse").class("LSE");
        let lse = lse.set("cpu.max", limit);
        lse.create();
        assert_eq!((lse.read("cpuset.cpus"), lse.phase()), (own.into(), "applied"), "{bound}");
        let left = ls.read("cpuset.cpus.effective");
        assert_eq!(left, if bound == "0-3" { "0-1" } else { bound });
        // The rest is not enough for the next, and it is said for whom.
        let next = node.pod(Driver::Systemd, Kube::Guaranteed, "c").container("next").class("LSR");
        let next = next.set("cpu.max", "200000");
        next.create();
        if own == "2-7" {
            assert!(next.logged()["errors"].as_str().unwrap().contains("CPUs wanted"), "{}", next.logged());
            assert_eq!(ls.read("cpuset.cpus.effective"), bound);
        }
    }
}

#[test]
fn the_schedulers_choice_is_refused_where_a_container_would_have_no_cpu_left() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(OPEN);
    let ls = node.pod(Driver::Systemd, Kube::Burstable, "b").container("ls").class("LS");
    let ls = ls.set("cpuset.cpus", "2");
    ls.create();
    let lse = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("lse").class("LSE").cpuset("2-3");
    lse.create();
    let errors = lse.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("2-3 are all that container ls may use"), "{errors}");
    assert_eq!((ls.read("cpuset.cpus"), node.kept("exclusive")), ("2".into(), vec![]));
}

#[test]
fn the_systems_cpus_are_nobody_elses() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = |uid| node.pod(Driver::Systemd, Kube::Guaranteed, uid);
    node.config(OPEN);
    let first = pod("a").container("first").class("LSE").cpuset("1");
    first.create();
    node.config("[claims]\nnamespaces = [\"*\"]\n[system]\ncpus = \"0-1\"\n");
    let second = pod("b").container("second").class("LSE").cpuset("0,2");
    second.create();
    let errors = second.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("0 of 0,2 belong to the system"), "{errors}");
    assert_eq!((second.read("cpuset.cpus"), node.kept("exclusive").len()), ("2-7".into(), 1));
    // Who runs already keeps its own.
    let system = pod("c").container("system").class("SYSTEM");
    system.create();
    assert_eq!((system.read("cpuset.cpus"), first.read("cpuset.cpus")), ("0".into(), "1".into()));
    assert!(
        system.lost().iter().any(|l| l.contains("1 of the system CPUs 0-1 belong")),
        "{:?}",
        system.lost()
    );
    node.config("[claims]\nnamespaces = [\"*\"]\n[system]\ncpus = \"1\"\n");
    let none = pod("d").container("none").class("SYSTEM");
    none.create();
    let errors = none.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("all of 1 belong to LSE or LSR"), "{errors}");
    assert_eq!(none.read("cpuset.cpus"), "0,2-7");
}

#[test]
fn a_part_of_a_cpu_is_a_whole_one_and_v2_is_not_said_to_have_no_request() {
    let allocate = "[claims]\nnamespaces = [\"*\"]\n[exclusive]\nallocate = true\n";
    for (shares, cpus) in [("1023", "0-7"), ("1024", "0-1"), ("2560", "0-3")] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(Layout::V1)) else { return };
        node.config(allocate);
        let one = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("one").class("LSR");
        let one = one.set("cpu.shares", shares);
        one.create();
        assert_eq!(one.read("cpuset.cpus"), cpus, "{shares}");
    }
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(allocate);
    let one = node.pod(Driver::Systemd, Kube::Guaranteed, "a").container("one").class("LSR");
    one.create();
    let errors = one.logged()["errors"].as_str().unwrap().to_owned();
    assert!(errors.contains("has no CPU limit") && !errors.contains("request"), "{errors}");
}

/// crun's inner group: on v2 it is bound by the scope, on v1 its list must go along, both ways.
#[test]
fn the_group_crun_makes_below_the_scope_follows_the_containers_cpus() {
    for layout in [Layout::V2, Layout::V1] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
        node.config(OPEN);
        let file = if layout == Layout::V2 { "cpuset.cpus.effective" } else { "cpuset.cpus" };
        let pod = |kube, uid| node.pod(Driver::Systemd, kube, uid);
        let ls = pod(Kube::Burstable, "b").container("ls").class("LS").inner();
        let be = pod(Kube::BestEffort, "c").container("be").class("BE").inner();
        let lsr = pod(Kube::Guaranteed, "a").container("lsr").class("LSR").cpuset("2-3").inner();
        let lse = pod(Kube::Guaranteed, "d").container("lse").class("LSE").cpuset("4").inner();
        let inner = |path: &str| node.read(&format!("{path}/container"), file);
        let all = || [&ls, &be].map(|one| (one.read(file), inner(&one.path)));
        let both = |cpus: &str| (cpus.to_owned(), cpus.to_owned());
        ls.create();
        lsr.create();
        be.create();
        assert_eq!((lsr.read(file), inner(&lsr.path)), both("2-3"), "{layout:?}");
        assert_eq!(all(), [both("0-1,4-7"), both("0-7")], "{layout:?}");
        lse.create();
        assert_eq!(all(), [both("0-1,5-7"), both("0-3,5-7")], "{layout:?}");
        assert_eq!(node.refused(), [], "{layout:?}");
        if layout == Layout::V1 {
            node.write(&format!("{}/container", ls.path), "cpuset.cpus", "0");
            ls.start();
        }
        lsr.stop();
        assert_eq!(all(), [both("0-3,5-7"), both("0-3,5-7")], "{layout:?}");
        lse.stop();
        assert_eq!(all(), [both("0-7"), both("0-7")], "{layout:?}");
        assert_eq!((ls.phase(), node.refused()), ("applied", vec![]), "{layout:?}");
    }
}

#[test]
fn a_pod_placed_by_numa_node_shares_the_pools_of_its_nodes() {
    for layout in [Layout::V2, Layout::V1] {
        let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
        node.numa(&["0-3", "4-5", "6-7"]);
        node.config(OPEN);
        let file = if layout == Layout::V2 { "cpuset.cpus.effective" } else { "cpuset.cpus" };
        let on = |kube, id: &str, class, resource: &str, nodes: &[i32]| {
            let nodes: Vec<_> = nodes
                .iter()
                .map(|node| serde_json::json!({"node": node, "resources": {resource: "2k"}}))
                .collect();
            let status = serde_json::json!({ "numaNodeResources": nodes }).to_string();
            let container = node.pod(Driver::Systemd, kube, id).container(id).class(class);
            container.annotation("scheduling.koordinator.sh/resource-status", &status)
        };
        let ls = on(Kube::Burstable, "ls", "LS", "cpu", &[1, 2]);
        let be = on(Kube::BestEffort, "be", "BE", "kubernetes.io/batch-cpu", &[0]);
        let memory = on(Kube::Burstable, "memory", "LS", "memory", &[1]);
        let absent = on(Kube::Burstable, "absent", "LS", "cpu", &[9, -1]);
        let all = || [&ls, &be, &memory, &absent].map(|one| one.read(file));
        for one in [&ls, &be, &memory, &absent] {
            one.create();
        }
        assert_eq!(all(), ["4-7", "0-3", "0-7", "0-7"], "{layout:?}");
        assert!(absent.lost().iter().any(|l| l.contains("NUMA nodes [-1, 9]")), "{:?}", absent.lost());
        let lse = node.pod(Driver::Systemd, Kube::Guaranteed, "lse").container("lse").class("LSE");
        let lse = lse.cpuset("3-4");
        lse.create();
        assert_eq!(all(), ["5-7", "0-2", "0-2,5-7", "0-2,5-7"], "{layout:?}");
        lse.stop();
        assert_eq!(all(), ["4-7", "0-3", "0-7", "0-7"], "{layout:?}");
        // Kubelet writes its own, and the start puts that right.
        node.write(&ls.path, "cpuset.cpus", "0-7");
        ls.start();
        assert_eq!((ls.read(file), ls.phase(), node.refused()), ("4-7".into(), "applied", vec![]));
    }
}
