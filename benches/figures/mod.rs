//! What figures are made of: medians, intervals, comparisons within a round, verdicts; and chance.

use serde_json::{Value, json};

/// A median, with the interval that holds the true one 95 times in 100 (the sign test turned round).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Of how many values.
    count: usize,
}

/// The range of fewer values is no interval of 95 %.
const FEWEST: usize = 6;

impl Figure {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = values.into_iter().collect();
        all.sort_by(f64::total_cmp);
        // Ranks n/2 -+ 1.96 sqrt(n)/2.
        let (half, spread) = (all.len() as f64 / 2.0, 0.98 * (all.len() as f64).sqrt());
        let last = all.len() - 1;
        let low = ((half - spread).max(0.0) as usize).min(last);
        let high = ((half + spread) as usize).min(last);
        let middle = all.len() / 2;
        let median =
            if all.len() % 2 == 1 { all[middle] } else { f64::midpoint(all[middle - 1], all[middle]) };
        Self { median, low: all[low], high: all[high], count: all.len() }
    }

    /// Of the ratios of two arms' values of one round each.
    pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(a, b)| if a == b { 1.0 } else { a / b }))
    }

    /// Of the differences.
    pub(crate) fn difference(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(a, b)| a - b))
    }

    /// Whether it stays at or below a goal: only said where the whole interval agrees.
    pub(crate) fn at_most(&self, goal: f64) -> Verdict {
        self.verdict(self.high <= goal, self.low > goal)
    }

    /// Whether it stays at or above a goal.
    pub(crate) fn at_least(&self, goal: f64) -> Verdict {
        self.verdict(self.low >= goal, self.high < goal)
    }

    /// The same with another scale: each end as this makes it, which may turn them round.
    pub(crate) fn map(&self, scale: impl Fn(f64) -> f64) -> Self {
        let (one, other) = (scale(self.low), scale(self.high));
        Self { median: scale(self.median), low: one.min(other), high: one.max(other), count: self.count }
    }

    fn verdict(&self, reached: bool, missed: bool) -> Verdict {
        match (reached, missed) {
            _ if self.count < FEWEST => Verdict::CannotTell,
            (true, _) => Verdict::Reached,
            (_, true) => Verdict::Missed,
            _ => Verdict::CannotTell,
        }
    }

    /// `median [low, high]`.
    pub(crate) fn text(&self, decimals: usize) -> String {
        format!("{:.decimals$} [{:.decimals$}, {:.decimals$}]", self.median, self.low, self.high)
    }

    pub(crate) fn json(&self) -> Value {
        json!({"median": self.median, "low": self.low, "high": self.high})
    }
}

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    Missed,
    CannotTell,
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "not reached",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// The value that so many of a sorted list stay at or below.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(f64::NAN, f64::from)
}

/// xorshift64: chance enough to shuffle arms and to space requests, and a seed to print.
#[derive(Debug)]
pub(crate) struct Dice {
    /// What it began with.
    pub(crate) seed: u64,
    now: u64,
}

impl Dice {
    pub(crate) fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        Self::from(u64::from(now.subsec_nanos()) << 32 | now.as_secs())
    }

    /// The same seed gives the same chance.
    pub(crate) fn from(seed: u64) -> Self {
        // Small seeds would begin with small numbers.
        Self { seed, now: (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd134_2543_de82_ef95) | 1 }
    }

    /// 0..n in random order.
    pub(crate) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
        order
    }

    /// From 0 to just below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.now ^= self.now << 13;
        self.now ^= self.now >> 7;
        self.now ^= self.now << 17;
        self.now
    }
}
