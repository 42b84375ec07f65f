//! Who still needs what we put there. A container that was made through the wrapper is killed and deleted through it,
//! too; and one that its engine knows by our handler's name can be started again only while that name stands for
//! something.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::manifest::Installed;
use super::{Engine, Node};
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
/// Whose those are, as far as can be told.
const MONITORED: &str = "Podman or CRI-O";
/// Bundles are some ten kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What is longer is a program.
const MAX_SCRIPT: u64 = 64 * 1024;

/// What an engine knows by its runtime: a container, or what it makes the next one with.
pub(super) struct Made {
    pub(super) who: String,
    /// A handler's name or a program's path.
    pub(super) runtime: String,
    /// What says so.
    pub(super) by: String,
}

/// A container, most of the time, that refers to something of ours.
pub(super) struct Reference {
    who: String,
    /// Whose it is.
    of: String,
    /// The engine that has to know our handler for it.
    pub(super) engine: Option<Engine>,
    /// All of it in words.
    pub(super) text: String,
}

impl Reference {
    fn new(who: &str, of: &str, engine: Option<Engine>, to: &str, by: &str) -> Self {
        let text = format!("{who} of {of} still refers to {to} ({by})");
        Self { who: who.to_owned(), of: of.to_owned(), engine, text }
    }
}

/// The containers that refer to the handlers of these installations, or to one of these programs, which are paths of the
/// node.
pub(super) fn references(node: &Node, installed: &[Installed], programs: &[String]) -> Vec<Reference> {
    let mut found: Vec<Reference> = installed.iter().flat_map(|i| by_name(node, i, programs)).collect();
    found.extend(by_path(&node.roots, programs));
    // Of a container that is found more than once the first says most.
    found.sort_by(|one, other| {
        let key = |r: &Reference| (r.who.clone(), r.engine.is_none(), r.of.clone());
        key(one).cmp(&key(other))
    });
    found.dedup_by(|later, first| later.who == first.who && (first.engine.is_some() || later.of == first.of));
    found
}

/// Those that an engine knows by our handler's name, or by a program's path. Where it does not say, there may be some.
fn by_name(node: &Node, installed: &Installed, programs: &[String]) -> Vec<Reference> {
    let engine = installed.engine;
    let handler = &installed.handler;
    let made = match engine.made(node, &installed.main) {
        Ok(made) => made,
        Err(error) => {
            let text =
                format!("{engine} does not say which containers refer to its runtime {handler}: {error}");
            return vec![Reference {
                who: String::new(),
                of: engine.to_string(),
                engine: Some(engine),
                text,
            }];
        }
    };
    let is_ours = |made: &Made| made.runtime == *handler || programs.contains(&made.runtime);
    let reference = |made: Made| {
        let to = format!("the runtime {}", made.runtime);
        Reference::new(&made.who, engine.name(), Some(engine), &to, &made.by)
    };
    made.into_iter().filter(is_ours).map(reference).collect()
}

/// Those whose bundle or monitor names one of the programs.
fn by_path(roots: &Roots, programs: &[String]) -> Vec<Reference> {
    let mut found = Vec::new();
    for tasks in TASKS {
        for namespace in folders(&roots.path(tasks)) {
            for bundle in folders(&namespace) {
                let files: Vec<PathBuf> = SAYS.iter().map(|name| bundle.join(name)).collect();
                let of = format!("containerd's {}", name(&namespace));
                found.extend(files.iter().find_map(|file| in_file(roots, file, programs, &bundle, &of)));
            }
        }
    }
    for storage in STORAGE {
        let drivers = folders(&roots.path(storage)).into_iter().filter(|f| name(f).ends_with("-containers"));
        for bundle in drivers.flat_map(|driver| folders(&driver)) {
            let run =
                roots.path(STORAGE[0]).join(bundle.strip_prefix(roots.path(storage)).unwrap_or(&bundle));
            if lives(roots, &run) {
                let file = bundle.join("userdata/config.json");
                found.extend(in_file(roots, &file, programs, &bundle, MONITORED));
            }
        }
    }
    found.extend(monitors(roots, programs));
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
        // What Podman has to be called for when the container ends; CRI-O watches for that itself.
        let is_podmans = words.clone().any(|word| word.ends_with(b"/podman"));
        let engine = is_podmans.then_some(Engine::Podman);
        // conmon --cid, or -c, is followed by the container's id.
        let id =
            words.skip_while(|word| ![b"-c".as_slice(), b"--cid"].contains(word)).nth(1).unwrap_or_default();
        let by = format!("conmon, pid {}", name(&process));
        let (id, program) = (String::from_utf8_lossy(id), String::from_utf8_lossy(word));
        found.push(Reference::new(&format!("container {id}"), MONITORED, engine, &program, &by));
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

/// A file of a bundle that names one of the programs: as a JSON string, as all there is, or by way of a script.
fn in_file(roots: &Roots, file: &Path, programs: &[String], bundle: &Path, of: &str) -> Option<Reference> {
    let text = read_text(file)?;
    // Docker calls a runtime with arguments through a script of its own.
    let script = Some(text.trim()).filter(|path| path.starts_with('/') && !path.contains('\n'));
    let script = script.and_then(|path| read(&roots.path(path), MAX_SCRIPT)).unwrap_or_default();
    let is_named = |program: &&String| {
        let program = program.as_str();
        let is_called = || script.split_whitespace().any(|word| word.trim_matches(['"', '\'']) == program);
        text.trim() == program || text.contains(&format!("\"{program}\"")) || is_called()
    };
    let program = programs.iter().find(is_named)?;
    Some(Reference::new(
        &format!("container {}", name(bundle)),
        of,
        None,
        program,
        &file.display().to_string(),
    ))
}

/// The text of a container's file.
pub(super) fn read_text(file: &Path) -> Option<String> {
    read(file, MAX_BYTES)
}

/// A text file of at most so many bytes.
fn read(file: &Path, most: u64) -> Option<String> {
    let meta = fs::metadata(file).ok()?;
    if !meta.is_file() || meta.len() > most {
        return None;
    }
    fs::read_to_string(file).ok()
}

/// The folders in a folder.
pub(super) fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    String::from_utf8_lossy(path.file_name().unwrap_or_default().as_bytes()).into_owned()
}
