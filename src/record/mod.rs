//! What Plimsoll remembers under `/run/plimsoll`: a cache of intent. The truth is in the cgroup files.
//!
//! ```text
//! containers/<id>.json   one treated container: who, what was asked, what was planned, what was there before
//!           <id>.applying  the same, while its values are being written
//! exclusive/<id>.json    the CPUs a container owns
//! groups/<hash>.json     what a shared group said before Plimsoll wrote to it
//! lock                   held while CPUs change hands
//! disabled               the kill switch: while it is there every hook passes through
//! ```

mod claim;
mod id;
mod journal;
mod lock;
mod store;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use claim::Claim;
pub use id::ContainerId;
pub use journal::{Change, Journal};
pub use lock::{GroupLock, NodeLock};
pub use store::Store;

use crate::apply::Done;
use crate::container::Vm;
use crate::cpuset::CpuSet;
use crate::kernel::group::Groups;
use crate::kernel::identity::Rung;
use crate::plan::{Plan, TreeMove};
use crate::policy::config::Placement;
use crate::policy::treatment::Treatment;

/// The version of the records this program writes and reads.
pub const VERSION: u32 = 1;

/// How far a container's treatment has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Written before the first cgroup file: what follows may have been cut off anywhere.
    #[default]
    Applying,
    /// Everything was written and read back.
    Applied,
    /// Something could not be done; see the errors.
    Degraded,
}

/// Who a container is, in the engine's and Kubernetes' words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The container's id at the runtime.
    pub id: String,
    /// Its bundle folder.
    pub bundle: Option<String>,
    /// Kubernetes namespace; where annotations name two, both, in a form that no namespace has.
    pub namespace: Option<String>,
    /// Pod name.
    pub pod: Option<String>,
    /// Pod uid, from the cgroup path.
    pub pod_uid: Option<String>,
    /// The container's name in the pod.
    pub container: Option<String>,
}

/// One treated container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Who it is.
    pub who: Who,
    /// Its first process.
    pub pid: i32,
    /// Seconds since the epoch.
    pub created: u64,
    /// How far it came; told by the file's name and its errors, not written down.
    #[serde(skip)]
    pub phase: Phase,
    /// What it was to get.
    pub treatment: Treatment,
    /// Where it is.
    pub placement: Placement,
    /// The identity mechanism.
    pub rung: Rung,
    /// Its groups after the move.
    pub groups: Groups,
    /// Its groups as the engine made them.
    pub origin: Groups,
    /// The move into the class tree.
    pub tree: Option<TreeMove>,
    /// Where else the container is, as a virtual machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Vm>,
    /// The CPUs it had before Plimsoll: the most it may ever be given back.
    #[serde(default, with = "optional_set")]
    pub allowed: Option<CpuSet>,
    /// Each write, with the values before and after.
    pub writes: Vec<Done>,
    /// What this kernel or placement could not give.
    pub lost: Vec<String>,
    /// What went wrong.
    pub errors: Vec<String>,
}

impl Record {
    /// The record of a plan about to be applied.
    pub fn planned(
        who: Who,
        pid: i32,
        treatment: Treatment,
        plan: &Plan,
        origin: Groups,
        allowed: Option<CpuSet>,
        writes: Vec<Done>,
    ) -> Self {
        Self {
            version: VERSION,
            who,
            pid,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            phase: Phase::Applying,
            treatment,
            placement: plan.placement,
            rung: plan.rung,
            groups: plan.groups.clone(),
            origin,
            tree: plan.tree.clone(),
            vm: None,
            allowed,
            writes,
            lost: plan.lost.clone(),
            errors: Vec::new(),
        }
    }

    /// Whether nothing went wrong and every file says what was planned: the record of the plan says it all.
    fn went_as_planned(&self) -> bool {
        self.errors.is_empty()
            && self.writes.iter().all(|done| done.after.as_ref() == Some(&done.write.value))
    }

    /// Whether the container is still there: the group the engine made for it, or somebody in the one it was moved to.
    pub fn is_live(&self) -> bool {
        let moved = &self.groups.cpu;
        self.origin.cpu.exists()
            || self.has_bundle()
            || moved.procs().is_ok_and(|procs| !procs.is_empty())
            || !moved.children().is_empty()
    }
}

impl Record {
    /// Whether a virtual machine may still be on its way: Kata gives its guest no longer than this.
    pub fn is_booting(&self) -> bool {
        const LONGEST: u64 = 60;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.vm.is_some() && now.saturating_sub(self.created) < LONGEST
    }

    /// Whether a virtual machine is still wanted by its engine, also while it has no groups yet or any more: the bundle is
    /// there from before the start until after the end.
    fn has_bundle(&self) -> bool {
        self.vm.is_some() && is_bundle(self.who.bundle.as_deref())
    }
}

/// Whether a bundle is there.
fn is_bundle(bundle: Option<&str>) -> bool {
    bundle.is_some_and(|bundle| Path::new(bundle).join("config.json").exists())
}

mod optional_set {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::cpuset::CpuSet;

    pub(super) fn serialize<S: Serializer>(set: &Option<CpuSet>, s: S) -> Result<S::Ok, S::Error> {
        set.as_ref().map(ToString::to_string).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<CpuSet>, D::Error> {
        Option::<String>::deserialize(d)?.map(|text| text.parse()).transpose().map_err(D::Error::custom)
    }
}
