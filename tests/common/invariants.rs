//! What must hold on a node whenever no hook is running, whatever was cut off before: one function, used by every test
//! that breaks something.
//!
//! It reads the kernel's files and Plimsoll's folder itself and computes the pools anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use plimsoll::cpuset::CpuSet;
use plimsoll::hook::Hook;
use plimsoll::hook::repair::Repaired;
use plimsoll::kernel::fs::Roots;
use plimsoll::policy::config::Config;
use plimsoll::policy::treatment::CpusRule;
use plimsoll::qos::QosClass;
use plimsoll::record::{Claim, Phase, Record, Store};
use walk::groups_below;

use super::{Sandbox, cgroup};

/// The files of a group that must be as they were once no treated container is in it.
const SHARED: [&str; 4] = ["cpu.idle", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_burst_us"];

/// The machine's online CPUs.
pub fn online() -> CpuSet {
    fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().parse().unwrap()
}

/// The sandbox's records folder.
pub fn store(sandbox: &Sandbox) -> Store {
    Store::at(sandbox.run_dir())
}

/// The hook as a library, with the sandbox's config.
pub fn library(sandbox: &Sandbox) -> Hook {
    Hook::new(Roots::default(), Config::load(&sandbox.config_path()).unwrap()).unwrap()
}

/// The claims, by container.
pub fn claims(sandbox: &Sandbox) -> Vec<(String, Claim)> {
    let claims = store(sandbox).claims().unwrap();
    claims.into_iter().map(|(id, claim)| (id.to_string(), claim.unwrap())).collect()
}

/// The records that can be read, by container.
pub fn records(sandbox: &Sandbox) -> Vec<(String, Record)> {
    let records = store(sandbox).records().unwrap();
    records.into_iter().filter_map(|(id, record)| Some((id.to_string(), record.ok()?))).collect()
}

/// What groups that outlive containers say before Plimsoll touches them.
#[derive(Clone, Debug, Default)]
pub struct Before(BTreeMap<String, Vec<Option<String>>>);

impl Before {
    /// Reads these groups.
    pub fn of(groups: &[&str]) -> Self {
        Self(groups.iter().map(|group| ((*group).to_owned(), values(group))).collect())
    }
}

/// Every control file of a group in every hierarchy, but for those that count or change by themselves (`tasks`, `threads`: the
/// runtime's own init makes threads as it likes).
pub fn frozen(group: &str) -> BTreeMap<String, String> {
    const MOVING: [&str; 13] = [
        "stat", "usage", "current", "pressure", "slabinfo", "failcnt", "events", "peak", "io_", "throttle",
        "tasks", "threads", "prioidx",
    ];
    let mut files = BTreeMap::new();
    for hierarchy in cgroup::hierarchies() {
        let dir = hierarchy.dir(group);
        for name in names(&dir).into_iter().filter(|name| !MOVING.iter().any(|word| name.contains(word))) {
            // Some can only be written.
            if let Ok(text) = fs::read(dir.join(&name)) {
                files.insert(
                    dir.join(&name).display().to_string(),
                    String::from_utf8_lossy(&text).into_owned(),
                );
            }
        }
    }
    assert!(!files.is_empty(), "{group} is not there");
    files
}

fn values(group: &str) -> Vec<Option<String>> {
    SHARED.iter().map(|name| cgroup::read(group, name)).collect()
}

/// Runs `repair`, and then again: the second time there must be nothing to do. Returns what the first did.
#[track_caller]
pub fn repaired(sandbox: &Sandbox) -> Repaired {
    let hook = library(sandbox);
    let first = hook.repair().unwrap();
    assert!(first.errors.is_empty(), "repair: {first:#?}");
    let second = hook.repair().unwrap();
    assert_eq!(second, Repaired::default(), "the second repair, after {first:#?}");
    first
}

/// Panics with all that does not hold.
#[track_caller]
pub fn hold(sandbox: &Sandbox) {
    hold_since(sandbox, &Before::default());
}

/// The same, and groups without treated containers are as they were.
#[track_caller]
pub fn hold_since(sandbox: &Sandbox, before: &Before) {
    let broken = broken(sandbox, before);
    assert!(broken.is_empty(), "broken invariants: {broken:#?}\nlog:\n{}", sandbox.log());
}

/// Panics unless nothing of Plimsoll's is there any more but the log and the lock.
#[track_caller]
pub fn nothing_left(sandbox: &Sandbox) {
    let mut left: Vec<String> = Vec::new();
    for folder in ["containers", "exclusive", "groups"] {
        left.extend(
            names(&sandbox.run_dir().join(folder)).into_iter().map(|name| format!("{folder}/{name}")),
        );
    }
    left.extend(in_tree(sandbox));
    assert!(left.is_empty(), "left behind: {left:#?}\nlog:\n{}", sandbox.log());
}

/// All that does not hold, a line each.
pub fn broken(sandbox: &Sandbox, before: &Before) -> Vec<String> {
    let mut broken = Vec::new();
    files(sandbox, &mut broken);
    let mut lse = CpuSet::new();
    let mut lsr = CpuSet::new();
    owners(sandbox, &mut lse, &mut lsr, &mut broken);
    let records = records(sandbox);
    for (id, record) in &records {
        if !record.is_live() {
            broken.push(format!("record of {id}, which is gone"));
        }
        if record.phase == Phase::Applying {
            broken.push(format!("{id} is still being treated"));
        }
        pool(id, record, &lse, &lsr, &mut broken);
    }
    let is_treated = |group: &str| {
        let name = group.rsplit('/').next().unwrap_or_default();
        records.iter().any(|(id, _)| id == name)
    };
    for (group, then) in &before.0 {
        if cgroup::dir("cpu", group).exists() && !children(group).iter().any(|child| is_treated(child)) {
            let now = values(group);
            if now != *then {
                broken.push(format!("{group}: {SHARED:?} were {then:?} and are {now:?}"));
            }
        }
    }
    for journal in store(sandbox).journals().unwrap() {
        if !journal.group.exists() {
            broken.push(format!("journal of {}, which is gone", journal.group.path));
        } else if !groups_below(&journal.group.path).iter().any(|below| is_treated(below)) {
            broken.push(format!("journal of {}, where nobody is treated", journal.group.path));
        }
    }
    tree(sandbox, &is_treated, &mut broken);
    foreign_writes(sandbox, &is_treated, &mut broken);
    broken
}

/// No half-written file, and every file can be read.
fn files(sandbox: &Sandbox, broken: &mut Vec<String>) {
    for folder in ["containers", "exclusive", "groups"] {
        for name in names(&sandbox.run_dir().join(folder)) {
            let text = fs::read(sandbox.run_dir().join(folder).join(&name)).unwrap();
            if name.starts_with('.')
                || name.ends_with(".applying")
                || serde_json::from_slice::<serde_json::Value>(&text).is_err()
            {
                broken.push(format!("half-written file {folder}/{name}"));
            }
        }
    }
    for (id, record) in store(sandbox).records().unwrap() {
        if let Err(error) = record {
            broken.push(format!("record of {id}: {error}"));
        }
    }
}

/// Claims are those of live containers with a record and exactly those CPUs, and no CPU has two owners.
fn owners(sandbox: &Sandbox, lse: &mut CpuSet, lsr: &mut CpuSet, broken: &mut Vec<String>) {
    let mut owners: BTreeMap<String, CpuSet> = BTreeMap::new();
    for (id, claim) in store(sandbox).claims().unwrap() {
        let claim = match claim {
            Ok(claim) => claim,
            Err(error) => {
                broken.push(format!("claim of {id}: {error}"));
                continue;
            }
        };
        if !claim.is_live() {
            broken.push(format!("claim of {id}, which is gone"));
            continue;
        }
        match store(sandbox).load(&id) {
            Ok(Some(record)) => {
                let has: Option<CpuSet> = record
                    .groups
                    .cpuset
                    .and_then(|group| cgroup::read(&group.path, "cpuset.cpus"))
                    .and_then(|text| text.parse().ok());
                if has.as_ref() != Some(&claim.cpus) {
                    broken.push(format!("{id} owns {} and has {has:?}", claim.cpus));
                }
            }
            _ => {
                let has = cgroup::read(&claim.group.path, "cpuset.cpus");
                if has != Some(claim.cpus.to_string()) {
                    broken.push(format!("claim of {id}, which has no record and {has:?}"));
                }
            }
        }
        let set = if claim.class == QosClass::Lse { &mut *lse } else { &mut *lsr };
        *set = set.union(&claim.cpus);
        let own = owners.entry(claim.owner).or_default();
        *own = own.union(&claim.cpus);
    }
    let all: Vec<_> = owners.iter().collect();
    for (n, (one, cpus)) in all.iter().enumerate() {
        for (other, others) in &all[n + 1..] {
            if !cpus.is_disjoint(others) {
                broken.push(format!("{one} owns {cpus} and {other} owns {others}"));
            }
        }
    }
}

/// Who shares has all that nobody owns of what it was given, and keeps some where nothing is left.
fn pool(id: &str, record: &Record, lse: &CpuSet, lsr: &CpuSet, broken: &mut Vec<String>) {
    let taken = match record.treatment.cpus {
        CpusRule::SharedPool => lse.union(lsr),
        CpusRule::BestEffortPool => lse.clone(),
        _ => return,
    };
    let (Some(allowed), Some(group)) = (&record.allowed, &record.groups.cpuset) else { return };
    let pool = allowed.intersection(&online()).difference(&taken);
    let has: CpuSet =
        cgroup::read(&group.path, "cpuset.cpus").and_then(|text| text.parse().ok()).unwrap_or_default();
    if !pool.is_empty() && has != pool {
        broken.push(format!("{id} ({}) has {has}, its pool is {pool}", record.treatment.class));
    }
}

/// The groups of pods and containers in the class tree: those of the classes stay.
fn in_tree(sandbox: &Sandbox) -> impl Iterator<Item = String> {
    let tree = sandbox.class_tree();
    groups_below(&tree).into_iter().filter(move |group| group[tree.len()..].matches('/').count() > 1)
}

/// No group of the class tree is empty but for those around a treated container.
fn tree(sandbox: &Sandbox, is_treated: &dyn Fn(&str) -> bool, broken: &mut Vec<String>) {
    for controller in ["cpu", "cpuset"] {
        for group in in_tree(sandbox) {
            let dir = cgroup::dir(controller, &group);
            if dir.exists()
                && walk::folders(&dir).is_empty()
                && cgroup::procs(controller, &group).is_empty()
                && !is_treated(&group)
            {
                broken.push(format!("empty {controller} group {group}"));
            }
        }
    }
}

/// A stranger can lower the quota and set the shares of every group that has no treated container in it.
fn foreign_writes(sandbox: &Sandbox, is_treated: &dyn Fn(&str) -> bool, broken: &mut Vec<String>) {
    let tree = sandbox.class_tree();
    for group in groups_below(&sandbox.group("")) {
        let inside = groups_below(&group);
        if group.starts_with(&tree) || inside.iter().any(|group| is_treated(group)) {
            continue;
        }
        let read = |name: &str| cgroup::read(&group, name);
        let (Some(quota), Some(shares)) = (read("cpu.cfs_quota_us"), read("cpu.shares")) else { continue };
        let lower = match quota.parse::<i64>() {
            Ok(quota) if quota >= 2_000 => quota - 1_000,
            _ => most_below(&group),
        };
        for (name, value, back) in
            [("cpu.cfs_quota_us", lower.to_string(), quota), ("cpu.shares", "77".to_owned(), shares)]
        {
            for value in [&value, &back] {
                match cgroup::write(&group, name, value) {
                    Ok(()) => {}
                    // It vanishes while others' tests run; that is not ours to judge.
                    Err(_) if cgroup::read(&group, name).is_none() => {}
                    Err(e) => broken.push(format!("a foreign write of {value} to {name} of {group}: {e}")),
                }
            }
        }
    }
}

/// The highest quota that a group may have: on v1 it must fit into those above it. (Periods are all the same here.)
fn most_below(group: &str) -> i64 {
    let above = std::iter::successors(group.rsplit_once('/'), |(parent, _)| parent.rsplit_once('/'));
    let quotas =
        above.filter_map(|(parent, _)| cgroup::read(parent, "cpu.cfs_quota_us")?.parse::<i64>().ok());
    quotas.filter(|quota| *quota > 0).min().unwrap_or(100_000_000)
}

fn children(group: &str) -> Vec<String> {
    let dir = cgroup::dir("cpu", group);
    walk::folders(&dir).into_iter().map(|name| format!("{group}/{name}")).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

mod walk {
    use std::fs;
    use std::path::Path;

    use super::cgroup;

    /// The groups in a group's folder.
    pub(super) fn folders(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// A group and all below it, of the `cpu` or `cpuset` hierarchy; none where it is not there.
    pub(super) fn groups_below(group: &str) -> Vec<String> {
        let mut found = Vec::new();
        for controller in ["cpu", "cpuset"] {
            let mut todo = vec![group.to_owned()];
            while let Some(group) = todo.pop() {
                let dir = cgroup::dir(controller, &group);
                if dir.exists() {
                    todo.extend(folders(&dir).into_iter().map(|name| format!("{group}/{name}")));
                    if !found.contains(&group) {
                        found.push(group);
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }
}
