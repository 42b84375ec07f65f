//! `config check` and `config show`.

use super::cli::ConfigCommand;
use super::paint::Tone;
use super::{PROBLEM, Said, Session};
use crate::hook::Hook;
use crate::policy::config::Config;

pub(super) fn run(session: &Session, command: &ConfigCommand) -> anyhow::Result<Said> {
    match command {
        ConfigCommand::Check => check(session),
        ConfigCommand::Show { defaults: true } => Ok(Said::fine(Config::defaults_toml())),
        ConfigCommand::Show { defaults: false } => Ok(Said::fine(Config::load(&session.config)?.to_toml())),
    }
}

fn check(session: &Session) -> anyhow::Result<Said> {
    let mut problems = Config::check(&session.config);
    if problems.is_empty() {
        // What the configuration points at can be wrong, too.
        let config = Config::load(&session.config)?;
        problems.extend(Hook::new(session.roots.clone(), config).err());
    }
    if !problems.is_empty() {
        let mut text = String::new();
        for problem in &problems {
            text.push_str(&session.paint.labelled("bad", Tone::Bad, 5, &problem.to_string(), Tone::Plain));
        }
        return Ok(Said { text, code: PROBLEM });
    }
    let files = Config::files(&session.config)?;
    if files.is_empty() {
        let path = session.config.display();
        return Ok(Said::fine(format!("No configuration at {path}: the defaults count.\n")));
    }
    let lines =
        files.iter().map(|file| format!("{}   {}\n", session.paint.tone(Tone::Good, "ok"), file.display()));
    Ok(Said::fine(lines.collect()))
}
