//! What a pod may not take for itself by its annotations: limits of its engine, CPUs and classes of other namespaces,
//! the node's switches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod fixtures;

use std::fs;

use fixtures::{Container, Driver, Kernel, Kube, Layout, Node};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const PROD: &str = "[claims]\nnamespaces = [\"prod\"]\n";
const CRIO: &str = "io.kubernetes.cri-o.ContainerType";
const SPEC: &str = "node.koordinator.sh/extended-resource-spec";
const GIB: &str = "1073741824";

/// The files of the CPU and of the memory limit.
fn limits(layout: Layout) -> (&'static str, &'static str) {
    match layout {
        Layout::V1 => ("cpu.cfs_quota_us", "memory.limit_in_bytes"),
        _ => ("cpu.max", "memory.max"),
    }
}

/// The limits of container and pod.
fn found(one: &Container<'_>, pod: &str, layout: Layout) -> Vec<String> {
    let (cpu, memory) = limits(layout);
    let value = |group: &str, file: &str| one.node.read(group, file).split(' ').next().unwrap().to_owned();
    [(&*one.path, cpu), (&*one.path, memory), (pod, cpu), (pod, memory)].map(|(g, f)| value(g, f)).into()
}

#[test]
fn batch_resources_loosen_no_limit_that_is_there() {
    for layout in [Layout::V1, Layout::V2] {
        let (cpu, memory) = limits(layout);
        for spec in [
            r#"{"containers":{"main":{}}}"#,
            r#"{"containers":{"main":{"limits":{"kubernetes.io/batch-cpu":"4k","kubernetes.io/batch-memory":"8Gi"}}}}"#,
        ] {
            let Some(node) = Node::new(Kernel::mainline_6_12().on(layout)) else { return };
            node.config(PROD);
            let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set(cpu, "50000").set(memory, GIB);
            let one = pod.container("one").set(cpu, "50000").set(memory, GIB);
            let one = one.class("BE").annotation(SPEC, spec);
            one.create();
            assert_eq!(found(&one, &pod.path, layout), ["50000", GIB, "50000", GIB], "{layout:?} {spec}");
            let lost = one.lost();
            for words in ["container's limit of 50000 stays", "pod's limit of 1073741824 stays"] {
                assert!(
                    lost.iter().any(|l| l.contains(words) && l.contains("claims.namespaces")),
                    "{lost:?}"
                );
            }
            assert_eq!((one.phase(), node.refused()), ("applied", vec![]));
        }
    }
}

#[test]
fn batch_resources_tighten_limits_and_set_those_that_are_missing() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a");
    let one = pod.container("one").class("BE").batch(500, 500, "512Mi").set("cpu.max", "90000");
    one.create();
    let half = "536870912";
    assert_eq!(found(&one, &pod.path, Layout::V2), ["50000", half, "50000", half]);
    assert!(!one.lost().iter().any(|l| l.contains("stays")), "{:?}", one.lost());
}

#[test]
fn who_may_claim_may_loosen_limits() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config("[claims]\nnamespaces = [\"default\"]\n");
    let pod = node.pod(Driver::Systemd, Kube::BestEffort, "a").set("cpu.max", "50000");
    let one = pod.container("one").class("BE").batch(500, 2000, "1Gi").set("cpu.max", "50000");
    one.create();
    assert_eq!(found(&one, &pod.path, Layout::V2), ["200000", GIB, "200000", GIB]);
    // Outside Kubernetes whoever starts containers is root.
    let plain =
        node.container("plain", "/docker/plain").annotation("io.kubernetes.cri.container-name", "main");
    let plain = plain.class("BE").batch(500, 2000, "1Gi").set("cpu.max", "50000");
    plain.create();
    assert_eq!(plain.read("cpu.max"), "200000 100000");
}

#[test]
fn a_pod_on_crio_cannot_borrow_a_namespace_with_containerds_key() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config(PROD);
    let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a");
    let before = "io.kubernetes.cri.sandbox-namespace";
    for (id, label, class) in [("honest", "prod", "LSR"), ("liar", "mine", "LS")] {
        let one = pod.container(id).annotation(before, "prod").annotation(CRIO, "container");
        let one = one.annotation("io.kubernetes.pod.namespace", label).class("LSR").cpuset("2-3");
        one.create();
        assert_eq!(one.record()["treatment"]["class"], class, "{id}");
        assert_eq!(one.read("cpuset.cpus") == "2-3", class == "LSR", "{id}");
        one.stop();
    }
}

