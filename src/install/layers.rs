//! Engines whose drop-ins add to their main file key by key: CRI-O and Podman.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::disk;
use super::document::{Document, Syntax};
use crate::error::{Error, Result};

/// The files and what they come to.
pub(super) struct Layers {
    pub(super) files: Vec<PathBuf>,
    pub(super) value: Value,
}

impl Layers {
    /// Reads files in their order; those that are not there are left out.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self> {
        let mut layers = Self { files: Vec::new(), value: Value::Object(Map::new()) };
        for file in files {
            let Some(text) = disk::read(file)? else { continue };
            add(&mut layers.value, &Document::parse(Syntax::Toml, file, &text)?.value());
            layers.files.push(file.clone());
        }
        Ok(layers)
    }
}

/// The later value counts; tables are put together.
fn add(all: &mut Value, more: &Value) {
    if let (Value::Object(all), Value::Object(more)) = (&mut *all, more) {
        for (key, value) in more {
            add(all.entry(key).or_insert(Value::Null), value);
        }
    } else {
        more.clone_into(all);
    }
}

/// The files of a folder by name; one that is not there has none.
pub(super) fn folder(folder: &Path, takes: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::os("list", folder, &e)),
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| takes(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| !path.is_dir())
        .collect();
    files.sort_unstable();
    Ok(files)
}
