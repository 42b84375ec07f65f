//! A machine of its own for an engine: the root filesystem of a Debian release (`scripts/engines`), writable but never
//! written, in mount, pid and network namespaces of its own. Everything in it ends with its first process, which ends
//! with the test. Only the cgroups are this machine's, and those are the sandbox's to remove.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::{env, fs};

use crate::common::helpers::{self, copy_program};
use crate::common::{Ran, Sandbox, dist};

/// A Debian release whose root `scripts/engines` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// containerd 1.6, runc 1.1, crun 1.8, Podman 4.3, Docker 20.10.
    Bookworm,
    /// containerd 1.7, runc 1.1, crun 1.21, Podman 5.4, Docker 26.1.
    Trixie,
    /// containerd 2.1, runc 1.3, crun 1.28, Podman 5.8, Docker 28.5.
    Forky,
}

impl Suite {
    /// All there are; where `PLIMSOLL_TEST_ENGINES` names the root of one, that one.
    pub fn all() -> Vec<Self> {
        let all = [Self::Bookworm, Self::Trixie, Self::Forky];
        let is_here = |suite: &Self| given_root().is_none_or(|root| root.ends_with(suite.name()));
        all.into_iter().filter(is_here).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    fn root(self) -> PathBuf {
        let made = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines").join(self.name());
        let root = given_root().unwrap_or_else(made);
        assert!(root.is_dir(), "{} is not there; run make engines", root.display());
        root
    }
}

fn given_root() -> Option<PathBuf> {
    env::var_os("PLIMSOLL_TEST_ENGINES").map(PathBuf::from)
}

/// Whether the machine's own systemd makes the groups: `PLIMSOLL_TEST_DRIVER` says so. It has to know who is who by its
/// own numbers, so that there are no processes of a node's own then, and none ends by itself with its node.
pub fn by_systemd() -> bool {
    static SYSTEMD: OnceLock<bool> = OnceLock::new();
    *SYSTEMD.get_or_init(|| env::var("PLIMSOLL_TEST_DRIVER").is_ok_and(|driver| driver == "systemd"))
}

/// Paths, and what the files hold.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Where `plimsoll install` is started from.
const UNPACKED: &str = "/opt/plimsoll";

/// Where the root of the machine that a node is on is seen, if it is.
pub const MACHINE: &str = "/machine";

/// Builds the root out of its parts and goes there. Its arguments: the release's root, the folder to build in, and the
/// sandbox's own, which is seen inside where it is outside. Says so when it is done; ends when its stdin does.
///
/// With `v1` for its fifth argument the v2 hierarchy of a hybrid machine is left out; with `systemd` for its sixth the
/// machine's systemd can be spoken to; its seventh is where to have the machine's own root, if anywhere. Engines keep
/// container filesystems in `/var/lib`, which cannot be an overlay on an overlay.
const ENTER: &str = r#"
set -eu
lower=$1 new=$2 own=$3 busybox=$4 cgroups=$5 driver=$6 machine=$7
mount -t tmpfs -o mode=755 tmpfs "$new"
mkdir "$new/upper" "$new/work" "$new/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$new/upper,workdir=$new/work" overlay "$new/root"
cd "$new/root"
for folder in run tmp var/lib; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
if [ "$driver" = systemd ]; then
    mkdir run/systemd run/dbus
    mount --bind /run/systemd run/systemd
    mount --bind /run/dbus run/dbus
fi
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
if [ "$cgroups" = v1 ] && mountpoint -q sys/fs/cgroup/unified; then umount sys/fs/cgroup/unified; fi
mkdir -p ".$own" old
mount --bind "$own" ".$own"
if [ -n "$machine" ]; then mkdir ".$machine" && mount --rbind / ".$machine"; fi
ip link set lo up
pivot_root . old
cd /
"$busybox" umount -l /old
echo ready
# Waits for the end of stdin, and meanwhile buries whoever is left without a parent.
exec 3<&0
"$busybox" cat <&3 >/dev/null &
wait $!
"#;

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// The first process; killed before the sandbox looks for what is left.
    init: Init,
    suite: Suite,
    /// The groups, the config of Plimsoll (`/etc/plimsoll/config.toml` inside), its run folder and log.
    pub sandbox: Sandbox,
}

#[derive(Debug)]
struct Init {
    child: Child,
    _stdin: ChildStdin,
    /// The first process's number in this pid namespace.
    pid: u32,
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// A new one, with Plimsoll unpacked in [`UNPACKED`] and not installed; `name` is the sandbox's.
    pub fn new(suite: Suite, name: &str) -> Self {
        Self::with_cgroups(suite, name, "all", "")
    }

    /// The same, with the machine's own root in [`MACHINE`]: for programs that no engine's root has.
    #[allow(dead_code, reason = "not every program has tests that need it")]
    pub fn on_the_machine(suite: Suite, name: &str) -> Self {
        Self::with_cgroups(suite, name, "all", MACHINE)
    }

    /// The same without v2 where v1 has the CPUs. crun runs nothing where controllers are left on v2 beside v1.
    pub fn without_hybrid(suite: Suite, name: &str) -> Self {
        Self::with_cgroups(suite, name, "v1", "")
    }

