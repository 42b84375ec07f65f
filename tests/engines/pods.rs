//! Pods under containerd, as a kubelet runs them over CRI.

use std::thread;

use plimsoll::record::Record;

use super::kit::cri::LinuxContainerResources;
use super::kit::{Containerd, IMAGE, Pod, QOS, Suite, cpu};
use crate::common::invariants::{nothing_left, records, store};
use crate::common::planned::differences;
use crate::common::{cgroup, probed, wait_for};
use crate::{best_effort, cpu_group, read};

pub const STATUS: &str = "scheduling.koordinator.sh/resource-status";
const BATCH: &str = "node.koordinator.sh/extended-resource-spec";

/// The test in every version of containerd there is.
fn each(name: &str, test: impl Fn(&mut Containerd)) {
    for suite in Suite::all() {
        test(&mut Containerd::start(suite, name));
    }
}

fn record(engine: &Containerd, id: &str) -> Record {
    store(&engine.node.sandbox)
        .load(&id.parse().unwrap())
        .unwrap()
        .unwrap_or_else(|| panic!("no record of {id}"))
}

/// What Plimsoll itself says of the node: 0 is "all as it should be".
fn status(engine: &Containerd) {
    engine.node.run("plimsoll", &["status", "--exit-code"]).ok();
}

/// A class, the pod's place, what it asks for besides, the container's quota, and what its first process finds.
struct Case {
    class: &'static str,
    qos: &'static str,
    asks: &'static [(&'static str, &'static str)],
    quota: i64,
    finds: &'static [(&'static str, &'static str)],
}

