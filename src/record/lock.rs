//! Locks between hooks, held for microseconds. The kernel frees them when their holder dies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Store;
use super::journal::key;
use crate::error::{Error, Result};
use crate::kernel::fs;
use crate::kernel::group::Group;

/// How long between two tries.
const PAUSE: Duration = Duration::from_micros(500);

/// The node lock, held until it is dropped: only its holder lets CPUs change hands.
#[derive(Debug)]
pub struct NodeLock {
    _file: Flock<File>,
}

/// The lock of a group that containers share, held until it is dropped: only its holder says what is put back there.
#[derive(Debug)]
pub struct GroupLock {
    file: Flock<File>,
    path: PathBuf,
}

impl Store {
    /// Takes the node lock, waiting no longer than the budget. A holder that is stuck is named.
    pub fn lock(&self, budget: Duration) -> Result<NodeLock> {
        let path = self.dir().join("lock");
        let file = open(&path)?;
        Ok(NodeLock { _file: take(file, &path, budget)? })
    }
}

impl Store {
    /// Takes a group's lock, waiting no longer than the budget. The lock is a file of its own: a cgroup's folder could
    /// be locked by anybody who may read it.
    pub fn lock_group(&self, group: &Group, budget: Duration) -> Result<GroupLock> {
        let path = self.dir().join("locks").join(key(group));
        loop {
            let lock = take(open(&path)?, &path, budget)?;
            // Whoever put the group back meanwhile has taken the file away: the lock of a file without a name is no
            // one's.
            if lock.metadata().is_ok_and(|file| file.nlink() > 0) {
                return Ok(GroupLock { file: lock, path });
            }
        }
    }
}

impl GroupLock {
    /// Gives the lock back for good: nothing is left to put back in the group.
    pub fn retire(self) -> Result<()> {
        let removed = super::store::remove_file(&self.path);
        drop(self.file);
        removed
    }
}

/// Opens a lock file, which only root may.
fn open(path: &Path) -> Result<File> {
    let open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let opened = match (open(), path.parent()) {
        (Err(e), Some(dir)) if e.kind() == std::io::ErrorKind::NotFound => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
            made.and_then(|()| open())
        }
        (opened, _) => opened,
    };
    opened.map_err(|e| {
        Error::os("open", path, &e)
            .hint("without the lock no CPUs change hands, and nothing that containers share")
    })
}

fn take(mut file: File, path: &Path, budget: Duration) -> Result<Flock<File>> {
    let mut deadline = None;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(Error::errno("lock", path, errno)),
        }
        let now = Instant::now();
        if now >= *deadline.get_or_insert(now + budget) {
            let holder = holder(&file).unwrap_or_else(|| "another process".to_owned());
            let budget = budget.as_millis();
            return Err(Error::errno("lock", path, Errno::ETIMEDOUT)
                .hint(format!("{holder} holds it for longer than {budget} ms; is it stopped or stuck?")));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Who holds the lock, as the kernel says it (proc_locks(5)): `1: FLOCK  ADVISORY  WRITE 4711 fe:00:8415 0 EOF`.
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino().to_string();
    let table = fs::read(Path::new("/proc/locks")).ok()?;
    let pid = table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (kind, pid, place) = (fields.next()?, fields.nth(2)?, fields.next()?);
        // The device is that of the file system and need not be the one `stat` names (btrfs, overlay).
        (kind == "FLOCK" && place.rsplit(':').next() == Some(&inode)).then_some(pid)
    })?;
    Some(format!("process {pid}"))
}
