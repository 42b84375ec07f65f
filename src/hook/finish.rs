//! What a hook that was cut off had begun is finished, from its record: by the next hook of the container, or by
//! `plimsoll repair`.

use super::Hook;
use crate::apply::{self, Snapshot};
use crate::error::{Error, Result};
use crate::kernel::group::Groups;
use crate::kernel::identity::Ladder;
use crate::plan::Plan;
use crate::record::{ContainerId, Record};

impl Hook {
    /// Applies what a record says was planned, whatever of it is done already. The values before stay those of the
    /// record.
    ///
    /// What could not be done is in the record. An error is for what cannot even be tried now: the record stays as it is.
    pub(super) fn finish(&self, id: &ContainerId, mut record: Record) -> Result<Record> {
        if record.vm.is_some() {
            self.finish_machine(id, &record)?;
            return Ok(self.store.load(id)?.unwrap_or(record));
        }
        self.apply_again(&mut record)?;
        if let Err(error) = self.store.finish(id, &mut record) {
            record.errors.push(error.to_string());
        }
        Ok(record)
    }

    fn apply_again(&self, record: &mut Record) -> Result<()> {
        // The number of a process that ended may be another's by now.
        let now = Groups::of_process(&self.roots, record.pid)?;
        if now.cpu != record.origin.cpu && now.cpu != record.groups.cpu {
            return Err(Error::invalid(
                format!("pid {} of container {}", record.pid, record.who.id),
                format!("it is in cgroup {} now", now.cpu.path),
            ));
        }
        let _lock = record.treatment.owns_cpus().then(|| self.store.lock(self.lock_budget())).transpose()?;
        let plan = Plan {
            class: record.treatment.class,
            placement: record.placement,
            rung: record.rung,
            switches: Ladder::choose(&self.roots, &record.origin.cpu, &self.wish)?.switches,
            tree: record.tree.clone(),
            writes: record.writes.iter().map(|done| done.write.clone()).collect(),
            groups: record.groups.clone(),
            lost: record.lost.clone(),
        };
        let snapshot = Snapshot::take(&plan.writes, plan.tree.as_ref())?;
        let applied = apply::apply(&plan, &snapshot, &self.roots, record.pid);
        let mut errors = applied.errors;
        if !applied.is_in_place {
            // What goes with the old place is planned from the container's state, which is not known here.
            let why = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(Error::invalid(format!("move of container {}", record.who.id), why));
        }
        for (done, after) in record.writes.iter_mut().zip(applied.after) {
            done.after = after;
        }
        errors.extend(self.share_what_is_left(record));
        record.errors = errors.iter().map(ToString::to_string).collect();
        Ok(())
    }
}
