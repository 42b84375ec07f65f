//! The checks that a pod's VM has to pass, whoever made it: the stand-in or a real Kata.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plimsoll::kernel::control::{Controller, Knob, Version};
use plimsoll::plan::{Level, Write};
use plimsoll::record::Record;

use crate::common::Sandbox;
use crate::common::cgroup;
use crate::common::invariants::store;
use crate::stand_in::journal::{Entry, Thread, Values};

/// The record of a sandbox's VM, which holds the plan that was applied.
#[track_caller]
pub fn record(sandbox: &Sandbox, id: &str) -> Record {
    store(sandbox)
        .load(&id.parse().unwrap())
        .unwrap()
        .unwrap_or_else(|| panic!("no record of {id}; the log says:\n{}", sandbox.log()))
}

/// Whether a write is of who is preferred to whom.
fn is_identity(write: &Write) -> bool {
    use Knob::{BvtWarp, Expel, Idle, Offline, Priority, QosLevel};
    matches!(write.knob, BvtWarp | Priority | Expel | QosLevel | Offline | Idle)
}

/// Whether a write can precede the guest's first instruction: a VMM with an overhead group boots in that, which Kata
/// makes itself right before, outside the pod. And a low identity is held back.
pub fn is_early(record: &Record, write: &Write) -> bool {
    write.level != Level::Overhead && !(is_low(record) && is_identity(write))
}

/// Whether a plan has a value for one that is held back until the VM has answered.
fn is_low(record: &Record) -> bool {
    record.treatment.identity.is_some_and(|identity| identity < 0)
}

/// The folders of a thread's groups, and of all above them, for the controllers that count.
fn chain(thread: &Thread) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for controller in [Controller::Cpu, Controller::Cpuset] {
        let group = thread.groups.get(controller.name()).or_else(|| thread.groups.get(""));
        let mut dir = cgroup::dir(controller.name(), group.map_or("/", String::as_str));
        let top = cgroup::dir(controller.name(), "/");
        while dir != top && dir.starts_with(&top) {
            all.insert(dir.clone());
            dir.pop();
        }
    }
    all
}

/// The group that says which CPUs a thread has.
pub fn cpuset(thread: &Thread) -> &str {
    thread.groups.get("cpuset").or_else(|| thread.groups.get("")).map_or("/", String::as_str)
}

/// What is not as planned for the threads of a step, a line each: a value of a group one of them is in, or a thread that
/// no group of the plan covers.
pub fn differences(record: &Record, entry: &Entry, counts: impl Fn(&Write) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if entry.threads.is_empty() {
        wrong.push(format!("no thread was seen at {:?}", entry.step));
    }
    let chains: BTreeSet<PathBuf> = entry.threads.iter().flat_map(chain).collect();
    let planned = record.writes.iter().map(|done| &done.write).filter(|write| counts(write));
    for write in planned.filter(|write| chains.contains(&write.group.dir())) {
        if let Some(why) = difference(write, &entry.values) {
            wrong.push(format!("{:?}: {why}", entry.step));
        }
    }
    let own = |level: Level| !matches!(level, Level::KubeQos | Level::Tree | Level::Neighbour);
    let covers: BTreeSet<PathBuf> = record
        .writes
        .iter()
        .filter(|done| own(done.write.level))
        .map(|done| done.write.group.dir())
        .chain([record.groups.cpu.dir()])
        .chain(record.groups.cpu.parent().map(|pod| pod.dir()))
        // Where no value was planned for it, it is not in the record either.
        .chain([cgroup::dir("cpu", &format!("/kata_overhead/{}", record.who.id))])
        .chain(record.vm.iter().flat_map(|vm| &vm.overhead).map(|overhead| overhead.cpu.dir()))
        .collect();
    for thread in &entry.threads {
        if chain(thread).is_disjoint(&covers) {
            wrong.push(format!(
                "{:?}: thread {} ({}) is in {:?}",
                entry.step, thread.tid, thread.comm, thread.groups
            ));
        }
    }
    wrong
}

/// What is wrong with one value.
fn difference(write: &Write, values: &Values) -> Option<String> {
    let name = write.knob.file(write.group.version)?;
    let file = write.group.dir().join(name);
    let files = values.get(&write.group.dir());
    let Some(text) = files.and_then(|files| files.get(name)) else {
        return Some(format!("{} could not be read", file.display()));
    };
    // A group of v2 that nobody gave CPUs has those of the one above it.
    let is_inherited = write.knob == Knob::Cpus && text.is_empty();
    let effective = files.and_then(|files| files.get("cpuset.cpus.effective")).filter(|_| is_inherited);
    let text = effective.unwrap_or(text);
    let found = write.knob.parse(write.group.version, text);
    let holds = found.as_ref().is_ok_and(|found| write.knob.reads_back_as(&write.value, found));
    (!holds).then(|| format!("{} is {text:?} and was planned as {}", file.display(), write.value))
}

/// What a group's file said at a step, under v1's name.
#[track_caller]
pub fn value(entry: &Entry, group: &str, name: &str) -> String {
    let (controller, _) = name.split_once('.').unwrap();
    let dir: &Path = &cgroup::dir(controller, group);
    let files =
        entry.values.get(dir).unwrap_or_else(|| panic!("{} was not seen at {:?}", dir.display(), entry.step));
    let text = files.get(cgroup::here(name)).unwrap_or_else(|| panic!("{name} of {group} was not seen"));
    cgroup::as_v1(name, text)
}

/// The plan as it was before anything was written against the plan as it was applied: they are one.
#[track_caller]
pub fn went_as_planned(record: &Record) {
    assert_eq!(record.errors, Vec::<String>::new());
    for done in &record.writes {
        let version = done.write.group.version;
        assert!(version == Version::V1 || version == Version::V2);
        assert!(done.holds(), "{:?} was planned and {:?} is there", done.write, done.after);
    }
}
