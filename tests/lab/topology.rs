//! The allocator of exclusive CPUs on machines of other shapes than most: the kernel's own account of cores, threads and
//! nodes, and real containers on them.

use std::collections::BTreeSet;
use std::fs;

use super::common::invariants::{self, claims, online};
use super::common::{Bundle, Sandbox, cgroup};
use plimsoll::cpuset::CpuSet;

const QOS: &str = "koordinator.sh/qosClass";

/// A waiting container that asks for so many CPUs of its own.
fn owner(sandbox: &Sandbox, id: &str, cpus: i64) -> Bundle {
    sandbox
        .bundle(id)
        .cgroup(&format!("kubepods/pod{id}/{id}"))
        .resource("cpu", "quota", cpus * 100_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, "LSR")
        .waiting()
        .plimsoll_hooks(sandbox)
}

/// The CPUs of a list file below a CPU's or node's folder.
fn list(path: &str) -> CpuSet {
    fs::read_to_string(format!("/sys/devices/system/{path}")).unwrap().trim().parse().unwrap()
}

fn siblings(cpu: usize) -> CpuSet {
    list(&format!("cpu/cpu{cpu}/topology/thread_siblings_list"))
}

fn has(bundle: &Bundle) -> CpuSet {
    cgroup::read(bundle.group(), "cpuset.cpus").unwrap().parse().unwrap()
}

fn sockets(cpus: &CpuSet) -> BTreeSet<String> {
    let file = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id");
    cpus.iter().map(|cpu| fs::read_to_string(file(cpu)).unwrap()).collect()
}

#[test]
#[ignore = "for a machine with SMT: make lab"]
fn smt_whole_cores_are_given_and_nobody_gets_a_thread_beside_another() {
    assert_eq!(siblings(0).len(), 2, "this is a test of SMT");
    let sandbox = Sandbox::new("smt");
    sandbox.config("[exclusive]\nallocate = true\nmin_shared_cpus = 2\n");
    let ls = sandbox.bundle("ls").annotation(QOS, "LS").waiting().plimsoll_hooks(&sandbox);
    sandbox.run_detached(&ls).ok();
    let mut taken = CpuSet::new();
    let owners = online().len() / 2 - 1;
    for n in 0..owners {
        let id = format!("own{n}");
        let one = owner(&sandbox, &id, 2);
        sandbox.run_detached(&one).ok();
        let own = has(&one);
        assert_eq!(own.len(), 2, "{id}: {own}\n{}", sandbox.log());
        assert!(own.iter().all(|cpu| siblings(cpu).is_subset(&own)), "{id}: {own} is not of whole cores");
        assert_eq!(sockets(&own).len(), 1, "{id}: {own} is on two sockets");
        assert_eq!(sandbox.probe(&one)["affinity"], own.to_string());
        assert!(own.is_disjoint(&taken));
        taken = taken.union(&own);
        assert_eq!(has(&ls), online().difference(&taken));
        invariants::hold(&sandbox);
    }
    // What is left is what must stay.
    let last = owner(&sandbox, "last", 2);
    sandbox.run_detached(&last).ok();
    assert!(sandbox.log().contains("must stay"), "{}", sandbox.log());
    assert_eq!(claims(&sandbox).len(), owners);
    invariants::hold(&sandbox);
}

#[test]
#[ignore = "for a machine with SMT: make lab"]
fn smt_an_odd_number_leaves_the_other_thread_to_nobody_who_is_online() {
    let sandbox = Sandbox::new("odd");
    sandbox.config("[exclusive]\nallocate = true\nmin_shared_cpus = 1\n");
    let one = owner(&sandbox, "one", 1);
    let two = owner(&sandbox, "two", 1);
    sandbox.run_detached(&one).ok();
    sandbox.run_detached(&two).ok();
    let (first, second) = (has(&one), has(&two));
    let core = siblings(first.iter().next().unwrap());
    println!("one CPU each: {first} and {second}; the first one's core is {core}");
    assert!(second.is_disjoint(&first));
    invariants::hold(&sandbox);
}

#[test]
#[ignore = "for a machine with NUMA nodes: make lab"]
fn numa_one_node_where_it_fits_and_both_where_it_must() {
    let nodes = [list("node/node0/cpulist"), list("node/node1/cpulist")];
    assert_eq!(nodes.clone().map(|node| node.len()), [2, 2], "this is a test of two nodes");
    let sandbox = Sandbox::new("numa");
    sandbox.config("[exclusive]\nallocate = true\nmin_shared_cpus = 0\n");
    let two = owner(&sandbox, "two", 2);
    sandbox.run_detached(&two).ok();
    assert!(nodes.contains(&has(&two)), "{} is no node of {nodes:?}", has(&two));
    sandbox.delete_force(&two).ok();

    let one = owner(&sandbox, "one", 1);
    sandbox.run_detached(&one).ok();
    sandbox.run_detached(&two).ok();
    let own = has(&two);
    assert!(nodes.contains(&own) && own.is_disjoint(&has(&one)), "{own} beside {}", has(&one));
    for bundle in [&one, &two] {
        sandbox.delete_force(bundle).ok();
    }
    let three = owner(&sandbox, "three", 3);
    sandbox.run_detached(&three).ok();
    assert_eq!(has(&three).len(), 3);
    assert!(nodes.iter().any(|node| node.is_subset(&has(&three))), "{} splits both nodes", has(&three));
    invariants::hold(&sandbox);
}

#[test]
#[ignore = "for a machine with NUMA nodes: make lab"]
fn numa_a_pod_that_was_placed_on_a_node_shares_that_nodes_cpus() {
    let near = list("node/node1/cpulist");
    let sandbox = Sandbox::new("near");
    let status = r#"{"numaNodeResources":[{"node":1,"resources":{"cpu":"1"}}]}"#;
    let ls = sandbox
        .bundle("ls")
        .annotation(QOS, "LS")
        .annotation("scheduling.koordinator.sh/resource-status", status)
        .waiting()
        .plimsoll_hooks(&sandbox);
    sandbox.run_detached(&ls).ok();
    assert_eq!(sandbox.probe(&ls)["affinity"], near.to_string(), "{}", sandbox.log());
    invariants::hold(&sandbox);
}
