//! Control groups: where a process is, and the folder and files of a group on either hierarchy.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::control::{Controller, Knob, Value, Version};
use super::fs::{self, Roots};
use crate::error::{Error, Result};

/// What to say of a process that is not there any more.
pub const GONE: &str = "the process is gone; it ended before the hook could place it";

/// One group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// The hierarchy's version.
    pub version: Version,
    /// The hierarchy's mount point.
    pub mount: PathBuf,
    /// The group's path below the mount point; starts with `/`, `/` is the root group.
    pub path: String,
}

impl Group {
    /// The group's folder.
    pub fn dir(&self) -> PathBuf {
        self.mount.join(self.path.trim_start_matches('/'))
    }

    /// Another group of the same hierarchy.
    #[must_use]
    pub fn at(&self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self.clone() }
    }

    /// The group this one is in; none for the root group.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let (parent, _) = self.path.rsplit_once('/')?;
        Some(self.at(if parent.is_empty() { "/" } else { parent }))
    }

    /// A group right below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        self.at(format!("{}/{name}", self.path.trim_end_matches('/')))
    }

    /// Whether this is the hierarchy's root group, where no knob may be written.
    pub fn is_root(&self) -> bool {
        self.path.trim_end_matches('/').is_empty()
    }

    /// The last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the group is there.
    pub fn exists(&self) -> bool {
        self.dir().join("cgroup.procs").exists()
    }

    /// The knob's file in this group; none where this version has no such file.
    pub fn file(&self, knob: Knob) -> Option<PathBuf> {
        knob.file(self.version).map(|name| self.dir().join(name))
    }

    /// Whether this kernel gives the group that knob.
    pub fn has(&self, knob: Knob) -> bool {
        self.file(knob).is_some_and(|path| path.exists())
    }

    /// Reads a knob; `None` where this kernel has no such file, an error where the group itself is gone.
    pub fn read(&self, knob: Knob) -> Result<Option<Value>> {
        let Some(path) = self.file(knob) else {
            return Ok(None);
        };
        match fs::read_if_there(&path)? {
            Some(text) => knob.parse(self.version, &text).map(Some),
            None if self.exists() => Ok(None),
            None => Err(self.gone(&path)),
        }
    }

    /// Writes a knob. Order rules are the caller's (`apply`).
    pub fn write(&self, knob: Knob, value: &Value) -> Result<()> {
        let path = self.file(knob).ok_or_else(|| {
            Error::invalid(
                format!("{knob} of {}", self.dir().display()),
                format!("cgroup {} has no such control file", self.version),
            )
        })?;
        if (knob, self.version) == (Knob::Period, Version::V2) {
            // A lone number in `cpu.max` would be the quota.
            let quota = self.read(Knob::Quota)?.unwrap_or(Value::Int(-1));
            let quota = Knob::Quota.print(self.version, &quota);
            return fs::write(&path, &format!("{quota} {value}"));
        }
        fs::write(&path, &knob.print(self.version, value))
    }

    /// The groups right below this one; a group that is gone has none.
    pub fn children(&self) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(self.dir()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .map(|name| self.child(&name))
            .collect()
    }

    /// The processes in the group itself.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let text = fs::read(&self.dir().join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn gone(&self, path: &Path) -> Error {
        Error::errno("read", path, nix::errno::Errno::ENOENT)
            .hint("the cgroup vanished; was the container removed?")
    }
}

/// A container's or pod's group in every hierarchy that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The group with the `cpu` controller.
    pub cpu: Group,
    /// The group with the `cpuset` controller, where it is mounted.
    pub cpuset: Option<Group>,
    /// The group with the `memory` controller, where it is mounted.
    pub memory: Option<Group>,
}

impl Groups {
    /// The group a controller is in.
    pub fn of(&self, controller: Controller) -> Option<&Group> {
        match controller {
            Controller::Cpu => Some(&self.cpu),
            Controller::Cpuset => self.cpuset.as_ref(),
            Controller::Memory => self.memory.as_ref(),
        }
    }

    /// The same hierarchies at other paths.
    pub fn map(&self, path: impl Fn(&Group) -> Option<Group>) -> Option<Self> {
        Some(Self {
            cpu: path(&self.cpu)?,
            cpuset: self.cpuset.as_ref().and_then(&path),
            memory: self.memory.as_ref().and_then(&path),
        })
    }

