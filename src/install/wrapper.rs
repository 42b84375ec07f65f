//! Which of our wrapper's names a handler must call, so that the runtime it called before is called underneath.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::programs::Programs;
use crate::runtime::real::{KNOWN, OWN};

/// A name of the wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapper {
    /// The runtime underneath; `None` is the configured one, or the first that is found.
    pub(super) runtime: Option<&'static str>,
}

impl Wrapper {
    /// The file's name: that of the program, or of a link to it.
    pub(super) fn name(&self) -> String {
        match self.runtime {
            Some(runtime) => format!("{OWN}-{runtime}"),
            None => OWN.to_owned(),
        }
    }

    /// Its path in a folder of the node.
    pub(super) fn path(&self, folder: &Path) -> String {
        folder.join(self.name()).display().to_string()
    }
}

/// Whether a runtime's path is that of our wrapper, wherever it is.
pub fn is_ours(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some(rest) = name.strip_prefix(OWN) else { return false };
    rest.is_empty() || rest.strip_prefix('-').is_some_and(|runtime| KNOWN.contains(&runtime))
}

/// The wrapper's name for a handler that calls `base` now; empty or `None` where it says nothing. `chosen` is the
/// runtime that Plimsoll's own configuration names, and `whose` tells in errors who calls it.
///
/// # Errors
///
/// The wrapper would call another program than the handler does.
pub(super) fn instead_of(
    base: Option<&str>,
    chosen: Option<&Path>,
    roots: &Roots,
    programs: &Programs,
    whose: &str,
) -> Result<Wrapper> {
    let plain = Wrapper { runtime: None };
    let Some(base) = base.filter(|base| !base.is_empty()) else { return Ok(plain) };
    let path = Path::new(base);
    if chosen == Some(path) {
        return Ok(plain);
    }
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or(base);
    if is_ours(base) {
        let runtime = KNOWN.into_iter().find(|name| file.strip_prefix(OWN) == Some(&format!("-{name}")));
        return Ok(Wrapper { runtime });
    }
    let named = KNOWN.into_iter().find(|name| *name == file);
    let is_same = |name| path == Path::new(name) || same(roots, path, programs.find(name));
    match named {
        Some(name) if is_same(name) => Ok(Wrapper { runtime: Some(name) }),
        _ => Err(Error::invalid(whose, format!("calls {base}, which {OWN} would not call")).hint(format!(
            "set path = {base:?} under [runtime] in Plimsoll's configuration, then install again"
        ))),
    }
}

/// Whether a path of the node and a program that was found are one file.
fn same(roots: &Roots, path: &Path, found: Option<PathBuf>) -> bool {
    let file = |path: PathBuf| std::fs::canonicalize(path).ok();
    let (Some(path), Some(found)) = (path.to_str(), found) else { return false };
    matches!((file(roots.path(path)), file(found)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn the_wrapper_is_known_by_its_name() {
        for (path, ours) in [
            ("/usr/local/bin/plimsoll-runtime", true),
            ("/opt/x/plimsoll-runtime-crun", true),
            ("plimsoll-runtime-runc", true),
            ("/usr/local/bin/plimsoll-runtime-foo", false),
            ("/usr/local/bin/plimsoll-runtimecrun", false),
            ("/usr/bin/runc", false),
            ("", false),
        ] {
            assert_eq!(is_ours(path), ours, "{path}");
        }
    }
}
