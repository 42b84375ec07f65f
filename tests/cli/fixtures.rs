//! Kernels that cannot be had here, as fixture trees.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::common::{Ran, Sandbox, dist};
use super::{code, json, says, squeezed};

/// A tree of files.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// A node of Anolis OS on v2 with kubelet's systemd driver.
fn anolis(release: &str, more: &[(&str, &str)]) -> TempDir {
    let slice = "sys/fs/cgroup/kubepods.slice";
    let files = [
        ("proc/sys/kernel/osrelease", release),
        ("proc/self/cgroup", "0::/user.slice\n"),
        ("sys/fs/cgroup/cgroup.procs", ""),
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
    ];
    let dir = tree(&[&files, more].concat());
    for (name, text) in [
        ("cgroup.procs", ""),
        ("cgroup.controllers", "cpuset cpu memory\n"),
        ("cpu.max", "max 100000\n"),
        ("cpu.max.burst", "0\n"),
        ("cpu.weight", "100\n"),
        ("cpu.idle", "0\n"),
        ("cpuset.cpus", "\n"),
        ("cpuset.cpus.effective", "0-3\n"),
    ] {
        let path = dir.path().join(slice).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn run(sandbox: &Sandbox, root: &Path, args: &[&str], input: &str) -> Ran {
    let all = [&["--root", root.to_str().unwrap()], args].concat();
    sandbox.command_with(dist("plimsoll"), &all, input.as_bytes())
}

const POD: &str = r#"{"kind":"Pod","metadata":{"name":"p","annotations":{"koordinator.sh/qosClass":"BE"}},
    "spec":{"containers":[{"name":"c"}]}}"#;

#[test]
fn group_identity_is_planned_with_its_switch() {
    let sandbox = Sandbox::new("cli-anolis");
    let root = anolis(
        "5.10.134-16.al8.x86_64\n",
        &[
            ("sys/fs/cgroup/kubepods.slice/cpu.bvt_warp_ns", "0\n"),
            ("sys/fs/cgroup/kubepods.slice/cpu.identity", "0\n"),
            ("proc/sys/kernel/sched_group_identity_enabled", "0\n"),
        ],
    );
    let ran = run(&sandbox, root.path(), &["plan", "-f", "-", "--json"], POD).ok();
    let plan = &json(&ran)["containers"][0];
    assert_eq!(plan["rung"], "group-identity");
    assert_eq!(
        plan["switches"],
        json!([{"file": "/proc/sys/kernel/sched_group_identity_enabled", "value": 1}])
    );
    let writes: Vec<(&Value, &Value, &Value)> =
        plan["writes"].as_array().unwrap().iter().map(|w| (&w["level"], &w["knob"], &w["value"])).collect();
    for (level, value) in [("pod", -1), ("container", -1), ("kube-qos", 0)] {
        assert!(
            writes.contains(&(&json!(level), &json!("bvt-warp"), &json!(value))),
            "{level} in {writes:?}"
        );
    }
    let text = run(&sandbox, root.path(), &["plan", "-f", "-"], POD).ok().stdout;
    says(
        &squeezed(&text),
        &["sched_group_identity_enabled: 0 -> 1, for the whole node", "cgroup driver systemd"],
    );
    says(
        &squeezed(&text),
        &["kube-qos cpu.bvt_warp_ns 0 = normal 0 = normal kubepods itself is always normal"],
    );
    // Looking changes nothing.
    assert_eq!(
        fs::read_to_string(root.path().join("proc/sys/kernel/sched_group_identity_enabled")).unwrap(),
        "0\n"
    );

    let text = run(&sandbox, root.path(), &["check"], "").ok().stdout;
    says(
        &squeezed(&text),
        &["group-identity (cpu.bvt_warp_ns): used", "will be set to 1 at the first container"],
    );
}

#[test]
fn a_better_rung_that_may_not_be_used_is_named_with_its_reason() {
    let sandbox = Sandbox::new("cli-crash");
    let root =
        anolis("4.19.91-25.1.al7.x86_64\n", &[("sys/fs/cgroup/kubepods.slice/cpu.bvt_warp_ns", "0\n")]);
    let text = run(&sandbox, root.path(), &["check"], "").ok().stdout;
    says(
        &squeezed(&text),
        &["group-identity (cpu.bvt_warp_ns): passed over: kernel 4.19.91-25.1", "idle (cpu.idle): used"],
    );
    let text = run(&sandbox, root.path(), &["plan", "-f", "-"], POD).ok().stdout;
    says(&text, &["known to crash", "idle (cpu.idle)"]);
}

#[test]
fn check_names_what_stands_in_the_way_and_what_to_do() {
    let sandbox = Sandbox::new("cli-check");
    let root = anolis(
        "5.15.0-100-generic\n",
        &[
            ("var/lib/kubelet/cpu_manager_state", r#"{"policyName":"static"}"#),
            ("etc/plimsoll/config.toml", "[exclusive]\nreserved_cpus = \"7\"\n"),
            ("run/plimsoll/disabled", ""),
            ("run/plimsoll/containers/x.json", "{"),
        ],
    );
    let ran = run(&sandbox, root.path(), &["check"], "");
    assert_eq!(code(&ran), 1);
    says(
        &ran.stdout,
        &[
            "divide cpu.max.burst by 1000",
            "CPU manager is static",
            "exclusive.reserved_cpus names 7",
            "switched off",
            "cannot be understood: x",
            "a hook cannot move containers into the class tree on cgroup v2",
            "systemd (",
            "in the way",
        ],
    );
    let ran = run(&sandbox, root.path(), &["check", "--json"], "");
    let lines = json(&ran)["lines"].as_array().unwrap().clone();
    let bad: Vec<&Value> = lines.iter().filter(|line| line["mark"] == "bad").collect();
    assert_eq!((bad.len(), &bad[0]["topic"]), (1, &json!("cpus")), "{lines:#?}");
    for line in &lines {
        assert!(line["mark"] == "ok" || line["topic"] == "identity" || !line["todo"].is_null(), "{line}");
    }
}

#[test]
fn a_broken_configuration_is_bad_and_the_rest_is_checked_all_the_same() {
    let sandbox = Sandbox::new("cli-broken");
    let root = anolis("6.10.0\n", &[("etc/plimsoll/config.toml", "placment = \"keep\"\n")]);
    let ran = run(&sandbox, root.path(), &["check"], "");
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["placment", "line 1", "every container starts untreated", "idle (cpu.idle): used"]);
    // The switch works with a broken configuration, for the hook looks at the usual place first.
    run(&sandbox, root.path(), &["disable"], "").ok();
    assert!(root.path().join("run/plimsoll/disabled").exists());
}

#[test]
fn a_node_without_the_cpu_controller_is_told_so() {
    let sandbox = Sandbox::new("cli-nocpu");
    let root = tree(&[("proc/self/cgroup", "1:name=systemd:/\n")]);
    let ran = run(&sandbox, root.path(), &["check"], "");
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["no hierarchy with the cpu controller"]);
    let ran = run(&sandbox, root.path(), &["plan", "-f", "-"], POD);
    assert_eq!(code(&ran), 1);
    says(&ran.stderr, &["no hierarchy with the cpu controller"]);
}

#[test]
fn a_root_that_is_none_is_named_and_not_made() {
    let sandbox = Sandbox::new("cli-root");
    let root = sandbox.dir().join("mistyped");
    for args in [&["check"][..], &["status"], &["install", "--engine", "docker"]] {
        let ran = run(&sandbox, &root, args, "").fails();
        says(&ran.stderr, &["open what --root names", root.to_str().unwrap(), "ENOENT"]);
        assert!(!root.exists(), "{args:?}");
    }
}
