//! CPUs of one's own, with the real runc on the real hierarchy: who gets them, who has to leave them, and when they are
//! given back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use common::invariants::{self, claims, online};
use common::traced::{Program, Stopped, state};
use common::{Bundle, Hook, Sandbox, cgroup, probed};
use plimsoll::cpuset::CpuSet;

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";
const NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";

/// The CPU that changes hands, and all others; `None` where there are none.
fn cpus() -> Option<(CpuSet, CpuSet)> {
    let all = online();
    let own: CpuSet = all.iter().take(1).collect();
    let rest = all.difference(&own);
    (!rest.is_empty()).then_some((own, rest))
}

/// A waiting container of a class, in a pod of its own, with a limit of one CPU.
fn bundle(sandbox: &Sandbox, id: &str, class: &str) -> Bundle {
    let slice = if class == "BE" { "besteffort" } else { "burstable" };
    sandbox
        .bundle(id)
        .cgroup(&format!("kubepods/{slice}/pod{id}/{id}"))
        .resource("cpu", "quota", 100_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
        .plimsoll_hooks(sandbox)
}

fn owning(sandbox: &Sandbox, id: &str, class: &str, cpus: &CpuSet) -> Bundle {
    bundle(sandbox, id, class).annotation(STATUS, &format!("{{\"cpuset\":\"{cpus}\"}}"))
}

fn cpuset(group: &str) -> CpuSet {
    cgroup::read(group, "cpuset.cpus").unwrap_or_else(|| panic!("cpuset of {group}")).parse().unwrap()
}

/// The log lines about a container.
fn log_of(sandbox: &Sandbox, id: &str) -> String {
    let named = format!("\"container\":\"{id}\"");
    sandbox.log().lines().filter(|line| line.contains(&named)).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} should be in: {text}");
    }
}

#[test]
fn the_schedulers_choice_is_honoured_and_the_quota_goes() {
    let Some((own, _)) = cpus() else { return };
    let sandbox = Sandbox::new("honour");
    let bundle = owning(&sandbox, "lsr", "LSR", &own).args(&["/prober", "exit"]);
    let seen = sandbox.run_probe(&bundle);
    assert_eq!(seen["affinity"], own.to_string());
    assert_eq!(probed::file(&seen, "cpuset.cpus"), own.to_string());
    assert_eq!(probed::file(&seen, "cpu.cfs_quota_us"), "-1");
    invariants::nothing_left(&sandbox);
}

#[test]
fn everybody_leaves_the_cpus_of_an_lse_container_before_it_runs_and_comes_back_after_it() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("shrink");
    let all = own.union(&rest);
    let ls = bundle(&sandbox, "ls", "LS");
    let be = bundle(&sandbox, "be", "BE");
    let tree = bundle(&sandbox, "tree", "BE").cgroup("tree");
    for bundle in [&ls, &be, &tree] {
        sandbox.run_detached(bundle).ok();
    }
    let in_tree = match cgroup::is_v1() {
        true => format!("{}/best-effort/tree", sandbox.class_tree()),
        // A hook moves nobody there.
        false => tree.group().to_owned(),
    };
    let everybody = [ls.group(), be.group(), &in_tree];
    for (class, left_by) in [("LSE", [&rest, &rest, &rest]), ("LSR", [&rest, &all, &all])] {
        let owner = owning(&sandbox, "own", class, &own);
        // Created, not started: none of its instructions has run.
        sandbox.create(&owner).ok();
        for (group, cpus) in everybody.iter().zip(left_by) {
            assert_eq!(cpuset(group), *cpus, "{group} beside {class}");
        }
        assert_eq!(cpuset(owner.group()), own);
        // A newcomer finds the same.
        let late = bundle(&sandbox, "late", "LS").args(&["/prober", "exit"]);
        assert_eq!(sandbox.run_probe(&late)["affinity"], rest.to_string());
        invariants::hold(&sandbox);
        sandbox.delete_force(&owner).ok();
        for group in everybody {
            assert_eq!(cpuset(group), all, "{group} after {class}");
        }
    }
    for bundle in [&ls, &be, &tree] {
        sandbox.delete_force(bundle).ok();
    }
    invariants::nothing_left(&sandbox);
}

