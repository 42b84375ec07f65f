//! Inside Debian releases with their own engines (`scripts/engines`): what is installed is what containerd, Podman and
//! dockerd themselves read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::common::Ran;
use super::tree::{in_memory, shipped};
use super::{refuses, says};

const MAIN: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/99-plimsoll.toml";

/// The releases and their containerds.
const SUITES: [(&str, (u32, u32)); 3] = [("bookworm", (1, 6)), ("trixie", (1, 7)), ("forky", (2, 1))];

/// Runs a program in a release's root, with what was written there before over it. Its arguments: the root, the folder of
/// what is written, that of our programs, and the command line.
const ENTER: &str = r#"
set -eu
lower=$1 own=$2 shipped=$3
shift 3
mount -t tmpfs tmpfs "$own/top"
mkdir "$own/top/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$own/upper,workdir=$own/work" overlay "$own/top/root"
cd "$own/top/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mkdir -p mnt
mount --bind "$shipped" mnt
exec chroot . "$@"
"#;

/// A machine with a release's engines. What is written stays until it is dropped; no process does.
struct Machine {
    lower: PathBuf,
    own: TempDir,
}

impl Machine {
    fn new(suite: &str) -> Self {
        let lower = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines").join(suite);
        assert!(lower.is_dir(), "{} is not there; run make engines", lower.display());
        let own = in_memory();
        for folder in ["upper", "work", "top"] {
            fs::create_dir(own.path().join(folder)).unwrap();
        }
        Self { lower, own }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let output = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                ENTER,
                "enter",
            ])
            .args([&self.lower, self.own.path(), shipped()])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn tool(&self, args: &[&str]) -> Ran {
        self.run(&[&["/mnt/plimsoll"], args].concat())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.own.path().join("upper").join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A file that was written here.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// containerd's own merged configuration, blanks and quotes made alike.
    #[track_caller]
    fn dump(&self, main: &str) -> String {
        let text = self.run(&["containerd", "-c", main, "config", "dump"]).ok().stdout;
        text.lines().map(|line| line.trim().replace('\'', "\"") + "\n").collect()
    }
}

/// The forms in which files of version 2 and 3 come; `PLUGIN` stands for the plugin's name.
const FORMS: [(&str, &str); 8] = [
    ("nothing but the version", ""),
    (
        "tables",
        "[plugins.PLUGIN.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n[plugins.PLUGIN.containerd.runtimes.runc.options]\nSystemdCgroup = true # kubelet's\n",
    ),
    (
        "no runtimes",
        "[plugins.PLUGIN.containerd]\ndefault_runtime_name = \"runc\"\n[plugins.PLUGIN.cni]\nbin_dir = \"/opt/cni/bin\"\n# the end\n",
    ),
    (
        "no options",
        "[plugins]\n  [plugins.PLUGIN]\n    [plugins.PLUGIN.containerd]\n      [plugins.PLUGIN.containerd.runtimes]\n        [plugins.PLUGIN.containerd.runtimes.runc]\n          runtime_type = \"io.containerd.runc.v2\"\n",
    ),
    (
        "dotted keys",
        "[plugins.PLUGIN]\ncontainerd.runtimes.runc.runtime_type = \"io.containerd.runc.v2\"\ncontainerd.runtimes.runc.options.SystemdCgroup = true\n",
    ),
    (
        "inline tables",
        "[plugins.PLUGIN]\ncontainerd = { runtimes = { runc = { runtime_type = \"io.containerd.runc.v2\", options = { SystemdCgroup = true } } } }\n",
    ),
    (
        "another default",
        "[plugins.PLUGIN.containerd]\ndefault_runtime_name = \"other\"\n[plugins.PLUGIN.containerd.runtimes.other]\nruntime_type = \"io.containerd.runc.v2\"\noptions = { BinaryName = \"crun\", Root = \"/run/other\" }\n[plugins.PLUGIN.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
    ),
    (
        "DOS line ends",
        "[plugins.PLUGIN.containerd.runtimes.runc]\r\nruntime_type = \"io.containerd.runc.v2\"\r\n# the end\r\n",
    ),
];

#[test]
fn containerd_of_every_generation_reads_the_handler_as_meant_whatever_the_files_form() {
    for (suite, version) in SUITES {
        for (form, text) in FORMS {
            for schema in [2, 3].into_iter().filter(|schema| *schema == 2 || version >= (2, 0)) {
                let plugin =
                    if schema == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
                let main =
                    format!("version = {schema}\n{}", text.replace("PLUGIN", &format!("\"{plugin}\"")));
                let machine = Machine::new(suite);
                machine.file(MAIN, &main);
                let case = format!("{suite}, version {schema}, {form}");
                // It asks containerd before and after, and would have put everything back.
                let ran = machine.tool(&["install", "--engine", "containerd", "--default"]);
                assert!(ran.status.success(), "{case}: {ran:#?}");
                let dump = machine.dump(MAIN);
                says(
                    &dump,
                    &["default_runtime_name = \"plimsoll\"", ".runtimes.plimsoll]", "\"koordinator.sh/*\""],
                );
                let binary =
                    if form == "another default" { "plimsoll-runtime-crun" } else { "plimsoll-runtime" };
                says(&dump, &[&format!("BinaryName = \"/usr/local/bin/{binary}\"\n")]);
                let both = dump.matches("SystemdCgroup = true").count();
                assert_eq!(both, if main.contains("SystemdCgroup") { 2 } else { 0 }, "{case}: {dump}");
                let again = machine.tool(&["install", "--engine", "containerd"]).ok();
                says(&again.stdout, &["already installed"]);
                machine.tool(&["uninstall"]).ok();
                assert_eq!(machine.read(MAIN).as_deref(), Some(main.as_str()), "{case}");
            }
        }
    }
}

