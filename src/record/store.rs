//! The files: written whole or not at all, and survived when they are missing, torn, or cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Claim, ContainerId, Journal, Phase, Record, VERSION};
use crate::error::{Error, Result};

/// The ending of a finished record, and of claims and journals.
const DONE: &str = "json";

/// The ending of a record while its values are being written.
const INTENT: &str = "applying";

/// Records are a few kilobytes; anything beyond this is not one.
const MAX_BYTES: u64 = 1024 * 1024;

/// Plimsoll's folder of records.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The records in a folder, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the kill switch is set.
    pub fn is_disabled(&self) -> bool {
        self.dir.join("disabled").exists()
    }

    fn record_path(&self, id: &ContainerId, ending: &str) -> PathBuf {
        self.dir.join("containers").join(format!("{id}.{ending}"))
    }

    /// The record of a container; `None` where it has none, an error where it cannot be understood.
    pub fn load(&self, id: &ContainerId) -> Result<Option<Record>> {
        let path = self.record_path(id, DONE);
        let (record, phase) = match read_json::<Record>(&path)? {
            Some(record) => (record, Phase::Applied),
            // A file cut off while the intent was written: nothing was done yet.
            None => match read_json::<Record>(&self.record_path(id, INTENT))? {
                Some(record) => (record, Phase::Applying),
                None => match read_json::<Record>(&path)? {
                    // It was finished between the two looks.
                    Some(record) => (record, Phase::Applied),
                    None => return Ok(None),
                },
            },
        };
        if record.version != VERSION {
            return Err(Error::invalid(
                path.display().to_string(),
                format!("record version {} is not {VERSION}", record.version),
            )
            .hint("it was written by another version of Plimsoll; `plimsoll repair` removes it"));
        }
        Ok(Some(settled(record, phase)))
    }

    /// Writes down what is about to be done. Not atomic, and need not be: a torn intent means that nothing was done.
    pub fn begin(&self, id: &ContainerId, record: &Record) -> Result<()> {
        let path = self.record_path(id, INTENT);
        let created = create(&path, &json(&path, record)?);
        if created.is_err() {
            let _ = fs::remove_file(&path);
        }
        created
    }

    /// Writes down what was done. Where everything went as planned, the intent says it all and only its name changes:
    /// a file system may take a hundred times as long to replace a file.
    pub fn finish(&self, id: &ContainerId, record: &mut Record) -> Result<()> {
        record.phase = if record.errors.is_empty() { Phase::Applied } else { Phase::Degraded };
        let (intent, done) = (self.record_path(id, INTENT), self.record_path(id, DONE));
        if record.went_as_planned() && fs::rename(&intent, &done).is_ok() {
            return Ok(());
        }
        write_json(&done, record)?;
        remove_file(&intent)
    }

    /// Removes a record; one that is not there is fine.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        let done = remove_file(&self.record_path(id, DONE));
        remove_file(&self.record_path(id, INTENT)).and(done)
    }

    /// Whether a container has a record.
    pub fn has(&self, id: &ContainerId) -> bool {
        // In this order: an intent becomes a record at any time, and never the other way round.
        self.record_path(id, INTENT).exists() || self.record_path(id, DONE).exists()
    }

    /// Every record, with what went wrong for those that cannot be understood, by id.
    pub fn records(&self) -> Result<Vec<(ContainerId, Result<Record>)>> {
        let mut ids = self.ids("containers", DONE)?;
        ids.extend(self.ids("containers", INTENT)?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids
            .into_iter()
            .filter_map(|id| match self.load(&id) {
                Ok(Some(record)) => Some((id, Ok(record))),
                Ok(None) => None,
                Err(error) => Some((id, Err(error))),
            })
            .collect())
    }

    /// The CPUs that are owned, with what went wrong for claims that cannot be understood, by id.
    pub fn claims(&self) -> Result<Vec<(ContainerId, Result<Claim>)>> {
        let ids = self.ids("exclusive", DONE)?;
        Ok(ids
            .into_iter()
            .filter_map(|id| match read_json(&self.claim_path(&id)) {
                Ok(Some(claim)) => Some((id, Ok(claim))),
                Ok(None) => None,
                Err(error) => Some((id, Err(error))),
            })
            .collect())
    }

    fn claim_path(&self, id: &ContainerId) -> PathBuf {
        self.dir.join("exclusive").join(format!("{id}.json"))
    }

    /// Writes a claim. The caller holds the node lock.
    pub fn save_claim(&self, id: &ContainerId, claim: &Claim) -> Result<()> {
        write_json(&self.claim_path(id), claim)
    }

    /// Removes a claim; one that is not there is fine.
    pub fn remove_claim(&self, id: &ContainerId) -> Result<()> {
        remove_file(&self.claim_path(id))
    }

    /// Whether a container owns CPUs.
    pub fn has_claim(&self, id: &ContainerId) -> bool {
        self.claim_path(id).exists()
    }

    /// What interrupted writers left behind: new files that were not yet in their place, intents of records that are
    /// there, and journals that cannot be read.
    pub fn half_written(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in ["containers", "exclusive", "groups"] {
            for name in self.names(folder)? {
                let path = self.dir.join(folder).join(&name);
                let is_left = match name.strip_suffix(INTENT) {
                    _ if name.starts_with('.') => !is_being_written(&path),
                    Some(stem) => path.with_file_name(format!("{stem}{DONE}")).exists(),
                    None if folder == "groups" => {
                        matches!(read_json::<Journal>(&path), Err(Error::Invalid { .. }))
                    }
                    None => false,
                };
                found.extend(is_left.then_some(path));
            }
        }
        Ok(found)
    }

    /// Removes such files.
    pub fn sweep(&self, found: &[PathBuf]) -> Vec<Error> {
        found.iter().filter_map(|path| remove_file(path).err()).collect()
    }

    /// The names of a folder's files, sorted; a folder that is not there has none.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>> {
        let dir = self.dir.join(folder);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::os("list", &dir, &e)),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn ids(&self, folder: &str, ending: &str) -> Result<Vec<ContainerId>> {
        let names = self.names(folder)?;
        let id = |name: &String| name.strip_suffix(ending)?.strip_suffix('.')?.parse().ok();
        Ok(names.iter().filter_map(id).collect())
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::os("read", path, &e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| Error::os("read", path, &e))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::invalid(path.display().to_string(), format!("not a whole record: {e}"))
            .hint("a writer was cut off; `plimsoll repair` puts this in order")
    })
}

