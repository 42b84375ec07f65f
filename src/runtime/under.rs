//! The program under a wrapper: where it is, and how it takes the wrapper's place.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

use crate::error::{Error, Result};

/// A program that is given its wrapper's environment may well start a container of its own.
const MAX_DEPTH: u32 = 4;

/// One of our wrappers, by what it has to know of the program underneath.
#[derive(Clone, Copy, Debug)]
pub struct Under {
    /// The wrapper's own name.
    pub own: &'static str,
    /// What it stands for, in errors.
    pub what: &'static str,
    /// The setting that names it.
    pub setting: &'static str,
    /// Set for the real program: how many wrappers were called one by the other until it. One that comes back to the
    /// wrapper goes round in circles, as the same process or as whatever it starts.
    pub mark: &'static str,
    /// Where programs are, whatever an engine's PATH says.
    pub folders: &'static str,
}

impl Under {
    /// # Errors
    ///
    /// The wrapper was called by the program it calls.
    pub fn check_depth(&self) -> Result<()> {
        if self.depth() < MAX_DEPTH {
            return Ok(());
        }
        Err(Error::invalid(self.what, format!("it called {} again", self.own))
            .hint(format!("set {} to the real one", self.setting)))
    }

    fn depth(&self) -> u32 {
        env::var(self.mark).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0)
    }

    /// The error for a program that is nowhere.
    pub fn missing(&self, name: &str) -> Error {
        Error::invalid(format!("{} ({name})", self.what), "not found in PATH or the usual places")
            .hint(format!("install it, or set {}", self.setting))
    }

    /// A program that was configured.
    ///
    /// # Errors
    ///
    /// It is not there, cannot be executed, or is the wrapper.
    pub fn checked(&self, path: &Path) -> Result<PathBuf> {
        let setting = self.setting;
        let meta = fs::metadata(path).map_err(|e| Error::os(format!("find {setting}"), path, &e))?;
        if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
            return Err(Error::errno(format!("execute {setting}"), path, Errno::EACCES));
        }
        if is_own(&meta) {
            let what = format!("{setting} {}", path.display());
            return Err(Error::invalid(what, format!("it is {} itself", self.own))
                .hint(format!("name {}", self.what)));
        }
        Ok(path.to_owned())
    }

    /// A program in PATH or the usual places that is not the wrapper.
    pub fn in_path(&self, name: &str) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(env::split_paths(self.folders)).collect::<Vec<_>>();
        let mut found = folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
        found.find(|path| {
            fs::metadata(path)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0 && !is_own(&m))
        })
    }

    /// The real program with these arguments.
    pub fn command(&self, program: &Path, args: &[OsString]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env(self.mark, self.depth().saturating_add(1).to_string());
        command
    }

    /// Becomes the real program: same process, same open files, same standard input. Returns only if that fails.
    pub fn become_it(&self, program: &Path, args: &[OsString]) -> Error {
        // An engine ends its runtime by PDEATHSIG and knows it by its pid: nothing may stand between the two.
        Error::os("execute", program, &self.command(program, args).exec())
    }
}

fn is_own(meta: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/exe").is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
}
