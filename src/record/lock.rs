//! The node lock: held for microseconds while CPUs change hands.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Store;
use crate::error::{Error, Result};

/// How long between two tries.
const PAUSE: Duration = Duration::from_micros(500);

/// The lock, held until it is dropped. The kernel frees it when its holder dies.
#[derive(Debug)]
pub struct NodeLock {
    _file: Flock<File>,
}

impl Store {
    /// Takes the node lock, waiting no longer than the budget. A holder that is stuck is named.
    pub fn lock(&self, budget: Duration) -> Result<NodeLock> {
        let path = self.dir().join("lock");
        let fail = |e: &std::io::Error| {
            Error::os("open", &path, e).hint("without the node lock no CPUs change hands")
        };
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match open() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(self.dir());
                made.and_then(|()| open())
            }
            opened => opened,
        }
        .map_err(|e| fail(&e))?;
        let deadline = Instant::now() + budget;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut held) => {
                    // For whoever waits in vain; the lock itself does not depend on it.
                    let _ = held
                        .set_len(0)
                        .and_then(|()| held.rewind())
                        .and_then(|()| write!(held, "{}", std::process::id()));
                    return Ok(NodeLock { _file: held });
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(Error::errno("lock", &path, errno)),
            }
            if Instant::now() >= deadline {
                let mut holder = String::new();
                let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
                return Err(Error::errno("lock", &path, Errno::ETIMEDOUT).hint(format!(
                    "process {} holds it for longer than {} ms; is it stopped or stuck?",
                    holder.trim(),
                    budget.as_millis()
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
