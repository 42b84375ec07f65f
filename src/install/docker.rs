//! Docker: a runtime in daemon.json. It hands annotations to the runtime from 24.0 on (`docker run --annotation`).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::document::{Document, Keys, Syntax, get, keys};
use super::live::{Made, folders, name, read_text};
use super::manifest::Installed;
use super::plan::{Edit, Plan, refuse_foreign, refuse_second, table, text};
use super::state::{Handler, State};
use super::{Engine, Node, Wish, disk, wrapper};
use crate::error::{Error, Result};
use crate::programs;

/// The runtimes that need not be named.
const BUILT_IN: [&str; 2] = ["runc", "io.containerd.runc.v2"];
const DEFAULT: &str = "default-runtime";
const SHIM: &str = "io.containerd.runc.v2";
/// Where it keeps its containers unless told otherwise, and the keys that tell, the second before 17.05.
const DATA: &str = "/var/lib/docker";
const DATA_KEYS: [&str; 2] = ["data-root", "graph"];

fn read(main: &Path) -> Result<Value> {
    let text = disk::read(main)?.unwrap_or_default();
    Ok(Document::parse(Syntax::Json, main, &text)?.value())
}

fn default_name(value: &Value) -> &str {
    text(value.get(DEFAULT)).unwrap_or("runc")
}

/// The program that a runtime calls.
fn program(runtime: &Map<String, Value>) -> Option<&str> {
    let option = runtime.get("options").and_then(|options| options.get("BinaryName"));
    text(runtime.get("path")).or_else(|| text(option))
}

fn takes_wrapper(name: &str, runtime: &Map<String, Value>) -> bool {
    let is_plain = BUILT_IN.contains(&name) || text(runtime.get("path")).is_some();
    is_plain || text(runtime.get("runtimeType")) == Some(SHIM)
}

pub(super) fn plan(node: &Node, wish: &Wish, main: PathBuf, installed: Option<&Installed>) -> Result<Plan> {
    let engine = Engine::Docker;
    refuse_second(engine, installed, &wish.handler)?;
    let value = read(&main)?;
    let mut notes = Vec::new();
    let mut base = match default_name(&value) {
        name if name == wish.handler => installed.map_or("runc", |installed| &installed.base),
        name => name,
    };
    let mut of_base = table(get(&value, &["runtimes", base]));
    if !takes_wrapper(base, &of_base) {
        let why = format!("the default runtime {base} calls no OCI runtime by its path");
        if wish.is_default {
            return Err(Error::invalid(main.display().to_string(), why)
                .hint("without --default a runtime is made from runc, for `docker run --runtime`"));
        }
        notes.push(format!("{why}: {} is made from runc", wish.handler));
        (base, of_base) = ("runc", Map::new());
    }
    let whose = format!("Docker's runtime {base}");
    let wrapper =
        wrapper::instead_of(program(&of_base), node.runtime.as_deref(), &node.roots, &node.programs, &whose)?;
    let mut wanted = table(get(&value, &["runtimes", &wish.handler]));
    if !wanted.is_empty() {
        refuse_foreign(engine, &wish.handler, program(&wanted))?;
    }
    let binary = json!(wrapper.path(&wish.bin_dir));
    if of_base.contains_key("runtimeType") {
        let mut options = table(of_base.get("options"));
        options.insert("BinaryName".to_owned(), binary);
        of_base.insert("options".to_owned(), Value::Object(options));
    } else {
        of_base.insert("path".to_owned(), binary);
    }
    wanted.extend(of_base);
    let handler = keys(&["runtimes", &wish.handler]);
    let mut settings = vec![(handler.clone(), Value::Object(wanted))];
    if wish.is_default {
        settings.insert(0, (keys(&[DEFAULT]), json!(wish.handler)));
    }
    let base = base.to_owned();
    let edit = Edit::of(&main, Syntax::Json, "", &settings, vec![handler])?;
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

/// What Docker is told to do now.
pub(super) fn state(main: &Path) -> Result<State> {
    let value = read(main)?;
    let found = table(value.get("runtimes"));
    let handlers = found.iter().filter_map(|(name, runtime)| {
        let path = program(runtime.as_object()?).filter(|path| super::is_ours(path))?;
        Some(Handler { name: name.clone(), runtime: path.to_owned(), faults: Vec::new() })
    });
    let files = if main.exists() { vec![main.to_owned()] } else { Vec::new() };
    Ok(State {
        handlers: handlers.collect(),
        default: default_name(&value).to_owned(),
        files,
        off: None,
        katas: Vec::new(),
    })
}

/// The containers there are, whether they run or not. A stopped daemon cannot be asked, so its files are.
pub(super) fn made(node: &Node, main: &Path) -> Result<Vec<Made>> {
    let value = read(main)?;
    let data = DATA_KEYS.iter().find_map(|key| text(value.get(*key))).unwrap_or(DATA);
    let data = node.roots.path(data);
    // With userns-remap everything is one folder further below, which is called by the first ids.
    let is_remapped =
        |folder: &PathBuf| name(folder).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let tops = folders(&data).into_iter().filter(is_remapped).chain([data]);
    let containers = tops.flat_map(|top| folders(&top.join("containers")));
    let made = |folder: PathBuf| {
        let file = folder.join("hostconfig.json");
        let said: Value = serde_json::from_str(&read_text(&file)?).ok()?;
        let runtime = text(said.get("Runtime"))?.to_owned();
        Some(Made { who: format!("container {}", name(&folder)), runtime, by: file.display().to_string() })
    };
    let default = running_default(node).map(|runtime| Made {
        who: "the daemon".to_owned(),
        runtime,
        by: "its default until it is reloaded, says docker info".to_owned(),
    });
    Ok(containers.filter_map(made).chain(default).collect())
}

/// The default of the daemon that runs, which may be that of a file before.
fn running_default(node: &Node) -> Option<String> {
    let program = node.programs.find("docker").filter(|_| node.is_live)?;
    // Another node's daemon is not meant.
    let mut command = Command::new(program);
    command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    match programs::output(command.args(["info", "--format", "{{.DefaultRuntime}}"])) {
        Ok((true, said, _)) => Some(said.trim().to_owned()),
        // No daemon runs.
        _ => None,
    }
}

/// The default that a file has to name in the place of ours: what it does not name a reload leaves as it was.
pub(super) fn other_default(base: &str, now: &Value, without: &Value) -> Option<(Keys, Value)> {
    let is_needed = now.get(DEFAULT).is_some() && without.get(DEFAULT).is_none();
    is_needed.then(|| (keys(&[DEFAULT]), json!(base)))
}
