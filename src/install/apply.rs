//! Doing it: the manifest, the programs, the links, the engines' files, in this order.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use similar::TextDiff;

use super::document::revert;
use super::manifest::{Installed, Manifest, Touched};
use super::plan::Plan;
use super::wrapper::WRAPPER;
use super::{Engine, Node, Wish, containerd, disk};
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;

/// The programs that go to their folder. The wrapper calls the hook beside itself.
const PROGRAMS: [&str; 3] = ["plimsoll", "plimsoll-hook", WRAPPER];

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The engines it is about.
    pub engines: Vec<Engine>,
    /// Each thing that was done, or would be.
    pub steps: Vec<String>,
    /// What would change in files, as unified diffs.
    pub diffs: Vec<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// What could not be done.
    pub problems: Vec<String>,
    /// The engines whose configuration changed.
    pub changed: Vec<Engine>,
}

/// Puts Plimsoll under the engines; `from` is the folder of the programs. A dry run changes nothing.
///
/// # Errors
///
/// Something is wrong with the node, an engine's configuration or the wish: then nothing was written. Or a file could
/// not be written: then the engines' files are as they were.
pub fn install(node: &Node, wish: &Wish, from: &Path, is_dry: bool) -> Result<Outcome> {
    wish.check()?;
    let _lock = if is_dry { None } else { Some(lock(&node.roots)?) };
    let old = Manifest::load(&node.roots)?;
    let plans = plans(node, wish, &old)?;
    let mut new = old.clone();
    let mut outcome =
        Outcome { engines: plans.iter().map(|plan| plan.engine).collect(), ..Outcome::default() };
    let programs = programs(node, wish, from, &plans)?;
    for plan in &plans {
        outcome.notes.extend(plan.notes.iter().cloned());
        record(&mut new, plan)?;
    }
    for step in &programs {
        outcome.steps.push(step.text());
        let placed = step.to.clone();
        if !new.programs.contains(&placed) {
            new.programs.push(placed);
        }
    }
    let edits: Vec<_> = plans.iter().flat_map(|plan| &plan.edits).filter(|edit| edit.changes()).collect();
    for edit in &edits {
        outcome.steps.push(format!("write {}", edit.path.display()));
        outcome.diffs.push(diff(&edit.path, edit.now.as_deref(), Some(&edit.then)));
    }
    outcome.changed = plans
        .iter()
        .filter(|plan| plan.edits.iter().any(super::plan::Edit::changes))
        .map(|p| p.engine)
        .collect();
    if is_dry {
        return Ok(outcome);
    }
    if new != old {
        new.save(&node.roots)?;
    }
    for step in &programs {
        step.run()?;
    }
    let written =
        edits.iter().try_for_each(|edit| disk::write(&edit.path, &edit.beside, 0o644, edit.then.as_bytes()));
    let checked =
        written.and_then(|()| plans.iter().filter_map(|plan| plan.check.as_ref()).try_for_each(|ask| ask()));
    if let Err(error) = checked {
        for edit in edits.iter().rev() {
            match &edit.now {
                Some(now) => disk::write(&edit.path, &edit.beside, 0o644, now.as_bytes())?,
                None => disk::remove(&edit.path)?,
            }
        }
        new.engines = old.engines;
        new.save(&node.roots)?;
        return Err(error);
    }
    Ok(outcome)
}

/// The plans of the engines that are wanted.
fn plans(node: &Node, wish: &Wish, old: &Manifest) -> Result<Vec<Plan>> {
    let engines = match wish.engine {
        Some(engine) => vec![engine],
        None => node.engines(),
    };
    if engines.is_empty() {
        let known: Vec<&str> = Engine::ALL.into_iter().map(Engine::name).collect();
        return Err(Error::invalid("engines", format!("none of {} is on this node", known.join(", ")))
            .hint("name one with --engine"));
    }
    engines
        .into_iter()
        .map(|engine| {
            let main = wish.config.clone().unwrap_or_else(|| node.roots.path(engine.config()));
            let installed = old.of(engine, &main);
            match engine {
                Engine::Containerd => containerd::plan(node, wish, main, installed),
            }
        })
        .collect()
}

