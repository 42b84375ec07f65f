//! `koordinator.sh/cpuBurst`: how much a pod may run above its CPU limit (`apis/slo/v1alpha1/nodeslo_types.go`), and
//! the Volcano and rubik keys for the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::json::{bounded, go_object, in_range, invalid, read};
use crate::error::{Error, Result};

/// Koordinator's annotation.
pub const KEY: &str = "koordinator.sh/cpuBurst";
/// Volcano: `true` or `false`.
pub const VOLCANO_ENABLE: &str = "volcano.sh/enable-quota-burst";
/// Volcano and rubik: the burst in µs, or −1 for none.
pub const VOLCANO_TIME: &str = "volcano.sh/quota-burst-time";

/// The most burst that can be asked for in µs (100 s), the range of `cpu.cfs_burst_us` in Koordinator's registry.
const MAX_BURST_US: i64 = 100_000_000;

/// Which of the two bursts Koordinator may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BurstPolicy {
    /// No burst.
    None,
    /// Both bursts.
    Auto,
    /// Only the kernel's burst (`cpu.cfs_burst_us`).
    CpuBurstOnly,
    /// Only koordlet's raising of the quota.
    CfsQuotaBurstOnly,
}

impl BurstPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::None, Self::Auto, Self::CpuBurstOnly, Self::CfsQuotaBurstOnly];

    /// The name as Koordinator writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::CpuBurstOnly => "cpuBurstOnly",
            Self::CfsQuotaBurstOnly => "cfsQuotaBurstOnly",
        }
    }

    /// Whether the kernel's burst is to be set.
    pub fn bursts_cpu(self) -> bool {
        matches!(self, Self::Auto | Self::CpuBurstOnly)
    }

    /// Whether the quota may be raised for a while.
    pub fn bursts_quota(self) -> bool {
        matches!(self, Self::Auto | Self::CfsQuotaBurstOnly)
    }
}

impl fmt::Display for BurstPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BurstPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| {
            Error::invalid(
                format!("burst policy {:?}", text.chars().take(40).collect::<String>()),
                "not one of none, auto, cpuBurstOnly, cfsQuotaBurstOnly",
            )
        })
    }
}

/// A burst configuration; what is unset is taken from the node's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuBurst {
    /// Which bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<BurstPolicy>,
    /// The kernel's burst in percent of the CPU limit, 1..=10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_burst_percent: Option<i64>,
    /// How far the quota may be raised, in percent of it, at least 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cfs_quota_burst_percent: Option<i64>,
    /// For how long the quota may stay raised, in seconds; −1 = without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cfs_quota_burst_period_seconds: Option<i64>,
    /// The kernel's burst in µs, 0..=100000000, in place of the percentage (Volcano and rubik only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_us: Option<i64>,
}

/// A policy in a JSON string; the empty one is unset.
#[derive(Default)]
pub(crate) struct PolicyText(Option<BurstPolicy>);

impl<'de> Deserialize<'de> for PolicyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|p| Self(Some(p))).map_err(serde::de::Error::custom)
    }
}

impl From<PolicyText> for Option<BurstPolicy> {
    fn from(text: PolicyText) -> Self {
        text.0
    }
}

go_object!(CpuBurst {
    policy = "policy" via PolicyText,
    cpu_burst_percent = "cpuBurstPercent",
    cfs_quota_burst_percent = "cfsQuotaBurstPercent",
    cfs_quota_burst_period_seconds = "cfsQuotaBurstPeriodSeconds",
    burst_us = "burstUs",
});

impl CpuBurst {
    /// Reads the value of Koordinator's annotation.
    pub fn parse(value: &str) -> Result<Self> {
        let mut burst: Self = read(KEY, value)?;
        // Koordinator knows no such field; it is read only from our own records.
        burst.burst_us = None;
        burst.check().map_err(|why| invalid(KEY, why))?;
        Ok(burst)
    }

    /// Refuses numbers outside their range (`validate:` tags of `CPUBurstConfig`); the error is the reason.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let max = i64::from(i32::MAX);
        in_range("cpuBurstPercent", self.cpu_burst_percent, 1..=10_000)?;
        in_range("cfsQuotaBurstPercent", self.cfs_quota_burst_percent, 100..=max)?;
        in_range("cfsQuotaBurstPeriodSeconds", self.cfs_quota_burst_period_seconds, -1..=max)?;
        in_range("burstUs", self.burst_us, 0..=MAX_BURST_US)
    }

    /// This configuration, and the node's where nothing is set here (koordlet's `genPodBurstConfig`).
    #[must_use]
    pub fn over(&self, node: &Self) -> Self {
        Self {
            policy: self.policy.or(node.policy),
            cpu_burst_percent: self.cpu_burst_percent.or(node.cpu_burst_percent),
            cfs_quota_burst_percent: self.cfs_quota_burst_percent.or(node.cfs_quota_burst_percent),
            cfs_quota_burst_period_seconds: self
                .cfs_quota_burst_period_seconds
                .or(node.cfs_quota_burst_period_seconds),
            burst_us: self.burst_us.or(node.burst_us),
        }
    }

    /// What the Volcano and rubik keys ask for: rubik needs only the time, Volcano the switch, which wins.
    pub(crate) fn from_volcano(enable: Option<&str>, time: Option<&str>) -> Result<Option<Self>> {
        let enable = match enable.map(|value| bounded(VOLCANO_ENABLE, value)).transpose()? {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(invalid(VOLCANO_ENABLE, "neither true nor false")),
        };
        let time = match time.map(|value| bounded(VOLCANO_TIME, value)).transpose()? {
            None => None,
            Some(text) => match text.parse::<i64>() {
                Ok(-1) => None,
                Ok(us @ 0..=MAX_BURST_US) => Some(us),
                _ => {
                    return Err(invalid(
                        VOLCANO_TIME,
                        format_args!("not a number of µs in 0..={MAX_BURST_US}, or -1"),
                    ));
                }
            },
        };
        let policy = match (enable, time) {
            (None, None) => return Ok(None),
            (Some(false), _) => BurstPolicy::None,
            _ => BurstPolicy::CpuBurstOnly,
        };
        Ok(Some(Self { policy: Some(policy), burst_us: time, ..Self::default() }))
    }
}
