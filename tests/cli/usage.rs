//! The command line itself: help, wrong usage, completions, manual pages, configuration, colours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::common::{Sandbox, dist};
use super::{QOS, code, limited, says, squeezed, tool, tool_with};

const COMMANDS: [&str; 13] = [
    "plan",
    "explain",
    "status",
    "check",
    "repair",
    "install",
    "uninstall",
    "config",
    "disable",
    "enable",
    "completions",
    "man",
    "version",
];

#[test]
fn the_help_names_every_command_and_exit_code() {
    let sandbox = Sandbox::new("cli-help");
    let ran = tool(&sandbox, &["--help"]).ok();
    says(&ran.stdout, &COMMANDS);
    says(&ran.stdout, &["Exit codes:", "3  `status --exit-code`"]);
    for command in COMMANDS {
        tool(&sandbox, &[command, "--help"]).ok();
    }
    says(&tool(&sandbox, &["version"]).ok().stdout, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    let sandbox = Sandbox::new("cli-usage");
    for (args, part) in [
        (&[][..], "Usage: plimsoll"),
        (&["plann"], "plan"),
        (&["plan"], "BUNDLE_DIR"),
        (&["plan", "x", "--state", "y"], "cannot be used with"),
        (&["plan", "x", "--cgroup-driver", "systemd"], "cannot be used with"),
        (&["explain"], "CONTAINER"),
        (&["status", "--watch", "0"], "1..=86400"),
        (&["status", "--watch", "1", "--exit-code"], "cannot be used with"),
        (&["status", "--color", "blue"], "auto, always, never"),
        (&["completions", "dos"], "bash"),
    ] {
        let ran = tool(&sandbox, args);
        assert_eq!(code(&ran), 2, "{args:?}: {ran:#?}");
        says(&ran.stderr, &[part]);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}

#[test]
fn input_that_is_wrong_is_1_with_the_file_and_the_reason() {
    let sandbox = Sandbox::new("cli-input");
    let folder = sandbox.dir().join("bad");
    fs::create_dir_all(&folder).unwrap();
    let dir = folder.to_str().unwrap();
    let bundle = |text: &str| {
        fs::write(folder.join("config.json"), text).unwrap();
        let ran = tool(&sandbox, &["plan", dir]);
        (code(&ran), ran.stdout + &ran.stderr)
    };
    for (text, part) in [
        ("not json", "not an OCI config.json"),
        ("[]", "not an OCI config.json"),
        ("kind: Pod", "-f"),
        (r#"{"linux":{"cgroupsPath":7}}"#, "not an OCI config.json"),
        (
            r#"{"annotations":{"koordinator.sh/qosClass":"LS"},"linux":{"resources":{"cpu":{"cpus":"3-1"}}}}"#,
            "linux.resources.cpu.cpus",
        ),
        (r#"{"linux":{"cgroupsPath":"/a/b c"}}"#, "--id"),
    ] {
        let (code, said) = bundle(text);
        assert_eq!(code, 1, "{text}: {said}");
        says(&said, &[part]);
    }
    says(&tool(&sandbox, &["plan", "/nowhere"]).fails().stderr, &["/nowhere/config.json", "OCI bundle"]);
    for (state, part) in [
        ("", "OCI state"),
        ("{}", "missing field `id`"),
        (r#"{"id":"../x"}"#, "container id"),
        (r#"{"id":"x"}"#, "neither a process nor a bundle"),
        (r#"{"id":"x","bundle":"/nowhere"}"#, "/nowhere/config.json"),
    ] {
        let ran = tool_with(&sandbox, &["plan", "--state", "-"], state.as_bytes());
        assert_eq!(code(&ran), 1, "{state}");
        says(&ran.stderr, &[part]);
    }
    // A process that is not the container's is the hook's to refuse.
    let state = format!(r#"{{"id":"x","pid":{},"annotations":{{"{QOS}":"LS"}}}}"#, std::process::id());
    let ran = tool_with(&sandbox, &["plan", "--state", "-"], state.as_bytes());
    assert_eq!(code(&ran), 1, "{ran:#?}");
    says(&ran.stdout, &["root cgroup", "starts untreated"]);
}

#[test]
fn completions_know_every_command() {
    let sandbox = Sandbox::new("cli-complete");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = tool(&sandbox, &["completions", shell]).ok();
        says(&ran.stdout, &["explain", "exit-code", "cgroup-driver"]);
    }
    let script = tool(&sandbox, &["completions", "bash"]).ok().stdout;
    sandbox.command_with("/bin/bash", &["-n"], script.as_bytes()).ok();
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let sandbox = Sandbox::new("cli-man");
    says(&tool(&sandbox, &["man"]).ok().stdout, &[".TH plimsoll 8", "Exit codes"]);
    let dir = sandbox.dir().join("man");
    let listed = tool(&sandbox, &["man", "--dir", dir.to_str().unwrap()]).ok().stdout;
    let page = |name: &str| {
        let path = dir.join(format!("{name}.8"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; listed: {listed}", path.display()))
    };
    for command in COMMANDS {
        says(&page(&format!("plimsoll-{command}")), &[".TH", "SYNOPSIS"]);
    }
    says(&page("plimsoll-config-check"), &["mistake"]);
    says(&page("plimsoll-plan"), &["cgroup\\-driver", "Nothing is written"]);
}

#[test]
fn the_configuration_is_checked_and_shown() {
    let sandbox = Sandbox::new("cli-config");
    says(&tool(&sandbox, &["config", "check"]).ok().stdout, &["ok", "config.toml"]);
    sandbox.config("on_error = \"ignore\"\nplacment = \"keep\"\n[log]\n".trim_end_matches("[log]\n"));
    let ran = tool(&sandbox, &["config", "check"]);
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["config.toml", "line 2", "placment", "placement"]);
    // Whatever needs the configuration says so.
    says(&tool(&sandbox, &["status"]).fails().stderr, &["placment"]);

    let defaults = tool(&sandbox, &["config", "show", "--defaults"]).ok().stdout;
    fs::write(sandbox.config_path(), &defaults).unwrap();
    tool(&sandbox, &["config", "check"]).ok();
    assert_eq!(tool(&sandbox, &["config", "show"]).ok().stdout, defaults);

    fs::write(sandbox.config_path(), "[koordinator]\nslo_config = \"/nowhere/slo.json\"\n").unwrap();
    let ran = tool(&sandbox, &["config", "check"]);
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["/nowhere/slo.json"]);
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let sandbox = Sandbox::new("cli-color");
    sandbox.create(&limited(&sandbox, "one").annotation(QOS, "LS")).ok();
    let plain = tool(&sandbox, &["status"]).ok().stdout;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let always = tool(&sandbox, &["status", "--color", "always"]).ok().stdout;
    assert!(always.contains('\u{1b}'), "{always}");
    let never = tool(&sandbox, &["--color", "never", "explain", "one"]).ok().stdout;
    assert!(!never.contains('\u{1b}'), "{never}");
}

#[test]
fn what_a_container_calls_itself_does_not_reach_the_terminal() {
    let sandbox = Sandbox::new("cli-escape");
    let bundle = limited(&sandbox, "one")
        .annotation(QOS, "LS\u{1b}[2J")
        .annotation("io.kubernetes.cri.sandbox-namespace", "a\u{1b}[2J")
        .annotation("io.kubernetes.cri.sandbox-name", "b\u{1b}[2J")
        .annotation("io.kubernetes.cri.container-name", "c\nd");
    bundle.write();
    let ran = tool(&sandbox, &["plan", bundle.dir.to_str().unwrap()]);
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    let ran = tool(&sandbox, &["explain", "x\u{1b}[2J"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    // The reader is gone before the first byte is written.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let output = Command::new(dist("plimsoll"))
        .args(["config", "show", "--defaults"])
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// What the versions of the runtimes on this node mean, as they print them.
#[test]
fn check_says_what_an_old_runtime_does_not_do() {
    let sandbox = Sandbox::new("cli-versions");
    let folder = sandbox.dir().join("bin");
    fs::create_dir(&folder).unwrap();
    let kata = |version| {
        format!(
            r#"Kata Containers containerd shim (Golang): id: "io.containerd.kata.v2", version: {version}, commit: 0"#
        )
    };
    let check = |programs: &[(&str, &str)]| {
        for (name, says) in programs {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(dist("plimsoll"));
        command.arg("--config").arg(sandbox.config_path()).arg("check").env("PATH", &folder);
        squeezed(&String::from_utf8(command.output().unwrap().stdout).unwrap())
    };
    let old = check(&[
        ("runc", "runc version 1.1.5+ds1"),
        ("youki", "youki version: 0.5.7"),
        ("containerd-shim-kata-v2", &kata("3.4.0")),
    ]);
    says(
        &old,
        &[
            "runc 1.1.5+ds1: ignores cpu.burst",
            "youki 0.5.7: runs createRuntime hooks too late",
            "containerd-shim-kata-v2 3.4.0: runs createRuntime hooks for a pod's sandbox only",
            "containerd-shim-kata-v2 3.5 or later does not",
        ],
    );
    let new = check(&[("containerd-shim-kata-v2", &kata("3.5.0"))]);
    says(&new, &["containerd-shim-kata-v2 3.5.0 at "]);
}
