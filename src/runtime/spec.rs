//! A bundle's `config.json`, edited as JSON values: what Plimsoll does not know stays as it is, and in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::container::bundle::{Cpu, MAX_SPEC};
use crate::container::{Edits, edits};
use crate::error::{Error, Result};
use crate::hook::Stage;
use crate::record::ContainerId;

/// How long a runtime waits for the hook, in seconds. The hook itself waits for nothing longer than its lock budget.
const TIMEOUT: u32 = 10;

/// The hook's environment: nothing of the engine's.
const ENV: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The new file's name, but for the process that writes it.
const NEW: &str = ".config.json.plimsoll-";

/// What a wrapper puts into a bundle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours<'a> {
    /// The hook's program.
    pub(crate) program: &'a Path,
    /// The configuration it is to use, where that is not the usual one.
    pub(crate) config: Option<&'a Path>,
    /// The stages it is called at.
    pub(crate) stages: &'a [Stage],
    /// The sandbox whose virtual machine the container is in.
    pub(crate) sandbox: Option<&'a ContainerId>,
}

impl Ours<'_> {
    /// The list entry of a stage.
    fn entry(&self, stage: Stage, edits: &Edits) -> Value {
        let mut args = vec![json!("plimsoll-hook"), json!(stage.name())];
        if let Some(sandbox) = self.sandbox {
            args.extend([json!("--sandbox"), json!(sandbox.as_str())]);
        }
        if let Some(config) = self.config {
            args.extend([json!("--config"), json!(config)]);
        }
        if stage.is_create() {
            args.extend([json!("--engine"), json!(edits.text())]);
        }
        json!({"path": self.program, "args": args, "env": [ENV], "timeout": TIMEOUT})
    }
}

/// A `config.json`.
#[derive(Debug)]
pub(crate) struct Spec {
    file: PathBuf,
    value: Value,
    is_changed: bool,
}

/// What has to be known of one before it is worth reading whole.
#[derive(Debug, Default, Deserialize)]
struct Glance {
    #[serde(default)]
    annotations: Option<Map<String, Value>>,
    /// What was noted by the wrapper.
    #[serde(rename = "io.plimsoll.engine", default)]
    note: Option<IgnoredAny>,
}

/// A file that was glanced at.
#[derive(Debug)]
pub(crate) struct Unread {
    file: PathBuf,
    text: Vec<u8>,
    /// Its annotations.
    pub(crate) annotations: Vec<(String, String)>,
    /// Whether the wrapper has been here before.
    pub(crate) is_edited: bool,
}

impl Unread {
    /// Reads the file.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let open = File::open(file).map_err(|e| Error::os("read", file, &e))?;
        let mut text = Vec::with_capacity(32 * 1024);
        open.take(MAX_SPEC + 1).read_to_end(&mut text).map_err(|e| Error::os("read", file, &e))?;
        if text.len() as u64 > MAX_SPEC {
            return Err(Error::invalid(file.display().to_string(), format!("longer than {MAX_SPEC} bytes")));
        }
        let glance: Glance = serde_json::from_slice(&text).map_err(|e| not_a_spec(file, &e.to_string()))?;
        let string = |(key, value): (String, Value)| match value {
            Value::String(text) => Ok((key, text)),
            _ => Err(not_a_spec(file, &format!("annotation {key} is not a string"))),
        };
        let annotations = glance.annotations.unwrap_or_default().into_iter().map(string);
        Ok(Self {
            annotations: annotations.collect::<Result<_>>()?,
            is_edited: glance.note.is_some(),
            file: file.to_owned(),
            text,
        })
    }

    /// Reads all of it, and takes out what the wrapper put in when it was here before.
    pub(crate) fn read(self, ours: &Ours<'_>) -> Result<Spec> {
        let value = serde_json::from_slice(&self.text);
        let value: Value = value.map_err(|e| not_a_spec(&self.file, &e.to_string()))?;
        let mut spec = Spec { value, file: self.file, is_changed: false };
        if self.is_edited {
            spec.undo(ours.program)?;
        }
        Ok(spec)
    }
}

fn not_a_spec(file: &Path, why: &str) -> Error {
    Error::invalid(file.display().to_string(), format!("not an OCI config.json: {why}"))
}

/// Whether an entry of a list of hooks is the wrapper's.
fn is_own(entry: &Value, hook: &Path) -> bool {
    entry.get("path").and_then(Value::as_str).is_some_and(|path| Path::new(path) == hook)
}

impl Spec {
    /// `linux.cgroupsPath`; none where it is empty.
    pub(crate) fn cgroups_path(&self) -> Option<&str> {
        self.value.pointer(edits::CGROUPS_PATH)?.as_str().filter(|path| !path.is_empty())
    }