#[test]
fn cpus_that_have_an_owner_are_refused_and_the_refused_one_shares_from_then_on() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("conflict");
    let first = owning(&sandbox, "first", "LSR", &own);
    let second = owning(&sandbox, "second", "LSE", &own);
    sandbox.run_detached(&first).ok();
    sandbox.run_detached(&second).ok();
    says(&log_of(&sandbox, "second"), &["error", "belong to first already", "placed in part"]);
    assert_eq!(cpuset(second.group()), rest);
    assert_eq!(cgroup::read(second.group(), "cpu.cfs_quota_us").as_deref(), Some("100000"));
    assert_eq!(claims(&sandbox).len(), 1);

    sandbox.delete_force(&first).ok();
    assert_eq!(cpuset(second.group()), own.union(&rest), "what nobody owns any more");
    let third = owning(&sandbox, "third", "LSR", &own);
    sandbox.create(&third).ok();
    assert_eq!(cpuset(second.group()), rest, "it owns nothing");
    invariants::hold(&sandbox);
}

#[test]
fn a_refused_container_does_not_start_where_the_policy_says_so() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("refuse");
    sandbox.config("[class.LSE]\non_error = \"fail\"\n");
    let ls = bundle(&sandbox, "ls", "LS");
    let first = owning(&sandbox, "first", "LSR", &own);
    sandbox.run_detached(&ls).ok();
    sandbox.run_detached(&first).ok();
    let refused = sandbox.create(&owning(&sandbox, "second", "LSE", &own)).fails();
    says(&refused.stderr, &["belong to first already", "must not start"]);
    assert_eq!(cpuset(ls.group()), rest);
    assert_eq!(claims(&sandbox).len(), 1);
    invariants::hold(&sandbox);
}

#[test]
fn an_owner_that_must_not_start_gives_its_cpus_back_at_once() {
    // On v2 the kernel refuses no list of CPUs.
    let Some((own, rest)) = cpus().filter(|_| cgroup::is_v1()) else { return };
    let sandbox = Sandbox::new("giveback");
    // Waiting for its own lock would take longer than runc waits for the hook.
    sandbox.config("on_error = \"fail\"\n[exclusive]\nlock_timeout_ms = 5000\n");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    // A child with the CPU makes the kernel refuse to take it from its parent.
    let mut owner = owning(&sandbox, "own", "LSR", &rest);
    let inner = cgroup::dir("cpuset", &format!("{}/inner", owner.group()));
    let script = format!("mkdir {0} && echo {own} > {0}/cpuset.cpus", inner.to_str().unwrap(),);
    owner.spec["hooks"] = serde_json::json!({});
    let mut owner = owner.hook("createRuntime", Hook::shell(&script)).plimsoll_hooks(&sandbox);
    owner.spec["hooks"]["createRuntime"][1]["timeout"] = 4.into();
    let refused = sandbox.create(&owner).fails();
    says(&refused.stderr, &["EBUSY", "must not start"]);
    assert_eq!(cpuset(ls.group()), own.union(&rest));
    assert!(claims(&sandbox).is_empty());
    invariants::hold(&sandbox);
}

#[test]
fn a_namespace_that_may_not_claim_is_treated_as_ls() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("claims");
    sandbox.config("[claims]\nnamespaces = [\"prod-*\"]\n");
    let all = own.union(&rest);
    let foreign = owning(&sandbox, "foreign", "LSE", &own).annotation(NAMESPACE, "default");
    sandbox.run_detached(&foreign).ok();
    assert_eq!(cpuset(foreign.group()), all);
    assert_eq!(cgroup::read(foreign.group(), "cpu.cfs_quota_us").as_deref(), Some("100000"));
    says(&log_of(&sandbox, "foreign"), &["may not claim LSE", "\"class\":\"LS\"", "claims.namespaces"]);
    assert!(claims(&sandbox).is_empty());

    let allowed = owning(&sandbox, "allowed", "LSE", &own).annotation(NAMESPACE, "prod-1");
    sandbox.run_detached(&allowed).ok();
    assert_eq!(cpuset(allowed.group()), own);
    assert_eq!(cpuset(foreign.group()), rest);
    invariants::hold(&sandbox);
}

#[test]
fn cpus_that_are_not_online_leave_the_container_as_it_was() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("offline");
    for (n, cpus) in ["8000".to_owned(), format!("{own},8001")].iter().enumerate() {
        let id = format!("c{n}");
        let bundle = bundle(&sandbox, &id, "LSR").annotation(STATUS, &format!("{{\"cpuset\":\"{cpus}\"}}"));
        sandbox.run_detached(&bundle).ok();
        says(&log_of(&sandbox, &id), &["error", "not online", "left as it was"]);
        assert_eq!(cpuset(bundle.group()), own.union(&rest));
    }
    assert!(claims(&sandbox).is_empty());
    invariants::hold(&sandbox);
}

