//! The harness itself: it shows what runc did, it shows a hook's work, and it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use common::{Helper, Hook, Sandbox, cgroup, helpers, probed, wait_for};
use serde_json::json;

#[test]
fn without_a_hook_the_prober_reports_what_runc_wrote() {
    let sandbox = Sandbox::new("plain");
    let bundle = sandbox
        .bundle("plain")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50000)
        .resource("cpu", "period", 100_000)
        .resource("cpu", "cpus", "0")
        .resource("memory", "limit", 64 << 20);
    let seen = sandbox.run_probe(&bundle);

    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["affinity"], "0");
    assert_eq!(probed::group(&seen, "cpu"), bundle.group());
    assert!(cgroup::is_shares(&probed::file(&seen, "cpu.shares"), 512));
    for (name, value) in [
        ("cpu.cfs_quota_us", "50000".to_owned()),
        ("cpu.cfs_period_us", "100000".to_owned()),
        ("memory.limit_in_bytes", (64 << 20).to_string()),
        ("cpuset.cpus", "0".to_owned()),
    ] {
        assert_eq!(probed::file(&seen, name), value, "{name}");
    }
    // Stock kernels have no Group Identity: absence is null, not an error.
    if !Path::new("/proc/sys/kernel/sched_group_identity_enabled").exists() {
        assert_eq!(seen["files"]["cpu.bvt_warp_ns"], json!(null));
    }
}

#[test]
fn what_a_hook_writes_is_there_before_the_first_instruction() {
    let sandbox = Sandbox::new("acts");
    let bundle = sandbox.bundle("acts").resource("cpu", "shares", 512);
    let group = cgroup::dir("cpu", bundle.group());
    let file = group.join(cgroup::here("cpu.shares"));
    let hook = Hook::shell("echo 700 > \"$0\"").arg(file.to_str().unwrap());
    let seen = sandbox.run_probe(&bundle.hook("createRuntime", hook));
    assert_eq!(probed::file(&seen, "cpu.shares"), "700");
}

#[test]
fn the_prober_finds_its_files_in_a_group_a_hook_moved_it_to() {
    if !cgroup::is_v1() {
        return;
    }
    let sandbox = Sandbox::new("moved");
    let other = sandbox.group("plimsoll/best-effort");
    let dir = cgroup::dir("cpu", &other);
    // No jq on a small machine: the pid is the only number of that name in the state.
    let script = r#"mkdir -p "$0" && echo 33 > "$0/cpu.shares" &&
        sed -n 's/.*"pid":\([0-9]*\).*/\1/p' > "$0/cgroup.procs""#;
    let hook = Hook::shell(script).arg(dir.to_str().unwrap());
    let seen = sandbox.run_probe(&sandbox.bundle("moved").hook("createRuntime", hook));

    assert_eq!(probed::group(&seen, "cpu"), other);
    assert_eq!(seen["files"]["cpu.shares"], "33");
}

#[test]
fn a_cgroup_namespace_hides_the_path_and_not_the_files() {
    let sandbox = Sandbox::new("cgroupns");
    let bundle = sandbox
        .bundle("ns")
        .cgroup_namespace()
        .resource("cpu", "quota", 70000)
        .resource("cpu", "period", 100_000);
    let seen = sandbox.run_probe(&bundle);

    assert_eq!(probed::group(&seen, "cpu"), "/");
    assert_eq!(probed::file(&seen, "cpu.cfs_quota_us"), "70000");
}

#[test]
fn a_hook_that_fails_makes_create_fail_and_its_words_are_seen() {
    let sandbox = Sandbox::new("fails");
    let hook = Hook::shell("echo the reason why >&2; exit 3");
    let ran = sandbox.create(&sandbox.bundle("fails").hook("createRuntime", hook)).fails();
    assert!(ran.stderr.contains("the reason why"), "{ran:?}");
    sandbox.runc(&["state", "fails"]).fails();
}

#[test]
fn hooks_run_at_their_stages_with_state_arguments_and_environment() {
    let sandbox = Sandbox::new("stages");
    let trace = sandbox.dir().join("trace");
    let mut bundle = sandbox.bundle("stages").annotation("a.b/c", "value").waiting();
    for stage in ["prestart", "createRuntime", "poststart", "poststop"] {
        let script = r#"echo "$STAGE $(grep -o '"a.b/c": *"value"' | tr -d ' ')" >> "$0""#;
        let hook = Hook::shell(script).arg(trace.to_str().unwrap()).env("STAGE", stage);
        bundle = bundle.hook(stage, hook);
    }
    sandbox.create(&bundle).ok();
    sandbox.start(&bundle).ok();
    sandbox.probe(&bundle);
    sandbox.stop(&bundle, "TERM");
    sandbox.delete(&bundle).ok();

    let seen = fs::read_to_string(trace).unwrap();
    let wanted =
        ["prestart", "createRuntime", "poststart", "poststop"].map(|s| format!("{s} \"a.b/c\":\"value\"\n"));
    assert_eq!(seen, wanted.concat());
}

