//! The same commands to the real runc and to the wrapper, and what each of them left to be seen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::common::invariants::frozen;
use super::common::{Sandbox, cgroup, dist, real_runc};

/// What one call left to be seen. Times are cut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The exit code, or the signal below zero.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What is in the file of `--log`, where one was named and is there.
    pub(crate) log: Option<String>,
}

/// Where a runtime is to write its own log: not at all, or as text, or as JSON.
pub(crate) const LOGS: [&[&str]; 3] = [&[], &["--log"], &["--log-format", "json", "--log"]];

/// Both sides: the real runtime, and the wrapper.
pub(crate) fn sides() -> [PathBuf; 2] {
    [real_runc(), dist("plimsoll-runtime")]
}

/// Runs one call, its output in files: a container keeps them open for longer.
pub(crate) fn call(sandbox: &Sandbox, program: &Path, log: &[&str], args: &[&str]) -> Seen {
    let mut command = sandbox.command_of(program);
    let file = sandbox.dir().join("runtime.log");
    let _ = fs::remove_file(&file);
    if !log.is_empty() {
        command.args(log).arg(&file);
    }
    let mut seen = run(sandbox, command.args(args), b"");
    seen.log = fs::read_to_string(file).ok().map(|text| timeless(&text));
    seen
}

/// Runs a command with these bytes on standard input.
pub(crate) fn run(sandbox: &Sandbox, command: &mut Command, input: &[u8]) -> Seen {
    use std::os::unix::process::ExitStatusExt;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // What a container prints later is not the next call's.
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let files = ["in", "out", "err"].map(|name| sandbox.dir().join(format!("call-{n}.{name}")));
    fs::write(&files[0], input).unwrap();
    let status = command
        .stdin(File::open(&files[0]).unwrap())
        .stdout(File::create(&files[1]).unwrap())
        .stderr(File::create(&files[2]).unwrap())
        .status()
        .unwrap();
    let text = |file: &Path| timeless(&String::from_utf8_lossy(&fs::read(file).unwrap()));
    Seen {
        code: status.code().unwrap_or_else(|| -status.signal().unwrap()),
        stdout: text(&files[1]),
        stderr: text(&files[2]),
        log: None,
    }
}

/// A text without its times: the value of `time="…"` in runc's text, of `"time"` and `"created"` in its JSON.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, mark)) = ["time=\"", "\"time\":\"", "\"created\": \"", "\"created\":\""]
        .iter()
        .filter_map(|mark| Some((rest.find(mark)?, mark)))
        .min()
    {
        let from = at + mark.len();
        out.push_str(&rest[..from]);
        rest = &rest[from + rest[from..].find('"').unwrap_or(0)..];
    }
    out + rest
}

/// Runs a shell script that calls the program as `$0`.
pub(crate) fn shell(sandbox: &Sandbox, program: &Path, script: &str) -> Seen {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(program).env("PLIMSOLL_CONFIG", sandbox.config_path());
    command.current_dir(sandbox.dir());
    run(sandbox, &mut command, b"")
}

/// Every control file of the groups of a sandbox, but for those that count or name processes.
pub(crate) fn settings(group: &str) -> BTreeMap<String, String> {
    let mut files = frozen(group);
    files.retain(|name, _| {
        let name = name.rsplit('/').next().unwrap_or_default();
        !matches!(name, "cgroup.procs" | "cgroup.threads" | "pids.current")
    });
    files
}

/// Removes all groups of a sandbox, so that the other side starts from nothing too.
pub(crate) fn no_groups(sandbox: &Sandbox) {
    for dir in cgroup::leftovers(sandbox.prefix()) {
        cgroup::remove(&dir);
    }
}

/// A program that can be executed, made from a script.
pub(crate) fn script(path: &Path, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Written by a child: one that is forked meanwhile would keep it open for writing (ETXTBSY).
    let mut child = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    path.to_owned()
}
