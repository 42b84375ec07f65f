//! The wrapper is killed before each thing it changes, and right before it becomes the real runtime. The bundle is whole,
//! the next call works, and `repair` brings back a state where every invariant holds.

use std::fs;

use serde_json::json;

use super::QOS;
use super::common::invariants::{self, Before};
use super::common::traced::{Point, Program};
use super::common::{Bundle, Sandbox, cgroup, dist};
use super::twin::call;

fn bundle(sandbox: &Sandbox, class: &str, sub: &str) -> Bundle {
    sandbox
        .bundle("c")
        .cgroup(sub)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
}

/// A pod as kubelet makes it, and what it says.
fn pod(bundle: &Bundle) -> Before {
    for hierarchy in cgroup::hierarchies() {
        fs::create_dir_all(hierarchy.dir(bundle.pod_group())).unwrap();
    }
    cgroup::write(bundle.pod_group(), "cpu.cfs_quota_us", "150000").unwrap();
    Before::of(&[bundle.pod_group()])
}

fn text(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.dir.join("config.json")).unwrap()
}

fn in_bundle(bundle: &Bundle) -> Vec<String> {
    let names =
        fs::read_dir(&bundle.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("plimsoll")).collect()
}

fn check(sandbox: &Sandbox, before: &Before) {
    invariants::repaired(sandbox);
    invariants::hold_since(sandbox, before);
}

fn killed_in_create(name: &str, make: impl Fn(&Sandbox) -> Bundle) {
    let sandbox = Sandbox::wrapped(name);
    let bundle = make(&sandbox);
    let before = pod(&bundle);
    let dir = bundle.dir.to_str().unwrap();
    let create = Program::runtime(&sandbox, &["create", "--bundle", dir, "c"]);
    bundle.write();
    let engines = text(&bundle);
    let points = create.points(&sandbox);
    let calls: Vec<&str> = points.iter().map(|point| point.call.as_str()).collect();
    assert_eq!(calls.last(), Some(&"execve"));
    assert!(calls.iter().any(|call| call.starts_with("rename")), "{calls:?}");
    let ours = text(&bundle);
    assert_ne!(ours, engines);
    sandbox.delete_force(&bundle).ok();
    let mut seen = [false, false];
    for point in &points {
        bundle.write();
        create.kill_at(&sandbox, point);
        let now = text(&bundle);
        assert!(now == engines || now == ours, "{point:?}: {now}");
        seen[usize::from(now == ours)] = true;
        sandbox.runc(&["state", "c"]).fails();
        check(&sandbox, &before);
        invariants::nothing_left(&sandbox);
        // The engine tries again, in the same bundle.
        let again = call(&sandbox, &dist("plimsoll-runtime"), &[], &["create", "--bundle", dir, "c"]);
        assert_eq!(again.code, 0, "{point:?}: {again:?}");
        assert_eq!(text(&bundle), ours, "{point:?}");
        assert_eq!(in_bundle(&bundle), Vec::<String>::new(), "{point:?}");
        sandbox.start(&bundle).ok();
        assert_eq!(invariants::records(&sandbox).len(), 1, "{point:?}");
        check(&sandbox, &before);
        sandbox.delete_force(&bundle).ok();
        invariants::nothing_left(&sandbox);
        invariants::hold_since(&sandbox, &before);
    }
    assert_eq!(seen, [true, true]);
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
}

#[test]
fn create_into_the_class_tree() {
    killed_in_create("killed-tree", |sandbox| {
        sandbox.config("[class.BE]\nplacement = \"class-tree\"\n");
        bundle(sandbox, "BE", "kubepods/besteffort/pod1/c")
    });
}

#[test]
fn create_with_cpus_of_its_own() {
    killed_in_create("killed-own", |sandbox| {
        bundle(sandbox, "LSR", "kubepods/burstable/pod1/c")
            .annotation("scheduling.koordinator.sh/resource-status", &json!({"cpuset": "0"}).to_string())
    });
}

/// Kills a command on a running container at every point, again and again on a fresh one.
fn killed_in(
    name: &str,
    class: &str,
    command: &[&str],
    before_it: impl Fn(&Sandbox, &Bundle),
    after: impl Fn(&Sandbox, &Bundle, &Point),
) {
    let sandbox = Sandbox::wrapped(name);
    let bundle = bundle(&sandbox, class, "kubepods/burstable/pod1/c");
    let before = pod(&bundle);
    let program = Program::runtime(&sandbox, command);
    let arrive = || {
        sandbox.create(&bundle).ok();
        before_it(&sandbox, &bundle);
    };
    let leave = |point: &str| {
        sandbox.delete_force(&bundle).ok();
        invariants::nothing_left(&sandbox);
        let broken = invariants::broken(&sandbox, &before);
        assert!(broken.is_empty(), "{point}: {broken:#?}");
    };
    arrive();
    let points = program.points(&sandbox);
    leave("none");
    assert!(points.len() > 2, "{command:?} changes nothing: {points:#?}");
    for point in &points {
        arrive();
        program.kill_at(&sandbox, point);
        check(&sandbox, &before);
        sandbox.runc(command).ok();
        after(&sandbox, &bundle, point);
        check(&sandbox, &before);
        leave(&point.text);
    }
}

fn burst(bundle: &Bundle) -> String {
    cgroup::read(bundle.group(), "cpu.cfs_burst_us").unwrap()
}

#[test]
fn update_that_shrinks_below_the_burst() {
    killed_in(
        "killed-shrink",
        "LS",
        &["update", "--cpu-quota", "30000", "c"],
        |_, bundle| assert_eq!(burst(bundle), "50000"),
        |_, bundle, point| assert_eq!(burst(bundle), "30000", "{point:?}"),
    );
}

#[test]
fn update_that_grows() {
    killed_in(
        "killed-grow",
        "LS",
        &["update", "--cpu-quota", "70000", "c"],
        |_, bundle| assert_eq!(burst(bundle), "50000"),
        |_, bundle, point| assert_eq!(burst(bundle), "70000", "{point:?}"),
    );
}

#[test]
fn start_of_a_container_that_was_touched() {
    killed_in(
        "killed-start",
        "LS",
        &["start", "c"],
        |_, bundle| cgroup::write(bundle.group(), "cpu.cfs_burst_us", "0").unwrap(),
        |_, bundle, point| assert_eq!(burst(bundle), "50000", "{point:?}"),
    );
}
