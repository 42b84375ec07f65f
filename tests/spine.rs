//! The spine, with the real runc on the real hierarchy: what each class's first process sees when it starts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use common::{Bundle, Sandbox, cgroup};
use serde_json::{Value, json};

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

fn file<'a>(seen: &'a Value, name: &str) -> &'a str {
    seen["files"][name].as_str().unwrap_or_else(|| panic!("{name} in {seen}"))
}

#[test]
fn ls_starts_with_its_burst() {
    let sandbox = Sandbox::new("ls");
    let seen = sandbox.run_probe(&limited(&sandbox, "ls").annotation(QOS, "LS"));
    assert_eq!(file(&seen, "cpu.cfs_burst_us"), "50000");
    assert_eq!(file(&seen, "cpu.cfs_quota_us"), "50000");
    assert_eq!(file(&seen, "cpu.shares"), "512");
    assert_eq!(file(&seen, "cpu.idle"), "0");
}

#[test]
fn best_effort_under_kubepods_starts_in_an_idle_pod() {
    let sandbox = Sandbox::new("be");
    let bundle = limited(&sandbox, "be").annotation(QOS, "BE");
    let pod = bundle.pod_group().to_owned();
    sandbox.create(&bundle).ok();
    assert_eq!(read(&pod, "cpu.idle"), "1");
    assert_eq!(read(bundle.group(), "cpu.shares"), "512");
    sandbox.delete_force(&bundle).ok();
    // Put back: a later write of the pod's shares must not be refused because of us.
    assert_eq!(read(&pod, "cpu.idle"), "0");
    assert_eq!(read(&pod, "cpu.shares"), "1024");
}

#[test]
fn best_effort_outside_kubernetes_starts_in_the_class_tree() {
    let sandbox = Sandbox::new("tree");
    let bundle = limited(&sandbox, "tree").cgroup("tree").annotation(QOS, "BE");
    let seen = sandbox.run_probe(&bundle);
    let group = format!("{}/best-effort/tree", sandbox.class_tree());
    assert_eq!(seen["cgroup"]["cpu"], json!(group));
    assert_eq!(seen["cgroup"]["cpuset"], json!(group));
    assert_eq!(seen["cgroup"]["memory"], json!(bundle.group()));
    for (name, value) in
        [("cpu.shares", "512"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "100000")]
    {
        assert_eq!(file(&seen, name), value);
    }
}
