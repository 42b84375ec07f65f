//! The one error of the hook's path: which operation failed, on what, why, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words an operator needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call on a path failed.
    #[error("{op} {}: {errno}{}", path.display(), hint_text(hint))]
    Os {
        /// The operation, as a verb: `read`, `write "-1" to`, `make group`.
        op: String,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
        /// What to do about it; empty where there is nothing to add.
        hint: String,
    },
    /// Input that is not what it should be: an annotation, a config file, a control file.
    #[error("{what}: {why}{}", hint_text(hint))]
    Invalid {
        /// Which input, for instance `annotation koordinator.sh/cpuQOS`.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do about it; empty where there is nothing to add.
        hint: String,
    },
}

impl Error {
    /// An [`Error::Os`] from an I/O error; errors without an errno count as `EIO`.
    pub fn os(op: impl Into<String>, path: &Path, source: &io::Error) -> Self {
        let errno = source.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Self::errno(op, path, errno)
    }

    /// An [`Error::Os`] from an errno.
    pub fn errno(op: impl Into<String>, path: &Path, errno: Errno) -> Self {
        Self::Os { op: op.into(), path: path.to_owned(), errno, hint: String::new() }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into(), hint: String::new() }
    }

    /// The same error with a word on what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Os { hint, .. } | Self::Invalid { hint, .. } => *hint = text.into(),
        }
        self
    }

    /// The kernel's answer, where the error came from the kernel.
    pub fn as_errno(&self) -> Option<Errno> {
        match self {
            Self::Os { errno, .. } => Some(*errno),
            Self::Invalid { .. } => None,
        }
    }

    /// Whether the thing asked for is not there (any more): the file, its folder, or the group behind an open file.
    pub fn is_gone(&self) -> bool {
        matches!(self.as_errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR | Errno::ESRCH))
    }
}

fn hint_text(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("; {hint}") }
}
