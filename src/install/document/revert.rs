//! Taking changes back out of a file that others have changed meanwhile.

use std::path::Path;

use serde_json::Value;

use super::{Document, Keys, Syntax, at};
use crate::error::Result;

/// The text without the changes that led from `before` to `after`. Where nobody else touched it since, that is `before`
/// byte for byte. Else every value that is still as we wrote it gets what it had before, and `owned` goes with all that
/// is below it. `None` where no file is left to keep: it was not there before, and nothing of others is in it.
pub(in super::super) fn revert(
    syntax: Syntax,
    path: &Path,
    before: Option<&str>,
    after: &str,
    current: &str,
    owned: &[Keys],
) -> Result<Option<String>> {
    if current == after {
        return Ok(before.map(str::to_owned));
    }
    if before == Some(current) {
        return Ok(Some(current.to_owned()));
    }
    let was = Document::parse(syntax, path, before.unwrap_or_default())?.value();
    let wrote = Document::parse(syntax, path, after)?.value();
    let mut document = Document::parse(syntax, path, current)?;
    let is = document.value();
    let mut changed: Vec<Keys> = Vec::new();
    differing(&was, &wrote, &mut Vec::new(), &mut changed);
    // A handler that was there before by somebody's hand goes back value by value, too.
    let owned: Vec<&Keys> = owned.iter().filter(|own| at(&was, own).is_none()).collect();
    for own in &owned {
        if at(&is, own).is_some_and(is_ours) {
            document.remove(own);
        }
    }
    for keys in changed.iter().filter(|keys| !owned.iter().any(|own| keys.starts_with(own))) {
        if at(&is, keys) != at(&wrote, keys) {
            continue;
        }
        match at(&was, keys) {
            Some(old) => document.set(keys, old).map_err(|why| invalid(path, why))?,
            None => document.remove(keys),
        }
    }
    for keys in changed.iter().chain(owned) {
        prune(&mut document, &was, keys);
    }
    let is_empty = document.value().as_object().is_none_or(serde_json::Map::is_empty);
    Ok((before.is_some() || !is_empty).then(|| document.text()))
}

fn invalid(path: &Path, why: String) -> crate::error::Error {
    crate::error::Error::invalid(path.display().to_string(), why)
}

/// The paths of the values in which two trees differ.
fn differing(one: &Value, other: &Value, path: &mut Keys, found: &mut Vec<Keys>) {
    let (Some(left), Some(right)) = (one.as_object(), other.as_object()) else {
        if one != other {
            found.push(path.clone());
        }
        return;
    };
    let empty = Value::Object(serde_json::Map::new());
    for key in left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))) {
        path.push(key.clone());
        match (left.get(key), right.get(key)) {
            (Some(one), Some(other)) => differing(one, other, path, found),
            // A whole table that is new or gone is looked at value by value, for others may add to it.
            (None, Some(table @ Value::Object(_))) => differing(&empty, table, path, found),
            (Some(table @ Value::Object(_)), None) => differing(table, &empty, path, found),
            _ => found.push(path.clone()),
        }
        path.pop();
    }
}

/// Whether the wrapper is named in it: a handler of that name may be somebody else's by now.
fn is_ours(value: &Value) -> bool {
    match value {
        Value::String(text) => super::super::wrapper::is_ours(text),
        Value::Array(items) => items.iter().any(is_ours),
        Value::Object(table) => table.values().any(is_ours),
        _ => false,
    }
}

/// Removes the tables above a path that are empty now and were not there before.
fn prune(document: &mut Document, was: &Value, keys: &[String]) {
    for length in (1..keys.len()).rev() {
        let Some(above) = keys.get(..length) else { return };
        let is_empty =
            at(&document.value(), above).is_some_and(|v| v.as_object().is_some_and(|t| t.is_empty()));
        if is_empty && at(was, above).is_none() {
            document.remove(above);
        }
    }
}
