//! A node in the test's own groups: two trees, real processes, one Plimsoll; and the operations on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use plimsoll::cpuset::CpuSet;
use plimsoll::hook::Hook;
use plimsoll::kernel::control::{Knob, Value};
use plimsoll::kernel::fs::Roots;
use plimsoll::policy::config::Config;
use tempfile::TempDir;

use super::asks::Asks;
use super::foreign::Rule;
use super::op::{Op, Time};
use super::side::{KNOBS, Mounts, Side, Sleepers};
use super::state::{Live, Model, Pod, pod_of};

/// What is wrong, in words.
pub(crate) type Check = Result<(), String>;

/// What happened, to show that a run has tried what it is for.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Writes of others, stages, repairs, groups made and removed: each one counts.
    pub(crate) ops: usize,
    pub(crate) rules: BTreeMap<Rule, usize>,
    pub(crate) events: BTreeMap<String, usize>,
}

impl Stats {
    pub(crate) fn rule(&mut self, rule: Rule) {
        *self.rules.entry(rule).or_default() += 1;
    }

    pub(crate) fn event(&mut self, name: impl Into<String>) {
        *self.events.entry(name.into()).or_default() += 1;
    }
}

/// This test process's own groups and processes.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) mounts: Mounts,
    pub(crate) prefix: String,
    pub(crate) sleepers: Sleepers,
    pub(crate) online: CpuSet,
}

impl Ground {
    /// `None` where this machine has no cgroup v1 with CPU burst and idle.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mounts = Mounts::find()?;
        let prefix = format!("/plimsoll-test-model-{}-{name}", std::process::id());
        mounts.make(&prefix);
        mounts.make(&format!("{prefix}/park"));
        let online = plimsoll::kernel::topology::Topology::read_online(Path::new("/sys")).unwrap();
        Some(Self { mounts, prefix, sleepers: Sleepers::new(40), online })
    }

    fn park(&self) -> String {
        format!("{}/park", self.prefix)
    }

    /// The sets of CPUs that are written: all, the first, the last.
    pub(crate) fn cpu_sets(&self) -> Vec<CpuSet> {
        let one = |cpu: Option<usize>| cpu.into_iter().collect::<CpuSet>();
        vec![self.online.clone(), one(self.online.iter().next()), one(self.online.iter().last())]
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Processes first: their groups can go only without them.
        self.sleepers = Sleepers::new(0);
        self.mounts.remove_all(&self.prefix, "/");
    }
}

pub(crate) struct World<'a> {
    pub(crate) ground: &'a mut Ground,
    pub(crate) stats: &'a mut Stats,
    pub(crate) with: Side,
    pub(crate) without: Side,
    pub(crate) hook: Hook,
    pub(crate) model: Model,
    dir: TempDir,
}

impl<'a> World<'a> {
    pub(crate) fn new(settings: &str, ground: &'a mut Ground, stats: &'a mut Stats) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let side = |name: &str| Side::new(&ground.mounts, format!("{}/{name}", ground.prefix));
        let (with, without) = (side("with"), side("without"));
        let text = format!(
            "{settings}[paths]\nrun = {:?}\nlog = {:?}\nclass_tree = \"{}/plimsoll\"\n[log]\njournal = false\n",
            dir.path().join("run"),
            dir.path().join("log"),
            with.prefix,
        );
        let config =
            Config::from_toml(Path::new("config.toml"), &text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let hook = Hook::new(Roots::default(), config).unwrap();
        let mut world = Self { ground, stats, with, without, hook, model: Model::new(), dir };
        for rel in ["", "kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            world.make(rel);
        }
        world
    }

    /// Makes a group on both sides.
    fn make(&mut self, rel: &str) {
        self.with.make(rel);
        self.without.make(rel);
        let values = KNOBS.into_iter().map(|knob| (knob, self.without.read(rel, knob))).collect();
        self.model.twin.insert(rel.to_owned(), values);
    }

    fn remove(&mut self, rel: &str) {
        self.with.remove(rel);
        self.without.remove(rel);
        self.model.forget_group(rel);
    }

    /// Does one operation; `false` where there is nothing to do it to.
    pub(crate) fn run(&mut self, op: &Op) -> Result<bool, String> {
        match op {
            Op::Pod { pod, asks, time } => self.pod(*pod, asks, time),
            Op::Make { slot, new, asks, time } => self.make_container(*slot, *new, asks.as_ref(), time),
            Op::Stage { slot, stage } => self.stage(*slot, *stage),
            Op::Gone { slot, kill } => Ok(self.gone(*slot, *kill)),
            Op::Stop { slot } => self.stop(*slot),
            Op::Foreign { target, knob, value } => {
                let Some(rel) = self.model.target(*target) else { return Ok(false) };
                self.foreign(&rel, *knob, value).map(|()| true)
            }
            Op::Resize { slot, grow, pod, container } => self.resize(*slot, *grow, pod, container),
            Op::Repair => self.repair().map(|()| true),
            Op::Exec { slot } => Ok(self.exec(*slot)),
        }
    }

    fn pod(&mut self, n: usize, asks: &Asks, time: &Time) -> Result<bool, String> {
        if let Some(old) = self.model.pods[n].clone() {
            let in_use = |slot: usize| pod_of(slot) == Some(n) && self.model.slots[slot].live.is_some();
            if (0..self.model.slots.len()).any(in_use) {
                return Ok(false);
            }
            self.remove(&old.rel);
        }
        self.model.pod_times += 1;
        let above = match n {
            0 | 1 => "kubepods/burstable",
            2 | 3 => "kubepods/besteffort",
            _ => "kubepods",
        };
        let rel = format!("{above}/pod{n}u{}", self.model.pod_times);
        self.make(&rel);
        self.model.pods[n] = Some(Pod { rel: rel.clone(), asks: asks.clone() });
        self.time(&rel, time)?;
        Ok(true)
    }

