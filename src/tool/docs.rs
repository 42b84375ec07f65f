//! Completions and manual pages, generated from the command line's definitions.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Said;
use super::cli::Cli;
use crate::error::Error;

pub(super) fn completions(shell: Shell) -> anyhow::Result<Said> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "plimsoll", &mut text);
    Ok(Said::fine(String::from_utf8(text)?))
}

pub(super) fn man(dir: Option<&Path>) -> anyhow::Result<Said> {
    let mut command = Cli::command();
    let Some(dir) = dir else {
        command.build();
        let mut text = Vec::new();
        Man::new(command).section("8").render(&mut text)?;
        return Ok(Said::fine(String::from_utf8(text)?));
    };
    std::fs::create_dir_all(dir).map_err(|e| Error::os("make folder", dir, &e))?;
    command.build();
    let mut names = Vec::new();
    page(&command, dir, &mut names)?;
    Ok(Said::fine(names.join("\n") + "\n"))
}

/// The pages of a command and of those below it: `plimsoll-config-check.8`.
fn page(command: &clap::Command, dir: &Path, names: &mut Vec<String>) -> anyhow::Result<()> {
    let man = Man::new(command.clone()).section("8");
    let path = dir.join(man.get_filename());
    let mut text = Vec::new();
    man.render(&mut text)?;
    std::fs::write(&path, text).map_err(|e| Error::os("write", &path, &e))?;
    names.push(path.display().to_string());
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| page(sub, dir, names))
}
