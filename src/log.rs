//! The log: one structured line per event, where an operator finds it.
//!
//! An engine throws away what a successful hook prints. So a line goes to the journal where there is one, else to a
//! file that cannot grow without bound, and only if that fails too to standard error. Logging never fails and never
//! waits: a container start must not hang on it.

mod file;
mod journal;
mod line;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::policy::config::Config;
use line::Line;

/// Where systemd's journal takes messages (systemd, "Native Journal Protocol").
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// How much an event matters; the numbers are those of syslog (RFC 5424, 6.2.1), as the journal wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something asked for was not done.
    Error = 3,
    /// Something was done, but less or other than asked for.
    Warning = 4,
    /// What was done.
    Info = 6,
    /// What only someone who looks for a fault wants to see.
    Debug = 7,
}

impl Level {
    /// The name in the log file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// An error in the form in which runc writes its own to `--log`: a line of JSON, or of `key=value`.
pub fn runtime_line(message: &str, as_json: bool) -> Vec<u8> {
    line::of_runtime(message, as_json)
}

/// Writes events. Making one touches no file; every event opens what it needs, for a hook logs once.
#[derive(Clone, Debug)]
pub struct Logger {
    journal: Option<PathBuf>,
    file: PathBuf,
    max_bytes: u64,
}

impl Logger {
    /// A logger as the configuration wants it.
    pub fn new(config: &Config) -> Self {
        let journal = config.log.journal.then_some(Path::new(JOURNAL_SOCKET));
        Self::with_paths(journal, &config.paths.log, config.log.max_bytes)
    }

    /// A logger to the given journal socket and the given file of at most `max_bytes` bytes.
    pub fn with_paths(journal: Option<&Path>, file: &Path, max_bytes: u64) -> Self {
        Self { journal: journal.map(Path::to_owned), file: file.to_owned(), max_bytes }
    }

    /// Writes one event.
    ///
    /// Field names are lower case words with underscores; in the journal they are upper case behind `PLIMSOLL_`. Of
    /// long events only the first 8 KiB of text and 32 fields are kept.
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let line = Line::new(level, message, fields);
        if let Some(socket) = &self.journal {
            if journal::send(socket, &line.journal()).is_ok() {
                return;
            }
        }
        if let Err(error) = file::append(&self.file, self.max_bytes, &line.json()) {
            // One write, so that lines of several hooks do not mix. Nothing is left to do where this fails.
            let _ = std::io::stderr().write_all(&line.plain(&error));
        }
    }
}
