//! What the kernel gives: hierarchies, identity, burst, CPUs.

use super::super::{Session, node};
use super::Lines;
use crate::apply::Look;
use crate::hook;
use crate::kernel::control::{Controller, Knob, Version};
use crate::kernel::fs;
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::{Ladder, Rung};
use crate::kernel::sysctl::Switch;
use crate::kernel::topology::Topology;
use crate::plan::facts::BurstRule;
use crate::plan::gather;
use crate::policy::config::Config;

pub(super) fn check(session: &Session, config: &Config, lines: &mut Lines) {
    let release = fs::read_if_there(&session.roots.path("/proc/sys/kernel/osrelease")).ok().flatten();
    let release = release.unwrap_or_default();
    if !release.is_empty() {
        lines.ok("kernel", release.clone());
    }
    let top = match Groups::top(&session.roots) {
        Ok(top) => top,
        Err(error) => {
            lines.bad("cgroups", error.to_string(), "");
            return;
        }
    };
    hierarchies(&top, lines);
    let (driver, why) = node::driver(&session.roots, &top);
    lines.ok("cgroup driver", format!("{} ({why})", node::driver_name(driver)));
    let probe = Probe::new(session, &top.cpu);
    match &probe.group {
        Some(group) => {
            identity(session, config, group, lines);
            burst(group, &release, lines);
        }
        None => lines.warn(
            "identity",
            "no group has the cpu controller yet, so what this kernel can do cannot be seen",
            if node::is_root() {
                "start a container, then check again"
            } else {
                "run this as root: it then makes a group, looks, and removes it"
            },
        ),
    }
    cpuset(&top, lines);
    topology(session, config, lines);
}

/// A group to look at, made for this where no other is there.
struct Probe {
    group: Option<Group>,
    _made: Option<Look>,
}

impl Probe {
    fn new(session: &Session, cpu: &Group) -> Self {
        if let Some(group) = crate::plan::suppose::sample(cpu) {
            return Self { group: Some(group), _made: None };
        }
        let may_make = session.is_live && node::is_root();
        let made = may_make.then(|| Look::make(cpu, false).ok()).flatten();
        Self { group: made.as_ref().and_then(Look::group).cloned(), _made: made }
    }
}

fn hierarchies(top: &Groups, lines: &mut Lines) {
    let without = [
        (Controller::Cpu, "nothing can be done without it"),
        (Controller::Cpuset, "no CPUs of their own for LSE and LSR"),
        (Controller::Memory, "no memory limits from batch resources"),
    ];
    for (controller, cost) in without {
        match top.of(controller) {
            Some(group) => lines.ok("cgroups", format!("{}: {}", controller.name(), node::hierarchy(group))),
            None => lines.warn(
                "cgroups",
                format!("{}: in no hierarchy; {cost}", controller.name()),
                "mount it (v1), or enable it in cgroup.subtree_control (v2)",
            ),
        }
    }
    let versions: Vec<Version> =
        Controller::ALL.iter().filter_map(|c| top.of(*c)).map(|g| g.version).collect();
    if versions.contains(&Version::V1) && versions.contains(&Version::V2) {
        lines.warn(
            "cgroups",
            "hybrid: controllers are split over v1 and v2",
            "each file is written where its controller is",
        );
    }
    match top.cpu.version {
        Version::V1 => {
            lines.ok("placement", "a hook can move containers into the class tree (cpu and cpuset only)")
        }
        Version::V2 => lines.warn(
            "placement",
            "a hook cannot move containers into the class tree on cgroup v2; they stay where they are (keep)",
            "use the runtime wrapper for placement = \"class-tree\"",
        ),
    }
}