fn settled(mut record: Record, phase: Phase) -> Record {
    record.phase = if record.errors.is_empty() { phase } else { Phase::Degraded };
    if record.phase == Phase::Applied {
        for done in record.writes.iter_mut().filter(|done| done.after.is_none()) {
            done.after = Some(done.write.value.clone());
        }
    }
    record
}

/// Whether the hook that makes this temporary file is still at it. Its number may be another process's by now: no hook
/// takes this long.
fn is_being_written(path: &Path) -> bool {
    const LONGEST: Duration = Duration::from_secs(60);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let lives = name.rsplit('.').next().is_some_and(|pid| Path::new("/proc").join(pid).join("stat").exists());
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    lives && age.is_none_or(|age| age < LONGEST)
}

fn json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    // Records are one to four kilobytes: no growing.
    let mut text = Vec::with_capacity(8 * 1024);
    serde_json::to_writer(&mut text, value)
        .map_err(|e| Error::invalid(path.display().to_string(), format!("cannot be serialised: {e}")))?;
    Ok(text)
}

/// Creates a file, its folder too where that is missing.
fn create(path: &Path, text: &[u8]) -> Result<()> {
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    let opened = match open() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|e| {
                    Error::os("make folder", dir, &e)
                        .hint("records are kept there; without it nothing is undone at the container's end")
                })?;
            }
            open()
        }
        opened => opened,
    };
    opened.and_then(|mut file| file.write_all(text)).map_err(|e| {
        let error = Error::os("write", path, &e);
        match error.as_errno() {
            Some(Errno::ENOSPC) => error.hint("the file system is full"),
            Some(Errno::EROFS) => error.hint("the file system is read-only"),
            _ => error,
        }
    })
}

/// Writes a file whole or not at all: a reader sees the old one or the new one.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let renamed = create(&temporary, &json(path, value)?)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::os("write", path, &e)));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::os("remove", path, &e)),
    }
}
