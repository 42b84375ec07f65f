//! The identity ladder: the best mechanism this kernel has to set online work above offline work.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::control::Knob;
use super::fs::{self, Roots};
use super::group::Group;
use super::sysctl::Switch;
use crate::error::Result;

/// A mechanism, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// `cpu.bvt_warp_ns` (Anolis OS, Alibaba Cloud Linux).
    GroupIdentity,
    /// `cpu.priority` and `cpu.identity` (Group Identity 2.0, Anolis 6.6) where there is no `cpu.bvt_warp_ns`.
    #[serde(rename = "group-identity-2")]
    GroupIdentity2,
    /// `cpu.qos_level` (openEuler, Huawei Cloud EulerOS).
    QosLevel,
    /// `cpu.offline` (TencentOS, OpenCloudOS).
    Offline,
    /// `cpu.idle` (mainline, from 5.15).
    Idle,
    /// `cpu.shares` or `cpu.weight`: every kernel.
    Weight,
    /// No mechanism: switched off in the configuration.
    None,
}

impl Rung {
    /// The rungs of the ladder, best first.
    pub const LADDER: [Self; 6] =
        [Self::GroupIdentity, Self::GroupIdentity2, Self::QosLevel, Self::Offline, Self::Idle, Self::Weight];

    /// The name used in the configuration and in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::GroupIdentity => "group-identity",
            Self::GroupIdentity2 => "group-identity-2",
            Self::QosLevel => "qos-level",
            Self::Offline => "offline",
            Self::Idle => "idle",
            Self::Weight => "weight",
            Self::None => "none",
        }
    }

    /// The control file whose presence says that the kernel has the mechanism.
    pub fn knob(self) -> Option<Knob> {
        Some(match self {
            Self::GroupIdentity => Knob::BvtWarp,
            Self::GroupIdentity2 => Knob::Priority,
            Self::QosLevel => Knob::QosLevel,
            Self::Offline => Knob::Offline,
            Self::Idle => Knob::Idle,
            Self::Weight | Self::None => return None,
        })
    }

    /// Whether a low identity anywhere above a task counts, so that container and pod may both carry it. The others
    /// only order siblings.
    pub fn is_hierarchical(self) -> bool {
        !matches!(self, Self::Idle | Self::Weight | Self::None)
    }

    /// Whether a knob holds an identity on this rung.
    pub fn is_carried_by(self, knob: Knob) -> bool {
        match self {
            Self::Weight => matches!(knob, Knob::Shares | Knob::Weight),
            Self::None => false,
            _ => matches!(
                knob,
                Knob::BvtWarp | Knob::Priority | Knob::Expel | Knob::QosLevel | Knob::Offline | Knob::Idle
            ),
        }
    }

    /// What is to be written for an identity in the terms of `cpu.bvt_warp_ns` (-2..=2).
    pub fn settings(self, identity: i8, weight_knob: Knob) -> Vec<Setting> {
        let low = identity < 0;
        match self {
            Self::GroupIdentity => vec![Setting::new(Knob::BvtWarp, identity.into())],
            Self::GroupIdentity2 => vec![
                Setting::new(Knob::Priority, identity.signum().into()),
                Setting::new(
                    Knob::Expel,
                    match identity {
                        2.. => 1,
                        0 | 1 => 0,
                        _ => -1,
                    },
                ),
            ],
            // openEuler knows -1 and 0 only; its multilevel successors take -2..=2.
            Self::QosLevel => vec![Setting {
                knob: Knob::QosLevel,
                value: identity.into(),
                fallback: (!(-1..=0).contains(&identity)).then_some(if low { -1 } else { 0 }),
            }],
            Self::Offline => vec![Setting::new(Knob::Offline, low.into())],
            // Upstream has a knob for low only.
            Self::Idle if low => vec![Setting::new(Knob::Idle, 1)],
            Self::Weight if low => {
                vec![Setting::new(weight_knob, if weight_knob == Knob::Shares { 2 } else { 1 })]
            }
            Self::Idle | Self::Weight | Self::None => Vec::new(),
        }
    }

    /// What an identity loses on this rung against Group Identity; `None` where nothing is lost.
    pub fn lost(self, identity: i8) -> Option<&'static str> {
        match (self, identity) {
            (_, 0) | (Self::GroupIdentity | Self::GroupIdentity2, _) => None,
            (Self::None, _) => Some("identity: switched off by identity.mechanism = \"none\""),
            (Self::QosLevel, 1..) => Some(
                "identity: above-normal levels exist only on multilevel qos_level kernels; elsewhere this class runs at the normal level",
            ),
            (Self::QosLevel, _) => None,
            (Self::Offline, 1..) => {
                Some("identity: cpu.offline lowers offline work only; this class runs at the normal level")
            }
            (Self::Offline, _) => None,
            (Self::Idle, 1..) => Some(
                "identity: no wake-up preemption over normal tasks and no SMT expelling; this class is protected by best effort being idle",
            ),
            (Self::Idle, _) => {
                Some("identity: cpu.idle orders siblings only, and does not expel from SMT siblings")
            }
            (Self::Weight, 1..) => Some(
                "identity: this kernel has no mechanism; online work is protected by best effort's low weight only",
            ),
            (Self::Weight, _) => {
                Some("identity: a low weight limits the share, but best effort still delays online wake-ups")
            }
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One knob of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub knob: Knob,
    /// The value to write.
    pub value: i64,
    /// What to write instead where the kernel refuses the value.
    pub fallback: Option<i64>,
}

