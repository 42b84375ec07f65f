//! `plimsoll-runtime`: an OCI runtime to the engine, the real one underneath.
//!
//! It does its part for `create`, `run`, `restore`, `start`, `update` and `delete` of containers that ask for something,
//! and becomes the real runtime for everything else: same process, same arguments, same open files. Whatever goes wrong in it starts
//! the container through the real runtime and is logged, unless the policy says otherwise.

pub mod args;
mod child;
mod create;
mod delete;
pub mod real;
pub(crate) mod spec;
pub mod under;
mod update;
mod values;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::{Call, Verb};
use create::Created;
use spec::Ours;

use crate::container::State;
use crate::error::{Error, Result};
use crate::hook::{Failure, Hook, Stage};
use crate::kernel::fs::Roots;
use crate::log::{self, Level, Logger};
use crate::policy::config::{self, Config, OnError};
use crate::record::Store;

/// Names another configuration than [`config::DEFAULT_PATH`]: an engine gives its runtime no arguments of ours.
pub const CONFIG_VARIABLE: &str = "PLIMSOLL_CONFIG";

/// The hook's program, beside the wrapper's.
const HOOK: &str = "plimsoll-hook";

/// Runs one call: what the program `plimsoll-runtime` does. Returns only where the real runtime was a child, or could
/// not be had.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let (name, args) = match args.split_first() {
        Some((name, args)) => (name.clone(), args),
        None => (OsString::from("plimsoll-runtime"), &[][..]),
    };
    let call = Call::read(args);
    match run(&name, &call, args) {
        Ok(code) => code,
        Err(error) => {
            complain(&call, &error);
            ExitCode::FAILURE
        }
    }
}

fn run(name: &OsStr, call: &Call, args: &[OsString]) -> Result<ExitCode> {
    let own_config = own_config();
    let config = load(own_config.as_deref());
    let configured = config.as_ref().ok().and_then(|config| config.runtime.path.clone());
    let program = real::find(name, configured.as_deref())?;
    if let Some(verb) = call.verb.filter(|_| is_host_root()) {
        if let Some(hook) = hook(config, "runtime", call.id.as_deref()) {
            let done = match verb {
                Verb::Create | Verb::Run | Verb::Restore => {
                    match prepare(&hook, call, own_config.as_deref())? {
                        Some(created) => Some(create::run(hook, call, args, &program, created)?),
                        None => None,
                    }
                }
                Verb::Start => {
                    start(&hook, call)?;
                    None
                }
                Verb::Update => update::run(&hook, call, args, &program)?,
                Verb::Delete => delete::run(&hook, call, args, &program)?,
            };
            if let Some(code) = done {
                return Ok(code);
            }
        }
    }
    Err(real::UNDER.become_it(&program, args))
}

/// The configuration that a wrapper is told to use.
pub(crate) fn own_config() -> Option<PathBuf> {
    env::var_os(CONFIG_VARIABLE).map(PathBuf::from)
}

/// A wrapper's configuration: its own or the usual one.
pub(crate) fn load(own: Option<&Path>) -> Result<Config> {
    Config::load(own.unwrap_or_else(|| Path::new(config::DEFAULT_PATH)))
}

/// The hook that a wrapper works with; none where it is switched off, or its configuration cannot be used.
pub(crate) fn hook(config: Result<Config>, stage: &str, id: Option<&str>) -> Option<Hook> {
    match config.and_then(|config| Hook::new(Roots::default(), config)) {
        Ok(hook) => {
            let is_off = hook.store.is_disabled() || Store::at(crate::hook::DEFAULT_RUN).is_disabled();
            (!is_off).then_some(hook)
        }
        Err(error) => {
            // What the policy would have been is not known.
            let logger = Logger::new(&Config::default());
            let message = "passed through: the configuration cannot be used";
            log(&logger, stage, id, message, &error);
            None
        }
    }
}

/// What a wrapper's failure means for the container: it starts as it was, unless the policy says otherwise.
pub(crate) fn settle<T>(
    hook: &Hook,
    stage: &str,
    id: Option<&str>,
    done: Result<T, Failure>,
) -> Result<Option<T>> {
    let Failure { class, error } = match done {
        Ok(done) => return Ok(Some(done)),
        Err(failure) => failure,
    };
    if hook.config.on_error(class) == OnError::Fail {
        log(&hook.logger, stage, id, "container refused", &error);
        return Err(error);
    }
    log(&hook.logger, stage, id, "container left as it was", &error);
    Ok(None)
}

fn prepare(hook: &Hook, call: &Call, config: Option<&Path>) -> Result<Option<Created>> {
    let prepared = own_hook().map_err(Failure::from).and_then(|program| {
        let ours = Ours { program: &program, config, stages: &create::STAGES, sandbox: None };
        create::prepare(hook, call, &ours)
    });
    settle(hook, "runtime", call.id.as_deref(), prepared).map(Option::flatten)
}

/// What was touched since the container was created is put right before its workload runs.
fn start(hook: &Hook, call: &Call) -> Result<()> {
    match call.id.as_deref().map(str::parse) {
        Some(Ok(id)) => {
            let state = State { id, pid: None, bundle: None, annotations: Vec::new() };
            hook.stage(Stage::Poststart, &state)
        }
        // Not for us to complain of.
        _ => Ok(()),
    }
}

/// Where the hook's program has to be.
pub(crate) fn own_hook() -> Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    let own = fs::read_link(link).map_err(|e| Error::os("read", link, &e))?;
    Ok(own.with_file_name(HOOK))
}

/// Whether this is root of the machine: anybody else's runtime can write neither groups nor records.
pub(crate) fn is_host_root() -> bool {
    // In a user namespace uid 0 is somebody else outside (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn log(logger: &Logger, stage: &str, id: Option<&str>, message: &str, error: &Error) {
    let text = error.to_string();
    let fields = [("stage", stage), ("container", id.unwrap_or("?")), ("errors", text.as_str())];
    logger.log(Level::Error, message, &fields);
}

/// Says an error of the wrapper's own where an engine looks for it: on standard error, and at the end of `--log`
/// (containerd shows the last line of level `error`).
fn complain(call: &Call, error: &Error) {
    let text = format!("plimsoll-runtime: {error}");
    eprintln!("{text}");
    let Some(path) = &call.log else { return };
    let line = log::runtime_line(&text, call.log_is_json);
    let written =
        OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(&line));
    if let Err(e) = written {
        eprintln!("plimsoll-runtime: {}", Error::os("write", path, &e));
    }
}
