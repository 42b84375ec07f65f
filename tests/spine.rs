//! The spine, with the real runc on the real hierarchy: what each class's first process sees when it starts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use common::probed::{self, file};
use common::{Bundle, Sandbox, cgroup, wait_for};
use serde_json::json;

const QOS: &str = "koordinator.sh/qosClass";

fn limited(sandbox: &Sandbox, id: &str) -> Bundle {
    sandbox
        .bundle(id)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .plimsoll_hooks(sandbox)
}

fn read(group: &str, name: &str) -> String {
    cgroup::read(group, name).unwrap_or_else(|| panic!("{name} of {group}"))
}

#[test]
fn ls_starts_with_its_burst() {
    let sandbox = Sandbox::new("ls");
    let seen = sandbox.run_probe(&limited(&sandbox, "ls").annotation(QOS, "LS"));
    assert_eq!(file(&seen, "cpu.cfs_burst_us"), "50000");
    assert_eq!(file(&seen, "cpu.cfs_quota_us"), "50000");
    assert!(cgroup::is_shares(&file(&seen, "cpu.shares"), 512));
    assert_eq!(file(&seen, "cpu.idle"), "0");
}

#[test]
fn best_effort_under_kubepods_starts_in_an_idle_pod() {
    let sandbox = Sandbox::new("be");
    let bundle = limited(&sandbox, "be").annotation(QOS, "BE");
    let pod = bundle.pod_group().to_owned();
    sandbox.create(&bundle).ok();
    assert_eq!(read(&pod, "cpu.idle"), "1");
    assert!(cgroup::is_shares(&read(bundle.group(), "cpu.shares"), 512));
    sandbox.delete_force(&bundle).ok();
    // Put back: a later write of the pod's shares must not be refused because of us.
    assert_eq!(read(&pod, "cpu.idle"), "0");
    assert_eq!(read(&pod, "cpu.shares"), cgroup::default_shares());
}

#[test]
fn best_effort_outside_kubernetes_starts_in_the_class_tree() {
    let sandbox = Sandbox::new("tree");
    let bundle = limited(&sandbox, "tree").cgroup("tree").annotation(QOS, "BE");
    let seen = sandbox.run_probe(&bundle);
    if cgroup::is_v1() {
        let group = format!("{}/best-effort/tree", sandbox.class_tree());
        assert_eq!(probed::group(&seen, "cpu"), group);
        assert_eq!(probed::group(&seen, "cpuset"), group);
        assert_eq!(file(&seen, "cpu.shares"), "512");
    } else {
        // A hook cannot move it: memory and pids would go along. The next best is said to be no more than that.
        assert_eq!(probed::group(&seen, "cpu"), bundle.group());
        assert_eq!(file(&seen, "cpu.idle"), "1");
        assert!(sandbox.log().contains("on cgroup v2 a hook cannot move"), "{}", sandbox.log());
    }
    assert_eq!(probed::group(&seen, "memory"), bundle.group());
    assert_eq!(file(&seen, "cpu.cfs_quota_us"), "50000");
    assert_eq!(file(&seen, "cpu.cfs_period_us"), "100000");
}

#[test]
fn pinned_containers_start_on_their_cpus_without_a_quota() {
    let sandbox = Sandbox::new("pinned");
    let status = r#"{"cpuset":"1"}"#;
    let bundle = limited(&sandbox, "pinned")
        .annotation(QOS, "LSR")
        .annotation("scheduling.koordinator.sh/resource-status", status);
    let seen = sandbox.run_probe(&bundle);
    assert_eq!(file(&seen, "cpuset.cpus"), "1");
    assert_eq!(seen["affinity"], "1");
    assert_eq!(file(&seen, "cpu.cfs_quota_us"), "-1");
    assert_eq!(file(&seen, "cpu.cfs_burst_us"), "0");
}

