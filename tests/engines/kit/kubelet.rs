//! What a kubelet does to run a pod: it makes the pod's group, and asks for a sandbox and containers in it over CRI.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use super::containerd::{Containerd, IMAGE};
use super::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NODE,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use super::grpc::Status;
use super::node::by_systemd;
use crate::common::cgroup;

/// The annotation that names the class.
pub const QOS: &str = "koordinator.sh/qosClass";

/// The controllers kubelet makes a pod's group for.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// A pod that shares the node's network.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The sandbox's id.
    pub sandbox: String,
    config: PodSandboxConfig,
}

impl Pod {
    /// Makes the pod's group below `kubepods` and its sandbox; `qos` is `""`, `"burstable"` or `"besteffort"`.
    pub fn run(
        engine: &Containerd,
        name: &str,
        qos: &str,
        annotations: &[(&str, &str)],
    ) -> Result<Self, Status> {
        Self::run_by(engine, "", name, qos, annotations)
    }

    /// The same with a RuntimeClass: the handler it names.
    pub fn run_by(
        engine: &Containerd,
        handler: &str,
        name: &str,
        qos: &str,
        annotations: &[(&str, &str)],
    ) -> Result<Self, Status> {
        Self::run_limited(engine, handler, name, qos, None, annotations)
    }

    /// The same with a limit to the pod, which is there before its sandbox.
    pub fn run_limited(
        engine: &Containerd,
        handler: &str,
        name: &str,
        qos: &str,
        quota: Option<i64>,
        annotations: &[(&str, &str)],
    ) -> Result<Self, Status> {
        let group = make_group(engine, qos, name);
        if let Some(quota) = quota {
            limit(&group, quota);
        }
        let network = Some(NamespaceOption { network: NODE });
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
            }),
            log_directory: engine.node.sandbox.dir().join("pods").join(name).to_str().unwrap().to_owned(),
            labels: HashMap::new(),
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: group,
                security_context: Some(LinuxSandboxSecurityContext { namespace_options: network }),
            }),
        };
        let sandbox = engine.cri.run_pod_sandbox(&config, handler)?;
        Ok(Self { sandbox, config })
    }

    /// Limits the pod as a whole, as kubelet does to the sum of its containers' limits.
    pub fn limit(&self, quota: i64) {
        limit(self.group(), quota);
    }

    /// The pod's slice.
    pub fn unit(&self) -> &str {
        self.group().rsplit_once('/').unwrap().1
    }

    /// The pod's group.
    pub fn group(&self) -> &str {
        &self.config.linux.as_ref().unwrap().cgroup_parent
    }

    /// The group of a container of its, or of the sandbox.
    pub fn group_of(&self, id: &str) -> String {
        match by_systemd() {
            true => format!("{}/cri-containerd-{id}.scope", self.group()),
            false => format!("{}/{id}", self.group()),
        }
    }

    /// Creates a container that runs the prober, and does not start it.
    pub fn create(
        &self,
        engine: &Containerd,
        name: &str,
        resources: LinuxContainerResources,
    ) -> Result<String, Status> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned() }),
            image: Some(ImageSpec { image: IMAGE.to_owned() }),
            command: vec!["/prober".to_owned(), "wait".to_owned()],
            // The host's view, so that the prober finds its groups wherever it was placed.
            mounts: vec![Mount {
                container_path: "/host/cgroup".to_owned(),
                host_path: "/sys/fs/cgroup".to_owned(),
                readonly: true,
            }],
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(resources),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(NamespaceOption { network: NODE }),
                }),
            }),
        };
        engine.cri.create_container(&self.sandbox, &config, &self.config)
    }

    /// Creates a container and starts it.
    pub fn start(
        &self,
        engine: &Containerd,
        name: &str,
        resources: LinuxContainerResources,
    ) -> Result<String, Status> {
        let id = self.create(engine, name, resources)?;
        engine.cri.start_container(&id).map(|()| id)
    }

    /// What a container's prober said in its first line, once it has: CRI's log has time, stream and tag before it.
    pub fn probe(&self, name: &str) -> serde_json::Value {
        let path = std::path::Path::new(&self.config.log_directory).join(format!("{name}.log"));
        crate::common::wait_for("the prober's line", || {
            let text = fs::read_to_string(&path).ok()?;
            let (line, _) = text.split_once('\n')?;
            serde_json::from_str(line.splitn(4, ' ').nth(3)?).ok()
        })
    }

    /// Stops and removes the pod with all that is in it, then its group, as kubelet does.
    pub fn remove(&self, engine: &Containerd) {
        engine.cri.stop_pod_sandbox(&self.sandbox).unwrap();
        engine.cri.remove_pod_sandbox(&self.sandbox).unwrap();
        if by_systemd() {
            systemctl(&["stop", self.unit()]);
        }
        for controller in CONTROLLERS {
            let dir = cgroup::dir(controller, self.group());
            crate::common::wait_for(&format!("{} to be free", dir.display()), || {
                let removed = fs::remove_dir(&dir);
                // On v2 the first of the controllers was all of them; and systemd removes its own.
                (removed.is_ok() || !dir.exists()).then_some(())
            });
        }
    }
}

/// CPU resources of a container, as kubelet asks for them.
pub fn cpu(shares: i64, quota: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: quota,
        cpu_shares: shares,
        ..LinuxContainerResources::default()
    }
}

fn limit(group: &str, quota: i64) {
    if by_systemd() {
        // Of a period of 100 ms.
        let unit = group.rsplit('/').next().unwrap();
        systemctl(&["set-property", "--runtime", unit, &format!("CPUQuota={}%", quota / 1_000)]);
    } else {
        cgroup::write(group, "cpu.cfs_quota_us", &quota.to_string()).unwrap();
    }
}

/// Makes a pod's group, as kubelet does with either driver.
fn make_group(engine: &Containerd, qos: &str, name: &str) -> String {
    if by_systemd() {
        let own = engine.node.sandbox.prefix().replace('-', "_");
        let (qos, slice) = match qos {
            "" => (String::new(), String::new()),
            qos => (format!("-{qos}"), format!("/kubepods-{qos}.slice")),
        };
        let unit = format!("kubepods{qos}-pod{own}_{name}.slice");
        systemctl(&["start", &unit]);
        return format!("/kubepods.slice{slice}/{unit}");
    }
    let group = engine.node.sandbox.group(&format!("kubepods/{qos}/pod{name}").replace("//", "/"));
    make_path(&group);
    group
}

/// A group in all of kubelet's hierarchies.
pub fn make_path(group: &str) {
    if !cgroup::is_v1() {
        cgroup::make(group);
        return;
    }
    // A v1 cpuset takes its parent's CPUs before anything can be in it.
    for controller in CONTROLLERS {
        let mut path = String::new();
        for name in group.trim_start_matches('/').split('/') {
            let parent = path.clone();
            path = format!("{path}/{name}");
            match fs::create_dir(cgroup::dir(controller, &path)) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.unwrap(),
            }
            if controller == "cpuset" {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    cgroup::write(&path, file, &cgroup::read(&parent, file).unwrap()).unwrap();
                }
            }
        }
    }
}

/// A command to the machine's systemd.
pub fn systemctl(args: &[&str]) {
    let ran = Command::new("systemctl").args(args).output().unwrap();
    assert!(ran.status.success(), "systemctl {args:?}: {ran:?}");
}
