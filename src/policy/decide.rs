//! From a request to a treatment: who may claim what, and which of annotation, Koordinator's configuration and ours
//! says what a class gets.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::Config;
use super::koordinator::batch::BatchRule;
use super::koordinator::burst::is_burstable;
use super::koordinator::identity::IdentityRule;
use super::koordinator::slo::{MAX_CONFIG, NodeSlo};
use super::treatment::{Burst, CpusRule, Treatment};
use crate::annotations::{BurstPolicy, Claim, CpuBurst, ExtendedResourceSpec, Request};
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::qos::{KubeQos, QosClass};

/// What a container asks for, and who it is.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its annotations' content; every part of it could be read.
    pub request: &'a Request,
    /// Its Kubernetes namespace.
    pub namespace: Option<&'a str>,
    /// Its name in the pod.
    pub container: Option<&'a str>,
    /// The Kubernetes QoS class its cgroup path says; none outside Kubernetes.
    pub kube_qos: Option<KubeQos>,
    /// Whether it is a pod's sandbox, which does no work of its own.
    pub sandbox: bool,
}

impl Asked<'_> {
    /// Whether it may claim LSE, LSR or SYSTEM, pin CPUs, or loosen limits.
    fn may_claim(&self, config: &Config) -> bool {
        // A pod whose namespace nobody told is not outside Kubernetes: only "*" fits it.
        config.claims.allows(self.namespace.or_else(|| self.kube_qos.map(|_| "")))
    }
}

/// What the node's Koordinator installation says, where there is one to follow.
#[derive(Clone, Debug)]
pub struct Rules {
    identity: IdentityRule,
    burst: Option<CpuBurst>,
    batch: BatchRule,
}

impl Rules {
    /// Reads the `slo-controller-config` the configuration points at.
    pub fn of(config: &Config, roots: &Roots) -> Result<Self> {
        let read = |path: &Path| {
            let path = roots.path(&path.to_string_lossy());
            // Every container start reads it: neither a pipe nor an endless file may hold that up.
            let text = super::config::read(&path, "koordinator.slo_config", MAX_CONFIG as u64)?
                .ok_or_else(|| Error::errno("read", &path, nix::errno::Errno::ENOENT))?;
            NodeSlo::from_config_map(&path.display().to_string(), &text, &BTreeMap::new())
        };
        let slo = config.koordinator.slo_config.as_deref().map(read).transpose()?;
        Ok(match slo {
            Some(slo) => Self {
                identity: slo.identity_rule(),
                burst: Some(slo.burst.config.clone()),
                batch: BatchRule { cfs_quota: slo.batch_cfs_quota(), ratio: None },
            },
            None => Self { identity: own_rule(config), burst: None, batch: BatchRule::default() },
        })
    }

    /// The identities of this node: Koordinator's where it is followed, else the configuration's.
    pub fn identity(&self) -> &IdentityRule {
        &self.identity
    }

    /// What the container gets; `None` where it asks for nothing.
    pub fn decide(&self, config: &Config, asked: &Asked<'_>) -> Option<Treatment> {
        let request = asked.request;
        let status = part(&request.resource_status);
        let own_cpus = status.map(|status| &status.cpuset).filter(|cpus| !cpus.is_empty());
        let mut refused = Vec::new();
        let claim = claimed(config, asked, own_cpus.is_some());
        let (mut class, source) = match claim {
            Some((class, source)) => (class, source),
            // A pod without a class that wants burst gets that and nothing else.
            None => return self.burst_only(config, part(&request.cpu_burst)?),
        };
        let may = asked.may_claim(config);
        if !may && matches!(class, QosClass::Lse | QosClass::Lsr | QosClass::System) {
            let namespace = asked.namespace.unwrap_or("(not known)");
            let why = format!("namespace {namespace} may not claim {class} (claims.namespaces)");
            if class == QosClass::System {
                refused.push(format!("class: {why}; nothing is done"));
                return Some(Treatment { refused, ..self.nothing(config, class, source) });
            }
            refused.push(format!("class: {why}; treated as LS"));
            class = QosClass::Ls;
        }
        let mut treatment = self.nothing(config, class, source);
        self.set_identity(asked, &mut treatment);
        if !asked.sandbox {
            // A sandbox has no CPU limit to burst over, and only waits.
            self.set_burst(config, part(&request.cpu_burst), &mut treatment);
        }
        treatment.cpus = match (own_cpus, class) {
            (Some(_), _) if !may => {
                refused.push("cpus: this namespace may not pin CPUs (claims.namespaces); resource-status is not followed".to_owned());
                shared(config, class)
            }
            // Koordinator's scheduler gives CPUs to LSE and LSR; best effort must not get an LSE container's this way.
            (Some(_), QosClass::Be) => {
                refused.push(
                    "cpus: resource-status pins no BE container; it shares what is not LSE's".to_owned(),
                );
                shared(config, class)
            }
            (Some(cpus), _) => CpusRule::Exact(cpus.clone()),
            // A sandbox only waits: CPUs of its own would be lost to everyone.
            (None, QosClass::Lse | QosClass::Lsr) if config.exclusive.allocate && !asked.sandbox => {
                CpusRule::Allocate
            }
            (None, QosClass::System) if !config.system.cpus.is_empty() => {
                CpusRule::Exact(config.system.cpus.clone())
            }
            (None, QosClass::System) => CpusRule::Keep,
            _ => shared(config, class),
        };
        // Koordinator's `getContainerCPUSet`: a pod placed by NUMA node shares the pools of its nodes.
        if let Some(status) = status.filter(|status| status.is_numa_aware()) {
            treatment.nodes = status.numa_node_resources.iter().map(|node| node.node).collect();
            treatment.nodes.sort_unstable();
            treatment.nodes.dedup();
        }
        treatment.unset_quota = config.cpuset.unset_quota
            && class != QosClass::System
            && matches!(treatment.cpus, CpusRule::Exact(_) | CpusRule::Allocate);
        if class == QosClass::Be {
            self.set_batch(asked, part(&request.extended), &mut treatment);
            treatment.may_loosen = may;
        }
        treatment.refused = refused;
        Some(treatment)
    }

