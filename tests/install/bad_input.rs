//! What an installer meets on real nodes. A clear error or a right result; never a damaged file, and after an error nothing
//! has changed at all.

use std::fs;

use super::common::helpers;
use super::refuses;
use super::tree::{Tree, shipped};

const MAIN: &str = "/etc/containerd/config.toml";
const DAEMON: &str = "/etc/docker/daemon.json";

#[test]
fn a_file_that_cannot_be_meant_is_refused_with_a_reason_and_nothing_changes() {
    let cri = |more: &str| format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd{more}\n");
    for (path, text, parts) in [
        (MAIN, "version = [".to_owned(), &["not TOML", "line 1"][..]),
        (MAIN, "root = \"/x\"\n".to_owned(), &["version is missing", "means 1", "config migrate"]),
        (MAIN, "version = 1\n".to_owned(), &["version is 1"]),
        (MAIN, "version = 7\n".to_owned(), &["version 7 is not known", "2, 3 and 4"]),
        (MAIN, "version = \"2\"\n".to_owned(), &["version is \"2\""]),
        (MAIN, "version = 2\nplugins = 7\n".to_owned(), &["plugins is not a table"]),
        (MAIN, cri("]\nruntimes = []"), &["runtimes is not a table"]),
        (MAIN, "version = 2\nimports = [\"none.toml\"]\n".to_owned(), &["none.toml", "not there"]),
        (MAIN, "version = 2\nimports = [\"[a-z]*.toml\"]\n".to_owned(), &["[a-z]*.toml", "not understood"]),
        (MAIN, cri("]\ndefault_runtime_name = \"gone\""), &["\"gone\"", "no such handler"]),
        (
            MAIN,
            cri(".runtimes.plimsoll]\nruntime_type = \"io.containerd.kata.v2\""),
            &["there already", "--runtime-class"],
        ),
        (
            MAIN,
            cri(".runtimes.plimsoll]\noptions.BinaryName = \"/usr/bin/runc\""),
            &["there already", "/usr/bin/runc", "--runtime-class"],
        ),
        (
            MAIN,
            "version = 2\ndisabled_plugins = [\"cri\"]\n".to_owned(),
            &["disabled_plugins", "no Kubernetes"],
        ),
        (
            MAIN,
            "disabled_plugins = [\"cri\"]\n#root = \"/x\"\n".to_owned(),
            &["disabled_plugins", "no Kubernetes"],
        ),
        (DAEMON, "{\"a\": 1,}".to_owned(), &["not JSON", "line 1"]),
        (DAEMON, "[]".to_owned(), &["not a JSON object"]),
        (DAEMON, "{\"runtimes\": []}".to_owned(), &["runtimes is not a table"]),
        (
            DAEMON,
            "{\"runtimes\": {\"plimsoll\": {\"path\": \"/bin/sh\"}}}".to_owned(),
            &["there already", "/bin/sh"],
        ),
        (
            DAEMON,
            "{\"default-runtime\": \"nv\", \"runtimes\": {\"nv\": {\"path\": \"nv\"}}}".to_owned(),
            &["Docker's runtime nv", "calls nv", "[runtime]"],
        ),
        (
            "/etc/containers/containers.conf",
            "[engine]\nruntime = \"krun\"\n".to_owned(),
            &["krun", "[runtime]"],
        ),
        (
            "/etc/crio/crio.conf.d/00.conf",
            "[crio.runtime]\ndefault_runtime = \"k\"\n[crio.runtime.runtimes.k]\nruntime_type = \"vm\"\n"
                .to_owned(),
            &["CRI-O runtime k", "\"vm\""],
        ),
    ] {
        let engine = match path {
            MAIN => "containerd",
            DAEMON => "docker",
            other if other.contains("crio") => "crio",
            _ => "podman",
        };
        let tree = Tree::new(&["runc", "crun"]);
        tree.file(path, &text);
        let before = tree.snapshot();
        for options in [&["--dry-run"][..], &[]] {
            refuses(&tree.tool(&[&["install", "--engine", engine], options].concat()), parts);
        }
        assert_eq!(tree.snapshot(), before, "{text}");
        assert!(!tree.path("/usr/local").exists());
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let tree = Tree::new(&[]);
    fs::create_dir_all(tree.path(MAIN)).unwrap();
    refuses(&tree.tool(&["install", "--engine", "containerd"]), &["config.toml", "not a file"]);
    let tree = Tree::new(&[]);
    tree.file(MAIN, "");
    fs::write(tree.path(MAIN), b"version = 2 # \xff\n").unwrap();
    refuses(&tree.tool(&["install", "--engine", "containerd"]), &["config.toml", "UTF-8"]);
    let tree = Tree::new(&[]);
    tree.file("/etc/containerd/x", "");
    std::os::unix::fs::symlink("gone.toml", tree.path(MAIN)).unwrap();
    refuses(&tree.tool(&["install", "--engine", "containerd"]), &["config.toml", "gone.toml"]);
}

#[test]
fn a_wish_that_cannot_be_is_refused() {
    let tree = Tree::new(&["containerd"]);
    for (options, part) in [
        (&["--runtime-class", "Plimsoll"][..], "not a name"),
        (&["--runtime-class", "a.b"], "not a name"),
        (&["--runtime-class", "runc"], "runtime's own"),
        (&["--bin-dir", "bin"], "absolute"),
    ] {
        refuses(&tree.tool(&[&["install"], options].concat()), &[part]);
    }
    refuses(&Tree::new(&[]).tool(&["install"]), &["containerd, crio, docker, podman", "--engine"]);
    assert_eq!(tree.tool(&["install", "--engine-config", "x"]).status.code(), Some(2));
}

#[test]
fn programs_that_are_not_all_there_are_refused() {
    let tree = Tree::new(&["containerd"]);
    let folder = tempfile::tempdir().unwrap();
    helpers::copy_program(&shipped().join("plimsoll"), &folder.path().join("plimsoll"));
    refuses(&tree.tool_of(folder.path(), &["install"]), &["plimsoll-hook", "one folder"]);
    assert!(!tree.path("/etc").exists());
}

#[test]
fn tables_of_version_2_in_a_file_of_version_3_are_pointed_out() {
    let tree = Tree::new(&["containerd"]);
    let old = "version = 3\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    tree.file(MAIN, old);
    let said = tree.install(&[]);
    super::says(&said, &["is of version 2", "does not read it"]);
    // What containerd does not read is not taken over.
    let new = tree.read(MAIN);
    assert!(new.starts_with(old) && new.matches("SystemdCgroup").count() == 1, "{new}");
}

#[test]
fn containerd_without_kubernetes_is_left_out_where_no_engine_is_named() {
    let tree = Tree::new(&["containerd", "dockerd"]);
    tree.file(MAIN, "disabled_plugins = [\"cri\"]\n");
    let said = tree.install(&[]);
    super::says(&said, &["containerd is left out", "daemon.json"]);
    assert_eq!(tree.read(MAIN), "disabled_plugins = [\"cri\"]\n");
}
