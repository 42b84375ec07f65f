//! What systemd has to be told of its own units, since it would undo it otherwise.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::Version;
use crate::kernel::group::Group;

/// Where systemd is PID 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// A hook's environment names no folders; on a system without this link to `/usr/bin` it is the same file.
const SYSTEMCTL: &str = "/bin/systemctl";

/// Has systemd know the CPUs of a slice of its own, so that they last; does nothing for any other group.
///
/// On cgroup v2 systemd writes `cpuset.cpus` of a slice anew, from the property `AllowedCPUs=`, when the first unit below
/// it delegates the controller: so when Kata makes the scope of a virtual machine. The empty set is no limit.
///
/// # Errors
///
/// systemd cannot be told, or refuses.
pub fn allow_cpus(group: &Group, cpus: &CpuSet) -> Result<()> {
    let unit = group.name();
    let is_unit = group.version == Version::V2
        && group.mount.starts_with("/sys/fs/cgroup")
        && Path::new(unit).extension().is_some_and(|kind| kind == "slice");
    if !is_unit || !Path::new(BOOTED).exists() {
        return Ok(());
    }
    let property = format!("AllowedCPUs={cpus}");
    call(unit, &property, &["set-property", "--runtime", "--", unit, &property])?;
    // It answers before it has written anything, and nobody's next question before it has.
    call(unit, &property, &["show", "--property=AllowedCPUs", "--", unit])
}

fn call(unit: &str, property: &str, args: &[&str]) -> Result<()> {
    let program = Path::new(SYSTEMCTL);
    let told = Command::new(program).args(args).stdin(Stdio::null()).output();
    let told = told.map_err(|e| Error::os("execute", program, &e))?;
    if told.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&told.stderr);
    Err(Error::invalid(format!("{property} of {unit}"), format!("systemctl: {}", said.trim()))
        .hint("systemd may give the slice all CPUs again"))
}
