//! A shim that does to cgroups, hooks, state and threads what Kata's shims do, around a real VMM whose vCPUs run a real
//! kernel. There is no agent in the guest: a container of a pod is a record in here.
//!
//! It is the tests' own program under the name of a shim, reads a file of the form of Kata's `configuration.toml`, and
//! writes down what it did, in order: see [`journal`].

mod config;
mod flow;
mod groups;
mod hooks;
pub mod journal;
mod messages;
mod places;
mod sandbox;
mod service;
pub mod spec;
mod ttrpc;
mod vmm;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use prost::Message;

pub use groups::slice_path;
use spec::Spec;
pub use vmm::APPEND;

/// Where containerd's shims have their sockets.
const SOCKETS: &str = "/run/containerd/s";

/// What containerd gives to every call.
#[derive(Debug, Default)]
struct Options {
    namespace: String,
    address: String,
    id: String,
    bundle: String,
    action: String,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').map(|flag| flag.trim_start_matches('-')) else {
                options.action = word;
                continue;
            };
            let mut value = || words.next().ok_or_else(|| format!("flag needs an argument: -{flag}"));
            match flag {
                "namespace" => options.namespace = value()?,
                "address" => options.address = value()?,
                "id" => options.id = value()?,
                "bundle" => options.bundle = value()?,
                "publish-binary" | "socket" => drop(value()?),
                "debug" => {}
                // Neither of Kata's shims knows `-info`.
                _ => return Err(format!("flag provided but not defined: -{flag}")),
            }
        }
        Ok(options)
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let done = Options::parse(std::env::args().skip(1)).and_then(|options| match options.action.as_str() {
        "start" => start(&options),
        "delete" => delete(&options),
        "" => service::serve(listener()?),
        other => Err(format!("no such action: {other}")),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Of a sandbox: starts the shim proper, which lives on. Of a container in one: only tells where that is.
fn start(options: &Options) -> Result<(), String> {
    let spec = Spec::load(Path::new("."))?;
    let sandbox = spec.sandbox().unwrap_or(&options.id);
    let mut hasher = DefaultHasher::new();
    (&options.address, &options.namespace, sandbox).hash(&mut hasher);
    let socket = format!("{SOCKETS}/{:016x}", hasher.finish());
    if spec.is_sandbox() {
        fs::create_dir_all(SOCKETS).map_err(|e| format!("make {SOCKETS}: {e}"))?;
        let listener = UnixListener::bind(&socket).map_err(|e| format!("listen on {socket}: {e}"))?;
        // By its own path, so that it has its own name.
        let program = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
        let shim = Command::new(program)
            .args(["-namespace", &options.namespace, "-address", &options.address, "-id", &options.id])
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            // containerd waits for the end of what `start` says, and logs what comes by this FIFO.
            .stderr(log().map_or_else(|_| Stdio::null(), Stdio::from))
            .process_group(0)
            .spawn()
            .map_err(|e| format!("start the shim: {e}"))?;
        write("shim.pid", &shim.id().to_string())?;
    }
    let address = format!("unix://{socket}");
    write("address", &address)?;
    io::stdout().write_all(address.as_bytes()).map_err(|e| format!("tell the address: {e}"))
}

/// What is left of a shim that died goes.
fn delete(options: &Options) -> Result<(), String> {
    sandbox::remove_remains(&options.id);
    let answer =
        messages::DeleteResponse { pid: 0, exit_status: 137, exited_at: Some(SystemTime::now().into()) };
    io::stdout().write_all(&answer.encode_to_vec()).map_err(|e| format!("answer: {e}"))
}

/// The socket that `start` has given along as stdin.
fn listener() -> Result<UnixListener, String> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("the socket: {e}"))?;
    Ok(UnixListener::from(socket))
}

fn log() -> io::Result<fs::File> {
    // For reading too, so that it does not wait for a reader.
    fs::OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open("log")
}

fn write(name: &str, text: &str) -> Result<(), String> {
    fs::write(name, text).map_err(|e| format!("write {name}: {e}"))
}
