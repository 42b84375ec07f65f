//! What can be found out about this node without writing anything.

use std::os::unix::fs::MetadataExt;

use crate::container::kube::Driver;
use crate::kernel::control::{Knob, Version};
use crate::kernel::fs::{self, Roots};
use crate::kernel::group::{Group, Groups};

/// How many groups are looked at for one that has the files wanted.
const MAX_LOOKS: usize = 500;

/// Whether this process may write cgroups.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The group itself, or the nearest one above it that is there.
pub(super) fn nearest(group: &Group) -> Option<Group> {
    let mut group = group.clone();
    while !group.exists() {
        group = group.parent()?;
    }
    Some(group)
}

/// A group whose files tell what this kernel gives a group at this place; none where no group has the `cpu`
/// controller yet (cgroup v2, whose root group has no such files).
pub(super) fn sample(cpu: &Group) -> Option<Group> {
    let mut above = nearest(cpu);
    while let Some(group) = above {
        // The root of v1 has every file the others have; that of v2 has none.
        if group.has(Knob::Quota) {
            return Some(group);
        }
        above = group.parent();
    }
    let mut todo = vec![cpu.at("/")];
    let mut looks = 0;
    while let Some(group) = todo.pop() {
        looks += 1;
        if looks > MAX_LOOKS {
            break;
        }
        if group.has(Knob::Quota) {
            return Some(group);
        }
        todo.extend(group.children());
    }
    None
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

/// The path of a systemd unit from `linux.cgroupsPath` in the form `slice:prefix:name`, as runc expands it; `None`
/// where the text has another form.
pub(super) fn systemd_path(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, ':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let mut path = String::new();
    // `a-b.slice` lies in `a.slice`; `-.slice` is the root.
    if let Some(stem) = slice.strip_suffix(".slice").filter(|stem| *stem != "-") {
        for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            path.push_str(&format!("/{}.slice", stem.get(..at)?));
        }
    }
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(format!("{path}/{unit}"))
}

/// The name of a group's hierarchy: `cpu (v1)`, `unified (v2)`.
pub(super) fn hierarchy(group: &Group) -> String {
    format!("cgroup {} at {}", group.version, group.mount.display())
}

/// Whether the hierarchy is v2.
pub(super) fn is_v2(group: &Group) -> bool {
    group.version == Version::V2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_units_lie_where_systemd_puts_them() {
        for (text, path) in [
            (
                "kubepods-burstable-pod1_2.slice:cri-containerd:abc",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-abc.scope",
            ),
            ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
            (":libpod:abc", "/system.slice/libpod-abc.scope"),
            ("-.slice:x:abc", "/x-abc.scope"),
            ("machine.slice::abc", "/machine.slice/abc.scope"),
        ] {
            assert_eq!(systemd_path(text).as_deref(), Some(path), "{text}");
        }
        assert_eq!(systemd_path("/a/b"), None);
    }
}