#[test]
fn update_and_exec_reach_a_running_container() {
    let sandbox = Sandbox::new("update");
    let bundle = sandbox.bundle("update").waiting();
    sandbox.run_detached(&bundle).ok();
    sandbox.probe(&bundle);
    sandbox.update(&bundle, &["--cpu-share", "300"]).ok();
    let resources = json!({"cpu": {"quota": 40000, "period": 100_000}});
    sandbox.update_resources(&bundle, &resources).ok();

    let inside = sandbox.exec(&bundle, &["/prober", "exit"]).ok();
    let inside: serde_json::Value = serde_json::from_str(&inside.stdout).unwrap();
    assert!(cgroup::is_shares(&cgroup::read(bundle.group(), "cpu.shares").unwrap(), 300));
    assert_eq!(probed::file(&inside, "cpu.cfs_quota_us"), "40000");
    assert_ne!(inside["pid"], 1);
    let pid = sandbox.pid(&bundle);
    assert_eq!(cgroup::of_process(pid, "cpu").as_deref(), Some(bundle.group()));
    assert_eq!(cgroup::procs("cpu", bundle.group()), [pid]);
}

#[test]
fn dropping_a_sandbox_leaves_no_process_group_or_folder_behind() {
    let sandbox = Sandbox::new("drop");
    let bundle = sandbox.bundle("drop").waiting();
    sandbox.run_detached(&bundle).ok();
    sandbox.probe(&bundle);
    let (prefix, dir, pid) = (sandbox.prefix().to_owned(), sandbox.dir().to_owned(), sandbox.pid(&bundle));
    // A group runc knows nothing of, as a hook may leave one.
    fs::create_dir_all(cgroup::dir("cpu", &sandbox.group("plimsoll/a/b"))).unwrap();
    assert!(!cgroup::leftovers(&prefix).is_empty());

    drop(sandbox);
    assert_eq!(cgroup::leftovers(&prefix), Vec::<std::path::PathBuf>::new());
    assert!(!dir.exists());
    wait_for("the process to be gone", || {
        let status = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        (!status.contains(&prefix)).then_some(())
    });
}

#[test]
fn sandboxes_side_by_side_do_not_meet() {
    thread::scope(|scope| {
        for n in 0..6 {
            scope.spawn(move || {
                let sandbox = Sandbox::new("side");
                let shares = 100 + n;
                let bundle = sandbox.bundle("same-id").resource("cpu", "shares", shares);
                let seen = sandbox.run_probe(&bundle);
                assert!(cgroup::is_shares(&probed::file(&seen, "cpu.shares"), shares));
                assert_eq!(probed::group(&seen, "cpu"), bundle.group());
            });
        }
    });
}

/// The lab has them built by this, for machines without a compiler.
#[test]
fn the_helpers_are_built_and_run() {
    let rootfs = helpers::rootfs();
    assert!(Helper::Exec.path().exists());
    for program in [Helper::Noop.path(), rootfs.join("prober"), rootfs.join("bin/true")] {
        let ran = Command::new(Helper::Spawn.path()).arg("/dev/null").arg(&program).output().unwrap();
        assert!(ran.status.success(), "{program:?}: {ran:?}");
    }
}

#[test]
fn the_spawner_tells_wall_cpu_memory_and_status() {
    let sandbox = Sandbox::new("spawn");
    let figures = |program: &str| -> Vec<i64> {
        let ran = sandbox.command(Helper::Spawn.path(), &["/dev/null", program]).ok();
        ran.stdout.split_whitespace().map(|f| f.parse().unwrap()).collect()
    };
    let noop = figures(Helper::Noop.path().to_str().unwrap());
    assert!(noop.len() == 4 && noop[0] > 0 && noop[1] >= 0 && noop[2] >= 0, "{noop:?}");
    assert_eq!(noop[3], 0);
    assert_eq!(figures("/bin/false")[3], 1);
    assert_eq!(figures("/nowhere")[3], 127);
}