#[test]
fn batch_resources_become_shares_quota_and_memory_of_container_and_pod() {
    let sandbox = Sandbox::new("batch");
    let spec = json!({"containers": {
        "main": {"requests": {"kubernetes.io/batch-cpu": "500"},
                 "limits": {"kubernetes.io/batch-cpu": "1k", "kubernetes.io/batch-memory": "64Mi"}},
        "side": {"requests": {"kubernetes.io/batch-cpu": 250},
                 "limits": {"kubernetes.io/batch-cpu": 500, "kubernetes.io/batch-memory": "32Mi"}},
    }});
    let bundle = sandbox
        .bundle("batch")
        .plimsoll_hooks(&sandbox)
        .annotation(QOS, "BE")
        .annotation("io.kubernetes.cri.container-name", "main")
        .annotation("node.koordinator.sh/extended-resource-spec", &spec.to_string());
    sandbox.create(&bundle).ok();
    let (pod, own) = (bundle.pod_group(), bundle.group());
    assert!(cgroup::is_shares(&read(own, "cpu.shares"), 512));
    assert_eq!(read(own, "cpu.cfs_quota_us"), "100000");
    assert_eq!(read(own, "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(read(pod, "cpu.cfs_quota_us"), "150000");
    assert_eq!(read(pod, "memory.limit_in_bytes"), (96 << 20).to_string());
    // The pod is idle, so its shares cannot be written; the record says so.
    assert_eq!(read(pod, "cpu.idle"), "1");
    assert!(sandbox.log().contains("shares are not written"), "{}", sandbox.log());
}

#[test]
fn an_ls_pod_may_lower_itself() {
    let sandbox = Sandbox::new("lowered");
    let bundle = limited(&sandbox, "lowered")
        .annotation(QOS, "LS")
        .annotation("koordinator.sh/cpuQOS", r#"{"enable":true,"groupIdentity":-1}"#);
    sandbox.create(&bundle).ok();
    assert_eq!(read(bundle.pod_group(), "cpu.idle"), "1");
}

#[test]
fn annotations_win_over_the_configuration_field_by_field() {
    let sandbox = Sandbox::new("fields");
    sandbox.config("[class.LS]\nburst_percent = 50\n");
    // The policy is the annotation's, the percent the configuration's.
    let bundle = limited(&sandbox, "fields")
        .annotation(QOS, "LS")
        .annotation("koordinator.sh/cpuBurst", r#"{"policy":"cpuBurstOnly"}"#);
    assert_eq!(file(&sandbox.run_probe(&bundle), "cpu.cfs_burst_us"), "25000");
    let none = limited(&sandbox, "none")
        .annotation(QOS, "LS")
        .annotation("koordinator.sh/cpuBurst", r#"{"policy":"none"}"#);
    assert_eq!(file(&sandbox.run_probe(&none), "cpu.cfs_burst_us"), "0");
}

#[test]
fn a_pods_burst_is_the_sum_of_its_containers_and_shrinks_with_them() {
    let sandbox = Sandbox::new("sum");
    let first = limited(&sandbox, "first").annotation(QOS, "LS");
    let pod = first.pod_group().to_owned();
    let second = limited(&sandbox, "second")
        .cgroup(&format!("{}/second", pod.trim_start_matches(&sandbox.group("")).trim_matches('/')))
        .annotation(QOS, "LS");
    // Kubelet limits a pod to what its containers may use together, before it makes them.
    cgroup::make(&pod);
    cgroup::write(&pod, "cpu.cfs_quota_us", "100000").unwrap();
    sandbox.create(&first).ok();
    assert_eq!(read(&pod, "cpu.cfs_burst_us"), "50000");
    sandbox.create(&second).ok();
    assert_eq!(read(&pod, "cpu.cfs_burst_us"), "100000");
    sandbox.delete_force(&first).ok();
    assert_eq!(read(&pod, "cpu.cfs_burst_us"), "50000");
    // With the burst gone kubelet may shrink the pod again.
    sandbox.delete_force(&second).ok();
    assert_eq!(read(&pod, "cpu.cfs_burst_us"), "0");
    // (The kernel counts a removed group's quota until a grace period is over.)
    wait_for("the pod's quota to shrink", || cgroup::write(&pod, "cpu.cfs_quota_us", "5000").ok());
}

/// Every file of a container's groups, but for counters and what names the container.
fn files(group: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for hierarchy in cgroup::hierarchies() {
        let Ok(entries) = std::fs::read_dir(hierarchy.dir(group)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().unwrap();
            let counter = [
                "stat",
                "usage",
                "procs",
                "tasks",
                "threads",
                // Each group's own number.
                "prioidx",
                "current",
                "failcnt",
                "events",
                "pressure",
                "peak",
                "io_serv",
                "io_merged",
                "io_queued",
                "io_wait",
                "throttle.io",
            ];
            if counter.iter().any(|word| name.contains(word)) {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                files.push((format!("{:?}/{name}", hierarchy.dir("")), text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_container_that_asks_for_nothing_is_left_byte_for_byte() {
    let sandbox = Sandbox::new("nothing");
    let plain = sandbox.bundle("plain").resource("cpu", "quota", 50_000);
    let hooked = sandbox.bundle("hooked").resource("cpu", "quota", 50_000).plimsoll_hooks(&sandbox);
    for bundle in [&plain, &hooked] {
        sandbox.create(bundle).ok();
    }
    let (without, with) = (files(plain.group()), files(hooked.group()));
    assert!(without.len() > 20, "{without:?}");
    for (without, with) in without.iter().zip(&with) {
        assert_eq!(without, with);
    }
    assert_eq!(without.len(), with.len());
    assert_eq!(files(plain.pod_group()), files(hooked.pod_group()));
    assert!(!sandbox.run_dir().join("containers").exists(), "a record of nothing");
    assert_eq!(sandbox.log(), "");
}

#[test]
fn the_kill_switch_makes_every_hook_pass_through() {
    let sandbox = Sandbox::new("switch");
    std::fs::create_dir_all(sandbox.run_dir()).unwrap();
    std::fs::write(sandbox.run_dir().join("disabled"), "").unwrap();
    let seen = sandbox.run_probe(&limited(&sandbox, "off").annotation(QOS, "LS"));
    assert_eq!(file(&seen, "cpu.cfs_burst_us"), "0");
    std::fs::remove_file(sandbox.run_dir().join("disabled")).unwrap();
    let seen = sandbox.run_probe(&limited(&sandbox, "on").annotation(QOS, "LS"));
    assert_eq!(file(&seen, "cpu.cfs_burst_us"), "50000");
}
