//! containerd with its CRI plugin, in a node of its own, with Plimsoll as the runtime of every container.

use std::fs::File;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cri::Cri;
use super::node::{Files, Node, Suite, by_systemd, inner_pid};
use crate::common::{Ran, wait_for};

/// The one image there is, for sandboxes and containers.
pub const IMAGE: &str = "localhost/plimsoll-test:1";

/// A running containerd. Methods panic with its log where it should have done something and did not.
#[derive(Debug)]
pub struct Containerd {
    daemon: Child,
    pub cri: Cri,
    /// What `/etc` was before Plimsoll was installed.
    pub before: Files,
    pub node: Node,
}

impl Containerd {
    /// Starts one, with [`IMAGE`] in it.
    pub fn start(suite: Suite, name: &str) -> Self {
        Self::start_in(Node::new(suite, name), suite, "runc", &["--default"])
    }

    /// The same, with Plimsoll for those who name its RuntimeClass only.
    pub fn start_with_class(suite: Suite, name: &str) -> Self {
        Self::start_in(Node::new(suite, name), suite, "runc", &["--runtime-class", "quality"])
    }

    /// The same, with crun beneath.
    pub fn start_with_crun(suite: Suite, name: &str) -> Self {
        Self::start_in(Node::without_hybrid(suite, name), suite, "crun", &["--default"])
    }

    fn start_in(node: Node, suite: Suite, runtime: &str, options: &[&str]) -> Self {
        node.write("/etc/containerd/config.toml", &config(suite, runtime));
        let before = node.install("containerd", options);
        Self::run(node, before)
    }

    /// Starts one as it is configured in a node, with [`IMAGE`] in it.
    pub fn run(node: Node, before: Files) -> Self {
        let daemon = daemon(&node);
        let cri = Cri::new(&node.path("/run/containerd/containerd.sock"));
        let engine = Self { daemon, cri, before, node };
        engine.wait_until_it_answers();
        let archive = engine.node.image(IMAGE);
        engine.ctr(&["images", "import", archive.to_str().unwrap()]).ok();
        // The plugin hears of it by an event.
        wait_for("the image to be known", || engine.cri.has_image(IMAGE).unwrap().then_some(()));
        engine
    }

    /// `ctr` in Kubernetes' namespace.
    pub fn ctr(&self, args: &[&str]) -> Ran {
        self.node.run("ctr", &[&["--namespace", "k8s.io"], args].concat())
    }

    /// SIGKILL, and a new one. Shims and containers are its children no more than init's.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.daemon = daemon(&self.node);
        self.wait_until_it_answers();
    }

    fn kill(&mut self) {
        let pid = i32::try_from(inner_pid(&self.daemon)).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        self.daemon.wait().unwrap();
    }

    fn wait_until_it_answers(&self) {
        wait_for("containerd to answer", || self.cri.version().ok());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if by_systemd() {
            self.kill();
        }
    }
}

fn daemon(node: &Node) -> Child {
    let log =
        File::options().create(true).append(true).open(node.sandbox.dir().join("containerd.log")).unwrap();
    node.command("containerd", &[]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The name of the plugin whose table has the runtimes.
pub fn plugin(suite: Suite) -> &'static str {
    match suite {
        Suite::Bookworm | Suite::Trixie => "io.containerd.grpc.v1.cri",
        Suite::Forky => "io.containerd.cri.v1.runtime",
    }
}

/// What an administrator has written. (Not every machine lets root lower a process's badness.)
pub fn config(suite: Suite, runtime: &str) -> String {
    let (version, sandbox_image, pinned_images) = match suite {
        Suite::Bookworm | Suite::Trixie => (2, format!("sandbox_image = {IMAGE:?}"), String::new()),
        Suite::Forky => (
            3,
            String::new(),
            format!("[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = {IMAGE:?}"),
        ),
    };
    let plugin = plugin(suite);
    format!(
        r#"version = {version}
{pinned_images}
[plugins.'{plugin}']
{sandbox_image}
restrict_oom_score_adj = true
[plugins.'{plugin}'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'{plugin}'.containerd.runtimes.runc.options]
BinaryName = "{runtime}"
SystemdCgroup = {systemd}
"#,
        systemd = by_systemd()
    )
}
