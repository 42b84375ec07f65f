//! The one place that needs `unsafe`.
#![allow(unsafe_code, reason = "between fork and exec the standard library promises nothing")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Has a command's process killed as soon as this one ends, however it ends (prctl(2), `PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before it was asked to say so.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: two system calls, which are async-signal-safe, and no allocation.
    unsafe { command.pre_exec(prepare) };
}
