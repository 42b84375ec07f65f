//! CRI-O: a runtime in a drop-in. It copies a pod's annotations to the runtime by itself.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::document::{Syntax, get, keys};
use super::layers::{self, Layers};
use super::manifest::Installed;
use super::plan::{Edit, Plan, refuse_foreign, refuse_second, table, text};
use super::state::{Handler, State};
use super::{Engine, HEAD, Node, Wish, wrapper};
use crate::error::{Error, Result};

/// The name of our drop-in; it comes after those of others.
const DROP_IN: &str = "99-plimsoll.conf";
const RUNTIMES: [&str; 3] = ["crio", "runtime", "runtimes"];
const DEFAULT: [&str; 3] = ["crio", "runtime", "default_runtime"];
/// What is not taken over: it would lead around the wrapper.
const LEFT: [&str; 2] = ["inherit_default_runtime", "platform_runtime_paths"];

/// The folder of drop-ins beside the main file: every file in it is read, whatever its name.
fn drop_ins(main: &Path) -> PathBuf {
    let mut name = main.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

fn read(main: &Path) -> Result<Layers> {
    let mut files = vec![main.to_owned()];
    files.extend(layers::folder(&drop_ins(main), |_| true)?);
    Layers::read(&files)
}

/// The default runtime. CRI-O 1.31 went over from runc to crun where none is named.
fn default_name(node: &Node, value: &Value) -> String {
    if let Some(name) = text(get(value, &DEFAULT)) {
        return name.to_owned();
    }
    let program = node.programs.find("crio");
    let version = program.and_then(|program| node.programs.version(&program)).map(|version| version.number);
    let is_there = |name: &&str| {
        get(value, &[RUNTIMES.as_slice(), &[name]].concat()).is_some() || node.programs.find(name).is_some()
    };
    match version {
        Some(number) if number < (1, 31) => "runc",
        Some(_) => "crun",
        None => ["crun", "runc"].into_iter().find(is_there).unwrap_or("crun"),
    }
    .to_owned()
}

fn runtime(value: &Value, name: &str) -> Option<Map<String, Value>> {
    get(value, &[RUNTIMES.as_slice(), &[name]].concat())?.as_object().cloned()
}

pub(super) fn plan(node: &Node, wish: &Wish, main: PathBuf, installed: Option<&Installed>) -> Result<Plan> {
    let engine = Engine::Crio;
    refuse_second(engine, installed, &wish.handler)?;
    let layers = read(&main)?;
    let base = match default_name(node, &layers.value) {
        name if name == wish.handler => installed.map_or_else(|| "runc".to_owned(), |i| i.base.clone()),
        name => name,
    };
    let whose = format!("CRI-O runtime {base}");
    // The built-in ones need no table.
    let of_base = runtime(&layers.value, &base).unwrap_or_else(|| {
        table(Some(&json!({
            "runtime_type": "oci",
            "runtime_root": format!("/run/{base}"),
        })))
    });
    if let Some(other) = text(of_base.get("runtime_type")).filter(|kind| *kind != "oci") {
        return Err(Error::invalid(whose, format!("is of type {other:?}, which calls no OCI runtime"))
            .hint("make an OCI runtime the default_runtime, or name its handler in RuntimeClasses"));
    }
    let path = text(of_base.get("runtime_path")).unwrap_or(&base);
    let wrapper =
        wrapper::instead_of(Some(path), node.runtime.as_deref(), &node.roots, &node.programs, &whose)?;
    let mut wanted = runtime(&layers.value, &wish.handler).unwrap_or_default();
    if !wanted.is_empty() {
        refuse_foreign(engine, &wish.handler, text(wanted.get("runtime_path")))?;
    }
    wanted.extend(of_base.into_iter().filter(|(key, _)| !LEFT.contains(&key.as_str())));
    wanted.insert("runtime_path".to_owned(), json!(wrapper.path(&wish.bin_dir)));
    let handler = keys(&[RUNTIMES.as_slice(), &[&wish.handler]].concat());
    let mut settings = vec![(handler.clone(), Value::Object(wanted))];
    if wish.is_default {
        settings.insert(0, (keys(&DEFAULT), json!(wish.handler)));
    }
    let target = drop_ins(&main).join(DROP_IN);
    let edit = Edit::of(&target, Syntax::Toml, HEAD, &settings, vec![handler])?.drop_in();
    let notes = Vec::new();
    Ok(Plan {
        engine,
        main,
        handler: wish.handler.clone(),
        base,
        wrapper,
        shims: Vec::new(),
        edits: vec![edit],
        notes,
        check: None,
    })
}

/// What CRI-O is told to do now.
pub(super) fn state(node: &Node, main: &Path) -> Result<State> {
    let layers = read(main)?;
    let default = default_name(node, &layers.value);
    let found = table(get(&layers.value, &RUNTIMES));
    let handlers = found.iter().filter_map(|(name, runtime)| {
        let path = text(runtime.get("runtime_path")).filter(|path| super::is_ours(path))?;
        Some(Handler { name: name.clone(), runtime: path.to_owned(), faults: Vec::new() })
    });
    Ok(State { handlers: handlers.collect(), default, files: layers.files, off: None, katas: Vec::new() })
}