    /// The class with nothing given yet.
    fn nothing(&self, config: &Config, class: QosClass, source: String) -> Treatment {
        Treatment {
            class,
            source,
            identity: None,
            identity_why: String::new(),
            burst: None,
            cpus: CpusRule::Keep,
            nodes: Vec::new(),
            unset_quota: false,
            batch: None,
            pod_batch: None,
            may_loosen: false,
            placement: config.placement(class),
            on_error: config.on_error(Some(class)),
            refused: Vec::new(),
        }
    }

    fn burst_only(&self, config: &Config, wish: &CpuBurst) -> Option<Treatment> {
        let mut treatment = self.nothing(config, QosClass::Ls, crate::annotations::cpu_burst::KEY.to_owned());
        treatment.placement = super::config::Placement::Keep;
        self.set_burst(config, Some(wish), &mut treatment);
        treatment.burst.is_some().then_some(treatment)
    }

    fn set_identity(&self, asked: &Asked<'_>, treatment: &mut Treatment) {
        let class = treatment.class;
        let own = part(&asked.request.cpu_qos);
        // A class is known here, so Kubernetes' own QoS says nothing.
        let identity = self.identity.pod_with(Some(class), KubeQos::Guaranteed, own);
        let why = match own {
            Some(_) if class == QosClass::Ls => {
                format!("{class}, changed by {}", crate::annotations::cpu_qos::KEY)
            }
            Some(_) => {
                let why = format!(
                    "identity: {} is for LS pods; {class} keeps its own",
                    crate::annotations::cpu_qos::KEY
                );
                treatment.refused.push(why);
                class.to_string()
            }
            None => class.to_string(),
        };
        treatment.identity = i8::try_from(identity).ok();
        treatment.identity_why = why;
    }

    fn set_burst(&self, config: &Config, pod: Option<&CpuBurst>, treatment: &mut Treatment) {
        let class = treatment.class;
        let settings = config.class(class);
        let node = self.burst.clone().unwrap_or_else(|| CpuBurst {
            policy: Some(settings.burst),
            cpu_burst_percent: Some(settings.burst_percent.into()),
            ..CpuBurst::default()
        });
        if !is_burstable(Some(class)) {
            if pod.is_some() {
                treatment
                    .refused
                    .push(format!("burst: koordinator.sh/cpuBurst is not for {class} containers"));
            }
            return;
        }
        let wish = pod.map_or_else(|| node.clone(), |pod| pod.over(&node));
        if !wish.policy.unwrap_or(BurstPolicy::None).bursts_cpu() {
            return;
        }
        treatment.burst = match (wish.burst_us, wish.cpu_burst_percent) {
            (Some(micros), _) => Some(Burst::Micros(micros)),
            (None, Some(percent)) => u32::try_from(percent).ok().map(Burst::Percent),
            (None, None) => None,
        };
    }

    fn set_batch(&self, asked: &Asked<'_>, spec: Option<&ExtendedResourceSpec>, treatment: &mut Treatment) {
        let Some(spec) = spec else { return };
        treatment.pod_batch = self.batch.pod(spec);
        let own = asked.container.and_then(|name| spec.containers.get(name));
        treatment.batch = own.map(|resources| self.batch.container(resources));
    }
}

/// The identities the configuration gives.
fn own_rule(config: &Config) -> IdentityRule {
    let of = |class| i64::from(config.class(class).identity);
    IdentityRule {
        enabled: true,
        class: QosClass::ALL.map(|class| Some(of(class))),
        // `kubepods` is always 0, as with koordlet.
        kube_group: [0, of(QosClass::Ls), of(QosClass::Be)],
        kube_pod: [of(QosClass::Lsr), of(QosClass::Ls), of(QosClass::Be)],
    }
}

/// A part of a request that is there and could be read.
fn part<T>(part: &Option<Result<T>>) -> Option<&T> {
    part.as_ref().and_then(|part| part.as_ref().ok())
}

/// The class and what says so: the annotations, else the scheduler's CPUs, else the cgroup path if that counts here.
fn claimed(config: &Config, asked: &Asked<'_>, has_cpus: bool) -> Option<(QosClass, String)> {
    if let Some(Claim { class, source }) = part(&asked.request.class) {
        return Some((*class, source.key().to_owned()));
    }
    // Koordinator's reconciler takes a pod with CPUs of its own and no class for LSR (`PodQOSFilter`).
    if has_cpus {
        return Some((QosClass::Lsr, crate::annotations::resources::RESOURCE_STATUS.to_owned()));
    }
    let class = match asked.kube_qos.filter(|_| config.kube_qos)? {
        KubeQos::Guaranteed => QosClass::Lsr,
        KubeQos::Burstable => QosClass::Ls,
        KubeQos::BestEffort => QosClass::Be,
    };
    Some((class, "the Kubernetes QoS class in the cgroup path".to_owned()))
}

fn shared(config: &Config, class: QosClass) -> CpusRule {
    match class {
        _ if !config.cpuset.shared_pool => CpusRule::Keep,
        QosClass::Be => CpusRule::BestEffortPool,
        QosClass::System => CpusRule::Keep,
        _ => CpusRule::SharedPool,
    }
}
