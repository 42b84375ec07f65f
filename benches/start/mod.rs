//! What Plimsoll costs a container start: its hooks against hooks that do nothing, its wrapper against a wrapper that does
//! nothing, among many containers, and many at once.
//!
//! A *start* is `create`, `start` and `delete` of one bundle, with all processes counted. CPU time leads: the wall clock is
//! a bad witness on a shared machine.

mod direct;
mod one;
mod shim;

use std::fs;

use nix::sys::prctl::set_child_subreaper;
use serde_json::{Value, json};

use crate::common::{Bundle, Helper, Hook, Sandbox, cgroup, dist};
use crate::figures::{Dice, Figure};
use crate::page::{Goal, Panel, Section, Table, lines, panels};
use one::{Sample, Series, interleaved};

const NOOP: &str = "no-op hook";
const PLAIN: &str = "runc";
/// Plain runc where somebody has made the pod idle, as Plimsoll does for best effort: what that alone costs a start.
const IDLE_POD: &str = "runc, its pod idle";
const NOOP_HOOKS: &str = "runc, 3 no-op hooks";
const NOOP_WRAPPER: &str = "no-op wrapper, no-op hook";
/// How many containers a node has already.
const AMONG: [usize; 3] = [1, 100, 1000];
/// How many start at once.
const AT_ONCE: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

pub(crate) fn run(rounds: usize) -> Section {
    // What a container leaves to its parent's parent comes to us, so that its CPU time is counted.
    set_child_subreaper(true).unwrap();
    let plain = Sandbox::new("bench-plain");
    let exec = Sandbox::new("bench-exec").with_runtime(Helper::Exec.path());
    let wrapped = Sandbox::wrapped("bench-wrapped");
    let many = AMONG.map(|n| {
        let node = Sandbox::wrapped(&format!("bench-{n}"));
        direct::fill(&node, n);
        (n, node)
    });
    let mut dice = Dice::new();

    let whole = whole(&plain, &exec, &wrapped, &many, rounds, &mut dice);
    let (direct, memory_kib) = direct::run(&plain, &many, rounds * 4, &mut dice);
    let at_once = at_once(&exec, &wrapped, rounds.div_ceil(4), &mut dice);
    let placed = wrapped.log().lines().filter(|line| line.contains("container placed")).count();
    let acts = acts(&plain);
    let (shims, machines) = shim::run(rounds, &mut dice);

    let mut doubts = Vec::new();
    if placed < 2 * rounds || !acts {
        doubts.push(format!(
            "Only {placed} containers were placed: these are not the figures of a wrapper and hooks that act."
        ));
    }
    if machines < 2 * rounds {
        doubts.push(format!(
            "Only {machines} virtual machines were placed: these are not the figures of a shim that acts."
        ));
    }
    for (n, node) in &many {
        if direct::filled(node) < *n {
            doubts.push(format!("Of {n} containers' records {} were left at the end.", direct::filled(node)));
        }
    }
    let (cpu, wall) = (|s: &Sample| s.cpu_ms, |s: &Sample| s.wall_ms);
    let more = |ours: &str, theirs: &str, get: fn(&Sample) -> f64| {
        Figure::difference(&named(&whole, ours).of(get), &named(&whole, theirs).of(get))
    };
    let ratio = |ours: &str, theirs: &str| {
        Figure::ratio(&named(&direct, ours).of(cpu), &named(&direct, theirs).of(cpu))
    };
    let goals = vec![
        Goal::at_most(
            "hooks, LS: more wall time than no-op hooks, ms",
            more("hooks, LS", NOOP_HOOKS, wall),
            0.5,
            1,
        ),
        Goal::at_most(
            "wrapper, LS, with its hooks: more CPU time than plain runc, ms",
            more("wrapper, LS", PLAIN, cpu),
            2.0,
            1,
        ),
        Goal::at_most("one createRuntime, LS: CPU time, times that of a no-op", ratio("LS", NOOP), 1.5, 2),
        Goal::at_most(
            "one createRuntime among 1000 containers: CPU time, times that among 1",
            ratio("LS, 1000 containers", "LS, 1 containers"),
            1.1,
            2,
        ),
        Goal::at_most(
            "a shim's start, sandbox of a Kata pod, LS: more wall time than the shim alone, ms",
            Figure::difference(&named(&shims, shim::SANDBOX).of(wall), &named(&shims, shim::ALONE).of(wall)),
            3.0,
            1,
        ),
    ];
    Section {
        name: "start",
        title: "What a container start costs",
        what: format!(
            "runc create + start + delete of a small container, all processes counted, {rounds} rounds with the arms in random order. \
             Medians [95 % interval]; differences and ratios are of arms of one round."
        ),
        tables: vec![
            table("Whole starts, hooks against hooks that do nothing", &whole, NOOP_HOOKS, 1.0, "ms"),
            table(
                "Whole starts, wrapper against a wrapper that does nothing",
                &whole,
                NOOP_WRAPPER,
                1.0,
                "ms",
            ),
            table("One createRuntime by itself, among so many containers", &direct, NOOP, 1e3, "µs"),
            table(
                "Starts at once: wall time until all have started, CPU time of one",
                &at_once,
                "",
                1.0,
                "ms",
            ),
            table("One start of a Kata shim", &shims, shim::CHEAPEST, 1.0, "ms"),
        ],
        goals,
        doubts,
        plots: plots(&whole, &direct, &at_once),
        json: json!({
            "rounds": rounds, "seed": dice.seed, "acts": acts, "placed": placed, "hook_memory_kib": memory_kib,
            "hook": program("plimsoll-hook"), "wrapper": program("plimsoll-runtime"),
            "whole": series(&whole, NOOP_HOOKS), "whole_against_wrapper": series(&whole, NOOP_WRAPPER),
            "whole_against_runc": series(&whole, PLAIN),
            "direct": series(&direct, NOOP), "at_once": series(&at_once, ""),
            "shim": series(&shims, shim::CHEAPEST), "machines": machines,
        }),
    }
}

