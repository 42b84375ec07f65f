//! containerd's files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::tree::Tree;
use super::{PATTERNS, says};

const MAIN: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/99-plimsoll.toml";

/// A node's file, as a cluster's installer writes it.
const VERSION_2: &str = r#"# Made by the cluster's installer.
version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]   # the CRI
    sandbox_image = "registry.example/pause:3.9"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "overlayfs"
      default_runtime_name = "runc"   # as ever
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          pod_annotations = ["example.org/*"] # ours
          privileged_without_host_devices = true
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true  # kubelet's driver
            Root = "/run/runc"
  # The end of the CRI.
  [plugins."io.containerd.internal.v1.opt"]
    path = "/opt/containerd"
# The end.
"#;

#[test]
fn version_2_gets_a_handler_beside_the_default_one_and_keeps_everything_else() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, VERSION_2);
    tree.install(&[]);
    let new = format!(
        r#"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plimsoll]
          runtime_type = "io.containerd.runc.v2"
          pod_annotations = ["example.org/*", {PATTERNS}]
          privileged_without_host_devices = true

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plimsoll.options]
            SystemdCgroup = true
            Root = "/run/runc"
            BinaryName = "/usr/local/bin/plimsoll-runtime"
"#
    );
    let end = "  # The end of the CRI.";
    assert_eq!(tree.read(MAIN), VERSION_2.replace(end, &format!("{}{end}", &new[..])));
}

#[test]
fn the_default_is_replaced_where_that_is_wanted() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, VERSION_2);
    tree.install(&["--default"]);
    says(&tree.read(MAIN), &["      default_runtime_name = \"plimsoll\"   # as ever\n"]);
    tree.uninstall(&[]);
    assert_eq!(tree.read(MAIN), VERSION_2);
    // One that is not named is named, and that goes again.
    let plain = VERSION_2.replace("      default_runtime_name = \"runc\"   # as ever\n", "");
    tree.file(MAIN, &plain);
    tree.install(&["--default"]);
    says(&tree.read(MAIN), &["      default_runtime_name = \"plimsoll\"\n"]);
    tree.file(MAIN, &(tree.read(MAIN) + "# added\n"));
    tree.uninstall(&[]);
    assert_eq!(tree.read(MAIN), plain + "# added\n");
}

#[test]
fn a_drop_in_where_the_main_file_imports_its_folder() {
    for (version, imports) in [(3, "/etc/containerd/conf.d/*.toml"), (4, "conf.d/*.toml")] {
        let tree = Tree::new(&["containerd"]);
        let main = format!(
            "version = {version}\nimports = [\"{imports}\"]\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
             runtime_type = 'io.containerd.runc.v2'\noptions.SystemdCgroup = true\n"
        );
        tree.file(MAIN, &main);
        let said = tree.install(&["--default"]);
        says(&said, &["99-plimsoll.toml", "systemctl restart containerd"]);
        let plugin = r#"plugins."io.containerd.cri.v1.runtime".containerd"#;
        let wanted = format!(
            r#"# Made by `plimsoll install`; `plimsoll uninstall` removes it.
version = {version}

[{plugin}]
default_runtime_name = "plimsoll"

[{plugin}.runtimes.plimsoll]
runtime_type = "io.containerd.runc.v2"
pod_annotations = [{PATTERNS}]

[{plugin}.runtimes.plimsoll.options]
SystemdCgroup = true
BinaryName = "/usr/local/bin/plimsoll-runtime"
"#
        );
        assert_eq!((tree.read(MAIN), tree.read(DROP_IN)), (main.clone(), wanted));
        tree.uninstall(&[]);
        assert_eq!(tree.read(MAIN), main);
        assert!(!tree.path("/etc/containerd/conf.d").exists());
    }
}

#[test]
fn no_drop_in_where_it_would_not_be_read_or_would_replace_the_rest() {
    for (version, imports) in
        [(2, "imports = [\"conf.d/*.toml\"]\n"), (3, ""), (3, "imports = [\"conf.d/*.conf\"]\n")]
    {
        let tree = Tree::new(&["containerd"]);
        tree.file(MAIN, &format!("version = {version}\n{imports}"));
        tree.install(&[]);
        says(&tree.read(MAIN), &["runtimes.plimsoll]", imports]);
        assert!(!tree.path("/etc/containerd/conf.d").exists());
    }
}

#[test]
fn in_version_2_the_imported_file_that_replaces_the_table_is_the_one_to_edit() {
    let tree = Tree::new(&["containerd"]);
    let main = format!("imports = [\"/etc/containerd/conf.d/*.toml\"]\n{VERSION_2}");
    let other = VERSION_2.replace("/run/runc", "/run/other");
    tree.file(MAIN, &main).file("/etc/containerd/conf.d/50-other.toml", &other);
    tree.install(&[]);
    assert_eq!(tree.read(MAIN), main);
    says(
        &tree.read("/etc/containerd/conf.d/50-other.toml"),
        &["runtimes.plimsoll]", "BinaryName", "/run/other"],
    );
}

#[test]
fn a_missing_main_file_is_written_with_what_was_built_in() {
    let tree = Tree::new(&["containerd"]);
    tree.install(&[]);
    let plugin = r#"plugins."io.containerd.grpc.v1.cri".containerd.runtimes"#;
    let wanted = format!(
        r#"# Made by `plimsoll install`; `plimsoll uninstall` removes it.
version = 2

[{plugin}.runc]
runtime_type = "io.containerd.runc.v2"

[{plugin}.plimsoll]
runtime_type = "io.containerd.runc.v2"
pod_annotations = [{PATTERNS}]

[{plugin}.plimsoll.options]
BinaryName = "/usr/local/bin/plimsoll-runtime"
"#
    );
    assert_eq!(tree.read(MAIN), wanted);
    tree.uninstall(&[]);
    assert!(!tree.path("/etc/containerd").exists());
}

