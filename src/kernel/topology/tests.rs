//! Sysfs trees of machines we do not have.

use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn put(sys: &Path, file: &str, text: &str) {
    let path = sys.join("devices/system").join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tree of these files, each under `devices/system`; the kernel ends each with a newline.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let sys = tempfile::tempdir().unwrap();
    for (file, text) in files {
        put(sys.path(), file, &format!("{text}\n"));
    }
    sys
}

/// The CPUs that share something with their lowest, as lists: `["0,4", "1,5"]`.
fn together(topology: &Topology, by: impl Fn(&Cpu) -> usize) -> Vec<String> {
    let mut groups: Vec<(usize, CpuSet)> = Vec::new();
    for cpu in topology.cpus() {
        match groups.iter_mut().find(|(key, _)| *key == by(cpu)) {
            Some((_, set)) => set.insert(cpu.id),
            None => groups.push((by(cpu), CpuSet::from_iter([cpu.id]))),
        }
    }
    groups.iter().map(|(_, set)| set.to_string()).collect()
}

/// Writes what the kernel would show for these CPUs.
fn write_sysfs(sys: &Path, topology: &Topology) {
    let list = |same: &dyn Fn(&Cpu) -> bool| {
        let set: CpuSet = topology.cpus().iter().filter(|c| same(c)).map(|c| c.id).collect();
        format!("{set}\n")
    };
    put(sys, "cpu/online", &format!("{}\n", topology.online()));
    for cpu in topology.cpus() {
        let cpu_put = |file: &str, text: &str| put(sys, &format!("cpu/cpu{}/{file}", cpu.id), text);
        cpu_put("topology/thread_siblings_list", &list(&|c| c.core == cpu.core));
        cpu_put("topology/core_siblings_list", &list(&|c| c.socket == cpu.socket));
        cpu_put("topology/physical_package_id", &format!("{}\n", cpu.socket));
        cpu_put("cache/index3/shared_cpu_list", &list(&|c| c.llc == cpu.llc));
        let node = format!("node/node{}/cpulist", cpu.node);
        put(sys, &node, &list(&|c| c.node == cpu.node));
    }
}

#[test]
fn two_sockets_with_two_nodes_each_and_siblings_far_apart_in_number() {
    let described = Topology::uniform(2, 2, 1, 2, 2);
    let sys = tempfile::tempdir().unwrap();
    write_sysfs(sys.path(), &described);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(topology.online().to_string(), "0-15");
    assert_eq!(together(&topology, |c| c.core)[..3], ["0,8", "1,9", "2,10"]);
    assert_eq!(together(&topology, |c| c.node), ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]);
    assert_eq!(together(&topology, |c| c.llc), together(&topology, |c| c.node));
    assert_eq!(together(&topology, |c| c.socket), ["0-3,8-11", "4-7,12-15"]);
    let nine = topology.cpu(9).unwrap();
    assert_eq!((nine.node, nine.socket), (0, 0));
    assert_eq!(topology.cpu(16), None);
}

#[test]
fn a_machine_that_tells_nothing_is_one_node_of_single_cpus() {
    let sys = tree(&[("cpu/online", "0-3")]);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(together(&topology, |c| c.core), ["0", "1", "2", "3"]);
    for shared in [|c: &Cpu| c.llc, |c: &Cpu| c.node, |c: &Cpu| c.socket] {
        assert_eq!(together(&topology, shared), ["0-3"]);
    }
}

#[test]
fn cpus_without_a_level_3_cache_share_their_node() {
    // CPUs 4 and 5 are low-power cores beside the cache; node 1 shows no cache at all.
    let sys = tree(&[
        ("cpu/online", "0-7"),
        ("cpu/cpu0/cache/index3/shared_cpu_list", "0-3"),
        ("node/node0/cpulist", "0-5"),
        ("node/node1/cpulist", "6-7"),
        ("node/node2/cpulist", ""),
        ("node/possible", "0-2"),
    ]);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(together(&topology, |c| c.llc), ["0-3", "4-5", "6-7"]);
    assert_eq!(together(&topology, |c| c.node), ["0-5", "6-7"]);
}

