//! The kernel's CPU burst (`qosmanager/plugins/cpuburst/cpu_burst.go`, `pkg/util/pod_qos_utils.go`).

use crate::annotations::CpuBurst;
use crate::qos::QosClass;

/// Whether pods of this class burst at all: not those with CPUs of their own, and not best effort.
pub fn is_burstable(class: Option<QosClass>) -> bool {
    !matches!(class, Some(QosClass::Lse | QosClass::Lsr | QosClass::Be))
}

/// `cpu.cfs_burst_us` for a container's limit in thousandths of a CPU, per period of 100 ms: the time of the annotation, or
/// the percentage of the limit. Zero where the policy has no burst or the limit is not above zero. A pod gets the sum
/// of its containers'. Mainline refuses more than the quota; that clamp is the writer's.
pub fn burst_us(limit_milli: i64, config: &CpuBurst) -> i64 {
    if limit_milli <= 0 || !config.policy.is_some_and(|policy| policy.bursts_cpu()) {
        return 0;
    }
    // limit/1000 CPUs × percent/100 × 100000 µs. In integers: koordlet's floats can end one µs below.
    config.burst_us.unwrap_or_else(|| limit_milli.saturating_mul(config.cpu_burst_percent.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_in_microseconds_wins_over_a_percentage() {
        let burst = |json: &str, us| {
            let mut config = CpuBurst::parse(json).unwrap();
            config.burst_us = us;
            burst_us(2000, &config)
        };
        assert_eq!(burst("{\"policy\":\"auto\",\"cpuBurstPercent\":50}", None), 100_000);
        assert_eq!(burst("{\"policy\":\"auto\",\"cpuBurstPercent\":50}", Some(20_000)), 20_000);
        assert_eq!(burst("{\"policy\":\"cfsQuotaBurstOnly\",\"cpuBurstPercent\":50}", Some(20_000)), 0);
        assert_eq!(burst("{\"cpuBurstPercent\":50}", None), 0);
    }
}
