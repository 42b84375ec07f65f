//! A treated container is as good as one that is not: every command does its work, and nothing is left at the end.

use std::fs;

use serde_json::Value;

use super::QOS;
use super::common::{Bundle, Sandbox, cgroup, dist, invariants};
use super::twin::call;

const TREE: &str = "[class.BE]\nplacement = \"class-tree\"\n";

fn bundle(sandbox: &Sandbox, class: &str, sub: &str) -> Bundle {
    sandbox
        .bundle(sub.rsplit('/').next().unwrap())
        .cgroup(sub)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .resource("memory", "limit", 64 << 20)
        .annotation(QOS, class)
        .waiting()
}

/// The pod's groups, as kubelet makes them before it has the engine make containers.
fn kubelets_pod(sandbox: &Sandbox, bundle: &Bundle) {
    for hierarchy in cgroup::hierarchies() {
        fs::create_dir_all(hierarchy.dir(bundle.pod_group())).unwrap();
    }
    assert!(bundle.pod_group().starts_with(&sandbox.group("kubepods")));
}

/// The groups of a process, one line for each hierarchy.
fn groups_of(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    placed(&text)
}

/// The lines of a `/proc/<pid>/cgroup` for hierarchies that runtimes make groups in: v1's `misc` is none.
fn placed(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.contains(":misc:"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// One whole life of a container whose group is to be `group`.
fn live(sandbox: &Sandbox, bundle: &Bundle, group: &str) {
    sandbox.create(bundle).ok();
    sandbox.start(bundle).ok();
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
    let pid = sandbox.pid(bundle);
    let own = groups_of(pid);
    let is_there = |line: &String| line.ends_with(&format!(":{group}"));
    assert!(own.iter().all(is_there), "{group}: {own:#?}\n{}", sandbox.log());

    // A process that joins is in the same groups, in every hierarchy.
    let pid_file = sandbox.dir().join("exec.pid");
    let detached =
        ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &bundle.id, "/bin/sleep", "100"];
    let seen = call(sandbox, &dist("plimsoll-runtime"), &[], &detached);
    assert_eq!(seen.code, 0, "{seen:?}");
    let joined: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(groups_of(joined), own);
    assert_eq!(sandbox.exec(bundle, &["/bin/sh", "-c", "exit 7"]).status.code(), Some(7));
    let seen = sandbox.exec(bundle, &["/bin/cat", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(placed(&seen), own);

    let pids = sandbox.runc(&["ps", "--format", "json", &bundle.id]).ok().stdout;
    let mut pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    pids.sort_unstable();
    let mut both = vec![pid, joined];
    both.sort_unstable();
    assert_eq!(pids, both);
    let stats: Value =
        serde_json::from_str(&sandbox.runc(&["events", "--stats", &bundle.id]).ok().stdout).unwrap();
    assert_eq!(stats["data"]["pids"]["current"], 2, "{stats}");
    assert!(stats["data"]["cpu"]["usage"]["total"].as_u64() > Some(0), "{stats}");
    assert!(stats["data"]["memory"]["usage"]["usage"].as_u64() > Some(0), "{stats}");
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20, "{stats}");

    sandbox.runc(&["pause", &bundle.id]).ok();
    assert_eq!(sandbox.state(bundle)["status"], "paused");
    assert_eq!(cgroup::read(group, "freezer.state").as_deref(), Some("FROZEN"));
    sandbox.runc(&["resume", &bundle.id]).ok();
    assert_eq!(sandbox.state(bundle)["status"], "running");

    sandbox.delete(bundle).fails();
    sandbox.stop(bundle, "TERM");
    sandbox.delete(bundle).ok();
    let again = sandbox.delete(bundle).fails();
    assert!(again.stderr.contains("does not exist"), "{again:?}");
    // As the shim does it.
    sandbox.delete_force(bundle).ok();
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
    invariants::nothing_left(sandbox);
    for hierarchy in cgroup::hierarchies() {
        assert!(!hierarchy.dir(group).exists(), "{}", hierarchy.dir(group).display());
    }
}

/// The groups of pods and containers that are left in the class tree, of any hierarchy.
fn in_tree(sandbox: &Sandbox) -> Vec<String> {
    let class = format!("{}/best-effort", sandbox.class_tree());
    let dirs = cgroup::hierarchies().iter().map(|hierarchy| hierarchy.dir(&class));
    let entries = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.path().display().to_string())
        .collect()
}

#[test]
fn a_best_effort_container_in_the_class_tree() {
    let sandbox = Sandbox::wrapped("life-tree");
    let group = format!("{}/best-effort/c", sandbox.class_tree());
    live(&sandbox, &bundle(&sandbox, "BE", "c"), &group);
    assert_eq!(in_tree(&sandbox), Vec::<String>::new());
}

#[test]
fn a_best_effort_pod_of_kubernetes_in_the_class_tree() {
    let sandbox = Sandbox::wrapped("life-pod");
    sandbox.config(TREE);
    let group = format!("{}/best-effort/pod1/c", sandbox.class_tree());
    let bundle = bundle(&sandbox, "BE", "kubepods/besteffort/pod1/c");
    kubelets_pod(&sandbox, &bundle);
    live(&sandbox, &bundle, &group);
    assert_eq!(in_tree(&sandbox), Vec::<String>::new());
}

#[test]
fn an_ls_container_stays_where_the_engine_wants_it() {
    let sandbox = Sandbox::wrapped("life-ls");
    let bundle = bundle(&sandbox, "LS", "kubepods/burstable/pod1/c");
    let group = bundle.group().to_owned();
    live(&sandbox, &bundle, &group);
}

#[test]
fn the_pods_group_in_the_tree_stays_as_long_as_one_of_its_containers() {
    let sandbox = Sandbox::wrapped("life-two");
    sandbox.config(TREE);
    let [one, two] =
        ["one", "two"].map(|id| bundle(&sandbox, "BE", &format!("kubepods/besteffort/pod1/{id}")));
    kubelets_pod(&sandbox, &one);
    for bundle in [&one, &two] {
        sandbox.run_detached(bundle).ok();
    }
    sandbox.delete_force(&one).ok();
    let left = in_tree(&sandbox);
    let used = cgroup::hierarchies()
        .iter()
        .filter(|hierarchy| !hierarchy.controllers.iter().any(|name| name == "misc"));
    assert_eq!(left.len(), used.count(), "{left:#?}");
    sandbox.exec(&two, &["/bin/true"]).ok();
    sandbox.delete_force(&two).ok();
    assert_eq!(in_tree(&sandbox), Vec::<String>::new());
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
}

/// As where no kubelet makes the groups of pods.
#[test]
fn a_pod_whose_groups_nobody_made_leaves_nothing_either() {
    let sandbox = Sandbox::wrapped("life-bare");
    sandbox.config(TREE);
    let group = format!("{}/best-effort/pod1/c", sandbox.class_tree());
    live(&sandbox, &bundle(&sandbox, "BE", "kubepods/besteffort/pod1/c"), &group);
    assert_eq!(in_tree(&sandbox), Vec::<String>::new());
}

/// The bundle still says where it was.
#[test]
fn a_lost_record_leaves_no_group_either() {
    let sandbox = Sandbox::wrapped("life-lost");
    sandbox.config(TREE);
    let bundle = bundle(&sandbox, "BE", "kubepods/besteffort/pod1/c");
    sandbox.run_detached(&bundle).ok();
    std::fs::remove_file(sandbox.run_dir().join("containers/c.json")).unwrap();
    sandbox.delete_force(&bundle).ok();
    assert_eq!(in_tree(&sandbox), Vec::<String>::new());
}
