//! This machine's cgroup hierarchies as a test sees them: plain files, v1 or v2.
//!
//! A group is named by its path inside a hierarchy, for instance `/plimsoll-test-x-1-0/kubepods`. Files that v2 has under
//! another name, or shares among several values, are named and read as v1's, wherever they are: so that a test says what
//! it means once, and holds on every hierarchy.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_for;

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// v1 controllers (`cpu`, `name=systemd`), empty for v2.
    pub controllers: Vec<String>,
    /// Whether this is cgroup v2.
    pub v2: bool,
}

impl Hierarchy {
    /// The folder of a group here.
    pub fn dir(&self, group: &str) -> PathBuf {
        self.mount.join(group.trim_start_matches('/'))
    }
}

/// All of them, those with v1 controllers first.
pub fn hierarchies() -> &'static [Hierarchy] {
    static ALL: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    ALL.get_or_init(|| {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut all: Vec<Hierarchy> = text.lines().filter_map(hierarchy).collect();
        all.sort_by_key(|h| h.v2);
        all.dedup_by(|a, b| a.v2 == b.v2 && a.controllers == b.controllers);
        assert!(!all.is_empty(), "no cgroup hierarchy is mounted");
        all
    })
}

/// One line of mountinfo: `id parent dev root point options … - type source superoptions`.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (head, tail) = line.split_once(" - ")?;
    let mount = PathBuf::from(head.split(' ').nth(4)?);
    let mut tail = tail.split(' ');
    let (kind, options) = (tail.next()?, tail.nth(1)?);
    let controllers = match kind {
        "cgroup2" => Vec::new(),
        "cgroup" => options
            .split(',')
            .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "noprefix" | "clone_children"))
            .filter(|o| !o.starts_with("release_agent"))
            .map(str::to_owned)
            .collect(),
        _ => return None,
    };
    Some(Hierarchy { mount, controllers, v2: kind == "cgroup2" })
}

/// Whether the `cpu` controller is on v1 here.
pub fn is_v1() -> bool {
    is_v1_controller("cpu")
}

fn is_v1_controller(controller: &str) -> bool {
    hierarchies().iter().any(|h| h.controllers.iter().any(|c| c == controller))
}

/// The folder of a group in the hierarchy that has the controller: the v1 one, else v2.
pub fn dir(controller: &str, group: &str) -> PathBuf {
    hierarchies()
        .iter()
        .find(|h| h.v2 || h.controllers.iter().any(|c| c == controller))
        .unwrap_or_else(|| panic!("no hierarchy has {controller}"))
        .dir(group)
}

/// Makes a group in every hierarchy that has its own kubepods: `cpu`, `cpuset` and `memory`, as kubelet does.
pub fn make(group: &str) {
    for controller in ["cpu", "cpuset", "memory"] {
        let mut path = String::new();
        for name in group.trim_matches('/').split('/') {
            // On v2 a group has the controllers that the one above it gives away.
            if !is_v1_controller(controller) {
                fs::write(dir(controller, &path).join("cgroup.subtree_control"), format!("+{controller}"))
                    .unwrap();
            }
            path = format!("{path}/{name}");
            match fs::create_dir(dir(controller, &path)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => panic!("make {path}: {e}"),
                _ => {}
            }
        }
    }
}

/// The path of a control file; the controller is the first part of its name, and `cgroup.*` are those of `cpu`.
pub fn file(group: &str, name: &str) -> PathBuf {
    // What is in effect can only be read.
    dir_of(group, name).join(here(name).trim_end_matches(".effective"))
}

fn dir_of(group: &str, name: &str) -> PathBuf {
    let controller = match name.split('.').next() {
        Some("cgroup") | None => "cpu",
        Some(first) => first,
    };
    dir(controller, group)
}

/// What a control file says, without the last newline; `None` where the file or the group is not there.
pub fn read(group: &str, name: &str) -> Option<String> {
    match fs::read_to_string(dir_of(group, name).join(here(name))) {
        Ok(text) => Some(as_v1(name, text.trim_end_matches('\n'))),
        Err(e) if matches!(errno(&e), Errno::ENOENT | Errno::ENODEV) => None,
        Err(e) => panic!("read {}: {e}", file(group, name).display()),
    }
}

