//! The kinds of values: how each is read, shown, and described to someone who got it wrong.

use std::path::{Component, Path, PathBuf};

use toml::de::{DeArray, DeValue};

use super::choice::Choice;
use crate::cpuset::{CpuSet, MAX_CPU};

/// How many names may be listed.
const MAX_NAMES: usize = 1024;
/// The longest name: that of a Kubernetes object, a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;
/// The longest path, `PATH_MAX` less the final NUL.
const MAX_PATH: usize = 4095;

/// A kind of value that a key of type `T` takes.
pub(super) trait Kind<T> {
    /// The value; or what is wrong with it.
    fn read(&self, value: &DeValue<'_>) -> Result<T, String>;
    /// The value as TOML; `None` where it is not set.
    fn literal(&self, value: &T) -> Option<String>;
    /// What may be written here.
    fn allowed(&self) -> String;
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn read(&self, value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| wrong_type(value))
    }
    fn literal(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
    fn allowed(&self) -> String {
        "true, false".to_owned()
    }
}

/// A whole number between two bounds, both allowed.
pub(super) struct Int(pub(super) i64, pub(super) i64);

impl<T: TryFrom<i64> + ToString> Kind<T> for Int {
    fn read(&self, value: &DeValue<'_>) -> Result<T, String> {
        let digits = value.as_integer().ok_or_else(|| wrong_type(value))?;
        i64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .filter(|number| (self.0..=self.1).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{} is out of range", clip(&digits.to_string())))
    }
    fn literal(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }
    fn allowed(&self) -> String {
        format!("{} to {}", self.0, self.1)
    }
}

/// One of a few words.
pub(super) struct Word;

impl<T: Choice> Kind<T> for Word {
    fn read(&self, value: &DeValue<'_>) -> Result<T, String> {
        let word = text(value)?;
        T::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| format!("{} is not one of the words allowed here", quote(word)))
    }
    fn literal(&self, value: &T) -> Option<String> {
        T::ALL.iter().find(|(_, choice)| choice == value).map(|(name, _)| string(name))
    }
    fn allowed(&self) -> String {
        let names: Vec<String> = T::ALL.iter().map(|(name, _)| string(name)).collect();
        names.join(", ")
    }
}

/// One of a few words, or not set.
pub(super) struct OptionalWord;

impl<T: Choice> Kind<Option<T>> for OptionalWord {
    fn read(&self, value: &DeValue<'_>) -> Result<Option<T>, String> {
        Word.read(value).map(Some)
    }
    fn literal(&self, value: &Option<T>) -> Option<String> {
        value.as_ref().and_then(|choice| Word.literal(choice))
    }
    fn allowed(&self) -> String {
        Kind::<T>::allowed(&Word)
    }
}

/// The absolute path of a file or folder.
pub(super) struct AbsolutePath;

impl Kind<PathBuf> for AbsolutePath {
    fn read(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        plain_path(text(value)?)
    }
    fn literal(&self, value: &PathBuf) -> Option<String> {
        value.to_str().map(string)
    }
    fn allowed(&self) -> String {
        r#"an absolute path without "..""#.to_owned()
    }
}

/// The absolute path of a file, or empty for none.
pub(super) struct OptionalPath;

impl Kind<Option<PathBuf>> for OptionalPath {
    fn read(&self, value: &DeValue<'_>) -> Result<Option<PathBuf>, String> {
        match text(value)? {
            "" => Ok(None),
            path => plain_path(path).map(Some),
        }
    }
    fn literal(&self, value: &Option<PathBuf>) -> Option<String> {
        value.as_deref().map_or(Some(""), Path::to_str).map(string)
    }
    fn allowed(&self) -> String {
        r#"an absolute path without "..", or "" for none"#.to_owned()
    }
}

/// The path of a cgroup from the root of its hierarchy.
pub(super) struct GroupPath;

impl Kind<PathBuf> for GroupPath {
    fn read(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let given = text(value)?;
        let path = plain_path(given)?;
        // The same group must always have the same name: as /proc/<pid>/cgroup spells it.
        if path.components().collect::<PathBuf>().as_os_str() != path.as_os_str() {
            return Err(format!("{} has empty or \".\" parts, or ends with /", quote(given)));
        }
        Ok(path)
    }
    fn literal(&self, value: &PathBuf) -> Option<String> {
        AbsolutePath.literal(value)
    }
    fn allowed(&self) -> String {
        r#"an absolute cgroup path without "..", not "/""#.to_owned()
    }
}

/// A CPU list in the kernel's format.
pub(super) struct Cpus;

impl Kind<CpuSet> for Cpus {
    fn read(&self, value: &DeValue<'_>) -> Result<CpuSet, String> {
        text(value)?.parse().map_err(|error: crate::error::Error| error.to_string())
    }
    fn literal(&self, value: &CpuSet) -> Option<String> {
        Some(string(&value.to_string()))
    }
    fn allowed(&self) -> String {
        format!("a list such as \"0-3,8\" of CPUs 0 to {MAX_CPU}, or \"\" for none")
    }
}

/// Names, with a `*` at the end for any rest.
pub(super) struct Names;

impl Kind<Vec<String>> for Names {
    fn read(&self, value: &DeValue<'_>) -> Result<Vec<String>, String> {
        let entries: &DeArray<'_> = value.as_array().ok_or_else(|| wrong_type(value))?;
        if entries.len() > MAX_NAMES {
            return Err(format!("{} entries are too many", entries.len()));
        }
        let entry = |entry: &toml::Spanned<DeValue<'_>>| -> Result<String, String> {
            let name = text(entry.get_ref())?;
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let stem = name.strip_suffix('*').unwrap_or(name);
            if name.is_empty() || name.len() > MAX_NAME || !stem.bytes().all(fits) {
                return Err(format!("{} is not a name", quote(name)));
            }
            Ok(name.to_owned())
        };
        entries.iter().map(entry).collect()
    }
    fn literal(&self, value: &Vec<String>) -> Option<String> {
        let names: Vec<String> = value.iter().map(|name| string(name)).collect();
        Some(format!("[{}]", names.join(", ")))
    }
    fn allowed(&self) -> String {
        format!("a list such as [\"kube-system\", \"team-*\"] of up to {MAX_NAMES} names")
    }
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| wrong_type(value))
}

fn wrong_type(value: &DeValue<'_>) -> String {
    format!("a value of type {} does not fit", value.type_str())
}

fn plain_path(given: &str) -> Result<PathBuf, String> {
    let path = Path::new(given);
    let why = if given.len() > MAX_PATH {
        "is longer than a path can be"
    } else if !path.is_absolute() {
        "is not an absolute path"
    } else if given.chars().any(char::is_control) {
        "has control characters in it"
    } else if path.components().any(|part| part == Component::ParentDir) {
        "has \"..\" in it"
    } else if path.components().count() == 1 {
        "is the root itself"
    } else {
        return Ok(path.to_owned());
    };
    Err(format!("{} {why}", quote(given)))
}

/// A value as it was given, for a message.
fn quote(given: &str) -> String {
    format!("{:?}", clip(given))
}

fn clip(given: &str) -> String {
    const LIMIT: usize = 40;
    match given.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", given.get(..end).unwrap_or_default()),
        None => given.to_owned(),
    }
}

/// A TOML basic string (TOML 1.0, "String").
fn string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            c if c.is_control() => literal.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}