#[test]
fn a_pod_of_an_unknown_namespace_is_not_outside_kubernetes() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    let place = node.pod(Driver::Cgroupfs, Kube::Burstable, "a").path;
    for (config, path, class) in [
        ("", format!("{place}/one"), "LS"),
        ("", "/docker/two".to_owned(), "LSR"),
        ("[claims]\noutside_kubernetes = false\n", "/docker/three".to_owned(), "LS"),
        ("[claims]\nnamespaces = [\"*\"]\n", format!("{place}/four"), "LSR"),
    ] {
        node.config(config);
        let id = path.rsplit('/').next().unwrap();
        let one = node.container(id, &path).class("LSR").cpuset("2-3");
        one.create();
        assert_eq!(one.record()["treatment"]["class"], class, "{path} {config:?}");
        one.stop();
    }
}

#[test]
fn a_sandbox_gets_no_cpus_of_its_own_unless_the_scheduler_chose_them() {
    let Some(node) = Node::new(Kernel::mainline_6_12()) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n[exclusive]\nallocate = true\n");
    let pod = node.pod(Driver::Systemd, Kube::Guaranteed, "a");
    for (key, id) in [("io.kubernetes.cri.container-type", "pause"), (CRIO, "infra")] {
        let one = pod.container(id).class("LSR").annotation(key, "sandbox").set("cpu.max", "200000");
        let one = one.annotation("io.kubernetes.pod.namespace", "default");
        one.create();
        assert_eq!(
            (one.record()["treatment"]["cpus"].as_str(), node.kept("exclusive")),
            (Some("shared-pool"), vec![])
        );
        assert_eq!(one.phase(), "applied", "{:?}", one.errors());
        one.stop();
        let one =
            pod.container(&format!("{id}-pinned")).class("LSR").annotation(key, "sandbox").cpuset("2-3");
        let one = one.annotation("io.kubernetes.pod.namespace", "default");
        one.create();
        assert_eq!(one.read("cpuset.cpus"), "2-3");
        one.stop();
    }
    let work = pod.container("work").class("LSR").set("cpu.max", "200000");
    work.create();
    assert_eq!(node.kept("exclusive").len(), 1);
}

#[test]
fn no_identity_is_no_reason_to_turn_group_identity_on() {
    let slo = r#"{"resource-qos-config":"{}"}"#;
    for (kernel, class, with_slo) in [
        (Kernel::anck_5_10(), "SYSTEM", false),
        (Kernel { core_sched: Some(true), ..Kernel::anck_5_10() }, "SYSTEM", false),
        // Koordinator's strategies are off unless they are turned on.
        (Kernel::anck_5_10(), "LS", true),
    ] {
        let core_sched = kernel.core_sched;
        let Some(node) = Node::new(kernel) else { return };
        let identity = "[identity]\ncore_scheduling = \"disable\"\n[claims]\nnamespaces = [\"*\"]\n";
        let koordinator = if with_slo { "[koordinator]\nslo_config = \"/run/slo.json\"\n" } else { "" };
        node.config(&format!("{identity}{koordinator}"));
        fs::write(node.run_dir().join("slo.json"), slo).unwrap();
        let one = node.pod(Driver::Systemd, Kube::Burstable, "a").container("one").class(class);
        one.create();
        assert_eq!(node.sysctl("sched_group_identity_enabled"), "0", "{class}");
        assert_eq!(node.sysctl("sched_core") == "1", core_sched == Some(true), "{class}");
        assert!(!node.writes().iter().any(|w| w.file.contains("bvt") || w.file.contains("sched")), "{class}");
        assert_eq!(one.phase(), "applied", "{:?}", one.errors());
    }
}

#[test]
fn a_switch_that_is_on_lets_old_identities_be_taken_back() {
    let Some(node) = Node::new(Kernel { switch: Some(true), ..Kernel::anck_5_10() }) else { return };
    node.config("[claims]\nnamespaces = [\"*\"]\n");
    let pod = node.pod(Driver::Systemd, Kube::Burstable, "a").set("cpu.bvt_warp_ns", "2");
    pod.container("one").class("SYSTEM").create();
    assert_eq!(pod.read("cpu.bvt_warp_ns"), "0");
}

/// A read of a pipe would hold up every container start, and an endless file take all memory.
#[test]
fn koordinators_file_is_read_to_a_bound_and_never_waited_for() {
    use plimsoll::kernel::fs::Roots;
    use plimsoll::policy::config::Config;
    use plimsoll::policy::decide::Rules;

    let dir = tempfile::tempdir().unwrap();
    let config = Config::from_toml("c".as_ref(), "[koordinator]\nslo_config = '/slo'").unwrap();
    let error = || Rules::of(&config, &Roots::at(dir.path())).unwrap_err().to_string();
    let file = dir.path().join("slo");
    assert!(error().contains("ENOENT"), "{}", error());
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    assert!(error().contains("not a regular file"), "{}", error());
    fs::remove_file(&file).unwrap();
    fs::write(&file, " ".repeat(1024 * 1024 + 1)).unwrap();
    assert!(error().contains("larger than 1024 KiB"), "{}", error());
}
