//! Whether a container that is started now passes through Plimsoll, for each engine of this node.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{AccessFlags, SysconfVar, access, sysconf};

use super::super::Session;
use super::Lines;
use crate::install::{Engine, Handler, State};
use crate::kernel::fs;

pub(super) fn check(session: &Session, lines: &mut Lines) {
    let node = match session.node() {
        Ok(node) => node,
        // What is wrong with the configuration is said elsewhere.
        Err(_) => return,
    };
    for engine in node.engines() {
        let topic = engine.name();
        match node.state(engine) {
            Ok(state) => engine_lines(session, engine, &state, lines),
            Err(error) => lines.warn(topic, error.to_string(), "nothing can be said about this engine"),
        }
    }
}

fn engine_lines(session: &Session, engine: Engine, state: &State, lines: &mut Lines) {
    let topic = engine.name();
    if let Some(off) = &state.off {
        lines.warn(topic, off.clone(), "take it out of the list where Kubernetes uses this node");
        return;
    }
    if state.handlers.is_empty() {
        let found = format!("no handler calls Plimsoll; the default one is {}", state.default);
        lines.warn(
            topic,
            found,
            format!("`plimsoll install --engine {engine}`, unless hooks are used instead"),
        );
        return;
    }
    for handler in &state.handlers {
        let mut faults = handler.faults.clone();
        faults.extend(program_faults(session, handler));
        let name = format!("handler {} calls {}", handler.name, handler.runtime);
        if faults.is_empty() {
            lines.ok(topic, name);
        } else {
            let todo = format!("`plimsoll install --engine {engine}` puts it right");
            lines.bad(topic, format!("{name}, but {}", faults.join("; ")), todo);
        }
    }
    let names: Vec<&str> = state.handlers.iter().map(|handler| handler.name.as_str()).collect();
    if names.contains(&state.default.as_str()) {
        lines.ok(topic, "containers that name no handler pass through it: it is the default");
    } else {
        let how = match engine.is_kubernetes() {
            true => {
                "a pod passes through it by its RuntimeClass; `plimsoll install --default` makes it the default"
            }
            false => {
                "a container passes through it by --runtime; `plimsoll install --default` makes it the default"
            }
        };
        lines.ok(topic, format!("the default is {}: {how}", state.default));
    }
    stale(session, engine, state, lines);
}

/// What is wrong with the programs that a handler calls.
fn program_faults(session: &Session, handler: &Handler) -> Vec<String> {
    let path = session.roots.path(&handler.runtime);
    let hook = path.with_file_name("plimsoll-hook");
    let fault = |path: &Path| {
        if !path.is_file() {
            Some(format!("{} is not there", path.display()))
        } else if access(path, AccessFlags::X_OK).is_err() {
            Some(format!("{} cannot be executed", path.display()))
        } else {
            None
        }
    };
    [path, hook].iter().filter_map(|path| fault(path)).collect()
}

/// An engine that runs since before its files were changed does not know of it.
fn stale(session: &Session, engine: Engine, state: &State, lines: &mut Lines) {
    let Some(restart) = engine.restart() else { return };
    let Some(started) = started(session, engine.program()) else {
        lines.ok(engine.name(), "does not run at present");
        return;
    };
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let newest = state.files.iter().filter_map(|path| Some((changed(path)?, path))).max();
    if let Some((_, path)) = newest.filter(|(time, _)| *time > started) {
        let found = format!("runs since before {} was changed", path.display());
        lines.warn(engine.name(), found, format!("{}; containers that run stay", restart.join(" ")));
    }
}

/// When the first process of this name was started.
fn started(session: &Session, name: &str) -> Option<SystemTime> {
    let boot = fs::read(&session.roots.path("/proc/stat")).ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let processes = std::fs::read_dir(session.roots.path("/proc")).ok()?.flatten();
    let starts = processes.filter_map(|process| {
        let stat = fs::read(&process.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        (head.split_once('(')?.1 == name).then_some(())?;
        // The 22nd field of proc(5)'s stat; the third is the first behind the name.
        let start: u64 = tail.split_whitespace().nth(19)?.parse().ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_millis(start * 1000 / ticks))
    });
    starts.min()
}