#[test]
fn best_effort_is_not_pinned_to_the_cpus_of_an_lse_container() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("be");
    let be = owning(&sandbox, "be", "BE", &own);
    sandbox.run_detached(&be).ok();
    assert_eq!(cpuset(be.group()), own.union(&rest));
    says(&log_of(&sandbox, "be"), &["resource-status pins no BE container"]);
    sandbox.create(&owning(&sandbox, "own", "LSE", &own)).ok();
    assert_eq!(cpuset(be.group()), rest);
    invariants::hold(&sandbox);
}

#[test]
fn the_containers_of_a_pod_share_its_cpus_until_the_last_is_gone() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("pod");
    let all = own.union(&rest);
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    let [a, b] = ["a", "b"]
        .map(|id| owning(&sandbox, id, "LSR", &own).cgroup(&format!("kubepods/burstable/podshared/{id}")));
    for bundle in [&a, &b] {
        sandbox.run_detached(bundle).ok();
        assert_eq!(cpuset(bundle.group()), own);
    }
    assert_eq!(cpuset(ls.group()), rest);
    sandbox.delete_force(&a).ok();
    assert_eq!(cpuset(ls.group()), rest);
    sandbox.delete_force(&b).ok();
    assert_eq!(cpuset(ls.group()), all);
    invariants::hold(&sandbox);
}

#[test]
fn prestart_and_create_runtime_together_take_the_cpus_once() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("twice");
    sandbox.config("[exclusive]\nallocate = true\n");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    for bundle in [owning(&sandbox, "own", "LSE", &own), bundle(&sandbox, "own", "LSE")] {
        let bundle = bundle.hook("prestart", Hook::plimsoll(&sandbox, "prestart"));
        sandbox.create(&bundle).ok();
        let claimed: Vec<CpuSet> = claims(&sandbox).into_iter().map(|(_, claim)| claim.cpus).collect();
        assert_eq!(claimed.len(), 1);
        assert_eq!(cpuset(bundle.group()), claimed[0]);
        assert_eq!(cpuset(ls.group()), own.union(&rest).difference(&claimed[0]));
        sandbox.delete_force(&bundle).ok();
        assert_eq!(cpuset(ls.group()), own.union(&rest));
    }
    assert!(claims(&sandbox).is_empty());
}

#[test]
fn the_claim_of_a_dead_container_holds_nobody_up() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("stale");
    let mut dead = owning(&sandbox, "dead", "LSE", &own);
    // No poststop: as if the node had lost it.
    dead.spec["hooks"].as_object_mut().unwrap().remove("poststop");
    sandbox.run_detached(&dead).ok();
    sandbox.delete_force(&dead).ok();
    assert_eq!(claims(&sandbox).len(), 1, "the claim is still there");

    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    assert_eq!(cpuset(ls.group()), own.union(&rest));
    let owner = owning(&sandbox, "own", "LSR", &own);
    sandbox.create(&owner).ok();
    assert_eq!(cpuset(owner.group()), own);
    assert_eq!(cpuset(ls.group()), rest);
    says(&log_of(&sandbox, "own"), &["container placed\""]);
    invariants::repaired(&sandbox);
    invariants::hold(&sandbox);
}

#[test]
fn the_allocator_leaves_what_the_configuration_wants_shared() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("alloc");
    let all = own.union(&rest);
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.config(&format!("[exclusive]\nallocate = true\nmin_shared_cpus = {}\n", all.len() - 1));
    sandbox.run_detached(&ls).ok();
    let first = bundle(&sandbox, "first", "LSR");
    let second = bundle(&sandbox, "second", "LSR");
    sandbox.run_detached(&first).ok();
    let taken: Vec<CpuSet> = claims(&sandbox).into_iter().map(|(_, claim)| claim.cpus).collect();
    if taken.is_empty() {
        // With hyperthreads a whole core is more than may be taken here.
        says(&log_of(&sandbox, "first"), &["must stay"]);
        return;
    }
    assert_eq!((taken.len(), taken[0].len()), (1, 1));
    assert_eq!(cpuset(first.group()), taken[0]);
    assert_eq!(cgroup::read(first.group(), "cpu.cfs_quota_us").as_deref(), Some("-1"));
    assert_eq!(cpuset(ls.group()), all.difference(&taken[0]));
    sandbox.run_detached(&second).ok();
    says(&log_of(&sandbox, "second"), &["error", "must stay"]);
    assert_eq!(cpuset(second.group()), all.difference(&taken[0]));
    invariants::hold(&sandbox);
    for bundle in [&first, &second] {
        sandbox.delete_force(bundle).ok();
    }

    // All CPUs but those of the LS container's last one can be taken, and then all; it is never left without any.
    sandbox.config("[exclusive]\nallocate = true\nmin_shared_cpus = 0\n");
    for n in 0..all.len() {
        sandbox.run_detached(&bundle(&sandbox, &format!("own{n}"), "LSR")).ok();
        assert!(!cpuset(ls.group()).is_empty());
        invariants::hold(&sandbox);
    }
    let taken = claims(&sandbox).into_iter().fold(CpuSet::new(), |all, (_, claim)| all.union(&claim.cpus));
    assert!(taken.len() >= all.len() - 1, "{taken}");
}

