//! A place of its own for each test: groups, bundles, runc state, Plimsoll's config, run folder and log.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process, thread};

use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;

use super::bundle::Bundle;
use super::{cgroup, dist, wait_for};

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout; of `create`, all that the container wrote until now too.
    pub stdout: String,
    /// Its stderr; of a container's start, what the hooks said too.
    pub stderr: String,
}

impl Ran {
    /// Panics, with what it said, unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "should have succeeded: {self:#?}");
        self
    }

    /// Panics unless it failed.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(!self.status.success(), "should have failed: {self:#?}");
        self
    }
}

/// See the module. Dropping it deletes the containers and the groups, and panics if anything is left.
#[derive(Debug)]
pub struct Sandbox {
    prefix: String,
    folder: TempDir,
    /// The runtime's program where it is not runc itself.
    runtime: Option<PathBuf>,
    /// Whether the runtime lets systemd make its groups.
    by_systemd: bool,
}

impl Sandbox {
    /// A new one; `name` says in group names whose it is. The config names its own folders and is otherwise empty.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(geteuid().is_root(), "tests with real containers need root");
        let prefix = loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let prefix = format!("plimsoll-test-{name}-{}-{n}", process::id());
            // What a killed run with the same pid may have left is not ours to take.
            if cgroup::leftovers(&prefix).is_empty() {
                break prefix;
            }
        };
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let sandbox = Self { prefix, folder, runtime: None, by_systemd: false };
        sandbox.config("");
        sandbox
    }

    /// The same, with every runtime command going through `plimsoll-runtime`.
    pub fn wrapped(name: &str) -> Self {
        Self::new(name).with_runtime(dist("plimsoll-runtime"))
    }

    /// Whether the runtime is another program than runc.
    pub fn is_wrapped(&self) -> bool {
        self.runtime.is_some()
    }

    /// The same with the systemd cgroup driver.
    pub fn by_systemd(mut self) -> Self {
        self.by_systemd = true;
        self
    }

    /// The same with another program as the runtime.
    pub fn with_runtime(mut self, program: PathBuf) -> Self {
        self.runtime = Some(program);
        self
    }

    /// `plimsoll-test-<name>-<pid>-<n>`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A group of this sandbox: `group("kubepods")` is `/plimsoll-test-…/kubepods`, `group("")` the topmost.
    pub fn group(&self, sub: &str) -> String {
        format!("/{}/{sub}", self.prefix).trim_end_matches('/').to_owned()
    }

    /// The class tree of the config: `/plimsoll-test-…/plimsoll`.
    pub fn class_tree(&self) -> String {
        self.group("plimsoll")
    }

    /// A temporary folder, removed with the sandbox.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Plimsoll's run folder. Not made here: the hook has to.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// Plimsoll's log file.
    pub fn log_file(&self) -> PathBuf {
        self.dir().join("log/plimsoll.log")
    }

    /// What Plimsoll has logged until now.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Plimsoll's config file.
    pub fn config_path(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Writes the config anew: `top` (keys and then tables, as in a file), and the tables `[paths]` and `[log]`. Any pod
    /// may claim any class unless `top` has a table `[claims]`, and the wrapper runs the runtime that was chosen for these
    /// tests, if one was, unless it has a table `[runtime]`.
    pub fn config(&self, top: &str) {
        let claims = if top.contains("[claims]") { "" } else { "[claims]\nnamespaces = [\"*\"]\n" };
        let runtime = match chosen_runtime() {
            Some(_) if !top.contains("[runtime]") => format!("[runtime]\npath = {:?}\n", real_runc()),
            _ => String::new(),
        };
        let text = format!(
            "{top}\n{claims}{runtime}[paths]\nrun = {:?}\nlog = {:?}\nclass_tree = {:?}\n\n[log]\njournal = false\n",
            self.run_dir(),
            self.log_file(),
            self.class_tree(),
        );
        fs::write(self.config_path(), text).unwrap();
    }

    /// A bundle that runs the prober, in `kubepods/burstable/pod<id>/<id>`.
    pub fn bundle(&self, id: &str) -> Bundle {
        Bundle::new(self, id)
    }

    /// Runs a program with nothing on stdin and waits for it.
    pub fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Ran {
        self.command_with(program, args, b"")
    }

    /// Runs a program with these bytes on stdin and waits for it.
    pub fn command_with(&self, program: impl AsRef<Path>, args: &[&str], input: &[u8]) -> Ran {
        let mut command = Command::new(program.as_ref());
        command.args(args);
        feed(command, input)
    }

    /// The runtime's command line up to and with the sandbox's own state folder.
    pub fn runc_command(&self) -> Command {
        self.command_of(&self.runtime.clone().unwrap_or_else(real_runc))
    }

    /// The same with another program in its place.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.runc_root()).env("PLIMSOLL_CONFIG", self.config_path());
        if self.by_systemd {
            command.arg("--systemd-cgroup");
        }
        command
    }

    /// Any runc subcommand that starts no process which outlives it.
    pub fn runc(&self, args: &[&str]) -> Ran {
        let output = self.runc_command().args(args).stdin(Stdio::null()).output().unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Writes the bundle and creates its container. The container's stdout is the file `stdout` in the bundle.
    pub fn create(&self, bundle: &Bundle) -> Ran {
        // As every engine does.
        let pid_file = bundle.dir.join("pid");
        self.detached(bundle, &["create", "--pid-file", pid_file.to_str().unwrap()])
    }

    /// Writes the bundle, creates and starts its container, and leaves it running.
    pub fn run_detached(&self, bundle: &Bundle) -> Ran {
        self.detached(bundle, &["run", "--detach"])
    }

    /// Writes the bundle and runs its container to the end; runc deletes it.
    pub fn run(&self, bundle: &Bundle) -> Ran {
        bundle.write();
        let dir = bundle.dir.to_str().unwrap();
        let mut ran = self.runc(&["run", "--bundle", dir, &bundle.id]);
        ran.stderr += &fs::read_to_string(bundle.hooks_stderr()).unwrap_or_default();
        ran
    }

    /// Runs the prober of a bundle to the end and returns its line.
    pub fn run_probe(&self, bundle: &Bundle) -> Value {
        let ran = self.run(bundle).ok();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("the prober's line: {e}: {ran:?}"))
    }

    /// Starts a created container.
    pub fn start(&self, id: impl AsRef<str>) -> Ran {
        self.runc(&["start", id.as_ref()])
    }

    /// The first line of a detached container's prober, as soon as it is there.
    pub fn probe(&self, bundle: &Bundle) -> Value {
        wait_for("the prober's line", || {
            let text = fs::read_to_string(bundle.dir.join("stdout")).ok()?;
            let (line, _) = text.split_once('\n')?;
            Some(serde_json::from_str(line).unwrap_or_else(|e| panic!("the prober's line: {e}: {line}")))
        })
    }

    /// Runs a program in a container and waits for it.
    pub fn exec(&self, id: impl AsRef<str>, args: &[&str]) -> Ran {
        self.runc(&[&["exec", id.as_ref()], args].concat())
    }

    /// `runc update` with options, for instance `&["--cpu-quota", "50000"]`.
    pub fn update(&self, id: impl AsRef<str>, options: &[&str]) -> Ran {
        self.runc(&[&["update"], options, &[id.as_ref()]].concat())
    }

    /// `runc update` with the JSON of `linux.resources`, as containerd sends it.
    pub fn update_resources(&self, id: impl AsRef<str>, resources: &Value) -> Ran {
        self.update_text(id, &resources.to_string())
    }

    /// The same with any text in place of the JSON.
    pub fn update_text(&self, id: impl AsRef<str>, text: &str) -> Ran {
        let mut command = self.runc_command();
        command.args(["update", "--resources=-", id.as_ref()]);
        feed(command, text.as_bytes())
    }

    /// Deletes a container that has stopped.
    pub fn delete(&self, id: impl AsRef<str>) -> Ran {
        self.runc(&["delete", id.as_ref()])
    }

    /// Kills a container and deletes it.
    pub fn delete_force(&self, id: impl AsRef<str>) -> Ran {
        self.runc(&["delete", "--force", id.as_ref()])
    }

    /// Sends a signal to a container's first process, and waits until it is stopped.
    pub fn stop(&self, id: impl AsRef<str>, signal: &str) {
        self.runc(&["kill", id.as_ref(), signal]).ok();
        self.wait_stopped(id);
    }

    /// Waits until a container has stopped.
    pub fn wait_stopped(&self, id: impl AsRef<str>) {
        wait_for("the container to stop", || (self.state(id.as_ref())["status"] == "stopped").then_some(()));
    }

    /// What `runc state` says.
    pub fn state(&self, id: impl AsRef<str>) -> Value {
        serde_json::from_str(&self.runc(&["state", id.as_ref()]).ok().stdout).unwrap()
    }

    /// The container's first process, by its number in this pid namespace.
    pub fn pid(&self, id: impl AsRef<str>) -> i32 {
        let pid = self.state(id)["pid"].as_i64().unwrap();
        i32::try_from(pid).unwrap()
    }

    fn runc_root(&self) -> PathBuf {
        self.dir().join("runc")
    }

    /// The container keeps its stdout open, so this has to be a file: a pipe would not end with runc.
    fn detached(&self, bundle: &Bundle, command: &[&str]) -> Ran {
        bundle.write();
        let (out, err) = (bundle.dir.join("stdout"), bundle.dir.join("stderr"));
        let status = self
            .runc_command()
            .args(command)
            .arg("--bundle")
            .arg(&bundle.dir)
            .arg(&bundle.id)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .status()
            .unwrap();
        let hooks = fs::read_to_string(bundle.hooks_stderr()).unwrap_or_default();
        let stderr = fs::read_to_string(err).unwrap() + &hooks;
        Ran { status, stdout: fs::read_to_string(out).unwrap(), stderr }
    }
}

/// Runs a command with these bytes on stdin and waits for it.
fn feed(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {command:?}: {e}; run make deps"));
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        // A program that reads only part of it makes this fail, which is its right.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    Ran {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The runtime that these tests are to use in place of runc, by its name.
pub(super) fn chosen_runtime() -> Option<String> {
    env::var("PLIMSOLL_TEST_RUNTIME").ok()
}

/// The real runtime: the machine's runc, or what `PLIMSOLL_TEST_RUNTIME` names in its place.
pub fn real_runc() -> PathBuf {
    let name = chosen_runtime().unwrap_or_else(|| "runc".to_owned());
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin"]
        .into_iter()
        .map(|folder| Path::new(folder).join(&name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.runc_root()).into_iter().flatten().flatten() {
            self.delete_force(entry.file_name().to_string_lossy());
        }
        for dir in cgroup::leftovers(&self.prefix) {
            cgroup::remove(&dir);
        }
        let left = cgroup::leftovers(&self.prefix);
        if !thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}
