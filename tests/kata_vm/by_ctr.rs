//! Pods by `ctr`, with every check that a real Kata can be put to. The stand-in passes them as well, in each layout; in
//! the lab's guests also with groups by systemd and on v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::checks::{self, differences, is_early, record, value};
use crate::common::invariants::{nothing_left, records};
use crate::common::wait_for;
use crate::direct::{Asked, Direct};
use crate::guest;
use crate::host::{Layout, configuration, place_this_program};
use crate::kit::QOS;
use crate::recorder::{Config, NAME};
use crate::stand_in::journal::{Entry, Step};

/// The one CPU that [`STATUS`] gives to pods with CPUs of their own.
const OWN: &str = "1";

const STATUS: &str = "scheduling.koordinator.sh/resource-status";

/// The stand-in in a folder of its own, the recorder before it.
#[derive(Debug)]
pub struct Placed {
    folder: TempDir,
    pub program: PathBuf,
    pub configuration: PathBuf,
    pub journal: PathBuf,
}

impl Placed {
    pub fn new(layout: Layout, accelerator: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("plimsoll-test-kata-shim").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (shim, program, journal) = (path("containerd-shim-kata-v2"), path(NAME), path("journal"));
        place_this_program(&shim);
        place_this_program(&program);
        Config { shim, journal: journal.clone() }.write(&program);
        guest::write_initrd(&path("initrd"));
        let accelerator =
            if accelerator.is_empty() { guest::accelerator(&path("initrd")) } else { accelerator };
        let text = configuration(layout, folder.path(), &journal, &[], accelerator);
        fs::write(path("configuration.toml"), text).unwrap();
        let configuration = path("configuration.toml");
        Self { folder, program, configuration, journal }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = fs::read_to_string(&self.journal).unwrap_or_default();
            for entry in journal.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
                eprintln!("{:?} {} {} {:?}", entry.step, entry.id, entry.what, entry.error);
            }
            eprintln!("in {}", self.folder.path().display());
        }
    }
}

/// What can be seen of which Kata it is, in its own state.
#[derive(Debug)]
struct Seen {
    runtime: &'static str,
    sandbox_group: String,
    overhead_group: String,
}

impl Seen {
    fn of(id: &str) -> Option<Self> {
        let load = |path: String| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(state) = load(format!("/run/vc/sbs/{id}/persist.json")) {
            return Some(Self {
                runtime: "Go",
                sandbox_group: text(&state["SandboxCgroupPath"]),
                overhead_group: text(&state["OverheadCgroupPath"]),
            });
        }
        let state = load(format!("/run/kata/{id}/state.json"))?;
        let cgroup = find(&state, "cgroup_state").cloned().unwrap_or_default();
        Some(Self {
            runtime: "runtime-rs",
            sandbox_group: text(&cgroup["path"]),
            overhead_group: text(&cgroup["overhead_path"]),
        })
    }
}

/// A key anywhere in a value.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|value| find(value, key))),
        _ => None,
    }
}

