//! A containerd whose handlers are the stand-in's flavours and layouts, with or without Plimsoll's shim between.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::dist;
use crate::guest;
use crate::kit::containerd::{config, plugin};
use crate::kit::node::MACHINE;
use crate::kit::{Containerd, Files, Node, Pod, Suite};
use crate::overhead::Overhead;
use crate::stand_in::journal::{Entry, Step};

/// How many CPUs each VM has.
pub const VCPUS: usize = 3;

/// One of Kata's runtimes in one of its layouts. Its handler has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub flavour: &'static str,
    pub sandbox_cgroup_only: bool,
}

impl Layout {
    pub const ALL: [Self; 6] = {
        const fn of(flavour: &'static str, sandbox_cgroup_only: bool) -> Layout {
            Layout { flavour, sandbox_cgroup_only }
        }
        [
            of("go-3.2", true),
            of("go-3.2", false),
            of("go-3.5", true),
            of("go-3.5", false),
            of("runtime-rs", true),
            of("runtime-rs", false),
        ]
    };

    pub fn handler(self) -> String {
        format!("{}{}", self.flavour, if self.sandbox_cgroup_only { "" } else { "-overhead" })
    }

    pub fn is_go(self) -> bool {
        self.flavour.starts_with("go")
    }

    /// The group of a sandbox, by the pod's.
    pub fn sandbox_group(self, pod: &str, id: &str) -> String {
        format!("{pod}/{}{id}", if self.is_go() { "kata_" } else { "" })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Kata {
    pub engine: Containerd,
    _overhead: Overhead,
}

impl Kata {
    /// Without Plimsoll.
    pub fn plain(suite: Suite, name: &str) -> Self {
        Self::start(suite, name, "kata", |_| {})
    }

    /// With Plimsoll's shim in front of the stand-in; `top` is the top of Plimsoll's configuration.
    pub fn wrapped(suite: Suite, name: &str, top: &str) -> Self {
        Self::start(suite, name, "plimsoll-kata", |node| {
            let real = node.sandbox.dir().join("shims/containerd-shim-kata-v2");
            node.sandbox.config(&format!("{top}\n[shim.programs]\nkata = {real:?}\n"));
            for program in ["containerd-shim-plimsoll-v2", "plimsoll-hook", "plimsoll"] {
                node.place(&dist(program), &format!("/usr/local/bin/{program}"));
            }
            let link = node.path("/usr/local/bin/containerd-shim-plimsoll-kata-v2");
            std::os::unix::fs::symlink("containerd-shim-plimsoll-v2", link).unwrap();
        })
    }

    fn start(suite: Suite, name: &str, shim: &str, prepare: impl FnOnce(&Node)) -> Self {
        let overhead = Overhead::new();
        let node = Node::on_the_machine(suite, name);
        let dir = node.sandbox.dir().to_owned();
        fs::create_dir_all(dir.join("shims")).unwrap();
        fs::create_dir_all(dir.join("vm")).unwrap();
        guest::write_initrd(&dir.join("initrd"));
        place_this_program(&dir.join("shims/containerd-shim-kata-v2"));
        let inside = node.path("/usr/local/bin/containerd-shim-kata-v2");
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(dir.join("shims/containerd-shim-kata-v2"), inside).unwrap();
        let mut text = config(suite, "runc");
        for layout in Layout::ALL {
            let file = dir.join(format!("{}.toml", layout.handler()));
            let busybox = dir.join("busybox");
            let enter = [busybox.to_str().unwrap(), "chroot", MACHINE];
            let told = configuration(layout, &dir, &dir.join("journal"), &enter, "tcg");
            fs::write(&file, told).unwrap();
            text += &handler(suite, &layout.handler(), shim, &file);
        }
        node.write("/etc/containerd/config.toml", &text);
        prepare(&node);
        Self { engine: Containerd::run(node, Files::new()), _overhead: overhead }
    }

    /// Makes a pod: its group, limited as kubelet would, and its sandbox.
    pub fn pod(
        &self,
        layout: Layout,
        name: &str,
        qos: &str,
        quota: i64,
        annotations: &[(&str, &str)],
    ) -> Pod {
        let limit = (quota > 0).then_some(quota);
        Pod::run_limited(&self.engine, &layout.handler(), name, qos, limit, annotations).unwrap()
    }

    fn journal_file(&self) -> PathBuf {
        self.engine.node.sandbox.dir().join("journal")
    }

    /// What the stand-in has done until now.
    pub fn journal(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.journal_file()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last of its steps of that kind for a container.
    #[track_caller]
    pub fn step(&self, step: Step, id: &str) -> Entry {
        let mut all = self.journal().into_iter().rev();
        all.find(|entry| entry.step == Some(step) && entry.id == id)
            .unwrap_or_else(|| panic!("no step {step:?} of {id}"))
    }
}

impl Drop for Kata {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in self.journal() {
                eprintln!("{:?} {} {} {:?}", entry.step, entry.id, entry.what, entry.error);
            }
        }
    }
}

/// This program under another name, which is what tells it what to be.
pub fn place_this_program(path: &Path) {
    let program = std::env::current_exe().unwrap();
    if fs::hard_link(&program, path).is_err() {
        crate::common::helpers::copy_program(&program, path);
    }
}

/// The stand-in's file. `enter` is the command that becomes the VMM where that is, `journal` where the steps go.
pub fn configuration(
    layout: Layout,
    dir: &Path,
    journal: &Path,
    enter: &[&str],
    accelerator: &str,
) -> String {
    format!(
        r#"[hypervisor.qemu]
path = "/usr/bin/qemu-system-x86_64"
kernel = {:?}
initrd = {:?}
default_vcpus = {VCPUS}
[runtime]
sandbox_cgroup_only = {}
[stand_in]
flavour = "{}"
journal = {journal:?}
folder = {:?}
enter = {enter:?}
machine = "{}"
accelerator = "{accelerator}"
answer = "{}"
dial_timeout_s = 240
"#,
        guest::kernel(),
        dir.join("initrd"),
        layout.sandbox_cgroup_only,
        layout.flavour,
        dir.join("vm"),
        guest::boot().machine,
        guest::boot().answer,
    )
}

/// containerd's table for a handler.
fn handler(suite: Suite, name: &str, shim: &str, configuration: &Path) -> String {
    let plugin = plugin(suite);
    format!(
        r#"[plugins.'{plugin}'.containerd.runtimes.'{name}']
runtime_type = "io.containerd.{shim}.v2"
pod_annotations = ["koordinator.sh/*", "*.koordinator.sh/*"]
[plugins.'{plugin}'.containerd.runtimes.'{name}'.options]
ConfigPath = {configuration:?}
"#
    )
}
