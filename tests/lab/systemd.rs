//! The systemd cgroup driver under a real systemd: what it makes, what a reload writes again, and what stands after it.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::common::invariants::{self, records};
use super::common::{Bundle, Ran, Sandbox, cgroup, dist, probed, wait_for};

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";

/// A waiting container as kubelet and containerd name it with `SystemdCgroup = true`.
fn bundle(sandbox: &Sandbox, id: &str, class: &str) -> Bundle {
    let qos = if class == "BE" { "besteffort" } else { "burstable" };
    let bundle = plain(sandbox, id, class, &format!("kubepods-{qos}-pod{id}.slice:cri-containerd:{id}"));
    if sandbox.is_wrapped() { bundle } else { bundle.plimsoll_hooks(sandbox) }
}

fn plain(sandbox: &Sandbox, id: &str, class: &str, path: &str) -> Bundle {
    assert!(fs::metadata("/run/systemd/system").is_ok(), "this is a test of systemd");
    sandbox
        .bundle(id)
        .cgroups_path(path)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
}

/// Units have one name each on a machine: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn systemctl(sandbox: &Sandbox, args: &[&str]) {
    sandbox.command("/usr/bin/systemctl", args).ok();
}

fn tool(sandbox: &Sandbox, args: &[&str]) -> Ran {
    let config = sandbox.config_path();
    sandbox.command(dist("plimsoll"), &[&["--config", config.to_str().unwrap()], args].concat())
}

/// Ends a test's containers, and the slices that kubelet would remove.
fn end(sandbox: &Sandbox, bundles: &[&Bundle]) {
    for bundle in bundles {
        sandbox.delete_force(bundle).ok();
    }
    // A scope that just ended may still have a job of its own, which cancels this one.
    wait_for("the slices to go", || {
        sandbox.command("/usr/bin/systemctl", &["stop", "kubepods.slice"]);
        (!cgroup::dir("cpu", "/kubepods.slice").exists()).then_some(())
    });
    invariants::repaired(sandbox);
    invariants::nothing_left(sandbox);
}

/// What does not stand of all a container's record says, a line each.
fn drifted(sandbox: &Sandbox, bundle: &Bundle) -> Vec<String> {
    let (_, record) = records(sandbox).into_iter().find(|(id, _)| *id == bundle.id).unwrap();
    let files = record.writes.iter().filter_map(|done| {
        let write = &done.write;
        let found = write.group.read(write.knob).unwrap().map(|value| value.to_string());
        let wanted = write.value.to_string();
        (found.as_ref() != Some(&wanted))
            .then(|| format!("{} {}: {found:?}, not {wanted}", write.group.path, write.knob))
    });
    files.collect()
}

/// Does something to the units; all that was set stands after it, or is said not to and put back.
fn stands(sandbox: &Sandbox, bundles: &[&Bundle], what: &str, act: impl Fn()) -> Vec<String> {
    act();
    let drift: Vec<String> = bundles.iter().flat_map(|bundle| drifted(sandbox, bundle)).collect();
    println!("after {what}: {drift:#?}");
    let status = tool(sandbox, &["status", "--exit-code"]);
    let wanted = if drift.is_empty() { 0 } else { 3 };
    assert_eq!(status.status.code(), Some(wanted), "{what}: {drift:#?} {status:?}");
    tool(sandbox, &["repair"]).ok();
    for bundle in bundles {
        assert_eq!(drifted(sandbox, bundle), Vec::<String>::new(), "{what}, repaired");
    }
    assert_eq!(tool(sandbox, &["status", "--exit-code"]).status.code(), Some(0), "{what}, repaired");
    drift
}

fn pinned(sandbox: &Sandbox, id: &str) -> Bundle {
    bundle(sandbox, id, "LSR").annotation(STATUS, "{\"cpuset\":\"1\"}")
}

#[test]
#[ignore = "for systemd: make lab"]
fn first_processes_find_what_was_planned_in_scopes_of_pod_slices() {
    let _alone = alone();
    let sandbox = Sandbox::new("scopes").by_systemd();
    let (ls, be, own) = (bundle(&sandbox, "ls", "LS"), bundle(&sandbox, "be", "BE"), pinned(&sandbox, "own"));
    for one in [&ls, &be, &own] {
        sandbox.run_detached(one).ok();
        let seen = sandbox.probe(one);
        let group = probed::group(&seen, "cpu").to_owned();
        let scope = format!("-pod{0}.slice/cri-containerd-{0}.scope", one.id);
        assert!(group.contains(&scope), "{group}");
        assert_eq!(drifted(&sandbox, one), Vec::<String>::new());
        assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
    }
    // Wherever a quota of its own is on the way to the process (crun makes a group in the scope), there is a burst.
    let own_group = probed::group(&sandbox.probe(&ls), "cpu").to_owned();
    let (mut group, mut limits) = (own_group.as_str(), 0);
    while group.contains(".scope") {
        let file = |name| cgroup::read(group, name).unwrap();
        let (quota, burst) = (file("cpu.cfs_quota_us"), file("cpu.cfs_burst_us"));
        assert!(quota == "-1" || (quota == "50000" && burst == "50000"), "{group}: {quota} {burst}");
        limits += usize::from(quota != "-1");
        group = group.rsplit_once('/').unwrap().0;
    }
    assert!(limits > 0, "no limit");
    // CPUs of one's own are throttled nowhere.
    let own_group = probed::group(&sandbox.probe(&own), "cpu").to_owned();
    assert_eq!(cgroup::read(&own_group, "cpu.cfs_quota_us").as_deref(), Some("-1"));
    assert_eq!(sandbox.probe(&own)["affinity"], "1");
    end(&sandbox, &[&ls, &be, &own]);
}

