//! containerd's files: the main one, those it imports, and what they come to together.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::annotations::matches;
use super::super::document::{Document, Keys, Syntax, get, keys};
use super::super::{Node, disk};
use super::DROP_IN;
use crate::error::{Error, Result};
use crate::programs::Version;

/// The CRI plugin's runtime part, from version 3 on.
const PLUGIN: &str = "io.containerd.cri.v1.runtime";
/// The CRI plugin, up to version 2.
const OLD_PLUGIN: &str = "io.containerd.grpc.v1.cri";
/// Both.
pub(super) const PLUGINS: [&str; 2] = [PLUGIN, OLD_PLUGIN];
/// Imports may import; nobody has so many.
const MAX_FILES: usize = 256;

/// The files.
pub(super) struct Files {
    /// The main file, which need not be there.
    pub(super) main: PathBuf,
    /// `version` of the main file, or what a new one gets.
    pub(super) schema: u64,
    /// The version of containerd itself, where it is known.
    version: Option<Version>,
    /// Those that are there, in the order in which containerd reads them.
    read: Vec<(PathBuf, Value)>,
    /// A file of ours in a folder that is imported, where there is one.
    drop_in: Option<PathBuf>,
    /// The CRI plugin's name in `disabled_plugins`, where it is switched off.
    off: Option<String>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

impl Files {
    pub(super) fn read(node: &Node, main: &Path) -> Result<Self> {
        let program = node.programs.find("containerd");
        let version = program.and_then(|program| node.programs.version(&program));
        let number = version.as_ref().map(|version| version.number);
        let mut files = Self {
            main: main.to_owned(),
            // Every containerd that says nothing about itself reads version 2.
            schema: if number.is_some_and(|number| number >= (2, 0)) { 3 } else { 2 },
            version,
            read: Vec::new(),
            drop_in: None,
            off: None,
            notes: Vec::new(),
        };
        let Some(text) = disk::read(main)? else { return Ok(files) };
        let value = Document::parse(Syntax::Toml, main, &text)?.value();
        // As Docker's package ships it, without a version: then nothing else in it counts.
        files.off = disabled(&value);
        match files.schema_of(&value) {
            Err(_) if files.off.is_some() && value.get("plugins").is_none() => return Ok(files),
            schema => files.schema = schema?,
        }
        files.add_all(node, value)?;
        files.off = files.read.iter().find_map(|(_, file)| disabled(file));
        files.warn_of_old_tables();
        Ok(files)
    }

    /// `version` of the main file.
    fn schema_of(&self, value: &Value) -> Result<u64> {
        let invalid = |why: String| Error::invalid(self.main.display().to_string(), why);
        let number = self.version.as_ref().map(|version| version.number);
        let schema = match value.get("version") {
            None => 1,
            Some(version) => version.as_u64().ok_or_else(|| invalid(format!("version is {version}")))?,
        };
        let (needs, name) = match schema {
            2 => return Ok(2),
            3 => ((2, 0), "2.0"),
            4 => ((2, 3), "2.3"),
            0 | 1 => {
                let how = if value.get("version").is_some() { "is 1" } else { "is missing, which means 1" };
                return Err(invalid(format!("version {how}, a form whose tables have other names"))
                    .hint("see `containerd config migrate`, or begin with `containerd config default`"));
            }
            other => return Err(invalid(format!("version {other} is not known here; 2, 3 and 4 are"))),
        };
        match (number, &self.version) {
            (Some(number), Some(version)) if number < needs => Err(invalid(format!(
                "version {schema} is for containerd {name} and later, and this is {}",
                version.text
            ))),
            _ => Ok(schema),
        }
    }

    /// The main file and everything that is imported, breadth first as containerd does it.
    fn add_all(&mut self, node: &Node, main: Value) -> Result<()> {
        let mut pending = vec![(self.main.clone(), Some(main))];
        while !pending.is_empty() {
            let (path, value) = pending.remove(0);
            if self.read.iter().any(|(seen, _)| *seen == path) {
                continue;
            }
            if self.read.len() >= MAX_FILES {
                return Err(Error::invalid(self.main.display().to_string(), "imports too many files"));
            }
            let value = match value {
                Some(value) => value,
                None => {
                    let text = disk::read(&path)?.ok_or_else(|| {
                        Error::invalid(path.display().to_string(), "is imported and not there")
                            .hint("containerd does not start with this")
                    })?;
                    Document::parse(Syntax::Toml, &path, &text)?.value()
                }
            };
            for pattern in value.get("imports").and_then(Value::as_array).into_iter().flatten() {
                let Some(pattern) = pattern.as_str() else { continue };
                let absolute = match pattern.starts_with('/') {
                    true => node.roots.path(pattern),
                    false => path.parent().unwrap_or(&path).join(pattern),
                };
                self.see_folder(&absolute);
                pending.extend(glob(&absolute)?.into_iter().map(|file| (file, None)));
            }
            self.read.push((path, value));
        }
        Ok(())
    }

