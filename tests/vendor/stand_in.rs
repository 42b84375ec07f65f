//! The pretended kernels themselves: they answer as the sources of the real ones say.

use crate::fixtures::{Burst, Driver, Errno, Kernel, Kube, Layout, Node};

const POD: &str = "/kubepods/burstable/poda";

fn node(kernel: Kernel) -> Option<Node> {
    let node = Node::new(kernel)?;
    node.pod(Driver::Cgroupfs, Kube::Burstable, "a");
    Some(node)
}

/// Writes in turn, each with the kernel's answer and what the file says after it.
fn answers(node: &Node, group: &str, rows: &[(&str, &str, Result<(), Errno>, &str)]) {
    for (file, text, answer, after) in rows {
        assert_eq!(node.try_write(group, file, text), *answer, "{text:?} to {file} of {group}");
        assert_eq!(node.read(group, file), *after, "{file} of {group} after {text:?}");
    }
}

#[test]
fn group_identity_has_its_ranges_its_errnos_and_its_quirk() {
    let Some(node) = node(Kernel { switch: None, ..Kernel::anck_5_10() }) else { return };
    answers(&node, "/", &[("cpu.bvt_warp_ns", "2", Err(Errno::EINVAL), "0")]);
    answers(
        &node,
        POD,
        &[
            ("cpu.bvt_warp_ns", "3", Err(Errno::ERANGE), "0"),
            ("cpu.bvt_warp_ns", "-3", Err(Errno::ERANGE), "0"),
            ("cpu.bvt_warp_ns", "x", Err(Errno::EINVAL), "0"),
            ("cpu.bvt_warp_ns", "1 ", Err(Errno::EINVAL), "0"),
            ("cpu.bvt_warp_ns", "", Ok(()), "0"),
            ("cpu.bvt_warp_ns", "-2\n", Ok(()), "-2"),
            ("cpu.identity", "256", Err(Errno::ERANGE), "9"),
            ("cpu.identity", "-1", Err(Errno::ERANGE), "9"),
            ("cpu.identity", "3", Err(Errno::EINVAL), "9"),
            ("cpu.identity", "18", Ok(()), "18"),
            ("cpu.bvt_warp_ns", "-2", Ok(()), "-2"),
        ],
    );
    assert_eq!(node.read(POD, "cpu.identity"), "18", "the same value again changes nothing");
    let one = node.container("one", &format!("{POD}/one"));
    assert_eq!((one.read("cpu.bvt_warp_ns"), one.read("cpu.identity")), ("-2".into(), "18".into()));
    node.write(POD, "cpu.bvt_warp_ns", "2");
    assert_eq!(one.read("cpu.bvt_warp_ns"), "-2", "a later write does not reach what is below");
}

#[test]
fn levels_go_one_way_and_down_the_tree() {
    let Some(node) = node(Kernel::openeuler()) else { return };
    let one = node.container("one", &format!("{POD}/one"));
    answers(
        &node,
        POD,
        &[
            ("cpu.qos_level", "1", Err(Errno::EINVAL), "0"),
            ("cpu.qos_level", "-2", Err(Errno::EINVAL), "0"),
            ("cpu.qos_level", "-1", Ok(()), "-1"),
            ("cpu.qos_level", "-1", Ok(()), "-1"),
            ("cpu.qos_level", "0", Err(Errno::EINVAL), "-1"),
        ],
    );
    assert_eq!(one.read("cpu.qos_level"), "-1");
}

#[test]
fn mainline_binds_the_burst_to_the_quota_and_refuses_the_weight_of_an_idle_group() {
    let Some(node) = node(Kernel::mainline_6_1()) else { return };
    answers(
        &node,
        POD,
        &[
            ("cpu.max.burst", "40000", Ok(()), "40000"),
            ("cpu.max", "999", Err(Errno::EINVAL), "max 100000"),
            ("cpu.max", "50000 20000", Ok(()), "50000 20000"),
            ("cpu.max.burst", "50001", Err(Errno::EINVAL), "40"),
            ("cpu.max.burst", "50000", Ok(()), "50000"),
            ("cpu.max", "30000", Ok(()), "30000 20000"),
            ("cpu.max.burst", "-1", Err(Errno::EINVAL), "50"),
            ("cpu.weight", "0", Err(Errno::ERANGE), "100"),
            ("cpu.idle", "2", Err(Errno::EINVAL), "0"),
            ("cpu.idle", "1", Ok(()), "1"),
            ("cpu.weight", "100", Err(Errno::EINVAL), "0"),
            ("cpu.idle", "0", Ok(()), "0"),
        ],
    );
    assert_eq!(node.read(POD, "cpu.weight"), "100");
    let Some(node) = self::node(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    answers(
        &node,
        POD,
        &[
            ("cpu.cfs_quota_us", "50000", Ok(()), "50000"),
            ("cpu.cfs_burst_us", "50000", Ok(()), "50000"),
            ("cpu.cfs_quota_us", "30000", Err(Errno::EINVAL), "50000"),
        ],
    );
    let one = format!("{POD}/one");
    node.container("one", &one);
    let above = ("cpu.cfs_quota_us", "60000", Err(Errno::EINVAL), "-1");
    answers(&node, &one, &[above, ("cpu.cfs_quota_us", "50000", Ok(()), "50000")]);
    let Some(node) = self::node(Kernel { burst: Burst::Free, ..Kernel::mainline_6_12() }) else { return };
    answers(
        &node,
        POD,
        &[("cpu.max", "50000", Ok(()), "50000 100000"), ("cpu.max.burst", "90000", Ok(()), "90000")],
    );
    answers(&node, POD, &[("cpu.max", "20000", Ok(()), "20000 100000")]);
}

#[test]
fn cpusets_refuse_on_v1_and_narrow_silently_on_v2() {
    let one = format!("{POD}/one");
    let Some(node) = node(Kernel::mainline_6_12().on(Layout::V1)) else { return };
    node.container("one", &one);
    answers(&node, POD, &[("cpuset.cpus", "0-3", Err(Errno::EBUSY), "0-7")]);
    answers(
        &node,
        &one,
        &[("cpuset.cpus", "2-3", Ok(()), "2-3"), ("cpuset.cpus", "\n", Err(Errno::ENOSPC), "2-3")],
    );
    answers(&node, POD, &[("cpuset.cpus", "0-3", Ok(()), "0-3")]);
    answers(
        &node,
        &one,
        &[
            ("cpuset.cpus", "2-5", Err(Errno::EACCES), "2-3"),
            ("cpuset.cpus", "3-1", Err(Errno::EINVAL), "2-3"),
            ("cpuset.cpus", "0-99", Err(Errno::ERANGE), "2-3"),
        ],
    );
    let Some(node) = self::node(Kernel::mainline_6_12()) else { return };
    node.container("one", &one);
    answers(&node, &one, &[("cpuset.cpus", "2-5", Ok(()), "2-5")]);
    answers(&node, POD, &[("cpuset.cpus", "0-3", Ok(()), "0-3")]);
    assert_eq!(node.read(&one, "cpuset.cpus.effective"), "2-3");
    answers(&node, POD, &[("cpuset.cpus", "6", Ok(()), "6")]);
    assert_eq!(node.read(&one, "cpuset.cpus.effective"), "6", "nothing in common: the parent's");
    answers(&node, &one, &[("cpuset.cpus", "\n", Err(Errno::ENOSPC), "2-5")]);
}
