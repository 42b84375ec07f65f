//! What can break around the hook, with the real runc: the container gets what can still be given, and one line of the
//! log says what could not, and why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::invariants::{self, Before, claims, frozen, online, records};
use common::traced::{Stopped, hook, state};
use common::{Bundle, Hook, Sandbox, cgroup, dist};
use plimsoll::cpuset::CpuSet;
use serde_json::{Value, json};

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";
const EXTENDED: &str = "node.koordinator.sh/extended-resource-spec";
const NAME: &str = "io.kubernetes.cri.container-name";

/// A waiting container of a class in a pod of its own, with a limit of half a CPU.
fn bundle(sandbox: &Sandbox, id: &str, class: &str) -> Bundle {
    sandbox
        .bundle(id)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
        .plimsoll_hooks(sandbox)
}

fn owning(sandbox: &Sandbox, id: &str) -> (Bundle, CpuSet) {
    let own: CpuSet = online().iter().take(1).collect();
    (bundle(sandbox, id, "LSR").annotation(STATUS, &json!({"cpuset": own.to_string()}).to_string()), own)
}

fn without_hooks(bundle: &Bundle) -> Bundle {
    let mut bundle = bundle.clone();
    bundle.spec["hooks"] = json!({});
    bundle
}

fn burst(bundle: &Bundle) -> Option<String> {
    cgroup::read(bundle.group(), "cpu.cfs_burst_us")
}

fn record_file(sandbox: &Sandbox, id: &str) -> PathBuf {
    sandbox.run_dir().join("containers").join(format!("{id}.json"))
}

/// The log lines about a container, as JSON.
fn lines(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let lines = sandbox.log();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["container"] == id).collect()
}

/// The one line of a stage about a container, with all of these words in its errors.
#[track_caller]
fn says(sandbox: &Sandbox, id: &str, stage: &str, words: &[&str]) {
    let lines = lines(sandbox, id);
    let of_stage: Vec<_> = lines.iter().filter(|line| line["stage"] == stage).collect();
    assert_eq!(of_stage.len(), 1, "{stage} of {id}: {lines:#?}");
    assert_eq!(of_stage[0]["level"], "error", "{lines:#?}");
    let errors = of_stage[0]["errors"].as_str().unwrap_or_default();
    for word in words {
        assert!(errors.contains(word), "{word:?} should be in {errors:?}");
    }
}

/// A file system mounted for a test, and unmounted after it.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success(), "mount a tmpfs at {}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "umount {}", self.0.display());
    }
}

/// A best-effort container whose pod was made idle, and what the pod said before.
fn idle_pod(sandbox: &Sandbox, id: &str) -> (Bundle, Before) {
    let be = bundle(sandbox, id, "BE").cgroup(&format!("kubepods/besteffort/pod{id}/{id}"));
    let pod = be.pod_group().to_owned();
    cgroup::make(&pod);
    cgroup::write(&pod, "cpu.shares", "600").unwrap();
    let before = Before::of(&[&pod]);
    sandbox.run_detached(&be).ok();
    assert_eq!(cgroup::read(&pod, "cpu.idle").as_deref(), Some("1"));
    (be, before)
}

