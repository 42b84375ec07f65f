//! `plimsoll-hook`: the OCI hook. Reads the container's state from standard input and places the container.

use std::path::PathBuf;
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use plimsoll::container::Edits;
use plimsoll::error::Error;
use plimsoll::hook::{Stage, Told};
use plimsoll::kernel::fs::Roots;
use plimsoll::policy::config;

/// A start lives for less than a millisecond, and musl's allocator spends a fifth of that on mapping single pages.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

const USAGE: &str = "usage: plimsoll-hook <prestart|createRuntime|createContainer|poststart|poststop>\n\
    \x20                    [--config FILE] [--engine JSON] [--sandbox ID] [--root DIR]\n\
    An OCI hook: the container's state is read from standard input.\n\
    --config FILE  the configuration (/etc/plimsoll/config.toml)\n\
    --engine JSON  what a wrapper changed of the engine's wishes; it gives this itself\n\
    --sandbox ID   the sandbox whose virtual machine the container is in; given by the shim's wrapper\n\
    --root DIR     a fixture tree to work on in place of this node";

struct Args {
    stage: Stage,
    config: PathBuf,
    told: Told,
    roots: Roots,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("plimsoll-hook: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    drop_capabilities();
    match plimsoll::hook::main(args.stage, &args.config, args.roots, args.told, std::io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The runtime shows this to whoever started the container.
            eprintln!("plimsoll-hook {}: {error}", args.stage.name());
            ExitCode::FAILURE
        }
    }
}

/// Gives up every capability but the one that moving a container's process between cpusets takes. Root owns every
/// file that is read or written, so nothing else is needed; where the kernel refuses, the hook has less to give up.
fn drop_capabilities() {
    let keep = CapsHashSet::from([Capability::CAP_SYS_NICE]);
    for set in [CapSet::Effective, CapSet::Permitted] {
        let _ = caps::set(None, set, &keep);
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let (mut stage, mut file, mut root, mut told) = (None, None, None, Told::default());
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = |name: &str| args.next().ok_or_else(|| format!("{name} needs a value"));
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--config" => file = Some(value("--config")?),
            "--engine" => told.edits = Edits::parse(&value("--engine")?).map_err(|e| e.to_string())?,
            "--sandbox" => {
                told.sandbox = Some(value("--sandbox")?.parse().map_err(|e: Error| e.to_string())?);
            }
            "--root" => root = Some(value("--root")?),
            word => match word.parse() {
                Ok(known) if stage.is_none() => stage = Some(known),
                Ok(_) => return Err("one stage at a time".to_owned()),
                Err(()) => return Err(format!("{word:?} is neither a stage nor an option")),
            },
        }
    }
    let roots = root.map_or_else(Roots::default, Roots::at);
    Ok(Some(Args {
        stage: stage.ok_or("which stage?")?,
        config: file.map_or_else(|| roots.path(config::DEFAULT_PATH), PathBuf::from),
        told,
        roots,
    }))
}