    /// The groups a process is in, from `/proc/<pid>/cgroup` (cgroups(7)).
    pub fn of_process(roots: &Roots, pid: i32) -> Result<Self> {
        let file = roots.path(&format!("/proc/{pid}/cgroup"));
        let text = fs::read(&file).map_err(|e| match e.is_gone() {
            true => e.hint(GONE),
            false => e,
        })?;
        Self::find(roots, &Membership::parse(&text), &file)
    }

    /// The root group of every hierarchy that matters.
    pub fn top(roots: &Roots) -> Result<Self> {
        let file = roots.path("/proc/self/cgroup");
        let text = fs::read(&file)?;
        let mut membership = Membership::parse(&text);
        for (_, path) in &mut membership.lines {
            *path = "/";
        }
        Self::find(roots, &membership, &file)
    }

    fn find(roots: &Roots, membership: &Membership<'_>, file: &Path) -> Result<Self> {
        let find = |controller: Controller| membership.find(roots, controller);
        let cpu = find(Controller::Cpu)?.ok_or_else(|| {
            Error::invalid(file.display().to_string(), "no hierarchy with the cpu controller")
                .hint("mount cgroup v2, or the v1 cpu controller")
        })?;
        Ok(Self { cpu, cpuset: find(Controller::Cpuset)?, memory: find(Controller::Memory)? })
    }
}

/// The lines of `/proc/<pid>/cgroup`: `id:controllers:path`.
struct Membership<'a> {
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Membership<'a> {
    fn parse(text: &'a str) -> Self {
        let lines = text
            .lines()
            .filter_map(|line| {
                let (_, rest) = line.split_once(':')?;
                rest.split_once(':')
            })
            .collect();
        Self { lines }
    }

    /// The group of a controller: its v1 line where it has one, else the unified hierarchy's.
    fn find(&self, roots: &Roots, controller: Controller) -> Result<Option<Group>> {
        let v1 = self.lines.iter().find(|(names, _)| names.split(',').any(|name| name == controller.name()));
        let unified = || self.lines.iter().find(|(names, _)| names.is_empty());
        let (version, names, path) = match v1 {
            Some((names, path)) => (Version::V1, *names, *path),
            None => match unified() {
                Some((_, path)) => (Version::V2, "", *path),
                None => return Ok(None),
            },
        };
        if path.starts_with("/..") {
            return Err(Error::invalid(
                format!("cgroup path {path:?}"),
                "it is outside this process's cgroup namespace",
            )
            .hint("run the hook in the host's cgroup namespace"));
        }
        let group = mount_of(roots, version, names, controller, path).map(|mount| Group {
            version,
            mount,
            path: path.to_owned(),
        });
        Ok(group)
    }
}

/// The mount point under which the group is found: the usual places first, then the mount table.
fn mount_of(
    roots: &Roots,
    version: Version,
    names: &str,
    controller: Controller,
    path: &str,
) -> Option<PathBuf> {
    let base = roots.cgroup();
    let holds = |mount: &Path| {
        let dir = mount.join(path.trim_start_matches('/'));
        match version {
            Version::V1 => dir.join("cgroup.procs").exists(),
            // A v2 group is of use only where the controller is enabled for it.
            Version::V2 => {
                dir.join("cgroup.procs").exists()
                    && fs::read(&dir.join("cgroup.controllers"))
                        .is_ok_and(|text| text.split(' ').any(|name| name == controller.name()))
            }
        }
    };
    let usual = match version {
        Version::V1 => vec![base.join(names), base.join(controller.name())],
        Version::V2 => vec![base.clone(), base.join("unified")],
    };
    usual
        .into_iter()
        .find(|mount| holds(mount))
        .or_else(|| mounted(roots, version, controller).into_iter().find(|mount| holds(mount)))
}

/// The mount points of a hierarchy in the mount table.
fn mounted(roots: &Roots, version: Version, controller: Controller) -> Vec<PathBuf> {
    let fits = |found: Version, options: &str| {
        found == version && (found == Version::V2 || options.split(',').any(|name| name == controller.name()))
    };
    mount_table(roots).into_iter().filter(|(v, _, options)| fits(*v, options)).map(|(_, at, _)| at).collect()
}

