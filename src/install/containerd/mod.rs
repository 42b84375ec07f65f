//! containerd's CRI plugin: a handler in its table of runtimes.

mod files;
mod kata;
mod verify;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::files::Files;
use self::kata::Kata;
use self::verify::{Asked, Expected};
use super::document::{Keys, Syntax, get};
use super::manifest::Installed;
use super::plan::{Edit, Plan, refuse_foreign, refuse_second, table, text};
use super::state::{self, State};
use super::{Engine, HEAD, Node, Wish, annotations, wrapper};
use crate::error::{Error, Result};

/// The handler that counts where none is configured.
const BUILT_IN: &str = "runc";
/// The shims that take a `BinaryName`.
const SHIMS: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.runc.v1"];
/// The option that must be as kubelet's cgroup driver is.
const SYSTEMD: &str = "SystemdCgroup";
/// The name of our drop-in; it comes after those of others.
const DROP_IN: &str = "99-plimsoll.toml";

/// What containerd is told to do.
pub(super) struct Setup {
    files: Files,
    /// The CRI plugin's table `containerd`.
    cri: Value,
    /// The handler that is there without any configuration.
    built_in: Map<String, Value>,
}

/// A handler.
#[derive(Clone, Debug)]
pub(super) struct Handler {
    pub(super) name: String,
    table: Map<String, Value>,
}

impl Handler {
    /// The runtime it names.
    pub(super) fn runtime(&self) -> Option<&str> {
        text(self.table.get("options").and_then(|options| options.get("BinaryName")))
    }

    /// Whether its shim calls a runtime by `BinaryName`.
    fn takes_wrapper(&self) -> bool {
        // What is not named is the default.
        text(self.table.get("runtime_type")).is_none_or(|shim| SHIMS.contains(&shim))
    }
}

impl Setup {
    pub(super) fn read(node: &Node, main: &Path) -> Result<Self> {
        let files = Files::read(node, main)?;
        let cri = files.cri();
        Ok(Self { files, cri, built_in: table(Some(&json!({"runtime_type": SHIMS[0]}))) })
    }

    /// The default handler's name.
    pub(super) fn default_name(&self) -> &str {
        text(self.cri.get("default_runtime_name")).unwrap_or(BUILT_IN)
    }

    /// A handler by its name; the built-in one is always there.
    pub(super) fn handler(&self, name: &str) -> Option<Handler> {
        let found = get(&self.cri, &["runtimes", name]).and_then(Value::as_object).cloned();
        let built_in = || (name == BUILT_IN).then(|| self.built_in.clone());
        found.or_else(built_in).map(|table| Handler { name: name.to_owned(), table })
    }

    /// The handler that ours is made from: the default one, or what was when ours became the default.
    fn base(&self, wish: &Wish, installed: Option<&Installed>, notes: &mut Vec<String>) -> Result<Handler> {
        let default = match self.default_name() {
            name if name == wish.handler => installed.map_or(BUILT_IN, |installed| &installed.base),
            name => name,
        };
        let Some(base) = self.handler(default) else {
            return Err(Error::invalid(
                self.files.main.display().to_string(),
                format!("default_runtime_name is {default:?}, and there is no such handler"),
            )
            .hint("containerd's CRI plugin does not start with this"));
        };
        if base.takes_wrapper() {
            return Ok(base);
        }
        let shim = text(base.table.get("runtime_type")).unwrap_or_default();
        let why =
            format!("the default handler {default} is of type {shim}, which calls no OCI runtime by name");
        match self.handler(BUILT_IN).filter(Handler::takes_wrapper) {
            Some(runc) if !wish.is_default => {
                notes.push(format!("{why}: {} is made from {BUILT_IN}", wish.handler));
                Ok(runc)
            }
            _ => Err(Error::invalid("containerd", why)
                .hint("without --default a handler is made from runc, for pods that name its RuntimeClass")),
        }
    }
}

