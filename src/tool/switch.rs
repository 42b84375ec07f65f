//! The kill switch: a file that turns every hook into a pass-through.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::paint::Tone;
use super::{Said, Session};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::policy::config::Config;

/// Where the switch is, whatever the configuration says: it must work with a broken one, too.
const ANYWAY: &str = "/run/plimsoll/disabled";

/// Whether the hook passes every container through.
pub(super) fn is_off(session: &Session, hook: Option<&Hook>) -> bool {
    hook.is_some_and(|hook| hook.store.is_disabled()) || session.roots.path(ANYWAY).exists()
}

pub(super) fn disable(session: &Session) -> anyhow::Result<Said> {
    // With a configuration that cannot be read the hook looks at the usual place only.
    let path = configured(session).unwrap_or_else(|_| session.roots.path(ANYWAY));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| denied(Error::os("make folder", dir, &e)))?;
    }
    let why = "made by `plimsoll disable`; `plimsoll enable` removes it\n";
    std::fs::write(&path, why).map_err(|e| denied(Error::os("write", &path, &e)))?;
    let text = session.paint.tone(Tone::Warn, "The hook is off: containers start untreated.");
    Ok(Said::fine(format!(
        "{text}\n{} is there. Containers treated before keep what they have.\n",
        path.display()
    )))
}

pub(super) fn enable(session: &Session) -> anyhow::Result<Said> {
    let configured = configured(session);
    let mut paths = vec![session.roots.path(ANYWAY)];
    match &configured {
        Ok(path) if !paths.contains(path) => paths.push(path.clone()),
        _ => {}
    }
    let mut removed = Vec::new();
    for path in paths {
        match std::fs::remove_file(&path) {
            Ok(()) => removed.push(path.display().to_string()),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(denied(Error::os("remove", &path, &e)).into()),
        }
    }
    // A configured switch that cannot be found may still be there.
    configured?;
    let text = session.paint.tone(Tone::Good, "The hook is on.");
    Ok(Said::fine(match removed.is_empty() {
        true => format!("{text} It was not off.\n"),
        false => format!(
            "{text} Removed {}.\nContainers that started meanwhile stay untreated until they start again.\n",
            removed.join(" and ")
        ),
    }))
}

fn configured(session: &Session) -> Result<PathBuf> {
    let config = Config::load(&session.config)?;
    Ok(session.roots.path(&config.paths.run.to_string_lossy()).join("disabled"))
}

fn denied(error: Error) -> Error {
    match error.as_errno() {
        Some(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM) => error.hint("run it as root"),
        _ => error,
    }
}
