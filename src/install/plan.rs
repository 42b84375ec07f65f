//! What would be done.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::document::{Document, Keys, Syntax};
use super::manifest::Installed;
use super::wrapper::Wrapper;
use super::{Engine, disk};
use crate::error::{Error, Result};

/// Asks an engine whether it took a change as meant.
pub(super) type Check = Box<dyn Fn() -> Result<()>>;

/// What would be done for one engine.
pub(super) struct Plan {
    pub(super) engine: Engine,
    /// The engine's main file.
    pub(super) main: PathBuf,
    /// Our handler's name.
    pub(super) handler: String,
    /// The handler it is made from.
    pub(super) base: String,
    /// The wrapper's name in it.
    pub(super) wrapper: Wrapper,
    /// Our handlers beside Kata's, and the links to our shim that they call.
    pub(super) shims: Vec<(String, String)>,
    /// The files to be changed, in this order.
    pub(super) edits: Vec<Edit>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
    /// How the engine itself is asked whether it took the change as meant.
    pub(super) check: Option<Check>,
}

/// A file to be changed.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// The file itself, not a link to it.
    pub(super) path: PathBuf,
    pub(super) syntax: Syntax,
    /// Its text now; `None` where it is not there.
    pub(super) now: Option<String>,
    /// Its text then.
    pub(super) then: String,
    /// What is ours in it.
    pub(super) owned: Vec<Keys>,
    /// The folder in which it stands until it is whole.
    pub(super) beside: PathBuf,
}

impl Edit {
    /// The change of a file that makes these settings. A new file begins with `head`.
    pub(super) fn of(
        file: &Path,
        syntax: Syntax,
        head: &str,
        settings: &[(Keys, Value)],
        owned: Vec<Keys>,
    ) -> Result<Self> {
        let path = disk::real(file)?;
        let now = disk::read(&path)?;
        let then = with(syntax, &path, now.as_deref(), head, settings)?;
        Ok(Self { beside: folder(&path), path, syntax, now, then, owned })
    }

    /// The same for a file in a folder whose every file is read: until it is whole it stands in the folder above.
    pub(super) fn drop_in(self) -> Self {
        Self { beside: folder(&folder(&self.path)), ..self }
    }

    pub(super) fn changes(&self) -> bool {
        self.now.as_deref() != Some(&self.then)
    }
}

/// A file's text with these settings made in it; a new one begins with `head`.
pub(super) fn with(
    syntax: Syntax,
    path: &Path,
    now: Option<&str>,
    head: &str,
    settings: &[(Keys, Value)],
) -> Result<String> {
    let mut document = Document::parse(syntax, path, now.unwrap_or_default())?;
    for (keys, value) in settings {
        document.set(keys, value).map_err(|why| invalid(path, why))?;
    }
    let then = if now.is_some() { document.text() } else { head.to_owned() + &document.text() };
    // It says what was meant, however odd the text before was.
    match Document::parse(syntax, path, &then) {
        Ok(said) if said.value() == document.value() => Ok(then),
        _ => Err(invalid(path, "cannot be changed without damage".to_owned())),
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn invalid(path: &Path, why: String) -> Error {
    Error::invalid(path.display().to_string(), why).hint("nothing was changed")
}

/// What a handler of ours must not take over from somebody else's.
pub(super) fn refuse_foreign(engine: Engine, name: &str, runtime: Option<&str>) -> Result<()> {
    match runtime {
        Some(path) if super::is_ours(path) => Ok(()),
        other => Err(Error::invalid(
            format!("{engine} handler {name}"),
            format!(
                "is there already and calls {}, not {}",
                other.unwrap_or("its default runtime"),
                crate::runtime::real::OWN
            ),
        )
        .hint("take another name with --runtime-class")),
    }
}

/// The handler that was installed before has another name.
pub(super) fn refuse_second(engine: Engine, installed: Option<&Installed>, name: &str) -> Result<()> {
    match installed {
        Some(installed) if installed.handler != name => Err(Error::invalid(
            engine.name(),
            format!("Plimsoll is installed already, as handler {}", installed.handler),
        )
        .hint(format!("run `plimsoll uninstall --engine {engine}` first"))),
        _ => Ok(()),
    }
}

/// A text, where there is one that is not empty.
pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// An object, or an empty one.
pub(super) fn table(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}
