//! What the stand-in did, in order: a line of JSON for each step, written before the next is taken. Steps that concern
//! threads hold all threads of the VMM with their groups, and what the files of these groups and of all above them said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::groups;

/// The control files that are written down, where they are.
const FILES: [&str; 16] = [
    "cpu.bvt_warp_ns",
    "cpu.cfs_burst_us",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.offline",
    "cpu.priority",
    "cpu.qos_level",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.mems",
    "cgroup.type",
];

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Whoever starts the shim is about to: nothing of Kata's is there.
    ShimStarts,
    /// A bundle was read.
    SpecRead,
    /// A group was made.
    GroupMade,
    /// The shim went into a group.
    ShimJoined,
    /// The VMM and its vCPU threads are there; no vCPU has run yet.
    VmmBorn,
    /// The vCPUs were let run.
    GuestRuns,
    /// The guest's first program has answered.
    GuestAnswered,
    /// A hook ran, and how it ended.
    Hook,
    /// The CPUs of the sandbox's group were written.
    CpusWritten,
    /// vCPU threads were put into the sandbox's group.
    VcpusMoved,
    /// A container was created, started, updated, stopped, deleted.
    Created,
    Started,
    Updated,
    Stopped,
    Deleted,
    /// A group was removed, or could not be.
    GroupRemoved,
}

/// A thread of the VMM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thread {
    pub tid: u32,
    pub comm: String,
    pub is_vcpu: bool,
    /// By controller, `""` for v2.
    pub groups: BTreeMap<String, String>,
}

/// The folders of groups, and what the files in them said.
pub type Values = BTreeMap<PathBuf, BTreeMap<String, String>>;

/// A line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub step: Option<Step>,
    /// The container, or the sandbox's own.
    pub id: String,
    /// A group's path, a hook's stage, CPUs: what the step is about.
    pub what: String,
    /// How it ended, where it did not end well.
    pub error: Option<String>,
    pub threads: Vec<Thread>,
    pub values: Values,
}

impl Entry {
    pub fn new(step: Step, id: &str, what: impl Into<String>) -> Self {
        Self { step: Some(step), id: id.to_owned(), what: what.into(), ..Self::default() }
    }

    /// The same with the VMM's threads and the values that hold for them.
    pub fn with_threads(mut self, vmm: u32, vcpus: &[u32]) -> Self {
        self.threads = threads(vmm, vcpus);
        let in_any: BTreeSet<&String> =
            self.threads.iter().flat_map(|thread| thread.groups.values()).collect();
        for group in in_any {
            self.values.extend(values(group));
        }
        self
    }

    /// The same with what the files of a group and of all above it say.
    pub fn with_values(mut self, group: &str) -> Self {
        self.values.extend(values(group));
        self
    }

    pub fn with_error(mut self, error: Option<String>) -> Self {
        self.error = error;
        self
    }

    /// Adds it to a journal, whole: more than one process writes there.
    pub fn write(&self, journal: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|e| e.to_string())? + "\n";
        let file = fs::OpenOptions::new().append(true).create(true).open(journal);
        let done = file.and_then(|mut file| file.write_all(text.as_bytes()));
        done.map_err(|e| format!("write {}: {e}", journal.display()))
    }
}

/// All threads of a process.
fn threads(pid: u32, vcpus: &[u32]) -> Vec<Thread> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let Ok(tid) = entry.file_name().to_string_lossy().parse() else { continue };
        let mut groups = BTreeMap::new();
        for line in read("cgroup").lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
                for controller in controllers.split(',') {
                    groups.insert(controller.to_owned(), path.to_owned());
                }
            }
        }
        threads.push(Thread {
            tid,
            comm: read("comm").trim().to_owned(),
            is_vcpu: vcpus.contains(&tid),
            groups,
        });
    }
    threads
}

/// What the files of a group say, in every hierarchy, and those of all above it.
fn values(group: &str) -> Values {
    let mut all = Values::new();
    for hierarchy in groups::hierarchies() {
        let mut dir = hierarchy.dir(group);
        while dir != hierarchy.mount && dir.starts_with(&hierarchy.mount) {
            let read = |name: &&str| {
                let text = fs::read_to_string(dir.join(name)).ok()?;
                Some(((*name).to_owned(), text.trim_end().to_owned()))
            };
            let files: BTreeMap<String, String> = FILES.iter().filter_map(read).collect();
            if !files.is_empty() {
                all.insert(dir.clone(), files);
            }
            dir.pop();
        }
    }
    all
}
