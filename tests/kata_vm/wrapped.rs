//! Pods over CRI, Plimsoll's shim in front of the stand-in: what is there before the guest's first instruction, and what
//! stays.

use crate::checks::{self, differences, is_early, record, value};
use crate::common::invariants::{nothing_left, records};
use crate::common::{Ran, cgroup};
use crate::host::{Kata, Layout};
use crate::kit::cri::LinuxContainerResources;
use crate::kit::{Pod, QOS, Suite, cpu};
use crate::stand_in::journal::{Entry, Step};

const STATUS: &str = "scheduling.koordinator.sh/resource-status";

const fn go(flavour: &'static str, sandbox_cgroup_only: bool) -> Layout {
    Layout { flavour, sandbox_cgroup_only }
}

/// The one CPU that [`STATUS`] gives to pods with CPUs of their own.
const OWN: &str = "1";

fn annotations(class: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut list = vec![(QOS, class)];
    if class.starts_with("LS") && class.len() > 2 {
        list.push((STATUS, r#"{"cpuset":"1"}"#));
    }
    list
}

fn qos(class: &str) -> &'static str {
    match class {
        "BE" => "besteffort",
        "LS" => "burstable",
        _ => "",
    }
}

#[track_caller]
fn nothing(wrong: &[String], layout: Layout, class: &str) {
    assert!(wrong.is_empty(), "{class} with {layout:?}: {wrong:#?}");
}

fn status(kata: &Kata) -> Ran {
    kata.engine.node.run("plimsoll", &["status", "--exit-code"])
}

/// A pod of a class from its start to its end.
fn lives_as_planned(kata: &Kata, layout: Layout, class: &'static str) {
    let name = format!("{}-{}", layout.handler().replace('.', ""), class.to_lowercase());
    let quota = if class == "LS" { 100_000 } else { -1 };
    let pod = kata.pod(layout, &name, qos(class), quota, &annotations(class));
    let id = pod.sandbox.clone();
    let main = pod.start(&kata.engine, "main", cpu(512, -1)).unwrap();
    let plan = record(&kata.engine.node.sandbox, &id);
    checks::went_as_planned(&plan);

    let born = kata.step(Step::VmmBorn, &id);
    nothing(&differences(&plan, &born, |write| is_early(&plan, write)), layout, class);
    by_hand_before(&born, layout, class, &pod);

    // The guest answers, its pod's other containers come: the plan holds in whole.
    let started = kata.step(Step::Started, &main);
    nothing(&differences(&plan, &started, |_| true), layout, class);
    by_hand_after(&started, layout, class, &pod);

    // Kata writes the CPUs anew whenever a container comes, changes or goes.
    let other = pod.start(&kata.engine, "other", cpu(256, -1)).unwrap();
    let update = LinuxContainerResources { cpu_shares: 1024, ..cpu(1024, -1) };
    kata.engine.cri.update_container_resources(&main, &update).unwrap();
    for entry in [kata.step(Step::Started, &other), kata.step(Step::Updated, &main)] {
        nothing(&differences(&plan, &entry, |_| true), layout, class);
    }
    kata.engine.cri.stop_container(&other, 0).unwrap();
    kata.engine.cri.remove_container(&other).unwrap();
    let now = Entry::new(Step::Deleted, &id, "").with_threads(vmm(&kata.step(Step::VmmBorn, &id), kata), &[]);
    nothing(&differences(&plan, &now, |_| true), layout, class);
    status(kata).ok();
    pod.remove(&kata.engine);
    nothing_left(&kata.engine.node.sandbox);
}

/// The VMM's number here: the journal has that of its own pid namespace.
fn vmm(born: &Entry, kata: &Kata) -> u32 {
    let inner = born.threads.iter().map(|thread| thread.tid).min().unwrap();
    kata.engine.node.pid_here(inner)
}

/// What the plan must have been, said once more by hand.
fn by_hand_before(born: &Entry, layout: Layout, class: &str, pod: &Pod) {
    let own = layout.sandbox_group(pod.group(), &pod.sandbox);
    match class {
        "LS" if layout.sandbox_cgroup_only => {
            assert_eq!(value(born, pod.group(), "cpu.cfs_burst_us"), "100000");
            assert_eq!(value(born, pod.group(), "cpu.cfs_quota_us"), "100000");
        }
        "LSR" | "LSE" if layout.sandbox_cgroup_only => assert_eq!(value(born, &own, "cpuset.cpus"), OWN),
        "BE" if layout.sandbox_cgroup_only => assert_eq!(value(born, pod.group(), "cpu.idle"), "0"),
        _ => {}
    }
}

fn by_hand_after(started: &Entry, layout: Layout, class: &str, pod: &Pod) {
    let own = layout.sandbox_group(pod.group(), &pod.sandbox);
    match class {
        "LS" => assert_eq!(value(started, pod.group(), "cpu.cfs_burst_us"), "100000"),
        "LSR" | "LSE" => assert_eq!(value(started, &own, "cpuset.cpus"), OWN),
        _ => assert_eq!(value(started, pod.group(), "cpu.idle"), "1"),
    }
}

pub fn before_the_first_instruction_with_all_in_the_pod() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata", "");
    for class in ["LS", "LSR", "LSE", "BE"] {
        lives_as_planned(&kata, go("go-3.2", true), class);
    }
    lives_as_planned(&kata, go("go-3.5", true), "BE");
    for class in ["LS", "LSR", "BE"] {
        lives_as_planned(&kata, go("runtime-rs", true), class);
    }
}

pub fn before_the_first_instruction_with_an_overhead_group() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata-overhead", "");
    for class in ["LS", "LSR", "BE"] {
        lives_as_planned(&kata, go("go-3.2", false), class);
    }
    lives_as_planned(&kata, go("go-3.5", false), "LSR");
    for class in ["LSR", "BE"] {
        lives_as_planned(&kata, go("runtime-rs", false), class);
    }
}

pub fn every_containerd_passes_the_wrapper() {
    for suite in [Suite::Trixie, Suite::Forky] {
        let kata = Kata::wrapped(suite, "kata-suites", "");
        lives_as_planned(&kata, go("go-3.5", true), "LSR");
    }
}

/// Best effort may be low before the VM is there, if that is wanted.
pub fn low_identity_before_the_boot_where_it_is_told_so() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata-early", "[shim]\nlow_identity = \"before-boot\"\n");
    let layout = go("go-3.5", true);
    let pod = kata.pod(layout, "early", "besteffort", -1, &[(QOS, "BE")]);
    let born = kata.step(Step::VmmBorn, &pod.sandbox);
    assert_eq!(value(&born, pod.group(), "cpu.idle"), "1");
    pod.remove(&kata.engine);
    nothing_left(&kata.engine.node.sandbox);
}

/// A pod that asks for nothing is as it is without Plimsoll.
pub fn who_asks_for_nothing_is_left_alone() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata-plain", "");
    let layout = go("go-3.5", true);
    let pod = kata.pod(layout, "plain", "burstable", 100_000, &[]);
    pod.start(&kata.engine, "main", cpu(512, 50_000)).unwrap();
    let journal = kata.journal();
    assert!(journal.iter().all(|entry| entry.step != Some(Step::Hook)), "hooks ran");
    assert_eq!(cgroup::read(pod.group(), "cpu.cfs_burst_us").as_deref(), Some("0"));
    assert!(records(&kata.engine.node.sandbox).is_empty());
    assert_eq!(kata.engine.node.sandbox.log(), "");
    pod.remove(&kata.engine);
    nothing_left(&kata.engine.node.sandbox);
}
