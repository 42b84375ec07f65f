//! What CPU burst does: a service with a CPU limit whose requests come in bursts, with burst off and on.

use serde_json::json;

use crate::beside::{self, Extent, Plan};
use crate::knobs::Knob;
use crate::node::Node;
use crate::page::{Goal, Panel, Section, panels};
use crate::round::{Arm, Beside};

/// The limit: CPU time in each 100 ms, µs.
const LIMIT_US: u64 = 20_000;
/// What a burst of requests needs, as a multiple of the limit; and how often one comes, and for how long.
const NEED: f64 = 1.5;
const CYCLE_MS: f64 = 400.0;
const BURST_MS: f64 = 60.0;

pub(crate) fn run(extent: Extent) -> Section {
    let node = Node::new();
    let requests = |cost_us: f64| NEED * LIMIT_US as f64 / cost_us;
    let (plan, cost_us) = beside::calibrate(&node, |cost_us| {
        let rate = (requests(cost_us) * 1e3 / CYCLE_MS).round();
        Plan { rate, cycle_ms: CYCLE_MS, burst_ms: BURST_MS, extent }
    });
    let requests = requests(cost_us);
    let arm = |name, burst| Arm {
        name,
        beside: Beside::Nothing,
        limit_us: Some(LIMIT_US),
        burst,
        knob: Knob::Nothing,
    };
    let arms = [arm("burst off", false), arm("burst on", true)];
    let all = beside::rounds(&node, &arms, plan);

    let less = |get| all.against(1, 0, get).map(|ratio| 100.0 * (1.0 - ratio));
    let goals = vec![Goal::at_least("throttled time less with burst, %", less(|r| r.throttled_ms), 95.0, 1)];
    let named = [("burst off".to_owned(), 1), ("burst on".to_owned(), 0)];
    let plot = panels(
        &named,
        &[
            Panel {
                title: "throttled time, ms".to_owned(),
                values: all.values(|r| r.throttled_ms),
                goal: None,
                logarithmic: false,
            },
            Panel {
                title: "throttled periods".to_owned(),
                values: all.values(|r| r.throttled_periods),
                goal: None,
                logarithmic: false,
            },
            Panel {
                title: "p99, ms".to_owned(),
                values: all.values(|r| r.p99_ms),
                goal: None,
                logarithmic: false,
            },
        ],
    );
    Section {
        name: "burst",
        title: "CPU burst: a limited service whose requests come in bursts",
        what: format!(
            "The same nginx, alone on the node and limited to {} ms of CPU in each 100 ms; every {CYCLE_MS} ms it is sent about \
             {requests:.0} requests within {BURST_MS} ms, which need {NEED} × that. In the mean it stays far below its limit. \
             {} rounds in random order. Medians [95 % interval].",
            LIMIT_US / 1000,
            extent.rounds,
        ),
        tables: vec![all.table()],
        goals,
        doubts: all.doubts(),
        plots: vec![("burst", plot)],
        json: json!({
            "rate": plan.rate, "limit_us": LIMIT_US, "service_cpu_us": cost_us, "arms": all.json(),
            "p99_against_off": all.against(1, 0, |r| r.p99_ms).json(),
            "throttled_less_percent": less(|r| r.throttled_ms).json(),
        }),
    }
}