impl Setting {
    fn new(knob: Knob, value: i64) -> Self {
        Self { knob, value, fallback: None }
    }
}

/// What the configuration says about the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Only this mechanism; `None` takes the best.
    pub only: Option<Rung>,
    /// Whether `sched_group_identity_enabled` may be switched on.
    pub may_enable: bool,
    /// Whether core scheduling may be switched off to make room for Group Identity.
    pub may_disable_core_scheduling: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self { only: None, may_enable: true, may_disable_core_scheduling: false }
    }
}

/// The rung taken, and why not a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The rung taken.
    pub rung: Rung,
    /// Switches to set before the first write, in order: all of them must succeed.
    pub switches: Vec<(Switch, bool)>,
    /// Better rungs that exist here but may not be used, and why. A missing one is not listed.
    pub passed_over: Vec<(Rung, String)>,
}

impl Ladder {
    /// No identity is asked for.
    pub fn none() -> Self {
        Self { rung: Rung::None, switches: Vec::new(), passed_over: Vec::new() }
    }

    /// The ladder for one identity. None is no reason to set a switch of the whole node: with the switch off no group has
    /// an identity that would have to be taken back, so nothing is written (koordlet's `prepare`, as in
    /// [`IdentityRule::applies`](crate::policy::koordinator::identity::IdentityRule::applies)).
    #[must_use]
    pub fn worth(self, identity: i8) -> Self {
        if identity == 0 && !self.switches.is_empty() { Self::none() } else { self }
    }

    /// Chooses the rung for a group: probed by the files the kernel gives it, never by its version.
    pub fn choose(roots: &Roots, cpu: &Group, wish: &Wish) -> Result<Self> {
        let mut ladder = Self::none();
        if wish.only == Some(Rung::None) {
            return Ok(ladder);
        }
        for rung in Rung::LADDER {
            if wish.only.is_some_and(|only| {
                only != rung && !(only == Rung::GroupIdentity && rung == Rung::GroupIdentity2)
            }) {
                continue;
            }
            if rung.knob().is_some_and(|knob| !cpu.has(knob)) {
                continue;
            }
            match obstacle(roots, rung, wish)? {
                Ok(switches) => {
                    ladder.rung = rung;
                    ladder.switches = switches;
                    return Ok(ladder);
                }
                Err(why) => ladder.passed_over.push((rung, why)),
            }
        }
        if let Some(only) = wish.only {
            ladder
                .passed_over
                .push((only, format!("identity.mechanism = \"{only}\" cannot be had on this kernel")));
        }
        Ok(ladder)
    }
}

