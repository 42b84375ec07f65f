//! Koordinator's priority bands (`apis/extension/{priority,priority_utils}.go`).

use std::fmt;

use crate::qos::{KubeQos, QosClass};

/// The pod label that names a band and overrides the pod's priority number.
pub const LABEL: &str = "koordinator.sh/priority-class";

/// A band of priority numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PriorityClass {
    /// 9000..=9999
    Prod,
    /// 7000..=7999
    Mid,
    /// 5000..=5999
    Batch,
    /// 3000..=3999
    Free,
}

impl PriorityClass {
    /// Every band, the highest first.
    pub const ALL: [Self; 4] = [Self::Prod, Self::Mid, Self::Batch, Self::Free];

    /// The name as Koordinator writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prod => "koord-prod",
            Self::Mid => "koord-mid",
            Self::Batch => "koord-batch",
            Self::Free => "koord-free",
        }
    }

    /// The band the number lies in.
    pub fn of_number(priority: i32) -> Option<Self> {
        match priority {
            9000..=9999 => Some(Self::Prod),
            7000..=7999 => Some(Self::Mid),
            5000..=5999 => Some(Self::Batch),
            3000..=3999 => Some(Self::Free),
            _ => None,
        }
    }

    /// The band of a pod by its label or else its number; a label that names no band hides the number.
    pub fn of_pod(label: Option<&str>, priority: Option<i32>) -> Option<Self> {
        match label {
            Some(name) => Self::ALL.into_iter().find(|class| class.name() == name),
            None => priority.and_then(Self::of_number),
        }
    }

    /// The band of a pod, by its class where label and number name none.
    pub fn with_default(label: Option<&str>, priority: Option<i32>, class: QosClass) -> Self {
        Self::of_pod(label, priority).unwrap_or_else(|| Self::of_class(class))
    }

    /// The priority number of a pod: its own unless that is zero, else its band's.
    pub fn number_with_default(label: Option<&str>, priority: Option<i32>, class: QosClass) -> i32 {
        match priority {
            Some(number) if number != 0 => number,
            _ => Self::with_default(label, priority, class).number(),
        }
    }

    /// The band of pods of this class that name none.
    pub fn of_class(class: QosClass) -> Self {
        match class {
            QosClass::Be => Self::Batch,
            QosClass::Lse | QosClass::Lsr | QosClass::Ls | QosClass::System => Self::Prod,
        }
    }

    /// The number of pods of this band that have none.
    pub fn number(self) -> i32 {
        match self {
            Self::Prod => 9500,
            Self::Mid => 7500,
            Self::Batch => 5500,
            Self::Free => 3500,
        }
    }
}

impl fmt::Display for PriorityClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The class Koordinator takes a pod to have that names none (`GetPodQoSClassWithKubeQoS`).
pub fn default_class(kube: KubeQos) -> QosClass {
    match kube {
        KubeQos::Guaranteed => QosClass::Lsr,
        KubeQos::Burstable => QosClass::Ls,
        KubeQos::BestEffort => QosClass::Be,
    }
}
