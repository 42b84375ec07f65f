//! The command line of an OCI runtime, as far as the wrapper must understand it: that of runc, crun and youki alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The commands the wrapper does something for. All others are the real runtime's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `create`
    Create,
    /// `run`: create and start.
    Run,
    /// `restore`: create from a checkpoint.
    Restore,
    /// `start`
    Start,
    /// `update`
    Update,
    /// `delete`
    Delete,
}

/// Global flags that take a value, in the word after them unless it follows an equals sign.
const GLOBAL_VALUES: [&str; 10] =
    ["root", "r", "log", "l", "log-format", "log-level", "criu", "rootless", "cgroup-manager", "config"];

/// The same for `create`, `run` and `restore`.
const CREATE_VALUES: [&str; 16] = [
    "bundle",
    "b",
    "config",
    "f",
    "console-socket",
    "pid-file",
    "pidfd-socket",
    "preserve-fds",
    "image-path",
    "work-path",
    "parent-path",
    "manage-cgroups-mode",
    "empty-ns",
    "status-fd",
    "lsm-profile",
    "lsm-mount-context",
];

/// The flags of `update` without a value; all others have one. Those of `start` and `delete` have none.
const UPDATE_SWITCHES: [&str; 3] = ["help", "h", "?"];

/// A flag as it stood on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name without dashes.
    pub name: String,
    /// Its value, for those that take one.
    pub value: Option<OsString>,
    /// The words it was made of.
    words: Vec<OsString>,
}

/// One command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What is to be done, where the wrapper has a part in it.
    pub verb: Option<Verb>,
    /// `--log`: where an engine looks for an error.
    pub log: Option<PathBuf>,
    /// `--log-format json`.
    pub log_is_json: bool,
    /// Whether groups are systemd's to make.
    pub systemd: bool,
    /// The container's id.
    pub id: Option<String>,
    /// The command's flags.
    pub flags: Vec<Flag>,
    /// Everything before those: global flags and the command.
    pub head: Vec<OsString>,
}

impl Call {
    /// Reads the arguments after the program's name. Whatever is not understood is the real runtime's to complain of.
    pub fn read(args: &[OsString]) -> Self {
        let mut call = Self::default();
        let mut at = 0;
        while call.head.is_empty() {
            let Some((word, used)) = take(args, at, |name| GLOBAL_VALUES.contains(&name)) else {
                return call;
            };
            at += used;
            match word {
                Word::Flag(flag) => call.global(flag),
                Word::Plain(command) => {
                    call.verb = match command.to_str() {
                        Some("create") => Some(Verb::Create),
                        Some("run") => Some(Verb::Run),
                        Some("restore") => Some(Verb::Restore),
                        Some("start") => Some(Verb::Start),
                        Some("update") => Some(Verb::Update),
                        Some("delete") => Some(Verb::Delete),
                        _ => None,
                    };
                    call.head = args.get(..at).unwrap_or_default().to_vec();
                }
            }
        }
        let Some(verb) = call.verb else { return call };
        let has_value = |name: &str| match verb {
            Verb::Update => !UPDATE_SWITCHES.contains(&name),
            Verb::Start | Verb::Delete => false,
            Verb::Create | Verb::Run | Verb::Restore => CREATE_VALUES.contains(&name),
        };
        while let Some((word, used)) = take(args, at, has_value) {
            at += used;
            match word {
                Word::Flag(flag) => call.flags.push(flag),
                Word::Plain(id) if call.id.is_none() => call.id = id.into_string().ok(),
                Word::Plain(_) => {}
            }
        }
        call
    }

    fn global(&mut self, flag: Flag) {
        let text = flag.value.as_deref().and_then(OsStr::to_str);
        match flag.name.as_str() {
            "log-format" => self.log_is_json = text == Some("json"),
            "systemd-cgroup" | "s" => self.systemd = text != Some("false"),
            "cgroup-manager" => self.systemd = text == Some("systemd"),
            "log" | "l" => self.log = flag.value.map(PathBuf::from),
            _ => {}
        }
    }

    /// The last value of a flag, by any of its names.
    pub fn value(&self, names: &[&str]) -> Option<&OsStr> {
        let found = self.flags.iter().rev().find(|flag| names.contains(&flag.name.as_str()));
        found.and_then(|flag| flag.value.as_deref())
    }

