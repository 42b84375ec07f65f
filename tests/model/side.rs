//! One of the two trees on the real kernel: with Plimsoll, and its twin without.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use plimsoll::kernel::control::{Controller, Knob, Value, Version};
use plimsoll::kernel::fs::Roots;
use plimsoll::kernel::group::{Group, Groups};

/// What is compared.
pub(crate) const KNOBS: [Knob; 7] =
    [Knob::Shares, Knob::Quota, Knob::Period, Knob::Burst, Knob::Idle, Knob::Cpus, Knob::MemoryLimit];

/// The mount points of the three hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Mounts(Vec<(Controller, PathBuf)>);

impl Mounts {
    /// Those of this machine; `None` where it has no cgroup v1 with CPU burst and idle.
    pub(crate) fn find() -> Option<Self> {
        let own = Groups::of_process(&Roots::default(), i32::try_from(std::process::id()).ok()?).ok()?;
        let mounts: Option<Vec<_>> =
            Controller::ALL.into_iter().map(|c| Some((c, own.of(c)?.clone()))).collect();
        let mounts = mounts?;
        let is_v1 = mounts.iter().all(|(_, group)| group.version == Version::V1);
        let (_, cpu) = mounts.first()?;
        let has_both = cpu.at("/").has(Knob::Burst) && cpu.at("/").has(Knob::Idle);
        (is_v1 && has_both)
            .then(|| Self(mounts.into_iter().map(|(controller, group)| (controller, group.mount)).collect()))
    }

    pub(crate) fn dirs(&self, path: &str) -> Vec<PathBuf> {
        self.0.iter().map(|(_, mount)| mount.join(path.trim_start_matches('/'))).collect()
    }

    fn mount(&self, controller: Controller) -> &Path {
        &self.0.iter().find(|(c, _)| *c == controller).unwrap().1
    }

    /// Moves a process into the groups of a path.
    pub(crate) fn attach(&self, path: &str, pid: i32) {
        for dir in self.dirs(path) {
            fs::write(dir.join("cgroup.procs"), pid.to_string())
                .unwrap_or_else(|e| panic!("attach {pid} to {}: {e}", dir.display()));
        }
    }

    /// Makes groups that hold processes, as runtimes do.
    pub(crate) fn make(&self, path: &str) {
        for dir in self.dirs(path) {
            fs::create_dir(&dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
        }
        let dir = self.mount(Controller::Cpuset).join(path.trim_start_matches('/'));
        for name in ["cpuset.mems", "cpuset.cpus"] {
            let text = fs::read(dir.parent().unwrap().join(name)).unwrap();
            fs::write(dir.join(name), text).unwrap();
        }
    }

    /// Removes groups and all below them; processes go to `park`.
    pub(crate) fn remove_all(&self, path: &str, park: &str) {
        for (dir, park) in self.dirs(path).iter().zip(self.dirs(park)) {
            remove(dir, &park);
        }
    }
}

fn remove(dir: &Path, park: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove(&entry.path(), park);
    }
    for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        let _ = fs::write(park.join("cgroup.procs"), pid);
    }
    let _ = fs::remove_dir(dir);
}

/// One tree. Its files are kept open: they are looked at all the time.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) mounts: Mounts,
    pub(crate) prefix: String,
    files: RefCell<HashMap<String, Vec<(Knob, File)>>>,
}

impl Side {
    pub(crate) fn new(mounts: &Mounts, prefix: String) -> Self {
        Self { mounts: mounts.clone(), prefix, files: RefCell::default() }
    }

    fn on_file<T>(&self, rel: &str, knob: Knob, act: impl FnOnce(&File) -> T) -> T {
        let mut files = self.files.borrow_mut();
        if !files.contains_key(rel) {
            let open = |knob: Knob| {
                let path = self.group(rel, knob).file(knob).unwrap();
                let file = OpenOptions::new().read(true).write(true).open(&path);
                (knob, file.unwrap_or_else(|e| panic!("open {}: {e}", path.display())))
            };
            files.insert(rel.to_owned(), KNOBS.map(open).into());
        }
        act(&files[rel].iter().find(|(k, _)| *k == knob).unwrap().1)
    }

    /// The path of a group of this tree.
    pub(crate) fn path(&self, rel: &str) -> String {
        if rel.is_empty() { self.prefix.clone() } else { format!("{}/{rel}", self.prefix) }
    }

    fn group(&self, rel: &str, knob: Knob) -> Group {
        let mount = self.mounts.mount(knob.controller()).to_owned();
        Group { version: Version::V1, mount, path: self.path(rel) }
    }

    pub(crate) fn read(&self, rel: &str, knob: Knob) -> Value {
        let mut buffer = [0; 256];
        let read = self.on_file(rel, knob, |file| file.read_at(&mut buffer, 0));
        let length = read.unwrap_or_else(|e| panic!("read {knob} of {rel}: {e}"));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        knob.parse(Version::V1, text).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn write(&self, rel: &str, knob: Knob, value: &Value) -> Result<(), Errno> {
        let text = knob.print(Version::V1, value);
        let written = self.on_file(rel, knob, |file| file.write_all_at(text.as_bytes(), 0));
        written.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_else(|| panic!("{e}"))))
    }

    pub(crate) fn make(&self, rel: &str) {
        self.mounts.make(&self.path(rel));
    }

    /// Removes a group that holds nothing.
    pub(crate) fn remove(&self, rel: &str) {
        self.files.borrow_mut().remove(rel);
        for dir in self.mounts.dirs(&self.path(rel)) {
            fs::remove_dir(&dir).unwrap_or_else(|e| panic!("remove {}: {e}", dir.display()));
        }
    }
}

/// Real processes that sleep, to be put into containers.
#[derive(Debug)]
pub(crate) struct Sleepers {
    all: Vec<Child>,
    next: usize,
}

fn sleeper() -> Child {
    let mut command = Command::new("sleep");
    command.arg("900").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Sleepers {
    pub(crate) fn new(count: usize) -> Self {
        Self { all: (0..count).map(|_| sleeper()).collect(), next: 0 }
    }

    /// The one that rested the longest, so that a container which comes back has another process.
    pub(crate) fn take(&mut self, busy: &[i32]) -> i32 {
        loop {
            self.next = (self.next + 1) % self.all.len();
            let pid = i32::try_from(self.all[self.next].id()).unwrap();
            if !busy.contains(&pid) {
                return pid;
            }
        }
    }

    /// Lets one die and another take its place.
    pub(crate) fn kill(&mut self, pid: i32) {
        let dying = self.all.iter_mut().find(|c| i32::try_from(c.id()).unwrap() == pid).unwrap();
        dying.kill().unwrap();
        dying.wait().unwrap();
        *dying = sleeper();
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.all {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
