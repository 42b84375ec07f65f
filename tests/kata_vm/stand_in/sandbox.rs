//! A sandbox with its VM and its containers. What is done when is in [`super::flow`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};
use serde_json::{Value, json};

use super::config::{Config, Flavour};
use super::groups::Group;
use super::hooks;
use super::journal::{Entry, Step};
use super::messages::Status;
use super::places::Places;
use super::spec::{self, Hook, Spec};
use super::vmm::Vmm;

/// A container of the pod, or the sandbox's own.
#[derive(Debug)]
pub struct Container {
    pub spec: Spec,
    pub bundle: String,
    pub status: Status,
    pub exit: u32,
    pub exited_at: Option<SystemTime>,
    /// The FIFOs that containerd reads from, kept open while it runs.
    pub io: Vec<File>,
}

/// What `pid` of a hook's state is.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    Vmm,
    /// The Go runtime's poststart and poststop know no VMM.
    ShimThread,
}

#[derive(Debug)]
pub struct Sandbox {
    pub id: String,
    pub(super) config: Config,
    pub(super) places: Places,
    pub(super) vmm: Vmm,
    pub containers: BTreeMap<String, Container>,
    /// What was written last; without a new value it is not touched.
    cpus: String,
    is_stopped: bool,
}

impl Sandbox {
    pub(super) fn new(id: &str, config: Config, places: Places, vmm: Vmm) -> Self {
        let id = id.to_owned();
        Self { id, config, places, vmm, containers: BTreeMap::new(), cpus: String::new(), is_stopped: false }
    }

    pub fn pid(&self) -> u32 {
        self.vmm.pid()
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.config.stand_in.flavour
    }

    /// Writes an entry down.
    pub(super) fn note(&self, entry: &Entry) -> Result<(), String> {
        entry.write(&self.config.stand_in.journal)
    }

    /// The same with the VMM's threads as they are now.
    pub(super) fn note_threads(&self, step: Step, id: &str, what: &str) -> Result<(), String> {
        self.note(&Entry::new(step, id, what).with_threads(self.pid(), &self.vmm.vcpus))
    }

    /// The CPUs that all specs together ask for go to the sandbox's group; Go moves the vCPUs there each time as well.
    pub(super) fn constrain(&mut self, id: &str) -> Result<(), String> {
        let cpus = spec::union(self.containers.values().map(|container| &container.spec))?;
        // Go writes the last value again where there is none, which changes nothing but what others wrote meanwhile.
        if !cpus.is_empty() && (self.flavour().is_go() || cpus != self.cpus) {
            self.cpus = cpus;
        }
        let is_due = !self.cpus.is_empty();
        if is_due {
            let done = self.places.sandbox.set_cpus(&self.cpus);
            self.note(&Entry::new(Step::CpusWritten, id, &self.cpus).with_error(done.clone().err()))?;
            done?;
        }
        if self.flavour().is_go() && self.places.overhead.is_some() { self.move_vcpus(id) } else { Ok(()) }
    }

    /// Puts the vCPUs into the sandbox's group.
    pub(super) fn move_vcpus(&self, id: &str) -> Result<(), String> {
        for tid in &self.vmm.vcpus {
            self.places.sandbox.join_thread(*tid)?;
        }
        self.note_threads(Step::VcpusMoved, id, &self.places.sandbox.path)
    }

    /// Runs hooks in order, up to the first that fails.
    pub(super) fn run_hooks(
        &self,
        stage: &str,
        list: &[Hook],
        (id, container): (&str, &Container),
        whose: Whose,
        status: &str,
    ) -> Result<(), String> {
        let pid = match whose {
            Whose::Vmm => self.pid().try_into().unwrap(),
            Whose::ShimThread => gettid().as_raw(),
        };
        let state = self.state(id, container, pid, status);
        for hook in list {
            let done = hooks::run(self.flavour(), hook, &state);
            let entry = Entry::new(Step::Hook, id, stage).with_threads(self.pid(), &self.vmm.vcpus);
            self.note(&entry.with_error(done.clone().err()))?;
            done?;
        }
        Ok(())
    }