#[test]
fn a_drop_in_adds_to_containerd_2_and_replaces_nothing() {
    let machine = Machine::new("forky");
    for schema in [2, 3] {
        let (plugin, image) = match schema {
            2 => ("io.containerd.grpc.v1.cri", "sandbox_image = \"example.org/pause:1\""),
            _ => ("io.containerd.cri.v1.runtime", "drain_exec_sync_io_timeout = \"7s\""),
        };
        let main = format!(
            "version = {schema}\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n[plugins.\"{plugin}\"]\n{image}\n\
             [plugins.\"{plugin}\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             options.SystemdCgroup = true\n"
        );
        machine.file(MAIN, &main);
        machine.tool(&["install", "--engine", "containerd"]).ok();
        assert_eq!(machine.read(MAIN).as_ref(), Some(&main));
        assert!(machine.read(DROP_IN).unwrap().contains(plugin));
        let dump = machine.dump(MAIN);
        says(
            &dump,
            &[image.rsplit(" = ").next().unwrap(), "BinaryName = \"/usr/local/bin/plimsoll-runtime\""],
        );
        assert_eq!(dump.matches("SystemdCgroup = true").count(), 2, "{dump}");
        machine.tool(&["uninstall"]).ok();
        assert_eq!((machine.read(MAIN), machine.read(DROP_IN)), (Some(main), None));
    }
}

#[test]
fn without_a_main_file_containerd_keeps_its_built_in_runtime() {
    for (suite, _) in SUITES {
        let machine = Machine::new(suite);
        let main = "/etc/containerd/other.toml";
        machine.tool(&["install", "--engine", "containerd", "--engine-config", main]).ok();
        says(
            &machine.dump(main),
            &[".runtimes.runc]", ".runtimes.plimsoll]", "default_runtime_name = \"runc\""],
        );
        machine.tool(&["uninstall"]).ok();
        assert_eq!(machine.read(main), None);
    }
}

#[test]
fn what_containerd_does_not_take_as_meant_is_put_back() {
    // A file that comes after ours names another default.
    let machine = Machine::new("forky");
    let main = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    let last =
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n";
    machine.file(MAIN, main);
    machine.file("/etc/containerd/conf.d/zz-last.toml", last);
    refuses(
        &machine.tool(&["install", "--engine", "containerd", "--default"]),
        &["containerd config dump", "the default handler is not plimsoll", "as they were"],
    );
    assert_eq!((machine.read(MAIN).as_deref(), machine.read(DROP_IN)), (Some(main), None));
    says(&machine.tool(&["check"]).stdout, &["no handler calls Plimsoll"]);
    // The programs are there, for nobody; they go, too.
    machine.tool(&["uninstall"]).ok();
    assert!(!machine.path("/usr/local/bin/plimsoll").exists());

    // What it cannot read in the first place is its own to name.
    for (suite, text, part) in [
        ("bookworm", "version = 3\n", "is for containerd 2.0 and later, and this is 1.6"),
        ("forky", "version = 4\n", "is for containerd 2.3 and later, and this is 2.1"),
        ("forky", "version = 3\nroot = 7\n", "config dump"),
    ] {
        let machine = Machine::new(suite);
        machine.file(MAIN, text);
        refuses(&machine.tool(&["install", "--engine", "containerd"]), &[part]);
        assert_eq!(machine.read(MAIN).as_deref(), Some(text));
        assert!(!machine.path("/usr/local/bin/plimsoll").exists());
    }
}

#[test]
fn podman_of_every_generation_reads_the_runtime() {
    for (suite, _) in SUITES {
        let machine = Machine::new(suite);
        let info = |options: &[&str]| {
            let format = "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}";
            let global = ["podman", "--cgroup-manager=cgroupfs", "--storage-driver=vfs"];
            machine.run(&[&global, options, &["info", "--format", format]].concat())
        };
        let before = info(&[]).ok().stdout;
        machine.tool(&["install", "--engine", "podman"]).ok();
        assert_eq!(info(&[]).ok().stdout, before, "the default stays");
        assert_eq!(
            info(&["--runtime", "plimsoll"]).ok().stdout,
            "plimsoll /usr/local/bin/plimsoll-runtime-crun\n"
        );
        machine.tool(&["install", "--engine", "podman", "--default"]).ok();
        assert_eq!(info(&[]).ok().stdout, "plimsoll /usr/local/bin/plimsoll-runtime-crun\n", "{suite}");
        machine.tool(&["uninstall"]).ok();
        assert_eq!(info(&[]).ok().stdout, before);
    }
}

#[test]
fn docker_takes_the_file() {
    // Older ones have no way to only look at it.
    for suite in ["trixie", "forky"] {
        let machine = Machine::new(suite);
        let before = "{\n  \"debug\": true,\n  \"log-opts\": {\"max-size\": \"10m\"}\n}\n";
        machine.file("/etc/docker/daemon.json", before);
        machine.tool(&["install", "--engine", "docker", "--default"]).ok();
        let ran = machine.run(&["dockerd", "--validate"]).ok();
        says(&(ran.stdout + &ran.stderr), &["configuration OK"]);
        machine.tool(&["uninstall"]).ok();
        assert_eq!(machine.read("/etc/docker/daemon.json").as_deref(), Some(before));
    }
}

#[test]
fn a_restart_that_fails_is_a_problem_and_the_files_stand() {
    // Nothing here has systemd.
    let machine = Machine::new("bookworm");
    let ran = machine.tool(&["install", "--engine", "containerd", "--restart"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
    says(&ran.stdout, &["! ", "systemctl restart containerd: "]);
    says(&machine.dump(MAIN), &[".runtimes.plimsoll]"]);
}
