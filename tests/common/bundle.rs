//! An OCI bundle in the making: a `config.json` with the few things a test cares about.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::helpers::{dist, rootfs};
use super::sandbox::{Sandbox, chosen_runtime};

/// A hook entry of `config.json`.
#[derive(Clone, Debug)]
pub struct Hook(Value);

impl Hook {
    /// A program with its own name as its only argument, an empty environment and 30 s.
    pub fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy();
        Self(json!({"path": path, "args": [name], "timeout": 30}))
    }

    /// A shell script; the OCI state is on its stdin.
    pub fn shell(script: &str) -> Self {
        Self::new(Path::new("/bin/sh")).arg("-c").arg(script).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// The hook under test at a stage, with the sandbox's config.
    pub fn plimsoll(sandbox: &Sandbox, stage: &str) -> Self {
        Self::new(&dist("plimsoll-hook"))
            .arg(stage)
            .arg("--config")
            .arg(sandbox.config_path().to_str().unwrap())
    }

    /// One more argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.0["args"].as_array_mut().unwrap().push(argument.into());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let env = &mut self.0["env"];
        if env.is_null() {
            *env = json!([]);
        }
        env.as_array_mut().unwrap().push(format!("{name}={value}").into());
        self
    }

    /// The time the runtime gives it, in seconds.
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.0["timeout"] = seconds.into();
        self
    }
}

/// A bundle. Methods return it changed; [`Sandbox::create`] and [`Sandbox::run`] write it out.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// The bundle's folder: `config.json`, and the container's `stdout`.
    pub dir: PathBuf,
    /// All of `config.json`, for what has no method here.
    pub spec: Value,
    base: String,
}

impl Bundle {
    /// A container that runs the prober once, placed as kubelet places a burstable pod's.
    pub(super) fn new(sandbox: &Sandbox, id: &str) -> Self {
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": {"path": rootfs(), "readonly": true},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": ["/prober", "exit"],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"]},
                // The host's view, so that the prober finds its groups wherever a hook has moved it.
                {"destination": "/host/cgroup", "type": "bind", "source": "/sys/fs/cgroup", "options": ["rbind", "ro", "rprivate"]},
            ],
            "annotations": {},
            "hooks": {},
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            },
        });
        let bundle = Self {
            id: id.to_owned(),
            dir: sandbox.dir().join("bundles").join(id),
            spec,
            base: sandbox.group(""),
        };
        let group = format!("kubepods/burstable/pod{id}/{id}");
        bundle.cgroup(&group)
    }

    /// The path inside the sandbox's own group: `kubepods/besteffort/pod1/c1`.
    pub fn cgroup(self, sub: &str) -> Self {
        let path = format!("{}/{sub}", self.base);
        self.cgroups_path(&path)
    }

    /// `linux.cgroupsPath` as it stands; it must lie in the sandbox's group to be cleaned up.
    pub fn cgroups_path(mut self, path: &str) -> Self {
        self.spec["linux"]["cgroupsPath"] = path.into();
        self
    }

    /// The group the runtime will make: `linux.cgroupsPath`.
    pub fn group(&self) -> &str {
        self.spec["linux"]["cgroupsPath"].as_str().unwrap()
    }

    /// The group above it: the pod's.
    pub fn pod_group(&self) -> &str {
        self.group().rsplit_once('/').unwrap().0
    }

    /// Sets an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.spec["annotations"][key] = value.into();
        self
    }

    /// What the container runs: its path in the root filesystem and its arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.spec["process"]["args"] = json!(args);
        self
    }

    /// The prober, waiting for SIGTERM after its line.
    pub fn waiting(self) -> Self {
        self.args(&["/prober", "wait"])
    }

    /// Adds a hook at a stage (`prestart`, `createRuntime`, `poststart`, `poststop`, …).
    pub fn hook(mut self, stage: &str, hook: Hook) -> Self {
        let hooks = &mut self.spec["hooks"][stage];
        if hooks.is_null() {
            *hooks = json!([]);
        }
        hooks.as_array_mut().unwrap().push(hook.0);
        self
    }

    /// The hook under test at createRuntime, poststart and poststop.
    pub fn plimsoll_hooks(mut self, sandbox: &Sandbox) -> Self {
        for stage in ["createRuntime", "poststart", "poststop"] {
            self = self.hook(stage, Hook::plimsoll(sandbox, stage));
        }
        self
    }

    /// Sets `linux.resources.<part>.<key>`, for instance `resource("cpu", "quota", 50000)`.
    pub fn resource(mut self, part: &str, key: &str, value: impl Into<Value>) -> Self {
        self.spec["linux"]["resources"][part][key] = value.into();
        self
    }

    /// Adds a namespace: `uts`, `ipc`, …
    pub fn namespace(mut self, kind: &str) -> Self {
        let namespaces = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": kind}));
        self
    }

    /// A cgroup namespace with its own cgroup mount in place of the host's view. The prober then finds its files only
    /// as long as no hook has moved it out of the group the runtime chose.
    pub fn cgroup_namespace(self) -> Self {
        let mut bundle = self.without_mount("/host/cgroup").namespace("cgroup");
        bundle.spec["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "ro"]}
        ));
        bundle
    }

    /// Takes a mount out.
    pub fn without_mount(mut self, destination: &str) -> Self {
        let mounts = self.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != destination);
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        fs::create_dir_all(&self.dir).unwrap();
        let mut spec = self.spec.clone();
        if chosen_runtime().is_some_and(|name| name == "crun") {
            // It shows nothing of what a hook says unless it is told where.
            spec["annotations"]["run.oci.hooks.stderr"] = self.hooks_stderr().to_str().unwrap().into();
            // `crun run` waits for a hook that has a timeout by SIGCHLD, and takes one for two where the container ends
            // at the same moment: the hook "timeout expired", whatever it does.
            let hooks = spec["hooks"].get_mut("poststart").and_then(Value::as_array_mut);
            for hook in hooks.into_iter().flatten() {
                hook.as_object_mut().unwrap().remove("timeout");
            }
        }
        fs::write(self.dir.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    }

    /// Where crun puts what hooks say.
    pub(super) fn hooks_stderr(&self) -> PathBuf {
        self.dir.join("hooks-stderr")
    }
}

impl AsRef<str> for Bundle {
    fn as_ref(&self) -> &str {
        &self.id
    }
}
