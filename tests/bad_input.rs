//! Input that is wrong, absurd or hostile. The container starts untouched, all its files byte for byte as without the
//! hook, and one line says why; or it does not start, where the policy says so. The hook never panics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::os::unix::process::ExitStatusExt;

use common::invariants::{self, frozen};
use common::traced::{hook, state};
use common::{Bundle, Ran, Sandbox};
use serde_json::{Value, json};

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";
const BURST: &str = "koordinator.sh/cpuBurst";
const CPU_QOS: &str = "koordinator.sh/cpuQOS";
const EXTENDED: &str = "node.koordinator.sh/extended-resource-spec";
const NAME: &str = "io.kubernetes.cri.container-name";

const MIB: usize = 1 << 20;

/// A waiting container with limits and no hooks.
fn plain(sandbox: &Sandbox, id: &str) -> Bundle {
    sandbox
        .bundle(id)
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .waiting()
}

/// A container that bad input is about, and another one that it may try to reach.
struct Victim {
    sandbox: Sandbox,
    bundle: Bundle,
    other: Bundle,
    state: Value,
    policy: &'static str,
}

impl Victim {
    fn new(name: &str, policy: &'static str) -> Self {
        let sandbox = Sandbox::new(name);
        sandbox.config(&format!("on_error = \"{policy}\"\n"));
        let (bundle, other) = (plain(&sandbox, "victim"), plain(&sandbox, "other"));
        for bundle in [&bundle, &other] {
            sandbox.create(bundle).ok();
        }
        let state = serde_json::from_str(&state(&sandbox, &bundle)).unwrap();
        Self { sandbox, bundle, other, state, policy }
    }

    /// The state with other values.
    fn with(&self, changes: Value) -> String {
        let mut state = self.state.clone();
        for (key, value) in changes.as_object().unwrap() {
            state[key] = value.clone();
        }
        state.to_string()
    }

    fn annotated(&self, annotations: Value) -> String {
        self.with(json!({ "annotations": annotations }))
    }

    /// The promise. `words` are what the one line has to say.
    #[track_caller]
    fn refuses(&self, what: &str, state: &str, words: &[&str]) {
        let groups =
            [self.bundle.group(), self.bundle.pod_group(), self.other.group(), self.other.pod_group()];
        let before = groups.map(frozen);
        let logged = self.sandbox.log().len();
        let ran = hook(&self.sandbox, "createRuntime", state);
        assert!(!has_crashed(&ran), "{what}: {ran:?}");
        assert_eq!(groups.map(frozen), before, "{what}");
        let log = self.sandbox.log();
        let lines: Vec<Value> =
            log[logged..].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
        assert_eq!(lines[0]["level"], "error", "{what}: {lines:#?}");
        let errors = lines[0]["errors"].as_str().unwrap();
        for word in words {
            assert!(errors.contains(word), "{what}: {word:?} should be in {errors:?}");
        }
        assert!(errors.len() < 1_000, "{what}: the line is {} bytes", errors.len());
        match self.policy {
            "ignore" => assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""), "{what}"),
            _ => {
                assert_eq!(ran.status.code(), Some(1), "{what}: {ran:?}");
                assert!(ran.stderr.contains(errors), "{what}: {ran:?}");
            }
        }
        assert!(invariants::records(&self.sandbox).is_empty(), "{what}");
    }
}

/// Whether a program ended by a signal, or as Rust's panics end.
fn has_crashed(ran: &Ran) -> bool {
    ran.status.signal().is_some() || matches!(ran.status.code(), Some(101 | 134) | None)
}