/// Writes into the manifest what a plan is about to change, and what there is without it.
fn record(manifest: &mut Manifest, plan: &Plan) -> Result<()> {
    let is_this = |installed: &Installed| installed.engine == plan.engine && installed.main == plan.main;
    let at = manifest.engines.iter().position(is_this);
    let mut files = at.and_then(|at| manifest.engines.get(at)).map(|i| i.files.clone()).unwrap_or_default();
    for edit in &plan.edits {
        let at = files.iter().position(|file| file.path == edit.path);
        if at.is_some() && !edit.changes() {
            continue;
        }
        let old = at.map(|at| files.remove(at));
        let before = match (&old, &edit.now) {
            (Some(old), Some(now)) => {
                revert(old.syntax, &old.path, old.before.as_deref(), &old.after, now, &old.owned)?
            }
            (_, now) => now.clone(),
        };
        let folders = match old {
            Some(old) => old.folders,
            None => disk::missing_folders(&edit.path),
        };
        files.push(Touched {
            path: edit.path.clone(),
            syntax: edit.syntax,
            before,
            after: edit.then.clone(),
            owned: edit.owned.clone(),
            folders,
            beside: edit.beside.clone(),
        });
    }
    let installed = Installed {
        engine: plan.engine,
        main: plan.main.clone(),
        handler: plan.handler.clone(),
        base: plan.base.clone(),
        files,
    };
    match at.and_then(|at| manifest.engines.get_mut(at)) {
        Some(slot) => *slot = installed,
        None => manifest.engines.push(installed),
    }
    Ok(())
}

/// A program or link to be placed.
struct Place {
    /// A program's file, or a link's text.
    from: Source,
    to: PathBuf,
}

enum Source {
    Program(PathBuf),
    Link(String),
}

impl Place {
    fn is_done(&self) -> bool {
        match &self.from {
            Source::Program(from) => {
                let is_executable =
                    |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 == 0o111;
                std::fs::metadata(&self.to).is_ok_and(is_executable) && disk::same_content(from, &self.to)
            }
            Source::Link(target) => {
                std::fs::read_link(&self.to).is_ok_and(|there| there == Path::new(target))
            }
        }
    }

    fn run(&self) -> Result<()> {
        match &self.from {
            Source::Program(from) => disk::copy(from, &self.to),
            Source::Link(target) => disk::link(target, &self.to),
        }
    }

    fn text(&self) -> String {
        match &self.from {
            Source::Program(from) => format!("copy {} to {}", from.display(), self.to.display()),
            Source::Link(target) => format!("link {} to {target}", self.to.display()),
        }
    }
}

/// The programs and links that are not in their place yet.
fn programs(node: &Node, wish: &Wish, from: &Path, plans: &[Plan]) -> Result<Vec<Place>> {
    let folder = node.roots.path(&wish.bin_dir.to_string_lossy());
    let mut places = Vec::new();
    for name in PROGRAMS {
        let source = from.join(name);
        if !source.is_file() {
            return Err(Error::errno("read", &source, Errno::ENOENT)
                .hint(format!("{} belong into one folder", PROGRAMS.join(", "))));
        }
        places.push(Place { from: Source::Program(source), to: folder.join(name) });
    }
    for plan in plans.iter().filter(|plan| plan.wrapper.runtime.is_some()) {
        let to = folder.join(plan.wrapper.name());
        if !places.iter().any(|place| place.to == to) {
            places.push(Place { from: Source::Link(WRAPPER.to_owned()), to });
        }
    }
    for place in &places {
        if place.to.is_dir() {
            return Err(
                Error::errno("write", &place.to, Errno::EISDIR).hint("take another folder with --bin-dir")
            );
        }
    }
    places.retain(|place| !place.is_done());
    Ok(places)
}

/// One installation at a time.
fn lock(roots: &Roots) -> Result<Flock<File>> {
    let path = Manifest::path(roots).with_extension("lock");
    disk::make_folders(&path)?;
    let file = File::create(&path).map_err(|e| Error::os("open", &path, &e).hint("run it as root"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        Error::errno("lock", &path, errno).hint("another install or uninstall is running")
    })
}

/// A change of a file, as `diff -u` shows it.
pub(super) fn diff(path: &Path, before: Option<&str>, after: Option<&str>) -> String {
    let name = path.display().to_string();
    let label = |text: Option<&str>| if text.is_some() { name.clone() } else { "/dev/null".to_owned() };
    TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default())
        .unified_diff()
        .header(&label(before), &label(after))
        .to_string()
}
