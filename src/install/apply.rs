//! Doing it: the manifest, the programs, the links, the engines' files, in this order.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use similar::TextDiff;

use super::document::revert;
use super::manifest::{Installed, Manifest, Touched};
use super::plan::{Edit, Plan};
use super::{Engine, Node, Wish, disk};
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::runtime::real::OWN;
use crate::shim::real as shim;

/// The programs that go to their folder. The wrapper calls the hook beside itself.
const PROGRAMS: [&str; 4] = ["plimsoll", "plimsoll-hook", OWN, shim::OWN];

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The engines it is about.
    pub engines: Vec<Engine>,
    /// Our handlers beside Kata's.
    pub katas: Vec<String>,
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
    let mut outcome = Outcome::default();
    let plans = plans(node, wish, &old, &mut outcome.notes)?;
    let places = places(node, wish, from, &plans)?;
    let edits: Vec<&Edit> = plans.iter().flat_map(|plan| &plan.edits).filter(|edit| edit.changes()).collect();
    let mut new = old.clone();
    for plan in &plans {
        outcome.engines.push(plan.engine);
        outcome.notes.extend(plan.notes.iter().cloned());
        outcome.katas.extend(plan.shims.iter().map(|(handler, _)| handler.clone()));
        if plan.edits.iter().any(Edit::changes) {
            outcome.changed.push(plan.engine);
            record(&mut new, plan)?;
        }
    }
    for place in &places {
        outcome.steps.push(place.text());
        if !new.programs.contains(&place.to) {
            new.programs.push(place.to.clone());
        }
    }
    for edit in &edits {
        outcome.steps.push(format!("write {}", edit.path.display()));
        outcome.diffs.push(diff(&edit.path, edit.now.as_deref(), Some(&edit.then)));
    }
    if is_dry {
        return Ok(outcome);
    }
    if new != old {
        new.save(&node.roots)?;
    }
    let folders: Vec<PathBuf> = edits.iter().flat_map(|edit| disk::missing_folders(&edit.path)).collect();
    if let Err(error) = carry_out(&places, &edits, &plans) {
        for edit in edits.iter().rev() {
            put_back(edit)?;
        }
        folders.iter().rev().for_each(|folder| drop(std::fs::remove_dir(folder)));
        new.engines = old.engines;
        new.save(&node.roots)?;
        return Err(error);
    }
    Ok(outcome)
}

/// Programs and links before the files that name them; then the engines' word on it.
fn carry_out(places: &[Place], edits: &[&Edit], plans: &[Plan]) -> Result<()> {
    places.iter().try_for_each(Place::run)?;
    for edit in edits {
        disk::write(&edit.path, &edit.beside, 0o644, edit.then.as_bytes())?;
    }
    plans.iter().filter_map(|plan| plan.check.as_ref()).try_for_each(|ask| ask())
}

fn put_back(edit: &Edit) -> Result<()> {
    match &edit.now {
        // Where nothing was written nothing needs to be, which may be all that is possible.
        now if disk::read(&edit.path)? == *now => Ok(()),
        Some(now) => disk::write(&edit.path, &edit.beside, 0o644, now.as_bytes()),
        None => disk::remove(&edit.path),
    }
}

/// The plans of the engines that are wanted.
fn plans(node: &Node, wish: &Wish, old: &Manifest, notes: &mut Vec<String>) -> Result<Vec<Plan>> {
    let mut engines = wish.engine.map_or_else(|| node.engines(), |engine| vec![engine]);
    if wish.engine.is_none() {
        let mut left = Vec::new();
        for engine in engines {
            match node.state(engine)?.off {
                Some(off) => notes.push(format!("{engine} is left out: {off}")),
                None => left.push(engine),
            }
        }
        engines = left;
    }
    if engines.is_empty() {
        let known: Vec<&str> = Engine::ALL.into_iter().map(Engine::name).collect();
        let why = format!("none of {} is on this node and in use", known.join(", "));
        return Err(Error::invalid("engines", why).hint("name one with --engine"));
    }
    let plan = |engine: Engine| {
        let main = wish.config.clone().unwrap_or_else(|| node.roots.path(engine.config()));
        let installed = old.of(engine, &main);
        engine.plan(node, wish, main, installed)
    };
    engines.into_iter().map(plan).collect()
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
fn places(node: &Node, wish: &Wish, from: &Path, plans: &[Plan]) -> Result<Vec<Place>> {
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
            places.push(Place { from: Source::Link(OWN.to_owned()), to });
        }
    }
    for (_, link) in plans.iter().flat_map(|plan| &plan.shims) {
        let to = folder.join(link);
        if !places.iter().any(|place| place.to == to) {
            places.push(Place { from: Source::Link(shim::OWN.to_owned()), to });
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

/// One installation at a time: the manifest's folder is locked.
pub(super) fn lock(roots: &Roots) -> Result<Flock<File>> {
    let path = Manifest::path(roots);
    disk::make_folders(&path)?;
    let folder = path.parent().unwrap_or(&path);
    let file = File::open(folder).map_err(|e| Error::os("open", folder, &e).hint("run it as root"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        Error::errno("lock", folder, errno).hint("another install or uninstall is running")
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
