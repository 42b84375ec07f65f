//! `containerd-shim-plimsoll-v2`: a shim to containerd, the real one underneath.
//!
//! containerd calls its shim with `start` for each container, in the container's bundle, and with `delete` at the end
//! (`core/runtime/v2/binary.go`). For Kata Containers that is the one moment before the pod's virtual machine, and before
//! each of its containers: there the pod's groups get their values and the bundle its CPUs and hooks. Then, and for
//! everything else at once, it becomes the real shim: same process, same arguments, same open files.

mod args;
mod prepare;
pub mod real;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Action, Call};

use crate::error::Result;
use crate::record::ContainerId;
use crate::runtime::{self, is_host_root};

/// Runs one call: what the program `containerd-shim-plimsoll-v2` does. Returns only where the real shim could not be had.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let (name, args) = match args.split_first() {
        Some((name, args)) => (name.clone(), args),
        None => (OsString::from(real::OWN), &[][..]),
    };
    match run(&name, args) {
        Ok(never) => match never {},
        Err(error) => {
            // containerd shows what a shim that fails has printed.
            eprintln!("containerd-shim-plimsoll: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &std::ffi::OsStr, args: &[OsString]) -> Result<std::convert::Infallible> {
    let own_config = runtime::own_config();
    let config = runtime::load(own_config.as_deref());
    let shims = config.as_ref().map(|config| config.shim.clone()).unwrap_or_default();
    let call = Call::read(args);
    let found = real::find(name, &shims.programs);
    let is_kata = found.as_ref().map_or(true, |(name, _)| shims.is_kata(name));
    let action = call.action.filter(|_| is_kata && is_host_root());
    let hook = action.and_then(|_| runtime::hook(config, "shim", call.id.as_deref()));
    let error = match (found, &hook) {
        (Err(error), _) => error,
        (Ok((_, program)), None) => real::UNDER.become_it(&program, args),
        (Ok((_, program)), Some(hook)) => {
            let done = match action {
                Some(Action::Start) => prepare::start(hook, &call, own_config.as_deref()),
                _ => prepare::delete(hook, &call).map_err(Into::into),
            };
            runtime::settle(hook, "shim", call.id.as_deref(), done)?;
            real::UNDER.become_it(&program, args)
        }
    };
    // Nobody else gives back what a container had that never came to be, be it by a wrapper that called this one.
    if let (Some(hook), Some(Action::Start)) = (&hook, action) {
        prepare::delete(hook, &call)?;
    }
    Err(error)
}

/// The container's id, where it is one.
fn id(call: &Call) -> Option<Result<ContainerId>> {
    call.id.as_deref().map(str::parse)
}