fn both(name: &str, check: impl Fn(&Victim)) {
    for policy in ["ignore", "fail"] {
        check(&Victim::new(name, policy));
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    both("state", |victim| {
        let says = ["OCI state on standard input"];
        for text in ["", " ", "null", "[]", "7", "\"victim\"", "not json", "{", "{}", "{\"id\":7}", "\0\0\0"]
        {
            victim.refuses(text, text, &says);
        }
        let state = victim.state.to_string();
        victim.refuses("cut off", &state[..state.len() - 1], &says);
        victim.refuses("two of them", &state.repeat(2), &says);
        victim.refuses("not text", &state.replace("victim", "vict\u{0}im"), &says);
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for n in [200, 400_000] {
            let nested = victim.with(json!({"annotations": null}));
            let nested = nested.replace("\"annotations\":null", &format!("\"annotations\":{}", deep(n)));
            victim.refuses(&format!("{n} deep"), &nested, &says);
        }
        let long = state.replacen('{', &format!("{{\"long\":\"{}\",", "x".repeat(100 * MIB)), 1);
        victim.refuses("100 MiB", &long, &["longer than"]);
        victim.refuses("100 MiB of nothing", &" ".repeat(100 * MIB), &["longer than"]);
    });
}

#[test]
fn an_id_that_is_none_is_refused() {
    both("id", |victim| {
        for id in ["", ".", "..", "../victim", "/etc/passwd", "victim/x", "a b", "victim\0", "victim\n"] {
            victim.refuses(
                id,
                &victim.with(json!({"id": id, "annotations": {QOS: "LS"}})),
                &["container id"],
            );
        }
        let long = "v".repeat(300);
        victim.refuses(
            "long",
            &victim.with(json!({"id": long, "annotations": {QOS: "LS"}})),
            &["container id"],
        );
    });
}

#[test]
fn a_pid_that_is_not_the_containers_is_refused_and_reaches_nobody() {
    both("pid", |victim| {
        let other = victim.sandbox.pid(&victim.other);
        let own = std::process::id();
        for (what, pid, word) in [
            ("init", json!(1), "not a container's process"),
            ("kthreadd", json!(2), "root cgroup"),
            ("another container's", json!(other), "not that of container victim"),
            ("a stranger's", json!(own), "pid"),
            ("nobody's", json!(0), "no pid"),
            ("none", Value::Null, "no pid"),
            ("negative", json!(-5), "not a container's process"),
            ("larger than any", json!(4_194_305), "the process is gone"),
            ("larger than a pid", json!(99_999_999_999_i64), "not a container's process"),
            ("larger than a number", json!(u64::MAX), "OCI state"),
            ("a fraction", json!(1.5), "OCI state"),
            ("text", json!(other.to_string()), "OCI state"),
        ] {
            for class in ["LS", "BE", "LSE"] {
                victim.refuses(what, &victim.with(json!({"pid": pid, "annotations": {QOS: class}})), &[word]);
            }
        }
    });
}

#[test]
fn a_bundle_that_lies_about_the_path_reaches_nobody() {
    both("bundle", |victim| {
        // Whoever names another container's group in a bundle of its own still has its own id.
        let state = victim.with(json!({
            "pid": victim.sandbox.pid(&victim.other), "bundle": "/nonexistent", "annotations": {QOS: "LS"}
        }));
        victim.refuses("a missing bundle", &state, &["/nonexistent"]);
    });
}

#[test]
fn a_class_that_nobody_knows_is_refused() {
    both("class", |victim| {
        for class in ["GOLD", "ls", " LS", "LS ", "LS\0", "LSE,BE", "-1", "\u{202e}SL", "ＬＳ"] {
            victim.refuses(class, &victim.annotated(json!({QOS: class})), &[QOS]);
        }
        victim.refuses("long", &victim.annotated(json!({QOS: "L".repeat(900_000)})), &[QOS, "bytes"]);
        for (what, value) in [("a number", json!(7)), ("an object", json!({"a": 1})), ("null", Value::Null)] {
            victim.refuses(what, &victim.annotated(json!({QOS: value})), &["OCI state"]);
        }
        victim.refuses("annotations of no kind", &victim.with(json!({"annotations": "LS"})), &["OCI state"]);
        // JSON leaves it open which of two wins; the last does, as in Go, where annotations come from.
        let twice = victim.annotated(json!({QOS: "LS"})).replace(
            "\"koordinator.sh/qosClass\":\"LS\"",
            "\"koordinator.sh/qosClass\":\"LS\",\"koordinator.sh/qosClass\":\"GOLD\"",
        );
        victim.refuses("twice", &twice, &["GOLD"]);
    });
}

/// Values of an annotation, and the class of the container that has it.
fn each(name: &str, key: &str, class: &str, values: &[&str]) {
    both(name, |victim| {
        for value in values {
            let annotations = json!({QOS: class, key: value, NAME: "main"});
            victim.refuses(value, &victim.annotated(annotations), &[key]);
        }
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(900_000));
        victim.refuses("long", &victim.annotated(json!({QOS: class, key: long})), &[key, "bytes"]);
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        victim.refuses("deep", &victim.annotated(json!({QOS: class, key: deep})), &[key]);
        victim.refuses("not text", &victim.annotated(json!({QOS: class, key: {"a": 1}})), &["OCI state"]);
    });
}

const NOT_JSON: [&str; 6] = ["x", "{", "{}{}", "{\"a\":}", "\0", "[]"];

