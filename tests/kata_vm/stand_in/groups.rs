//! Control groups as Kata makes, fills and removes them: on v1 in every hierarchy, on v2 with those
//! controllers that the runtime in question gives away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::cgroup::{self, Hierarchy};

/// A group, which may be a unit of systemd's.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its path in every hierarchy.
    pub path: String,
    unit: Option<(String, String)>,
    /// The controllers that groups above give away for it on v2; all where there are none.
    only: Option<&'static [&'static str]>,
}

impl Group {
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), unit: None, only: None }
    }

    /// The same with these controllers alone.
    pub fn with(self, only: &'static [&'static str]) -> Self {
        Self { only: Some(only), ..self }
    }

    /// A transient scope in a slice.
    pub fn scope(slice: &str, unit: &str) -> Self {
        let path = slice_path(slice);
        Self { path: format!("{path}/{unit}"), unit: Some((slice.to_owned(), unit.to_owned())), only: None }
    }

    /// Makes it and puts this process into it where that is one step: systemd makes no scope without a process.
    pub fn make(&self) -> Result<(), String> {
        if let Some((slice, unit)) = &self.unit {
            return self.make_scope(slice, unit);
        }
        for hierarchy in hierarchies() {
            let mut path = String::new();
            for name in self.path.split('/').filter(|name| !name.is_empty()) {
                let parent = hierarchy.dir(&path);
                if hierarchy.v2 {
                    give_controllers(&parent, self.only)?;
                }
                path = format!("{path}/{name}");
                match fs::create_dir(hierarchy.dir(&path)) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(format!("mkdir {path}: {e}"));
                    }
                    _ => {}
                }
                if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                    inherit_cpus(&parent, &hierarchy.dir(&path))?;
                }
            }
        }
        Ok(())
    }

    fn make_scope(&self, slice: &str, unit: &str) -> Result<(), String> {
        let pid = std::process::id().to_string();
        let call = [
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            unit,
            "replace",
            "4",
            "PIDs",
            "au",
            "1",
            &pid,
            "Slice",
            "s",
            slice,
            "Delegate",
            "b",
            "true",
            "DefaultDependencies",
            "b",
            "false",
            "0",
        ]; // fmt: skip
        let said = Command::new("busctl").args(call).output().map_err(|e| format!("start busctl: {e}"))?;
        if !said.status.success() {
            return Err(format!("start unit {unit}: {}", String::from_utf8_lossy(&said.stderr).trim()));
        }
        // The job is done when the process is there.
        for _ in 0..500 {
            if cgroup::of_process(std::process::id().try_into().unwrap(), "cpu").as_deref()
                == Some(&self.path)
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("unit {unit} did not start"))
    }

    /// Puts a process in.
    pub fn join(&self, pid: u32) -> Result<(), String> {
        if self.unit.is_some() && pid == std::process::id() {
            return Ok(());
        }
        self.put("cgroup.procs", pid)
    }

    /// Puts a thread in; on v2 the whole process comes along.
    pub fn join_thread(&self, tid: u32) -> Result<(), String> {
        self.put(if cgroup::is_v1() { "tasks" } else { "cgroup.procs" }, tid)
    }

    fn put(&self, file: &str, pid: u32) -> Result<(), String> {
        hierarchies().try_for_each(|hierarchy| write(&hierarchy.dir(&self.path).join(file), &pid.to_string()))
    }

    /// Writes the CPUs, where there are any to write.
    pub fn set_cpus(&self, cpus: &str) -> Result<(), String> {
        if cpus.is_empty() {
            Ok(())
        } else {
            write(&cgroup::dir("cpuset", &self.path).join("cpuset.cpus"), cpus)
        }
    }

    /// Moves whoever is in it one up and removes it. On v2 a group that gives controllers away takes nobody: it then
    /// stays, as Kata's does, until whoever owns the one above removes that.
    pub fn remove(&self) -> Result<(), String> {
        for hierarchy in hierarchies() {
            let dir = hierarchy.dir(&self.path);
            let above = dir.parent().unwrap_or(&hierarchy.mount).join("cgroup.procs");
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines() {
                match fs::write(&above, pid) {
                    Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => {
                        return Err(format!("move {pid} to {}: {e}", above.display()));
                    }
                    _ => {}
                }
            }
            // The kernel may hold a group for a moment after its last process.
            let mut tries = 50;
            while let Err(e) = fs::remove_dir(&dir) {
                if e.kind() == io::ErrorKind::NotFound {
                    break;
                }
                tries -= 1;
                if tries == 0 {
                    return Err(format!("rmdir {}: {e}", dir.display()));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// The path of a slice: `a-b.slice` is in `a.slice`.
pub fn slice_path(slice: &str) -> String {
    let mut path = String::new();
    let mut above = String::new();
    for part in slice.trim_end_matches(".slice").split('-').filter(|part| !part.is_empty()) {
        above = if above.is_empty() { part.to_owned() } else { format!("{above}-{part}") };
        path = format!("{path}/{above}.slice");
    }
    path
}

/// Those that Kata uses: where there is v1, that alone.
pub fn hierarchies() -> impl Iterator<Item = &'static Hierarchy> {
    cgroup::hierarchies().iter().filter(|hierarchy| hierarchy.v2 != cgroup::is_v1())
}

fn give_controllers(dir: &Path, only: Option<&[&str]>) -> Result<(), String> {
    let file = dir.join("cgroup.controllers");
    let all = fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
    for controller in all.split_whitespace().filter(|name| only.is_none_or(|only| only.contains(name))) {
        // Some cannot be given away from everywhere, which Kata does not mind.
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// A v1 cpuset takes nobody in before it has CPUs and memory.
fn inherit_cpus(parent: &Path, dir: &Path) -> Result<(), String> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let read =
            |dir: &PathBuf| fs::read_to_string(dir.join(name)).map_err(|e| format!("read {name}: {e}"));
        if read(&dir.to_owned())?.trim().is_empty() {
            write(&dir.join(name), read(&parent.to_owned())?.trim())?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|e| format!("write {text:?} to {}: {e}", file.display()))
}
