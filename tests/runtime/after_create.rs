//! What the runtime does not know is done after its `create`, where it says which process it made: as every engine has it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::QOS;
use super::common::invariants::{self, Before};
use super::common::traced::Program;
use super::common::{Bundle, Sandbox, cgroup, dist, wait_for};
use super::twin::{Seen, call, script, sides};

const TREE: &str = "[class.BE]\nplacement = \"class-tree\"\n";

fn bundle(sandbox: &Sandbox, class: &str) -> Bundle {
    sandbox
        .bundle("c")
        .cgroup("kubepods/burstable/pod1/c")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
}

/// The call that an engine makes.
fn create(bundle: &Bundle) -> Vec<String> {
    let file = |name: &str| bundle.dir.join(name).to_str().unwrap().to_owned();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    ["create".to_owned(), "--bundle".to_owned(), dir, "--pid-file".to_owned(), file("pid"), "c".to_owned()]
        .to_vec()
}

fn created(sandbox: &Sandbox, bundle: &Bundle, log: &[&str]) -> Seen {
    let args = create(bundle);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    call(sandbox, &dist("plimsoll-runtime"), log, &args)
}

fn burst(bundle: &Bundle) -> String {
    cgroup::read(bundle.group(), "cpu.cfs_burst_us").unwrap()
}

#[test]
fn a_container_is_treated_when_create_returns_and_its_bundle_is_as_it_was() {
    let sandbox = Sandbox::wrapped("after");
    let bundle = bundle(&sandbox, "LS");
    bundle.write();
    let file = bundle.dir.join("config.json");
    let before = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().ino());
    assert_eq!(created(&sandbox, &bundle, &[]).code, 0);
    assert_eq!((fs::read(&file).unwrap(), fs::metadata(&file).unwrap().ino()), before);
    assert_eq!(burst(&bundle), "50000");
    assert_eq!(sandbox.log().matches("container placed").count(), 1, "{}", sandbox.log());
    // One that runs is not given back.
    sandbox.start(&bundle).ok();
    sandbox.delete(&bundle).fails();
    assert_eq!(invariants::records(&sandbox).len(), 1);
    assert_eq!(burst(&bundle), "50000");
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
    sandbox.delete(&bundle).fails();
}