/// What would be done.
pub(super) fn plan(node: &Node, wish: &Wish, main: PathBuf, installed: Option<&Installed>) -> Result<Plan> {
    let engine = Engine::Containerd;
    refuse_second(engine, installed, &wish.handler)?;
    let mut setup = Setup::read(node, &main)?;
    let mut notes = setup.files.notes.clone();
    if let Some(off) = setup.files.off() {
        return Err(Error::invalid("containerd", off).hint("take it out of the list and install again"));
    }
    let asked = Asked::now(node, &main)?;
    setup.built_in = asked.as_ref().and_then(|asked| asked.handler(BUILT_IN)).unwrap_or(setup.built_in);
    let base = setup.base(wish, installed, &mut notes)?;
    let whose = format!("containerd handler {}", base.name);
    let wrapper =
        wrapper::instead_of(base.runtime(), node.runtime.as_deref(), &node.roots, &node.programs, &whose)?;
    let there = get(&setup.cri, &["runtimes", &wish.handler])
        .map(|found| Handler { name: wish.handler.clone(), table: table(Some(found)) });
    if let Some(there) = &there {
        refuse_foreign(engine, &wish.handler, there.runtime())?;
    }
    let binary = wrapper.path(&wish.bin_dir);
    let wanted = wanted(&base, there.as_ref(), &binary);

    let (target, is_drop_in) = setup.files.target(&wish.handler);
    let top = setup.files.table_keys(&target);
    let under =
        |words: &[&str]| -> Keys { top.iter().cloned().chain(words.iter().map(|&w| w.to_owned())).collect() };
    let handler = under(&["runtimes", &wish.handler]);
    let mut settings: Vec<(Keys, Value)> = Vec::new();
    if setup.files.is_new(&target) {
        settings.push((vec!["version".to_owned()], json!(setup.files.schema)));
    }
    // A table of runtimes replaces the built-in one in containerd 1.x, so what was built in has to be named, too.
    let is_bare = get(&setup.cri, &["runtimes"]).is_none_or(|runtimes| runtimes.get(&base.name).is_none());
    if is_bare && !setup.files.merges() {
        settings.push((under(&["runtimes", &base.name]), Value::Object(base.table.clone())));
    }
    settings.push((handler.clone(), Value::Object(wanted)));
    if wish.is_default {
        settings.push((under(&["default_runtime_name"]), json!(wish.handler)));
    }
    let mut owned = vec![handler];
    let runtimes = table(setup.cri.get("runtimes"));
    let (katas, left) = Kata::all(node, &runtimes, &wish.handler);
    notes.extend(left);
    for kata in &katas {
        let there = runtimes.get(&kata.handler).map(|found| table(Some(found)));
        if there.as_ref().is_some_and(|there| !kata::is_ours(there)) {
            return Err(Error::invalid(
                format!("containerd handler {}", kata.handler),
                "is there already and does not call our shim",
            )
            .hint("take another name with --runtime-class"));
        }
        let there = there.map(|table| Handler { name: kata.handler.clone(), table });
        let keys = under(&["runtimes", &kata.handler]);
        settings.push((keys.clone(), Value::Object(kata.wanted(there.as_ref(), &wish.bin_dir))));
        owned.push(keys);
    }
    let mut edit = Edit::of(&target, Syntax::Toml, HEAD, &settings, owned)?;
    if is_drop_in {
        edit = edit.drop_in();
    }
    let expected = Expected {
        handler: wish.handler.clone(),
        base: base.name.clone(),
        binary,
        is_default: wish.is_default,
        katas: katas.iter().map(|kata| kata.handler.clone()).collect(),
    };
    let check = asked.map(|asked| asked.check(expected));
    Ok(Plan {
        engine,
        main,
        handler: wish.handler.clone(),
        base: base.name,
        wrapper,
        shims: katas.into_iter().map(|kata| (kata.handler, kata.link)).collect(),
        edits: vec![edit],
        notes,
        check,
    })
}

/// Our handler: as the base, but for the runtime and the annotations. What somebody added to it stays.
fn wanted(base: &Handler, there: Option<&Handler>, binary: &str) -> Map<String, Value> {
    let mut all = base.table.clone();
    let mut options = table(all.get("options"));
    let theirs = there.map(|there| there.table.clone()).unwrap_or_default();
    for (key, value) in table(theirs.get("options")) {
        options.entry(key).or_insert(value);
    }
    // Whatever else differs, kubelet has one cgroup driver only.
    let of_base = base.table.get("options").and_then(|options| options.get(SYSTEMD));
    if options.contains_key(SYSTEMD) {
        options.insert(SYSTEMD.to_owned(), of_base.cloned().unwrap_or(Value::Bool(false)));
    }
    options.insert("BinaryName".to_owned(), json!(binary));
    let patterns = [base.table.get("pod_annotations"), theirs.get("pod_annotations")];
    let patterns = patterns.into_iter().flatten().filter_map(Value::as_array).flatten();
    let patterns = patterns.fold(Vec::new(), |mut all: Vec<Value>, pattern| {
        if !all.contains(pattern) {
            all.push(pattern.clone());
        }
        all
    });
    for (key, value) in theirs {
        all.entry(key).or_insert(value);
    }
    all.entry("runtime_type").or_insert_with(|| json!(SHIMS[0]));
    all.insert("pod_annotations".to_owned(), annotations::with(Some(&Value::Array(patterns))));
    // The table of options comes last, as everybody writes it.
    all.shift_remove("options");
    all.insert("options".to_owned(), Value::Object(options));
    all
}

/// What containerd is told to do now.
pub(super) fn state(node: &Node, main: &Path) -> Result<State> {
    let setup = Setup::read(node, main)?;
    let runtimes = table(setup.cri.get("runtimes"));
    let mut handlers = Vec::new();
    for (name, found) in &runtimes {
        let handler = Handler { name: name.clone(), table: table(Some(found)) };
        let shim = text(handler.table.get(kata::PATH)).filter(|_| kata::is_ours(&handler.table));
        let runtime = handler.runtime().filter(|path| super::is_ours(path)).or(shim);
        let Some(runtime) = runtime else { continue };
        let patterns = found.get("pod_annotations").and_then(Value::as_array).into_iter().flatten();
        let missing = annotations::missing(&patterns.filter_map(Value::as_str).collect::<Vec<_>>());
        let mut faults = Vec::new();
        if !missing.is_empty() {
            faults.push(format!("its pod_annotations do not let through {}", missing.join(", ")));
        }
        // What it was made from is the default one, or the built-in one where ours is the default.
        let base = if setup.default_name() == name { BUILT_IN } else { setup.default_name() };
        let systemd =
            |handler: &Handler| get(&Value::Object(handler.table.clone()), &["options", SYSTEMD]).cloned();
        let is_on = |value: Option<Value>| value.and_then(|value| value.as_bool()).unwrap_or_default();
        if let Some(base) = setup
            .handler(base)
            .filter(|_| shim.is_none())
            .filter(|base| is_on(systemd(base)) != is_on(systemd(&handler)))
        {
            faults.push(format!("its {SYSTEMD} is not that of {}", base.name));
        }
        handlers.push(state::Handler { name: name.clone(), runtime: runtime.to_owned(), faults });
    }
    let off = setup.files.off();
    let katas = kata::state(node, &runtimes);
    Ok(State { katas, handlers, default: setup.default_name().to_owned(), files: setup.files.paths(), off })
}
