//! Files and links, whole or not at all: whoever looks sees the old one or the new one, after a power cut too.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_NOFOLLOW;

use crate::error::{Error, Result};

/// The largest configuration file that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A text file; `None` where it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(denied(Error::os("read", path, &e))),
    };
    let name = || path.display().to_string();
    if !meta.is_file() {
        return Err(Error::invalid(name(), "not a file"));
    }
    if meta.len() > MAX_BYTES {
        return Err(Error::invalid(name(), format!("{} bytes are too many for a configuration", meta.len())));
    }
    let bytes = fs::read(path).map_err(|e| denied(Error::os("read", path, &e)))?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::invalid(name(), "not UTF-8 text"))
}

/// The file a path leads to: links are followed, and never replaced.
pub(super) fn real(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Err(Error::errno("follow the link", path, Errno::ENOENT)
                .hint(format!("{} is not there", target.display()))),
            Err(_) => Ok(path.to_owned()),
        },
        Err(e) => Err(denied(Error::os("find", path, &e))),
    }
}

/// The folders that are missing above a path, the topmost first.
pub(super) fn missing_folders(path: &Path) -> Vec<PathBuf> {
    let missing =
        path.ancestors().skip(1).take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

/// Makes the folders above a path.
pub(super) fn make_folders(path: &Path) -> Result<()> {
    for folder in missing_folders(path) {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .map_err(|e| denied(Error::os("make folder", &folder, &e)))?;
        sync_folder_of(&folder)?;
    }
    Ok(())
}

/// Writes a file. It keeps mode and owner; a new one gets `mode`. Until it is whole it stands in `beside`, a folder of
/// the same file system.
pub(super) fn write(path: &Path, beside: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    place(path, beside, mode, |new| new.write_all(bytes).map(|()| bytes.len() as u64))
}

/// Copies a program to its place.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    let mut source = File::open(from).map_err(|e| denied(Error::os("read", from, &e)))?;
    place(to, folder, 0o755, |new| {
        // A program is its owner's and can be executed, whatever was there before.
        new.set_permissions(fs::Permissions::from_mode(0o755))?;
        std::io::copy(&mut source, new)
    })
}

fn place(
    path: &Path,
    beside: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> std::io::Result<u64>,
) -> Result<()> {
    make_folders(path)?;
    let temporary = temporary(path, beside);
    let placed = (|| {
        let _ = fs::remove_file(&temporary);
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(O_NOFOLLOW)
            .open(&temporary)?;
        new.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Ok(old) = fs::metadata(path) {
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
            new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        }
        fill(&mut new)?;
        new.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(e) = placed {
        let _ = fs::remove_file(&temporary);
        return Err(denied(Error::os("write", path, &e)));
    }
    sync_folder_of(path)
}

/// A link with this text at a path.
pub(super) fn link(target: &str, path: &Path) -> Result<()> {
    make_folders(path)?;
    let temporary = temporary(path, path.parent().unwrap_or(path));
    let _ = fs::remove_file(&temporary);
    symlink(target, &temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| denied(Error::os("make link", path, &e)))?;
    sync_folder_of(path)
}

/// Removes a file or link; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(denied(Error::os("remove", path, &e))),
    }
}

/// Removes what a write that was cut off has left beside a file.
pub(super) fn sweep(path: &Path, beside: &Path) -> Result<()> {
    remove(&temporary(path, beside))
}

/// Whether two files hold the same.
pub(super) fn same_content(one: &Path, other: &Path) -> bool {
    let compare = || -> std::io::Result<bool> {
        let (mut one, mut other) = (File::open(one)?, File::open(other)?);
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let length = one.read(&mut left)?;
            if length == 0 {
                return Ok(true);
            }
            let (Some(left), Some(right)) = (left.get(..length), right.get_mut(..length)) else {
                return Ok(false);
            };
            other.read_exact(right)?;
            if left != right {
                return Ok(false);
            }
        }
    };
    compare().unwrap_or(false)
}

/// Always the same name, so that what a power cut leaves behind is used up by the next run. It begins with a dot and
/// ends in no way that a drop-in does.
fn temporary(path: &Path, beside: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    beside.join(format!(".{name}.plimsoll-new"))
}

fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| denied(Error::os("sync", folder, &e)))
}

fn denied(error: Error) -> Error {
    match error.as_errno() {
        Some(Errno::EACCES | Errno::EPERM) => error.hint("run it as root"),
        Some(Errno::EROFS) => error.hint("the file system is read-only"),
        Some(Errno::ENOSPC) => error.hint("the file system is full"),
        Some(Errno::EXDEV) => {
            error.hint("its folder is a mount of its own; write there by hand what --dry-run shows")
        }
        _ => error,
    }
}
