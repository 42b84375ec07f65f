//! Who still needs the programs: a container that was made through the wrapper is killed and deleted through it, too.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::kernel::fs::Roots;

/// Where containerd's shims keep a folder per namespace, and in it one per container: containerd's own, that of Docker's
/// private containerd, and that of k3s.
const TASKS: [&str; 3] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
];
/// What such a folder says about runtime and hooks.
const SAYS: [&str; 3] = ["config.json", "options.json", "runtime"];
/// Where CRI-O and Podman keep theirs, in a folder per storage driver. The second outlives a container that has ended.
const STORAGE: [&str; 2] = ["/run/containers/storage", "/var/lib/containers/storage"];
/// Bundles are some ten kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What is longer is a program.
const MAX_SCRIPT: u64 = 64 * 1024;

/// A container, and what of ours it refers to.
pub(super) struct Reference {
    pub(super) container: String,
    pub(super) program: String,
    /// The file or process that says so.
    pub(super) by: String,
}

/// The containers that refer to one of these programs, which are paths of the node.
pub(super) fn references(roots: &Roots, programs: &[String]) -> Vec<Reference> {
    let mut found = Vec::new();
    for tasks in TASKS {
        for namespace in folders(&roots.path(tasks)) {
            for bundle in folders(&namespace) {
                let files: Vec<PathBuf> = SAYS.iter().map(|name| bundle.join(name)).collect();
                let container = format!("{} of containerd's {}", name(&bundle), name(&namespace));
                found.extend(files.iter().find_map(|file| in_file(roots, file, programs, &container)));
            }
        }
    }
    for storage in STORAGE {
        let drivers = folders(&roots.path(storage)).into_iter().filter(|f| name(f).ends_with("-containers"));
        for bundle in drivers.flat_map(|driver| folders(&driver)) {
            let run =
                roots.path(STORAGE[0]).join(bundle.strip_prefix(roots.path(storage)).unwrap_or(&bundle));
            if lives(roots, &run) {
                found.extend(in_file(roots, &bundle.join("userdata/config.json"), programs, &name(&bundle)));
            }
        }
    }
    found.extend(monitors(roots, programs));
    found.sort_by(|one, other| one.container.cmp(&other.container));
    found.dedup_by(|one, other| one.container == other.container);
    found
}

/// The monitors of Podman and CRI-O name the runtime on their command line.
fn monitors(roots: &Roots, programs: &[String]) -> Vec<Reference> {
    let mut found = Vec::new();
    for process in folders(&roots.path("/proc")) {
        let Ok(line) = fs::read(process.join("cmdline")) else { continue };
        let mut words = line.split(|byte| *byte == 0);
        let is_monitor = words.next().is_some_and(|word| word.ends_with(b"conmon"));
        let Some(word) = words.clone().find(|word| programs.iter().any(|p| p.as_bytes() == *word)) else {
            continue;
        };
        if !is_monitor {
            continue;
        }
        // conmon --cid, or -c, is followed by the container's id.
        let id =
            words.skip_while(|word| ![b"-c".as_slice(), b"--cid"].contains(word)).nth(1).unwrap_or_default();
        found.push(Reference {
            container: String::from_utf8_lossy(id).into_owned(),
            program: String::from_utf8_lossy(word).into_owned(),
            by: format!("conmon, pid {}", name(&process)),
        });
    }
    found
}

/// Whether a container's process or monitor runs, by the pid files in its run folder.
fn lives(roots: &Roots, run: &Path) -> bool {
    ["pidfile", "conmon.pid"].iter().any(|file| {
        let pid = fs::read_to_string(run.join("userdata").join(file)).unwrap_or_default();
        let pid = pid.trim();
        pid.bytes().all(|b| b.is_ascii_digit()) && !pid.is_empty() && roots.path("/proc").join(pid).exists()
    })
}

/// A file that names one of the programs: as a JSON string, as all there is, or by way of a script.
fn in_file(roots: &Roots, file: &Path, programs: &[String], container: &str) -> Option<Reference> {
    let text = read(file, MAX_BYTES)?;
    // Docker calls a runtime with arguments through a script of its own.
    let script = Some(text.trim()).filter(|path| path.starts_with('/') && !path.contains('\n'));
    let script = script.and_then(|path| read(&roots.path(path), MAX_SCRIPT)).unwrap_or_default();
    let is_named = |program: &&String| {
        let program = program.as_str();
        let is_called = || script.split_whitespace().any(|word| word.trim_matches(['"', '\'']) == program);
        text.trim() == program || text.contains(&format!("\"{program}\"")) || is_called()
    };
    let program = programs.iter().find(is_named)?;
    Some(Reference {
        container: container.to_owned(),
        program: program.clone(),
        by: file.display().to_string(),
    })
}

/// A text file of at most so many bytes.
fn read(file: &Path, most: u64) -> Option<String> {
    let meta = fs::metadata(file).ok()?;
    if !meta.is_file() || meta.len() > most {
        return None;
    }
    fs::read_to_string(file).ok()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> String {
    String::from_utf8_lossy(path.file_name().unwrap_or_default().as_bytes()).into_owned()
}
