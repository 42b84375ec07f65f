//! What the wrapper cannot do it says where containerd shows it, and it leaves nothing behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::by_ctr::Placed;
use crate::common::invariants::{nothing_left, records};
use crate::common::{Sandbox, dist};
use crate::direct::{Asked, Direct};
use crate::host::{Kata, Layout, place_this_program};
use crate::kit::kubelet::make_path;
use crate::kit::{Pod, QOS, Suite};

/// A start of a sandbox that fails, as kubelet sees it.
#[track_caller]
fn refused(kata: &Kata, name: &str, wanted: &[&str]) {
    let sandbox = &kata.engine.node.sandbox;
    let group = sandbox.group(&format!("kubepods/burstable/pod{name}"));
    make_path(&group);
    let error = Pod::run_by(&kata.engine, "go-3.5", name, "burstable", &[(QOS, "LS")]).unwrap_err();
    for word in wanted {
        assert!(error.message.contains(word), "{word} is not in: {}", error.message);
    }
    nothing_left(sandbox);
    assert!(records(sandbox).is_empty());
    for dir in ["cpu", "cpuset"].map(|controller| crate::common::cgroup::dir(controller, &group)) {
        let below = fs::read_dir(&dir).unwrap().flatten().filter(|entry| entry.path().is_dir());
        assert_eq!(below.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    }
    assert_eq!(crate::common::cgroup::read(&group, "cpu.cfs_burst_us").as_deref(), Some("0"));
}

pub fn a_missing_shim_is_named_to_kubelet() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata-missing", "");
    kata.engine.node.sandbox.config("[shim.programs]\nkata = \"/nowhere/containerd-shim-kata-v2\"\n");
    refused(&kata, "missing", &["/nowhere/containerd-shim-kata-v2"]);
}

pub fn a_wrapper_pointed_at_itself_is_refused() {
    let kata = Kata::wrapped(Suite::Bookworm, "kata-loop", "");
    for path in
        ["/usr/local/bin/containerd-shim-plimsoll-v2", "/usr/local/bin/containerd-shim-plimsoll-kata-v2"]
    {
        kata.engine.node.sandbox.config(&format!("[shim.programs]\nkata = {path:?}\n"));
        refused(&kata, "loop", &[path]);
    }
}

/// The wrapper by itself in a bundle, as containerd calls it.
fn call(sandbox: &Sandbox, bundle: &Path) -> (bool, String) {
    let link = sandbox.dir().join("containerd-shim-plimsoll-kata-v2");
    if !link.exists() {
        symlink(dist("containerd-shim-plimsoll-v2"), &link).unwrap();
    }
    let output = Command::new(link)
        .args([
            "-namespace",
            "k8s.io",
            "-address",
            "/nowhere",
            "-publish-binary",
            "/nowhere",
            "-id",
            "x",
            "start",
        ])
        .current_dir(bundle)
        .env("PLIMSOLL_CONFIG", sandbox.config_path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // containerd shows both.
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub fn a_bundle_that_is_none_fails_with_words() {
    let sandbox = Sandbox::new("kata-bundle");
    let shim = sandbox.dir().join("containerd-shim-kata-v2");
    place_this_program(&shim);
    sandbox.config(&format!("[shim.programs]\nkata = {shim:?}\n"));
    let bundle = sandbox.dir().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let (is_fine, said) = call(&sandbox, &bundle);
    assert!(!is_fine && said.contains("config.json"), "{said}");
    for text in ["", "{", "[]", "null", "\u{0}"] {
        fs::write(bundle.join("config.json"), text).unwrap();
        let (is_fine, said) = call(&sandbox, &bundle);
        assert!(!is_fine && said.contains("config.json"), "{text:?}: {said}");
    }
    fs::remove_file(bundle.join("config.json")).unwrap();
    fs::create_dir(bundle.join("config.json")).unwrap();
    let (is_fine, said) = call(&sandbox, &bundle);
    assert!(!is_fine && said.contains("config.json"), "{said}");
    nothing_left(&sandbox);
}

/// A container of a sandbox nobody knows: the shim's own answer is passed on.
pub fn an_unknown_sandbox_leaves_nothing() {
    let shim = Placed::new(Layout::ALL[0], "tcg");
    let machine = Direct::start("kata-unknown", &shim.program, Some(shim.configuration.clone()), "");
    let pod = machine.pod("nobody", -1);
    let asked = Asked {
        id: "lost",
        sandbox: Some("nobody"),
        cgroups_path: pod.path_of("lost"),
        annotations: vec![(QOS, "LS")],
        ..Asked::default()
    };
    let ran = machine.run(&asked).fails();
    assert!(!ran.stderr.trim().is_empty(), "{ran:?}");
    nothing_left(&machine.sandbox);
    assert!(records(&machine.sandbox).is_empty());
}
