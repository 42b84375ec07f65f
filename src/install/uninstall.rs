//! Taking it off: the engines' files first, then the programs, unless a container still needs them.

use std::path::{Path, PathBuf};

use super::apply::{Outcome, diff, lock};
use super::document::{Document, at, revert};
use super::live::{self, Reference};
use super::manifest::{Installed, Manifest, Touched};
use super::{Engine, HEAD, Node, disk, plan};
use crate::error::Result;

/// Takes Plimsoll off an engine, or off all. Files that nobody else touched are as they were, byte for byte; from others
/// what is ours goes. The programs stay while other engines or containers refer to them, and so does an engine's handler
/// while containers refer to it; that it is the default never stays. A dry run changes nothing.
///
/// # Errors
///
/// A file cannot be read, understood or written. What was done until then is done; another run goes on.
pub fn uninstall(node: &Node, engine: Option<Engine>, main: Option<&Path>, is_dry: bool) -> Result<Outcome> {
    let _lock = if is_dry { None } else { Some(lock(&node.roots)?) };
    let mut manifest = Manifest::load(&node.roots)?;
    let mut outcome = Outcome::default();
    let (gone, stay): (Vec<_>, Vec<_>) = manifest.engines.into_iter().partition(|installed| {
        engine.is_none_or(|engine| installed.engine == engine)
            && main.is_none_or(|main| installed.main == main)
    });
    let is_all = stay.is_empty();
    manifest.engines = stay;
    let programs = there(node, &manifest);
    let mut references = live::references(node, &gone, &programs);
    let mut restores = Vec::new();
    for installed in &gone {
        let is_held = references.iter().any(|reference| reference.engine == Some(installed.engine));
        let mut files = Vec::new();
        outcome.engines.push(installed.engine);
        for file in installed.files.iter().rev() {
            let restore = Restore::of(file, is_held.then_some(installed))?;
            files.insert(0, restore.as_ref().map_or_else(|| file.clone(), Restore::touched));
            restores.extend(restore.filter(Restore::changes));
        }
        if is_held {
            manifest.engines.push(Installed { files, ..installed.clone() });
        } else if installed.engine.is_kubernetes() {
            outcome.notes.push(format!(
                "{}: pods whose RuntimeClass names the handler {}, or one made for Kata, do not start on this node any more",
                installed.engine, installed.handler
            ));
        }
        if !installed.files.is_empty() && !outcome.changed.contains(&installed.engine) {
            outcome.changed.push(installed.engine);
        }
    }
    for restore in &restores {
        outcome.steps.push(restore.text());
        outcome.diffs.push(diff(&restore.file.path, Some(&restore.now), restore.then.as_deref()));
    }
    if !is_dry {
        restores.iter().try_for_each(Restore::run)?;
        let files = || gone.iter().flat_map(|installed| &installed.files);
        files().try_for_each(|file| disk::sweep(&file.path, &file.beside))?;
        files().for_each(remove_folders);
        if !gone.is_empty() {
            manifest.save(&node.roots)?;
        }
    }
    if manifest.engines.is_empty() && references.is_empty() {
        // Until the files were changed one more may have been made.
        references = live::references(node, &gone, &programs);
    }
    if !is_all {
        references.retain(|r| gone.iter().any(|installed| r.engine == Some(installed.engine)));
    }
    if !references.is_empty() {
        outcome.problems.extend(refused(&references, &manifest, is_all));
    } else if manifest.engines.is_empty() {
        remove_programs(node, &mut manifest, &mut outcome, is_dry)?;
    }
    Ok(outcome)
}

/// A file to be put back.
struct Restore<'f> {
    file: &'f Touched,
    now: String,
    /// Its text without what is ours; `None` where no file stays.
    without: Option<String>,
    /// Its text then: that, and our handler where it is still needed.
    then: Option<String>,
}

