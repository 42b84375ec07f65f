//! `install` and `uninstall`: Plimsoll under the engines of this node.

use anyhow::Context;

use super::cli::InstallArgs;
use super::paint::{Paint, Tone};
use super::{PROBLEM, Said, Session};
use crate::install::{self, Engine, Node, Outcome, Wish};

impl Session {
    /// The node, as the installer sees it.
    pub(super) fn node(&self) -> anyhow::Result<Node> {
        Ok(Node {
            roots: self.roots.clone(),
            programs: self.programs(),
            is_live: self.is_live,
            runtime: install::configured_runtime(&self.config)?,
        })
    }
}

pub(super) fn install(session: &Session, args: &InstallArgs) -> anyhow::Result<Said> {
    let node = session.node()?;
    let wish = Wish {
        engine: args.engine.map(Engine::from),
        config: args.engine_config.clone(),
        handler: args.runtime_class.clone(),
        is_default: args.default,
        bin_dir: args.bin_dir.clone(),
    };
    let program = std::env::current_exe().context("find this program")?;
    let from = program.parent().unwrap_or(&program);
    let outcome = install::install(&node, &wish, from, args.dry_run)?;
    let mut text = report(session.paint, &outcome, args.dry_run);
    if outcome.steps.is_empty() {
        text.push_str("Already installed: nothing to change.\n");
    }
    let code = if outcome.problems.is_empty() { 0 } else { PROBLEM };
    Ok(Said { text, code })
}

/// What was done, or would be.
fn report(paint: Paint, outcome: &Outcome, is_dry: bool) -> String {
    let mut text = String::new();
    for diff in outcome.diffs.iter().filter(|_| is_dry) {
        for line in diff.lines() {
            let tone = match line.as_bytes().first() {
                Some(b'+') => Tone::Good,
                Some(b'-') => Tone::Bad,
                _ => Tone::Plain,
            };
            text.push_str(&paint.tone(tone, &super::paint::clean(line)));
            text.push('\n');
        }
        text.push('\n');
    }
    if is_dry && !outcome.steps.is_empty() {
        text.push_str("Nothing was changed. This is what would be done:\n");
    }
    for step in &outcome.steps {
        text.push_str(&paint.wrap("-", 2, step, Tone::Plain));
    }
    for note in &outcome.notes {
        text.push_str(&paint.wrap("!", 2, note, Tone::Warn));
    }
    for problem in &outcome.problems {
        text.push_str(&paint.wrap("!", 2, problem, Tone::Bad));
    }
    text
}
