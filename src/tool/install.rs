//! `install` and `uninstall`: Plimsoll under the engines of this node.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::cli::{InstallArgs, UninstallArgs};
use super::paint::{Paint, Tone};
use super::{PROBLEM, Said, Session};
use crate::install::{self, Engine, Node, Outcome, Wish};
use crate::policy::config::Config;
use crate::programs;

impl Session {
    /// The node, as the installer sees it.
    pub(super) fn node(&self) -> anyhow::Result<Node> {
        let config = Config::load(&self.config)?;
        Ok(Node {
            shims: config.shim,
            runtime: config.runtime.path,
            roots: self.roots.clone(),
            programs: self.programs(),
            is_live: self.is_live,
        })
    }
}

pub(super) fn install(session: &Session, args: &InstallArgs) -> anyhow::Result<Said> {
    let wish = Wish {
        engine: args.engine.map(Engine::from),
        config: args.engine_config.as_deref().map(absolute).transpose()?,
        handler: args.runtime_class.clone(),
        is_default: args.default,
        bin_dir: args.bin_dir.clone(),
    };
    let program = std::env::current_exe().context("find this program")?;
    let from = program.parent().unwrap_or(&program);
    let mut outcome = install::install(&session.node()?, &wish, from, args.dry_run)?;
    if outcome.steps.is_empty() {
        outcome.steps.push("already installed: nothing to change".to_owned());
    }
    let mut said = finish(session, outcome.clone(), args.dry_run, args.restart)?;
    if !args.dry_run {
        said.text.push_str(&use_it(session.paint, &outcome, &wish));
    }
    Ok(said)
}

pub(super) fn uninstall(session: &Session, args: &UninstallArgs) -> anyhow::Result<Said> {
    let main = args.engine_config.as_deref().map(absolute).transpose()?;
    let engine = args.engine.map(Engine::from);
    let mut outcome = install::uninstall(&session.node()?, engine, main.as_deref(), args.dry_run)?;
    if outcome.steps.is_empty() && outcome.problems.is_empty() {
        outcome.steps.push("not installed: nothing to take off".to_owned());
    }
    finish(session, outcome, args.dry_run, args.restart)
}

/// What was installed for a file is known by its whole path.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

/// Restarts where that is wanted, and says what was done.
fn finish(session: &Session, mut outcome: Outcome, is_dry: bool, restart: bool) -> anyhow::Result<Said> {
    let mut todo = Vec::new();
    for (engine, words) in outcome.changed.iter().filter_map(|engine| Some((engine, engine.restart()?))) {
        let line = words.join(" ");
        if !restart || !session.is_live {
            todo.push(format!("{line}: {engine} reads its configuration then; containers that run stay"));
            continue;
        }
        let [program, args @ ..] = words;
        match programs::output(Command::new(program).args(args)) {
            Ok((true, ..)) => outcome.steps.push(line),
            Ok((false, _, why)) => outcome.problems.push(format!("{line}: {}", why.trim())),
            Err(error) => outcome.problems.push(format!("{line}: {error}")),
        }
    }
    let paint = session.paint;
    let mut text = String::new();
    if is_dry {
        outcome.diffs.iter().for_each(|diff| text.push_str(&painted(paint, diff)));
        text.push_str("Nothing was changed. This is what would be done:\n");
    }
    let mut list = |mark: &str, lines: &[String], tone| {
        lines.iter().for_each(|line| text.push_str(&paint.wrap(mark, 3, line, tone)));
    };
    list("-", &outcome.steps, Tone::Plain);
    list("!", &outcome.notes, Tone::Warn);
    list("!", &outcome.problems, Tone::Bad);
    list("->", &todo, Tone::Head);
    let code = if outcome.problems.is_empty() { 0 } else { PROBLEM };
    Ok(Said { text, code })
}

fn painted(paint: Paint, diff: &str) -> String {
    let tone = |line: &str| match line.as_bytes().first() {
        Some(b'+') => Tone::Good,
        Some(b'-') => Tone::Bad,
        _ => Tone::Plain,
    };
    // As it is, so that it can be applied: an engine's files are root's, and nothing in them is hostile.
    diff.split('\n').map(|line| paint.tone(tone(line), line) + "\n").collect()
}

/// How containers come to the handler that was installed.
fn use_it(paint: Paint, outcome: &Outcome, wish: &Wish) -> String {
    let name = &wish.handler;
    let mut text = String::new();
    let mut say = |line: &str| text.push_str(&paint.wrap("", 3, line, Tone::Plain));
    for engine in &outcome.engines {
        match engine {
            _ if wish.is_default => {}
            Engine::Docker => say(&format!("docker run --runtime {name} ... takes it.")),
            Engine::Podman => say(&format!("podman --runtime {name} run ... takes it.")),
            Engine::Containerd | Engine::Crio => {}
        }
    }
    let by_class = outcome.engines.iter().any(|engine| engine.is_kubernetes()) && !wish.is_default;
    let names = by_class.then_some(name).into_iter().chain(&outcome.katas);
    for name in names {
        let what = if name == &wish.handler { "Pods take it" } else { "Kata's pods take theirs" };
        text.push_str(&paint.wrap(
            "",
            3,
            &format!("{what} by `runtimeClassName: {name}`, once the cluster has this:"),
            Tone::Plain,
        ));
        text.push_str(&format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {name}\nhandler: {name}\n"
        ));
        if name != &wish.handler {
            let more = "Give it the overhead and scheduling of the RuntimeClass that they have now.";
            text.push_str(&paint.wrap("", 3, more, Tone::Plain));
        }
    }
    text
}