/// A pod of a class from its start to its end. The journal is the recorder's, and the stand-in's where it is that.
pub fn pod(machine: &Direct, journal: &Path, class: &'static str) {
    // Kata's overhead groups and systemd's units have one name each on a machine.
    let own = machine.sandbox.prefix().trim_start_matches("plimsoll-test-");
    let [sid, main, other] = ["s", "m", "o"].map(|name| format!("{name}-{class}-{own}").to_lowercase());
    let quota = if class == "LS" { 100_000 } else { -1 };
    let pod = machine.pod(&class.to_lowercase(), quota);
    let group = &pod.group;
    let mut annotations = vec![(QOS, class)];
    if class == "LSR" {
        // One CPU of its own.
        annotations.push((STATUS, r#"{"cpuset":"1"}"#));
    }
    let asked = |id, sandbox| Asked {
        id,
        sandbox,
        cgroups_path: pod.path_of(id),
        annotations: annotations.clone(),
        ..Asked::default()
    };
    machine.run(&asked(&sid, None)).ok();
    let seen = Seen::of(&sid);
    println!(
        "{class}: {}",
        seen.as_ref().map_or_else(
            || "which Kata it is could not be seen: neither runtime's state is in /run".to_owned(),
            |seen| format!(
                "runtime {}, sandbox_cgroup_only={}, {} {}",
                seen.runtime,
                seen.overhead_group.is_empty(),
                seen.sandbox_group,
                seen.overhead_group
            ),
        )
    );

    machine.run(&asked(&main, Some(&sid))).ok();
    let plan = record(&machine.sandbox, &sid);
    checks::went_as_planned(&plan);
    // Before Kata did anything, the pod's group said what it was to say.
    let text = fs::read_to_string(journal).unwrap();
    let entries: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let step = |step| entries.iter().rev().find(|entry| entry.step == Some(step) && entry.id == sid);
    let start = step(Step::ShimStarts).unwrap();
    if let Some(born) = step(Step::VmmBorn) {
        let wrong = differences(&plan, born, |write| is_early(&plan, write));
        assert!(wrong.is_empty(), "{class}, no vCPU had run: {wrong:#?}");
    }
    for done in &plan.writes {
        let dir = done.write.group.dir();
        let Some(files) = start.values.get(&dir).filter(|_| is_early(&plan, &done.write)) else {
            continue;
        };
        let Some(name) = done.write.knob.file(done.write.group.version) else { continue };
        let found = done.write.knob.parse(done.write.group.version, &files[name]).unwrap();
        assert!(
            done.write.knob.reads_back_as(&done.write.value, &found),
            "{class}: {} {name} was {found}",
            dir.display()
        );
    }
    if class == "LS" {
        assert_eq!(value(start, group, "cpu.cfs_burst_us"), "100000");
    }

    let check = |what: &str| {
        let now = machine.threads(&sid, Step::Started);
        let wrong = differences(&plan, &now, |_| true);
        assert!(wrong.is_empty(), "{class}, {what}: {wrong:#?}");
        if class == "LSR" {
            let cpus = now.threads.iter().map(|thread| value(&now, checks::cpuset(thread), "cpuset.cpus"));
            assert!(cpus.clone().any(|cpus| cpus == OWN), "{what}: {:?}", cpus.collect::<Vec<_>>());
        }
    };
    check("started");
    machine.run(&asked(&other, Some(&sid))).ok();
    check("a second container came");
    machine.remove(&other);
    check("it went");
    machine.remove(&main);
    machine.remove(&sid);
    machine.remove_pod(&pod);
    wait_for("Plimsoll to have forgotten the pod", || records(&machine.sandbox).is_empty().then_some(()));
    nothing_left(&machine.sandbox);
    println!("{class}: as planned, {} values", plan.writes.len());
}

/// The checks above with the stand-in in a layout.
fn stands_in(layout: Layout) {
    // Two at a time are too much for a guest that is emulated itself.
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let shim = Placed::new(layout, "");
    let machine = Direct::start("kata-ctr", &shim.program, Some(shim.configuration.clone()), "");
    for class in ["LS", "LSR", "BE"] {
        pod(&machine, &shim.journal, class);
    }
}

pub fn go_before_3_5() {
    stands_in(Layout { flavour: "go-3.2", sandbox_cgroup_only: true });
}

pub fn go_before_3_5_with_an_overhead_group() {
    stands_in(Layout { flavour: "go-3.2", sandbox_cgroup_only: false });
}

pub fn go_since_3_5() {
    stands_in(Layout { flavour: "go-3.5", sandbox_cgroup_only: true });
}

pub fn go_since_3_5_with_an_overhead_group() {
    stands_in(Layout { flavour: "go-3.5", sandbox_cgroup_only: false });
}

pub fn runtime_rs() {
    stands_in(Layout { flavour: "runtime-rs", sandbox_cgroup_only: true });
}

pub fn runtime_rs_with_an_overhead_group() {
    stands_in(Layout { flavour: "runtime-rs", sandbox_cgroup_only: false });
}

/// The pod's class is its sandbox's, whatever a container of it says; that it says so is told.
pub fn a_container_that_asks_for_another_class_gets_its_pods() {
    let shim = Placed::new(Layout { flavour: "go-3.5", sandbox_cgroup_only: true }, "tcg");
    let machine = Direct::start("kata-class", &shim.program, Some(shim.configuration.clone()), "");
    let pod = machine.pod("other", 100_000);
    let asked = |id, sandbox, class| Asked {
        id,
        sandbox,
        cgroups_path: pod.path_of(id),
        annotations: vec![(QOS, class)],
        ..Asked::default()
    };
    machine.run(&asked("sandbox", None, "LS")).ok();
    machine.run(&asked("second", Some("sandbox"), "BE")).ok();
    machine.run(&asked("third", Some("sandbox"), "LSR")).ok();
    let plan = record(&machine.sandbox, "sandbox");
    assert_eq!(plan.treatment.class.to_string(), "LS");
    let wrong = differences(&plan, &machine.threads("sandbox", Step::Started), |_| true);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let log = machine.sandbox.log();
    for id in ["second", "third"] {
        assert!(log.lines().any(|line| line.contains(id)), "{id} is not in the log:\n{log}");
    }
    for id in ["third", "second", "sandbox"] {
        machine.remove(id);
    }
    machine.remove_pod(&pod);
    nothing_left(&machine.sandbox);
}
