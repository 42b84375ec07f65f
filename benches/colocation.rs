//! What Plimsoll does for the node: an online service and offline work on it, in several ways of sharing.

use serde_json::json;

use crate::beside::{self, Arms, Extent};
use crate::figures::quantile;
use crate::knobs::Knob;
use crate::node::Node;
use crate::page::{Goal, Panel, Section, lines, panels};
use crate::round::{Arm, Beside};

const ALONE: usize = 0;
const EQUAL: usize = 1;
const KUBELET: usize = 2;
const KEEP: usize = 3;
const CLASS_TREE: usize = 4;
const LIMITED: usize = 5;

pub(crate) fn run(extent: Extent, noisy: bool) -> Section {
    let node = Node::new();
    let (plan, cost_us) = beside::calibrate(&node, |cost_us| beside::evenly(cost_us, extent));
    let rate = plan.rate;
    let limit_us = beside::limit_us(&node, plan);
    let arm = |name, beside, limited: bool, burst| Arm {
        name,
        beside,
        limit_us: limited.then_some(limit_us),
        burst,
        knob: Knob::Nothing,
    };
    let arms = [
        arm("online alone", Beside::Nothing, false, false),
        arm("equal shares", Beside::Equal, false, false),
        arm("as kubelet: shares 2", Beside::Kubelet, false, false),
        arm("Plimsoll keep", Beside::Keep, false, true),
        arm("Plimsoll class-tree", Beside::ClassTree, false, true),
        arm("limited, as kubelet", Beside::Kubelet, true, false),
        arm("limited, keep + burst", Beside::Keep, true, true),
        arm("limited, class-tree + burst", Beside::ClassTree, true, true),
    ];
    let all = beside::rounds(&node, &arms, plan);

    let p99 = all.against(CLASS_TREE, ALONE, |r| r.p99_ms);
    let p999 = all.against(CLASS_TREE, ALONE, |r| r.p999_ms);
    let noisy = noisy || all.noisy;
    let goals = vec![
        Goal::at_least("class-tree: node CPU, %", all.figure(CLASS_TREE, |r| r.node_percent), 95.0, 1),
        Goal::at_least(
            "class-tree: offline's part of what is left over, %",
            all.figure(CLASS_TREE, |r| r.left_over_percent),
            90.0,
            1,
        ),
        Goal::at_most("class-tree: p99, times that of alone", p99, 1.25, 2).unless(noisy),
        Goal::at_most("class-tree: p99.9, times that of alone", p999, 2.0, 2).unless(noisy),
    ];
    let compared: Vec<_> = [EQUAL, KUBELET, KEEP, CLASS_TREE]
        .map(|n| {
            json!({
                "arm": arms[n].name,
                "p99": all.against(n, ALONE, |r| r.p99_ms).json(),
                "p999": all.against(n, ALONE, |r| r.p999_ms).json(),
                "waited_us": all.difference(n, ALONE, |r| r.waited_us).json(),
            })
        })
        .into();
    Section {
        name: "colocation",
        title: "Colocation: nginx beside an x264 transcode",
        what: format!(
            "An nginx that compresses a page for each request ({rate:.0} requests/s, open loop, Poisson, {cost_us:.0} µs of CPU each), and ffmpeg \
             transcoding with x264 beside it, in containers of runc, on {} CPUs. Every arm once in each of {} rounds, in random order \
             and with the same arrivals in a round. Medians [95 % interval]. p50, p99 and p99.9 are of the requests during which \
             the machine below did not stand still (`set aside`: the others). `limited`: the service may use {:.0} ms of CPU in each 100 ms.",
            crate::node::cpus(),
            extent.rounds,
            limit_us as f64 / 1e3,
        ),
        tables: vec![all.table()],
        goals,
        doubts: all.doubts(),
        plots: plots(&arms, &all),
        json: json!({
            "rate": rate, "limit_us": limit_us, "service_cpu_us": cost_us,
            "arms": all.json(), "against_alone": compared,
        }),
    }
}

fn plots(arms: &[Arm], all: &Arms) -> Vec<(&'static str, String)> {
    let colour = |n: usize| match n {
        ALONE => 4,
        EQUAL | KUBELET | LIMITED => 1,
        KEEP | 6 => 2,
        _ => 0,
    };
    let named: Vec<(String, usize)> =
        arms.iter().enumerate().map(|(n, arm)| (arm.name.to_owned(), colour(n))).collect();
    let alone = |get| all.figure(ALONE, get).median;
    let figures = panels(
        &named,
        &[
            Panel {
                title: "waited for a CPU, µs/request".to_owned(),
                values: all.values(|r| r.waited_us),
                goal: None,
                logarithmic: true,
            },
            Panel {
                title: "p99, ms (goal 1.25 × alone)".to_owned(),
                values: all.values(|r| r.p99_ms),
                goal: Some(1.25 * alone(|r| r.p99_ms)),
                logarithmic: true,
            },
            Panel {
                title: "p99.9, ms (goal 2 × alone)".to_owned(),
                values: all.values(|r| r.p999_ms),
                goal: Some(2.0 * alone(|r| r.p999_ms)),
                logarithmic: true,
            },
            Panel {
                title: "node CPU used, %".to_owned(),
                values: all.values(|r| r.node_percent),
                goal: Some(95.0),
                logarithmic: false,
            },
            Panel {
                title: "frames encoded per s".to_owned(),
                values: all.values(|r| r.frames_per_s),
                goal: None,
                logarithmic: false,
            },
        ],
    );
    let tails = named[..LIMITED]
        .iter()
        .enumerate()
        .map(|(n, (name, _))| {
            let sorted = all.latencies(n);
            let share = |step: i32| 10_f64.powf(-f64::from(step) / 8.0);
            let points =
                (0..=27).map(|step| (quantile(&sorted, 1.0 - share(step)).max(1.0) / 1e3, share(step)));
            (name.clone(), n, points.collect())
        })
        .collect::<Vec<_>>();
    let tail =
        lines(["Share of requests that take longer, all rounds together", "latency, ms", "share"], &tails);
    vec![("colocation", figures), ("colocation-tail", tail)]
}