    /// Whether a pattern would read a drop-in of ours. One that would also read what is still being written will not do.
    fn see_folder(&mut self, pattern: &Path) {
        let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str()))
        else {
            return;
        };
        let is_plain = folder.to_str().is_some_and(|folder| !folder.contains(['*', '?', '[', '\\']));
        if self.drop_in.is_none() && is_plain && name.contains('*') && matches(name, DROP_IN) {
            self.drop_in = Some(folder.join(DROP_IN));
        }
    }

    /// Tables of version 2 in a file of version 3 count for nothing.
    fn warn_of_old_tables(&mut self) {
        for (path, value) in &self.read {
            let old = get(value, &["plugins", OLD_PLUGIN, "containerd"]);
            if old.is_some() && self.plugin(value) == PLUGIN {
                self.notes.push(format!(
                    "{}: [plugins.{OLD_PLUGIN:?}.containerd] is of version 2, and containerd does not read it in a file of \
                     version 3; its settings belong into [plugins.{PLUGIN:?}.containerd]",
                    path.display()
                ));
            }
        }
    }

    /// Whether a later file adds to a table, rather than replacing all of the plugin's.
    pub(super) fn merges(&self) -> bool {
        self.version.as_ref().map_or(self.schema >= 3, |version| version.number >= (2, 1))
    }

    /// The plugin's name in a file.
    fn plugin(&self, file: &Value) -> &'static str {
        // Each file is brought up to date by itself from 2.3 on, and before only what the main file names counts.
        let is_by_file = self.version.as_ref().is_none_or(|version| version.number >= (2, 3));
        let own = file.get("version").and_then(Value::as_u64).filter(|_| is_by_file);
        if own.unwrap_or(self.schema) >= 3 { PLUGIN } else { OLD_PLUGIN }
    }

    /// The plugin's table `containerd`, as all files together make it.
    pub(super) fn cri(&self) -> Value {
        let mut all = Value::Object(Map::new());
        for (_, file) in &self.read {
            let Some(plugin) = get(file, &["plugins", self.plugin(file)]) else { continue };
            let table = plugin.get("containerd").cloned().unwrap_or_else(|| Value::Object(Map::new()));
            if self.merges() { merge(&mut all, &table) } else { all = table }
        }
        all
    }

    /// The file for our handler, and whether it is a drop-in: the one that has it already, a drop-in where one is read
    /// and added to the rest, or else the one that has the last word.
    pub(super) fn target(&self, handler: &str) -> (PathBuf, bool) {
        let is_drop_in = |path: &Path| self.drop_in.as_deref() == Some(path);
        let has = |words: &[&str]| {
            let with = self.read.iter().rev();
            with.clone()
                .find(|(_, file)| get(file, &[&["plugins", self.plugin(file)], words].concat()).is_some())
                .map(|(path, _)| path.clone())
        };
        if let Some(path) = has(&["containerd", "runtimes", handler]) {
            let is_drop_in = is_drop_in(&path);
            return (path, is_drop_in);
        }
        if let Some(path) = self.drop_in.clone().filter(|_| self.merges()) {
            return (path, true);
        }
        let last = if self.merges() { None } else { has(&[]) };
        (last.unwrap_or_else(|| self.main.clone()), false)
    }

    /// Why nothing passes through any handler.
    pub(super) fn off(&self) -> Option<String> {
        let name = self.off.as_ref()?;
        Some(format!(
            "{} has {name:?} in disabled_plugins: containerd serves no Kubernetes",
            self.main.display()
        ))
    }

    /// Every file that was read.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.read.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Whether a file is not there yet.
    pub(super) fn is_new(&self, path: &Path) -> bool {
        !self.read.iter().any(|(read, _)| read == path)
    }

    /// The keys of the plugin's table `containerd` in a file.
    pub(super) fn table_keys(&self, path: &Path) -> Keys {
        let file = self.read.iter().find(|(read, _)| read == path).map(|(_, value)| value);
        keys(&["plugins", self.plugin(file.unwrap_or(&Value::Null)), "containerd"])
    }
}

/// The CRI plugin, by the name under which a file switches it off.
fn disabled(file: &Value) -> Option<String> {
    let names = file.get("disabled_plugins")?.as_array()?.iter().filter_map(Value::as_str);
    names.into_iter().find(|name| *name == "cri" || PLUGINS.contains(name)).map(str::to_owned)
}

/// Adds a table as containerd does: tables by key, and other values unless they are empty.
fn merge(all: &mut Value, more: &Value) {
    if let (Value::Object(all), Value::Object(more)) = (&mut *all, more) {
        for (key, value) in more {
            merge(all.entry(key).or_insert(Value::Null), value);
        }
    } else if all.is_null() || !is_empty(more) {
        more.clone_into(all);
    }
}

/// Whether Go would call it a zero value.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(table) => table.values().all(is_empty),
    }
}

/// The files of a pattern, sorted, as Go's `filepath.Glob` finds them; a path without a star is one file.
fn glob(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_string_lossy();
    if !text.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    if text.contains(['[', '\\']) {
        return Err(Error::invalid(format!("import {text}"), "a pattern that is not understood here"));
    }
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let name = part.to_string_lossy();
        if !name.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in &found {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            next.extend(names.filter(|entry| matches(&name, entry)).map(|entry| folder.join(entry)));
        }
        next.sort_unstable();
        found = next;
    }
    found.retain(|path| path.exists());
    Ok(found)
}
