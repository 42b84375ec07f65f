//! Locks between hooks, held for microseconds. The kernel frees them when their holder dies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Store;
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
    _dir: Flock<File>,
}

impl Store {
    /// Takes the node lock, waiting no longer than the budget. A holder that is stuck is named.
    pub fn lock(&self, budget: Duration) -> Result<NodeLock> {
        let path = self.dir().join("lock");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = match open() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(self.dir());
                made.and_then(|()| open())
            }
            opened => opened,
        }
        .map_err(|e| Error::os("open", &path, &e).hint("without the node lock no CPUs change hands"))?;
        Ok(NodeLock { _file: take(file, &path, budget)? })
    }
}

impl GroupLock {
    /// Takes a group's lock, which is on its folder, waiting no longer than the budget.
    pub fn of(group: &Group, budget: Duration) -> Result<Self> {
        let dir = group.dir();
        let file = File::open(&dir).map_err(|e| Error::os("open", &dir, &e))?;
        Ok(Self { _dir: take(file, &dir, budget)? })
    }
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
