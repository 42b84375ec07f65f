//! The binaries under test, the static C helpers, and the root filesystem all containers share.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

/// The binary under test: that of the folder `PLIMSOLL_DIST` where it is set (`make test` does), else Cargo's own build.
pub fn dist(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("PLIMSOLL_DIST") {
        let path = Path::new(&folder).join(name);
        assert!(path.is_file(), "{} is not there; run make build", path.display());
        return path;
    }
    let built = match name {
        "plimsoll-hook" => option_env!("CARGO_BIN_EXE_plimsoll-hook"),
        "plimsoll-runtime" => option_env!("CARGO_BIN_EXE_plimsoll-runtime"),
        "containerd-shim-plimsoll-v2" => option_env!("CARGO_BIN_EXE_containerd-shim-plimsoll-v2"),
        "plimsoll" => option_env!("CARGO_BIN_EXE_plimsoll"),
        _ => None,
    };
    built.unwrap_or_else(|| panic!("no binary named {name}")).into()
}

/// A static C program of `tests/helpers/`.
#[derive(Clone, Copy, Debug)]
pub enum Helper {
    /// The hook that does nothing.
    Noop,
    /// Tells which cgroups it woke up in: see the head of `prober.c`.
    Prober,
    /// The runtime wrapper that does nothing but become runc.
    Exec,
    /// The shim that does nothing, and its wrapper that does nothing but become it.
    Shim,
    /// Runs a program and tells its wall time, CPU time and memory: see the head of `spawn.c`.
    Spawn,
}

impl Helper {
    /// The program, built on first use into `test-helpers/` of the target folder.
    pub fn path(self) -> PathBuf {
        static BUILT: [OnceLock<PathBuf>; 5] = [const { OnceLock::new() }; 5];
        let (slot, name, source) = match self {
            Self::Noop => (0, "noop", include_str!("../helpers/noop.c")),
            Self::Prober => (1, "prober", include_str!("../helpers/prober.c")),
            Self::Exec => (3, "exec", include_str!("../helpers/exec.c")),
            Self::Shim => (4, "shim", include_str!("../helpers/shim.c")),
            Self::Spawn => (2, "spawn", include_str!("../helpers/spawn.c")),
        };
        BUILT[slot].get_or_init(|| build(name, source)).clone()
    }
}

/// A read-only root filesystem with `/prober`, a static busybox as `/bin/sh`, and the usual mount points.
pub fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let prober = Helper::Prober.path();
        let hash = prober.extension().unwrap_or_default().to_string_lossy().into_owned();
        place(&folder().join(format!("rootfs.{hash}")), |new| {
            for sub in ["bin", "dev", "host/cgroup", "proc", "run", "sys/fs/cgroup", "tmp"] {
                fs::create_dir_all(new.join(sub)).unwrap();
            }
            fs::hard_link(&prober, new.join("prober")).unwrap();
            copy_program(Path::new("/bin/busybox"), &new.join("bin/busybox"));
            for name in ["sh", "sleep", "cat", "true", "false"] {
                std::os::unix::fs::symlink("busybox", new.join("bin").join(name)).unwrap();
            }
        })
    })
}

/// The folder `PLIMSOLL_TEST_HELPERS` where it is set (there need not be a compiler where it was filled before), else
/// `test-helpers/` beside the `tmp/` that Cargo gives to tests and benchmarks.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("PLIMSOLL_TEST_HELPERS") {
        return folder.into();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let folder = target.join("test-helpers");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles one source, static, into a file that is named after what it holds, so that it is never stale.
fn build(name: &str, source: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let path = folder().join(format!("{name}.{:016x}", hasher.finish()));
    place(&path, |new| {
        let compiler = ["/usr/bin/musl-gcc", "/usr/bin/gcc"]
            .into_iter()
            .find(|c| Path::new(c).exists())
            .expect("neither musl-gcc nor gcc is installed; run make deps");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/helpers/{name}.c"));
        command(compiler, &["-static".as_ref(), "-O2".as_ref(), "-o".as_ref(), new, &file]);
    })
}

/// Makes `path` whole or not at all, also with several test processes at it at once.
fn place(path: &Path, make: impl FnOnce(&Path)) -> PathBuf {
    if !path.exists() {
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".new-{}", process::id()));
        let new = PathBuf::from(new);
        make(&new);
        if fs::rename(&new, path).is_err() {
            // Another process was first.
            assert!(path.exists(), "cannot make {}", path.display());
            fs::remove_dir_all(&new).unwrap();
        }
    }
    path.to_owned()
}

/// Copies a program. By another process: one that this process had open for writing, while another of its threads
/// starts a child, might not run (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    command("cp", &[from, to]);
}

fn command(program: &str, arguments: &[&Path]) {
    let done = Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}: {done}");
}
