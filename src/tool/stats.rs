//! How often containers were throttled and burst. The only place that uses `cgroups-rs`, and for reading alone: it hides
//! the errors of writes, makes groups nobody asked for, and knows neither burst nor identity.

use std::path::PathBuf;

use cgroups_rs::fs::cpu::CpuController;
use serde::Serialize;

use super::node;
use crate::kernel::group::Group;

/// A group's `cpu.stat`, since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Stats {
    /// CFS periods in which the group ran.
    pub(super) periods: u64,
    /// Periods in which it was throttled.
    pub(super) throttled: u64,
    /// For how long, nanoseconds; the sum over all CPUs.
    pub(super) throttled_ns: u64,
    /// Periods in which it burst.
    pub(super) bursts: u64,
    /// For how long, nanoseconds.
    pub(super) burst_ns: u64,
}

impl Stats {
    /// Reads a group's statistics; `None` where it has none.
    pub(super) fn read(group: &Group) -> Option<Self> {
        // With the group's own folder: the crate's own search for hierarchies panics on some nodes.
        let controller = CpuController::new(group.dir(), PathBuf::new(), node::is_v2(group));
        Self::parse(&controller.cpu().stat)
    }

    /// `nr_burst` and `burst_time` are those of Anolis' 5.10, `*_usec` those of v2.
    fn parse(text: &str) -> Option<Self> {
        let mut stats = Self::default();
        let mut any = false;
        for line in text.lines() {
            let Some((name, number)) = line.split_once(' ') else { continue };
            let Ok(number) = number.trim().parse::<u64>() else { continue };
            let (field, number) = match name {
                "nr_periods" => (&mut stats.periods, number),
                "nr_throttled" => (&mut stats.throttled, number),
                "throttled_time" => (&mut stats.throttled_ns, number),
                "throttled_usec" => (&mut stats.throttled_ns, number.saturating_mul(1000)),
                "nr_bursts" | "nr_burst" => (&mut stats.bursts, number),
                "burst_time" => (&mut stats.burst_ns, number),
                "burst_usec" => (&mut stats.burst_ns, number.saturating_mul(1000)),
                _ => continue,
            };
            *field = number;
            any = true;
        }
        any.then_some(stats)
    }

    /// `12/340`, or nothing where the group never had a quota.
    pub(super) fn throttling(self) -> String {
        if self.periods == 0 { "-".to_owned() } else { format!("{}/{}", self.throttled, self.periods) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_and_the_vendors_names_are_read() {
        let want = Stats { periods: 10, throttled: 2, throttled_ns: 5_000, bursts: 3, burst_ns: 7_000 };
        let v1 =
            "nr_periods 10\nnr_throttled 2\nthrottled_time 5000\nnr_bursts 3\nburst_time 7000\nwait_sum 1\n";
        let v2 = "usage_usec 1\nnr_periods 10\nnr_throttled 2\nthrottled_usec 5\nnr_burst 3\nburst_usec 7\n";
        assert_eq!((Stats::parse(v1), Stats::parse(v2)), (Some(want), Some(want)));
        assert_eq!(Stats::parse(""), None);
        assert_eq!(Stats::parse("nr_periods x\n"), None);
    }
}
