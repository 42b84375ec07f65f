//! Throttling figures out of `cpu.stat` (`pkg/koordlet/util/system/{cgroup,cgroup2}.go`).

use crate::error::{Error, Result};

/// How often a group was throttled since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// Periods in which the group ran.
    pub periods: i64,
    /// Periods in which it was throttled.
    pub throttled: i64,
    /// How long it was throttled, in ns, over all CPUs.
    pub throttled_ns: i64,
}

impl CpuStat {
    /// Reads cgroup v1's `cpu.stat`.
    pub fn parse_v1(content: &str) -> Result<Self> {
        Ok(Self {
            periods: field(content, "nr_periods")?,
            throttled: field(content, "nr_throttled")?,
            throttled_ns: field(content, "throttled_time")?,
        })
    }

    /// Reads cgroup v2's `cpu.stat`.
    pub fn parse_v2(content: &str) -> Result<Self> {
        Ok(Self {
            periods: field(content, "nr_periods")?,
            throttled: field(content, "nr_throttled")?,
            throttled_ns: field(content, "throttled_usec")?.saturating_mul(1000),
        })
    }

    /// The part of the periods since `earlier` that was throttled, 0.0..=1.0; zero where no period passed.
    pub fn throttled_ratio(&self, earlier: &Self) -> f64 {
        let periods = self.periods.saturating_sub(earlier.periods);
        if periods <= 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 64 bits")]
        let ratio = self.throttled.saturating_sub(earlier.throttled) as f64 / periods as f64;
        ratio
    }
}

/// The number behind the key; of several, the last.
fn field(content: &str, key: &str) -> Result<i64> {
    let text = content
        .lines()
        .rev()
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(key)).then(|| words.next()).flatten()
        })
        .ok_or_else(|| Error::invalid("cpu.stat", format!("no {key}")))?;
    text.parse().map_err(|e| Error::invalid("cpu.stat", format!("{key} {text:?}: {e}")))
}