/// The switches a mechanism needs, or what stands in its way.
fn obstacle(roots: &Roots, rung: Rung, wish: &Wish) -> Result<Result<Vec<(Switch, bool)>, String>> {
    if !matches!(rung, Rung::GroupIdentity | Rung::GroupIdentity2) {
        return Ok(Ok(Vec::new()));
    }
    if let Some(release) = fs::read_if_there(&roots.path("/proc/sys/kernel/osrelease"))? {
        if let Some(why) = crashes(&release) {
            return Ok(Err(format!("kernel {release} {why}")));
        }
    }
    let mut switches = Vec::new();
    // Group Identity and core scheduling exclude each other; Koordinator turns the latter off first.
    if Switch::CoreScheduling.read(roots)? == Some(true) {
        if !wish.may_disable_core_scheduling {
            return Ok(Err("core scheduling is on (kernel.sched_core = 1) and excludes Group Identity; set identity.core_scheduling = \"disable\", or turn it off".to_owned()));
        }
        switches.push((Switch::CoreScheduling, false));
    }
    if Switch::GroupIdentity.read(roots)? == Some(false) {
        if !wish.may_enable {
            return Ok(Err("kernel.sched_group_identity_enabled is 0 and identity.group_identity_switch is \"leave\"; set either".to_owned()));
        }
        switches.push((Switch::GroupIdentity, true));
    }
    Ok(Ok(switches))
}

