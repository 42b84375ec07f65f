//! What else a node tool might set, tried on top of the class tree: what helps the slowest requests, and what it costs.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::beside::{self, Extent};
use crate::common::cgroup;
use crate::node::{cpus, give_shares, group};
use crate::page::{Panel, Section, panels};
use crate::round::{Arm, Beside};

/// Something set once the containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knob {
    Nothing,
    /// The service's tasks run before all others: no tool's business, but the best that any scheduling can do.
    RealTime,
    /// The offline work leaves one CPU free.
    OneCpuLess,
    /// The service's groups have the greatest weight there is.
    Heavy,
}

impl Knob {
    /// Sets it, for containers whose first processes these are.
    pub(crate) fn set(self, online: i32, offline: Option<i32>) {
        let own = group(online, "cpu");
        // From below the topmost group: the service's own branch.
        let branch: Vec<&Path> = Path::new(&own).ancestors().filter(|g| g.parent().is_some()).collect();
        match (self, offline) {
            (Self::RealTime, _) => {
                if cgroup::is_v1() {
                    // Nothing may run real-time in a group before its groups above may. For a moment the kernel still counts
                    // what the last container and its pod were given.
                    for (above, group) in branch.iter().enumerate().rev() {
                        let part = if above < 2 { "400000" } else { "900000" };
                        cgroup::write(group.to_str().unwrap(), "cpu.rt_runtime_us", part).unwrap();
                    }
                }
                for pid in cgroup::procs("cpu", &own) {
                    let pid = pid.to_string();
                    let done = Command::new("chrt")
                        .args(["--all-tasks", "--fifo", "--pid", "10", &pid])
                        .status()
                        .unwrap();
                    assert!(done.success(), "chrt: {done}");
                }
            }
            (Self::OneCpuLess, Some(offline)) => {
                let rest = format!("0-{}", cpus().saturating_sub(2));
                cgroup::write(&group(offline, "cpuset"), "cpuset.cpus", &rest).unwrap();
            }
            (Self::Heavy, _) => {
                for group in &branch[..branch.len() - 1] {
                    give_shares(group.to_str().unwrap(), 262_144);
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn run(extent: Extent) -> Section {
    let node = crate::node::Node::new();
    let (plan, cost_us) = beside::calibrate(&node, |cost_us| beside::evenly(cost_us, extent));
    let arm = |name, beside, knob| Arm { name, beside, limit_us: None, burst: true, knob };
    let arms = [
        arm("online alone", Beside::Nothing, Knob::Nothing),
        arm("alone, real-time", Beside::Nothing, Knob::RealTime),
        arm("class-tree", Beside::ClassTree, Knob::Nothing),
        arm("class-tree, online real-time", Beside::ClassTree, Knob::RealTime),
        arm("class-tree, offline one CPU less", Beside::ClassTree, Knob::OneCpuLess),
        arm("class-tree, online weight at most", Beside::ClassTree, Knob::Heavy),
        arm("as kubelet, online weight at most", Beside::Kubelet, Knob::Heavy),
    ];
    let all = beside::rounds(&node, &arms, plan);
    let named: Vec<(String, usize)> =
        arms.iter().map(|arm| (arm.name.to_owned(), usize::from(arm.knob != Knob::Nothing))).collect();
    let panel = |title: &str, get| Panel {
        title: title.to_owned(),
        values: all.values(get),
        goal: None,
        logarithmic: true,
    };
    let plot = panels(
        &named,
        &[
            panel("waited for a CPU, µs/request", |r| r.waited_us),
            panel("p99, ms", |r| r.p99_ms),
            panel("p99.9, ms", |r| r.p999_ms),
            panel("frames encoded per s", |r| r.frames_per_s),
        ],
    );
    Section {
        name: "knobs",
        title: "What else might help the slowest requests",
        what: format!(
            "The arms of colocation with one thing more set ({:.0} requests/s, {} rounds). Medians [95 % interval].",
            plan.rate, extent.rounds
        ),
        tables: vec![all.table()],
        goals: Vec::new(),
        doubts: all.doubts(),
        plots: vec![("knobs", plot)],
        json: json!({"rate": plan.rate, "service_cpu_us": cost_us, "arms": all.json()}),
    }
}
