//! The operator's tool `plimsoll`: what the hook would do, what it did, and what this node can do. Not the hook's path,
//! so comfort comes before size here.

mod check;
mod cli;
mod config;
mod docs;
mod explain;
mod human;
mod install;
mod node;
mod paint;
mod plan;
mod record;
mod repair;
mod seen;
mod stats;
mod status;
mod switch;
mod vm;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::error::Error;
use crate::hook::Hook;
use crate::kernel::fs::Roots;
use crate::policy::config::{Config, DEFAULT_PATH};
use crate::programs::Programs;
use cli::{Cli, Command};
use paint::{Paint, Tone};

/// A problem was found, or something could not be done.
const PROBLEM: u8 = 1;
/// Some container is not as it should be.
const DRIFT: u8 = 3;

/// What every command works with.
struct Session {
    roots: Roots,
    /// Whether the tree is this node's own, so that programs may be asked too.
    is_live: bool,
    config: PathBuf,
    paint: Paint,
}

/// What a command has to say, and its exit code.
struct Said {
    text: String,
    code: u8,
}

impl Said {
    fn fine(text: String) -> Self {
        Self { text, code: 0 }
    }

    fn json(value: &impl serde::Serialize, code: u8) -> anyhow::Result<Self> {
        Ok(Self { text: format!("{}\n", serde_json::to_string_pretty(value)?), code })
    }
}

impl Session {
    fn new(cli: &Cli) -> Self {
        let roots = cli.root.clone().map_or_else(Roots::default, Roots::at);
        let config = cli.config.clone().unwrap_or_else(|| roots.path(DEFAULT_PATH));
        Self { is_live: cli.root.is_none(), paint: Paint::of(cli.color), roots, config }
    }

    /// The hook as it would be on this node.
    fn hook(&self) -> anyhow::Result<Hook> {
        let config = Config::load(&self.config)?;
        Ok(Hook::new(self.roots.clone(), config)?)
    }

    /// The programs of this node, or of the fixture tree.
    fn programs(&self) -> Programs {
        Programs::of(&self.roots, self.is_live)
    }

    /// The line that says that nothing is done at present; empty where the hook is on.
    fn off_notice(&self, hook: &Hook) -> String {
        if !switch::is_off(self, Some(hook)) {
            return String::new();
        }
        let text = "The hook is switched off: containers start untreated. `plimsoll enable` turns it on.";
        format!("{}\n\n", self.paint.tone(Tone::Warn, text))
    }
}

/// Runs the tool with this process's arguments.
pub fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let cli = Cli::parse();
    let done = run(&cli).and_then(|said| {
        print(&said.text)?;
        Ok(said.code)
    });
    match done {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where this fails, too.
            let _ = writeln!(io::stderr(), "plimsoll: {}", paint::clean(&format!("{error:#}")));
            ExitCode::from(PROBLEM)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Said> {
    if let Some(root) = &cli.root {
        // A mistyped one would be an empty node, and installed into.
        fs::read_dir(root).map_err(|e| Error::os("open what --root names", root, &e))?;
    }
    let session = Session::new(cli);
    match &cli.command {
        Command::Plan(args) => plan::run(&session, args),
        Command::Explain(args) => explain::run(&session, args),
        Command::Status(args) => status::run(&session, args),
        Command::Check(args) => check::run(&session, args.json),
        Command::Repair(args) => repair::run(&session, args.dry_run),
        Command::Install(args) => install::install(&session, args),
        Command::Uninstall(args) => install::uninstall(&session, args),
        Command::Config { command } => config::run(&session, command),
        Command::Disable => switch::disable(&session),
        Command::Enable => switch::enable(&session),
        Command::Completions { shell } => docs::completions(*shell),
        Command::Man { dir } => docs::man(dir.as_deref()),
        Command::Version => Ok(Said::fine(format!("plimsoll {}\n", env!("CARGO_PKG_VERSION")))),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}
