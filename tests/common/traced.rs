//! A program of ours under strace: stopped or killed at exactly one of its system calls, with no code for it in the product.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bundle, Sandbox, dist, wait_for};

/// System calls that change something others can see, by every name a libc uses for them.
const CHANGES: &str = "open,openat,creat,write,writev,pwrite64,ftruncate,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,\
                       renameat,renameat2,chmod,fchmod,fchmodat,chown,fchown,fchownat,flock,sendto,sendmsg";

/// What is run under strace.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<String>,
    input: String,
}

impl Program {
    /// The hook at a stage, with this state.
    pub fn hook(sandbox: &Sandbox, stage: &str, state: &str) -> Self {
        let config = sandbox.config_path().to_str().unwrap().to_owned();
        let args = vec![stage.to_owned(), "--config".to_owned(), config];
        Self { path: dist("plimsoll-hook"), args, input: state.to_owned() }
    }

    /// The runtime wrapper with a command, until it becomes the real runtime or ends; not its child.
    pub fn runtime(sandbox: &Sandbox, command: &[&str]) -> Self {
        let root = sandbox.dir().join("runc").to_str().unwrap().to_owned();
        let args = ["--root", &root].iter().chain(command).map(|arg| (*arg).to_owned()).collect();
        Self { path: dist("plimsoll-runtime"), args, input: String::new() }
    }

    /// Runs it to its end and tells the points before which it can be killed: each of its changes, and its end, which is
    /// after the last of them.
    pub fn points(&self, sandbox: &Sandbox) -> Vec<Point> {
        let out = sandbox.dir().join("trace");
        let options = ["-e", &format!("trace={CHANGES},execve,exit_group"), "-e", "signal=none"];
        let status = strace(sandbox, &out, &options, self).wait().unwrap();
        assert!(status.success(), "{self:?} under strace: {status}");
        let mut points: Vec<Point> = Vec::new();
        let trace = fs::read_to_string(out).unwrap();
        let mut seen: Vec<String> = Vec::new();
        // The first line is strace's own execve.
        for line in trace.lines().skip(1) {
            let Some((call, _)) = line.split_once('(') else { continue };
            seen.push(call.to_owned());
            // Opening a file to read it changes nothing.
            let is_open = call.starts_with("open") && !line.contains("O_CREAT") && !line.contains("O_TRUNC");
            if is_open {
                continue;
            }
            let n = seen.iter().filter(|earlier| *earlier == call).count();
            points.push(Point { call: call.to_owned(), n, text: line.to_owned() });
            if call == "execve" {
                break;
            }
        }
        let is_end = |point: &Point| matches!(point.call.as_str(), "execve" | "exit_group");
        assert!(points.last().is_some_and(is_end), "{trace}");
        points
    }

    /// Kills it right before it does one thing. Panics if it never comes to it.
    #[track_caller]
    pub fn kill_at(&self, sandbox: &Sandbox, point: &Point) {
        let out = sandbox.dir().join("killed");
        let inject = format!("inject={}:signal=KILL:when={}", point.call, point.n);
        let trace = format!("trace={}", point.call);
        let status = strace(sandbox, &out, &["-e", &trace, "-e", &inject], self).wait().unwrap();
        // strace ends as what it traced.
        assert_eq!(
            status.signal(),
            Some(Signal::SIGKILL as i32),
            "{self:?} did not come to {point:?}: {status}"
        );
    }
}

/// The `n`th call (from 1) of a system call of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The system call.
    pub call: String,
    /// Which of its calls.
    pub n: usize,
    /// The call as strace prints it.
    pub text: String,
}

/// What a hook gets on stdin for a container of the sandbox.
pub fn state(sandbox: &Sandbox, id: impl AsRef<str>) -> String {
    sandbox.runc(&["state", id.as_ref()]).ok().stdout
}

/// Runs a stage directly, with this state on stdin.
pub fn hook(sandbox: &Sandbox, stage: &str, state: &str) -> super::Ran {
    let config = sandbox.config_path();
    sandbox.command_with(
        dist("plimsoll-hook"),
        &[stage, "--config", config.to_str().unwrap()],
        state.as_bytes(),
    )
}

fn strace(sandbox: &Sandbox, out: &Path, options: &[&str], program: &Program) -> Child {
    let input = sandbox.dir().join("input");
    fs::write(&input, &program.input).unwrap();
    Command::new("strace")
        .arg("-o")
        .arg(out)
        .args(options)
        .arg(&program.path)
        .args(&program.args)
        .env("PLIMSOLL_CONFIG", sandbox.config_path())
        .stdin(File::open(input).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("start strace: {e}; run make deps"))
}

/// A hook that was stopped in the middle. It goes on, or is killed, when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    strace: Child,
    pid: Pid,
}

impl Stopped {
    /// Runs a stage for a container that is there, until the `n`th call of a system call is done.
    pub fn hook(sandbox: &Sandbox, bundle: &Bundle, stage: &str, call: &str, n: usize) -> Self {
        let out = sandbox.dir().join("stopped");
        let inject = format!("inject=/^{call}(at2?)?$:signal=STOP:when={n}");
        let trace = format!("trace=/^{call}(at2?)?$");
        let strace = strace(
            sandbox,
            &out,
            &["-e", &trace, "-e", &inject],
            &Program::hook(sandbox, stage, &state(sandbox, bundle)),
        );
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        let pid = wait_for("the hook to stop", || {
            assert!(Path::new(&children).exists(), "strace ended: {:?}", fs::read_to_string(&out));
            let pid: i32 = fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            let has_stopped = fs::read_to_string(&out).is_ok_and(|text| text.contains("stopped by SIGSTOP"));
            (has_stopped && matches!(state, 'T' | 't')).then_some(pid)
        });
        Self { strace, pid: Pid::from_raw(pid) }
    }

    /// The hook's process.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets it go on, to its end.
    pub fn go_on(mut self) {
        kill(self.pid, Signal::SIGCONT).unwrap();
        let status = self.strace.wait().unwrap();
        assert!(status.success(), "the hook that was stopped: {status}");
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.end();
    }
}
