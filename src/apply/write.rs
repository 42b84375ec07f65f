//! One write: done, retried once where the kernel's answer calls for it, and read back.

use nix::errno::Errno;

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::fs;
use crate::kernel::group::Group;
use crate::kernel::systemd;

/// Writes a value; where the kernel refuses it and there is an answer to that, writes the answer, once. Returns the
/// value that was accepted.
pub(super) fn write(group: &Group, knob: Knob, value: &Value, fallback: Option<&Value>) -> Result<Value> {
    if !knob.accepts(value) {
        return Err(Error::invalid(
            format!("{knob} of {}", group.dir().display()),
            format!("{value} is outside what the kernel takes"),
        ));
    }
    // Before the write: systemd may take the file away and bring it back.
    let told = match (knob, value) {
        (Knob::Cpus, Value::Set(cpus)) => systemd::allow_cpus(group, cpus),
        _ => Ok(()),
    };
    let error = match group.write(knob, value) {
        Ok(()) => return told.map(|()| value.clone()),
        Err(error) => error,
    };
    match second_try(group, knob, value, fallback, &error) {
        Some(second) if second != *value => match group.write(knob, &second) {
            Ok(()) => Ok(second),
            Err(_) => Err(explain(group, knob, error)),
        },
        _ => Err(explain(group, knob, error)),
    }
}

/// What to write instead after a refusal.
fn second_try(
    group: &Group,
    knob: Knob,
    value: &Value,
    fallback: Option<&Value>,
    error: &Error,
) -> Option<Value> {
    let refused =
        matches!(error.as_errno(), Some(Errno::EINVAL | Errno::ERANGE | Errno::EACCES | Errno::ENOSPC));
    if !refused {
        return None;
    }
    match knob {
        // Somebody lowered the quota after it was read.
        Knob::Burst => {
            let quota = group.read(Knob::Quota).ok()??.int()?;
            (quota > 0).then(|| Value::Int(value.int().unwrap_or(0).min(quota)))
        }
        // cgroup v2 does not clear the list of a group with processes: what an empty one stands for says the same.
        Knob::Cpus if value.set().is_some_and(CpuSet::is_empty) => {
            let text = fs::read(&group.parent()?.dir().join("cpuset.cpus.effective")).ok()?;
            knob.parse(group.version, &text).ok()
        }
        // Somebody shrank the parent after it was read.
        Knob::Cpus => {
            let parent = group.parent()?.read(Knob::Cpus).ok()??;
            let fits = value.set()?.intersection(parent.set()?);
            (!fits.is_empty()).then_some(Value::Set(fits))
        }
        _ => fallback.cloned(),
    }
}

fn explain(group: &Group, knob: Knob, error: Error) -> Error {
    let hint = match (knob, error.as_errno()) {
        (Knob::Shares | Knob::Weight, Some(Errno::EINVAL)) => {
            "the group is idle (cpu.idle = 1): its weight cannot be written until it is not"
        }
        (Knob::Burst, Some(Errno::EINVAL)) => "this kernel takes no burst above the quota",
        (Knob::Quota, Some(Errno::EINVAL)) => {
            "the quota must hold the burst, and on cgroup v1 fit into the parent's"
        }
        (Knob::Cpus, Some(Errno::EACCES)) => "the CPUs are not all in the parent group's cpuset",
        (Knob::Cpus, Some(Errno::EBUSY)) => "a group below still has some of these CPUs",
        (Knob::QosLevel, Some(Errno::EINVAL)) => "this kernel never takes an offline group back",
        (Knob::MemoryLimit, Some(Errno::EBUSY)) => "more memory than that is in use",
        (_, Some(Errno::ENOENT)) if group.exists() => {
            "the group has no such file: the one above does not give it the controller (cgroup.subtree_control)"
        }
        (_, Some(Errno::ENOENT | Errno::ENODEV)) => "the cgroup vanished; was the container removed?",
        (_, Some(Errno::EROFS)) => "the cgroup file system is mounted read-only here",
        (_, Some(Errno::EACCES | Errno::EPERM)) => "the hook must run as root in the host's namespaces",
        _ => return error,
    };
    error.hint(hint)
}

/// Reads a written value back; `Ok(None)` where it is as wanted, else what the kernel has in its place.
pub fn differs(group: &Group, knob: Knob, wanted: &Value) -> Result<Option<Value>> {
    let Some(found) = group.read(knob)? else {
        return Err(Error::invalid(
            format!("{knob} of {}", group.dir().display()),
            "the control file is missing",
        ));
    };
    if !knob.reads_back_as(wanted, &found) {
        return Ok(Some(found));
    }
    if knob == Knob::Cpus && group.version == Version::V2 && wanted.set().is_some_and(|set| !set.is_empty()) {
        // cgroup v2 takes any list and silently uses what the parent has of it.
        let path = group.dir().join("cpuset.cpus.effective");
        if let Some(text) = fs::read_if_there(&path)? {
            let effective = knob.parse(Version::V2, &text)?;
            return Ok((effective != *wanted).then_some(effective));
        }
    }
    if knob == Knob::BvtWarp && !group.has(Knob::Priority) {
        return Ok(identity_flags_differ(group, wanted)?.then_some(found));
    }
    Ok(None)
}

/// A `cpu.identity` written by hand does not show in `cpu.bvt_warp_ns` (Group Identity 1).
fn identity_flags_differ(group: &Group, bvt: &Value) -> Result<bool> {
    let Some(text) = fs::read_if_there(&group.dir().join("cpu.identity"))? else {
        return Ok(false);
    };
    let flags = match bvt.int() {
        Some(2) => 22,
        Some(1) => 18,
        Some(0) => 0,
        _ => 9,
    };
    Ok(text.trim().parse::<i64>().is_ok_and(|found| found != flags))
}