/// Writes a control file, as a stranger would.
pub fn write(group: &str, name: &str, value: &str) -> io::Result<()> {
    let value = match (is_v1(), name, value) {
        (false, "cpu.cfs_quota_us" | "memory.limit_in_bytes", "-1") => "max".to_owned(),
        (false, "cpu.cfs_period_us", period) => {
            let quota = read(group, "cpu.cfs_quota_us").unwrap_or_default().replace("-1", "max");
            format!("{quota} {period}")
        }
        _ => value.to_owned(),
    };
    fs::OpenOptions::new()
        .write(true)
        .open(file(group, name))
        .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()))
}

/// The name of the file that says here what a file of v1 says.
pub fn here(name: &str) -> &str {
    match name {
        "cpu.cfs_quota_us" | "cpu.cfs_period_us" if !is_v1_controller("cpu") => "cpu.max",
        "cpu.cfs_burst_us" if !is_v1_controller("cpu") => "cpu.max.burst",
        "cpu.shares" if !is_v1_controller("cpu") => "cpu.weight",
        "memory.limit_in_bytes" if !is_v1_controller("memory") => "memory.max",
        "freezer.state" if !is_v1_controller("freezer") => "cgroup.freeze",
        // A group that was given none of its own has its parent's.
        "cpuset.cpus" if !is_v1_controller("cpuset") => "cpuset.cpus.effective",
        _ => name,
    }
}

/// What a file says, as v1's would; shares are a weight on v2, see [`shares`].
pub fn as_v1(name: &str, text: &str) -> String {
    let mut fields = text.split(' ');
    let field = match (here(name), name) {
        ("cpu.max", "cpu.cfs_period_us") => fields.nth(1).unwrap_or_default(),
        ("cpu.max" | "memory.max", _) => fields.next().unwrap_or_default(),
        _ => text,
    };
    let v1 = match (here(name), field) {
        ("cgroup.freeze", "1") => "FROZEN",
        ("cgroup.freeze", _) => "THAWED",
        (_, "max") => "-1",
        (_, text) => text,
    };
    v1.to_owned()
}

/// Whether that is what `cpu.shares` reads after a runtime has written so many: itself, or on v2 the weight it makes of
/// them. There are two ways to make one; newer runtimes have the default of the one become that of the other.
pub fn is_shares(found: &str, shares: u32) -> bool {
    if is_v1() {
        return found == shares.to_string();
    }
    let older = 1 + (u64::from(shares) - 2) * 9_999 / 262_142;
    let log = f64::from(shares).log2();
    let newer = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
    found == older.to_string() || found == newer.to_string()
}

/// What a group's `cpu.shares` say that nobody has written.
pub fn default_shares() -> &'static str {
    if is_v1() { "1024" } else { "100" }
}

/// The processes in a group, by their number in this pid namespace.
pub fn procs(controller: &str, group: &str) -> Vec<i32> {
    pids(&dir(controller, group))
}

/// A process's group for a v1 controller, or its v2 group where the controller is not on v1.
pub fn of_process(pid: i32, controller: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut v2 = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        if controllers.split(',').any(|c| c == controller) {
            return Some(path.to_owned());
        }
        if controllers.is_empty() {
            v2 = Some(path.to_owned());
        }
    }
    v2
}

/// Whether the path that a process sees of its group for a controller is that of a container's group, or of the one that
/// crun makes below a scope. In a namespace of its own it sees none: then something has to be in the group.
pub fn is_seen_as(path: &str, controller: &str, group: &str) -> bool {
    let below = format!("{group}/container");
    path == group
        || path == below
        || (path == "/" && [group, &below].iter().any(|g| !procs(controller, g).is_empty()))
}

/// Top-level groups of all hierarchies whose name is `prefix`, or begins with it and goes on with no digit.
pub fn leftovers(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(&hierarchy.mount).unwrap().flatten() {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|n| n.strip_prefix(prefix));
            if rest.is_some_and(|r| !r.starts_with(|c: char| c.is_ascii_digit())) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Removes a group's folder and all below it, bottom-up, after killing what still runs in it.
pub fn remove(dir: &Path) {
    // A frozen process does not die.
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    wait_for(&format!("{} to be removed", dir.display()), || {
        for pid in pids(dir) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        match fs::remove_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => None,
            _ => Some(()),
        }
    });
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn pids(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).filter(|&p| p > 0).collect()
}
