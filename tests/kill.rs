//! The hook is killed before each thing it changes, and after the last one. Whatever is left behind, the next hook
//! works, and `repair` brings back a state where every invariant holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use common::invariants::{self, Before, online};
use common::traced::{Point, Program, hook, state};
use common::{Bundle, Sandbox, cgroup};
use serde_json::json;

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";

/// The container whose hooks are killed.
const VICTIM: &str = "victim";

/// A waiting container; its hooks are run by hand.
fn bundle(sandbox: &Sandbox, sub: &str, class: &str) -> Bundle {
    let id = sub.rsplit('/').next().unwrap();
    sandbox
        .bundle(id)
        .cgroup(sub)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
}

/// A node with a running LS and a running BE container, in pods with limits as kubelet makes them.
struct Node {
    sandbox: Sandbox,
    before: Before,
    others: Vec<(Bundle, String)>,
    next: Option<(Bundle, String)>,
}

const PODS: [(&str, &str); 5] = [
    ("kubepods/burstable/podls", "100000"),
    ("kubepods/besteffort/podbe", "-1"),
    ("kubepods/burstable/podvictim", "150000"),
    ("kubepods/burstable/podalone", "150000"),
    ("kubepods/burstable/podnext", "100000"),
];

impl Node {
    fn new(name: &str, config: &str) -> Self {
        let sandbox = Sandbox::new(name);
        sandbox.config(config);
        let pods: Vec<String> = PODS.iter().map(|(pod, _)| sandbox.group(pod)).collect();
        for (pod, (_, quota)) in pods.iter().zip(PODS) {
            cgroup::make(pod);
            cgroup::write(pod, "cpu.cfs_quota_us", quota).unwrap();
            cgroup::write(pod, "cpu.shares", "600").unwrap();
        }
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let mut node = Self { before: Before::of(&pods), sandbox, others: Vec::new(), next: None };
        for (sub, class) in [
            ("kubepods/burstable/podls/ls", "LS"),
            ("kubepods/burstable/podvictim/sidecar", "LS"),
            ("kubepods/besteffort/podbe/be", "BE"),
        ] {
            node.others.push(node.treated(&bundle(&node.sandbox, sub, class)));
        }
        let next = bundle(&node.sandbox, "kubepods/burstable/podnext/next", "LS");
        node.sandbox.run_detached(&next).ok();
        let next_state = state(&node.sandbox, &next);
        node.next = Some((next, next_state));
        node
    }

    /// A container that has had its hooks at create and start.
    fn treated(&self, bundle: &Bundle) -> (Bundle, String) {
        self.sandbox.run_detached(bundle).ok();
        let state = state(&self.sandbox, bundle);
        hook(&self.sandbox, "createRuntime", &state).ok();
        (bundle.clone(), state)
    }

    /// The hooks of another container work: what was left behind is in nobody's way.
    fn next_works(&self, point: &Point) {
        let (next, state) = self.next.as_ref().unwrap();
        hook(&self.sandbox, "createRuntime", state).ok();
        let burst = cgroup::read(next.group(), "cpu.cfs_burst_us");
        assert_eq!(burst.as_deref(), Some("50000"), "after {point:?}; log:\n{}", self.sandbox.log());
        hook(&self.sandbox, "poststop", state).ok();
        // It was not really at its end, and is to be as new.
        cgroup::write(next.group(), "cpu.cfs_burst_us", "0").unwrap();
        cgroup::write(next.group(), "cpuset.cpus", &online().to_string()).unwrap();
    }

    fn gone(&self, (bundle, state): &(Bundle, String)) {
        self.sandbox.delete_force(bundle).ok();
        hook(&self.sandbox, "poststop", state).ok();
    }

    fn check(&self) {
        invariants::repaired(&self.sandbox);
        invariants::hold_since(&self.sandbox, &self.before);
    }

    fn end(self) {
        for other in &self.others {
            self.gone(other);
        }
        invariants::hold_since(&self.sandbox, &self.before);
        invariants::nothing_left(&self.sandbox);
    }
}