    /// CPU time in the order runc writes it (`fs/cpu.go`).
    fn time(&mut self, rel: &str, time: &Time) -> Check {
        self.foreign(rel, Knob::Shares, &Value::Int(time.shares))?;
        self.foreign(rel, Knob::Period, &Value::Int(time.period))?;
        self.foreign(rel, Knob::Quota, &Value::Int(time.quota))
    }

    fn make_container(
        &mut self,
        n: usize,
        new: bool,
        asks: Option<&Asks>,
        time: &Time,
    ) -> Result<bool, String> {
        let pod = pod_of(n).map(|pod| self.model.pods[pod].clone());
        if self.model.slots[n].live.is_some() || matches!(pod, Some(None)) {
            return Ok(false);
        }
        let pod = pod.flatten();
        let slot = &mut self.model.slots[n];
        if new || slot.id.is_empty() {
            slot.times += 1;
            slot.id = format!("c{n}n{}", slot.times);
        }
        slot.pending = false;
        let rel = match &pod {
            Some(pod) => format!("{}/{}", pod.rel, slot.id),
            None => slot.id.clone(),
        };
        let asks = asks.cloned().or_else(|| pod.map(|pod| pod.asks)).unwrap_or_default();
        self.make(&rel);
        self.time(&rel, time)?;
        let pid = self.ground.sleepers.take(&self.model.pids());
        self.ground.mounts.attach(&self.with.path(&rel), pid);
        self.model.slots[n].live = Some(Live { rel, pid, asks });
        Ok(true)
    }

    pub(crate) fn gone(&mut self, n: usize, kill: bool) -> bool {
        let Some(live) = self.model.slots[n].live.take() else { return false };
        if kill {
            self.ground.sleepers.kill(live.pid);
        } else {
            self.ground.mounts.attach(&self.ground.park(), live.pid);
        }
        self.remove(&live.rel);
        self.model.slots[n].pending = true;
        true
    }

    fn resize(&mut self, n: usize, grow: bool, pod: &Time, container: &Time) -> Result<bool, String> {
        let Some(live) = self.model.slots[n].live.clone() else { return Ok(false) };
        let pod_rel = pod_of(n).map(|p| self.model.pods[p].clone().unwrap().rel);
        if let (true, Some(pod_rel)) = (grow, &pod_rel) {
            self.time(pod_rel, pod)?;
        }
        self.time(&live.rel, container)?;
        if let (false, Some(pod_rel)) = (grow, &pod_rel) {
            self.time(pod_rel, pod)?;
        }
        Ok(true)
    }

    fn exec(&mut self, n: usize) -> bool {
        let Some(live) = self.model.slots[n].live.clone() else { return false };
        let pid = self.ground.sleepers.take(&self.model.pids());
        self.ground.mounts.attach(&self.with.path(&live.rel), pid);
        self.ground.mounts.attach(&self.ground.park(), pid);
        true
    }

    /// The errors logged since the last look.
    pub(crate) fn logged(&self) -> Vec<String> {
        let path = self.dir.path().join("log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !text.is_empty() {
            fs::remove_file(&path).unwrap();
        }
        let errors = text.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let errors = line["errors"].as_str().unwrap_or_default();
            (line["level"] == "error").then(|| format!("{}: {errors}", line["msg"]))
        });
        errors.collect()
    }

    /// A group says on both sides what it should.
    pub(crate) fn check_group(&self, rel: &str) -> Check {
        for knob in KNOBS {
            let (should, is) = (self.model.with(rel, knob), self.with.read(rel, knob));
            if should != is {
                let cover = self.model.cover(rel, knob);
                let without = self.model.without(rel, knob);
                return Err(format!(
                    "{knob} of {rel} is {is} and should be {should} (without Plimsoll {without}; {cover:?})"
                ));
            }
            let (should, is) = (self.model.without(rel, knob), self.without.read(rel, knob));
            if should != is {
                return Err(format!(
                    "the test is wrong: {knob} of {rel} without Plimsoll is {is}, not {should}"
                ));
            }
        }
        Ok(())
    }

    /// Every group says what it should.
    pub(crate) fn check_all(&self) -> Check {
        let groups: Vec<String> = self.model.twin.keys().cloned().collect();
        groups.iter().try_for_each(|rel| self.check_group(rel))?;
        self.check_tree()
    }

    /// Everybody ends, and nothing of Plimsoll's is left.
    pub(crate) fn end(&mut self) -> Check {
        for slot in 0..self.model.slots.len() {
            self.gone(slot, false);
            self.stop(slot)?;
        }
        self.repair()?;
        self.check_all()?;
        let run = self.dir.path().join("run");
        // What is in the class tree has been looked at.
        let mut left: BTreeSet<String> = BTreeSet::new();
        for folder in ["containers", "exclusive", "groups"] {
            for entry in fs::read_dir(run.join(folder)).into_iter().flatten().flatten() {
                left.insert(format!("{folder}/{}", entry.file_name().to_string_lossy()));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let park = self.ground.park();
        for side in [&self.with, &self.without] {
            side.mounts.remove_all(&side.prefix, &park);
        }
    }
}
