//! Kata Containers' own configuration, as far as it decides what of a pod's class reaches its virtual machine.

use std::path::PathBuf;

use super::super::Session;
use super::Lines;
use crate::install::Engine;

/// Where Kata looks for it, and where its installers put it.
const USUAL: [&str; 5] = [
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
    "/etc/kata-containers/runtime-rs/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
];

const TOPIC: &str = "kata";

pub(super) fn check(session: &Session, lines: &mut Lines) {
    let state = session.node().ok().filter(|node| node.engines().contains(&Engine::Containerd));
    let katas = state.and_then(|node| node.state(Engine::Containerd).ok()).map(|state| state.katas);
    let katas = katas.unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    let named = katas.iter().filter_map(|kata| kata.config.clone());
    for file in named.chain(USUAL.map(PathBuf::from)) {
        if !files.contains(&file) && session.roots.path(&file.to_string_lossy()).is_file() {
            files.push(file);
        }
    }
    for file in files {
        let name = file.display();
        match sandbox_cgroup_only(session, &file) {
            Err(why) => lines.warn(TOPIC, format!("{name}: {why}"), "nothing can be said about this one"),
            Ok(Some(true)) => lines.ok(TOPIC, format!("{name}: virtual machines run in their pod's group")),
            Ok(None) if file.components().any(|part| part.as_os_str() == "runtime-rs") => {
                lines.ok(TOPIC, format!("{name}: sandbox_cgroup_only is true by runtime-rs' default"));
            }
            Ok(only) => {
                let how = if only.is_some() { "is" } else { "is not set, and by default" };
                lines.warn(
                    TOPIC,
                    format!(
                        "{name}: sandbox_cgroup_only {how} false: the VMM's I/O threads run in /kata_overhead, outside the \
                         pod, and with kubelet's systemd driver the whole virtual machine does"
                    ),
                    "sandbox_cgroup_only = true under [runtime]",
                );
            }
        }
    }
    for kata in katas.iter().filter(|kata| kata.is_open) {
        lines.warn(
            TOPIC,
            format!(
                "containerd handler {} lets pods set io.katacontainers.config.runtime.*, with which a pod takes its virtual \
                 machine out of its group",
                kata.name
            ),
            "name in pod_annotations only what pods may set",
        );
    }
}

/// `sandbox_cgroup_only` of a configuration.
fn sandbox_cgroup_only(session: &Session, file: &std::path::Path) -> Result<Option<bool>, String> {
    let path = session.roots.path(&file.to_string_lossy());
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let value: toml_edit::DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| e.message().to_owned())?;
    Ok(value.get("runtime").and_then(|runtime| runtime.get("sandbox_cgroup_only")?.as_bool()))
}
