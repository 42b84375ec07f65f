//! A knob's value in the kernel's unit, with a form for people beside it.

use crate::kernel::control::{Knob, Value};

/// The CFS period where a group says none, microseconds.
const PERIOD: i64 = 100_000;

/// The value, its unit, and what it amounts to: `50000 us = 0.5 cpu`. `period` is the group's CFS period in
/// microseconds.
pub(super) fn value(knob: Knob, value: &Value, period: Option<i64>) -> String {
    let period = period.filter(|period| *period > 0).unwrap_or(PERIOD);
    let n = match value {
        Value::Int(n) => *n,
        Value::Set(set) if set.is_empty() => return "none".to_owned(),
        Value::Set(set) => {
            let cpus = if set.len() == 1 { "cpu" } else { "cpus" };
            return match knob {
                Knob::Cpus => format!("{set} = {} {cpus}", set.len()),
                _ => set.to_string(),
            };
        }
    };
    match knob {
        Knob::Quota if n < 0 => "-1 = no limit".to_owned(),
        Knob::Quota => format!("{n} us = {} cpu", ratio(n, period)),
        Knob::Burst => format!("{n} us = {} cpu more for one period", ratio(n, period)),
        Knob::Period => format!("{n} us = {} ms", ratio(n, 1000)),
        Knob::Shares => format!("{n} = {} cpu", ratio(n, 1024)),
        Knob::Weight => format!("{n} = {} x the default", ratio(n, 100)),
        Knob::MemoryLimit if n < 0 => "-1 = no limit".to_owned(),
        Knob::MemoryLimit => format!("{n} = {}", bytes(n)),
        Knob::BvtWarp => format!("{n} = {}", ["idle", "low", "normal", "high", "highest"][level(n)]),
        Knob::QosLevel => format!("{n} = {}", ["offline", "offline", "normal", "high", "highest"][level(n)]),
        Knob::Priority => {
            format!("{n} = {}", ["low", "normal", "high"][usize::from(n >= 0) + usize::from(n > 0)])
        }
        Knob::Expel => {
            format!("{n} = {}", ["expelled", "normal", "expels"][usize::from(n >= 0) + usize::from(n > 0)])
        }
        Knob::Idle => format!("{n} = {}", if n == 0 { "normal" } else { "idle" }),
        Knob::Offline => format!("{n} = {}", if n == 0 { "online" } else { "offline" }),
        Knob::Cpus | Knob::Mems => n.to_string(),
    }
}

/// An index for -2..=2.
fn level(n: i64) -> usize {
    usize::try_from(n.clamp(-2, 2) + 2).unwrap_or(2)
}

/// `n / unit` with at most three digits after the point, and none that say nothing.
fn ratio(n: i64, unit: i64) -> String {
    let thousandths = i128::from(n) * 1000 / i128::from(unit);
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:03}").trim_end_matches('0').to_owned()
}

/// Bytes in the largest binary unit.
pub(super) fn bytes(n: i64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{} {unit}", ratio(n, size)),
        None => format!("{n} B"),
    }
}

/// Nanoseconds as seconds or milliseconds.
pub(super) fn time(ns: u64) -> String {
    let ns = i64::try_from(ns).unwrap_or(i64::MAX);
    if ns >= 1_000_000_000 {
        format!("{} s", ratio(ns, 1_000_000_000))
    } else {
        format!("{} ms", ratio(ns, 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_kernels_unit_with_a_human_form() {
        for (knob, n, period, text) in [
            (Knob::Quota, 50_000, None, "50000 us = 0.5 cpu"),
            (Knob::Quota, 50_000, Some(50_000), "50000 us = 1 cpu"),
            (Knob::Quota, -1, None, "-1 = no limit"),
            (Knob::Shares, 512, None, "512 = 0.5 cpu"),
            (Knob::MemoryLimit, 268_435_456, None, "268435456 = 256 MiB"),
            (Knob::BvtWarp, -1, None, "-1 = low"),
            (Knob::BvtWarp, 2, None, "2 = highest"),
            (Knob::Priority, 1, None, "1 = high"),
            (Knob::Idle, 1, None, "1 = idle"),
        ] {
            assert_eq!(value(knob, &Value::Int(n), period), text);
        }
        assert_eq!(value(Knob::Cpus, &Value::Set("0-2".parse().unwrap()), None), "0-2 = 3 cpus");
    }
}