#[test]
fn the_runtime_that_was_called_before_is_called_underneath() {
    let with =
        |binary: &str| VERSION_2.replace("Root =", &format!("BinaryName = \"{binary}\"\n            Root ="));
    for (binary, wrapper) in [("crun", "-crun"), ("/usr/bin/crun", "-crun"), ("runc", "-runc"), ("", "")] {
        let tree = Tree::new(&["containerd", "runc", "crun"]);
        tree.file(MAIN, &with(binary));
        tree.install(&[]);
        let name = format!("plimsoll-runtime{wrapper}");
        says(&tree.read(MAIN), &[&format!("BinaryName = \"/usr/local/bin/{name}\"\n")]);
        assert!(tree.path("/usr/local/bin").join(&name).is_file(), "{name} leads to the wrapper");
    }
    // A program that the wrapper would not call is not silently left out.
    let tree = Tree::new(&["containerd", "runc", "crun"]);
    tree.file(MAIN, &with("/opt/nvidia/nvidia-container-runtime"));
    let before = tree.snapshot();
    super::refuses(
        &tree.tool(&["install"]),
        &["/opt/nvidia/nvidia-container-runtime", "[runtime]", "path ="],
    );
    assert_eq!(tree.snapshot(), before);
    tree.file("/etc/plimsoll/config.toml", "[runtime]\npath = \"/opt/nvidia/nvidia-container-runtime\"\n");
    tree.install(&[]);
    says(&tree.read(MAIN), &["BinaryName = \"/usr/local/bin/plimsoll-runtime\""]);
}

#[test]
fn a_default_that_calls_no_runtime_is_no_base() {
    let kata = VERSION_2.replace("default_runtime_name = \"runc\"", "default_runtime_name = \"kata\"").replace(
        "  # The end of the CRI.",
        "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\n  runtime_type = \"io.containerd.kata.v2\"\n  # The end of the CRI.",
    );
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, &kata);
    super::refuses(
        &tree.tool(&["install", "--default"]),
        &["kata", "io.containerd.kata.v2", "without --default"],
    );
    assert_eq!(tree.read(MAIN), kata);
    says(&tree.install(&[]), &["plimsoll is made from runc"]);
    assert_eq!(tree.read(MAIN).matches("SystemdCgroup = true").count(), 2);
}

#[test]
fn twice_changes_nothing_and_a_dry_run_neither() {
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, VERSION_2);
    let before = tree.snapshot();
    let said = tree.install(&["--dry-run", "--default"]);
    says(
        &said,
        &[
            "--- ",
            "+++ ",
            "\n-      default_runtime_name = \"runc\"   # as ever\n+",
            "Nothing was changed",
            "plimsoll-hook",
        ],
    );
    assert_eq!(tree.snapshot(), before);
    tree.install(&["--default"]);
    let after = tree.snapshot();
    for options in [&["--default"][..], &[]] {
        says(&tree.install(options), &["already installed"]);
        assert_eq!(tree.snapshot(), after, "{options:?}");
    }
}

#[test]
fn a_link_stays_a_link_and_mode_and_owner_stay() {
    let tree = Tree::new(&["containerd"]);
    tree.file("/srv/containerd.toml", VERSION_2);
    fs::create_dir_all(tree.path("/etc/containerd")).unwrap();
    symlink("../../srv/containerd.toml", tree.path(MAIN)).unwrap();
    fs::set_permissions(tree.path("/srv/containerd.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(tree.path("/srv/containerd.toml"), Some(12), Some(34)).unwrap();
    let before = tree.snapshot();
    tree.install(&[]);
    let after = tree.snapshot();
    let (file, link) = (tree.path("/srv/containerd.toml"), tree.path(MAIN));
    assert_eq!(after[&link], before[&link]);
    assert_eq!((after[&file].0, after[&file].1), (before[&file].0, 12));
    assert_ne!(after[&file].2, before[&file].2);
    tree.uninstall(&[]);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_handler_made_by_hand_is_taken_over_and_completed() {
    let hand = r#"        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plimsoll]
          # By hand.
          runtime_type = "io.containerd.runc.v2"
          pod_annotations = ["mine/*"]
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plimsoll.options]
            BinaryName = "/opt/plimsoll-runtime"  # elsewhere
            NoNewKeyring = true
"#;
    let main = VERSION_2.replace("  # The end of the CRI.", &format!("{hand}  # The end of the CRI."));
    let tree = Tree::new(&["containerd"]);
    tree.file(MAIN, &main);
    tree.install(&[]);
    let text = tree.read(MAIN);
    says(
        &text,
        &[
            "# By hand.",
            "BinaryName = \"/usr/local/bin/plimsoll-runtime\"  # elsewhere",
            "NoNewKeyring = true",
            "\"mine/*\", \"koordinator.sh/*\"",
        ],
    );
    assert_eq!(text.matches("SystemdCgroup = true").count(), 2, "{text}");
    tree.file(MAIN, &(text + "# added\n"));
    tree.uninstall(&[]);
    assert_eq!(tree.read(MAIN).replace("# added\n", ""), main);
}
