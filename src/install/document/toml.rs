//! TOML. Comments, order, indentation and line endings stay; tables may be headed, dotted or inline.

use serde_json::{Map, Number, Value as Json};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, Table, TableLike, Value};

use super::{lines, not_a_table};

/// A TOML text, understood.
pub(in super::super) struct Toml {
    source: String,
    document: DocumentMut,
}

impl Toml {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document = lines::unix(text).parse().map_err(|e: toml_edit::TomlError| {
            format!("not TOML: {}", e.to_string().trim_end().replace('\n', " "))
        })?;
        Ok(Self { source: text.to_owned(), document })
    }

    pub(super) fn value(&self) -> Json {
        table_value(self.document.as_table())
    }

    pub(super) fn set(&mut self, path: &[String], value: &Json) -> Result<(), String> {
        let style = Style::of(&self.document, path);
        set(self.document.as_table_mut(), path, 0, value, &style)
    }

    pub(super) fn remove(&mut self, path: &[String]) {
        let Some((last, folders)) = path.split_last() else { return };
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        for key in folders {
            match table.get_mut(key).and_then(Item::as_table_like_mut) {
                Some(below) => table = below,
                None => return,
            }
        }
        table.remove(last);
    }

    pub(super) fn text(&self) -> String {
        lines::as_before(&self.source, &self.document.to_string())
    }
}

/// How tables beside a new one are indented.
#[derive(Default)]
struct Style {
    header: String,
    key: String,
    /// How much further the tables below one are.
    step: String,
}

impl Style {
    /// That of the table's neighbours; nothing where it has none.
    fn of(document: &DocumentMut, path: &[String]) -> Self {
        let Some((_, folders)) = path.split_last() else { return Self::default() };
        let parent =
            folders.iter().try_fold(document.as_table() as &dyn TableLike, |t, k| t.get(k)?.as_table_like());
        let neighbours = parent.into_iter().flat_map(|parent| parent.iter());
        let Some(table) = neighbours.filter_map(|(_, item)| item.as_table()).find(|t| !t.is_dotted()) else {
            return Self::default();
        };
        let header = table.decor().prefix().and_then(|p| p.as_str()).map(last_indent).unwrap_or_default();
        let key = key_indent(table).unwrap_or_else(|| header.clone());
        let below = table.iter().find_map(|(_, item)| item.as_table()).filter(|t| !t.is_dotted());
        let step = below
            .and_then(|t| t.decor().prefix()?.as_str())
            .and_then(|p| last_indent(p).strip_prefix(header.as_str()).map(str::to_owned))
            .unwrap_or_default();
        Self { header, key, step }
    }

    fn below(&self) -> Self {
        let deeper = |indent: &str| format!("{indent}{}", self.step);
        Self { header: deeper(&self.header), key: deeper(&self.key), step: self.step.clone() }
    }
}

/// The blanks behind the last line feed.
fn last_indent(prefix: &str) -> String {
    let line = prefix.rsplit('\n').next().unwrap_or_default();
    if line.trim().is_empty() { line.to_owned() } else { String::new() }
}

/// How the first key of a table is indented.
fn key_indent(table: &dyn TableLike) -> Option<String> {
    let (first, _) = table.iter().find(|(_, item)| item.is_value())?;
    table.key(first)?.leaf_decor().prefix()?.as_str().map(last_indent)
}

fn set(
    table: &mut dyn TableLike,
    path: &[String],
    depth: usize,
    value: &Json,
    style: &Style,
) -> Result<(), String> {
    let Some(key) = path.get(depth) else { return Ok(()) };
    let is_last = depth + 1 == path.len();
    match table.get_mut(key) {
        None if is_last => insert(table, key, value, style),
        None => {
            // A table of which only those below are seen.
            let mut new = Table::new();
            new.set_implicit(true);
            table.insert(key, Item::Table(new));
            let Some(below) = table.get_mut(key).and_then(Item::as_table_like_mut) else {
                return Err(not_a_table(path.get(..=depth).unwrap_or(path)));
            };
            set(below, path, depth + 1, value, style)?;
        }
        Some(item) if is_last => match value {
            Json::Object(more) => {
                let Some(below) = item.as_table_like_mut() else { return Err(not_a_table(path)) };
                for (key, value) in more {
                    let path = [path, std::slice::from_ref(key)].concat();
                    set(below, &path, depth + 1, value, &style.below())?;
                }
            }
            _ => replace(item, value),
        },
        Some(item) => {
            let Some(below) = item.as_table_like_mut() else {
                return Err(not_a_table(path.get(..=depth).unwrap_or(path)));
            };
            set(below, path, depth + 1, value, style)?;
        }
    }
    Ok(())
}

/// A key that was not there.
fn insert(table: &mut dyn TableLike, key: &str, value: &Json, style: &Style) {
    match value {
        Json::Object(more) => {
            table.insert(key, Item::Table(new_table(more, style)));
        }
        _ => {
            let Some(new) = scalar(value) else { return };
            let indent = key_indent(table);
            table.insert(key, Item::Value(new));
            if let (Some(indent), Some(mut key)) = (indent, table.key_mut(key)) {
                key.leaf_decor_mut().set_prefix(indent);
            }
        }
    }
}

fn new_table(values: &Map<String, Json>, style: &Style) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix(format!("\n{}", style.header));
    for (name, value) in values {
        match value {
            Json::Object(more) => {
                table.insert(name, Item::Table(new_table(more, &style.below())));
            }
            _ => {
                let Some(value) = scalar(value) else { continue };
                let mut key = Key::new(name);
                key.leaf_decor_mut().set_prefix(style.key.as_str());
                table.insert_formatted(&key, Item::Value(value));
            }
        }
    }
    table
}

/// Another value in the same place, comments kept. What has the value already is not touched, and an array that only
/// grows keeps its form.
fn replace(item: &mut Item, wanted: &Json) {
    let found = item_value(item);
    if found == *wanted {
        return;
    }
    if let (Some(array), Json::Array(old), Json::Array(new)) = (item.as_array_mut(), &found, wanted) {
        if let Some(more) = new.strip_prefix(old.as_slice()) {
            more.iter().filter_map(scalar).for_each(|value| array.push(value));
            return;
        }
    }
    let Some(mut new) = scalar(wanted) else { return };
    if let Some(old) = item.as_value() {
        old.decor().clone_into(new.decor_mut());
    }
    *item = Item::Value(new);
}

/// TOML of a value; none of `null`, which TOML has not.
fn scalar(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64()?),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().filter_map(scalar).collect::<Array>()),
        Json::Object(table) => {
            let values = table.iter().filter_map(|(key, value)| Some((key, scalar(value)?)));
            Value::InlineTable(values.collect::<InlineTable>())
        }
    })
}

fn table_value(table: &dyn TableLike) -> Json {
    Json::Object(table.iter().map(|(key, item)| (key.to_owned(), item_value(item))).collect())
}

fn item_value(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => value_value(value),
        Item::Table(table) => table_value(table),
        Item::ArrayOfTables(tables) => Json::Array(tables.iter().map(|t| table_value(t)).collect()),
    }
}

fn value_value(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.value().clone()),
        Value::Integer(whole) => Json::from(*whole.value()),
        Value::Float(float) => Number::from_f64(*float.value()).map_or(Json::Null, Json::Number),
        Value::Boolean(flag) => Json::Bool(*flag.value()),
        // No engine has one; as text it compares well enough.
        Value::Datetime(time) => Json::String(time.value().to_string()),
        Value::Array(array) => Json::Array(array.iter().map(value_value).collect()),
        Value::InlineTable(table) => table_value(table),
    }
}
