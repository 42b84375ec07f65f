//! `koordinator.sh/cpuQOS`: a pod's own CPU identity (`apis/slo/v1alpha1/pod.go`).

use serde::Serialize;

use super::json::{go_object, in_range, invalid, read};
use crate::error::Result;

/// The annotation.
pub const KEY: &str = "koordinator.sh/cpuQOS";

/// What the pod wants of its CPU identity. Only LS pods may (see [`crate::policy::koordinator::identity`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuQos {
    /// Whether the pod has a CPU identity at all; unset counts as no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// The identity, −1..=2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_identity: Option<i64>,
    /// `cpu.idle`, 0 or 1; koordlet does not read it from pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sched_idle: Option<i64>,
    /// A core scheduling option; koordlet does not read it from pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_expeller: Option<bool>,
}

go_object!(CpuQos {
    enable = "enable",
    group_identity = "groupIdentity",
    sched_idle = "schedIdle",
    core_expeller = "coreExpeller",
});

impl CpuQos {
    /// Reads the annotation's value; an identity outside −1..=2 is an error.
    pub fn parse(value: &str) -> Result<Self> {
        let qos: Self = read(KEY, value)?;
        in_range("groupIdentity", qos.group_identity, -1..=2).map_err(|why| invalid(KEY, why))?;
        Ok(qos)
    }
}
