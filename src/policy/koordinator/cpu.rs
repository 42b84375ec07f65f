//! From CPU amounts to control file values and back (`pkg/koordlet/util/system/{cgroup,cgroup2,cgroup_resource}.go`).

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// The CFS period that every quota here stands for, in µs.
pub const PERIOD_US: i64 = 100_000;
/// No limit, as cgroup v1 writes it.
pub const UNLIMITED: i64 = -1;
/// The range of `cpu.shares`.
pub const SHARES: RangeInclusive<i64> = 2..=262_144;
/// The range of `cpu.weight`.
pub const WEIGHT: RangeInclusive<i64> = 1..=10_000;

/// The smallest CFS quota the kernel takes, in µs.
const MIN_QUOTA_US: i64 = 1000;

/// `cpu.shares` for an amount of CPU in thousandths: 1024 per CPU, within [`SHARES`].
pub fn milli_to_shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(*SHARES.start(), *SHARES.end())
}

/// The CFS quota in µs for a limit in thousandths of a CPU, at least 1000; [`UNLIMITED`] where the limit is not above zero.
pub fn milli_to_quota(milli: i64) -> i64 {
    if milli <= 0 {
        return UNLIMITED;
    }
    (milli.saturating_mul(PERIOD_US) / 1000).max(MIN_QUOTA_US)
}

/// A quota in µs on a node whose CPUs are `ratio` times as fast as the base model: divided, rounded up. Ratios up to 1
/// and quotas that are not above zero change nothing. Never below what the kernel takes, where Koordinator goes below.
pub fn normalize_quota(quota_us: i64, ratio: Option<f64>) -> i64 {
    match ratio {
        Some(ratio) if ratio > 1.0 && quota_us > 0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "float to integer casts saturate, and the quotient is no larger than the quota"
            )]
            let scaled = (quota_us as f64 / ratio).ceil() as i64;
            scaled.max(MIN_QUOTA_US.min(quota_us))
        }
        _ => quota_us,
    }
}

/// `cpu.weight` for `cpu.shares`, by the linear map of kubelet (KEP-2254) and koordlet. runc and crun map another way.
pub fn shares_to_weight(shares: i64) -> Result<i64> {
    check("cpu.shares", shares, &SHARES)?;
    Ok((1 + (shares - 2) * 9999 / 262_142).clamp(*WEIGHT.start(), *WEIGHT.end()))
}

/// `cpu.shares` for `cpu.weight`, the inverse of [`shares_to_weight`].
pub fn weight_to_shares(weight: i64) -> Result<i64> {
    check("cpu.weight", weight, &WEIGHT)?;
    Ok(((weight - 1) * 262_142 / 9999 + 2).clamp(*SHARES.start(), *SHARES.end()))
}

/// A control file's number, if it is within the range; `max` is the largest number there is.
pub fn parse_in_range(what: &str, text: &str, range: &RangeInclusive<i64>) -> Result<i64> {
    let number = if text == "max" {
        i64::MAX
    } else {
        text.parse().map_err(|e| Error::invalid(what, format!("{text:?}: {e}")))?
    };
    check(what, number, range)?;
    Ok(number)
}

fn check(what: &str, number: i64, range: &RangeInclusive<i64>) -> Result<()> {
    if range.contains(&number) {
        Ok(())
    } else {
        let why = format!("{number} is not in {}..={}", range.start(), range.end());
        Err(Error::invalid(what, why))
    }
}

/// The quota in µs out of `cpu.max` (`max 100000`, `50000 100000`); [`UNLIMITED`] for `max`.
pub fn parse_cpu_max(content: &str) -> Result<i64> {
    let bad = || Error::invalid("cpu.max", format!("{content:?} is not a quota and a period"));
    let mut fields = content.split_ascii_whitespace();
    let (Some(quota), Some(_), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(bad());
    };
    if quota == "max" {
        return Ok(UNLIMITED);
    }
    quota.parse().map_err(|_| bad())
}

/// Whether one limit is wider than another; −1 is the widest. A parent must be widened before its children and narrowed
/// after them, so the way down a tree writes only what this says yes to (koordlet's `MergeUpdate`).
pub fn is_wider(limit: i64, than: i64) -> bool {
    let rank = |limit: i64| if limit == UNLIMITED { i64::MAX } else { limit };
    rank(limit) > rank(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_beyond_the_ranges_are_clamped() {
        assert_eq!((milli_to_shares(i64::MAX), milli_to_shares(i64::MIN)), (262_144, 2));
        assert_eq!((milli_to_quota(i64::MAX) > 0, milli_to_quota(i64::MIN)), (true, -1));
        assert_eq!((milli_to_quota(1), milli_to_quota(10), milli_to_quota(11)), (1000, 1000, 1100));
    }

    #[test]
    fn weights_survive_the_way_to_shares_and_back() {
        for weight in WEIGHT {
            let back = shares_to_weight(weight_to_shares(weight).unwrap()).unwrap();
            assert!((weight - back).abs() <= 1, "{weight} {back}");
        }
        assert_eq!((shares_to_weight(2).unwrap(), shares_to_weight(262_144).unwrap()), (1, 10_000));
    }

    #[test]
    fn faster_cpus_need_less_quota() {
        assert_eq!(normalize_quota(100_000, Some(1.2)), 83_334);
        for ratio in [None, Some(1.0), Some(0.5), Some(0.0), Some(-1.0), Some(f64::NAN)] {
            assert_eq!(normalize_quota(100_000, ratio), 100_000);
        }
        assert_eq!(normalize_quota(-1, Some(2.0)), -1);
        assert_eq!(normalize_quota(100_000, Some(f64::INFINITY)), 1000);
    }
}
