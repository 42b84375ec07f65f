//! CPU normalization: smaller quotas on nodes with faster CPUs (`runtimehooks/hooks/cpunormalization`).

use super::cpu::normalize_quota;
use crate::annotations::node::RATIO_EPSILON;
use crate::qos::QosClass;

/// Whether a pod's quota is normalized: LS, or no class and no CPUs of its own.
pub fn is_cpu_share(class: Option<QosClass>, has_own_cpus: bool) -> bool {
    match class {
        Some(class) => class == QosClass::Ls,
        None => !has_own_cpus,
    }
}

/// The quota to set in place of `quota_us`; `None` where there is no ratio or no quota, and nothing is to be written.
pub fn adjusted_quota(quota_us: i64, ratio: Option<f64>) -> Option<i64> {
    (ratio.is_some() && quota_us > 0).then(|| normalize_quota(quota_us, ratio))
}

/// Whether a new ratio is worth rewriting quotas for.
pub fn is_rule_changed(old: Option<f64>, new: Option<f64>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => (old - new).abs() >= RATIO_EPSILON,
        (None, None) => false,
        _ => true,
    }
}
