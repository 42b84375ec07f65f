//! Taking it off again.

use std::fs;

use serde_json::json;

use super::says;
use super::tree::Tree;

const MAIN: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/99-plimsoll.toml";
const DAEMON: &str = "/etc/docker/daemon.json";
const WRAPPER: &str = "/usr/local/bin/plimsoll-runtime";

const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "crun"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
"#;

#[test]
fn nothing_is_left_and_every_file_is_as_it_was() {
    let tree = Tree::new(&["containerd", "crio", "dockerd", "podman", "crun"]);
    tree.file(MAIN, &CONFIG.replace('\n', "\r\n")).file(DAEMON, "{ }");
    let before = tree.snapshot();
    tree.install(&["--default"]);
    assert_ne!(tree.snapshot(), before);
    let dry = tree.uninstall(&["--dry-run"]);
    says(
        &dry,
        &[
            "-  default_runtime_name = \"plimsoll\"\r\n",
            "+  default_runtime_name = \"crun\"\r\n",
            "+++ /dev/null",
        ],
    );
    says(
        &tree.uninstall(&[]),
        &["as it was", "RuntimeClass", "systemctl restart containerd", "systemctl reload docker"],
    );
    assert_eq!(tree.snapshot(), before);
    says(&tree.uninstall(&[]), &["not installed"]);
}

#[test]
fn what_others_changed_since_stays_and_ours_goes() {
    let tree = Tree::new(&["containerd", "dockerd"]);
    tree.file(MAIN, CONFIG).file(DAEMON, "{\n  \"debug\": true\n}\n");
    tree.install(&["--default"]);
    // Another installer adds a handler and an option to ours; somebody turns on what was not there.
    let other = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nv]\nruntime_type = \"io.containerd.runc.v2\"\n";
    let text = tree.read(MAIN).replace("BinaryName =", "NoNewKeyring = true\nBinaryName =");
    tree.file(MAIN, &(text + other));
    let text = tree.read(DAEMON).replace("\"debug\": true,", "\"debug\": true,\n  \"iptables\": false,");
    tree.file(DAEMON, &text);
    says(&tree.uninstall(&[]), &["theirs stay"]);
    assert_eq!(tree.read(MAIN), format!("{CONFIG}{other}"));
    assert_eq!(tree.read(DAEMON), "{\n  \"debug\": true,\n  \"iptables\": false\n}\n");
}

#[test]
fn a_default_that_somebody_else_took_over_is_left_to_them() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, CONFIG);
    tree.install(&["--default"]);
    let other =
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nv]\noptions.BinaryName = \"/opt/nv\"\n";
    let text =
        tree.read(MAIN).replace("default_runtime_name = \"plimsoll\"", "default_runtime_name = \"nv\"");
    tree.file(MAIN, &(text + other));
    tree.uninstall(&[]);
    assert_eq!(tree.read(MAIN), CONFIG.replace("\"crun\"", "\"nv\"") + other);
}

#[test]
fn a_handler_that_is_somebody_elses_by_now_stays() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, CONFIG);
    tree.install(&[]);
    tree.file(MAIN, &tree.read(MAIN).replace(WRAPPER, "/usr/bin/runc"));
    tree.uninstall(&[]);
    says(&tree.read(MAIN), &["runtimes.plimsoll.options]", "/usr/bin/runc"]);
}

#[test]
fn a_drop_in_with_settings_of_others_keeps_them() {
    let tree = Tree::new(&["containerd"]);
    let main = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
    tree.file(MAIN, main);
    tree.install(&[]);
    tree.file(DROP_IN, &(tree.read(DROP_IN) + "\n[debug]\nlevel = \"info\"\n"));
    tree.uninstall(&[]);
    let left = tree.read(DROP_IN);
    assert!(left.contains("[debug]\nlevel = \"info\"\n") && !left.contains("runtimes"), "{left}");
    assert_eq!(tree.read(MAIN), main);
}

#[test]
fn installed_again_after_others_changed_it_what_was_theirs_is_kept_at_the_end() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, CONFIG);
    tree.install(&[]);
    tree.file(MAIN, &(tree.read(MAIN) + "# theirs\n"));
    tree.install(&["--default"]);
    says(&tree.read(MAIN), &["default_runtime_name = \"plimsoll\"", "# theirs"]);
    tree.uninstall(&[]);
    assert_eq!(tree.read(MAIN), format!("{CONFIG}# theirs\n"));
}

