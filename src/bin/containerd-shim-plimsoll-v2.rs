//! `containerd-shim-plimsoll-v2`: the shim containerd is given in place of the real one. See [`plimsoll::shim`].

use std::process::ExitCode;

/// As in the hook: a call lives for less than a millisecond before the real shim takes its place.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    plimsoll::shim::main(std::env::args_os().collect())
}