/// A container as kubelet makes one, with a limit, and with nothing that costs time and tells nothing here.
fn container(sandbox: &Sandbox, id: &str, class: Option<&str>) -> Bundle {
    let bundle = sandbox
        .bundle(id)
        .args(&["/bin/true"])
        .without_mount("/host/cgroup")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50000)
        .resource("cpu", "period", 100_000);
    match class {
        Some(class) => bundle.annotation("koordinator.sh/qosClass", class),
        None => bundle,
    }
}

/// A container in a pod that is idle already; none where the kernel has no `cpu.idle` (before 5.15).
fn idle_pod(sandbox: &Sandbox) -> Option<Bundle> {
    let bundle = container(sandbox, "idle", None);
    cgroup::make(bundle.pod_group());
    cgroup::write(bundle.pod_group(), "cpu.idle", "1").is_ok().then_some(bundle)
}

/// Whole container starts, one at a time.
fn whole(
    plain: &Sandbox,
    exec: &Sandbox,
    wrapped: &Sandbox,
    many: &[(usize, Sandbox)],
    rounds: usize,
    dice: &mut Dice,
) -> Vec<Series> {
    let noop = || Hook::new(&Helper::Noop.path());
    let stages = ["createRuntime", "poststart", "poststop"];
    let noop_hooks =
        stages.into_iter().fold(container(plain, "noop", Some("LS")), |b, stage| b.hook(stage, noop()));
    let hooks = |id, class| container(plain, id, class).plimsoll_hooks(plain);
    let mut arms = vec![
        (PLAIN.to_owned(), plain, container(plain, "plain", Some("LS"))),
        (NOOP_HOOKS.to_owned(), plain, noop_hooks),
        ("hooks, LS".to_owned(), plain, hooks("hooks-ls", Some("LS"))),
        ("hooks, BE".to_owned(), plain, hooks("hooks-be", Some("BE"))),
        ("hooks, asks for nothing".to_owned(), plain, hooks("hooks-none", None)),
        (NOOP_WRAPPER.to_owned(), exec, container(exec, "exec", Some("LS")).hook("createRuntime", noop())),
        ("wrapper, LS".to_owned(), wrapped, container(wrapped, "ls", Some("LS"))),
        ("wrapper, BE".to_owned(), wrapped, container(wrapped, "be", Some("BE"))),
        ("wrapper, asks for nothing".to_owned(), wrapped, container(wrapped, "none", None)),
    ];
    if let Some(bundle) = idle_pod(plain) {
        arms.insert(1, (IDLE_POD.to_owned(), plain, bundle));
    }
    for (n, node) in many {
        arms.push((format!("wrapper, LS, {n} containers"), node, container(node, "many", Some("LS"))));
    }
    let arms: Vec<_> =
        arms.into_iter().map(|(name, sandbox, bundle)| (name, sandbox, vec![bundle])).collect();
    interleaved(&arms, rounds, dice)
}

/// Many starts at once, through the wrapper that does nothing and through ours.
fn at_once(exec: &Sandbox, wrapped: &Sandbox, rounds: usize, dice: &mut Dice) -> Vec<Series> {
    let mut arms = Vec::new();
    for n in AT_ONCE {
        let noop = |i| {
            let hook = Hook::new(&Helper::Noop.path());
            container(exec, &format!("once-{n}-{i}"), Some("LS")).hook("createRuntime", hook)
        };
        let ours = |i| container(wrapped, &format!("once-{n}-{i}"), Some("LS"));
        arms.push((format!("no-op, {n}"), exec, (0..n).map(noop).collect()));
        arms.push((format!("Plimsoll, {n}"), wrapped, (0..n).map(ours).collect()));
    }
    interleaved(&arms, rounds, dice)
}

