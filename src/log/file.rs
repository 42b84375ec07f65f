//! The log file, written by many short-lived processes at once.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::error::{Error, Result};

/// How often a line is tried on a file that is just being rotated.
const TRIES: usize = 8;

/// Appends one line with one write. A file that would pass `max_bytes` is renamed to `<file>.1` first.
///
/// The size is exact for one writer. Writers at the same time may each pass it by their line; and while one of them is
/// at the rotation, the others write on, up to twice the size. From there on lines are refused: the file stays bounded
/// whatever happens to the one at the rotation.
pub(super) fn append(path: &Path, max_bytes: u64, line: &[u8]) -> Result<()> {
    for attempt in 1..=TRIES {
        let file = open(path)?;
        let metadata = stat(&file, path)?;
        let full = metadata.len().saturating_add(line.len() as u64) > max_bytes;
        // An empty file is as good as rotated.
        if full && metadata.len() > 0 {
            match rotate(file, &metadata, path, max_bytes, line.len()) {
                Rotation::Done => continue,
                Rotation::Busy if attempt < TRIES => {
                    // Not a wait: it may be only the CPU that the other one lacks.
                    std::thread::yield_now();
                    continue;
                }
                Rotation::Busy if metadata.len() >= max_bytes.saturating_mul(2) => {
                    return Err(Error::errno("rotate", path, Errno::EWOULDBLOCK)
                        .hint("another process holds the lock on the log file"));
                }
                Rotation::Busy => write(&open(path)?, path, line)?,
            }
            return Ok(());
        }
        write(&file, path, line)?;
        // Two rotations since it was opened, and the line went with the file.
        if stat(&file, path)?.nlink() > 0 {
            return Ok(());
        }
    }
    write(&open(path)?, path, line)
}

enum Rotation {
    /// The file at the path is not the full one any more.
    Done,
    /// Another process is at it.
    Busy,
}

/// Moves the full file out of the way. The lock on the file itself decides who does it: whoever has it, and still finds
/// that file at the path, is the only one to rename it.
fn rotate(file: File, full: &Metadata, path: &Path, max_bytes: u64, len: usize) -> Rotation {
    let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Rotation::Busy;
    };
    let same = fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (full.dev(), full.ino()));
    let still_full = file.metadata().is_ok_and(|now| now.len().saturating_add(len as u64) > max_bytes);
    if same && still_full && fs::rename(path, older(path)).is_err() {
        // The older lines are lost; the newer ones matter more, and so does the disk.
        if file.set_len(0).is_err() {
            return Rotation::Busy;
        }
    }
    Rotation::Done
}

/// The name of the older file.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Opens the file, made with its folder where needed. A link is not followed and a pipe not waited for, for the owner
/// of the folder need not be root.
fn open(path: &Path) -> Result<File> {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(path)
    };
    let file = open().or_else(|error| match path.parent() {
        Some(folder) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
            open()
        }
        _ => Err(error),
    });
    file.map_err(|error| Error::os("open log", path, &error))
}

fn stat(file: &File, path: &Path) -> Result<Metadata> {
    let metadata = file.metadata().map_err(|error| Error::os("stat log", path, &error))?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(Error::invalid(format!("log {}", path.display()), "is not a regular file"))
    }
}

fn write(mut file: &File, path: &Path, line: &[u8]) -> Result<()> {
    let error = |error: io::Error| Error::os("append to log", path, &error);
    let written = match file.write(line) {
        // A signal before the first byte.
        Err(e) if e.kind() == io::ErrorKind::Interrupted => file.write(line).map_err(error)?,
        result => result.map_err(error)?,
    };
    if written == line.len() {
        return Ok(());
    }
    // The disk is full. End the torn line, so that the next one is whole.
    let _ = file.write(b"\n");
    Err(Error::errno("append all of a line to log", path, Errno::ENOSPC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_comes_late_does_not_rotate_the_new_file_away() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "a full file").unwrap();
        let late = open(&path).unwrap();
        let metadata = late.metadata().unwrap();
        fs::rename(&path, older(&path)).unwrap();
        fs::write(&path, "new").unwrap();

        assert!(matches!(rotate(late, &metadata, &path, 5, 1), Rotation::Done));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_to_string(older(&path)).unwrap(), "a full file");
    }
}
