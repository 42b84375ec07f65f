//! Engines that people drive by a command line, Docker's and Podman's being much the same: containers outside
//! Kubernetes, run by Plimsoll's wrapper unless told otherwise.

use std::fs::File;
use std::process::Child;

use serde_json::Value;

use super::containerd::IMAGE;
use super::node::{Files, Node, Suite, by_systemd};
use crate::common::{Ran, wait_for};

/// `daemon.json`. The daemon leaves the network of its node alone.
const DOCKER: &str = r#"{
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "bridge": "none",
    "iptables": false,
    "ip-forward": false,
    "ip-masq": false,
    "userland-proxy": false
}
"#;

/// One of them, with [`IMAGE`] in it. All containers share the node's network.
#[derive(Debug)]
pub struct Cli {
    program: &'static str,
    /// What `/etc` was before Plimsoll was installed.
    pub before: Files,
    daemon: Option<Child>,
    pub node: Node,
}

impl Cli {
    /// Podman with a runtime of its own as its default, and without Plimsoll.
    pub fn plain_podman(node: Node, runtime: &str) -> Self {
        let config = format!(
            "[engine]\ncgroup_manager = {:?}\nevents_logger = \"file\"\nruntime = {runtime:?}\n",
            if by_systemd() { "systemd" } else { "cgroupfs" }
        );
        node.write("/etc/containers/containers.conf", &config);
        Self { program: "podman", before: Files::new(), daemon: None, node }.with_image()
    }

    /// The same, and Plimsoll installed over it.
    pub fn podman(node: Node, runtime: &str) -> Self {
        let mut engine = Self::plain_podman(node, runtime);
        engine.before = engine.node.install("podman", &["--default"]);
        engine
    }

    /// Docker: its daemon, which starts a containerd of its own.
    pub fn docker(suite: Suite, name: &str) -> Self {
        let node = Node::new(suite, name);
        node.write("/etc/docker/daemon.json", DOCKER);
        let before = node.install("docker", &["--default"]);
        let log = File::create(node.sandbox.dir().join("dockerd.log")).unwrap();
        let daemon =
            node.command("dockerd", &[]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        wait_for("dockerd to answer", || node.run("docker", &["version"]).status.success().then_some(()));
        Self { program: "docker", before, daemon: Some(daemon), node }.with_image()
    }

    fn with_image(self) -> Self {
        let archive = self.node.image(IMAGE);
        self.call(&["load", "--input", archive.to_str().unwrap()]).ok();
        self
    }

    /// Any of its commands.
    pub fn call(&self, args: &[&str]) -> Ran {
        self.node.run(self.program, args)
    }

    /// Starts a container of half a CPU that runs the prober, below the sandbox's group.
    pub fn start(&self, name: &str, options: &[&str]) -> Ran {
        let parent = match by_systemd() {
            true => format!("{}-hand.slice", self.node.stem()),
            false => self.node.sandbox.group("hand"),
        };
        let fixed = [
            "run",
            "--detach",
            "--network",
            "host",
            "--cpu-period",
            "100000",
            "--cpu-quota",
            "50000",
            // The host's view, so that the prober finds its groups wherever it was placed.
            "--cgroupns",
            "host",
            "--volume",
            "/sys/fs/cgroup:/host/cgroup:ro",
            "--cgroup-parent",
            &parent,
            "--name",
            name,
        ];
        self.call(&[&fixed, options, &[IMAGE, "/prober", "wait"]].concat())
    }

    /// What a container's prober said first.
    pub fn probe(&self, name: &str) -> Value {
        wait_for("the prober's line", || {
            let said = self.call(&["logs", name]).ok().stdout;
            serde_json::from_str(said.split_once('\n')?.0).ok()
        })
    }

    /// The full id.
    pub fn id(&self, name: &str) -> String {
        self.call(&["inspect", "--format", "{{.Id}}", name]).ok().stdout.trim().to_owned()
    }

    /// Ends a container, which stays.
    pub fn stop(&self, name: &str) {
        self.call(&["stop", "--time", "0", name]).ok();
    }

    /// Has the daemon read its configuration again, where there is one, by which runc is its default.
    pub fn reload(&self) {
        if self.daemon.is_some() {
            let pid = std::fs::read_to_string(self.node.path("/run/docker.pid")).unwrap();
            let busybox = self.node.sandbox.dir().join("busybox");
            self.node.run(busybox.to_str().unwrap(), &["kill", "-HUP", pid.trim()]).ok();
            wait_for("dockerd to go back to runc", || {
                let said = self.call(&["info", "--format", "{{.DefaultRuntime}}"]).ok().stdout;
                (said.trim() == "runc").then_some(())
            });
        }
    }

    /// Kills a container and removes it.
    pub fn remove(&self, name: &str) {
        self.call(&["rm", "--force", name]).ok();
    }
}