/// Why a kernel must not be given a Group Identity, from the vendor's notes: 4.19.91-25.1 to -25.5 crash with it.
fn crashes(release: &str) -> Option<&'static str> {
    let build = release.strip_prefix("4.19.91-")?;
    let mut numbers = build.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next()??, numbers.next()?) {
        (25, Some(1..=5)) => Some("is known to crash with Group Identity; update it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::control::Version;

    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots, Group) {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("sys/fs/cgroup/cpu/a");
        std::fs::create_dir_all(&base).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/sys/kernel")).unwrap();
        for (name, text) in files {
            let path = if name.starts_with("cpu.") {
                base.join(name)
            } else {
                dir.path().join("proc/sys/kernel").join(name)
            };
            std::fs::write(path, text).unwrap();
        }
        let roots = Roots::at(dir.path());
        let group =
            Group { version: Version::V1, mount: dir.path().join("sys/fs/cgroup/cpu"), path: "/a".into() };
        (dir, roots, group)
    }

    fn choose(files: &[(&str, &str)], wish: &Wish) -> Ladder {
        let (_dir, roots, group) = node(files);
        Ladder::choose(&roots, &group, wish).unwrap()
    }

    #[test]
    fn takes_the_best_rung_the_kernel_has() {
        for (files, rung) in [
            (vec![("cpu.bvt_warp_ns", "0"), ("cpu.priority", "0"), ("cpu.idle", "0")], Rung::GroupIdentity),
            (vec![("cpu.priority", "0"), ("cpu.identity", "0"), ("cpu.idle", "0")], Rung::GroupIdentity2),
            (vec![("cpu.qos_level", "0"), ("cpu.idle", "0")], Rung::QosLevel),
            (vec![("cpu.offline", "0"), ("cpu.idle", "0")], Rung::Offline),
            (vec![("cpu.idle", "0")], Rung::Idle),
            (vec![], Rung::Weight),
        ] {
            assert_eq!(choose(&files, &Wish::default()).rung, rung, "{files:?}");
        }
    }

    #[test]
    fn the_switch_is_turned_on_only_where_that_is_allowed() {
        let files = [("cpu.bvt_warp_ns", "0"), ("cpu.idle", "0"), ("sched_group_identity_enabled", "0\n")];
        let ladder = choose(&files, &Wish::default());
        assert_eq!(
            (ladder.rung, ladder.switches),
            (Rung::GroupIdentity, vec![(Switch::GroupIdentity, true)])
        );
        let ladder = choose(&files, &Wish { may_enable: false, ..Wish::default() });
        assert_eq!(ladder.rung, Rung::Idle);
        assert!(ladder.passed_over[0].1.contains("sched_group_identity_enabled is 0"));
        // Already on: nothing to write.
        let on = [("cpu.bvt_warp_ns", "0"), ("sched_group_identity_enabled", "1\n")];
        assert_eq!(choose(&on, &Wish { may_enable: false, ..Wish::default() }).switches, vec![]);
    }

    #[test]
    fn no_identity_sets_no_switch() {
        let off = [("cpu.bvt_warp_ns", "0"), ("sched_group_identity_enabled", "0\n")];
        let wish = Wish::default();
        assert_eq!(choose(&off, &wish).worth(0), Ladder::none());
        assert_eq!(choose(&off, &wish).worth(-1).switches, vec![(Switch::GroupIdentity, true)]);
        // What may be there from before is taken back.
        let on = [("cpu.bvt_warp_ns", "0"), ("sched_group_identity_enabled", "1\n")];
        for files in [&on[..], &on[..1]] {
            assert_eq!(choose(files, &wish).worth(0).rung, Rung::GroupIdentity);
        }
    }

    #[test]
    fn never_together_with_core_scheduling() {
        let files = [
            ("cpu.bvt_warp_ns", "0"),
            ("cpu.idle", "0"),
            ("sched_core", "1"),
            ("sched_group_identity_enabled", "0"),
        ];
        let ladder = choose(&files, &Wish::default());
        assert_eq!(ladder.rung, Rung::Idle);
        assert!(ladder.passed_over[0].1.contains("core scheduling is on"));
        let ladder = choose(&files, &Wish { may_disable_core_scheduling: true, ..Wish::default() });
        assert_eq!(ladder.switches, vec![(Switch::CoreScheduling, false), (Switch::GroupIdentity, true)]);
    }

    #[test]
    fn kernels_that_crash_are_refused_by_list() {
        for (release, refused) in [
            ("4.19.91-25.1.al7.x86_64", true),
            ("4.19.91-25.5.al7.x86_64", true),
            ("4.19.91-25.6.al7.x86_64", false),
            ("4.19.91-26.4.al7.x86_64", false),
            ("5.10.134-16.1.al8.x86_64", false),
            ("4.19.91-25.al7", false),
        ] {
            let ladder = choose(
                &[("cpu.bvt_warp_ns", "0"), ("cpu.idle", "0"), ("osrelease", release)],
                &Wish::default(),
            );
            assert_eq!(ladder.rung == Rung::Idle, refused, "{release}");
        }
    }

    #[test]
    fn a_mechanism_that_is_asked_for_and_missing_is_said() {
        let ladder = choose(&[("cpu.idle", "0")], &Wish { only: Some(Rung::QosLevel), ..Wish::default() });
        assert_eq!(ladder.rung, Rung::None);
        assert!(ladder.passed_over[0].1.contains("cannot be had"));
    }

    #[test]
    fn every_identity_on_every_rung() {
        let values = |rung: Rung, identity| -> Vec<(Knob, i64, Option<i64>)> {
            rung.settings(identity, Knob::Shares).into_iter().map(|s| (s.knob, s.value, s.fallback)).collect()
        };
        assert_eq!(values(Rung::GroupIdentity, -2), [(Knob::BvtWarp, -2, None)]);
        assert_eq!(values(Rung::GroupIdentity2, 2), [(Knob::Priority, 1, None), (Knob::Expel, 1, None)]);
        assert_eq!(values(Rung::GroupIdentity2, 1), [(Knob::Priority, 1, None), (Knob::Expel, 0, None)]);
        assert_eq!(values(Rung::GroupIdentity2, 0), [(Knob::Priority, 0, None), (Knob::Expel, 0, None)]);
        assert_eq!(values(Rung::GroupIdentity2, -1), [(Knob::Priority, -1, None), (Knob::Expel, -1, None)]);
        assert_eq!(values(Rung::QosLevel, 2), [(Knob::QosLevel, 2, Some(0))]);
        assert_eq!(values(Rung::QosLevel, -1), [(Knob::QosLevel, -1, None)]);
        assert_eq!(values(Rung::Offline, -1), [(Knob::Offline, 1, None)]);
        assert_eq!(values(Rung::Idle, -1), [(Knob::Idle, 1, None)]);
        assert_eq!(values(Rung::Idle, 2), []);
        assert_eq!(values(Rung::Weight, -1), [(Knob::Shares, 2, None)]);
    }
}