/// Kills every hook of a container's life at every point.
fn kill_everywhere(name: &str, config: &str, victim: impl Fn(&Sandbox) -> Bundle) {
    let node = Node::new(name, config);
    let sandbox = &node.sandbox;
    let victim = victim(sandbox);
    for stage in ["createRuntime", "poststart", "poststop"] {
        // What the runtime and the hooks before have done when this one comes.
        let arrive = || {
            // Making the class's group is a point too, and so is making a folder.
            for group in [format!("{}/best-effort", sandbox.class_tree()), sandbox.class_tree()] {
                for controller in ["cpu", "cpuset"] {
                    let _ = std::fs::remove_dir(cgroup::dir(controller, &group));
                }
            }
            for folder in ["containers", "exclusive", "groups"] {
                let _ = std::fs::remove_dir(sandbox.run_dir().join(folder));
            }
            sandbox.run_detached(&victim).ok();
            let state = state(sandbox, &victim);
            if stage != "createRuntime" {
                hook(sandbox, "createRuntime", &state).ok();
            }
            if stage == "poststart" {
                // The runtime has touched what the hook wrote, so that there is something to do.
                disturb(sandbox, &victim);
            }
            if stage == "poststop" {
                sandbox.delete_force(&victim).ok();
            }
            state
        };
        let leave = |state: &str| {
            if stage != "poststop" {
                sandbox.delete_force(&victim).ok();
            }
            hook(sandbox, "poststop", state).ok();
            invariants::hold_since(sandbox, &node.before);
        };
        let state = arrive();
        let points = Program::hook(sandbox, stage, &state).points(sandbox);
        assert!(points.len() > 1, "{stage} changes nothing");
        invariants::hold_since(sandbox, &node.before);
        leave(&state);
        for point in &points {
            let state = arrive();
            Program::hook(sandbox, stage, &state).kill_at(sandbox, point);
            node.next_works(point);
            node.check();
            leave(&state);
        }
        if stage == "createRuntime" {
            for point in points.iter().step_by(3) {
                let state = arrive();
                Program::hook(sandbox, stage, &state).kill_at(sandbox, point);
                // The hook may also be run again, and has then done all of it.
                hook(sandbox, stage, &state).ok();
                let record = invariants::records(sandbox).into_iter().find(|(id, _)| id == VICTIM).unwrap().1;
                assert!(record.writes.iter().all(plimsoll::apply::Done::holds), "{point:?}: {record:#?}");
                // Of what was cut off there is a half-written file at most.
                let repaired = invariants::repaired(sandbox);
                assert!(repaired.done.iter().all(|done| done.contains("half-written")), "{repaired:#?}");
                leave(&state);
            }
        }
    }
    node.end();
}

/// What a runtime might do to a container's values between two hooks.
fn disturb(sandbox: &Sandbox, victim: &Bundle) {
    let record = invariants::records(sandbox).into_iter().find(|(id, _)| *id == victim.id).unwrap().1;
    let group = &record.groups.cpu.path;
    if cgroup::read(group, "cpu.cfs_burst_us").is_some_and(|burst| burst != "0") {
        cgroup::write(group, "cpu.cfs_burst_us", "0").unwrap();
    }
    if record.tree.is_some() {
        cgroup::write(group, "cpu.shares", cgroup::default_shares()).unwrap();
    } else if let Some(pod) = record.writes.iter().find(|done| done.write.knob.to_string() == "idle") {
        cgroup::write(&pod.write.group.path, "cpu.idle", "0").unwrap();
    }
    let cpuset = record.groups.cpuset.unwrap().path;
    if record.treatment.owns_cpus() {
        cgroup::write(&cpuset, "cpuset.cpus", &online().to_string()).unwrap();
    }
}

#[test]
fn an_ls_container_with_its_pods_burst() {
    kill_everywhere("kill-ls", "", |sandbox| bundle(sandbox, "kubepods/burstable/podalone/victim", "LS"));
}

#[test]
fn an_ls_container_beside_another_in_its_pod() {
    kill_everywhere("kill-two", "", |sandbox| bundle(sandbox, "kubepods/burstable/podvictim/victim", "LS"));
}

#[test]
fn a_best_effort_container_in_its_pod() {
    kill_everywhere("kill-be", "", |sandbox| bundle(sandbox, "kubepods/besteffort/podvictim/victim", "BE"));
}

#[test]
fn a_best_effort_container_in_the_class_tree() {
    kill_everywhere("kill-tree", "", |sandbox| bundle(sandbox, "victim", "BE"));
}

#[test]
fn a_container_with_cpus_of_its_own_and_neighbours() {
    if online().len() < 2 {
        return;
    }
    kill_everywhere("kill-own", "", |sandbox| {
        let own = online().iter().next().unwrap();
        bundle(sandbox, "kubepods/burstable/podalone/victim", "LSE")
            .annotation(STATUS, &json!({"cpuset": own.to_string()}).to_string())
    });
}
