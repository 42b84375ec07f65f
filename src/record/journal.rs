//! What a shared group said before Plimsoll first wrote to it, kept until it is put back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use super::store::{read_json, remove_file, write_json};
use crate::error::Result;
use crate::kernel::control::{Knob, Value};
use crate::kernel::group::Group;

/// The values before. A group's journal is written before its first change and never overwritten: the first values
/// are the ones to put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The group.
    pub group: Group,
    /// What its files said.
    pub before: Vec<(Knob, Value)>,
}

impl Store {
    fn journal_path(&self, group: &Group) -> PathBuf {
        self.dir().join("groups").join(format!("{:016x}.json", hash(&group.dir().to_string_lossy())))
    }

    /// The journal of a group.
    pub fn journal(&self, group: &Group) -> Result<Option<Journal>> {
        let journal = read_json::<Journal>(&self.journal_path(group))?;
        Ok(journal.filter(|journal| journal.group == *group))
    }

    /// Adds what is not yet in the group's journal.
    pub fn add_to_journal(&self, group: &Group, before: &[(Knob, Value)]) -> Result<()> {
        let mut journal = self
            .journal(group)
            .unwrap_or_default()
            .unwrap_or_else(|| Journal { group: group.clone(), before: Vec::new() });
        let new: Vec<_> =
            before.iter().filter(|(knob, _)| !journal.before.iter().any(|(k, _)| k == knob)).collect();
        if new.is_empty() {
            return Ok(());
        }
        journal.before.extend(new.into_iter().cloned());
        write_json(&self.journal_path(group), &journal)
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

/// FNV-1a, 64 bits: cgroup paths are longer than file names may be.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
