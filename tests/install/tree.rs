//! A tree of files that stands for a node.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::common::{Ran, dist};

/// The folder of the programs as they are shipped.
pub(super) fn shipped() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("PLIMSOLL_DIST") {
            return folder.into();
        }
        // Of a debug build most is not the program, and an installation copies and syncs all of it.
        let programs = ["plimsoll", "plimsoll-hook", "plimsoll-runtime", "containerd-shim-plimsoll-v2"];
        let top = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let stamp = programs.map(|name| fs::metadata(dist(name)).unwrap().mtime_nsec().to_string()).join("-");
        let folder = top.join(format!("shipped-{stamp}"));
        if !folder.exists() {
            let new = top.join(format!("shipped-new-{}", std::process::id()));
            fs::create_dir_all(&new).unwrap();
            for name in programs {
                let status =
                    Command::new("strip").arg("-o").arg(new.join(name)).arg(dist(name)).status().unwrap();
                assert!(status.success(), "strip {name}: {status}");
            }
            for old in fs::read_dir(top).unwrap().flatten().map(|entry| entry.path()) {
                let is_old = old.file_name().unwrap().to_string_lossy().starts_with("shipped-") && old != new;
                if is_old {
                    let _ = fs::remove_dir_all(old);
                }
            }
            fs::rename(&new, &folder).unwrap();
        }
        folder
    })
}

/// A folder in memory, where there is one: to sync some megabytes costs nothing there.
pub(super) fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// See the module.
pub(super) struct Tree {
    dir: TempDir,
}

impl Tree {
    /// A node with these programs, which do nothing.
    pub(super) fn new(programs: &[&str]) -> Self {
        Self::at(tempfile::tempdir().unwrap(), programs)
    }

    pub(super) fn at(dir: TempDir, programs: &[&str]) -> Self {
        let tree = Self { dir };
        for program in programs {
            tree.file(&format!("/usr/bin/{program}"), "");
        }
        tree
    }

    /// A path of the node's, as it is here.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file.
    pub(super) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// A file's text.
    #[track_caller]
    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Everything there is: mode, owner and content of files, targets of links.
    pub(super) fn snapshot(&self) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, meta) = (entry.path(), entry.metadata().unwrap());
                let content = if meta.is_symlink() {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                } else if meta.is_dir() {
                    todo.push(path.clone());
                    continue;
                } else {
                    fs::read(&path).unwrap()
                };
                found.insert(path, (meta.mode(), meta.uid(), content));
            }
        }
        found
    }

    /// Runs the tool on this node.
    pub(super) fn tool(&self, args: &[&str]) -> Ran {
        self.tool_of(shipped(), args)
    }

    /// The same with the programs of another folder.
    pub(super) fn tool_of(&self, folder: &Path, args: &[&str]) -> Ran {
        let output = Command::new(folder.join("plimsoll"))
            .arg("--root")
            .arg(self.dir.path())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `install` with these options, which succeeds.
    #[track_caller]
    pub(super) fn install(&self, options: &[&str]) -> String {
        self.tool(&[&["install"], options].concat()).ok().stdout
    }

    /// `uninstall`, which succeeds.
    #[track_caller]
    pub(super) fn uninstall(&self, options: &[&str]) -> String {
        self.tool(&[&["uninstall"], options].concat()).ok().stdout
    }
}
