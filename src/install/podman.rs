//! Podman: a runtime in a drop-in of containers.conf. It hands a container's annotations to the runtime by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::document::{Syntax, get, keys};
use super::layers::{self, Layers};
use super::live::Made;
use super::manifest::Installed;
use super::plan::{Edit, Plan, refuse_foreign, refuse_second, table, text};
use super::state::{Handler, State};
use super::{Engine, HEAD, Node, Wish, wrapper};
use crate::error::{Error, Result};
use crate::programs;

/// The name of our drop-in; it comes after those of others.
const DROP_IN: &str = "99-plimsoll.conf";
/// What the distribution says; the node's own file comes after it.
const VENDOR: &str = "/usr/share/containers/containers.conf";
const RUNTIMES: [&str; 2] = ["engine", "runtimes"];
const DEFAULT: [&str; 2] = ["engine", "runtime"];
const JSON: [&str; 2] = ["engine", "runtime_supports_json"];
/// The runtimes that Podman asks for errors in JSON where it is not told which (its containers.conf(5)).
const SPEAK_JSON: [&str; 6] = ["crun", "runc", "kata", "runsc", "youki", "krun"];

fn drop_ins(main: &Path) -> PathBuf {
    let mut name = main.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

fn read(node: &Node, main: &Path) -> Result<Layers> {
    let mut files = vec![node.roots.path(VENDOR), main.to_owned()];
    files.extend(layers::folder(&drop_ins(main), |name| name.ends_with(".conf"))?);
    Layers::read(&files)
}

/// The default runtime: where none is named the first of these that is there.
fn default_name(node: &Node, value: &Value) -> String {
    let found = || ["crun", "runc"].into_iter().find(|name| node.programs.find(name).is_some());
    text(get(value, &DEFAULT)).or_else(found).unwrap_or("crun").to_owned()
}

/// What a runtime's name stands for: the first path of its list that is there.
fn runtime(node: &Node, value: &Value, name: &str) -> Option<String> {
    let paths = get(value, &[RUNTIMES.as_slice(), &[name]].concat())?.as_array()?;
    let mut paths = paths.iter().filter_map(Value::as_str);
    let first = paths.clone().next();
    paths.find(|path| node.roots.path(path).exists()).or(first).map(str::to_owned)
}

pub(super) fn plan(node: &Node, wish: &Wish, main: PathBuf, installed: Option<&Installed>) -> Result<Plan> {
    let engine = Engine::Podman;
    refuse_second(engine, installed, &wish.handler)?;
    let layers = read(node, &main)?;
    let base = match default_name(node, &layers.value) {
        name if name == wish.handler => installed.map_or_else(|| "crun".to_owned(), |i| i.base.clone()),
        name => name,
    };
    let path = runtime(node, &layers.value, &base).unwrap_or_else(|| base.clone());
    let whose = format!("Podman's runtime {base}");
    let wrapper =
        wrapper::instead_of(Some(&path), node.runtime.as_deref(), &node.roots, &node.programs, &whose)?;
    if let Some(there) = runtime(node, &layers.value, &wish.handler) {
        refuse_foreign(engine, &wish.handler, Some(&there))?;
    }
    let handler = keys(&[RUNTIMES.as_slice(), &[&wish.handler]].concat());
    let mut settings = vec![(handler.clone(), json!([wrapper.path(&wish.bin_dir)]))];
    let speak = get(&layers.value, &JSON).cloned().unwrap_or_else(|| json!(SPEAK_JSON));
    if let Some(mut names) = speak.as_array().filter(|names| names.iter().all(Value::is_string)).cloned() {
        let ours = json!(wish.handler);
        if !names.contains(&ours) {
            names.push(ours);
        }
        settings.insert(0, (keys(&JSON), Value::Array(names)));
    }
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

/// What Podman is told to do now.
pub(super) fn state(node: &Node, main: &Path) -> Result<State> {
    let layers = read(node, main)?;
    let default = default_name(node, &layers.value);
    let found = table(get(&layers.value, &RUNTIMES));
    let handlers = found.keys().filter_map(|name| {
        let path = runtime(node, &layers.value, name).filter(|path| super::is_ours(path))?;
        Some(Handler { name: name.clone(), runtime: path, faults: Vec::new() })
    });
    Ok(State { handlers: handlers.collect(), default, files: layers.files, off: None, katas: Vec::new() })
}

/// The containers there are, whether they run or not. Its database is its own, so Podman is asked; that of another tree
/// cannot be.
pub(super) fn made(node: &Node) -> Result<Vec<Made>> {
    let Some(program) = node.programs.find("podman").filter(|_| node.is_live) else { return Ok(Vec::new()) };
    let ask = |what: &str, args: &[&str]| {
        // A remote Podman's containers are not this node's.
        let mut command = Command::new(&program);
        command.env_remove("CONTAINER_HOST").env_remove("CONTAINER_CONNECTION").arg(what).args(args);
        match programs::output(&mut command) {
            Ok((true, said, _)) => Ok(said),
            Ok((false, _, why)) => Err(Error::invalid(format!("podman {what}"), why.trim())),
            Err(e) => Err(Error::os("run", &program, &e)),
        }
    };
    let ids = ask("ps", &["--all", "--quiet", "--no-trunc"])?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let format = ["--type", "container", "--format", "{{.Id}} {{.OCIRuntime}}"];
    let said = ask("inspect", &[format.as_slice(), &ids].concat())?;
    let made = said.lines().filter_map(|line| line.split_once(' ')).map(|(id, runtime)| Made {
        who: format!("container {id}"),
        runtime: runtime.to_owned(),
        by: "podman inspect".to_owned(),
    });
    Ok(made.collect())
}