/// The root group of every hierarchy that is mounted, those without a controller that matters too: a runtime makes a
/// container's group in each.
pub fn hierarchies(roots: &Roots) -> Vec<Group> {
    let group = |(version, mount, _)| Group { version, mount, path: "/".to_owned() };
    mount_table(roots).into_iter().map(group).collect()
}

/// The hierarchies in the mount table, with their options (proc_pid_mountinfo(5)).
fn mount_table(roots: &Roots) -> Vec<(Version, PathBuf, String)> {
    let table = fs::read(&roots.path("/proc/self/mountinfo")).unwrap_or_default();
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mount = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some((version, roots.path(mount), right.nth(1)?.to_owned()))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn finds_a_process_on_v1_with_joined_controllers() {
        let dir = tree(&[
            ("proc/7/cgroup", "4:memory:/a/b\n3:cpu,cpuacct:/a/b\n2:cpuset:/a\n1:name=systemd:/x\n0::/y\n"),
            ("sys/fs/cgroup/cpu,cpuacct/a/b/cgroup.procs", ""),
            ("sys/fs/cgroup/cpuset/a/cgroup.procs", ""),
            ("sys/fs/cgroup/memory/a/b/cgroup.procs", ""),
        ]);
        let groups = Groups::of_process(&Roots::at(dir.path()), 7).unwrap();
        assert_eq!(groups.cpu.dir(), dir.path().join("sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!(groups.cpu.version, Version::V1);
        assert_eq!(groups.cpuset.unwrap().path, "/a");
        assert_eq!(groups.memory.unwrap().path, "/a/b");
    }

    #[test]
    fn a_hybrid_node_has_each_controller_where_it_is_bound() {
        let dir = tree(&[
            ("proc/7/cgroup", "3:cpu:/a\n0::/a\n"),
            ("sys/fs/cgroup/cpu/a/cgroup.procs", ""),
            ("sys/fs/cgroup/unified/a/cgroup.procs", ""),
            ("sys/fs/cgroup/unified/a/cgroup.controllers", "cpuset hugetlb\n"),
        ]);
        let groups = Groups::of_process(&Roots::at(dir.path()), 7).unwrap();
        assert_eq!(groups.cpu.version, Version::V1);
        assert_eq!(groups.cpuset.unwrap().version, Version::V2);
        assert_eq!(groups.memory, None);
    }

    #[test]
    fn an_unusual_mount_point_is_found_in_the_mount_table() {
        let dir = tree(&[
            ("proc/7/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", "30 20 0:26 / /cg rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"),
            ("cg/a/cgroup.procs", ""),
            ("cg/a/cgroup.controllers", "cpuset cpu memory\n"),
        ]);
        let groups = Groups::of_process(&Roots::at(dir.path()), 7).unwrap();
        assert_eq!(groups.cpu.dir(), dir.path().join("cg/a"));
    }

    #[test]
    fn says_what_is_missing() {
        let dir = tree(&[("proc/7/cgroup", "1:name=systemd:/x\n"), ("proc/8/cgroup", "0::/../b\n")]);
        let roots = Roots::at(dir.path());
        let error = |pid| Groups::of_process(&roots, pid).unwrap_err().to_string();
        assert!(error(7).contains("no hierarchy with the cpu controller"), "{}", error(7));
        assert!(error(8).contains("cgroup namespace"), "{}", error(8));
        assert!(error(9).contains("the process is gone"), "{}", error(9));
    }

    #[test]
    fn a_period_of_v2_is_written_with_the_quota_that_is_there() {
        for (before, after) in [("50000 100000\n", "50000 20000"), ("max 100000\n", "max 20000")] {
            let dir = tree(&[("a/cpu.max", before)]);
            let group = Group { version: Version::V2, mount: dir.path().into(), path: "/a".into() };
            group.write(Knob::Period, &Value::Int(20_000)).unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join("a/cpu.max")).unwrap(), after);
        }
    }

    #[test]
    fn parents_and_children() {
        let group = Group { version: Version::V1, mount: "/m".into(), path: "/a/b".into() };
        assert_eq!(group.parent().unwrap().path, "/a");
        let root = group.parent().unwrap().parent().unwrap();
        assert!(root.is_root() && root.parent().is_none());
        assert_eq!(root.child("x").path, "/x");
        assert_eq!(group.child("x").dir(), Path::new("/m/a/b/x"));
        assert_eq!(group.name(), "b");
    }
}