const CASES: [Case; 5] = [
    Case {
        class: "LSE",
        qos: "",
        asks: &[(STATUS, r#"{"cpuset":"1"}"#)],
        quota: 100_000,
        finds: &[("cpuset.cpus", "1"), ("cpu.cfs_quota_us", "-1"), ("cpu.cfs_burst_us", "0")],
    },
    Case {
        class: "LSR",
        qos: "",
        asks: &[(STATUS, r#"{"cpuset":"0"}"#)],
        quota: 100_000,
        finds: &[("cpuset.cpus", "0"), ("cpu.cfs_quota_us", "-1"), ("cpu.cfs_burst_us", "0")],
    },
    Case {
        class: "LS",
        qos: "burstable",
        asks: &[],
        quota: 50_000,
        finds: &[("cpu.cfs_burst_us", "50000"), ("cpu.cfs_quota_us", "50000"), ("cpu.shares", "512")],
    },
    Case {
        class: "BE",
        qos: "besteffort",
        asks: &[(
            BATCH,
            r#"{"containers":{"main":{"requests":{"kubernetes.io/batch-cpu":"500"},"limits":{"kubernetes.io/batch-cpu":"1k","kubernetes.io/batch-memory":"64Mi"}}}}"#,
        )],
        quota: 0,
        finds: &[
            ("cpu.shares", "512"),
            ("cpu.cfs_quota_us", "100000"),
            ("memory.limit_in_bytes", "67108864"),
        ],
    },
    Case {
        class: "SYSTEM",
        qos: "",
        asks: &[],
        quota: 50_000,
        finds: &[("cpu.cfs_burst_us", "0"), ("cpu.cfs_quota_us", "50000"), ("cpu.shares", "512")],
    },
];

#[test]
fn every_class_starts_with_what_was_planned() {
    each("classes", |engine| {
        for case in &CASES {
            let asks = [&[(QOS, case.class)], case.asks].concat();
            let name = case.class.to_lowercase();
            let pod = Pod::run(engine, &name, case.qos, &asks).unwrap();
            // BE's shares are batch-cpu's; kubelet gives it the least there is.
            let shares = if case.class == "BE" { 2 } else { 512 };
            let id = pod.start(engine, "main", cpu(shares, case.quota)).unwrap();
            let seen = pod.probe("main");
            for (file, value) in case.finds {
                let found = probed::file(&seen, file);
                let is_so = match *file {
                    "cpu.shares" => cgroup::is_shares(&found, value.parse().unwrap()),
                    _ => found == *value,
                };
                assert!(is_so, "{file} of {} is {found}, not {value}: {seen}", case.class);
            }
            assert_eq!(differences(&record(engine, &id), &seen), Vec::<String>::new(), "{}", case.class);
            // The pause container is of the pod's class too.
            let of_sandbox = record(engine, &pod.sandbox);
            assert_eq!(of_sandbox.treatment.class, record(engine, &id).treatment.class);
            assert_eq!(of_sandbox.errors, Vec::<String>::new());
            if case.class == "BE" {
                assert_eq!(read(pod.group(), "cpu.idle"), "1");
            }
            status(engine);
            pod.remove(engine);
            nothing_left(&engine.node.sandbox);
        }
    });
}

#[test]
fn a_pod_that_asks_for_nothing_leaves_neither_record_nor_log() {
    each("nothing", |engine| {
        let pod = Pod::run(engine, "plain", "burstable", &[("example.com/colour", "blue")]).unwrap();
        let id = pod.start(engine, "main", cpu(512, 50_000)).unwrap();
        let seen = pod.probe("main");
        assert_eq!(probed::file(&seen, "cpu.cfs_burst_us"), "0");
        assert!(cgroup::is_seen_as(probed::group(&seen, "cpu"), "cpu", &pod.group_of(&id)), "{seen}");
        assert!(records(&engine.node.sandbox).is_empty());
        pod.remove(engine);
        assert_eq!(engine.node.sandbox.log(), "");
    });
}

/// Kubelet's numbers change, up and down: what Plimsoll keeps stays kept, and the burst goes with the quota.
#[test]
fn an_update_of_resources_succeeds_and_the_treatment_holds() {
    each("update", |engine| {
        let pod = Pod::run(engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        pod.limit(50_000);
        let id = pod.start(engine, "main", cpu(512, 50_000)).unwrap();
        let group = pod.group_of(&id);
        assert_eq!(read(&group, "cpu.cfs_burst_us"), "50000");
        assert_eq!(read(pod.group(), "cpu.cfs_burst_us"), "50000");
        // The kernel refuses a quota below the burst, so the burst has to go first. A pod is resized before its
        // containers where it grows, and after them where it shrinks.
        let mut now = 50_000;
        for (shares, quota) in [(256_u32, 20_000), (1024, 80_000), (512, 10_000)] {
            if quota > now {
                pod.limit(quota);
            }
            engine.cri.update_container_resources(&id, &cpu(shares.into(), quota)).unwrap();
            pod.limit(quota);
            now = quota;
            assert!(cgroup::is_shares(&read(&group, "cpu.shares"), shares));
            for group in [&group, pod.group()] {
                assert_eq!(read(group, "cpu.cfs_quota_us"), quota.to_string());
                assert_eq!(read(group, "cpu.cfs_burst_us"), quota.to_string());
            }
            status(engine);
        }
        pod.remove(engine);

        let pod = Pod::run(engine, "lsr", "", &[(QOS, "LSR"), (STATUS, r#"{"cpuset":"1"}"#)]).unwrap();
        let id = pod.start(engine, "main", cpu(512, 100_000)).unwrap();
        let group = pod.group_of(&id);
        let everywhere = LinuxContainerResources { cpuset_cpus: "0-1".to_owned(), ..cpu(1024, 100_000) };
        engine.cri.update_container_resources(&id, &everywhere).unwrap();
        assert_eq!(read(&group, "cpuset.cpus"), "1");
        assert_eq!(read(&group, "cpu.cfs_quota_us"), "-1");
        assert!(cgroup::is_shares(&read(&group, "cpu.shares"), 1024));
        status(engine);
        pod.remove(engine);
        nothing_left(&engine.node.sandbox);
    });
}

/// A program executed in a container finds itself in this group.
#[track_caller]
fn exec_joins(engine: &Containerd, id: &str, group: &str) {
    let ran = engine.cri.exec_sync(id, &["/bin/cat", "/proc/self/cgroup"]).unwrap();
    assert_eq!(ran.exit_code, 0, "{}", String::from_utf8_lossy(&ran.stderr));
    let found = cpu_group(&String::from_utf8(ran.stdout).unwrap());
    assert!(cgroup::is_seen_as(&found, "cpu", group), "{found}, not {group}");
}

#[test]
fn a_program_executed_in_a_container_joins_its_group() {
    each("exec", |engine| {
        let pod = Pod::run(engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        let id = pod.start(engine, "main", cpu(512, 50_000)).unwrap();
        exec_joins(engine, &id, &pod.group_of(&id));
        pod.remove(engine);
        nothing_left(&engine.node.sandbox);
    });
}

#[test]
fn a_program_executed_in_a_container_of_the_class_tree_joins_its_group() {
    each("exec-tree", |engine| {
        engine.node.sandbox.config("placement = \"class-tree\"\n");
        let pod = Pod::run(engine, "be", "besteffort", &[(QOS, "BE")]).unwrap();
        let id = pod.start(engine, "main", cpu(2, 0)).unwrap();
        let class = best_effort(&engine.node);
        let group = record(engine, &id).groups.cpu.path;
        assert!(cgroup::is_seen_as(probed::group(&pod.probe("main"), "cpu"), "cpu", &group), "{group}");
        assert!(group.starts_with(&class) && group.contains(&id), "{group}");
        assert_eq!(read(&class, "cpu.idle"), "1");
        exec_joins(engine, &id, &group);
        engine.cri.update_container_resources(&id, &cpu(64, 40_000)).unwrap();
        assert_eq!(read(&group, "cpu.cfs_quota_us"), "40000");
        pod.remove(engine);
        nothing_left(&engine.node.sandbox);
    });
}

/// As many as the promise in SPECIFICATION.md says; an emulated machine has no time for them.
fn at_once() -> usize {
    if std::env::var_os("PLIMSOLL_TEST_STARTS").is_some() { 10 } else { 50 }
}

#[test]
fn fifty_pods_at_once_are_all_as_planned_and_leave_nothing() {
    let at_once = at_once();
    each("fifty", |engine| {
        let engine = &*engine;
        thread::scope(|scope| {
            // Eight kubelet workers.
            for worker in 0..8 {
                scope.spawn(move || {
                    for n in (worker..at_once).step_by(8) {
                        one_of_many(engine, n);
                    }
                });
            }
        });
        let of_pods = records(&engine.node.sandbox);
        // Every fifth asks for nothing; the others have a sandbox and a container.
        assert_eq!(of_pods.len(), at_once / 5 * 4 * 2);
        status(engine);
        for (_, record) in &of_pods {
            assert_eq!(record.errors, Vec::<String>::new());
        }
        let sandboxes = engine.cri.sandboxes().unwrap();
        assert_eq!(sandboxes.len(), at_once);
        thread::scope(|scope| {
            for some in sandboxes.chunks(at_once.div_ceil(8)) {
                scope.spawn(move || {
                    for id in some {
                        engine.cri.stop_pod_sandbox(id).unwrap();
                        engine.cri.remove_pod_sandbox(id).unwrap();
                    }
                });
            }
        });
        nothing_left(&engine.node.sandbox);
        assert_eq!(engine.cri.containers().unwrap(), Vec::<String>::new());
    });
}

/// A pod of the mix, checked once its container runs.
fn one_of_many(engine: &Containerd, n: usize) {
    let (class, qos) =
        [("LS", "burstable"), ("BE", "besteffort"), ("SYSTEM", ""), ("", "burstable"), ("LS", "")][n % 5];
    let asks: &[(&str, &str)] = if class.is_empty() { &[] } else { &[(QOS, class)] };
    let pod = Pod::run(engine, &format!("n{n}"), qos, asks).unwrap();
    let shares = 100 + u32::try_from(n).unwrap();
    let quota = 1_000 * i64::from(shares);
    let id = pod.start(engine, "main", cpu(shares.into(), quota)).unwrap();
    let seen = pod.probe("main");
    assert!(cgroup::is_shares(&probed::file(&seen, "cpu.shares"), shares));
    let burst = if class == "LS" { quota } else { 0 };
    assert_eq!(probed::file(&seen, "cpu.cfs_burst_us"), burst.to_string());
    if !class.is_empty() {
        assert_eq!(differences(&record(engine, &id), &seen), Vec::<String>::new());
    }
    if class == "BE" {
        assert_eq!(read(pod.group(), "cpu.idle"), "1");
    }
}

#[test]
fn containers_outlive_a_killed_containerd_and_stay_treated() {
    each("killed", |engine| {
        let ls = Pod::run(engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        let be = Pod::run(engine, "be", "besteffort", &[(QOS, "BE")]).unwrap();
        let id = ls.start(engine, "main", cpu(512, 50_000)).unwrap();
        let other = be.start(engine, "main", cpu(2, 0)).unwrap();
        // Created before the kill and started after it.
        let late = ls.create(engine, "late", cpu(512, 30_000)).unwrap();
        let before = cgroup::procs("cpu", &ls.group_of(&id));
        engine.kill_and_restart();

        assert_eq!(cgroup::procs("cpu", &ls.group_of(&id)), before);
        assert!(engine.cri.is_running(&id).unwrap() && engine.cri.is_running(&other).unwrap());
        status(engine);
        engine.cri.start_container(&late).unwrap();
        assert_eq!(probed::file(&ls.probe("late"), "cpu.cfs_burst_us"), "30000");
        engine.cri.update_container_resources(&id, &cpu(512, 20_000)).unwrap();
        assert_eq!(read(&ls.group_of(&id), "cpu.cfs_burst_us"), "20000");
        exec_joins(engine, &id, &ls.group_of(&id));
        engine.cri.stop_container(&id, 5).unwrap();
        engine.cri.remove_container(&id).unwrap();
        assert_eq!(cgroup::read(&ls.group_of(&id), "cpu.shares"), None);
        ls.remove(engine);
        be.remove(engine);
        nothing_left(&engine.node.sandbox);
    });
}

#[test]
fn a_start_that_fails_says_why_to_kubelet() {
    each("fails", |engine| {
        engine.node.sandbox.config("on_error = \"fail\"\n");
        let failed = Pod::run(engine, "gold", "burstable", &[(QOS, "GOLD")]).unwrap_err();
        for part in ["koordinator.sh/qosClass", "GOLD", "LSE, LSR, LS, BE, SYSTEM"] {
            assert!(failed.message.contains(part), "{part} in {failed:?}");
        }
        nothing_left(&engine.node.sandbox);
        // One that can be had starts as ever.
        let pod = Pod::run(engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        pod.start(engine, "main", cpu(512, 50_000)).unwrap();
        assert_eq!(probed::file(&pod.probe("main"), "cpu.cfs_burst_us"), "50000");
        pod.remove(engine);
    });
}

#[test]
fn crun_beneath_is_as_good_as_runc() {
    for suite in Suite::all() {
        let engine = &Containerd::start_with_crun(suite, "crun");
        for (class, qos, quota) in [("LS", "burstable", 50_000), ("BE", "besteffort", 40_000)] {
            let pod = Pod::run(engine, &class.to_lowercase(), qos, &[(QOS, class)]).unwrap();
            let id = pod.start(engine, "main", cpu(512, quota)).unwrap();
            let seen = pod.probe("main");
            assert_eq!(differences(&record(engine, &id), &seen), Vec::<String>::new());
            let group = record(engine, &id).groups.cpu.path;
            exec_joins(engine, &id, &group);
            engine.cri.update_container_resources(&id, &cpu(512, 20_000)).unwrap();
            // In a scope it makes a group of its own, and limits that.
            let groups = [group.clone(), format!("{group}/container")];
            let quotas = groups.iter().filter_map(|group| cgroup::read(group, "cpu.cfs_quota_us"));
            let limits: Vec<String> = quotas.filter(|quota| quota != "-1").collect();
            assert!(!limits.is_empty() && limits.iter().all(|quota| quota == "20000"), "{limits:?}");
            status(engine);
            pod.remove(engine);
        }
        nothing_left(&engine.node.sandbox);
    }
}

/// `ctr` knows nothing of CRI: it takes the runtime it is told.
#[test]
fn ctr_with_the_wrapper_as_its_runc() {
    each("ctr", |engine| {
        let group = engine.node.sandbox.group("ctr/one");
        let class = format!("{QOS}=LS");
        engine
            .ctr(&[
                "run",
                "--detach",
                "--runc-binary",
                "/usr/local/bin/plimsoll-runtime",
                "--annotation",
                &class,
                "--cpu-period",
                "100000",
                "--cpu-quota",
                "30000",
                "--cgroup",
                &group,
                IMAGE,
                "one",
            ])
            .ok();
        assert_eq!(read(&group, "cpu.cfs_burst_us"), "30000");
        status(engine);
        engine.ctr(&["task", "kill", "--signal", "SIGKILL", "one"]).ok();
        wait_for("the task to be gone", || {
            engine.ctr(&["task", "delete", "one"]).status.success().then_some(())
        });
        engine.ctr(&["container", "delete", "one"]).ok();
        nothing_left(&engine.node.sandbox);
    });
}
