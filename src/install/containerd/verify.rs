//! containerd's own word on the result: `containerd config dump` before and after.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use super::super::document::{Document, Syntax, get};
use super::super::plan::{Check, text};
use super::super::{Node, annotations};
use super::SYSTEMD;
use super::files::{PLUGINS, is_empty};
use crate::error::{Error, Result};
use crate::programs;

/// What is to be found afterwards.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) handler: String,
    pub(super) base: String,
    pub(super) binary: String,
    pub(super) is_default: bool,
    /// Our handlers beside Kata's.
    pub(super) katas: Vec<String>,
}

/// containerd's word before anything is changed.
pub(super) struct Asked {
    program: PathBuf,
    main: PathBuf,
    said: Value,
}

impl Asked {
    /// Asks it. `None` where there is no containerd to ask.
    ///
    /// # Errors
    ///
    /// It cannot read its configuration as it is.
    pub(super) fn now(node: &Node, main: &Path) -> Result<Option<Self>> {
        let Some(program) = node.programs.find("containerd").filter(|_| node.is_live) else {
            return Ok(None);
        };
        let said = dump(&program, main)
            .map_err(|error| error.hint("containerd does not start with this; nothing was changed"))?;
        Ok(Some(Self { program, main: main.to_owned(), said }))
    }

    /// A handler as containerd has it, built in or not, without what it leaves open.
    pub(super) fn handler(&self, name: &str) -> Option<Map<String, Value>> {
        let found = cri(&self.said).get("runtimes")?.get(name)?.clone();
        without_empty(found).as_object().cloned()
    }

    /// What asks it again when the files are written.
    pub(super) fn check(self, expected: Expected) -> Check {
        Box::new(move || {
            let new = dump(&self.program, &self.main)?;
            compare(&self.said, &new, &expected).map_err(|why| {
                Error::invalid("containerd config dump", why)
                    .hint("a file that is read later may say otherwise; containerd's files are as they were")
            })
        })
    }
}

/// The merged configuration, or the built-in one where there is no main file.
fn dump(program: &Path, main: &Path) -> Result<Value> {
    let mut command = Command::new(program);
    match main.exists() {
        true => command.arg("-c").arg(main).args(["config", "dump"]),
        false => command.args(["config", "default"]),
    };
    let (is_fine, out, err) = programs::output(&mut command).map_err(|e| Error::os("run", program, &e))?;
    if !is_fine {
        let why = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        return Err(Error::invalid(format!("{} config dump", program.display()), why.trim()));
    }
    Ok(Document::parse(Syntax::Toml, Path::new("containerd config dump"), &out)?.value())
}

/// The CRI plugin's table, whatever version the dump has.
fn cri(all: &Value) -> Map<String, Value> {
    let found = PLUGINS.iter().find_map(|name| get(all, &["plugins", name, "containerd"])?.as_object());
    found.cloned().unwrap_or_default()
}

/// Nothing may differ but what is ours.
fn compare(old: &Value, new: &Value, expected: &Expected) -> std::result::Result<(), String> {
    let (mut was, mut is) = (cri(old), cri(new));
    let runtimes = is.get("runtimes").cloned().unwrap_or_default();
    let Some(ours) = runtimes.get(&expected.handler) else {
        return Err(format!("has no handler {}", expected.handler));
    };
    let Some(base) = runtimes.get(&expected.base) else {
        return Err(format!("has lost the handler {}", expected.base));
    };
    let option = |handler: &Value| handler.get("options").cloned().unwrap_or_default();
    let (our_options, mut base_options) = (option(ours), option(base));
    if text(our_options.get("BinaryName")) != Some(&expected.binary) {
        return Err(format!("{} does not call {}", expected.handler, expected.binary));
    }
    if let Some(options) = base_options.as_object_mut() {
        options.insert("BinaryName".to_owned(), Value::String(expected.binary.clone()));
        for (name, value) in options.iter().filter(|(_, value)| !is_empty(value)) {
            if our_options.get(name) != Some(value) {
                return Err(format!("{} has another {name} than {}", expected.handler, expected.base));
            }
        }
    }
    let systemd = |options: &Value| options.get(SYSTEMD).and_then(Value::as_bool).unwrap_or_default();
    if systemd(&our_options) != systemd(&base_options) {
        return Err(format!("{} has another {SYSTEMD} than {}", expected.handler, expected.base));
    }
    let patterns = ours.get("pod_annotations").and_then(Value::as_array);
    let patterns: Vec<&str> = patterns.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(missing) = annotations::missing(&patterns).first() {
        return Err(format!("{} does not pass {missing} on", expected.handler));
    }
    for kata in &expected.katas {
        if !runtimes.get(kata).and_then(Value::as_object).is_some_and(super::kata::is_ours) {
            return Err(format!("{kata} does not call our shim"));
        }
    }
    if expected.is_default && text(is.get("default_runtime_name")) != Some(&expected.handler) {
        return Err(format!("the default handler is not {}", expected.handler));
    }
    for table in [&mut was, &mut is] {
        if expected.is_default {
            table.remove("default_runtime_name");
        }
        if let Some(runtimes) = table.get_mut("runtimes").and_then(Value::as_object_mut) {
            runtimes.remove(&expected.handler);
            expected.katas.iter().for_each(|kata| drop(runtimes.remove(kata)));
        }
    }
    let whole = |all: &Value, cri: Map<String, Value>| {
        let mut all = all.clone();
        for name in PLUGINS {
            if let Some(slot) = all.get_mut("plugins").and_then(|p| p.get_mut(name)?.get_mut("containerd")) {
                *slot = Value::Object(cri.clone());
            }
        }
        // The list of files that were read says nothing about what they say.
        all.as_object_mut().map(|all| all.remove("imports"));
        without_empty(all)
    };
    match whole(old, was) == whole(new, is) {
        true => Ok(()),
        false => Err("other settings changed too".to_owned()),
    }
}

/// The value without what Go would call zero values: they may be written or not.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(table) => {
            let kept = table.into_iter().map(|(key, value)| (key, without_empty(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        other => other,
    }
}