/// As where somebody killed the wrapper between the runtime's end and its own.
#[test]
fn what_a_delete_left_is_given_back_by_the_next() {
    let sandbox = Sandbox::wrapped("after-twice");
    sandbox.config(TREE);
    let bundle = bundle(&sandbox, "BE");
    bundle.write();
    assert_eq!(created(&sandbox, &bundle, &[]).code, 0);
    let [runc, wrapper] = sides();
    assert_eq!(call(&sandbox, &runc, &[], &["delete", "--force", "c"]).code, 0);
    assert_eq!(invariants::records(&sandbox).len(), 1);
    // Word for word what the runtime says to a second delete, too.
    let again = call(&sandbox, &runc, &[], &["delete", "c"]);
    assert_eq!(call(&sandbox, &wrapper, &[], &["delete", "c"]), again);
    assert_eq!(again.code, 1);
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_create_that_fails_says_what_the_runtime_says_and_leaves_nothing() {
    let sandbox = Sandbox::wrapped("after-fails");
    sandbox.config(TREE);
    let mut bundle = bundle(&sandbox, "BE");
    bundle.spec["process"]["args"] = json!(["/not/there"]);
    let [direct, wrapped] = sides().map(|program| {
        bundle.write();
        let args = create(&bundle);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let seen = call(&sandbox, &program, &["--log-format", "json", "--log"], &args);
        super::twin::no_groups(&sandbox);
        seen
    });
    assert_eq!((wrapped.code, wrapped.log, wrapped.stderr), (1, direct.log, direct.stderr));
    invariants::nothing_left(&sandbox);
}

#[test]
fn an_id_in_use_is_refused_and_who_has_it_keeps_its_treatment() {
    let sandbox = Sandbox::wrapped("after-used");
    let bundle = bundle(&sandbox, "LS");
    bundle.write();
    assert_eq!(created(&sandbox, &bundle, &[]).code, 0);
    let pid = sandbox.pid(&bundle);
    let seen = created(&sandbox, &bundle, &[]);
    assert_eq!(seen.code, 1, "{seen:?}");
    assert_eq!((sandbox.pid(&bundle), burst(&bundle).as_str()), (pid, "50000"));
    assert_eq!(invariants::records(&sandbox).len(), 1);
}

#[test]
fn a_container_that_the_policy_refuses_is_deleted_again() {
    let sandbox = Sandbox::wrapped("after-refused");
    sandbox.config("on_error = \"fail\"\n");
    // Nobody can keep a record here.
    fs::create_dir_all(sandbox.run_dir()).unwrap();
    fs::write(sandbox.run_dir().join("containers"), "in the way").unwrap();
    let bundle = bundle(&sandbox, "LS");
    bundle.write();
    let log = ["--log-format", "json", "--log"];
    super::failure::refused(&created(&sandbox, &bundle, &log), &log, &["containers", "ENOTDIR"]);
    sandbox.runc(&["state", "c"]).fails();
    assert!(sandbox.log().contains("container refused"), "{}", sandbox.log());
}

/// A process that systemd's sockets are for is known by its pid.
#[test]
fn a_runtime_that_must_keep_its_pid_becomes_the_process() {
    let sandbox = Sandbox::wrapped("after-sockets");
    let bundle = bundle(&sandbox, "LS");
    bundle.write();
    let mut command = sandbox.command_of(&dist("plimsoll-runtime"));
    command.args(create(&bundle)).env("LISTEN_FDS", "0");
    assert_eq!(super::twin::run(&sandbox, &mut command, b"").code, 0);
    let spec = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    assert!(spec.contains("createRuntime"), "{spec}");
    assert_eq!(burst(&bundle), "50000");
}

#[test]
fn a_runtime_does_not_outlive_the_wrapper() {
    let sandbox = Sandbox::new("after-killed");
    let told = script(&sandbox.dir().join("told"), "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 1000\n");
    sandbox.config(&format!("[runtime]\npath = {told:?}\n"));
    let bundle = bundle(&sandbox, "LS");
    bundle.write();
    let mut wrapper = sandbox
        .command_of(&dist("plimsoll-runtime"))
        .args(create(&bundle))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let runtime: i32 = wait_for("the runtime's pid", || {
        fs::read_to_string(told.with_extension("pid")).ok()?.trim().parse().ok()
    });
    kill(Pid::from_raw(wrapper.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    wrapper.wait().unwrap();
    wait_for("the runtime's end", || {
        let status = fs::read_to_string(format!("/proc/{runtime}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

/// Killed before each of its changes: the engine sees its `create` end by a signal, deletes what there is and tries again.
fn killed(name: &str, config: &str, make: impl Fn(&Sandbox) -> Bundle) {
    let sandbox = Sandbox::wrapped(name);
    sandbox.config(config);
    let bundle = make(&sandbox);
    for hierarchy in cgroup::hierarchies() {
        fs::create_dir_all(hierarchy.dir(bundle.pod_group())).unwrap();
    }
    let before = Before::of(&[bundle.pod_group()]);
    let args = create(&bundle);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // Folders that stay are made by the first.
    bundle.write();
    assert_eq!(created(&sandbox, &bundle, &[]).code, 0);
    sandbox.delete_force(&bundle).ok();
    for command in [&args[..], &["delete", "--force", "c"]] {
        let program = Program::runtime(&sandbox, command);
        let is_create = command[0] == "create";
        let arrive = || {
            bundle.write();
            if !is_create {
                assert_eq!(created(&sandbox, &bundle, &[]).code, 0);
            }
        };
        arrive();
        let points = program.points(&sandbox);
        sandbox.delete_force(&bundle).ok();
        assert!(points.len() > 2, "{command:?} changes nothing: {points:#?}");
        for point in &points {
            arrive();
            program.kill_at(&sandbox, point);
            invariants::repaired(&sandbox);
            invariants::hold_since(&sandbox, &before);
            // runc says nothing of a container that is not there when it is told to use force.
            sandbox.delete_force(&bundle).ok();
            invariants::repaired(&sandbox);
            assert_eq!(invariants::records(&sandbox).len(), 0, "{point:?}");
            bundle.write();
            let seen = created(&sandbox, &bundle, &[]);
            assert_eq!(seen.code, 0, "{point:?}: {seen:?}");
            assert_eq!(invariants::records(&sandbox).len(), 1, "{point:?}");
            invariants::hold_since(&sandbox, &before);
            sandbox.delete_force(&bundle).ok();
            invariants::nothing_left(&sandbox);
        }
    }
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
}

#[test]
fn killed_where_the_container_goes_into_the_class_tree() {
    killed("after-tree", TREE, |sandbox| bundle(sandbox, "BE"));
}

#[test]
fn killed_where_the_container_has_cpus_of_its_own() {
    killed("after-own", "", |sandbox| {
        bundle(sandbox, "LSR")
            .annotation("scheduling.koordinator.sh/resource-status", &json!({"cpuset": "0"}).to_string())
    });
}
