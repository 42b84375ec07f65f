//! The files of CRI-O, Docker and Podman.

use super::says;
use super::tree::Tree;

const DAEMON: &str = "/etc/docker/daemon.json";

#[test]
fn dockers_file_keeps_its_keys_their_order_and_its_form() {
    let before = "{\n  \"log-driver\": \"json-file\",\n  \"exec-opts\": [\"native.cgroupdriver=systemd\"],\n  \"log-opts\": { \"max-size\": \"10m\" },\n  \"runtimes\": {\n    \"other\": {\n      \"path\": \"/opt/other\",\n      \"runtimeArgs\": []\n    }\n  },\n  \"unknown-key\": 1.50\n}\n";
    let ours = ",\n    \"plimsoll\": {\n      \"path\": \"/usr/local/bin/plimsoll-runtime\"\n    }\n  },\n";
    let tree = Tree::new(&["dockerd"]);
    tree.file(DAEMON, before);
    says(&tree.install(&[]), &["systemctl reload docker", "docker run --runtime plimsoll"]);
    let wanted = before.replace("\n  },\n", ours).replace("1.50", "1.5");
    assert_eq!(tree.read(DAEMON), wanted);
    tree.uninstall(&[]);
    assert_eq!(tree.read(DAEMON), before);

    for (before, after) in [
        (
            "{\n\t\"debug\": true\n}",
            "{\n\t\"debug\": true,\n\t\"runtimes\": {\n\t\t\"plimsoll\": {\n\t\t\t\"path\": \"/usr/local/bin/plimsoll-runtime\"\n\t\t}\n\t}\n}",
        ),
        (
            "{\"debug\":true}",
            "{\"debug\":true,\"runtimes\":{\"plimsoll\":{\"path\":\"/usr/local/bin/plimsoll-runtime\"}}}",
        ),
        (
            "{}",
            "{\n    \"runtimes\": {\n        \"plimsoll\": {\n            \"path\": \"/usr/local/bin/plimsoll-runtime\"\n        }\n    }\n}",
        ),
        (
            "{\r\n  \"debug\": true\r\n}\r\n",
            "{\r\n  \"debug\": true,\r\n  \"runtimes\": {\r\n    \"plimsoll\": {\r\n      \"path\": \"/usr/local/bin/plimsoll-runtime\"\r\n    }\r\n  }\r\n}\r\n",
        ),
    ] {
        tree.file(DAEMON, before);
        tree.install(&[]);
        assert_eq!(tree.read(DAEMON), after);
        tree.uninstall(&[]);
        assert_eq!(tree.read(DAEMON), before);
    }
}

#[test]
fn dockers_default_runtime_is_the_one_underneath() {
    let tree = Tree::new(&["dockerd", "runc", "crun"]);
    let before = r#"{
  "default-runtime": "mine",
  "runtimes": {
    "mine": {
      "path": "/usr/bin/crun",
      "runtimeArgs": ["--debug"]
    }
  }
}
"#;
    tree.file(DAEMON, before);
    tree.install(&["--default"]);
    let text = tree.read(DAEMON);
    says(
        &text,
        &["\"default-runtime\": \"plimsoll\"", "plimsoll-runtime-crun\"", "\"runtimeArgs\": [\"--debug\"]"],
    );
    says(&tree.install(&["--default"]), &["already installed"]);
    tree.uninstall(&[]);
    assert_eq!(tree.read(DAEMON), before);
    // A shim that calls no runtime by name is nothing to wrap; containers that name ours get runc.
    let kata = r#"{"default-runtime": "io.containerd.kata.v2"}"#;
    tree.file(DAEMON, kata);
    says(&tree.install(&[]), &["io.containerd.kata.v2 calls no OCI runtime", "made from runc"]);
    tree.uninstall(&[]);
    super::refuses(&tree.tool(&["install", "--default"]), &["io.containerd.kata.v2", "without --default"]);
}

#[test]
fn crio_gets_a_runtime_in_a_drop_in_made_from_its_default_one() {
    let tree = Tree::new(&["crio", "crun", "runc"]);
    let main = r#"[crio.runtime]
default_runtime = "crun"
cgroup_manager = "systemd"
"#;
    let first = r#"[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = ["io.containers.trace-syscall"]
"#;
    tree.file("/etc/crio/crio.conf", main).file("/etc/crio/crio.conf.d/10-crun.conf", first);
    let before = tree.snapshot();
    says(&tree.install(&["--default"]), &["systemctl restart crio"]);
    let wanted = r#"# Made by `plimsoll install`; `plimsoll uninstall` removes it.
[crio.runtime]
default_runtime = "plimsoll"

[crio.runtime.runtimes.plimsoll]
runtime_path = "/usr/local/bin/plimsoll-runtime-crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = ["io.containers.trace-syscall"]
"#;
    assert_eq!(tree.read("/etc/crio/crio.conf.d/99-plimsoll.conf"), wanted);
    says(&tree.install(&["--default"]), &["already installed"]);
    tree.uninstall(&[]);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn podman_gets_a_runtime_in_a_drop_in_made_from_its_default_one() {
    for (programs, runtime) in [(&["podman", "runc", "crun"][..], "crun"), (&["podman", "runc"], "runc")] {
        let tree = Tree::new(programs);
        let before = tree.snapshot();
        says(&tree.install(&[]), &["podman --runtime plimsoll run"]);
        let wanted = format!(
            r#"# Made by `plimsoll install`; `plimsoll uninstall` removes it.
[engine]
runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "plimsoll"]

[engine.runtimes]
plimsoll = ["/usr/local/bin/plimsoll-runtime-{runtime}"]
"#
        );
        assert_eq!(tree.read("/etc/containers/containers.conf.d/99-plimsoll.conf"), wanted);
        tree.install(&["--default"]);
        says(
            &tree.read("/etc/containers/containers.conf.d/99-plimsoll.conf"),
            &["\nruntime = \"plimsoll\"\n"],
        );
        tree.uninstall(&[]);
        assert_eq!(tree.snapshot(), before);
    }
}

#[test]
fn every_engine_of_a_node_at_once() {
    let tree = Tree::new(&["containerd", "crio", "dockerd", "podman", "runc", "crun"]);
    let before = tree.snapshot();
    says(
        &tree.install(&["--runtime-class", "qos"]),
        &["config.toml", "crio.conf.d", "daemon.json", "containers.conf.d", "handler: qos"],
    );
    // The RuntimeClass that is printed is the one that is packaged.
    let packaged = include_str!("../../packaging/runtimeclass.yaml").replace(": plimsoll\n", ": qos\n");
    let said = tree.install(&["--runtime-class", "qos"]);
    let printed: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("apiVersion")).collect();
    assert!(printed.len() == 5 && packaged.contains(&printed.join("\n")), "{said}");
    let manifest = tree.read("/var/lib/plimsoll/install.json");
    assert_eq!(manifest.matches("\"handler\": \"qos\"").count(), 4, "{manifest}");
    // Another name would leave the first one behind.
    super::refuses(&tree.tool(&["install"]), &["installed already, as handler qos", "uninstall --engine"]);
    tree.uninstall(&["--engine", "docker"]);
    assert!(!tree.path(DAEMON).exists() && tree.path("/usr/local/bin/plimsoll-runtime").exists());
    tree.uninstall(&[]);
    assert_eq!(tree.snapshot(), before);
}
