//! JSON. The order of the keys and the indentation stay.

use serde_json::{Map, Value};

use super::{lines, not_a_table};

/// A JSON text, understood: an object.
pub(in super::super) struct Json {
    source: String,
    before: Value,
    value: Value,
}

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value = if text.trim().is_empty() {
            Value::Object(Map::new())
        } else {
            serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?
        };
        if !value.is_object() {
            return Err("not a JSON object".to_owned());
        }
        Ok(Self { source: text.to_owned(), before: value.clone(), value })
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    pub(super) fn set(&mut self, path: &[String], value: &Value) -> Result<(), String> {
        let mut slot = &mut self.value;
        for (depth, key) in path.iter().enumerate() {
            let table = slot.as_object_mut().ok_or_else(|| not_a_table(path.get(..depth).unwrap_or(path)))?;
            slot = table.entry(key).or_insert_with(|| Value::Object(Map::new()));
        }
        merge(slot, value);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[String]) {
        let Some((last, folders)) = path.split_last() else { return };
        let parent =
            folders.iter().try_fold(&mut self.value, |value, key| value.as_object_mut()?.get_mut(key));
        if let Some(table) = parent.and_then(Value::as_object_mut) {
            table.shift_remove(last);
        }
    }

    pub(super) fn text(&self) -> String {
        if self.value == self.before && !self.source.trim().is_empty() {
            return self.source.clone();
        }
        let text = match indent(&self.source) {
            Some(indent) => pretty(&self.value, &self.source, &indent, 0),
            None => self.value.to_string(),
        };
        let end = if self.source.is_empty() || self.source.ends_with('\n') { "\n" } else { "" };
        lines::as_before(&self.source, &(text + end))
    }
}

/// Sets what `value` names, and leaves the rest.
fn merge(slot: &mut Value, value: &Value) {
    match (slot.as_object_mut(), value) {
        (Some(table), Value::Object(more)) => {
            for (key, value) in more {
                merge(table.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => value.clone_into(slot),
    }
}

/// The value over several lines, but for what was written on one line before.
fn pretty(value: &Value, source: &str, indent: &str, depth: usize) -> String {
    let (open, items, close) = match value {
        Value::Array(items) if !items.is_empty() => {
            ('[', items.iter().map(|item| pretty(item, source, indent, depth + 1)).collect(), ']')
        }
        Value::Object(table) if !table.is_empty() => {
            let member = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), pretty(value, source, indent, depth + 1))
            };
            ('{', table.iter().map(member).collect::<Vec<_>>(), '}')
        }
        scalar => return scalar.to_string(),
    };
    if depth > 0 {
        let line = items.join(", ");
        let forms = [format!("{open}{line}{close}"), format!("{open} {line} {close}"), value.to_string()];
        if let Some(form) =
            forms.into_iter().find(|form| !form.contains('\n') && source.contains(form.as_str()))
        {
            return form;
        }
    }
    let (inner, outer) = (indent.repeat(depth + 1), indent.repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", items.join(&format!(",\n{inner}")))
}

/// What the first key is indented with; `None` where everything is on one line.
fn indent(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text == "{}" {
        return Some("    ".to_owned());
    }
    let line = text.lines().skip(1).find(|line| !line.trim().is_empty())?;
    let blanks = line.len() - line.trim_start().len();
    Some(line.get(..blanks).unwrap_or_default().to_owned())
}