#[test]
fn programs_stay_while_containers_that_run_refer_to_them() {
    let options = json!({"binary_name": WRAPPER, "systemd_cgroup": true}).to_string();
    let hooks = json!({"hooks": {"poststop": [{"path": "/usr/local/bin/plimsoll-hook"}]}}).to_string();
    let task = "/run/containerd/io.containerd.runtime.v2.task";
    let moby = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby";
    let pods = "/run/containers/storage/overlay-containers/pod1/userdata";
    let link = format!("/usr/bin/conmon\0-b\0/x\0-c\0abc\0-r\0{WRAPPER}-crun\0");
    let script = format!("#!/bin/sh\n{WRAPPER} --debug $@\n");
    for (files, who) in [
        (vec![(format!("{task}/k8s.io/web/options.json"), options.as_str())], "web of containerd's k8s.io"),
        (vec![(format!("{task}/k8s.io/web/runtime"), WRAPPER)], "web of containerd's k8s.io"),
        (vec![(format!("{task}/k8s.io/web/config.json"), hooks.as_str())], "web of containerd's k8s.io"),
        (vec![(format!("{moby}/abc/runtime"), WRAPPER)], "abc of containerd's moby"),
        (
            vec![
                (format!("{moby}/abc/runtime"), "/var/lib/docker/runtimes/plimsoll"),
                ("/var/lib/docker/runtimes/plimsoll".to_owned(), script.as_str()),
            ],
            "abc of containerd's moby",
        ),
        (
            vec![
                (format!("{pods}/config.json"), hooks.as_str()),
                (format!("{pods}/pidfile"), "77"),
                ("/proc/77/stat".to_owned(), ""),
            ],
            "pod1",
        ),
        (vec![("/proc/78/cmdline".to_owned(), link.as_str())], "container abc"),
    ] {
        let tree = Tree::new(&["containerd", "podman", "crun"]);
        tree.file(MAIN, CONFIG);
        tree.install(&["--default"]);
        for (path, text) in &files {
            tree.file(path, text);
        }
        let ran = tree.tool(&["uninstall"]);
        assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
        says(&ran.stdout, &[who, "still refers to /usr/local/bin/plimsoll-", "uninstall` again"]);
        // No new container comes this way any more, and those that are there can be deleted.
        assert_eq!(tree.read(MAIN), CONFIG);
        for name in ["plimsoll", "plimsoll-hook", "plimsoll-runtime", "plimsoll-runtime-crun"] {
            assert!(tree.path("/usr/local/bin").join(name).exists(), "{name}");
        }
        fs::remove_dir_all(tree.path("/run")).ok();
        fs::remove_dir_all(tree.path("/proc")).ok();
        tree.uninstall(&[]);
        assert_eq!(fs::read_dir(tree.path("/usr/local/bin")).unwrap().count(), 0);
        assert!(!tree.path("/var/lib/plimsoll").exists());
    }
}

