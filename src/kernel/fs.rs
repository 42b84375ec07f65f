//! Reading and writing the kernel's small text files, with errors that say what was done to which file.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// A control file, sysctl or `/proc/<pid>/cgroup` fits into a page in nearly every case: one `read` and no growing.
const PAGE: usize = 4096;

/// The few longer ones (mount tables, topologies) are read to this length; anything beyond it is not one of them.
const MAX_TEXT: u64 = 1024 * 1024;

/// Where the kernel's file systems are. Everything is read and written below `root`, which is `/` on a live node
/// and a fixture tree for kernels that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self::at("/")
    }
}

impl Roots {
    /// The file systems below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// An absolute path of the node, below this root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The cgroup mount point every distribution uses.
    pub fn cgroup(&self) -> PathBuf {
        self.path("/sys/fs/cgroup")
    }
}

/// Opens a file. (Not by the standard library: musl's `open` asks for close-on-exec twice, a system call each time.)
fn open(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// Reads a small text file without its trailing newline.
pub fn read(path: &Path) -> Result<String> {
    let fail = |errno| Error::errno("read", path, errno);
    let file = open(path, OFlag::O_RDONLY).map_err(fail)?;
    let mut page = [0; PAGE];
    let length = nix::unistd::read(&file, &mut page).map_err(fail)?;
    let mut bytes = page.get(..length).unwrap_or_default().to_vec();
    // The kernel hands out what fits: a full page says that there may be more.
    if length == PAGE {
        File::from(file).take(MAX_TEXT).read_to_end(&mut bytes).map_err(|e| Error::os("read", path, &e))?;
    }
    while bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(path.display().to_string(), "not UTF-8 text"))
}

/// The same, where the file's absence is an answer.
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.is_gone() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a value in one `write` call to a file that is already there.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let fail = |errno| Error::errno(format!("write {text:?} to"), path, errno);
    // Control files ignore truncation; fixture trees need it.
    let file = open(path, OFlag::O_WRONLY | OFlag::O_TRUNC).map_err(fail)?;
    // A zero-length write changes nothing and succeeds silently; a newline clears.
    let bytes = if text.is_empty() { b"\n" } else { text.as_bytes() };
    match nix::unistd::write(&file, bytes).map_err(fail)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(fail(Errno::EIO)),
    }
}