    /// The state as each runtime makes it.
    fn state(&self, id: &str, container: &Container, pid: i32, status: &str) -> Value {
        let mut annotations = container.spec.annotations.clone();
        if !self.flavour().is_go() {
            return json!({
                "ociVersion": "1.0.2-dev", "id": id, "status": status, "pid": pid, "bundle": container.bundle,
                "annotations": annotations,
            });
        }
        annotations.insert("io.katacontainers.pkg.oci.bundle_path".to_owned(), container.bundle.clone());
        annotations
            .insert("io.katacontainers.pkg.oci.container_type".to_owned(), container.spec.kind().to_owned());
        json!({
            "ociVersion": "", "id": id, "status": "", "pid": pid, "bundle": container.bundle,
            "annotations": annotations,
        })
    }

    /// Writes the file others find the VMM by.
    pub(super) fn persist(&self) -> Result<(), String> {
        let overhead = self.places.overhead.as_ref().map_or("", |group| &group.path);
        let (folder, name, value) = match self.flavour().is_go() {
            true => (
                format!("/run/vc/sbs/{}", self.id),
                "persist.json",
                json!({
                    "PersistVersion": 2, "State": "running", "SandboxContainer": self.id,
                    "SandboxCgroupPath": self.places.sandbox.path, "OverheadCgroupPath": overhead,
                    "HypervisorState": {"Type": "qemu", "Pid": self.pid(), "VirtiofsDaemonPid": 0},
                }),
            ),
            false => (
                format!("/run/kata/{}", self.id),
                "state.json",
                json!({
                    "sandbox_type": "virt_container",
                    "hypervisor": {"hypervisor_type": "qemu", "pid": self.pid(), "id": self.id},
                    "resource": {"cgroup_state": {
                        "path": self.places.sandbox.path, "overhead_path": overhead,
                        "sandbox_cgroup_only": self.places.overhead.is_none(),
                    }},
                }),
            ),
        };
        fs::create_dir_all(&folder).map_err(|e| format!("make {folder}: {e}"))?;
        fs::write(Path::new(&folder).join(name), value.to_string()).map_err(|e| format!("write {name}: {e}"))
    }

    /// Ends the VM and removes the groups.
    pub fn stop(&mut self) {
        if self.is_stopped {
            return;
        }
        self.is_stopped = true;
        self.vmm.stop();
        for group in std::iter::once(&self.places.sandbox).chain(&self.places.overhead) {
            let done = group.remove();
            let _ = self.note(&Entry::new(Step::GroupRemoved, &self.id, &group.path).with_error(done.err()));
        }
        for folder in state_folders(&self.id) {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn state_folders(id: &str) -> [PathBuf; 2] {
    [PathBuf::from("/run/vc/sbs").join(id), PathBuf::from("/run/kata").join(id)]
}

/// Ends the VMM and removes the groups of a sandbox whose shim is gone.
pub fn remove_remains(id: &str) {
    for folder in state_folders(id) {
        for name in ["persist.json", "state.json"] {
            let Ok(text) = fs::read(folder.join(name)) else { continue };
            let Ok(state) = serde_json::from_slice::<Value>(&text) else { continue };
            let either =
                |one: &str, other: &str| state.pointer(one).or_else(|| state.pointer(other)).cloned();
            if let Some(pid) = either("/HypervisorState/Pid", "/hypervisor/pid").and_then(|pid| pid.as_i64())
            {
                let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), Signal::SIGKILL);
            }
            for (one, other) in [
                ("/SandboxCgroupPath", "/resource/cgroup_state/path"),
                ("/OverheadCgroupPath", "/resource/cgroup_state/overhead_path"),
            ] {
                if let Some(path) = either(one, other).and_then(|path| path.as_str().map(str::to_owned)) {
                    if !path.is_empty() {
                        let _ = Group::new(&path).remove();
                    }
                }
            }
        }
        let _ = fs::remove_dir_all(folder);
    }
}
