//! The real runtime as a child: where something is left to do after it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use super::real;
use crate::error::{Error, Result};
use crate::sys;

/// Runs the runtime to its end, with these bytes on its standard input if there are any. It does not outlive the wrapper:
/// an engine that ends its runtime ends both.
pub(super) fn run(program: &Path, args: &[OsString], input: Option<&[u8]>) -> Result<ExitStatus> {
    let mut command = real::UNDER.command(program, args);
    sys::die_with_parent(&mut command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::inherit() });
    let mut child = command.spawn().map_err(|e| Error::os("execute", program, &e))?;
    if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), input) {
        // A runtime that reads only part of it says so itself.
        let _ = stdin.write_all(bytes);
    }
    child.wait().map_err(|e| Error::os("wait for", program, &e))
}

/// The runtime's exit code; as a shell says it where a signal ended it.
pub(super) fn code(status: ExitStatus) -> ExitCode {
    let number = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(number).unwrap_or(1))
}
