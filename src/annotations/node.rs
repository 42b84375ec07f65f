//! What Koordinator says about a node: annotations of the Node and NodeResourceTopology objects
//! (`apis/extension/{cpu_normalization,system_qos,node_reservation,numa_aware}.go`). They come in as a function from key
//! to value, so that any map will do.

use serde::Serialize;

use super::json::{CpuList, Elements, Entries, bounded, go_object, invalid, read, write_cpus};
use super::resources::Resources;
use crate::cpuset::CpuSet;
use crate::error::Result;
use crate::quantity::Quantity;

/// How much faster this node's CPUs are than the base model's.
pub const CPU_NORMALIZATION_RATIO: &str = "node.koordinator.sh/cpu-normalization-ratio";
/// The CPUs for SYSTEM pods.
pub const SYSTEM_QOS_RESOURCE: &str = "node.koordinator.sh/system-qos-resource";
/// What is reserved for the node itself.
pub const RESERVATION: &str = "node.koordinator.sh/reservation";
/// The CPUs of the shared pool.
pub const CPU_SHARED_POOLS: &str = "node.koordinator.sh/cpu-shared-pools";
/// The CPUs best effort may use.
pub const BE_CPU_SHARED_POOLS: &str = "node.koordinator.sh/be-cpu-shared-pools";
/// How kubelet manages CPUs.
pub const CPU_MANAGER_POLICY: &str = "kubelet.koordinator.sh/cpu-manager-policy";

/// Ratios that differ by no more than this are the same.
pub const RATIO_EPSILON: f64 = 0.01;

/// The CPU normalization ratio; `None` without the annotation, an error where it is no number above zero.
pub fn cpu_normalization_ratio<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Result<Option<f64>> {
    let key = CPU_NORMALIZATION_RATIO;
    let Some(text) = annotation(key) else {
        return Ok(None);
    };
    match bounded(key, text)?.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(Some(ratio)),
        Ok(ratio) => Err(invalid(key, format_args!("{ratio} is not above zero"))),
        Err(e) => Err(invalid(key, e)),
    }
}

/// A ratio as Koordinator writes it: two decimals, halves to even.
pub fn format_ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Whether two ratios differ by more than [`RATIO_EPSILON`].
pub fn is_ratio_different(old: f64, new: f64) -> bool {
    old > new + RATIO_EPSILON || old < new - RATIO_EPSILON
}

/// The CPUs for SYSTEM pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemQosResource {
    /// The CPUs; empty where none are set aside.
    #[serde(serialize_with = "write_cpus")]
    pub cpuset: CpuSet,
    /// Whether no other class may use them; unset counts as yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_exclusive: Option<bool>,
}

go_object!(SystemQosResource {
    cpuset = "cpuset" via CpuList,
    cpuset_exclusive = "cpusetExclusive",
});

impl SystemQosResource {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Result<Self> {
        read(SYSTEM_QOS_RESOURCE, value)
    }

    /// Whether no other class may use the CPUs.
    pub fn is_exclusive(&self) -> bool {
        self.cpuset_exclusive.unwrap_or(true)
    }
}

/// What is reserved for the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReservation {
    /// Amounts by resource name.
    pub resources: Resources,
    /// A CPU list, as written; it wins over an amount of `cpu`.
    #[serde(rename = "reservedCPUs")]
    pub reserved_cpus: String,
    /// `Default` or `ReservedCPUsOnly`.
    pub apply_policy: String,
}

go_object!(NodeReservation {
    resources = "resources" via Entries<Quantity>,
    reserved_cpus = "reservedCPUs",
    apply_policy = "applyPolicy",
});

impl NodeReservation {
    /// Reads the annotation's value; an empty one reserves nothing.
    pub fn parse(value: &str) -> Result<Self> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        read(RESERVATION, value)
    }

    /// The CPUs reserved by number.
    pub fn cpus(&self) -> Result<CpuSet> {
        self.reserved_cpus.parse().map_err(|e| invalid(RESERVATION, e))
    }

    /// How many CPUs are reserved without saying which: the amount of `cpu` rounded up, never below zero, and zero where
    /// CPUs are reserved by number.
    pub fn cpu_count(&self) -> i64 {
        if !self.reserved_cpus.is_empty() {
            return 0;
        }
        self.resources.get("cpu").map_or(0, |cpu| cpu.value().max(0))
    }
}

/// A shared pool's CPUs on one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuSharedPool {
    /// The socket's number.
    pub socket: i32,
    /// The NUMA node's number.
    pub node: i32,
    /// The CPUs.
    #[serde(serialize_with = "write_cpus")]
    pub cpuset: CpuSet,
}

go_object!(CpuSharedPool {
    socket = "socket",
    node = "node",
    cpuset = "cpuset" via CpuList,
});

/// Reads the value of [`CPU_SHARED_POOLS`] or [`BE_CPU_SHARED_POOLS`], whichever `key` names.
pub fn parse_pools(key: &str, value: &str) -> Result<Vec<CpuSharedPool>> {
    read::<Elements<CpuSharedPool>>(key, value).map(Into::into)
}

/// How kubelet manages CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuManagerPolicy {
    /// `static`, `none`, or nothing.
    pub policy: String,
    /// A CPU list, as written.
    #[serde(rename = "reservedCPUs")]
    pub reserved_cpus: String,
}

go_object!(CpuManagerPolicy {
    policy = "policy",
    reserved_cpus = "reservedCPUs",
});

impl CpuManagerPolicy {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Result<Self> {
        read(CPU_MANAGER_POLICY, value)
    }

    /// Whether kubelet pins containers itself.
    pub fn is_static(&self) -> bool {
        self.policy == "static"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_written_with_halves_to_even() {
        for (ratio, text) in
            [(1.125, "1.12"), (1.375, "1.38"), (1.15, "1.15"), (2.346, "2.35"), (1.2, "1.20")]
        {
            assert_eq!(format_ratio(ratio), text);
        }
    }

    #[test]
    fn a_ratio_must_be_a_number_above_zero() {
        let ratio = |text: &'static str| cpu_normalization_ratio(move |_| Some(text));
        assert_eq!(ratio("1.10").unwrap(), Some(1.1));
        assert_eq!(cpu_normalization_ratio(|_| None).unwrap(), None);
        for bad in ["", "0", "-1", "nan", "inf", "1,1", "1.1 "] {
            assert!(ratio(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn system_cpus_are_exclusive_unless_said_otherwise() {
        assert!(SystemQosResource::parse("{\"cpuset\":\"0-1\"}").unwrap().is_exclusive());
        assert!(!SystemQosResource::parse("{\"cpusetExclusive\":false}").unwrap().is_exclusive());
    }

    #[test]
    fn reserved_cpus_win_over_an_amount() {
        let reservation = NodeReservation::parse("{\"resources\":{\"cpu\":\"2.5\"}}").unwrap();
        assert_eq!(reservation.cpu_count(), 3);
        let reservation =
            NodeReservation::parse("{\"resources\":{\"cpu\":10},\"ReservedCPUs\":\"0-1\"}").unwrap();
        assert_eq!((reservation.cpu_count(), reservation.cpus().unwrap().len()), (0, 2));
    }
}
