//! The schema: every table and key, with documentation, type, default and range.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use toml::Spanned;
use toml::de::DeValue;

use super::choice::{Boot, CoreScheduling, IdentitySwitch, Mechanism, OnError, Placement};
use super::kind::{AbsolutePath, Cpus, Flag, GroupPath, Int, Names, OptionalPath, OptionalWord, Word};
use super::programs::Programs;
use super::reader::Reader;
use super::section::{Section, section};
use super::show::Sheet;
use crate::annotations::BurstPolicy;
use crate::cpuset::CpuSet;
use crate::qos::QosClass;

section! {
    /// The configuration of a node.
    pub struct Config {
        /// What happens to a container when something could not be done for it: it starts and the error is logged
        /// (ignore), or it does not start (fail). A class may have its own.
        on_error: OnError = OnError::Ignore, Word;
        /// Where a container's groups are: as the engine chose (keep), below Plimsoll's own group for the class
        /// (class-tree), or whichever fits this node (auto). A class may have its own.
        placement: Placement = Placement::Auto, Word;
        /// Take the class of a pod that names none from its Kubernetes QoS, as its cgroup path shows it: Guaranteed
        /// is LSR, Burstable is LS, BestEffort is BE.
        kube_qos: bool = false, Flag;
        tables {
            /// Where Plimsoll keeps its files and groups.
            paths: Paths;
            /// The log of the hook. An engine throws away what a hook prints, so this is where to look.
            log: Log;
            /// The runtime under plimsoll-runtime.
            runtime: Runtime;
            /// The shim under containerd-shim-plimsoll-NAME-v2, and virtual machines.
            shim: Shim;
            /// CPU identity: who runs first when CPUs are short.
            identity: Identity;
            /// Who may ask for more than LS.
            claims: Claims;
            /// CPUs that containers of class LSE and LSR have to themselves.
            exclusive: Exclusive;
            /// What having CPUs of one's own means for quotas and for everyone else.
            cpuset: Cpusets;
            /// The CPUs of class SYSTEM.
            system: SystemCpus;
            /// What each class gets. Annotations of a pod win over it.
            class: Classes;
            /// A Koordinator installation to follow.
            koordinator: Koordinator;
        }
    }
}

section! {
    /// Where Plimsoll keeps its files and groups.
    pub struct Paths {
        /// The folder of records, the node lock and the kill switch (`disabled`). Must not survive a reboot.
        run: PathBuf = PathBuf::from("/run/plimsoll"), AbsolutePath;
        /// The log file, for nodes without a journal.
        log: PathBuf = PathBuf::from("/var/log/plimsoll/plimsoll.log"), AbsolutePath;
        /// The group that holds the class groups of placement class-tree, seen from the root of the hierarchy.
        class_tree: PathBuf = PathBuf::from("/plimsoll"), GroupPath;
    }
}

section! {
    /// The log of the hook.
    pub struct Log {
        /// Log to the systemd journal where there is one, and to the log file only elsewhere; false always takes the
        /// log file.
        journal: bool = true, Flag;
        /// How large the log file may get, in bytes. It and one older file of that size are kept.
        max_bytes: u64 = 1_048_576, Int(65_536, 1_073_741_824);
    }
}

section! {
    /// The runtime under plimsoll-runtime.
    pub struct Runtime {
        /// The real runtime's program; empty for the first of runc, crun and youki in PATH. A link to plimsoll-runtime
        /// with the name plimsoll-runtime-crun runs crun whatever stands here, and likewise for the others.
        path: Option<PathBuf> = None, OptionalPath;
    }
}

section! {
    /// The shim under containerd-shim-plimsoll-NAME-v2, and virtual machines.
    pub struct Shim {
        /// Which NAMEs stand for Kata Containers, whose pods are virtual machines and are treated as a whole. A * at the
        /// end stands for any rest. All other shims are called as they are.
        kata: Vec<String> = vec!["kata*".to_owned()], Names;
        /// When a virtual machine gets an identity below the usual one: as soon as its guest has answered (after-boot),
        /// or before it is started (before-boot), which may keep it from answering in time on a busy node.
        low_identity: Boot = Boot::After, Word;
        tables {
            /// The real shim of each NAME, by its absolute path; for a NAME that is not here it is
            /// containerd-shim-NAME-v2 in PATH, /opt/kata/bin and the usual places.
            programs: Programs;
        }
    }
}

section! {
    /// CPU identity.
    pub struct Identity {
        /// The kernel's means to use, for nodes where the best one (auto) is not wanted. None writes no identity.
        mechanism: Mechanism = Mechanism::Auto, Word;
        /// Whether the hook may write 1 to kernel.sched_group_identity_enabled, which acts on the whole node.
        group_identity_switch: IdentitySwitch = IdentitySwitch::Enable, Word;
        /// Core scheduling excludes Group Identity. Disable writes 0 to kernel.sched_core to make room for it, which
        /// acts on the whole node; leave goes without Group Identity where core scheduling is on.
        core_scheduling: CoreScheduling = CoreScheduling::Leave, Word;
        /// With Group Identity, also write the identities of the kubepods, burstable and besteffort groups, as
        /// koordlet does.
        kube_qos_groups: bool = true, Flag;
    }
}