    /// The same call without some flags of the command.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut call = self.clone();
        call.flags.retain(|flag| !names.contains(&flag.name.as_str()));
        call
    }

    /// The command line of another command for the same container.
    pub fn other(&self, command: &[&str]) -> Vec<OsString> {
        let globals = self.head.split_last().map_or(&[][..], |(_, globals)| globals);
        let mut args = globals.to_vec();
        args.extend(command.iter().map(OsString::from));
        args.extend(self.id.iter().map(OsString::from));
        args
    }

    /// The command line again, with other values for some flags: those are taken out, and the new ones put in.
    pub fn with(&self, values: &[(&str, String)]) -> Vec<OsString> {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let mut args = self.head.clone();
        args.extend(self.without(&names).flags.into_iter().flat_map(|flag| flag.words));
        args.extend(values.iter().map(|(name, value)| format!("--{name}={value}").into()));
        args.extend(self.id.iter().map(OsString::from));
        args
    }
}

/// A part of a command line.
pub(crate) enum Word {
    Flag(Flag),
    Plain(OsString),
}

/// The flag or word at a place, and how many words it takes; none at the end.
pub(crate) fn take(args: &[OsString], at: usize, has_value: impl Fn(&str) -> bool) -> Option<(Word, usize)> {
    let word = args.get(at)?;
    let bytes = word.as_bytes();
    // A lone dash is no flag; after two dashes nothing is, and no engine writes them.
    let Some(rest) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
        return Some((Word::Plain(word.clone()), 1));
    };
    let rest = rest.strip_prefix(b"-").unwrap_or(rest);
    let (name, value) = match rest.iter().position(|byte| *byte == b'=') {
        Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 1..)),
        None => (rest, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let value = value.map(|value| OsStr::from_bytes(value).to_owned());
    let next = args.get(at + 1).filter(|_| value.is_none() && has_value(&name));
    let words: Vec<OsString> = std::iter::once(word).chain(next).cloned().collect();
    let used = words.len();
    Some((Word::Flag(Flag { name, value: value.or_else(|| next.cloned()), words }), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Call {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Call::read(&words)
    }

    #[test]
    fn what_engines_write_is_understood() {
        let shim = call(
            "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid abc",
        );
        assert_eq!((shim.verb, shim.id.as_deref()), (Some(Verb::Create), Some("abc")));
        assert_eq!(shim.log.as_deref(), Some("/b/log.json".as_ref()));
        assert!(shim.log_is_json && shim.systemd);
        assert_eq!(shim.value(&["bundle", "b"]), Some("/b".as_ref()));
        let conmon =
            call("--cgroup-manager=systemd --log-format=json --log=/x create --bundle=/b --pid-file=/p abc");
        assert_eq!(
            (conmon.verb, conmon.id.as_deref(), conmon.systemd),
            (Some(Verb::Create), Some("abc"), true)
        );
        assert_eq!(conmon.value(&["bundle", "b"]), Some("/b".as_ref()));
        let hand = call("-debug run -b /b -d abc");
        assert_eq!((hand.verb, hand.id.as_deref()), (Some(Verb::Run), Some("abc")));
        // crun takes flags after the id, too.
        let late = call("run abc --bundle /b");
        assert_eq!((late.id.as_deref(), late.value(&["bundle"])), (Some("abc"), Some("/b".as_ref())));
        let forced = call("--root /r --log create delete --force abc");
        assert_eq!((forced.verb, forced.id.as_deref()), (Some(Verb::Delete), Some("abc")));
        assert_eq!(forced.other(&["kill"]), ["--root", "/r", "--log", "create", "kill", "abc"]);
        assert_eq!(call("delete -f abc").id.as_deref(), Some("abc"));
        for line in ["--root /create state abc", "kill abc KILL", "--version", "", "--log create"] {
            assert_eq!(call(line).verb, None, "{line}");
        }
    }

    #[test]
    fn an_update_is_written_anew_with_other_values() {
        let update = call("--root /r update --cpu-quota 5000 --cpu-share=7 --memory 9 abc");
        assert_eq!((update.verb, update.id.as_deref()), (Some(Verb::Update), Some("abc")));
        let args = update.with(&[("cpu-quota", "-1".to_owned()), ("cpuset-cpus", "0-1".to_owned())]);
        let line: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(
            line.join(" "),
            "--root /r update --cpu-share=7 --memory 9 --cpu-quota=-1 --cpuset-cpus=0-1 abc"
        );
        let pipe = call("update --resources=- abc");
        assert_eq!(pipe.value(&["resources", "r"]), Some("-".as_ref()));
        assert_eq!(call("update -r - abc").value(&["resources", "r"]), Some("-".as_ref()));
    }
}
