//! `plimsoll`: the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    plimsoll::tool::main()
}
