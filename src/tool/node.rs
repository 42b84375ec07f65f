//! What can be found out about this node without writing anything.

use std::os::unix::fs::MetadataExt;

use crate::container::kube::Driver;
use crate::kernel::control::Version;
use crate::kernel::fs::{self, Roots};
use crate::kernel::group::{Group, Groups};

/// Whether this process may write cgroups.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// How kubelet names the groups of pods here, and what says so.
pub(super) fn driver(roots: &Roots, top: &Groups) -> (Driver, String) {
    for (name, driver) in [("kubepods.slice", Driver::Systemd), ("kubepods", Driver::Cgroupfs)] {
        let group = top.cpu.child(name);
        if group.exists() {
            return (driver, format!("{} is there", group.dir().display()));
        }
    }
    let kubelet = "/var/lib/kubelet/config.yaml";
    let text = fs::read_if_there(&roots.path(kubelet)).ok().flatten().unwrap_or_default();
    let set = text.lines().find_map(|line| line.strip_prefix("cgroupDriver:"));
    match set.map(|value| value.trim().trim_matches('"')) {
        Some("systemd") => return (Driver::Systemd, format!("{kubelet} says so")),
        Some("cgroupfs") => return (Driver::Cgroupfs, format!("{kubelet} says so")),
        _ => {}
    }
    match roots.path("/run/systemd/system").exists() {
        true => (Driver::Systemd, "no kubelet was found here; systemd runs this node".to_owned()),
        false => (Driver::Cgroupfs, "no kubelet was found here, and no systemd".to_owned()),
    }
}

/// The driver's name as kubelet writes it.
pub(super) fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Cgroupfs => "cgroupfs",
        Driver::Systemd => "systemd",
    }
}

/// The name of a group's hierarchy: `cpu (v1)`, `unified (v2)`.
pub(super) fn hierarchy(group: &Group) -> String {
    format!("cgroup {} at {}", group.version, group.mount.display())
}

/// Whether the hierarchy is v2.
pub(super) fn is_v2(group: &Group) -> bool {
    group.version == Version::V2
}
