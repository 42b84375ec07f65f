//! `plimsoll-runtime`: the OCI runtime an engine is given in place of the real one. See [`plimsoll::runtime`].

use std::process::ExitCode;

/// As in the hook: a call lives for less than a millisecond before the real runtime takes its place.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    plimsoll::runtime::main(std::env::args_os().collect())
}
