//! The real shim underneath: which it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::policy::config::Programs;
use crate::runtime::under::Under;

/// The wrapper's own name, of which links put another in the middle: `containerd-shim-plimsoll-kata-v2`.
pub const OWN: &str = "containerd-shim-plimsoll-v2";

/// What a link's name begins with.
const HEAD: &str = "containerd-shim-plimsoll-";
/// What it ends with: the version of the protocol between containerd and a shim.
const TAIL: &str = "-v2";

/// The shim that is meant where the name says none.
pub const DEFAULT: &str = "kata";

/// The shim wrapper.
pub const UNDER: Under = Under {
    own: "containerd-shim-plimsoll",
    what: "the real shim",
    setting: "[shim.programs]",
    mark: "PLIMSOLL_SHIM_DEPTH",
    folders: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/kata/bin",
};

/// The file of a link to the wrapper.
pub fn link(name: &str) -> String {
    format!("{HEAD}{name}{TAIL}")
}

/// The file of a shim by its name.
pub fn file(name: &str) -> String {
    format!("containerd-shim-{name}{TAIL}")
}

/// The name in the file of a link to the wrapper; none for another file.
pub fn name_of_link(file: &str) -> Option<&str> {
    match file.strip_prefix(HEAD)? {
        "v2" => Some(DEFAULT),
        rest => rest.strip_suffix(TAIL).filter(|name| !name.is_empty()),
    }
}

/// The name in the file of any shim.
pub fn name_of(file: &str) -> Option<&str> {
    file.strip_prefix("containerd-shim-")?.strip_suffix(TAIL).filter(|name| !name.is_empty())
}

/// The name the wrapper was called by, and the real shim's program: the configured one, else the one of that name in
/// PATH and the usual places. Never the wrapper itself.
///
/// # Errors
///
/// There is none, it cannot be executed, or the wrapper was called by the shim it calls.
pub fn find(called: &OsStr, programs: &Programs) -> Result<(String, PathBuf)> {
    UNDER.check_depth()?;
    let called = Path::new(called).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let name = name_of_link(called).unwrap_or(DEFAULT);
    let program = match programs.get(name) {
        Some(path) => UNDER.checked(path)?,
        None => {
            let file = file(name);
            UNDER.in_path(&file).ok_or_else(|| UNDER.missing(&file))?
        }
    };
    Ok((name.to_owned(), program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_shim() {
        for (called, name) in [
            (OWN, Some("kata")),
            ("containerd-shim-plimsoll-kata-qemu-v2", Some("kata-qemu")),
            ("containerd-shim-plimsoll-runc-v2", Some("runc")),
            ("containerd-shim-kata-v2", None),
            ("containerd-shim-plimsoll-kata-v1", None),
            ("containerd-shim-plimsoll--v2", None),
        ] {
            assert_eq!(name_of_link(called), name, "{called}");
        }
        assert_eq!(name_of_link(&link("kata")), Some("kata"));
        assert_eq!(name_of(&file("kata")), Some("kata"));
        let error = find(OsStr::new("/x/containerd-shim-plimsoll-no-such-v2"), &Programs::default());
        assert!(error.is_err_and(|e| e.to_string().contains("containerd-shim-no-such-v2")));
    }
}
