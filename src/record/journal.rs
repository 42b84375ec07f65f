//! What others want of a shared group, kept while Plimsoll has something there, to be put back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use super::store::{read_json, remove_file, write_json};
use crate::error::Result;
use crate::kernel::control::{Knob, Value};
use crate::kernel::group::Group;

/// What is put back when the last treated container has left a group. Written before each change, so that whoever is
/// cut off leaves it behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The group.
    pub group: Group,
    /// What others want there: what the files said before Plimsoll, or what somebody wrote since.
    pub before: Vec<(Knob, Value)>,
    /// What Plimsoll wants there, the latest last. An earlier value is kept while the file may still say it.
    #[serde(default)]
    pub ours: Vec<(Knob, Value)>,
}

/// A change that is about to be made to a shared group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The control file.
    pub knob: Knob,
    /// What it says now.
    pub now: Value,
    /// What is about to be written; `None` where the kernel changes it, or where nothing of ours is there any more.
    pub next: Option<Value>,
    /// Whether it is known that what the file says now is Plimsoll's doing.
    pub is_ours: bool,
}

impl Journal {
    /// What Plimsoll wants in a file.
    pub fn wanted(&self, knob: Knob) -> Option<&Value> {
        self.ours.iter().rev().find(|(k, _)| *k == knob).map(|(_, value)| value)
    }

    /// Whether what the file says now is Plimsoll's doing. Anything else somebody wrote, and it is theirs.
    pub fn is_ours(&self, knob: Knob, now: &Value) -> bool {
        let written = self.ours.iter().any(|(k, value)| *k == knob && value == now);
        let reset = match knob {
            // A group that leaves idle, whoever does it, has the default weight.
            Knob::Shares => *now == Value::Int(1_024),
            Knob::Weight => *now == Value::Int(100),
            _ => false,
        };
        let made_idle = || self.ours.iter().any(|(knob, value)| knob.makes_idle(value));
        written || (reset && made_idle())
    }

    fn note(&mut self, change: &Change) {
        let Change { knob, now, next, is_ours } = change;
        let is_ours = *is_ours || self.is_ours(*knob, now);
        match self.before.iter_mut().find(|(k, _)| k == knob) {
            None => self.before.push((*knob, now.clone())),
            Some((_, before)) if !is_ours => *before = now.clone(),
            Some(_) => {}
        }
        self.ours.retain(|(k, value)| k != knob || value == now);
        if change.is_ours && self.wanted(*knob) != Some(now) {
            self.ours.push((*knob, now.clone()));
        }
        self.ours.extend(next.clone().filter(|next| next != now).map(|next| (*knob, next)));
    }
}

impl Store {
    fn journal_path(&self, group: &Group) -> PathBuf {
        self.dir().join("groups").join(format!("{}.json", key(group)))
    }

    /// The journal of a group.
    pub fn journal(&self, group: &Group) -> Result<Option<Journal>> {
        let journal = read_json::<Journal>(&self.journal_path(group))?;
        Ok(journal.filter(|journal| journal.group == *group))
    }

    /// Notes changes to a group in its journal, `old`.
    pub fn note(&self, group: &Group, old: Option<&Journal>, changes: &[Change]) -> Result<()> {
        let new = || Journal { group: group.clone(), before: Vec::new(), ours: Vec::new() };
        let mut journal = old.cloned().unwrap_or_else(new);
        changes.iter().for_each(|change| journal.note(change));
        if old == Some(&journal) { Ok(()) } else { self.save_journal(&journal) }
    }

    /// Writes a journal.
    pub fn save_journal(&self, journal: &Journal) -> Result<()> {
        write_json(&self.journal_path(&journal.group), journal)
    }

    /// Forgets a group's journal.
    pub fn remove_journal(&self, group: &Group) -> Result<()> {
        remove_file(&self.journal_path(group))
    }

    /// Every journal that can be understood.
    pub fn journals(&self) -> Result<Vec<Journal>> {
        let names = self.names("groups")?;
        let whole =
            |name: &String| read_json::<Journal>(&self.dir().join("groups").join(name)).ok().flatten();
        Ok(names.iter().filter(|name| !name.starts_with('.')).filter_map(whole).collect())
    }
}

/// A group's name in Plimsoll's folders.
pub(super) fn key(group: &Group) -> String {
    format!("{:016x}", hash(&group.dir().to_string_lossy()))
}

/// FNV-1a, 64 bits: cgroup paths are longer than file names may be.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::control::Version;

    #[test]
    fn what_others_wrote_last_is_what_is_put_back() {
        let group = Group { version: Version::V1, mount: "/m".into(), path: "/p".into() };
        let mut journal = Journal { group, before: Vec::new(), ours: Vec::new() };
        let mut note = |knob, now, next: Option<i64>| {
            let (now, next) = (Value::Int(now), next.map(Value::Int));
            journal.note(&Change { knob, now, next, is_ours: false });
            journal.before.iter().find(|(k, _)| *k == knob).map(|(_, before)| before.int())
        };
        assert_eq!(note(Knob::Burst, 0, Some(50)), Some(Some(0)));
        // Ours is not what others want, and neither is the value before it, where a hook was cut off.
        assert_eq!(note(Knob::Burst, 50, Some(80)), Some(Some(0)));
        assert_eq!(note(Knob::Burst, 50, Some(90)), Some(Some(0)));
        assert_eq!(note(Knob::Burst, 7, Some(90)), Some(Some(7)));
        assert_eq!(note(Knob::Shares, 512, None), Some(Some(512)));
        assert_eq!(note(Knob::Idle, 0, Some(1)), Some(Some(0)));
        // Somebody took idle away: the weight is the kernel's default, and nobody's wish.
        assert_eq!(note(Knob::Shares, 1_024, None), Some(Some(512)));
        assert_eq!(note(Knob::Shares, 77, None), Some(Some(77)));
    }
}
