//! Group Identity: which `cpu.bvt_warp_ns` goes where (`runtimehooks/hooks/groupidentity`).

use serde::Serialize;

use super::slo::{CpuPolicy, NodeSlo};
use crate::annotations::CpuQos;
use crate::qos::{KubeQos, QosClass};

/// Identities by class and by Kubernetes QoS, each −1..=2, 0 = none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityRule {
    /// Whether any class has an identity.
    pub enabled: bool,
    /// Of pods, by `QosClass as usize`; where there is none, the Kubernetes QoS decides.
    pub class: [Option<i64>; 5],
    /// Of the Kubernetes QoS groups, by `KubeQos as usize`.
    pub kube_group: [i64; 3],
    /// Of pods without a class, by `KubeQos as usize`.
    pub kube_pod: [i64; 3],
}

impl IdentityRule {
    /// The rule that follows from a node's configuration (`parseRule`).
    pub fn from_slo(slo: &NodeSlo) -> Self {
        let value = |qos: &super::slo::ClassCpuQos| {
            (slo.cpu_policy == CpuPolicy::GroupIdentity && qos.enable).then_some(qos.group_identity)
        };
        let (lsr, ls, be) = (value(&slo.lsr), value(&slo.ls), value(&slo.be));
        let none = |value: Option<i64>| value.unwrap_or(0);
        Self {
            enabled: lsr.or(ls).or(be).is_some(),
            class: [Some(none(lsr)), Some(none(lsr)), Some(none(ls)), Some(none(be)), None],
            // The root of the pods must stay at 0 until the kernel supports more there.
            kube_group: [0, none(ls), none(be)],
            kube_pod: [none(lsr.or(ls)), none(ls), none(be)],
        }
    }

    /// The identity of a pod, where its own annotation says nothing.
    pub fn pod(&self, class: Option<QosClass>, kube: KubeQos) -> i64 {
        class
            .and_then(|class| self.class.get(class as usize).copied().flatten())
            .unwrap_or_else(|| self.kube_pod.get(kube as usize).copied().unwrap_or(0))
    }

    /// The identity of a pod with its own `cpuQOS` annotation. Only LS pods may change theirs, to be treated as best
    /// effort for instance; without `enable: true` they have none.
    pub fn pod_with(&self, class: Option<QosClass>, kube: KubeQos, own: Option<&CpuQos>) -> i64 {
        let value = self.pod(class, kube);
        match own {
            Some(own) if class == Some(QosClass::Ls) => {
                if own.enable == Some(true) {
                    own.group_identity.unwrap_or(value)
                } else {
                    0
                }
            }
            _ => value,
        }
    }

    /// The identity of a Kubernetes QoS group (`kubepods`, `burstable`, `besteffort`).
    pub fn kube_group(&self, kube: KubeQos) -> i64 {
        self.kube_group.get(kube as usize).copied().unwrap_or(0)
    }

    /// The identity of a host application.
    pub fn host_app(&self, class: Option<QosClass>) -> i64 {
        class.and_then(|class| self.class.get(class as usize).copied().flatten()).unwrap_or(0)
    }

    /// Whether anything is to be written (`prepare`): the kernel has Group Identity, and either some class has an identity
    /// or the switch is on, so that values from before must be taken back.
    pub fn applies(&self, supported: bool, switch: Switch) -> bool {
        supported
            && match switch {
                Switch::Absent | Switch::On => true,
                Switch::Off => self.enabled,
                Switch::Unreadable => false,
            }
    }
}

/// Whether the kernel has Group Identity: the file under `kubepods`, or the sysctl.
pub fn is_supported(bvt_file_in_kubepods: bool, switch: Switch) -> bool {
    bvt_file_in_kubepods || switch != Switch::Absent
}

/// A sysctl that is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// There is no such file.
    Absent,
    /// There is one, and it cannot be read.
    Unreadable,
    /// It is 0.
    Off,
    /// It is not 0.
    On,
}

/// One step on the way to a kernel that takes identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchWrite {
    /// Write 0 to `kernel.sched_core`.
    DisableCoreScheduling,
    /// Write 1 to `kernel.sched_group_identity_enabled`.
    EnableGroupIdentity,
}

/// What to write, in this order, stopping at the first failure (`initSysctl`). Kernels without the identity switch have it
/// always on. Core scheduling goes off first, for a kernel with both may lock up; a switch that cannot be read is
/// written, so that the failure shows.
pub fn switch_writes(group_identity: Switch, core_scheduling: Switch) -> impl Iterator<Item = SwitchWrite> {
    let present = group_identity != Switch::Absent;
    let disable = present && matches!(core_scheduling, Switch::On | Switch::Unreadable);
    let enable = matches!(group_identity, Switch::Off | Switch::Unreadable);
    [
        disable.then_some(SwitchWrite::DisableCoreScheduling),
        enable.then_some(SwitchWrite::EnableGroupIdentity),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_switched_on_a_kernel_without_the_switch() {
        assert_eq!(switch_writes(Switch::Absent, Switch::On).count(), 0);
    }

    #[test]
    fn core_scheduling_goes_off_before_group_identity_goes_on() {
        let writes: Vec<_> = switch_writes(Switch::Off, Switch::On).collect();
        assert_eq!(writes, [SwitchWrite::DisableCoreScheduling, SwitchWrite::EnableGroupIdentity]);
        assert_eq!(switch_writes(Switch::On, Switch::Off).count(), 0);
    }

    #[test]
    fn only_ls_pods_may_change_their_identity() {
        let rule = IdentityRule {
            enabled: true,
            class: [Some(2), Some(2), Some(2), Some(-1), None],
            kube_group: [0, 2, -1],
            kube_pod: [2, 2, -1],
        };
        let own = CpuQos::parse("{\"enable\":true,\"groupIdentity\":-1}").unwrap();
        for (class, value) in [(QosClass::Lse, 2), (QosClass::Lsr, 2), (QosClass::Ls, -1), (QosClass::Be, -1)]
        {
            assert_eq!(rule.pod_with(Some(class), KubeQos::Burstable, Some(&own)), value, "{class}");
        }
        let unset = CpuQos::parse("{\"groupIdentity\":-1}").unwrap();
        assert_eq!(rule.pod_with(Some(QosClass::Ls), KubeQos::Burstable, Some(&unset)), 0);
        assert_eq!(rule.pod_with(Some(QosClass::System), KubeQos::BestEffort, None), -1);
    }
}
