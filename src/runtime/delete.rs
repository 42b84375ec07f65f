//! `delete`: what the container had is given back when it is gone.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use super::args::Call;
use super::child;
use crate::container::State;
use crate::error::Result;
use crate::hook::{Hook, Stage};
use crate::record::ContainerId;

/// Deletes a container that Plimsoll has something of. Returns how that ended; none where it has nothing.
///
/// # Errors
///
/// The runtime cannot be started.
pub(super) fn run(hook: &Hook, call: &Call, args: &[OsString], program: &Path) -> Result<Option<ExitCode>> {
    let Some(Ok(id)) = call.id.as_deref().map(str::parse::<ContainerId>) else { return Ok(None) };
    if !hook.has(&id) {
        return Ok(None);
    }
    let status = child::run(program, args, None);
    // The second time the runtime says that there is no such container, and that is what counts.
    if status.as_ref().is_ok_and(ExitStatus::success) || !hook.is_live(&id) {
        hook.stage(Stage::Poststop, &State { id, pid: None, bundle: None, annotations: Vec::new() })?;
    }
    status.map(|status| Some(child::code(status)))
}