/// The handler goes with the last container that its engine knows by it, running or not; the default goes at once.
#[test]
fn dockers_runtime_stays_while_containers_that_are_stopped_refer_to_it() {
    for (data, file) in [
        ("{ }", "/var/lib/docker"),
        ("{\n  \"data-root\": \"/srv/docker\"\n}\n", "/srv/docker"),
        ("{\"graph\": \"/srv/docker\", \"userns-remap\": \"default\"}", "/srv/docker/100000.100000"),
    ] {
        let tree = Tree::new(&["containerd", "dockerd"]);
        tree.file(MAIN, CONFIG).file(DAEMON, data);
        tree.install(&["--default"]);
        // Docker keeps a default on reload unless the file names another.
        let handler = ["runtime\":\"", "runtime\": \""].iter().fold(tree.read(DAEMON), |text, key| {
            text.replace(&format!("{key}plimsoll\""), &format!("{key}runc\""))
        });
        let (abc, plain) = (format!("{file}/containers/abc"), format!("{file}/containers/plain"));
        tree.file(&format!("{abc}/hostconfig.json"), r#"{"Runtime": "plimsoll"}"#)
            .file(&format!("{plain}/hostconfig.json"), r#"{"Runtime": "runc"}"#);
        let refused = |args: &[&str]| {
            let ran = tree.tool(&[&["uninstall"], args].concat());
            assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
            says(
                &ran.stdout,
                &["container abc of docker still refers to the runtime plimsoll (", "uninstall` again"],
            );
            assert!(!ran.stdout.contains("plain"), "{ran:#?}");
            ran.stdout
        };
        let before = tree.snapshot();
        says(&refused(&["--dry-run"]), &["\n-", "\n+", "leave of ours only the handler in"]);
        assert_eq!(tree.snapshot(), before);
        // With another engine left the programs are nobody's question.
        let said = refused(&["--engine", "docker"]);
        says(&said, &["refers to it: docker's runtime plimsoll; then"]);
        assert_eq!(tree.read(DAEMON), handler);
        for _ in 0..2 {
            says(&refused(&[]), &["refers to it: the programs, docker's runtime plimsoll; then"]);
            assert_eq!((tree.read(DAEMON), tree.read(MAIN)), (handler.clone(), CONFIG.to_owned()));
            assert!(tree.path(WRAPPER).exists());
        }
        // Back and off again changes nothing of that.
        tree.install(&["--default"]);
        refused(&[]);
        assert_eq!(tree.read(DAEMON), handler);
        fs::remove_dir_all(tree.path(&abc)).unwrap();
        tree.uninstall(&[]);
        assert_eq!((tree.read(DAEMON), tree.read(MAIN)), (data.to_owned(), CONFIG.to_owned()));
        assert_eq!(fs::read_dir(tree.path("/usr/local/bin")).unwrap().count(), 0);
        assert!(!tree.path("/var/lib/plimsoll").exists());
    }
}

#[test]
fn what_others_change_while_a_handler_stays_is_kept() {
    let tree = Tree::new(&["dockerd"]);
    let theirs = "{\n  \"debug\": true\n}\n";
    tree.file(DAEMON, "{\n  \"debug\": false\n}\n");
    tree.install(&["--default"]);
    let container = "/var/lib/docker/containers/abc/hostconfig.json";
    tree.file(container, r#"{"Runtime": "plimsoll"}"#);
    assert_eq!(tree.tool(&["uninstall"]).status.code(), Some(1));
    tree.file(DAEMON, &tree.read(DAEMON).replace("false", "true"));
    assert_eq!(tree.tool(&["uninstall"]).status.code(), Some(1));
    says(&tree.read(DAEMON), &["\"debug\": true", WRAPPER]);
    fs::remove_file(tree.path(container)).unwrap();
    tree.uninstall(&[]);
    assert_eq!(tree.read(DAEMON), theirs);
}

/// Of a tree that is not this node's own Podman's database cannot be asked for; what runs is seen all the same.
#[test]
fn podmans_runtime_stays_while_its_containers_run() {
    let tree = Tree::new(&["podman", "crun"]);
    let before = tree.snapshot();
    tree.install(&["--default"]);
    let link = format!("{WRAPPER}-crun");
    let monitor = format!("/usr/bin/conmon\0-c\0abc\0-r\0{link}\0--exit-command\0/usr/bin/podman\0");
    tree.file("/proc/78/cmdline", &monitor);
    let ran = tree.tool(&["uninstall"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
    says(&ran.stdout, &["container abc of", "refers to it: the programs, podman's runtime plimsoll; then"]);
    let left = tree.read("/etc/containers/containers.conf.d/99-plimsoll.conf");
    let wanted = format!(
        "# Made by `plimsoll install`; `plimsoll uninstall` removes it.\n\n[engine.runtimes]\nplimsoll = [\"{link}\"]\n"
    );
    assert_eq!(left.replace("\n\n", "\n"), wanted.replace("\n\n", "\n"));
    fs::remove_dir_all(tree.path("/proc")).unwrap();
    tree.uninstall(&[]);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn containers_that_have_ended_or_are_others_keep_nothing() {
    let tree = Tree::new(&["containerd", "podman", "crun"]);
    tree.install(&[]);
    let hooks = json!({"hooks": {"poststop": [{"path": "/usr/local/bin/plimsoll-hook"}]}}).to_string();
    tree.file("/var/lib/containers/storage/overlay-containers/old/userdata/config.json", &hooks)
        .file("/run/containers/storage/overlay-containers/old/userdata/pidfile", "99")
        .file("/run/containerd/io.containerd.runtime.v2.task/k8s.io/web/runtime", "/usr/bin/runc")
        .file("/run/containerd/io.containerd.runtime.v2.task/k8s.io/web/config.json", "{}")
        .file("/proc/78/cmdline", &format!("cat\0{WRAPPER}\0"));
    tree.uninstall(&[]);
    assert!(!tree.path(WRAPPER).exists());
}

#[test]
fn a_manifest_that_is_not_understood_is_named_and_nothing_is_touched() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, CONFIG);
    tree.install(&[]);
    let path = "/var/lib/plimsoll/install.json";
    for (text, part) in
        [("{", "not understood"), ("{\"version\": 9, \"engines\": [], \"programs\": []}", "version 9")]
    {
        tree.file(path, text);
        let before = tree.snapshot();
        super::refuses(&tree.tool(&["uninstall"]), &["install.json", part, "by hand"]);
        super::refuses(&tree.tool(&["install"]), &["install.json", part]);
        assert_eq!(tree.snapshot(), before);
    }
}