#[test]
fn cpus_that_cannot_be_are_refused() {
    let lists = [
        r#"{"cpuset":"0-4294967295"}"#,
        r#"{"cpuset":"3-1"}"#,
        r#"{"cpuset":"0-99999999999999999999"}"#,
        r#"{"cpuset":"-1"}"#,
        r#"{"cpuset":"0,,1"}"#,
        r#"{"cpuset":"0-"}"#,
        r#"{"cpuset":"a"}"#,
        r#"{"cpuset":"0 1"}"#,
        r#"{"cpuset":"0x0"}"#,
        r#"{"cpuset":"0\u0000"}"#,
        r#"{"cpuset":"٠"}"#,
        r#"{"cpuset":0}"#,
        r#"{"cpuset":["0"]}"#,
        r#"{"cpuset":"0","cpuset":"3-1"}"#,
        r#"{"cpuset":"0","numaNodeResources":7}"#,
    ];
    each("cpus", STATUS, "LSR", &[&NOT_JSON[..], &lists].concat());
}

#[test]
fn a_burst_that_cannot_be_is_refused() {
    let bursts = [
        r#"{"policy":"sometimes"}"#,
        r#"{"policy":7}"#,
        r#"{"policy":"auto","cpuBurstPercent":-5}"#,
        r#"{"policy":"auto","cpuBurstPercent":99999999999999999999}"#,
        r#"{"policy":"auto","cpuBurstPercent":1e400}"#,
        r#"{"policy":"auto","cpuBurstPercent":1.5}"#,
        r#"{"policy":"auto","cpuBurstPercent":"ten"}"#,
        r#"{"policy":"auto","cpuBurstPercent":9223372036854775807}"#,
    ];
    each("burst", BURST, "LS", &[&NOT_JSON[..], &bursts].concat());
}

#[test]
fn an_identity_that_cannot_be_is_refused() {
    let identities = [
        r#"{"groupIdentity":99}"#,
        r#"{"groupIdentity":-3}"#,
        r#"{"groupIdentity":"2"}"#,
        r#"{"groupIdentity":1e99}"#,
    ];
    each("identity", CPU_QOS, "LS", &[&NOT_JSON[..], &identities].concat());
}

#[test]
fn batch_resources_that_cannot_be_are_refused() {
    let batch = |value: &str| {
        format!("{{\"containers\":{{\"main\":{{\"limits\":{{\"kubernetes.io/batch-cpu\":{value}}}}}}}}}")
    };
    let values = [
        batch("\"x\""),
        batch("\"1e999999999999\""),
        batch("\"\""),
        batch("\"1Zi\""),
        batch("{}"),
        batch("\"1\\u0000\""),
        r#"{"containers":7}"#.to_owned(),
        r#"{"containers":{"main":{"limits":"many"}}}"#.to_owned(),
    ];
    let values: Vec<&str> = NOT_JSON.into_iter().chain(values.iter().map(String::as_str)).collect();
    each("batch", EXTENDED, "BE", &values);
}

/// With the real runc from beginning to end: one of each kind.
#[test]
fn runc_starts_a_container_with_bad_annotations_as_if_there_were_no_hook() {
    let annotations = [
        json!({QOS: "GOLD"}),
        json!({QOS: "LSR", STATUS: r#"{"cpuset":"0-4294967295"}"#}),
        json!({QOS: "LS", BURST: r#"{"policy":"auto","cpuBurstPercent":-5}"#}),
        json!({QOS: "BE", EXTENDED: "{"}),
        json!({QOS: "L".repeat(300_000)}),
    ];
    for (n, annotations) in annotations.iter().enumerate() {
        let sandbox = Sandbox::new("runc");
        let mut bundle = plain(&sandbox, "bad").args(&["/prober", "exit"]);
        let untouched = sandbox.run_probe(&bundle);
        bundle = bundle.plimsoll_hooks(&sandbox);
        bundle.spec["annotations"] = annotations.clone();
        let seen = sandbox.run_probe(&bundle);
        assert_eq!(seen["files"], untouched["files"], "{n}");
        assert_eq!(seen["cgroup"], untouched["cgroup"], "{n}");
        assert_eq!(seen["affinity"], untouched["affinity"], "{n}");
        assert_eq!(sandbox.log().lines().count(), 1, "{n}: {}", sandbox.log());
        invariants::nothing_left(&sandbox);

        sandbox.config("on_error = \"fail\"\n");
        let ran = sandbox.run(&bundle).fails();
        assert!(ran.stderr.contains("plimsoll-hook createRuntime: annotation"), "{n}: {ran:?}");
        assert!(!ran.stdout.contains("pid"), "{n}: it ran: {ran:?}");
        invariants::nothing_left(&sandbox);
        invariants::hold(&sandbox);
    }
}