/// Whether the container's files differ with and without the hook: a hook that does nothing is cheap.
fn acts(sandbox: &Sandbox) -> bool {
    let bundle = sandbox
        .bundle("acts")
        .annotation("koordinator.sh/qosClass", "LS")
        .resource("cpu", "quota", 50000)
        .resource("cpu", "period", 100_000);
    let without = sandbox.run_probe(&bundle);
    let with = sandbox.run_probe(&bundle.plimsoll_hooks(sandbox));
    without["files"] != with["files"] || without["cgroup"] != with["cgroup"]
}

fn named<'a>(all: &'a [Series], name: &str) -> &'a Series {
    all.iter().find(|series| series.name == name).unwrap()
}

/// The arm that another one is compared with: the one of that name, or the one right before it.
fn base<'a>(all: &'a [Series], n: usize, name: &str) -> &'a Series {
    if name.is_empty() { &all[n - n % 2] } else { named(all, name) }
}

/// Arms under each other, each compared with `against`, or with the one of its pair; `scale` of these units are a ms.
fn table(title: &str, all: &[Series], against: &str, scale: f64, unit: &str) -> Table {
    let row = |(n, arm): (usize, &Series)| {
        let base = base(all, n, against);
        let (cpu, wall) = (|s: &Sample| s.cpu_ms * scale, |s: &Sample| s.wall_ms * scale);
        let decimals = if scale > 1.0 { 0 } else { 2 };
        vec![
            arm.name.clone(),
            Figure::of(arm.of(cpu)).text(decimals),
            Figure::difference(&arm.of(cpu), &base.of(cpu)).text(decimals),
            Figure::ratio(&arm.of(cpu), &base.of(cpu)).text(2),
            Figure::of(arm.of(wall)).text(decimals),
            Figure::difference(&arm.of(wall), &base.of(wall)).text(decimals),
        ]
    };
    let against = if against.is_empty() { "its no-op" } else { against };
    Table {
        title: format!("{title} ({unit}; against: {against})"),
        head: vec!["arm", "CPU time", "more CPU", "CPU ratio", "wall time", "more wall"],
        rows: all.iter().enumerate().map(row).collect(),
    }
}

fn series(all: &[Series], against: &str) -> Value {
    let row = |(n, arm): (usize, &Series)| {
        let base = base(all, n, against);
        let (cpu, wall) = (|s: &Sample| s.cpu_ms, |s: &Sample| s.wall_ms);
        json!({
            "arm": arm.name, "against": base.name, "samples": arm.samples.len(),
            "cpu_ms": Figure::of(arm.of(cpu)).json(), "wall_ms": Figure::of(arm.of(wall)).json(),
            "more_cpu_ms": Figure::difference(&arm.of(cpu), &base.of(cpu)).json(),
            "more_wall_ms": Figure::difference(&arm.of(wall), &base.of(wall)).json(),
            "cpu_ratio": Figure::ratio(&arm.of(cpu), &base.of(cpu)).json(),
        })
    };
    all.iter().enumerate().map(row).collect()
}

fn plots(whole: &[Series], direct: &[Series], at_once: &[Series]) -> Vec<(&'static str, String)> {
    let panel = |title: &str, all: &[Series], get: fn(&Sample) -> f64| Panel {
        title: title.to_owned(),
        values: all.iter().map(|arm| arm.of(get)).collect(),
        goal: None,
        logarithmic: false,
    };
    let rows = |all: &[Series]| {
        let colour = |name: &str| if name.starts_with("runc") || name.starts_with("no-op") { 4 } else { 0 };
        all.iter().map(|arm| (arm.name.clone(), colour(&arm.name))).collect::<Vec<_>>()
    };
    let both = |all: &[Series]| {
        panels(
            &rows(all),
            &[panel("CPU time, ms", all, |s| s.cpu_ms), panel("wall time, ms", all, |s| s.wall_ms)],
        )
    };
    let line = |name: &str, colour, first: usize| {
        let points = AT_ONCE.iter().zip(at_once.iter().skip(first).step_by(2));
        let points = points.map(|(n, arm)| (*n as f64, Figure::of(arm.of(|s| s.wall_ms)).median)).collect();
        (name.to_owned(), colour, points)
    };
    let once = lines(
        ["Containers that start at once", "how many", "wall time until all have started, ms"],
        &[line("no-op wrapper, no-op hook", 4, 0), line("Plimsoll, LS", 0, 1)],
    );
    vec![("start", both(whole)), ("start-hook", both(direct)), ("start-at-once", once)]
}

/// What is measured: its size, and whether it is static.
fn program(name: &str) -> Value {
    let elf = fs::read(dist(name)).unwrap();
    json!({"name": name, "bytes": elf.len(), "static": !wants_loader(&elf)})
}

/// Whether a program needs another to start: a script, or a 64-bit little-endian ELF file with a `PT_INTERP` header.
fn wants_loader(elf: &[u8]) -> bool {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return true;
    }
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|n| number(table + n * size, 4) == 3)
}
