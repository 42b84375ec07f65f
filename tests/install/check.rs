//! `plimsoll check`: whether a container that is started now passes through.

use std::fs;

use serde_json::Value;

use super::tree::Tree;

const MAIN: &str = "/etc/containerd/config.toml";

/// The lines about an engine: mark and text.
fn lines(tree: &Tree, engine: &str) -> Vec<(String, String)> {
    let ran = tree.tool(&["check", "--json"]);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"));
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = said["lines"].as_array().unwrap().iter().filter(|line| line["topic"] == engine);
    lines.map(|line| (word(line, "mark"), word(line, "found") + " -> " + &word(line, "todo"))).collect()
}

#[track_caller]
fn expect(tree: &Tree, engine: &str, wanted: &[(&str, &str)]) {
    let found = lines(tree, engine);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for ((mark, text), (wanted_mark, part)) in found.iter().zip(wanted) {
        assert!(mark == wanted_mark && text.contains(part), "{wanted_mark} {part:?} should be in {found:#?}");
    }
}

const VERSION_2: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  options.SystemdCgroup = true
"#;

#[test]
fn check_says_for_each_engine_whether_containers_pass_through() {
    let tree = Tree::new(&["containerd", "dockerd", "podman", "crio", "runc"]);
    tree.file(MAIN, VERSION_2);
    let none = ("warn", "no handler calls Plimsoll; the default one is runc -> `plimsoll install --engine");
    for engine in ["containerd", "docker", "podman", "crio"] {
        expect(&tree, engine, &[none]);
    }
    tree.install(&["--engine", "containerd"]);
    let calls = ("ok", "handler plimsoll calls /usr/local/bin/plimsoll-runtime");
    let stopped = ("ok", "does not run");
    expect(
        &tree,
        "containerd",
        &[calls, ("ok", "the default is runc: a pod passes through it by its RuntimeClass"), stopped],
    );
    tree.install(&["--default"]);
    let default = ("ok", "it is the default");
    expect(&tree, "containerd", &[calls, default, stopped]);
    expect(&tree, "docker", &[calls, default, stopped]);
    expect(&tree, "podman", &[("ok", "plimsoll-runtime-runc"), default]);
    expect(&tree, "crio", &[("ok", "plimsoll-runtime-runc"), default, stopped]);
}

#[test]
fn check_names_what_is_wrong_with_a_handler() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, VERSION_2);
    tree.install(&[]);
    let good = tree.read(MAIN);
    for (from, to, part) in [
        (
            "SystemdCgroup = true\n  BinaryName",
            "SystemdCgroup = false\n  BinaryName",
            "SystemdCgroup is not that of runc",
        ),
        ("\"volcano.sh/*\", ", "", "let through volcano.sh/qos-level, volcano.sh/preemptable"),
        ("/usr/local/bin/plimsoll-runtime", "/opt/plimsoll-runtime", "/opt/plimsoll-runtime is not there"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        tree.file(MAIN, &text);
        let found = lines(&tree, "containerd");
        assert!(found[0].0 == "bad" && found[0].1.contains(part), "{found:#?}");
        tree.install(&[]);
        assert_eq!(lines(&tree, "containerd")[0].0, "ok", "after {part}");
        tree.file(MAIN, &good);
    }
    fs::remove_file(tree.path("/usr/local/bin/plimsoll-hook")).unwrap();
    let found = lines(&tree, "containerd");
    assert!(found[0].0 == "bad" && found[0].1.contains("plimsoll-hook is not there"), "{found:#?}");
}

#[test]
fn check_says_when_an_engine_has_not_read_its_files_since_they_changed() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, VERSION_2);
    tree.install(&[]);
    let process =
        |start: u64| format!("7 (containerd) S 1 7 7 0 -1 4194560 1 1 0 0 0 0 0 0 20 0 9 0 {start} 0 0\n");
    // Booted long ago, and started then; or started after now.
    tree.file("/proc/stat", "cpu 1 2 3\nbtime 1000000000\n").file("/proc/7/stat", &process(100));
    let found = lines(&tree, "containerd");
    assert!(found.last().unwrap().0 == "warn", "{found:#?}");
    super::says(
        &found.last().unwrap().1,
        &["runs since before", "config.toml was changed", "systemctl restart containerd"],
    );
    tree.file("/proc/7/stat", &process(400_000_000_000));
    assert_eq!(lines(&tree, "containerd").len(), 2);
}
