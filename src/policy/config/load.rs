//! Finds and reads the files.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use super::reader::Reader;
use super::sections::Config;
use crate::error::{Error, Result};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;
/// How many drop-ins are read.
pub const MAX_FILES: usize = 256;

impl Config {
    /// The configuration of a file and of `config.d/*.toml` beside it, in the order of their names, later files winning
    /// key by key. What is not there leaves the defaults.
    ///
    /// # Errors
    ///
    /// The first problem of any file; its hint says how many more there are.
    pub fn load(main: &Path) -> Result<Self> {
        let (config, problems) = read_all(main);
        first(config, problems)
    }

    /// The configuration that a text holds; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_toml(file: &Path, text: &str) -> Result<Self> {
        let mut config = Self::default();
        let problems = Reader::read(file, text, &mut config);
        first(config, problems)
    }

    /// Every problem of the files that [`Config::load`] reads: by file, then by line.
    pub fn check(main: &Path) -> Vec<Error> {
        read_all(main).1
    }

    /// The files that [`Config::load`] reads, in its order; those that are not there left out.
    ///
    /// # Errors
    ///
    /// The folder `config.d` cannot be listed.
    pub fn files(main: &Path) -> Result<Vec<PathBuf>> {
        let mut files = drop_ins(main)?;
        if fs::symlink_metadata(main).is_ok() {
            files.insert(0, main.to_owned());
        }
        Ok(files)
    }
}

fn first(config: Config, problems: Vec<Error>) -> Result<Config> {
    let more = problems.len().saturating_sub(1);
    match problems.into_iter().next() {
        None => Ok(config),
        Some(error) if more == 0 => Err(error),
        Some(error) => {
            let (Error::Os { hint, .. } | Error::Invalid { hint, .. }) = &error;
            let comma = if hint.is_empty() { "" } else { "; " };
            let hint = format!("{hint}{comma}and {more} more, see `plimsoll config check`");
            Err(error.hint(hint))
        }
    }
}

fn read_all(main: &Path) -> (Config, Vec<Error>) {
    let mut config = Config::default();
    let mut problems = Vec::new();
    let mut take = |file: &Path, text: Result<Option<String>>| match text {
        Ok(Some(text)) => problems.extend(Reader::read(file, &text, &mut config)),
        Ok(None) => {}
        Err(error) => problems.push(error),
    };
    let read = |file: &Path| read(file, "config file", MAX_FILE_BYTES);
    take(main, read(main));
    match drop_ins(main) {
        Ok(files) => {
            for file in files {
                // Listed a moment ago, so it is either just being removed, or a link that leads nowhere.
                let text = match read(&file) {
                    Ok(None) if file.is_symlink() => {
                        Err(Error::errno("read", &file, nix::errno::Errno::ENOENT)
                            .hint("the link leads nowhere: mend or remove it"))
                    }
                    text => text,
                };
                take(&file, text);
            }
        }
        Err(error) => take(main, Err(error)),
    }
    (config, problems)
}

/// The drop-ins: `*.toml` as a shell sees it, so no hidden files, sorted by the bytes of the name.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>> {
    let folder = main.with_file_name("config.d");
    let listing = match fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::os("list", &folder, &error)),
    };
    let mut files = Vec::new();
    for entry in listing {
        let name = entry.map_err(|error| Error::os("list", &folder, &error))?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
            if files.len() == MAX_FILES {
                let what = format!("config folder {}", folder.display());
                return Err(Error::invalid(what, format!("more than {MAX_FILES} files")).hint("merge some"));
            }
            files.push(folder.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file of at most `max` bytes; `None` where there is none. `what` names it in errors.
pub(in crate::policy) fn read(path: &Path, what: &str, max: u64) -> Result<Option<String>> {
    let invalid = |why: &str| Error::invalid(format!("{what} {}", path.display()), why);
    let os = |error: io::Error| Error::os("read", path, &error);
    // Not blocking, for a pipe in the place of the file would hold up every container.
    let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(os(error)),
    };
    let metadata = file.metadata().map_err(os)?;
    let hint = "put a file there, or nothing";
    if metadata.is_dir() {
        return Err(invalid("is a folder").hint(hint));
    }
    if !metadata.is_file() {
        return Err(invalid("is not a regular file").hint(hint));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(os)?;
    if bytes.len() as u64 > max {
        return Err(invalid(&format!("is larger than {} KiB", max / 1024)).hint("this is not what is meant"));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = 1 + error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|&&b| b == b'\n')
            .count();
        invalid(&format!("line {line} is not UTF-8")).hint("save the file as UTF-8")
    })
}
