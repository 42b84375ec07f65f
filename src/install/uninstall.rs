//! Taking it off: the engines' files first, then the programs, unless a container still needs them.

use std::path::{Path, PathBuf};

use super::apply::{Outcome, diff, lock};
use super::document::revert;
use super::manifest::{Manifest, Touched};
use super::{Engine, Node, disk, live};
use crate::error::Result;

/// Takes Plimsoll off an engine, or off all. Files that nobody else touched are as they were, byte for byte; from others
/// what is ours goes. The programs stay while other engines or containers that run refer to them. A dry run changes
/// nothing.
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
    manifest.engines = stay;
    let mut restores = Vec::new();
    for installed in &gone {
        outcome.engines.push(installed.engine);
        for file in installed.files.iter().rev() {
            restores.extend(Restore::of(file)?);
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
    if manifest.engines.is_empty() {
        programs(node, &mut manifest, &mut outcome, is_dry)?;
    }
    Ok(outcome)
}

/// A file to be put back.
struct Restore<'f> {
    file: &'f Touched,
    now: String,
    /// `None` where no file stays.
    then: Option<String>,
}

impl<'f> Restore<'f> {
    /// `None` where nothing of ours is in it any more.
    fn of(file: &'f Touched) -> Result<Option<Self>> {
        let Some(now) = disk::read(&file.path)? else { return Ok(None) };
        let then = revert(file.syntax, &file.path, file.before.as_deref(), &file.after, &now, &file.owned)?;
        Ok((then.as_ref() != Some(&now)).then_some(Self { file, now, then }))
    }

    fn text(&self) -> String {
        let path = self.file.path.display();
        match &self.then {
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

/// The programs and links, unless a container needs them.
fn programs(node: &Node, manifest: &mut Manifest, outcome: &mut Outcome, is_dry: bool) -> Result<()> {
    let top = node.roots.path("/");
    let there: Vec<PathBuf> =
        manifest.programs.iter().filter(|path| path.symlink_metadata().is_ok()).cloned().collect();
    let of_node = |path: &PathBuf| {
        let below = path.strip_prefix(&top).unwrap_or(path);
        Path::new("/").join(below).display().to_string()
    };
    let names: Vec<String> = there.iter().map(of_node).collect();
    let references = live::references(&node.roots, &names);
    if !references.is_empty() {
        for reference in references {
            outcome.problems.push(format!(
                "container {} still refers to {} ({})",
                reference.container, reference.program, reference.by
            ));
        }
        outcome.problems.push(
            "the programs stay until these containers are gone; then run `plimsoll uninstall` again"
                .to_owned(),
        );
        return Ok(());
    }
    for path in &there {
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
