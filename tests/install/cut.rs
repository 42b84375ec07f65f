//! The power goes, at any moment. What engines read is then the file from before or the one from after, and nothing of
//! it is half written; install and uninstall go on from there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use super::tree::{Tree, in_memory, shipped};

/// System calls that change something, by every name a libc uses for them.
const CHANGES: &str = "open,openat,creat,write,copy_file_range,sendfile,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,\
                       renameat,renameat2,symlink,symlinkat,chmod,fchmod,fchown,ftruncate";

/// The files of engines in a node that has one of each kind: a main file to edit, a drop-in, JSON.
const FILES: [&str; 3] = [
    "/etc/containerd/config.toml",
    "/etc/containers/containers.conf.d/99-plimsoll.conf",
    "/etc/docker/daemon.json",
];

fn tree() -> Tree {
    let tree = Tree::at(in_memory(), &["containerd", "podman", "dockerd", "crun"]);
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"runc\"\n";
    tree.file(FILES[0], config).file(FILES[2], "{\n  \"debug\": true\n}\n");
    tree
}

fn strace(tree: &Tree, options: &[&str], args: &[&str], out: &Path) -> ExitStatus {
    Command::new("strace")
        .arg("-o")
        .arg(out)
        .args(options)
        .arg(shipped().join("plimsoll"))
        .arg("--root")
        .arg(tree.path("/"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|e| panic!("start strace: {e}; run make deps"))
}

/// Every change that a run makes: the system call, and which of its kind.
fn points(tree: &Tree, args: &[&str]) -> Vec<(String, usize)> {
    let out = tree.path("/trace");
    let status = strace(tree, &["-e", &format!("trace={CHANGES}"), "-e", "signal=none"], args, &out);
    assert!(status.success(), "{status}");
    let trace = fs::read_to_string(&out).unwrap();
    fs::remove_file(out).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for (call, rest) in trace.lines().filter_map(|line| line.split_once('(')) {
        let n = counts.entry(call).or_default();
        *n += 1;
        // Opening a file to read it changes nothing.
        if !call.starts_with("open") || rest.contains("O_CREAT") {
            points.push((call.to_owned(), *n));
        }
    }
    points
}

fn kill_at(tree: &Tree, args: &[&str], (call, n): &(String, usize)) {
    let out = tree.path("/trace");
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let status = strace(tree, &["-e", &format!("trace={call}"), "-e", &inject], args, &out);
    assert_eq!(
        status.signal(),
        Some(Signal::SIGKILL as i32),
        "{args:?} did not come to {call} {n}: {status}"
    );
    fs::remove_file(out).unwrap();
}

/// What engines read: every file in the folders they look into.
fn configs(tree: &Tree) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = tree.snapshot().into_iter().map(|(path, (_, _, content))| (path, content));
    let folders = FILES.map(|file| tree.path(file).parent().unwrap().to_owned());
    // Containerd and Docker read one file by its name.
    let is_read = |path: &Path| {
        FILES.iter().any(|file| tree.path(file) == path) || path.parent() == Some(folders[1].as_path())
    };
    all.filter(|(path, _)| is_read(path)).collect()
}

/// Each file is as before or as after, and what a handler names is there.
fn starts(
    tree: &Tree,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
    at: &(String, usize),
) {
    for (path, text) in configs(tree) {
        let is_one = before.get(&path) == Some(&text) || after.get(&path) == Some(&text);
        assert!(is_one, "{} after {at:?}:\n{}", path.display(), String::from_utf8_lossy(&text));
        if after.get(&path) == Some(&text) {
            for name in ["plimsoll-hook", "plimsoll-runtime", "plimsoll-runtime-crun"] {
                let program = tree.path("/usr/local/bin").join(name);
                let wanted = shipped().join(name.trim_end_matches("-crun"));
                assert!(fs::read(program).unwrap() == fs::read(wanted).unwrap(), "{name} after {at:?}");
            }
        }
    }
}

#[test]
fn an_install_that_is_cut_off_leaves_engines_that_start_and_can_be_finished_or_taken_off() {
    let install = ["install", "--default"];
    let tree = tree();
    let before = tree.snapshot();
    let old = configs(&tree);
    let points = points(&tree, &install);
    let new = configs(&tree);
    let installed = tree.snapshot();
    assert!(points.len() > 20 && old != new, "{points:?}");
    tree.uninstall(&[]);
    assert_eq!(tree.snapshot(), before);
    clean(&tree);
    for (nth, point) in points.iter().enumerate() {
        kill_at(&tree, &install, point);
        starts(&tree, &old, &new, point);
        // By turns it is finished first, or taken off as it is.
        if nth % 2 == 0 {
            tree.install(&["--default"]);
            assert_eq!(tree.snapshot(), installed, "after {point:?}");
        }
        tree.uninstall(&[]);
        assert_eq!(tree.snapshot(), before, "after {point:?}");
        clean(&tree);
    }
}

#[test]
fn an_uninstall_that_is_cut_off_leaves_engines_that_start_and_can_be_finished() {
    let tree = tree();
    let before = tree.snapshot();
    let old = configs(&tree);
    tree.install(&["--default"]);
    let new = configs(&tree);
    let points = points(&tree, &["uninstall"]);
    assert!(points.len() > 10, "{points:?}");
    for point in &points {
        tree.install(&["--default"]);
        kill_at(&tree, &["uninstall"], point);
        starts(&tree, &old, &new, point);
        tree.uninstall(&[]);
        assert_eq!(tree.snapshot(), before, "after {point:?}");
        clean(&tree);
    }
}

/// Removes the folders that were made: to make them is a change to be cut off at, too.
fn clean(tree: &Tree) {
    for folder in ["/usr/local/bin", "/usr/local", "/var/lib", "/var", "/etc/containers"] {
        let _ = fs::remove_dir(tree.path(folder));
    }
}