#[test]
fn a_newcomer_that_looks_around_before_the_claim_is_made_leaves_the_cpus_too() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("newcomer");
    let owner = owning(&sandbox, "own", "LSE", &own);
    let mut plain = owner.clone();
    plain.spec["hooks"] = serde_json::json!({});
    sandbox.create(&plain).ok();
    // It has seen who shares, and its claim is not yet there for others to see.
    let stopped = Stopped::hook(&sandbox, &owner, "createRuntime", "write", 1);
    let ls = bundle(&sandbox, "ls", "LS");
    let be = bundle(&sandbox, "be", "BE");
    for bundle in [&ls, &be] {
        sandbox.run_detached(bundle).ok();
        assert_eq!(cpuset(bundle.group()), own.union(&rest));
    }
    assert!(claims(&sandbox).is_empty());
    stopped.go_on();
    for bundle in [&owner, &ls, &be] {
        assert_eq!(cpuset(bundle.group()), if bundle.id == "own" { own.clone() } else { rest.clone() });
    }
    invariants::hold(&sandbox);
}

#[test]
fn a_container_that_is_checked_while_cpus_change_hands_leaves_them_too() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("poststart");
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.run_detached(&ls).ok();
    // Somebody took a CPU away that nobody owns: poststart is about to give it back.
    let disturb = || cgroup::write(ls.group(), "cpuset.cpus", &rest.to_string()).unwrap();
    disturb();
    let points = Program::hook(&sandbox, "poststart", &state(&sandbox, &ls)).points(&sandbox);
    assert_eq!(cpuset(ls.group()), own.union(&rest));
    let opened = points.iter().find(|point| point.text.contains("cpuset.cpus")).unwrap();
    disturb();
    let stopped = Stopped::hook(&sandbox, &ls, "poststart", &opened.call, opened.n);
    let owner = owning(&sandbox, "own", "LSE", &own);
    sandbox.create(&owner).ok();
    stopped.go_on();
    assert_eq!(cpuset(ls.group()), rest);
    invariants::hold(&sandbox);
}

#[test]
fn a_container_that_names_no_number_of_cpus_is_given_none() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("nonumber");
    sandbox.config("[exclusive]\nallocate = true\n");
    let mut bundle = bundle(&sandbox, "lsr", "LSR").resource("cpu", "shares", 512);
    // (crun 1.8 fails to write a quota of -1 on v1.)
    bundle.spec["linux"]["resources"]["cpu"].as_object_mut().unwrap().remove("quota");
    sandbox.run_detached(&bundle).ok();
    says(&log_of(&sandbox, "lsr"), &["so there is no number of CPUs to own"]);
    assert_eq!(cpuset(bundle.group()), own.union(&rest));
    assert!(claims(&sandbox).is_empty());
}

#[test]
fn a_stopped_lock_holder_is_named_and_not_waited_for() {
    let Some((own, rest)) = cpus() else { return };
    let sandbox = Sandbox::new("stopped");
    sandbox.config("[exclusive]\nlock_timeout_ms = 20\n");
    let holder = owning(&sandbox, "holder", "LSR", &rest);
    let mut plain = holder.clone();
    plain.spec["hooks"] = serde_json::json!({});
    sandbox.create(&plain).ok();
    // The first rename is that of the claim: the lock is held by then.
    let stopped = Stopped::hook(&sandbox, &holder, "createRuntime", "rename", 1);

    // A hook that waited would be killed by runc, and the container with it.
    let mut second = owning(&sandbox, "second", "LSR", &own);
    second.spec["hooks"]["createRuntime"][0]["timeout"] = 5.into();
    sandbox.run_detached(&second).ok();
    let log = log_of(&sandbox, "second");
    says(&log, &["error", "lock", &format!("process {} holds it", stopped.pid()), "20 ms"]);
    assert_eq!(cpuset(second.group()), own, "it shares, and the holder's CPUs are not shared");
    stopped.go_on();
    assert_eq!(cpuset(holder.group()), rest);
    invariants::hold(&sandbox);

    // The lock is free again.
    sandbox.delete_force(&second).ok();
    let third = owning(&sandbox, "third", "LSR", &own);
    sandbox.run_detached(&third).ok();
    assert_eq!(cpuset(third.group()), own);
    says(&log_of(&sandbox, "third"), &["container placed\""]);
}