section! {
    /// Who may claim LSE, LSR or SYSTEM, pin CPUs, or loosen limits. Everyone may be LS or BE.
    pub struct Claims {
        /// Kubernetes namespaces whose pods may claim LSE, LSR or SYSTEM, pin CPUs, or loosen by their batch resources
        /// a limit that the engine set. A * at the end stands for any rest; "*" alone is every namespace.
        namespaces: Vec<String> = Vec::new(), Names;
        /// Whether containers outside Kubernetes may (plain Docker, Podman, runc): those that are in no pod's cgroup and
        /// have no Kubernetes namespace.
        outside_kubernetes: bool = true, Flag;
    }
}

section! {
    /// CPUs that containers of class LSE and LSR have to themselves.
    pub struct Exclusive {
        /// Choose CPUs for LSE and LSR containers that no scheduler chose any for.
        allocate: bool = false, Flag;
        /// CPUs that are never handed out.
        #[serde(serialize_with = "cpu_list")]
        reserved_cpus: CpuSet = CpuSet::new(), Cpus;
        /// How many CPUs stay in the shared pool whatever is asked for.
        min_shared_cpus: usize = 1, Int(0, 8192);
        /// How long a hook waits for another one's choice of CPUs, in milliseconds.
        lock_timeout_ms: u64 = 200, Int(1, 5000);
    }
}

section! {
    /// What having CPUs of one's own means for quotas and for everyone else.
    pub struct Cpusets {
        /// Remove the CFS quota of containers that have CPUs of their own.
        unset_quota: bool = true, Flag;
        /// Keep LS and BE containers off the CPUs that are exclusive to others.
        shared_pool: bool = true, Flag;
    }
}

section! {
    /// The CPUs of class SYSTEM.
    pub struct SystemCpus {
        /// The CPUs of class SYSTEM; empty gives the class no CPUs of its own.
        #[serde(serialize_with = "cpu_list")]
        cpus: CpuSet = CpuSet::new(), Cpus;
        /// Whether all other classes stay off these CPUs.
        exclusive: bool = true, Flag;
    }
}

section! {
    /// What one class gets. The plain default is that of SYSTEM; [`Classes`] has those of the others.
    pub struct ClassConfig {
        /// The CPU identity, in the values of cpu.bvt_warp_ns: 2 and 1 run before others, 0 is as usual, -1 and -2
        /// run after others.
        identity: i8 = 0, Int(-2, 2);
        /// CPU burst: whether a container may use quota that it saved up.
        burst: BurstPolicy = BurstPolicy::None, Word;
        /// How much a container may save up, in percent of its CPU limit. Kernels that take no more than the quota
        /// get the quota.
        burst_percent: u32 = 1000, Int(1, 10_000);
        /// This class's own on_error; unset, the one at the top counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        on_error: Option<OnError> = None, OptionalWord;
        /// This class's own placement; unset, the one at the top counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        placement: Option<Placement> = None, OptionalWord;
    }
}

section! {
    /// A Koordinator installation to follow.
    pub struct Koordinator {
        /// A file with the data of Koordinator's ConfigMap slo-controller-config, as JSON, to take the settings of the
        /// classes from; empty for none. Its nodeStrategies count only where their selector fits a node without labels,
        /// for the hook does not know the node's: write what is meant for this node into clusterStrategy.
        slo_config: Option<PathBuf> = None, OptionalPath;
    }
}

/// What each class gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Classes {
    /// Class LSE.
    #[serde(rename = "LSE")]
    pub lse: ClassConfig,
    /// Class LSR.
    #[serde(rename = "LSR")]
    pub lsr: ClassConfig,
    /// Class LS.
    #[serde(rename = "LS")]
    pub ls: ClassConfig,
    /// Class BE.
    #[serde(rename = "BE")]
    pub be: ClassConfig,
    /// Class SYSTEM.
    #[serde(rename = "SYSTEM")]
    pub system: ClassConfig,
}

impl Default for Classes {
    /// The identities are those of Koordinator's `pkg/util/sloconfig/nodeslo_config.go`, which has none for LSE.
    fn default() -> Self {
        let class = |identity, burst| ClassConfig { identity, burst, ..ClassConfig::default() };
        Self {
            lse: class(2, BurstPolicy::None),
            lsr: class(2, BurstPolicy::None),
            ls: class(2, BurstPolicy::Auto),
            be: class(-1, BurstPolicy::None),
            system: class(0, BurstPolicy::None),
        }
    }
}

impl Classes {
    fn each(&self) -> [(QosClass, &ClassConfig); 5] {
        [
            (QosClass::Lse, &self.lse),
            (QosClass::Lsr, &self.lsr),
            (QosClass::Ls, &self.ls),
            (QosClass::Be, &self.be),
            (QosClass::System, &self.system),
        ]
    }
}

impl Section for Classes {
    const KEYS: &'static [&'static str] = &["LSE", "LSR", "LS", "BE", "SYSTEM"];

    fn set(&mut self, table: &str, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool {
        let Ok(class) = key.parse() else {
            return false;
        };
        let config = match class {
            QosClass::Lse => &mut self.lse,
            QosClass::Lsr => &mut self.lsr,
            QosClass::Ls => &mut self.ls,
            QosClass::Be => &mut self.be,
            QosClass::System => &mut self.system,
        };
        reader.table(config, table, key, value);
        true
    }

    fn show(&self, defaults: &Self, table: &str, sheet: &mut Sheet) {
        // The keys are explained once, at the first class.
        for ((class, config), (_, default)) in self.each().into_iter().zip(defaults.each()) {
            sheet.table(table, class.name(), &[], config, default);
            sheet.explain = false;
        }
        sheet.explain = true;
    }
}

fn cpu_list<S: Serializer>(cpus: &CpuSet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cpus)
}
