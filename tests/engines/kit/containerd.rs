//! containerd with its CRI plugin, in a node of its own, with Plimsoll as the runtime of every container.

use std::fs::{self, File};
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cri::Cri;
use super::node::{Node, Suite};
use crate::common::{Ran, wait_for};

/// The one image there is, for sandboxes and containers.
pub const IMAGE: &str = "localhost/plimsoll-test:1";

/// A running containerd. Methods panic with its log where it should have done something and did not.
#[derive(Debug)]
pub struct Containerd {
    daemon: Child,
    pub cri: Cri,
    pub node: Node,
}

impl Containerd {
    /// Starts one, with [`IMAGE`] in it.
    pub fn start(suite: Suite, name: &str) -> Self {
        Self::start_in(Node::new(suite, name), suite, "plimsoll-runtime")
    }

    /// The same, with crun beneath: the wrapper goes by its own name.
    pub fn start_with_crun(suite: Suite, name: &str) -> Self {
        Self::start_in(Node::without_hybrid(suite, name), suite, "plimsoll-runtime-crun")
    }

    fn start_in(node: Node, suite: Suite, runtime: &str) -> Self {
        node.write("/etc/containerd/config.toml", &config(suite, runtime));
        let daemon = daemon(&node);
        let cri = Cri::new(&node.path("/run/containerd/containerd.sock"));
        let engine = Self { daemon, cri, node };
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
        let nsenter = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children")).unwrap();
        kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        self.daemon.wait().unwrap();
        self.daemon = daemon(&self.node);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        wait_for("containerd to answer", || self.cri.version().ok());
    }
}

fn daemon(node: &Node) -> Child {
    let log =
        File::options().create(true).append(true).open(node.sandbox.dir().join("containerd.log")).unwrap();
    node.command("containerd", &[]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// What an administrator would have written, for the handler everything is run by. (Not every machine lets root lower a
/// process's badness.)
fn config(suite: Suite, runtime: &str) -> String {
    let (version, sandbox_image, plugin) = match suite {
        Suite::Bookworm | Suite::Trixie => {
            (2, format!("sandbox_image = {IMAGE:?}"), "io.containerd.grpc.v1.cri")
        }
        Suite::Forky => (3, String::new(), "io.containerd.cri.v1.runtime"),
    };
    let pinned_images = match suite {
        Suite::Bookworm | Suite::Trixie => String::new(),
        Suite::Forky => format!("[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = {IMAGE:?}"),
    };
    format!(
        r#"version = {version}
{pinned_images}
[plugins.'{plugin}']
{sandbox_image}
restrict_oom_score_adj = true
[plugins.'{plugin}'.containerd]
default_runtime_name = "plimsoll"
[plugins.'{plugin}'.containerd.runtimes.plimsoll]
runtime_type = "io.containerd.runc.v2"
pod_annotations = ["*koordinator.sh/*"]
[plugins.'{plugin}'.containerd.runtimes.plimsoll.options]
BinaryName = "/usr/local/bin/{runtime}"
"#
    )
}
