//! Programs by name: a table whose keys are not known beforehand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::AbsolutePath;
use super::reader::Reader;
use super::section::Section;
use super::show::Sheet;

/// The longest name of a program: it becomes a part of a file's name.
const MAX_NAME: usize = 63;

/// Programs by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// The program of a name.
    pub fn get(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// Whether a word can be the name of a program here: `a-z`, `0-9` and `-`.
fn is_name(word: &str) -> bool {
    (1..=MAX_NAME).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Section for Programs {
    const KEYS: &'static [&'static str] = &["a name of a-z, 0-9 and -"];

    fn set(&mut self, table: &str, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool {
        if !is_name(key) {
            return false;
        }
        let mut path = PathBuf::new();
        reader.leaf(&mut path, &AbsolutePath, table, key, value);
        if path.is_absolute() {
            self.0.insert(key.to_owned(), path);
        }
        true
    }

    fn show(&self, _: &Self, _: &str, sheet: &mut Sheet) {
        for (name, path) in &self.0 {
            sheet.entry(name, path, &AbsolutePath);
        }
    }
}
