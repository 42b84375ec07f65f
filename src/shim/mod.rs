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
    let (name, program) = real::find(name, &shims.programs)?;
    let call = Call::read(args);
    let mut hook = None;
    if let Some(action) = call.action.filter(|_| shims.is_kata(&name) && is_host_root()) {
        hook = runtime::hook(config, "shim", call.id.as_deref());
        if let Some(hook) = &hook {
            let done = match action {
                Action::Start => prepare::start(hook, &call, own_config.as_deref()),
                Action::Delete => prepare::delete(hook, &call).map_err(Into::into),
            };
            runtime::settle(hook, "shim", call.id.as_deref(), done)?;
        }
    }
    let error = real::UNDER.become_it(&program, args);
    // Nobody will give back what a container had that never came to be.
    if let (Some(hook), Some(Action::Start)) = (&hook, call.action) {
        prepare::delete(hook, &call)?;
    }
    Err(error)
}

/// The container's id, where it is one.
fn id(call: &Call) -> Option<Result<ContainerId>> {
    call.id.as_deref().map(str::parse)
}
