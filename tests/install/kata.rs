//! Handlers of Kata Containers.

use std::fs;

use serde_json::Value;

use super::tree::Tree;
use super::{PATTERNS, says};

const MAIN: &str = "/etc/containerd/config.toml";
const BIN: &str = "/usr/local/bin";

/// A node's file with two of Kata's handlers: by type, and by path.
fn config(version: u32) -> String {
    let plugin = if version == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
    format!(
        r#"version = {version}
[plugins."{plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{plugin}".containerd.runtimes.kata]
  runtime_type = "io.containerd.kata.v2"
  privileged_without_host_devices = true
  pod_annotations = ["io.katacontainers.*"]
[plugins."{plugin}".containerd.runtimes.kata-qemu]
  runtime_type = "io.containerd.kata-qemu.v2"
  runtime_path = "/opt/kata/bin/containerd-shim-kata-v2"
  [plugins."{plugin}".containerd.runtimes.kata-qemu.options]
    ConfigPath = "/opt/kata/qemu.toml"
"#
    )
}

fn node() -> Tree {
    let tree = Tree::new(&["containerd", "runc"]);
    tree.file("/opt/kata/bin/containerd-shim-kata-v2", "#!/bin/sh\n");
    tree
}

#[test]
fn each_of_katas_handlers_gets_one_with_our_shim_in_its_place() {
    for version in [2, 3, 4] {
        let tree = node();
        tree.file(MAIN, &config(version));
        let before = tree.snapshot();
        let said = tree.install(&["--engine", "containerd"]);
        says(
            &said,
            &["name: plimsoll-kata\nhandler: plimsoll-kata\n", "handler: plimsoll-kata-qemu\n", "overhead"],
        );
        let link = format!("{BIN}/containerd-shim-plimsoll-kata-v2");
        let text = tree.read(MAIN);
        let value: Value = toml::from_str(&text).unwrap();
        let plugin = if version == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
        let runtimes = &value["plugins"][plugin]["containerd"]["runtimes"];
        let kata = &runtimes["plimsoll-kata"];
        assert_eq!(kata["runtime_type"], "io.containerd.kata.v2");
        assert_eq!(kata["runtime_path"], link.as_str());
        assert_eq!(kata["privileged_without_host_devices"], true);
        let patterns: Value =
            serde_json::from_str(&format!("[\"io.katacontainers.*\", {PATTERNS}]")).unwrap();
        assert_eq!(kata["pod_annotations"], patterns);
        let qemu = &runtimes["plimsoll-kata-qemu"];
        // The type says how the options are handed on: it stays.
        assert_eq!(qemu["runtime_type"], "io.containerd.kata-qemu.v2");
        assert_eq!(qemu["runtime_path"], link.as_str());
        assert_eq!(qemu["options"]["ConfigPath"], "/opt/kata/qemu.toml");
        let program = fs::read_link(tree.path(&link)).unwrap();
        assert_eq!(program.to_str(), Some("containerd-shim-plimsoll-v2"));
        assert!(tree.path(&format!("{BIN}/containerd-shim-plimsoll-v2")).is_file());
        let after = tree.snapshot();
        says(&tree.install(&["--engine", "containerd"]), &["already installed"]);
        assert_eq!(tree.snapshot(), after);
        tree.uninstall(&[]);
        assert_eq!(tree.snapshot(), before, "version {version}");
    }
}

#[test]
fn a_shim_that_ours_would_not_find_is_named_with_what_to_do() {
    let tree = node();
    tree.file("/opt/rust/bin/containerd-shim-kata-v2", "#!/bin/sh\n");
    let rust = config(3).replace("/opt/kata/bin/", "/opt/rust/bin/");
    tree.file(MAIN, &rust);
    let said = tree.install(&["--engine", "containerd"]);
    says(
        &said,
        &[
            "kata-qemu calls /opt/rust/bin/containerd-shim-kata-v2",
            "[shim.programs]",
            "handler: plimsoll-kata\n",
        ],
    );
    assert!(!tree.read(MAIN).contains("plimsoll-kata-qemu"));
    tree.file(
        "/etc/plimsoll/config.toml",
        "[shim.programs]\nkata-qemu = \"/opt/rust/bin/containerd-shim-kata-v2\"\n",
    );
    tree.install(&["--engine", "containerd"]);
    says(&tree.read(MAIN), &["containerd-shim-plimsoll-kata-qemu-v2"]);
    assert!(tree.path(&format!("{BIN}/containerd-shim-plimsoll-kata-qemu-v2")).is_symlink());
}

#[test]
fn a_handler_of_that_name_which_is_not_ours_is_left_alone() {
    let tree = node();
    let text = config(3)
        + "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.plimsoll-kata]\n  runtime_type = \"io.containerd.other.v2\"\n";
    tree.file(MAIN, &text);
    let before = tree.snapshot();
    let ran = tree.tool(&["install", "--engine", "containerd"]).fails();
    says(&ran.stderr, &["handler plimsoll-kata", "--runtime-class"]);
    assert_eq!(tree.snapshot().get(&tree.path(MAIN)), before.get(&tree.path(MAIN)));
}

#[test]
fn check_warns_of_what_takes_a_machine_out_of_its_pod() {
    let tree = node();
    tree.file(MAIN, &config(3));
    tree.file("/opt/kata/qemu.toml", "[runtime]\nsandbox_cgroup_only = true\n");
    tree.file("/etc/kata-containers/configuration.toml", "[runtime]\nsandbox_cgroup_only = false\n");
    tree.file("/usr/share/defaults/kata-containers/configuration.toml", "[runtime]\n");
    let found = |tree: &Tree| -> Vec<String> {
        let said: Value = serde_json::from_str(&tree.tool(&["check", "--json"]).stdout).unwrap();
        let lines = said["lines"].as_array().unwrap().iter().filter(|line| line["topic"] == "kata");
        lines
            .map(|line| format!("{} {}", line["mark"].as_str().unwrap(), line["found"].as_str().unwrap()))
            .collect()
    };
    let lines = found(&tree);
    for (start, part) in [
        ("ok /opt/kata/qemu.toml", "in their pod's group"),
        ("warn /etc/kata-containers", "is false"),
        ("warn /usr/share", "by default false"),
    ] {
        assert!(lines.iter().any(|l| l.starts_with(start) && l.contains(part)), "{start}: {lines:#?}");
    }
    // `io.katacontainers.*` matches all of Kata's annotations, which have no slash.
    assert!(lines.iter().any(|l| l.contains("handler kata lets pods set")), "{lines:#?}");
    tree.file(MAIN, &config(3).replace("io.katacontainers.*", "io.katacontainers.config.hypervisor.*"));
    assert!(!found(&tree).iter().any(|l| l.contains("lets pods set")));
}