#[test]
fn without_sibling_lists_core_ids_count_within_their_socket() {
    let mut files = vec![("cpu/online".to_owned(), "0-7".to_owned())];
    for cpu in 0..8 {
        files.push((format!("cpu/cpu{cpu}/topology/core_id"), (cpu / 2 % 2).to_string()));
        files.push((format!("cpu/cpu{cpu}/topology/physical_package_id"), (cpu / 4).to_string()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let topology = Topology::read(tree(&files).path()).unwrap();
    assert_eq!(together(&topology, |c| c.core), ["0-1", "2-3", "4-5", "6-7"]);
    assert_eq!(together(&topology, |c| c.socket), ["0-3", "4-7"]);
}

#[test]
fn offline_cpus_and_holes_in_the_numbers_do_not_show() {
    // Sibling 2 of CPU 0 is offline; 3, 5 to 7 do not exist.
    let sys = tree(&[
        ("cpu/online", "0-1,4,8"),
        ("cpu/cpu0/topology/thread_siblings_list", "0,2"),
        ("cpu/cpu2/topology/thread_siblings_list", "0,2"),
        ("cpu/cpu1/topology/core_cpus_list", "1,4"),
        ("cpu/cpu4/topology/core_cpus_list", "1,4"),
        ("cpu/cpu8/topology/core_cpus_list", "8"),
        ("cpu/cpu0/topology/physical_package_id", "-1"),
        ("cpu/cpu8/topology/physical_package_id", "7"),
    ]);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(topology.online().to_string(), "0-1,4,8");
    assert_eq!(together(&topology, |c| c.core), ["0", "1,4", "8"]);
    assert_eq!(together(&topology, |c| c.socket), ["0-1,4", "8"]);
    assert_eq!(topology.cpu(8).unwrap().socket, 7);
}

#[test]
fn hybrid_cores_have_one_or_two_threads() {
    let sys = tree(&[
        ("cpu/online", "0-5"),
        ("cpu/cpu0/topology/thread_siblings_list", "0-1"),
        ("cpu/cpu2/topology/thread_siblings_list", "2-3"),
        ("cpu/cpu4/topology/thread_siblings_list", "4"),
        ("cpu/cpu5/topology/thread_siblings_list", "5"),
    ]);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(together(&topology, |c| c.core), ["0-1", "2-3", "4", "5"]);
}

#[test]
fn lists_that_contradict_each_other_still_place_every_cpu_once() {
    let sys = tree(&[
        ("cpu/online", "0-3"),
        ("cpu/cpu0/topology/thread_siblings_list", "2-3"),
        ("cpu/cpu1/topology/thread_siblings_list", "0-3"),
        ("node/node0/cpulist", "0-2"),
        ("node/node1/cpulist", "1-3"),
        ("node/nodeX/cpulist", "0-3"),
    ]);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(together(&topology, |c| c.core), ["0,2-3", "1"]);
    assert_eq!(together(&topology, |c| c.node), ["0-2", "3"]);
}

#[test]
fn a_file_that_is_there_but_broken_is_an_error_that_names_it() {
    for (file, text) in [
        ("cpu/online", "none"),
        ("cpu/online", ""),
        ("cpu/online", "0-99999999"),
        ("cpu/cpu0/topology/thread_siblings_list", "3-1"),
        ("cpu/cpu0/topology/physical_package_id", "first"),
        ("cpu/cpu0/topology/core_id", "99999999999999999999"),
        ("cpu/cpu0/cache/index3/shared_cpu_list", "0\0"),
        ("node/node0/cpulist", "0,,1"),
    ] {
        let sys = tree(&[("cpu/online", "0-1"), (file, text)]);
        let error = Topology::read(sys.path()).unwrap_err().to_string();
        assert!(error.contains(file), "{file} {text:?}: {error}");
    }
}

#[test]
fn no_sysfs_is_an_error_with_a_hint() {
    let sys = tempfile::tempdir().unwrap();
    let error = Topology::read_online(sys.path()).unwrap_err();
    assert!(error.is_gone() && error.to_string().contains("is sysfs mounted"), "{error}");
}

#[test]
fn uniform_takes_any_numbers() {
    assert!(Topology::uniform(2, 0, 1, 1, 1).online().is_empty());
    let largest = Topology::uniform(usize::MAX, 2, 2, usize::MAX, 2);
    assert_eq!(largest.cpus().len(), MAX_CPU + 1);
}

#[test]
fn the_machine_the_tests_run_on_is_read_whole() {
    let sys = Path::new("/sys");
    // A sandbox may have no sysfs; then there is nothing to compare with.
    let Ok(online) = fs::read_to_string(sys.join("devices/system/cpu/online")) else {
        return;
    };
    let topology = Topology::read(sys).unwrap();
    assert_eq!(topology.online().to_string(), online.trim());
    assert_eq!(topology.cpus().len(), topology.online().len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever belongs together when the tree is written belongs together when it is read.
    #[test]
    fn what_the_kernel_shows_is_what_is_read(
        shape in (1usize..3, 1usize..3, 1usize..3, 1usize..3, 1usize..3),
        offline in proptest::collection::vec(any::<bool>(), 32),
    ) {
        let all = Topology::uniform(shape.0, shape.1, shape.2, shape.3, shape.4);
        let kept = all.cpus().iter().filter(|c| c.id == 0 || !offline[c.id]);
        let described: Topology = kept.copied().collect();
        let sys = tempfile::tempdir().unwrap();
        write_sysfs(sys.path(), &described);
        let read = Topology::read(sys.path()).unwrap();
        prop_assert_eq!(read.online(), described.online());
        for by in [|c: &Cpu| c.core, |c: &Cpu| c.llc, |c: &Cpu| c.node, |c: &Cpu| c.socket] {
            prop_assert_eq!(together(&read, by), together(&described, by));
        }
        for (cpu, before) in read.cpus().iter().zip(described.cpus()) {
            prop_assert_eq!((cpu.node, cpu.socket), (before.node, before.socket));
        }
    }
}
