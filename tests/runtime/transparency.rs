//! A container that asks for nothing cannot tell, and its engine cannot tell, that there is a wrapper: the same life
//! once with the real runc and once through it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::common::{Bundle, Sandbox, cgroup, wait_for};
use super::twin::{LOGS, Seen, call, no_groups, settings, sides};

/// Everything seen of one life, step by step, and every setting of its groups.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    steps: Vec<(String, Seen)>,
    groups: Vec<BTreeMap<String, String>>,
}

fn bundle(sandbox: &Sandbox) -> Bundle {
    sandbox
        .bundle("c")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .resource("cpu", "cpus", "0")
        .resource("memory", "limit", 64 << 20)
        .annotation("example.org/unknown", "x")
        .waiting()
}

/// The commands of a life, in order; `{}` stands for the bundle.
const COMMANDS: [&str; 44] = [
    "--version",
    "features",
    "state c",
    "list",
    "create --bundle {} c",
    "create --bundle {} c",
    "state c",
    "list",
    "list --quiet",
    "list --format json",
    "exec c /bin/true",
    "start c",
    "start c",
    "state c",
    "exec c /bin/true",
    "exec c /bin/sh -c exit\u{a0}7",
    "exec c /bin/sh -c kill\u{a0}-9\u{a0}$$",
    "exec c /bin/sh -c echo\u{a0}out;\u{a0}echo\u{a0}err\u{a0}>&2",
    "exec c /nothing",
    "exec --cwd /tmp --env A=b c /bin/sh -c pwd;\u{a0}echo\u{a0}$A",
    "exec --detach c /bin/sleep 100",
    "ps c",
    "ps --format json c",
    "events --stats c",
    "pause c",
    "pause c",
    "state c",
    "exec c /bin/true",
    "resume c",
    "resume c",
    "update --cpu-quota 40000 --memory 33554432 c",
    "update --cpu-quota 1 c",
    "update --no-such-flag 1 c",
    "update --resources {}/config.json c",
    "kill c NOSUCH",
    "kill c 0",
    "checkpoint --image-path {}/image --work-path {}/work c",
    "restore --image-path {}/image --work-path {}/work --bundle {} c",
    "delete c",
    "kill --all c KILL",
    "delete --force c",
    "delete c",
    "delete --force c",
    "kill c KILL",
];

/// What of an output must be the same: not numbers of processes, and of statistics which there are.
fn compared(command: &str, mut seen: Seen) -> Seen {
    if command.starts_with("events") && seen.code == 0 {
        let stats: Value = serde_json::from_str(&seen.stdout).unwrap();
        let mut keys = BTreeSet::new();
        fields(&stats, "", &mut keys);
        assert!(keys.len() > 30, "{stats}");
        seen.stdout = format!("{keys:#?}");
    }
    if command.starts_with("ps --format") {
        let pids: Vec<i32> = serde_json::from_str(&seen.stdout).unwrap();
        seen.stdout = format!("{} processes", pids.len());
    } else if command.starts_with("ps ") {
        let last = |line: &str| line.split_whitespace().skip(7).collect::<Vec<_>>().join(" ");
        seen.stdout = seen.stdout.lines().map(last).collect::<Vec<_>>().join("\n");
    } else if command.starts_with("list") {
        // A table: the columns are id, pid, status, bundle, created, owner.
        let line = |line: &str| {
            line.split_whitespace().filter(|word| !is_varying(word)).collect::<Vec<_>>().join(" ")
        };
        seen.stdout = seen.stdout.lines().map(line).collect::<Vec<_>>().join("\n");
    }
    for text in [&mut seen.stdout, &mut seen.stderr] {
        *text = without_pid(text);
    }
    seen.log = seen.log.map(|text| without_pid(&text));
    seen
}

/// A pid, or a point in time.
fn is_varying(word: &str) -> bool {
    word.parse::<u32>().is_ok() || (word.starts_with("20") && word.ends_with('Z'))
}

/// The text with the number after `"pid":` cut out.
fn without_pid(text: &str) -> String {
    let mut parts = text.split("\"pid\":");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        out + "\"pid\":" + part.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    })
}

fn fields(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| fields(value, &format!("{path}/{key}"), keys))
        }
        _ => drop(keys.insert(path.to_owned())),
    }
}

fn live(sandbox: &Sandbox, program: &Path, log: &[&str]) -> Life {
    no_groups(sandbox);
    let bundle = bundle(sandbox);
    let dir = bundle.dir.to_str().unwrap();
    let _ = fs::remove_dir_all(dir);
    bundle.write();
    let file = bundle.dir.join("config.json");
    let of_file = || {
        let meta = fs::metadata(&file).unwrap();
        (fs::read(&file).unwrap(), meta.ino(), meta.mtime_nsec(), meta.mode())
    };
    let before = of_file();
    let mut life = Life { steps: Vec::new(), groups: Vec::new() };
    for command in COMMANDS {
        let words: Vec<String> =
            command.split(' ').map(|word| word.replace("{}", dir).replace('\u{a0}', " ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let seen = call(sandbox, program, log, &words);
        if command.starts_with("exec --detach") {
            // runc answers before the program has taken its place.
            let group = sandbox.group("kubepods/burstable/podc/c");
            let is_sleep = |pid: &i32| {
                fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with("/bin/sleep"))
            };
            wait_for("the program to run", || {
                cgroup::procs("cpu", &group).iter().any(is_sleep).then_some(())
            });
        }
        life.steps.push((command.to_owned(), compared(command, seen)));
        if matches!(words[0], "create" | "update" | "resume") {
            life.groups.extend(
                [
                    "",
                    "kubepods",
                    "kubepods/burstable",
                    "kubepods/burstable/podc",
                    "kubepods/burstable/podc/c",
                ]
                .map(|sub| settings(&sandbox.group(sub))),
            );
        }
    }
    assert_eq!(of_file(), before, "config.json was touched");
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("plimsoll")), "{left:?}");
    life
}

#[test]
fn a_container_that_asks_for_nothing_lives_as_with_the_real_runtime() {
    for log in LOGS {
        let sandbox = Sandbox::new("same");
        let [real, wrapped] = sides().map(|program| live(&sandbox, &program, log));
        for (real, wrapped) in real.steps.iter().zip(&wrapped.steps) {
            assert_eq!(wrapped, real, "{log:?}");
        }
        assert!(real.groups.iter().all(|files| files.len() > 20), "{:?}", real.groups);
        assert_eq!(wrapped.groups, real.groups);
        // It was a life: what should work did.
        let code = |command: &str| {
            real.steps.iter().filter(|(c, _)| c == command).map(|(_, seen)| seen.code).collect::<Vec<_>>()
        };
        assert_eq!(code("create --bundle {} c"), [0, 1]);
        assert_eq!(code("exec c /bin/sh -c exit\u{a0}7"), [7]);
        assert_eq!(code("events --stats c"), [0]);
        assert_eq!(code("delete --force c"), [0, 0]);
        assert!(!sandbox.run_dir().exists(), "a record of nothing");
        assert_eq!(sandbox.log(), "");
    }
}
