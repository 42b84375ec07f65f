//! The real runtime underneath: which it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::under::Under;
use crate::error::Result;

/// The runtimes that are looked for, in this order.
pub const KNOWN: [&str; 3] = ["runc", "crun", "youki"];

/// The wrapper's own name. A link to it named `plimsoll-runtime-crun` runs `crun`.
pub const OWN: &str = "plimsoll-runtime";

/// The runtime wrapper.
pub const UNDER: Under = Under {
    own: OWN,
    what: "the real runtime",
    setting: "[runtime] path",
    mark: "PLIMSOLL_RUNTIME_DEPTH",
    folders: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
};

/// The real runtime's program: the one `name` asks for, by which the wrapper was called; else the configured one; else
/// the first of runc, crun and youki. Never the wrapper itself.
///
/// # Errors
///
/// There is none, it cannot be executed, or the wrapper was called by the runtime it calls.
pub fn find(name: &OsStr, configured: Option<&Path>) -> Result<PathBuf> {
    UNDER.check_depth()?;
    let name = Path::new(name).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let wanted = name.strip_prefix(OWN).and_then(|rest| rest.strip_prefix('-')).or(Some(name));
    match (wanted.and_then(|wanted| KNOWN.iter().find(|known| **known == wanted)), configured) {
        (Some(known), _) => UNDER.in_path(known).ok_or_else(|| UNDER.missing(known)),
        (None, Some(path)) => UNDER.checked(path),
        (None, None) => KNOWN
            .iter()
            .find_map(|known| UNDER.in_path(known))
            .ok_or_else(|| UNDER.missing(&KNOWN.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn a_link_names_the_runtime() {
        let other = Path::new("/bin/sh");
        assert_eq!(find(OsStr::new("/x/plimsoll-runtime"), Some(other)).unwrap(), other);
        // The link's name says more than the configuration.
        let error = find(OsStr::new("plimsoll-runtime-youki"), Some(other));
        assert!(error.is_err_and(|error| error.to_string().contains("(youki)")), "no youki here");
        for wrong in ["/", "/etc/passwd", "/not/there"] {
            assert!(find(OsStr::new(OWN), Some(Path::new(wrong))).is_err(), "{wrong}");
        }
        let own = env::current_exe().unwrap();
        assert!(find(OsStr::new(OWN), Some(&own)).unwrap_err().to_string().contains("itself"));
    }
}
