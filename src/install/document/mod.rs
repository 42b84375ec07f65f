//! A configuration file of an engine: TOML or JSON, changed key by key, with everything else left as it stands.

mod json;
mod lines;
mod revert;
mod toml;

use std::path::Path;

use serde_json::Value;

pub(super) use revert::revert;

use self::json::Json;
use self::toml::Toml;
use crate::error::{Error, Result};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Syntax {
    Toml,
    Json,
}

/// Where a value stands: the keys from the top.
pub(super) type Keys = Vec<String>;

/// A path of keys from words.
pub(super) fn keys(words: &[&str]) -> Keys {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A file's text, understood.
pub(super) enum Document {
    Toml(Toml),
    Json(Json),
}

impl Document {
    /// Understands a text; an empty one holds nothing. `path` names it in errors.
    pub(super) fn parse(syntax: Syntax, path: &Path, text: &str) -> Result<Self> {
        let parsed = match syntax {
            Syntax::Toml => Toml::parse(text).map(Self::Toml),
            Syntax::Json => Json::parse(text).map(Self::Json),
        };
        parsed.map_err(|why| {
            Error::invalid(path.display().to_string(), why)
                .hint("nothing was changed; correct the file first")
        })
    }

    /// Everything in it.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Toml(toml) => toml.value(),
            Self::Json(json) => json.value().clone(),
        }
    }

    /// Sets a value. An object is set key by key, and what it does not name stays; what has the value already is not
    /// touched.
    ///
    /// # Errors
    ///
    /// Something on the way is not a table.
    pub(super) fn set(&mut self, path: &[String], value: &Value) -> std::result::Result<(), String> {
        match self {
            Self::Toml(toml) => toml.set(path, value),
            Self::Json(json) => json.set(path, value),
        }
    }

    /// Removes a value and whatever is below it; one that is not there is fine.
    pub(super) fn remove(&mut self, path: &[String]) {
        match self {
            Self::Toml(toml) => toml.remove(path),
            Self::Json(json) => json.remove(path),
        }
    }

    /// The text, alike to the one it was made from in all that was not changed.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Toml(toml) => toml.text(),
            Self::Json(json) => json.text(),
        }
    }
}

/// The value at a path.
pub(super) fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.as_object()?.get(key))
}

/// The same for a path of words.
pub(super) fn get<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, &key| value.as_object()?.get(key))
}

/// What is wrong where a table was expected.
fn not_a_table(path: &[String]) -> String {
    format!("{} is not a table", path.join("."))
}