#[test]
fn a_torn_record_is_named_and_everything_is_given_back_all_the_same() {
    let sandbox = Sandbox::new("torn");
    let (be, before) = idle_pod(&sandbox, "be");
    let (tree, (owner, own)) = (bundle(&sandbox, "tree", "BE").cgroup("tree"), owning(&sandbox, "own"));
    let ls = bundle(&sandbox, "ls", "LS");
    for bundle in [&tree, &owner, &ls] {
        sandbox.run_detached(bundle).ok();
    }
    for bundle in [&be, &tree, &owner] {
        let file = record_file(&sandbox, &bundle.id);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        sandbox.delete_force(bundle).ok();
        says(&sandbox, &bundle.id, "poststop", &["not a whole record", &format!("{}.json", bundle.id)]);
    }
    assert_eq!(cgroup::read(ls.group(), "cpuset.cpus"), Some(online().to_string()), "{own} is given back");
    invariants::hold_since(&sandbox, &before);
    sandbox.delete_force(&ls).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_torn_record_of_an_earlier_container_is_in_nobodys_way() {
    let sandbox = Sandbox::new("again");
    let ls = bundle(&sandbox, "ls", "LS");
    fs::create_dir_all(sandbox.run_dir().join("containers")).unwrap();
    fs::write(record_file(&sandbox, "ls"), "{\"version\":1,\"who\"").unwrap();
    sandbox.run_detached(&ls).ok();
    let log = lines(&sandbox, "ls");
    assert_eq!(log[0]["msg"], "an earlier record was removed", "{log:#?}");
    assert!(log[0]["errors"].as_str().unwrap().contains("not a whole record"), "{log:#?}");
    assert_eq!(burst(&ls).as_deref(), Some("50000"));
    invariants::hold(&sandbox);
}

#[test]
fn a_record_of_another_version_is_named_and_everything_is_given_back_all_the_same() {
    let sandbox = Sandbox::new("version");
    let (be, before) = idle_pod(&sandbox, "be");
    let file = record_file(&sandbox, "be");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["version"] = 99.into();
    fs::write(&file, record.to_string()).unwrap();
    sandbox.delete_force(&be).ok();
    says(&sandbox, "be", "poststop", &["record version 99 is not 1"]);
    invariants::hold_since(&sandbox, &before);
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_missing_record_folder_is_survived() {
    let sandbox = Sandbox::new("missing");
    let (first, second) = (bundle(&sandbox, "first", "LS"), bundle(&sandbox, "second", "LS"));
    sandbox.create(&first).ok();
    fs::remove_dir_all(sandbox.run_dir()).unwrap();
    sandbox.start(&first).ok();
    sandbox.run_detached(&second).ok();
    assert_eq!(burst(&second).as_deref(), Some("50000"));
    for bundle in [&first, &second] {
        sandbox.delete_force(bundle).ok();
    }
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_read_only_record_folder_costs_the_record_and_not_the_treatment() {
    let sandbox = Sandbox::new("readonly");
    let ls = bundle(&sandbox, "ls", "LS");
    let (owner, _) = owning(&sandbox, "own");
    let mounted = Mounted::tmpfs(&sandbox.run_dir(), "ro");
    sandbox.run_detached(&ls).ok();
    assert_eq!(burst(&ls).as_deref(), Some("50000"));
    says(&sandbox, "ls", "createRuntime", &["EROFS", "run/containers"]);
    // CPUs that nobody can know to be taken are not taken.
    sandbox.run_detached(&owner).ok();
    assert_eq!(cgroup::read(owner.group(), "cpuset.cpus"), Some(online().to_string()));
    says(&sandbox, "own", "createRuntime", &["EROFS", "lock", "no CPUs change hands"]);
    drop(mounted);
    for bundle in [&ls, &owner] {
        sandbox.delete_force(bundle).ok();
    }
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_full_record_folder_costs_the_record_and_not_the_treatment() {
    let sandbox = Sandbox::new("full");
    let ls = bundle(&sandbox, "ls", "LS");
    let (owner, _) = owning(&sandbox, "own");
    let mounted = Mounted::tmpfs(&sandbox.run_dir(), "size=64k");
    let mut size = 128 << 10;
    while size > 0 {
        // What fits of it, down to the last page.
        let _ = fs::write(sandbox.run_dir().join(format!("ballast{size}")), vec![0; size]);
        size /= 2;
    }
    sandbox.run_detached(&ls).ok();
    assert_eq!(burst(&ls).as_deref(), Some("50000"));
    says(&sandbox, "ls", "createRuntime", &["ENOSPC", "ls.applying", "the file system is full"]);
    sandbox.create(&owner).ok();
    assert_eq!(cgroup::read(owner.group(), "cpuset.cpus"), Some(online().to_string()));
    says(&sandbox, "own", "createRuntime", &["ENOSPC", "exclusive", "the file system is full"]);
    // Nothing half-written is left where there was room for a name only.
    assert!(records(&sandbox).is_empty() && claims(&sandbox).is_empty());
    let broken = invariants::broken(&sandbox, &Before::default());
    assert!(!broken.iter().any(|line| line.contains("half-written")), "{broken:#?}");
    drop(mounted);
}

#[test]
fn a_process_that_is_gone_is_named() {
    let sandbox = Sandbox::new("gone");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.create(&without_hooks(&ls)).ok();
    let state = state(&sandbox, &ls);
    sandbox.delete_force(&ls).ok();
    let ran = hook(&sandbox, "createRuntime", &state).ok();
    assert_eq!(ran.stderr, "");
    says(&sandbox, "ls", "createRuntime", &["/proc/", "the process is gone"]);
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_cgroup_that_vanishes_midway_is_named_and_leaves_nothing_to_keep() {
    for (id, sub) in [("keep", "kubepods/burstable/podkeep/keep"), ("tree", "tree")] {
        // On v2 a hook makes no group that could vanish from under it.
        if id == "tree" && !cgroup::is_v1() {
            continue;
        }
        let sandbox = Sandbox::new("vanish");
        let class = if id == "tree" { "BE" } else { "LS" };
        let bundle = bundle(&sandbox, id, class).cgroup(sub);
        sandbox.create(&without_hooks(&bundle)).ok();
        // The record of what is to be done has been written, and nothing has been done.
        let stopped =
            Stopped::hook(&sandbox, &bundle, "createRuntime", "mkdir", if id == "tree" { 2 } else { 1 });
        sandbox.delete_force(&bundle).ok();
        if id == "keep" {
            fs::remove_dir(cgroup::dir("cpu", bundle.pod_group())).unwrap();
        }
        stopped.go_on();
        says(&sandbox, id, "createRuntime", &[if id == "tree" { "is gone" } else { "vanished" }]);
        invariants::repaired(&sandbox);
        invariants::hold(&sandbox);
        invariants::nothing_left(&sandbox);
    }
}

#[test]
fn the_lock_of_a_hook_that_died_is_free() {
    if online().len() < 2 {
        return;
    }
    let sandbox = Sandbox::new("died");
    let (dead, own) = owning(&sandbox, "dead");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    sandbox.create(&without_hooks(&dead)).ok();
    // It has the lock and its claim, and no record.
    Stopped::hook(&sandbox, &dead, "createRuntime", "rename", 1).kill();
    sandbox.delete_force(&dead).ok();
    assert_eq!(claims(&sandbox).len(), 1);
    let (next, _) = owning(&sandbox, "next");
    sandbox.run_detached(&next).ok();
    assert_eq!(cgroup::read(next.group(), "cpuset.cpus"), Some(own.to_string()));
    assert!(lines(&sandbox, "next").iter().all(|line| line["level"] != "error"), "{}", sandbox.log());
    invariants::repaired(&sandbox);
    invariants::hold(&sandbox);
}

/// A best-effort container with a limit that the kernel refuses, because the group above has a lower one.
fn refused(sandbox: &Sandbox) -> (Bundle, Before) {
    let kubepods = sandbox.group("kubepods");
    let be = bundle(sandbox, "be", "BE").cgroup("kubepods/besteffort/podbe/be");
    cgroup::make(be.pod_group());
    cgroup::write(&kubepods, "cpu.cfs_quota_us", "60000").unwrap();
    cgroup::write(be.pod_group(), "cpu.shares", "600").unwrap();
    let before = Before::of(&[be.pod_group()]);
    let resources = json!({"kubernetes.io/batch-cpu": "1500", "kubernetes.io/batch-memory": "64Mi"});
    let spec = json!({"containers": {"main": {"limits": resources, "requests": resources}}});
    (be.annotation(EXTENDED, &spec.to_string()).annotation(NAME, "main"), before)
}

#[test]
fn a_refused_write_is_put_back_and_the_container_does_not_start_where_the_policy_says_so() {
    // On v2 a limit need not fit into those above it.
    if !cgroup::is_v1() {
        return;
    }
    let sandbox = Sandbox::new("fail");
    sandbox.config("on_error = \"fail\"\n");
    let (be, before) = refused(&sandbox);
    // runc gives the groups it makes CPUs and memory nodes.
    sandbox.create(&without_hooks(&be)).ok();
    sandbox.delete_force(&be).ok();
    let pod = frozen(be.pod_group());
    let ran = sandbox.create(&be).fails();
    for word in ["EINVAL", "cfs_quota_us", "on cgroup v1 fit into the parent's", "everything was put back"] {
        assert!(ran.stderr.contains(word), "{word:?} should be in {}", ran.stderr);
    }
    says(&sandbox, "be", "createRuntime", &["EINVAL", "cfs_quota_us"]);
    let now = frozen(be.pod_group());
    for (file, text) in pod {
        assert_eq!(now.get(&file), Some(&text), "{file}");
    }
    invariants::hold_since(&sandbox, &before);
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_refused_write_is_said_and_the_container_starts_where_the_policy_does_not_mind() {
    // On v2 a limit need not fit into those above it.
    if !cgroup::is_v1() {
        return;
    }
    let sandbox = Sandbox::new("ignore");
    let (be, before) = refused(&sandbox);
    sandbox.run_detached(&be).ok();
    sandbox.probe(&be);
    says(&sandbox, "be", "createRuntime", &["EINVAL", "cfs_quota_us"]);
    assert_eq!(cgroup::read(be.pod_group(), "cpu.idle").as_deref(), Some("1"), "what could be done is done");
    sandbox.delete_force(&be).ok();
    invariants::hold_since(&sandbox, &before);
    invariants::nothing_left(&sandbox);
}

#[test]
fn the_kill_switch_makes_every_stage_pass_through() {
    let sandbox = Sandbox::new("switch");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.create(&without_hooks(&ls)).ok();
    let state = state(&sandbox, &ls);
    let before = frozen(ls.group());
    fs::create_dir_all(sandbox.run_dir()).unwrap();
    fs::write(sandbox.run_dir().join("disabled"), "").unwrap();
    for stage in ["prestart", "createRuntime", "poststart", "poststop"] {
        for state in [state.as_str(), "not a state"] {
            hook(&sandbox, stage, state).ok();
        }
    }
    assert_eq!(frozen(ls.group()), before);
    assert_eq!(sandbox.log(), "");
    invariants::nothing_left(&sandbox);

    fs::remove_file(sandbox.run_dir().join("disabled")).unwrap();
    hook(&sandbox, "createRuntime", &state).ok();
    assert_eq!(burst(&ls).as_deref(), Some("50000"));
}

#[test]
fn a_log_that_cannot_be_written_is_said_on_stderr() {
    let sandbox = Sandbox::new("nolog");
    // The folder of the log is a file.
    fs::write(sandbox.dir().join("log"), "").unwrap();
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    assert_eq!(burst(&ls).as_deref(), Some("50000"));
    let broken = hook(&sandbox, "createRuntime", "not json").ok();
    for word in ["plimsoll: error", "OCI state", "not in the log", "plimsoll.log"] {
        assert!(broken.stderr.contains(word), "{word:?} should be in {:?}", broken.stderr);
    }
}

/// crun is killed by SIGPIPE when a hook is gone before it has written the state.
#[test]
fn a_state_that_nobody_needs_is_read_all_the_same() {
    let sandbox = Sandbox::new("unread");
    fs::create_dir_all(sandbox.run_dir()).unwrap();
    fs::write(sandbox.run_dir().join("disabled"), "").unwrap();
    let mut hook = Command::new(dist("plimsoll-hook"));
    hook.arg("createRuntime").arg("--config").arg(sandbox.config_path()).stdin(Stdio::piped());
    let mut hook = hook.spawn().unwrap();
    // A hook that does not wait is over by then; one that does is not, however long this takes.
    std::thread::sleep(Duration::from_millis(300));
    assert!(hook.try_wait().unwrap().is_none(), "it did not wait for the state");
    hook.stdin.take().unwrap().write_all(b"{}").unwrap();
    assert!(hook.wait().unwrap().success());
}

#[test]
fn a_broken_config_starts_the_container_and_the_log_says_why() {
    let sandbox = Sandbox::new("config");
    fs::write(sandbox.config_path(), "on_eror = \"fail\"\n").unwrap();
    let copy = sandbox.dir().join("copy");
    // Where the log is cannot be known, so it goes to its usual place: here, one of the hook's own.
    let script = r#"for folder in /var/log /run/systemd/journal; do
            [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder" || exit 9
        done
        "$0" createRuntime --config "$1" && cat /var/log/plimsoll/plimsoll.log > "$2""#;
    let mut wrapped = Hook::new(Path::new("/usr/bin/unshare")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for argument in ["--mount", "/bin/sh", "-c", script] {
        wrapped = wrapped.arg(argument);
    }
    for path in [dist("plimsoll-hook"), sandbox.config_path(), copy.clone()] {
        wrapped = wrapped.arg(path.to_str().unwrap());
    }
    let ls = without_hooks(&bundle(&sandbox, "ls", "LS")).hook("createRuntime", wrapped);
    let untouched = {
        let plain = without_hooks(&bundle(&sandbox, "plain", "LS"));
        sandbox.run_detached(&plain).ok();
        cgroup::read(plain.group(), "cpu.cfs_burst_us")
    };
    sandbox.run_detached(&ls).ok();
    sandbox.probe(&ls);
    assert_eq!(burst(&ls), untouched);
    let log = fs::read_to_string(copy).unwrap();
    let line: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(line["level"], "error");
    for word in ["on_eror", "line 1", "on_error"] {
        assert!(line["errors"].as_str().unwrap().contains(word), "{word:?} should be in {log}");
    }
}
