//! Hooks, as the two runtimes run them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::config::Flavour;
use super::spec::Hook;

/// Runs one to its end, or to its time limit.
pub fn run(flavour: Flavour, hook: &Hook, state: &Value) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    // The Go runtime's hooks inherit where the spec gives no environment at all.
    if !flavour.is_go() || hook.env.is_some() {
        command.env_clear();
    }
    command.envs(hook.env.iter().flatten().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("fork/exec {}: {e}", hook.path))?;
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    // One that does not read its state has not failed for that.
    let _ = stdin.write_all(state.to_string().as_bytes());
    drop(stdin);

    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let limit = hook.timeout.or_else(|| (!flavour.is_go()).then_some(10));
    let output = match limit {
        Some(seconds) => ended.recv_timeout(Duration::from_secs(seconds)).map_err(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            "Hook timeout".to_owned()
        })?,
        None => ended.recv().map_err(|e| e.to_string())?,
    };
    let output = output.map_err(|e| format!("wait for {}: {e}", hook.path))?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}: stdout: {}, stderr: {}", output.status, text(&output.stdout), text(&output.stderr)))
}
