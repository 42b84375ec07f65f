//! Takes the values of one file over into a configuration, and lists what is wrong with them.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::Kind;
use super::section::Section;
use super::sections::Config;
use super::suggest::closest;
use crate::error::Error;

/// Reads one file. Every problem is kept, not only the first, so that one `config check` shows them all. That is why
/// this walks the parsed file itself: serde's derive stops at the first one, and does not know the key.
pub(super) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    /// Byte offset and problem.
    found: Vec<(usize, Error)>,
}

impl<'a> Reader<'a> {
    /// Takes the values of the file over into the configuration; returns the problems, in the order of the file.
    pub(super) fn read(file: &'a Path, text: &'a str, config: &mut Config) -> Vec<Error> {
        let mut reader = Self { file, text, found: Vec::new() };
        match DeTable::parse(text) {
            Ok(table) => reader.keys(config, "", table.get_ref()),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let why = format!("not TOML: {}", error.message().trim_end().replace('\n', ", "));
                reader.refuse(at, "", &why, String::new());
            }
        }
        reader.found.sort_by_key(|(at, _)| *at);
        reader.found.into_iter().map(|(_, error)| error).collect()
    }

    /// Takes over one value.
    pub(super) fn leaf<T>(
        &mut self,
        target: &mut T,
        kind: &impl Kind<T>,
        table: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        match kind.read(value.get_ref()) {
            Ok(value) => *target = value,
            Err(why) => {
                let hint = format!("allowed: {}", kind.allowed());
                self.refuse(value.span().start, &path(table, key), &why, hint);
            }
        }
    }

    /// Takes over the keys of a table inside a table.
    pub(super) fn table<S: Section>(
        &mut self,
        target: &mut S,
        table: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        let path = path(table, key);
        match value.get_ref() {
            DeValue::Table(keys) => self.keys(target, &path, keys),
            other => {
                let hint = format!("write [{path}] on a line of its own and its keys below");
                let why = format!("a table is wanted here, not a value of type {}", other.type_str());
                self.refuse(value.span().start, &path, &why, hint);
            }
        }
    }

    fn keys<S: Section>(&mut self, target: &mut S, table: &str, keys: &DeTable<'_>) {
        for (key, value) in keys {
            let name = key.get_ref();
            if !target.set(table, name, value, self) {
                let hint = match closest(name, S::KEYS) {
                    Some(known) => format!("did you mean {}?", path(table, known)),
                    None => format!("known here: {}", S::KEYS.join(", ")),
                };
                self.refuse(key.span().start, &path(table, name), "unknown key", hint);
            }
        }
    }

    fn refuse(&mut self, at: usize, key: &str, why: &str, hint: String) {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let comma = if key.is_empty() { "" } else { ", key " };
        let what = format!("{} line {line}{comma}{key}", self.file.display());
        self.found.push((at, Error::invalid(what, why).hint(hint)));
    }
}

/// The key as it is written with dots; bounded and without control characters, for it may be anything.
fn path(table: &str, key: &str) -> String {
    const LIMIT: usize = 60;
    let key = key.chars().take(LIMIT).flat_map(|c| {
        let escape = c.is_control();
        escape.then(|| c.escape_default()).into_iter().flatten().chain((!escape).then_some(c))
    });
    let dot = if table.is_empty() { "" } else { "." };
    [table, dot].into_iter().flat_map(str::chars).chain(key).collect()
}
