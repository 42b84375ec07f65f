//! The real runtime underneath: which it is, and how it takes this process's place.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

use crate::error::{Error, Result};

/// The runtimes that are looked for, in this order.
pub const KNOWN: [&str; 3] = ["runc", "crun", "youki"];

/// The wrapper's own name. A link to it named `plimsoll-runtime-crun` runs `crun`.
pub const OWN: &str = "plimsoll-runtime";

/// Where programs are, whatever an engine's PATH says.
const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Set for the real runtime: how many wrappers were called one by the other until it. One that comes back to the
/// wrapper goes round in circles, as the same process or as whatever it starts.
const MARK: &str = "PLIMSOLL_RUNTIME_DEPTH";

/// A hook that is given its runtime's environment may well start a container of its own.
const MAX_DEPTH: u32 = 4;

/// The real runtime's program: the one `name` asks for, by which the wrapper was called; else the configured one; else
/// the first of runc, crun and youki. Never the wrapper itself.
///
/// # Errors
///
/// There is none, it cannot be executed, or the wrapper was called by the runtime it calls.
pub fn find(name: &OsStr, configured: Option<&Path>) -> Result<PathBuf> {
    if depth() >= MAX_DEPTH {
        return Err(Error::invalid("the real runtime", "it called plimsoll-runtime again")
            .hint("set [runtime] path to the real one"));
    }
    let name = Path::new(name).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let wanted = name.strip_prefix(OWN).and_then(|rest| rest.strip_prefix('-')).or(Some(name));
    match (wanted.and_then(|wanted| KNOWN.iter().find(|known| **known == wanted)), configured) {
        (Some(known), _) => in_path(known).ok_or_else(|| missing(known)),
        (None, Some(path)) => checked(path),
        (None, None) => {
            KNOWN.iter().find_map(|known| in_path(known)).ok_or_else(|| missing(&KNOWN.join(", ")))
        }
    }
}

fn depth() -> u32 {
    env::var(MARK).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

fn missing(what: &str) -> Error {
    Error::invalid(format!("the real runtime ({what})"), "not found in PATH or the usual places")
        .hint("install it, or set [runtime] path")
}

fn checked(path: &Path) -> Result<PathBuf> {
    let meta = fs::metadata(path).map_err(|e| Error::os("find [runtime] path", path, &e))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(Error::errno("execute [runtime] path", path, Errno::EACCES));
    }
    if is_own(&meta) {
        return Err(Error::invalid(
            format!("[runtime] path {}", path.display()),
            "it is plimsoll-runtime itself",
        )
        .hint("name the real runtime"));
    }
    Ok(path.to_owned())
}

/// A program in PATH or the usual places that is not the wrapper.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(env::split_paths(FOLDERS)).collect::<Vec<_>>();
    let mut found = folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    found.find(|path| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0 && !is_own(&m))
    })
}

fn is_own(meta: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/exe").is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
}

/// The real runtime with these arguments.
pub fn command(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env(MARK, depth().saturating_add(1).to_string());
    command
}

/// Becomes the real runtime: same process, same open files, same standard input. Returns only if that fails.
pub fn become_it(program: &Path, args: &[OsString]) -> Error {
    // An engine ends its runtime by PDEATHSIG and knows it by its pid: nothing may stand between the two.
    Error::os("execute", program, &command(program, args).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_runtime() {
        let other = Path::new("/bin/sh");
        assert_eq!(find(OsStr::new("/x/plimsoll-runtime"), Some(other)).unwrap(), other);
        // The link's name says more than the configuration.
        let error = find(OsStr::new("plimsoll-runtime-youki"), Some(other));
        assert!(error.is_err_and(|error| error.to_string().contains("(youki)")), "no youki here");
        for wrong in ["/", "/etc/passwd", "/not/there"] {
            assert!(find(OsStr::new(OWN), Some(Path::new(wrong))).is_err(), "{wrong}");
        }
        let own = env::current_exe().unwrap();
        assert!(find(OsStr::new(OWN), Some(&own)).unwrap_err().to_string().contains("itself"));
    }
}