impl<'f> Restore<'f> {
    /// `None` where it is not there any more. That of an engine that is held keeps our handler, as if it had been installed
    /// without being the default.
    fn of(file: &'f Touched, held: Option<&Installed>) -> Result<Option<Self>> {
        let Touched { path, syntax, before, after, owned, .. } = file;
        let Some(now) = disk::read(path)? else { return Ok(None) };
        let without = revert(*syntax, path, before.as_deref(), after, &now, owned)?;
        let mut then = without.clone();
        if let Some(Installed { engine, base, .. }) = held {
            let value = |text: &str| Document::parse(*syntax, path, text).map(|document| document.value());
            let (is, left) = (value(&now)?, value(without.as_deref().unwrap_or_default())?);
            let handler = |own| Some((Vec::clone(own), at(&is, own)?.clone()));
            let handlers = owned.iter().filter_map(handler);
            let kept: Vec<_> = engine.other_default(base, &is, &left).into_iter().chain(handlers).collect();
            if !kept.is_empty() {
                let head = if now.starts_with(HEAD) { HEAD } else { "" };
                then = Some(plan::with(*syntax, path, without.as_deref(), head, &kept)?);
            }
        }
        Ok(Some(Self { file, now, without, then }))
    }

    fn changes(&self) -> bool {
        self.then.as_ref() != Some(&self.now)
    }

    /// What is left of our change to it.
    fn touched(&self) -> Touched {
        let after = self.then.clone().unwrap_or_default();
        Touched { before: self.without.clone(), after, ..self.file.clone() }
    }

    fn text(&self) -> String {
        let path = self.file.path.display();
        match &self.then {
            then if *then != self.without => format!("leave of ours only the handler in {path}"),
            None => format!("remove {path}"),
            Some(then) if self.file.before.as_ref() == Some(then) => format!("put {path} back as it was"),
            Some(_) => format!("take our settings out of {path}; others changed it since, and theirs stay"),
        }
    }

    fn run(&self) -> Result<()> {
        match &self.then {
            Some(then) => disk::write(&self.file.path, &self.file.beside, 0o644, then.as_bytes()),
            None => disk::remove(&self.file.path),
        }
    }
}

/// The folders that were made for a file, unless somebody uses them.
fn remove_folders(file: &Touched) {
    for folder in file.folders.iter().rev() {
        let _ = std::fs::remove_dir(folder);
    }
}

/// The programs and links that are there, as paths of the node.
fn there(node: &Node, manifest: &Manifest) -> Vec<String> {
    let top = node.roots.path("/");
    let of_node = |path: &PathBuf| {
        let below = path.strip_prefix(&top).unwrap_or(path);
        Path::new("/").join(below).display().to_string()
    };
    manifest.programs.iter().filter(|path| path.symlink_metadata().is_ok()).map(of_node).collect()
}

/// Why something stays, and what.
fn refused(references: &[Reference], manifest: &Manifest, is_all: bool) -> Vec<String> {
    let mut lines: Vec<String> = references.iter().map(|reference| reference.text.clone()).collect();
    let mut stays: Vec<String> = is_all.then(|| "the programs".to_owned()).into_iter().collect();
    let held = |installed: &&Installed| references.iter().any(|r| r.engine == Some(installed.engine));
    let handlers = manifest.engines.iter().filter(held);
    stays.extend(handlers.map(|held| format!("{}'s runtime {}", held.engine, held.handler)));
    lines.push(format!(
        "this stays until nothing refers to it: {}; then run `plimsoll uninstall` again",
        stays.join(", ")
    ));
    lines
}

/// The programs and links, which nobody needs.
fn remove_programs(node: &Node, manifest: &mut Manifest, outcome: &mut Outcome, is_dry: bool) -> Result<()> {
    for path in manifest.programs.iter().filter(|path| path.symlink_metadata().is_ok()) {
        outcome.steps.push(format!("remove {}", path.display()));
        if !is_dry {
            disk::remove(path)?;
        }
    }
    if !is_dry {
        let places = manifest.programs.iter().filter_map(|path| Some((path, path.parent()?)));
        places.into_iter().try_for_each(|(path, folder)| disk::sweep(path, folder))?;
        manifest.programs.clear();
        manifest.save(&node.roots)?;
    }
    Ok(())
}
