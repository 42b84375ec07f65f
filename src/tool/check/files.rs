//! What Plimsoll needs on disk: configuration, records, log, and the hook itself.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::super::{Session, node, switch};
use super::Lines;
use crate::hook::Hook;
use crate::kernel::fs;
use crate::log::JOURNAL_SOCKET;
use crate::policy::config::Config;
use crate::record::Store;

/// Checks the configuration; what cannot be read leaves the defaults for the other checks.
pub(super) fn config(session: &Session, lines: &mut Lines) -> Config {
    let problems = Config::check(&session.config);
    for problem in &problems {
        lines.bad("config", problem.to_string(), "");
    }
    if !problems.is_empty() {
        lines.bad(
            "config",
            "until this is corrected every container starts untreated",
            "`plimsoll config check` finds mistakes",
        );
        return Config::default();
    }
    let config = match Config::load(&session.config) {
        Ok(config) => config,
        Err(error) => {
            lines.bad("config", error.to_string(), "");
            return Config::default();
        }
    };
    if let Err(error) = Hook::new(session.roots.clone(), config.clone()) {
        lines.bad("config", error.to_string(), "until this is corrected every container starts untreated");
        return config;
    }
    match Config::files(&session.config) {
        Ok(files) if files.is_empty() => {
            lines.ok("config", format!("none at {}: the defaults count", session.config.display()));
        }
        Ok(files) => {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            lines.ok("config", names.join(", "));
        }
        Err(error) => lines.bad("config", error.to_string(), ""),
    }
    config
}

pub(super) fn check(session: &Session, config: &Config, lines: &mut Lines) {
    let run = session.roots.path(&config.paths.run.to_string_lossy());
    let store = Store::at(run.clone());
    if store.is_disabled() || switch::is_off(session, None) {
        lines.warn(
            "kill switch",
            "the hook is switched off: containers start untreated",
            "`plimsoll enable` turns it on",
        );
    } else {
        lines.ok("kill switch", "off: the hook works");
    }
    writable("records", &run, "without records nothing is undone at a container's end", lines);
    records(&store, lines);
    let journal = session.roots.path(JOURNAL_SOCKET);
    if config.log.journal && journal.exists() {
        lines.ok("log", "the systemd journal: journalctl -t plimsoll-hook");
    } else {
        let log = session.roots.path(&config.paths.log.to_string_lossy());
        match log.parent() {
            Some(folder) => writable("log", folder, "the hook's lines would be lost", lines),
            None => lines.bad("log", format!("{} has no folder", log.display()), ""),
        }
    }
    hook_binary(lines);
    cpu_manager(session, lines);
}

/// Whether root can write a folder, or make it.
fn writable(topic: &'static str, folder: &Path, cost: &str, lines: &mut Lines) {
    let mut there = folder;
    while !there.exists() {
        let Some(parent) = there.parent() else { break };
        there = parent;
    }
    let made = if there == folder { "" } else { " (made when it is needed)" };
    if !there.is_dir() {
        lines.bad(topic, format!("{} is not a folder; {cost}", there.display()), "remove it");
    } else if !node::is_root() {
        lines.ok(
            topic,
            format!("{}{made}; run this as root to see whether it can be written", folder.display()),
        );
    } else {
        match access(there, AccessFlags::W_OK) {
            Ok(()) => lines.ok(topic, format!("{}{made}", folder.display())),
            Err(errno) => lines.bad(
                topic,
                format!("{} cannot be written ({errno}); {cost}", there.display()),
                "mount it writable, or configure another path",
            ),
        }
    }
}

fn records(store: &Store, lines: &mut Lines) {
    match store.records() {
        Ok(records) => {
            let torn: Vec<String> =
                records.iter().filter(|(_, record)| record.is_err()).map(|(id, _)| id.to_string()).collect();
            if torn.is_empty() {
                lines.ok("records", format!("{} containers are treated", records.len()));
            } else {
                lines.warn(
                    "records",
                    format!("cannot be understood: {}", torn.join(", ")),
                    "`plimsoll repair` removes them",
                );
            }
        }
        Err(error) => lines.bad("records", error.to_string(), ""),
    }
}

fn hook_binary(lines: &mut Lines) {
    let tool = std::env::current_exe().ok();
    let beside = tool.as_deref().and_then(Path::parent).map(|folder| folder.join("plimsoll-hook"));
    let usual =
        ["/usr/libexec/plimsoll/plimsoll-hook", "/usr/bin/plimsoll-hook", "/usr/local/bin/plimsoll-hook"];
    let found = beside.into_iter().chain(usual.iter().map(Into::into)).find(|path| path.is_file());
    match found {
        Some(path) if access(&path, AccessFlags::X_OK).is_ok() => {
            lines.ok("hook", path.display().to_string())
        }
        Some(path) => lines.bad("hook", format!("{} cannot be executed", path.display()), "chmod 755 it"),
        None => lines.warn(
            "hook",
            "plimsoll-hook is neither beside this program nor in the usual places",
            "install it; without it nothing is treated",
        ),
    }
}

/// Kubelet's static CPU manager writes every container's cpuset again and again.
fn cpu_manager(session: &Session, lines: &mut Lines) {
    let path = session.roots.path("/var/lib/kubelet/cpu_manager_state");
    let policy = match fs::read_if_there(&path) {
        Ok(Some(text)) => serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|state| state.get("policyName")?.as_str().map(str::to_owned)),
        Ok(None) => return,
        Err(error) => {
            lines.warn("kubelet", error.to_string(), "run this as root");
            return;
        }
    };
    match policy.as_deref() {
        Some("static") => lines.warn(
            "kubelet",
            "its CPU manager is static: it writes every container's cpuset again and again, and undoes exclusive CPUs",
            "set cpuManagerPolicy: none, or leave LSE and LSR to kubelet (cpuset.shared_pool = false)",
        ),
        Some(policy) => lines.ok("kubelet", format!("CPU manager policy {policy}")),
        None => lines.warn("kubelet", format!("{} cannot be understood", path.display()), ""),
    }
}
