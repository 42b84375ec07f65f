//! What the kernel counts, of the node and of a container. None of it depends on the wall clock being right.

use std::fs;
use std::time::Instant;

use super::group;
use crate::common::cgroup;

/// Counters of the whole machine at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    at: Instant,
    /// Time of all CPUs, in clock ticks of 10 ms.
    all: f64,
    idle: f64,
    /// What the hypervisor gave to others while something wanted to run here.
    steal: f64,
}

/// What happened on the machine between two moments: shares of all its CPU time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    /// Not idle; what was stolen is neither.
    pub(crate) busy: f64,
    pub(crate) steal: f64,
    /// Idle CPU time, s.
    pub(crate) idle_s: f64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().next().unwrap();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
        // user nice system idle iowait irq softirq steal; guests are in user.
        let all: f64 = ticks[..8].iter().sum();
        Self { at: Instant::now(), all, idle: ticks[3] + ticks[4], steal: ticks[7] }
    }

    pub(crate) fn since(&self, before: &Self) -> Used {
        let (all, idle) = (self.all - before.all, self.idle - before.idle);
        let steal = self.steal - before.steal;
        Used {
            seconds: self.at.duration_since(before.at).as_secs_f64(),
            busy: (all - idle - steal) / (all - steal),
            steal: steal / all,
            idle_s: idle / 100.0,
        }
    }
}

/// Counters of a container at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Container {
    /// CPU time, s.
    pub(crate) cpu_s: f64,
    /// Time its tasks were ready to run and did not, s.
    pub(crate) waited_s: f64,
    /// Periods in which it or its pod was throttled.
    pub(crate) throttled: f64,
    pub(crate) throttled_s: f64,
}

impl Container {
    /// Of the container whose first process this is.
    pub(crate) fn of(pid: i32) -> Self {
        let group = |controller| group(pid, controller);
        let mut now = Self { cpu_s: cpu_s(&group("cpuacct")), ..Self::default() };
        for pid in cgroup::procs("cpu", &group("cpu")) {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                now.waited_s += text.split(' ').nth(1).map_or(0.0, |ns| ns.parse::<f64>().unwrap() / 1e9);
            }
        }
        let own = group("cpu");
        let pod = own.rsplit_once('/').unwrap().0;
        for group in [&*own, pod] {
            let stat = fs::read_to_string(cgroup::dir("cpu", group).join("cpu.stat")).unwrap();
            now.throttled += field(&stat, "nr_throttled");
            now.throttled_s += field(&stat, "throttled_time") / 1e9 + field(&stat, "throttled_usec") / 1e6;
        }
        now
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            waited_s: self.waited_s - before.waited_s,
            throttled: self.throttled - before.throttled,
            throttled_s: self.throttled_s - before.throttled_s,
        }
    }
}

fn cpu_s(group: &str) -> f64 {
    let dir = cgroup::dir("cpuacct", group);
    match fs::read_to_string(dir.join("cpuacct.usage")) {
        Ok(ns) => ns.trim().parse::<f64>().unwrap() / 1e9,
        // v2.
        Err(_) => field(&fs::read_to_string(dir.join("cpu.stat")).unwrap(), "usage_usec") / 1e6,
    }
}

fn field(stat: &str, name: &str) -> f64 {
    let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |number| number.trim().parse().unwrap())
}
