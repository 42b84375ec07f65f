//! The part of Kubernetes' Container Runtime Interface (`runtime.v1`) that a kubelet uses to run a pod. Messages hold the
//! fields the tests set or read: protobuf lets the others be left out, and skips what it does not know.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use super::grpc::{Client, Status};

/// `NamespaceMode` NODE: share the node's.
pub const NODE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamespaceOption {
    #[prost(int32, tag = "1")]
    pub network: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    pub log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerResources {
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    #[prost(int64, tag = "3")]
    pub cpu_shares: i64,
    #[prost(int64, tag = "4")]
    pub memory_limit_in_bytes: i64,
    #[prost(string, tag = "6")]
    pub cpuset_cpus: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerSecurityContext {
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxContainerResources>,
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxContainerSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageSpec {
    #[prost(string, tag = "1")]
    pub image: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub container_path: String,
    #[prost(string, tag = "2")]
    pub host_path: String,
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    pub log_path: String,
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainerResourcesRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxContainerResources>,
}

/// A request that names a container or a sandbox, and of StopContainer and others nothing else that is not zero.
#[derive(Clone, PartialEq, Message)]
pub struct Id {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct StopContainerRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatus {
    #[prost(int32, tag = "3")]
    pub state: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Id>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VersionResponse {
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

/// `ListContainers` and `ListPodSandbox`, of which the ids are enough.
#[derive(Clone, PartialEq, Message)]
pub struct Ids {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Id>,
}

/// A request or an answer without a field.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// The state CRI gives a container that runs.
pub const RUNNING: i32 = 1;

/// An engine's runtime and image services.
#[derive(Clone, Debug)]
pub struct Cri(Client);

impl Cri {
    pub fn new(socket: &Path) -> Self {
        Self(Client::new(socket))
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A, Status> {
        self.0.call(&format!("/runtime.v1.RuntimeService/{method}"), request)
    }

    /// The engine's version, when it answers.
    pub fn version(&self) -> Result<String, Status> {
        self.call("Version", &Empty {}).map(|answer: VersionResponse| answer.runtime_version)
    }

    /// Whether there is an image of that name.
    pub fn has_image(&self, name: &str) -> Result<bool, Status> {
        let request = ImageStatusRequest { image: Some(ImageSpec { image: name.to_owned() }) };
        let answer: ImageStatusResponse = self.0.call("/runtime.v1.ImageService/ImageStatus", &request)?;
        Ok(answer.image.is_some())
    }

    pub fn run_pod_sandbox(&self, config: &PodSandboxConfig, handler: &str) -> Result<String, Status> {
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        self.call("RunPodSandbox", &request).map(|answer: Id| answer.id)
    }

    pub fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        pod: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.clone()),
        };
        self.call("CreateContainer", &request).map(|answer: Id| answer.id)
    }

    pub fn start_container(&self, id: &str) -> Result<(), Status> {
        self.call("StartContainer", &named(id)).map(|_: Empty| ())
    }

    /// SIGTERM, and SIGKILL after `grace` seconds.
    pub fn stop_container(&self, id: &str, grace: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        self.call("StopContainer", &request).map(|_: Empty| ())
    }

    pub fn remove_container(&self, id: &str) -> Result<(), Status> {
        self.call("RemoveContainer", &named(id)).map(|_: Empty| ())
    }

    pub fn stop_pod_sandbox(&self, id: &str) -> Result<(), Status> {
        self.call("StopPodSandbox", &named(id)).map(|_: Empty| ())
    }

    pub fn remove_pod_sandbox(&self, id: &str) -> Result<(), Status> {
        self.call("RemovePodSandbox", &named(id)).map(|_: Empty| ())
    }

    pub fn update_container_resources(
        &self,
        id: &str,
        resources: &LinuxContainerResources,
    ) -> Result<(), Status> {
        let request =
            UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(resources.clone()) };
        self.call("UpdateContainerResources", &request).map(|_: Empty| ())
    }

    pub fn exec_sync(&self, id: &str, command: &[&str]) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(|word| (*word).to_owned()).collect();
        self.call("ExecSync", &ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 30 })
    }

    /// Whether a container runs.
    pub fn is_running(&self, id: &str) -> Result<bool, Status> {
        let answer: ContainerStatusResponse = self.call("ContainerStatus", &named(id))?;
        Ok(answer.status.is_some_and(|status| status.state == RUNNING))
    }

    /// All containers there are, whatever their state.
    pub fn containers(&self) -> Result<Vec<String>, Status> {
        self.call("ListContainers", &Empty {}).map(ids)
    }

    /// All sandboxes there are, whatever their state.
    pub fn sandboxes(&self) -> Result<Vec<String>, Status> {
        self.call("ListPodSandbox", &Empty {}).map(ids)
    }
}

fn named(id: &str) -> Id {
    Id { id: id.to_owned() }
}

fn ids(answer: Ids) -> Vec<String> {
    answer.items.into_iter().map(|item| item.id).collect()
}
