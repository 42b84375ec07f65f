//! The class tree's groups: made, filled, and removed when nobody is left.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;

use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Version};
use crate::kernel::fs::{self, Roots};
use crate::kernel::group::{GONE, Group};
use crate::plan::TreeMove;

/// How often the chain of groups is made anew when another container's end removes a part of it meanwhile.
const ATTEMPTS: usize = 8;

/// Makes the groups that are missing, parents first. Those made are put into `made`.
pub fn make(groups: &[Group], made: &mut Vec<Group>) -> Result<()> {
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        result = groups.iter().try_for_each(|group| make_one(group, made));
        match &result {
            Err(error) if error.is_gone() => {}
            _ => break,
        }
    }
    result
}

fn make_one(group: &Group, made: &mut Vec<Group>) -> Result<()> {
    let dir = group.dir();
    match DirBuilder::new().mode(0o755).create(&dir) {
        Ok(()) => made.push(group.clone()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::os("make group", &dir, &e)),
    }
    // A v1 cpuset group takes no process before it has CPUs and memory nodes.
    if group.version == Version::V1 && group.has(Knob::Cpus) {
        for knob in [Knob::Cpus, Knob::Mems] {
            let is_empty =
                group.read(knob)?.is_some_and(|v| v.set().is_some_and(crate::cpuset::CpuSet::is_empty));
            if let (true, Some(parent)) = (is_empty, group.parent()) {
                if let Some(value) = parent.read(knob)? {
                    group.write(knob, &value)?;
                }
            }
        }
    }
    Ok(())
}

/// Moves a process into its groups; where one refuses, back to where it came from.
pub fn attach(tree: &TreeMove, pid: i32) -> Result<()> {
    let join = |group: &Group| fs::write(&group.dir().join("cgroup.procs"), &pid.to_string());
    for group in &tree.to {
        if let Err(error) = join(group) {
            // The process may be gone, and then there is nothing to move back.
            for origin in &tree.from {
                let _ = join(origin);
            }
            return Err(error.hint("the container stays in the engine's group"));
        }
    }
    Ok(())
}

/// Reads back where a process is: the kernel takes one that has just ended, and puts it nowhere.
pub(super) fn attached(tree: &TreeMove, roots: &Roots, pid: i32) -> Result<()> {
    if tree.to.is_empty() {
        return Ok(());
    }
    let file = roots.path(&format!("/proc/{pid}/cgroup"));
    let text = fs::read(&file).map_err(|e| if e.is_gone() { e.hint(GONE) } else { e })?;
    let is_in = |group: &&Group| {
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.into_iter().any(|path| path == group.path)
    };
    match tree.to.iter().find(|group| !is_in(group)) {
        None => Ok(()),
        Some(group) => Err(Error::invalid(
            format!("move of process {pid}"),
            format!("it is not in {} although the kernel took it", group.dir().display()),
        )
        .hint(GONE)),
    }
}

/// Removes groups that are empty, children first; those that others still use stay. Returns what is left although
/// it should not be: the groups of `leaves` that could not be removed.
pub fn remove(groups: &[Group], leaves: &[Group]) -> Vec<Error> {
    let mut errors = Vec::new();
    for group in groups.iter().rev() {
        let dir = group.dir();
        match std::fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if leaves.contains(group) => {
                errors.push(
                    Error::os("remove group", &dir, &e)
                        .hint("processes are left in it; `plimsoll repair` removes it when they are gone"),
                );
            }
            Err(_) => {}
        }
    }
    errors
}