    fn with_cgroups(suite: Suite, name: &str, cgroups: &str, machine: &str) -> Self {
        let sandbox = Sandbox::new(name);
        let (lower, new, own) = (suite.root(), sandbox.dir().join("root"), sandbox.dir());
        fs::create_dir(&new).unwrap();
        let busybox = own.join("busybox");
        copy_program(&helpers::rootfs().join("bin/busybox"), &busybox);
        let own_pids: &[&str] = if by_systemd() { &[] } else { &["--pid", "--fork", "--kill-child"] };
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--net"])
            .args(own_pids)
            .arg("--")
            .arg(&busybox)
            .args(["sh", "-c", ENTER, "enter"])
            .args([&lower, &new])
            .arg(own)
            .arg(&busybox)
            .args([cgroups, if by_systemd() { "systemd" } else { "cgroupfs" }, machine])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a root of {}", lower.display());
        let pid = inner_pid(&child);
        let node = Self { init: Init { child, _stdin: stdin, pid }, suite, sandbox };

        for name in ["plimsoll", "plimsoll-hook", "plimsoll-runtime", "containerd-shim-plimsoll-v2"] {
            node.place(&dist(name), &format!("{UNPACKED}/{name}"));
        }
        fs::create_dir_all(node.path("/etc/plimsoll")).unwrap();
        symlink(node.sandbox.config_path(), node.path("/etc/plimsoll/config.toml")).unwrap();
        node
    }

    /// The number here of the process that has this number in the node.
    #[allow(dead_code, reason = "not every program has tests that need it")]
    pub fn pid_here(&self, inside: u32) -> u32 {
        let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let own = fs::read_link(format!("/proc/{}/ns/pid", self.init.pid)).unwrap();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
            .find(|pid| {
                let is_there = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == own);
                let number = |line: &str| line.rsplit('\t').next().is_some_and(|n| n == inside.to_string());
                is_there && of(*pid).lines().any(|line| line.starts_with("NSpid:") && number(line))
            })
            .unwrap_or_else(|| panic!("the node has no process {inside}"))
    }

    /// What the names of the sandbox's slices begin with: a dash in one stands for a level.
    pub fn stem(&self) -> String {
        self.sandbox.prefix().replace('-', "")
    }

    /// Where a path of the node's is seen from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init.pid))
    }

    /// Writes a file of the node's.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Copies a program into the node.
    pub fn place(&self, program: &Path, inside: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        copy_program(program, &path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs Plimsoll under an engine, whose configuration has to be there. Returns what `/etc` was before.
    pub fn install(&self, engine: &str, options: &[&str]) -> Files {
        let before = self.etc();
        let args = [&["install", "--engine", engine], options].concat();
        self.run(&format!("{UNPACKED}/plimsoll"), &args).ok();
        before
    }

    /// Takes it off again.
    pub fn uninstall(&self, engine: &str) -> Ran {
        self.run(&format!("{UNPACKED}/plimsoll"), &["uninstall", "--engine", engine])
    }

    /// All files in `/etc`.
    pub fn etc(&self) -> Files {
        let mut files = Files::new();
        let mut todo = vec![self.path("/etc")];
        while let Some(path) = todo.pop() {
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if kind.is_file() {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
        files
    }

    /// A program inside, with the environment a service has.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let namespaces = [("mount", "mnt"), ("net", "net"), ("pid", "pid")];
        for (option, name) in namespaces.into_iter().take(if by_systemd() { 2 } else { 3 }) {
            command.arg(format!("--{option}=/proc/{}/ns/{name}", self.init.pid));
        }
        command.arg("--").arg(program).args(args).env_clear().stdin(Stdio::null());
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        command
    }

    /// Runs a program inside and waits for it. What it leaves running must not keep its output open.
    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        let output = self.command(program, args).output().unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// An image archive, as `docker save` makes them, of the root filesystem all tests share, in the sandbox's folder.
    pub fn image(&self, name: &str) -> PathBuf {
        let folder = self.sandbox.dir().join("image");
        fs::create_dir(&folder).unwrap();
        let tar = |arguments: &[&str]| {
            let done = Command::new("tar").arg("--directory").args(arguments).status().unwrap();
            assert!(done.success(), "tar {arguments:?}: {done}");
        };
        let (rootfs, at) = (helpers::rootfs().to_str().unwrap(), folder.to_str().unwrap());
        tar(&[rootfs, "--create", "--file", &format!("{at}/layer.tar"), "."]);
        let sum = Command::new("sha256sum").arg(folder.join("layer.tar")).output().unwrap().stdout;
        let digest = String::from_utf8(sum).unwrap().split(' ').next().unwrap().to_owned();
        let config = serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": ["/prober", "wait"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let manifest =
            serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        let archive = self.sandbox.dir().join("image.tar");
        let file = archive.to_str().unwrap();
        tar(&[at, "--create", "--file", file, "manifest.json", "config.json", "layer.tar"]);
        archive
    }
}

impl Drop for Node {
    /// Takes the slices off, and says what went on where the test did not go well.
    fn drop(&mut self) {
        if by_systemd() {
            let slice = format!("{}.slice", self.stem());
            let _ = Command::new("systemctl").args(["stop", &slice]).status();
        }
        if !thread::panicking() {
            return;
        }
        let dir = self.sandbox.dir();
        for log in [dir.join("containerd.log"), dir.join("dockerd.log"), self.sandbox.log_file()] {
            if let Ok(text) = fs::read_to_string(&log) {
                eprintln!("{:?}, {}:\n{text}", self.suite, log.display());
            }
        }
    }
}

/// The program that a child became, or that it waits for in a pid namespace.
pub fn inner_pid(child: &Child) -> u32 {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    if by_systemd() { child.id() } else { children.trim().parse().unwrap() }
}

/// The machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