    /// `linux.resources.cpu`.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        match self.value.pointer("/linux/resources/cpu") {
            None | Some(Value::Null) => Ok(Cpu::default()),
            Some(cpu) => Cpu::deserialize(cpu).map_err(|e| not_a_spec(&self.file, &e.to_string())),
        }
    }

    /// The value at a JSON pointer; none where it is null.
    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    /// Puts a value at a JSON pointer, or takes away what is there, and notes what was. Objects on the way to a value are
    /// made.
    pub(crate) fn set(&mut self, pointer: &str, value: Option<Value>, edits: &mut Edits) -> Result<()> {
        edits.note(pointer, self.get(pointer).cloned());
        self.put(pointer, value)
    }

    fn put(&mut self, pointer: &str, value: Option<Value>) -> Result<()> {
        self.is_changed = true;
        edits::put(&mut self.value, pointer, value).map_err(|e| not_a_spec(&self.file, &e.to_string()))
    }

    /// Puts the hook at the end of each stage's list: after the engine's own, so that its values stand.
    pub(crate) fn add_hooks(&mut self, ours: &Ours<'_>, edits: &Edits) -> Result<()> {
        self.is_changed = true;
        for stage in ours.stages {
            let no_object = |e: Error| not_a_spec(&self.file, &e.to_string());
            let spec = edits::object(&mut self.value, "the whole").map_err(no_object)?;
            let hooks = spec.entry("hooks").or_insert(Value::Null);
            let stages = edits::object(hooks, "hooks").map_err(no_object)?;
            let list = stages.entry(stage.name()).or_insert(Value::Null);
            if list.is_null() {
                *list = json!([]);
            }
            let list = list.as_array_mut();
            let what = || not_a_spec(&self.file, &format!("hooks.{} is not a list", stage.name()));
            let list = list.ok_or_else(what)?;
            // It may be configured for every container, too.
            list.retain(|entry| !is_own(entry, ours.program));
            list.push(ours.entry(*stage, edits));
        }
        Ok(())
    }

    /// Takes out the wrapper's hooks, also where they are configured for every container: it does their work itself.
    pub(crate) fn remove_hooks(&mut self, hook: &Path) {
        for stage in Stage::ALL {
            let list = self.value.get_mut("hooks").and_then(|hooks| hooks.get_mut(stage.name()));
            let Some(list) = list.and_then(Value::as_array_mut) else { continue };
            let before = list.len();
            list.retain(|entry| !is_own(entry, hook));
            self.is_changed |= list.len() != before;
        }
    }

    /// Notes what was changed, for the next visit.
    pub(crate) fn note(&mut self, edits: &Edits) -> Result<()> {
        self.is_changed = true;
        edits.leave(&mut self.value).map_err(|e| not_a_spec(&self.file, &e.to_string()))
    }

    /// Takes out the hooks, and puts back what was there before the wrapper's last visit.
    fn undo(&mut self, hook: &Path) -> Result<()> {
        self.remove_hooks(hook);
        self.is_changed |=
            edits::undo(&mut self.value).map_err(|e| not_a_spec(&self.file, &e.to_string()))?;
        Ok(())
    }

    /// Writes the file: whole or not at all, with the mode and the owner it had. A link stays one.
    pub(crate) fn write(&self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.value).map_err(|e| not_a_spec(&self.file, &e.to_string()))?;
        let file = fs::canonicalize(&self.file).map_err(|e| Error::os("read", &self.file, &e))?;
        remove_left_behind(&file);
        let new = file.with_file_name(format!("{NEW}{}", std::process::id()));
        let written = write_new(&file, &new, &text);
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// Removes what a wrapper that was killed left beside the file. Two at once in one bundle are no engine's doing; then
/// the one whose file is gone fails, and no file is ever torn.
fn remove_left_behind(file: &Path) {
    let Some(entries) = file.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(NEW.as_bytes())) {
        let _ = fs::remove_file(entry.path());
    }
}

fn write_new(file: &Path, new: &Path, text: &[u8]) -> Result<()> {
    let meta = fs::metadata(file).map_err(|e| Error::os("read", file, &e))?;
    let fail = |op: &'static str| move |e: std::io::Error| Error::os(op, new, &e);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(meta.mode() & 0o7777)
        .open(new)
        .map_err(fail("make"))?;
    out.write_all(text).map_err(fail("write"))?;
    let made = out.metadata().map_err(fail("read"))?;
    if (made.uid(), made.gid()) != (meta.uid(), meta.gid()) {
        fchown(&out, Some(meta.uid()), Some(meta.gid())).map_err(fail("give the owner of config.json to"))?;
    }
    if made.mode() != meta.mode() {
        out.set_permissions(meta.permissions()).map_err(fail("give the mode of config.json to"))?;
    }
    fs::rename(new, file).map_err(|e| Error::os("replace", file, &e))
}

#[cfg(test)]
mod tests;
