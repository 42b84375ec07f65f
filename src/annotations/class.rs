//! Which class a container asks for, in every dialect that is understood.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::json::{bounded, invalid};
use crate::error::Result;
use crate::qos::QosClass;

/// The annotation that answered, the first of these that is there and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Koordinator's label, as an annotation.
    #[serde(rename = "koordinator.sh/qosClass")]
    Koordinator,
    /// Volcano: `LC` (own CPUs), `HLS`, `LS`, `BE`.
    #[serde(rename = "volcano.sh/qos-level")]
    Volcano,
    /// rubik: `true` is best effort, `false` is not.
    #[serde(rename = "volcano.sh/preemptable")]
    Rubik,
    /// Katalyst: `dedicated_cores`, `shared_cores`, `reclaimed_cores`, `system_cores`.
    #[serde(rename = "katalyst.kubewharf.io/qos_level")]
    Katalyst,
    /// Crane's CPU manager: `exclusive`, `share`; `none` asks for nothing.
    #[serde(rename = "qos.gocrane.io/cpu-manager")]
    Crane,
    /// CRI-O's copy of the pod's labels, a JSON object that holds Koordinator's label.
    #[serde(rename = "io.kubernetes.cri-o.Labels")]
    CrioLabels,
}

impl Source {
    /// Every source, the one that wins first.
    pub const ALL: [Self; 6] =
        [Self::Koordinator, Self::Volcano, Self::Rubik, Self::Katalyst, Self::Crane, Self::CrioLabels];

    /// The annotation's key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Koordinator => "koordinator.sh/qosClass",
            Self::Volcano => "volcano.sh/qos-level",
            Self::Rubik => "volcano.sh/preemptable",
            Self::Katalyst => "katalyst.kubewharf.io/qos_level",
            Self::Crane => "qos.gocrane.io/cpu-manager",
            Self::CrioLabels => "io.kubernetes.cri-o.Labels",
        }
    }

    /// The class that the value names; `None` where it asks for nothing.
    fn class(self, value: &str) -> Result<Option<QosClass>> {
        let value = bounded(self.key(), value)?;
        if value.is_empty() {
            return Ok(None);
        }
        let class = match self {
            Self::Koordinator => return koordinator(self.key(), value),
            Self::CrioLabels => return crio(value),
            Self::Volcano => match value {
                "LC" => QosClass::Lse,
                "HLS" | "LS" => QosClass::Ls,
                "BE" => QosClass::Be,
                _ => return Err(unknown(self.key(), value, "LC, HLS, LS, BE")),
            },
            Self::Rubik => match value {
                "true" => QosClass::Be,
                "false" => QosClass::Ls,
                _ => return Err(unknown(self.key(), value, "true, false")),
            },
            Self::Katalyst => match value {
                "dedicated_cores" => QosClass::Lse,
                "shared_cores" => QosClass::Ls,
                "reclaimed_cores" => QosClass::Be,
                "system_cores" => QosClass::System,
                _ => {
                    let known = "dedicated_cores, shared_cores, reclaimed_cores, system_cores";
                    return Err(unknown(self.key(), value, known));
                }
            },
            Self::Crane => match value {
                "exclusive" => QosClass::Lse,
                "share" => QosClass::Ls,
                "none" => return Ok(None),
                _ => return Err(unknown(self.key(), value, "none, share, exclusive")),
            },
        };
        Ok(Some(class))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

fn koordinator(key: &str, value: &str) -> Result<Option<QosClass>> {
    match value.parse() {
        Ok(class) => Ok(Some(class)),
        Err(_) => Err(unknown(key, value, "LSE, LSR, LS, BE, SYSTEM")),
    }
}

fn unknown(key: &str, value: &str, known: &str) -> crate::error::Error {
    let value: String = value.chars().take(40).collect();
    invalid(key, format_args!("{value:?} is not one of {known}"))
}

fn crio(value: &str) -> Result<Option<QosClass>> {
    let key = Source::CrioLabels.key();
    // Every container of CRI-O carries its labels; most do not name a class.
    if !value.contains("qosClass") {
        return Ok(None);
    }
    let labels: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
        serde_json::from_str(value).map_err(|e| invalid(key, e))?;
    match labels.get(Source::Koordinator.key()) {
        Some(class) if !class.is_empty() => koordinator(key, class),
        _ => Ok(None),
    }
}

/// A class, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The class asked for.
    pub class: QosClass,
    /// The annotation that asks for it.
    pub source: Source,
}

/// The values of the class annotations of one container.
#[derive(Default)]
pub(super) struct Values<'a>([Option<&'a str>; Source::ALL.len()]);

impl<'a> Values<'a> {
    pub(super) fn set(&mut self, source: Source, value: &'a str) {
        if let Some(slot) = self.0.get_mut(source as usize) {
            *slot = Some(value);
        }
    }

    /// The claim of the first source that makes one. An unknown class is an error and hides the sources after it:
    /// what was meant is not known, and to guess is worse than to say so.
    pub(super) fn claim(&self) -> Option<Result<Claim>> {
        Source::ALL.into_iter().zip(self.0).find_map(|(source, value)| {
            source.class(value?).map(|class| class.map(|class| Claim { class, source })).transpose()
        })
    }
}