/// With a hook alone systemd does not know of CPUs and quotas, and writes its own again.
#[test]
#[ignore = "for systemd: make lab"]
fn what_a_reload_undoes_of_a_hooks_work_is_said_and_put_back() {
    let _alone = alone();
    let sandbox = Sandbox::new("reload").by_systemd();
    let (ls, be, own) = (bundle(&sandbox, "ls", "LS"), bundle(&sandbox, "be", "BE"), pinned(&sandbox, "own"));
    let all = [&ls, &be, &own];
    for one in all {
        sandbox.run_detached(one).ok();
    }
    stands(&sandbox, &all, "daemon-reload", || systemctl(&sandbox, &["daemon-reload"]));
    stands(&sandbox, &all, "set-property CPUQuota", || {
        systemctl(&sandbox, &["set-property", "--runtime", "cri-containerd-ls.scope", "CPUQuota=60%"]);
    });
    stands(&sandbox, &all, "set-property CPUWeight of a pod", || {
        systemctl(&sandbox, &["set-property", "--runtime", "kubepods-besteffort-podbe.slice", "CPUWeight=7"]);
    });
    end(&sandbox, &all);
}

/// What the wrapper sets through the runtime is systemd's own.
#[test]
#[ignore = "for systemd: make lab"]
fn what_the_wrapper_sets_stands_after_a_reload() {
    let _alone = alone();
    let sandbox = Sandbox::wrapped("wrapped-reload").by_systemd();
    let (ls, be, own) = (bundle(&sandbox, "ls", "LS"), bundle(&sandbox, "be", "BE"), pinned(&sandbox, "own"));
    let all = [&ls, &be, &own];
    for one in all {
        sandbox.run_detached(one).ok();
        assert_eq!(drifted(&sandbox, one), Vec::<String>::new());
    }
    let drift = stands(&sandbox, &all, "daemon-reload", || systemctl(&sandbox, &["daemon-reload"]));
    assert!(!drift.iter().any(|line| line.contains("cpus:") || line.contains("quota:")), "{drift:#?}");
    end(&sandbox, &all);
}

#[test]
#[ignore = "for systemd: make lab"]
fn slices_of_the_class_tree_come_with_the_first_container_and_hold_until_the_last() {
    let _alone = alone();
    let sandbox = Sandbox::wrapped("slices").by_systemd();
    let top = "placement = \"class-tree\"\n[paths]\n";
    fs::write(
        sandbox.config_path(),
        format!(
            "{top}run = {:?}\nlog = {:?}\nclass_tree = \"/plimsolltest\"\n[log]\njournal = false\n",
            sandbox.run_dir(),
            sandbox.log_file()
        ),
    )
    .unwrap();
    let be = plain(&sandbox, "be", "BE", "system.slice:test:be");
    let two = plain(&sandbox, "two", "BE", "system.slice:test:two");
    sandbox.run_detached(&be).ok();
    sandbox.run_detached(&two).ok();
    let class = "/plimsolltest.slice/plimsolltest-besteffort.slice";
    for one in [&be, &two] {
        let seen = sandbox.probe(one);
        assert_eq!(
            probed::group(&seen, "cpu"),
            format!("{class}/plimsoll-{}.scope", one.id),
            "{}",
            sandbox.log()
        );
        assert_eq!(drifted(&sandbox, one), Vec::<String>::new());
    }
    assert_eq!(cgroup::read(class, "cpu.idle").as_deref(), Some("1"));
    stands(&sandbox, &[&be, &two], "daemon-reload", || systemctl(&sandbox, &["daemon-reload"]));
    sandbox.delete_force(&be).ok();
    assert_eq!(cgroup::read(class, "cpu.idle").as_deref(), Some("1"), "another one is in it");
    sandbox.delete_force(&two).ok();
    wait_for("the slices to go", || {
        sandbox.command("/usr/bin/systemctl", &["stop", "plimsolltest.slice"]);
        (!cgroup::dir("cpu", "/plimsolltest.slice").exists()).then_some(())
    });
    assert!(records(&sandbox).is_empty());
}