fn identity(session: &Session, config: &Config, group: &Group, lines: &mut Lines) {
    let wish = hook::wish(&config.identity);
    let ladder = match Ladder::choose(&session.roots, group, &wish) {
        Ok(ladder) => ladder,
        Err(error) => {
            lines.bad("identity", error.to_string(), "");
            return;
        }
    };
    for rung in Rung::LADDER {
        let file = rung.knob().and_then(|knob| knob.file(group.version));
        let is_there = rung.knob().is_none_or(|knob| group.has(knob));
        let name = file.map_or_else(|| rung.to_string(), |file| format!("{rung} ({file})"));
        let passed_over = ladder.passed_over.iter().find(|(other, _)| *other == rung);
        if rung == ladder.rung {
            match rung {
                Rung::Weight => lines.warn(
                    "identity",
                    format!("{name}: used, for this kernel has nothing better"),
                    "a kernel from 5.15 has cpu.idle; Anolis OS, openEuler and OpenCloudOS have more",
                ),
                _ => lines.ok("identity", format!("{name}: used")),
            }
        } else if let Some((_, why)) = passed_over {
            lines.warn("identity", format!("{name}: passed over: {why}"), "");
        } else if is_there {
            let why = if wish.only.is_some() {
                "identity.mechanism wants another"
            } else {
                "there is a better one"
            };
            lines.ok("identity", format!("{name}: present, not needed: {why}"));
        } else {
            lines.ok("identity", format!("{name}: not in this kernel"));
        }
    }
    if ladder.rung == Rung::None {
        lines.warn("identity", "none: no identity is written", "see identity.mechanism in the configuration");
    }
    for (switch, on) in &ladder.switches {
        lines.warn(
            "identity",
            format!(
                "{} will be set to {} at the first container, for the whole node",
                switch.path(),
                u8::from(*on)
            ),
            "set it at boot (sysctl.d) to decide it yourself",
        );
    }
    for identity in [2, -1] {
        let who = if identity > 0 { "LSE, LSR, LS" } else { "BE" };
        if let Some(lost) = ladder.rung.lost(identity) {
            lines.warn("identity", format!("{who}: {}", lost.trim_start_matches("identity: ")), "");
        }
    }
    match Switch::CoreScheduling.read(&session.roots) {
        Ok(Some(true)) => lines.warn(
            "core scheduling",
            "on (kernel.sched_core = 1); it excludes Group Identity",
            "use one of the two",
        ),
        Ok(Some(false)) => lines.ok("core scheduling", "off"),
        Ok(None) => lines.ok("core scheduling", "this kernel has no switch for it (prctl only)"),
        Err(error) => lines.warn("core scheduling", error.to_string(), ""),
    }
}

fn burst(group: &Group, release: &str, lines: &mut Lines) {
    match BurstRule::of(group) {
        BurstRule::Absent => {
            lines.warn(
                "burst",
                "this kernel has no CPU burst",
                "mainline has it from 5.14, Anolis OS from 4.19",
            );
        }
        BurstRule::UpToQuota => lines.ok("burst", "up to the quota (mainline's rule)"),
        BurstRule::Free => lines.ok("burst", "any size (Anolis OS' rule)"),
    }
    if group.version == Version::V2 && group.has(Knob::Burst) && has_burst_bug(release) {
        lines.warn(
            "burst",
            "kernels 5.14 to 6.9 divide cpu.max.burst by 1000 at each write of cpu.max, unless the fix (49217ea147df) was backported",
            "the hook writes burst last; after updates and systemctl daemon-reload run `plimsoll repair`",
        );
    }
}

/// Mainline 5.14 to 6.9.
fn has_burst_bug(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (5, 14) <= (major, minor) && (major, minor) <= (6, 9),
        _ => false,
    }
}

fn cpuset(top: &Groups, lines: &mut Lines) {
    let Some(cpuset) = &top.cpuset else { return };
    match gather::allowed(cpuset) {
        Ok(Some(cpus)) => lines.ok("cpuset", format!("CPUs {cpus} at the root")),
        Ok(None) => lines.ok("cpuset", "there"),
        Err(error) => lines.warn("cpuset", error.to_string(), ""),
    }
}

fn topology(session: &Session, config: &Config, lines: &mut Lines) {
    let topology = match Topology::read(&session.roots.path("/sys")) {
        Ok(topology) => topology,
        Err(error) => {
            lines.warn("cpus", error.to_string(), "without it no CPUs can be chosen for LSE and LSR");
            return;
        }
    };
    let count = |of: fn(&crate::kernel::topology::Cpu) -> usize| {
        let mut ids: Vec<usize> = topology.cpus().iter().map(of).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    };
    let (cpus, cores, nodes) = (topology.online().len(), count(|c| c.core), count(|c| c.node));
    let smt = if cores < cpus { "SMT on" } else { "no SMT" };
    lines.ok(
        "cpus",
        format!(
            "{} online: CPUs {cpus}, cores {cores} ({smt}), NUMA nodes {nodes}, sockets {}",
            topology.online(),
            count(|c| c.socket)
        ),
    );
    for (key, set) in
        [("exclusive.reserved_cpus", &config.exclusive.reserved_cpus), ("system.cpus", &config.system.cpus)]
    {
        let missing = set.difference(topology.online());
        if !missing.is_empty() {
            lines.bad(
                "cpus",
                format!("{key} names {missing}, which are not online"),
                "correct the configuration",
            );
        }
    }
    match config.exclusive.allocate {
        true => lines.ok("cpus", format!("LSE and LSR containers get CPUs of their own; at least {} stay shared", config.exclusive.min_shared_cpus)),
        false => lines.ok("cpus", "LSE and LSR containers get CPUs of their own only where the scheduler chose them (exclusive.allocate = false)"),
    }
}

#[cfg(test)]
mod tests {
    use super::has_burst_bug;

    #[test]
    fn the_burst_bug_is_in_5_14_to_6_9() {
        for (release, buggy) in [
            ("5.13.19", false),
            ("5.14.0-427.el9.x86_64", true),
            ("6.9.12", true),
            ("6.10.0", false),
            ("6.18.44-x", false),
            ("4.19.91-26.al7", false),
            ("", false),
        ] {
            assert_eq!(has_burst_bug(release), buggy, "{release}");
        }
    }
}
