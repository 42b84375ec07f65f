//! The command line of a containerd shim, as far as the wrapper must understand it: Go's `flag`, then an action.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::runtime::args::{Word, take};

/// The actions the wrapper does something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `start`: a container is about to be created.
    Start,
    /// `delete`: what a container left behind is removed.
    Delete,
}

/// The flags that take a value (containerd's `pkg/shim/shim.go`); all others are switches.
const VALUES: [&str; 7] =
    ["namespace", "id", "bundle", "address", "publish-binary", "socket", "debug-socket"];

/// One command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// What is to be done, where the wrapper has a part in it.
    pub(super) action: Option<Action>,
    /// The container's id.
    pub(super) id: Option<String>,
    /// Its bundle; the folder the shim is called in, where it is not named.
    pub(super) bundle: PathBuf,
}

impl Call {
    /// Reads the arguments after the program's name. Whatever is not understood is the real shim's to complain of.
    pub(super) fn read(args: &[OsString]) -> Self {
        let mut call = Self::default();
        let mut at = 0;
        while let Some((word, used)) = take(args, at, |name| VALUES.contains(&name)) {
            at += used;
            match word {
                Word::Flag(flag) => match (flag.name.as_str(), flag.value) {
                    ("id", Some(value)) => call.id = value.into_string().ok(),
                    ("bundle", Some(value)) => call.bundle = value.into(),
                    _ => {}
                },
                Word::Plain(action) => {
                    call.action = match action.to_str() {
                        Some("start") => Some(Action::Start),
                        Some("delete") => Some(Action::Delete),
                        _ => None,
                    };
                    break;
                }
            }
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_writes_is_understood() {
        let call = |line: &str| Call::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let start =
            call("-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 start");
        assert_eq!((start.action, start.id.as_deref()), (Some(Action::Start), Some("c1")));
        let delete = call("-namespace k8s.io -address x -publish-binary y -id c1 -bundle /b -debug delete");
        assert_eq!((delete.action, delete.bundle), (Some(Action::Delete), "/b".into()));
        assert_eq!(call("--id=c1 --debug start").id.as_deref(), Some("c1"));
        for line in ["-info", "-v", "-id start", "-id c1", "", "-id c1 -address a"] {
            assert_eq!(call(line).action, None, "{line}");
        }
    }
}
