//! A containerd on this machine itself, with folders of its own, and pods by `ctr`: what a real Kata needs, and what
//! needs no network and no CRI.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::helpers::rootfs;
use crate::common::{Ran, Sandbox, cgroup, dist, wait_for};
use crate::kit::kubelet::systemctl;
use crate::kit::node::by_systemd;
use crate::overhead::Overhead;
use crate::stand_in::journal::{Entry, Step};
use crate::stand_in::slice_path;

/// The type that containerd makes `containerd-shim-plimsoll-kata-v2` of.
const RUNTIME: &str = "io.containerd.plimsoll-kata.v2";

/// See the module.
#[derive(Debug)]
pub struct Direct {
    daemon: Child,
    /// How to start one of containerd's programs.
    programs: Programs,
    /// The shim's own file, if it is to be named.
    configuration: Option<PathBuf>,
    pub sandbox: Sandbox,
    _overhead: Overhead,
}

/// A container for `ctr`.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    pub id: &'a str,
    /// The sandbox it is in; nothing for a sandbox.
    pub sandbox: Option<&'a str>,
    pub cgroups_path: String,
    pub annotations: Vec<(&'a str, &'a str)>,
    pub cpus: &'a str,
}

impl Direct {
    /// Starts one whose Kata is a program, behind Plimsoll's shim. `top` is the top of Plimsoll's configuration.
    pub fn start(name: &str, shim: &Path, configuration: Option<PathBuf>, top: &str) -> Self {
        let overhead = Overhead::new();
        let programs = Programs::find();
        let sandbox = Sandbox::new(name);
        sandbox.config(&format!("{top}\n[shim.programs]\nkata = {shim:?}\n"));
        let dir = sandbox.dir().to_owned();
        fs::create_dir_all(dir.join("bin")).unwrap();
        let wrapper = dist("containerd-shim-plimsoll-v2");
        symlink(wrapper, dir.join("bin/containerd-shim-plimsoll-kata-v2")).unwrap();
        let socket = dir.join("c.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"]\n[grpc]\naddress = {socket:?}\n",
            dir.join("lib"),
            dir.join("state"),
        );
        fs::write(dir.join("containerd.toml"), config).unwrap();
        let log = File::create(dir.join("containerd.log")).unwrap();
        let mut command = programs.command("containerd");
        command.arg("--config").arg(dir.join("containerd.toml"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", dir.join("bin").display()));
        command.env("PLIMSOLL_CONFIG", sandbox.config_path());
        if let Some(file) = &configuration {
            command.env("KATA_CONF_FILE", file);
        }
        let daemon =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let machine = Self { daemon, programs, configuration, sandbox, _overhead: overhead };
        wait_for("containerd to answer", || machine.ctr(&["version"]).status.success().then_some(()));
        machine
    }

    /// `ctr` in Kubernetes' namespace.
    pub fn ctr(&self, words: &[&str]) -> Ran {
        let mut command = self.programs.command("ctr");
        command.arg("--address").arg(self.sandbox.dir().join("c.sock")).args(["--namespace", "k8s.io"]);
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Makes a container and starts it.
    pub fn run(&self, asked: &Asked<'_>) -> Ran {
        let file = self.sandbox.dir().join(format!("{}.json", asked.id));
        fs::write(&file, self.spec(asked).to_string()).unwrap();
        let mut words = vec!["run", "--detach", "--null-io", "--runtime", RUNTIME];
        if let Some(configuration) = &self.configuration {
            words.extend(["--runtime-config-path", configuration.to_str().unwrap()]);
        }
        words.extend(["--config", file.to_str().unwrap(), asked.id]);
        self.ctr(&words)
    }

    /// containerd's own default, and what is asked for.
    fn spec(&self, asked: &Asked<'_>) -> Value {
        let mut spec: Value = serde_json::from_str(&self.ctr(&["oci", "spec"]).ok().stdout).unwrap();
        spec["root"] = json!({"path": rootfs(), "readonly": true});
        spec["process"]["args"] = json!(["/bin/sleep", "3600"]);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(asked.cgroups_path);
        // As CRI has it for every sandbox. On v2 Kata's Go runtime has the pod's group give `cpu` and `cpuset` away only
        // where its sandbox's specification says something of CPUs.
        spec["linux"]["resources"]["cpu"]["shares"] = json!(2);
        if !asked.cpus.is_empty() {
            spec["linux"]["resources"]["cpu"]["cpus"] = json!(asked.cpus);
        }
        let kind = if asked.sandbox.is_some() { "container" } else { "sandbox" };
        spec["annotations"]["io.kubernetes.cri.container-type"] = json!(kind);
        spec["annotations"]["io.kubernetes.cri.sandbox-id"] = json!(asked.sandbox.unwrap_or(asked.id));
        for (key, value) in &asked.annotations {
            spec["annotations"][*key] = json!(value);
        }
        spec
    }

    /// The process containerd holds for a container's: Kata's is the VMM.
    pub fn pid(&self, id: &str) -> u32 {
        let said = self.ctr(&["task", "list"]).ok().stdout;
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(id));
        let pid = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        pid.unwrap_or_else(|| panic!("containerd knows no task {id}: {said}"))
    }

    /// The threads of the VM of a container, as they are now.
    pub fn threads(&self, id: &str, step: Step) -> Entry {
        Entry::new(step, id, "").with_threads(self.pid(id), &[])
    }

    /// Ends a container and forgets it.
    pub fn remove(&self, id: &str) {
        self.ctr(&["task", "kill", "--signal", "SIGKILL", id]);
        wait_for("the task to be gone", || {
            let gone = self.ctr(&["task", "delete", "--force", id]);
            (gone.status.success() || gone.stderr.contains("not found")).then_some(())
        });
        self.ctr(&["container", "delete", id]);
    }

    /// Makes a pod's group, as kubelet does, with a limit: a slice where systemd has the groups.
    pub fn pod(&self, name: &str, quota: i64) -> PodGroup {
        if by_systemd() {
            let slice = format!("kubepods-pod{}_{name}.slice", self.sandbox.prefix().replace('-', "_"));
            let limit =
                if quota > 0 { format!("CPUQuota={}%", quota / 1000) } else { "CPUQuota=".to_owned() };
            // A pod has a weight always: without one systemd takes the controller away again.
            let told = ["set-property", "--runtime", &slice, "CPUWeight=39", &limit];
            systemctl(&["start", &slice]);
            systemctl(&told);
            let group = slice_path(&slice);
            // Kubelet sees to it that the group has all controllers (runc's `fs2.CreateCgroupPath`).
            crate::kit::kubelet::make_path(&group);
            return PodGroup { group, slice: Some(slice) };
        }
        let group = self.sandbox.group(&format!("kubepods/pod{name}"));
        crate::kit::kubelet::make_path(&group);
        cgroup::write(&group, "cpu.cfs_quota_us", &quota.to_string()).unwrap();
        PodGroup { group, slice: None }
    }

    /// Removes it. What Kata leaves in it goes too, as with kubelet.
    pub fn remove_pod(&self, pod: &PodGroup) {
        if let Some(slice) = &pod.slice {
            systemctl(&["stop", slice]);
        }
        for hierarchy in cgroup::hierarchies() {
            cgroup::remove(&hierarchy.dir(&pod.group));
        }
    }
}

/// A pod's group.
#[derive(Debug)]
pub struct PodGroup {
    pub group: String,
    slice: Option<String>,
}

impl PodGroup {
    /// `cgroupsPath` of a container in it.
    pub fn path_of(&self, id: &str) -> String {
        match &self.slice {
            Some(slice) => format!("{slice}:cri-containerd:{id}"),
            None => format!("{}/{id}", self.group),
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        for line in self.ctr(&["container", "list", "--quiet"]).stdout.lines() {
            self.remove(line);
        }
        let _ = kill(Pid::from_raw(self.daemon.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.daemon.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.sandbox.dir().join("containerd.log")).unwrap_or_default();
            let told: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).collect();
            eprintln!("containerd:\n{}\nPlimsoll:\n{}", told.join("\n"), self.sandbox.log());
        }
    }
}

/// Where containerd's programs are: the folder of `CONTAINERD`, the machine's own, or a root that `make engines` has made.
#[derive(Debug)]
struct Programs {
    folder: PathBuf,
    root: Option<PathBuf>,
}

impl Programs {
    fn find() -> Self {
        if let Some(path) = std::env::var_os("CONTAINERD") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "CONTAINERD={}: there is no such file", path.display());
            return Self { folder: path.parent().unwrap().to_owned(), root: None };
        }
        for folder in ["/usr/local/bin", "/usr/bin", "/usr/sbin"] {
            if Path::new(folder).join("containerd").is_file() {
                return Self { folder: folder.into(), root: None };
            }
        }
        let made = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines/trixie");
        let root = std::env::var_os("PLIMSOLL_TEST_ENGINES").map_or_else(made, PathBuf::from);
        let folder = root.join("usr/bin");
        assert!(
            folder.join("containerd").is_file(),
            "no containerd on this machine, and none in {}; name one with CONTAINERD=/path/to/containerd, or run make engines",
            root.display()
        );
        Self { folder, root: Some(root) }
    }

    /// Another release's program is started by that release's loader.
    fn command(&self, name: &str) -> Command {
        let program = self.folder.join(name);
        let Some(root) = &self.root else { return Command::new(program) };
        let libraries = format!("{0}/usr/lib/x86_64-linux-gnu:{0}/lib/x86_64-linux-gnu", root.display());
        let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(libraries).arg(program);
        command
    }
}
