//! A treated container as it is now: each write of its record, and what the file says today.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::record;
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value};
use crate::plan::{Level, Write};
use crate::record::{Phase, Record};

/// How one file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileState {
    /// As planned, or as the shared pool wants it by now.
    Holds,
    /// Somebody changed it.
    Drift,
    /// To be written when a virtual machine has the group, or its guest has answered.
    ToCome,
    /// The kernel never took the planned value; the record's errors say why.
    NotGiven,
    /// A group of others, which has its own reasons to change.
    Theirs,
    /// The group or the file is not there any more.
    Gone,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) write: Write,
    /// What it said before.
    pub(super) before: Option<Value>,
    /// What it says.
    pub(super) now: Option<Value>,
    /// What it should say by now, where that is not the plan.
    pub(super) wanted: Option<Value>,
    pub(super) state: FileState,
}

/// How the container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Everything is as it should be.
    Ok,
    /// Some files were changed.
    Drift,
    /// Something could not be given at the start.
    Degraded,
    /// The hook was cut off, or is at work.
    Applying,
    /// The container is gone, and its record is left.
    Gone,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Drift => "drift",
            Self::Degraded => "degraded",
            Self::Applying => "applying",
            Self::Gone => "gone",
        }
    }
}

/// The container as it is now.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) files: Vec<File>,
    pub(super) state: State,
    /// What could not be looked at.
    pub(super) trouble: Option<String>,
}

impl Seen {
    /// Looks at every file of a record.
    pub(super) fn look(hook: &Hook, record: &Record) -> Self {
        let is_live = record.is_live();
        let (drift, trouble) = match hook.drift(record) {
            Ok(drift) => (drift, None),
            Err(error) => (Vec::new(), is_live.then(|| error.to_string())),
        };
        let mut files: Vec<File> = Vec::new();
        for done in &record.writes {
            let write = done.write.clone();
            let now = write.group.read(write.knob).ok().flatten();
            let drifted = drift.iter().find(|d| d.group == write.group && d.knob == write.knob);
            let is_to_come = record.phase == Phase::Applying && done.after.is_none();
            let state = match (&now, drifted) {
                _ if record.vm.is_some() && is_to_come && !write_holds(&write, now.as_ref()) => {
                    FileState::ToCome
                }
                (None, _) => FileState::Gone,
                (_, Some(_)) => FileState::Drift,
                _ if matches!(write.level, Level::Neighbour | Level::KubeQos) => FileState::Theirs,
                _ if !done.holds() && record.phase != Phase::Applying => FileState::NotGiven,
                (Some(now), _) if done.holds() || write.knob.reads_back_as(&write.value, now) => {
                    FileState::Holds
                }
                _ => FileState::NotGiven,
            };
            let wanted = drifted.map(|d| d.value.clone()).filter(|value| *value != write.value);
            files.push(File { write, before: done.before.clone(), now, wanted, state });
        }
        // A shared pool that shrank later has no write of its own in the record.
        for write in drift {
            if !files.iter().any(|file| file.write.group == write.group && file.write.knob == write.knob) {
                let now = write.group.read(write.knob).ok().flatten();
                files.push(File { write, before: None, now, wanted: None, state: FileState::Drift });
            }
        }
        let any = |state| files.iter().any(|file| file.state == state);
        let state = if !is_live {
            State::Gone
        } else if record.phase == Phase::Applying {
            State::Applying
        } else if any(FileState::Drift) || any(FileState::Gone) {
            State::Drift
        } else if record.phase == Phase::Degraded {
            State::Degraded
        } else {
            State::Ok
        };
        Self { files, state, trouble }
    }

    /// The files that are not as they should be.
    pub(super) fn drifted(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| matches!(file.state, FileState::Drift | FileState::Gone))
    }

    /// The file that holds the container's identity, nearest to the container.
    pub(super) fn identity(&self, record: &Record) -> Option<&File> {
        let holds = |file: &&File| {
            record.rung.is_carried_by(file.write.knob)
                && !matches!(file.write.level, Level::Neighbour | Level::KubeQos)
                // On the lowest rung the container's own weight is the engine's, unless it is the low one.
                && (file.write.knob == record.rung.knob().unwrap_or(file.write.knob))
        };
        let treated =
            record.treatment.identity.is_some_and(|identity| identity < 0 || record.rung.is_hierarchical());
        self.files.iter().filter(|_| treated).filter(holds).max_by_key(|file| file.write.level)
    }
}

fn write_holds(write: &Write, now: Option<&Value>) -> bool {
    now.is_some_and(|now| write.knob.reads_back_as(&write.value, now))
}

impl File {
    /// For programs.
    pub(super) fn json(&self) -> Json {
        json!({
            "level": self.write.level,
            "group": self.write.group.path,
            "file": self.write.group.file(self.write.knob),
            "knob": self.write.knob,
            "planned": record::json_value(Some(&self.write.value)),
            "wanted": record::json_value(Some(self.wanted.as_ref().unwrap_or(&self.write.value))),
            "before": record::json_value(self.before.as_ref()),
            "now": record::json_value(self.now.as_ref()),
            "state": self.state,
            "why": self.write.why,
        })
    }
}

/// What a knob of the container's own group says.
pub(super) fn own(record: &Record, knob: Knob) -> Option<Value> {
    record.groups.of(knob.controller())?.read(knob).ok().flatten()
}
