//! Handlers of Kata Containers: each gets one beside it that calls our shim in the place of Kata's.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::plan::{table, text};
use super::super::{Node, annotations, state};
use super::Handler;
use crate::shim::real::{self, file, link, name_of, name_of_link};

/// The containerd setting that names a shim's program.
pub(super) const PATH: &str = "runtime_path";

/// The annotation that chooses where a machine's groups are; Kata takes it from every pod.
const LAYOUT: &str = "io.katacontainers.config.runtime.sandbox_cgroup_only";

/// A handler that is to be made for one of Kata's.
#[derive(Clone, Debug)]
pub(super) struct Kata {
    /// Our handler's name.
    pub(super) handler: String,
    /// The link to our shim, in the folder of programs.
    pub(super) link: String,
    /// Kata's handler.
    base: Map<String, Value>,
}

impl Kata {
    /// The handlers to be made for those that are there, by the name of ours; and what is not to be had, and why.
    pub(super) fn all(node: &Node, runtimes: &Map<String, Value>, ours: &str) -> (Vec<Self>, Vec<String>) {
        let (mut found, mut notes) = (Vec::new(), Vec::new());
        for (name, value) in runtimes {
            let base = table(Some(value));
            match shim_of(node, name, &base) {
                None => {}
                Some(Ok(shim)) => {
                    found.push(Self { handler: format!("{ours}-{name}"), link: link(&shim), base });
                }
                Some(Err(why)) => notes.push(why),
            }
        }
        (found, notes)
    }

    /// Our handler: as Kata's, but for the shim and the annotations. What somebody added to it stays.
    pub(super) fn wanted(&self, there: Option<&Handler>, bin_dir: &Path) -> Map<String, Value> {
        let mut all = self.base.clone();
        let theirs = there.map(|there| there.table.clone()).unwrap_or_default();
        let patterns = [all.get("pod_annotations"), theirs.get("pod_annotations")];
        let mut both: Vec<Value> = Vec::new();
        for pattern in patterns.into_iter().flatten().filter_map(Value::as_array).flatten() {
            if !both.contains(pattern) {
                both.push(pattern.clone());
            }
        }
        for (key, value) in theirs {
            all.entry(key).or_insert(value);
        }
        // The type stays: it says how containerd hands the options on.
        all.insert(PATH.to_owned(), json!(bin_dir.join(&self.link)));
        all.insert("pod_annotations".to_owned(), annotations::with(Some(&Value::Array(both))));
        if let Some(options) = all.shift_remove("options") {
            all.insert("options".to_owned(), options);
        }
        all
    }
}

/// The handlers of Kata Containers, ours among them.
pub(super) fn state(node: &Node, runtimes: &Map<String, Value>) -> Vec<state::Kata> {
    let all = runtimes.iter().map(|(name, value)| (name, table(Some(value))));
    let katas = all.filter(|(name, handler)| is_ours(handler) || shim_of(node, name, handler).is_some());
    let kata = |(name, handler): (&String, Map<String, Value>)| {
        let config = handler.get("options").and_then(|options| text(options.get("ConfigPath")));
        let patterns = handler.get("pod_annotations").and_then(Value::as_array).into_iter().flatten();
        state::Kata {
            name: name.clone(),
            config: config.map(PathBuf::from),
            is_open: patterns.filter_map(Value::as_str).any(|pattern| annotations::matches(pattern, LAYOUT)),
        }
    };
    katas.map(kata).collect()
}

/// Whether a handler calls our shim.
pub(super) fn is_ours(handler: &Map<String, Value>) -> bool {
    let path = text(handler.get(PATH)).map(Path::new);
    path.and_then(|path| path.file_name()?.to_str()).is_some_and(|file| name_of_link(file).is_some())
}

/// The name by which our shim finds the one that a handler of Kata's calls; none for other handlers, and for ours.
fn shim_of(node: &Node, name: &str, handler: &Map<String, Value>) -> Option<Result<String, String>> {
    if is_ours(handler) {
        return None;
    }
    let path = text(handler.get(PATH)).map(PathBuf::from);
    let kind = text(handler.get("runtime_type")).unwrap_or_default();
    let called = match &path {
        Some(path) => name_of(path.file_name()?.to_str()?)?.to_owned(),
        // io.containerd.kata.v2
        None => kind.rsplit('.').nth(1)?.to_owned(),
    };
    if !node.shims.is_kata(&called) {
        return None;
    }
    let usual = node.programs.find(&file(&called));
    let Some(path) = path else {
        let missing = || {
            format!("containerd handler {name} calls {}, which is not there: left as it is", file(&called))
        };
        let is_known = usual.is_some() || node.shims.programs.get(&called).is_some();
        return Some(if is_known { Ok(called) } else { Err(missing()) });
    };
    let configured = node.shims.programs.iter().find(|(_, program)| *program == path);
    if let Some((configured, _)) = configured {
        return Some(Ok(configured.to_owned()));
    }
    let is_usual =
        usual.is_some_and(|usual| node.roots.path(&path.to_string_lossy()) == usual || usual == path);
    if is_usual && node.shims.programs.get(&called).is_none() {
        return Some(Ok(called));
    }
    Some(Err(format!(
        "containerd handler {name} calls {}, which {} would not find: write `{name} = {path:?}` under [shim.programs] in \
         Plimsoll's configuration, and install again",
        path.display(),
        real::UNDER.own,
    )))
}
