//! What can break around the wrapper: by default the container starts as if there were no wrapper and the log says why;
//! where the policy says that it must not start, the error is where an engine looks for it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::QOS;
use super::common::{Bundle, Sandbox, dist, real_runc};
use super::twin::{LOGS, Seen, call, no_groups, settings, shell};

fn best_effort(sandbox: &Sandbox) -> Bundle {
    sandbox
        .bundle("c")
        .cgroup("c")
        .resource("cpu", "shares", 512)
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, "BE")
        .waiting()
}

fn config_json(bundle: &Bundle) -> PathBuf {
    bundle.dir.join("config.json")
}

fn create(sandbox: &Sandbox, program: &Path, log: &[&str], bundle: &Bundle) -> Seen {
    let seen = call(sandbox, program, log, &["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    no_temporary(&bundle.dir);
    seen
}

fn gone(sandbox: &Sandbox, bundle: &Bundle) {
    sandbox.delete_force(bundle);
    no_groups(sandbox);
}

fn no_temporary(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.contains("plimsoll")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The container was refused by the wrapper, and an engine sees why.
#[track_caller]
pub(crate) fn refused(seen: &Seen, log: &[&str], words: &[&str]) {
    assert_eq!(seen.code, 1, "{seen:?}");
    let mut texts = vec![seen.stderr.clone()];
    match (log.len(), &seen.log) {
        (0, _) => {}
        (1, Some(text)) => {
            assert!(text.starts_with("time=\"") && text.contains(" level=error msg=\""), "{text}");
            texts.push(text.clone());
        }
        (_, Some(text)) => {
            let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(line["level"], "error");
            texts.push(line["msg"].as_str().unwrap().to_owned());
        }
        (_, None) => panic!("nothing in the runtime's log: {seen:?}"),
    }
    for (text, word) in texts.iter().flat_map(|text| words.iter().map(move |word| (text, word))) {
        assert!(text.contains("plimsoll-runtime: ") && text.contains(word), "{word:?} should be in {text:?}");
    }
}

/// The one line of Plimsoll's log, which has these words.
#[track_caller]
fn logged(sandbox: &Sandbox, words: &[&str]) {
    let log = sandbox.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!((&lines[0]["level"], &lines[0]["stage"]), (&json!("error"), &json!("runtime")), "{log}");
    for word in words {
        assert!(lines[0]["errors"].as_str().unwrap().contains(word), "{word:?} should be in {log}");
    }
    fs::remove_file(sandbox.log_file()).unwrap();
}

/// Files that are no `config.json` of a treated container: what is wrong, the text, and what the log says.
fn broken_specs(spec: &Value) -> Vec<(&'static str, String, &'static str)> {
    let with = |pointer: &str, value: Value| {
        let mut spec = spec.clone();
        *spec.pointer_mut(pointer).unwrap() = value;
        spec.to_string()
    };
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    vec![
        ("torn", spec.to_string()[..400].to_owned(), "not an OCI config.json"),
        ("empty", String::new(), "not an OCI config.json"),
        ("hooks are text", with("/hooks", json!("none")), "not an OCI config.json"),
        (
            "hooks of a stage are no list",
            with("/hooks", json!({"createRuntime": 7})),
            "not an OCI config.json",
        ),
        (
            "an annotation is a number",
            with(&format!("/annotations/{}", QOS.replace('/', "~1")), json!(7)),
            "is not a string",
        ),
        ("annotations are a list", with("/annotations", json!([QOS])), "not an OCI config.json"),
        ("poststop is no list", with("/hooks", json!({"poststop": {}})), "hooks.poststop is not a list"),
        ("linux is text", with("/linux", json!("none")), "not an object"),
        ("deep", format!("{{\"deep\":{deep},{}", &spec.to_string()[1..]), "recursion limit"),
        (
            "huge",
            format!("{{\"huge\":\"{}\",{}", "x".repeat(17 << 20), &spec.to_string()[1..]),
            "longer than",
        ),
    ]
}

#[test]
fn a_spec_that_cannot_be_understood_is_the_real_runtimes() {
    let sandbox = Sandbox::new("broken");
    let bundle = best_effort(&sandbox);
    bundle.write();
    for (what, text, word) in broken_specs(&bundle.spec) {
        fs::write(config_json(&bundle), &text).unwrap();
        sandbox.config("");
        for log in LOGS {
            let real = create(&sandbox, &real_runc(), log, &bundle);
            let groups = (real.code == 0).then(|| settings(bundle.group()));
            gone(&sandbox, &bundle);
            let wrapped = create(&sandbox, &dist("plimsoll-runtime"), log, &bundle);
            assert_eq!(wrapped, real, "{what}");
            assert_eq!((wrapped.code == 0).then(|| settings(bundle.group())), groups, "{what}");
            gone(&sandbox, &bundle);
            logged(&sandbox, &[word]);
            assert!(
                fs::read(config_json(&bundle)).unwrap() == text.as_bytes(),
                "{what}: config.json was touched"
            );
        }
        sandbox.config("on_error = \"fail\"\n");
        for log in LOGS {
            let seen = create(&sandbox, &dist("plimsoll-runtime"), log, &bundle);
            refused(&seen, log, &[word]);
            logged(&sandbox, &[word]);
        }
        assert!(
            fs::read(config_json(&bundle)).unwrap() == text.as_bytes(),
            "{what}: config.json was touched"
        );
    }
}

#[test]
fn bad_annotations_leave_the_container_as_it_would_be() {
    let status = "scheduling.koordinator.sh/resource-status";
    for (key, value, class) in [(QOS, "GOLD", None), (status, r#"{"cpuset":"3-1"}"#, Some("LSR"))] {
        let sandbox = Sandbox::new("bad");
        let mut bundle = best_effort(&sandbox);
        bundle.spec["annotations"] = json!({});
        if let Some(class) = class {
            bundle = bundle.annotation(QOS, class);
        }
        let bundle = bundle.annotation(key, value);
        bundle.write();
        assert_eq!(create(&sandbox, &real_runc(), &[], &bundle).code, 0);
        let groups = settings(bundle.group());
        gone(&sandbox, &bundle);
        let seen = create(&sandbox, &dist("plimsoll-runtime"), &[], &bundle);
        assert_eq!((seen.code, seen.stderr.as_str()), (0, ""));
        assert_eq!(settings(bundle.group()), groups);
        assert!(sandbox.log().contains(key), "{}", sandbox.log());
        gone(&sandbox, &bundle);

        sandbox.config("on_error = \"fail\"\n");
        for log in LOGS {
            let seen = create(&sandbox, &dist("plimsoll-runtime"), log, &bundle);
            assert_eq!(seen.code, 1, "{seen:?}");
            let text = seen.log.unwrap_or(seen.stderr);
            assert!(text.contains("level") && text.contains("error") && text.contains(key), "{text}");
        }
    }
}

#[test]
fn a_hook_that_is_not_beside_the_wrapper_is_said() {
    let sandbox = Sandbox::new("alone");
    let alone = sandbox.dir().join("alone/plimsoll-runtime");
    fs::create_dir(alone.parent().unwrap()).unwrap();
    shell(&sandbox, &dist("plimsoll-runtime"), &format!("cp \"$0\" {}", alone.display()));
    let bundle = best_effort(&sandbox);
    bundle.write();
    let before = fs::read(config_json(&bundle)).unwrap();
    assert_eq!(create(&sandbox, &alone, &[], &bundle).code, 0);
    logged(&sandbox, &["find the hook", "alone/plimsoll-hook", "ENOENT", "beside plimsoll-runtime"]);
    gone(&sandbox, &bundle);
    sandbox.config("on_error = \"fail\"\n");
    for log in LOGS {
        refused(&create(&sandbox, &alone, log, &bundle), log, &["find the hook", "alone/plimsoll-hook"]);
        logged(&sandbox, &["find the hook"]);
    }
    assert_eq!(fs::read(config_json(&bundle)).unwrap(), before);
    // Whoever asks for nothing needs no hook.
    let nothing = sandbox.bundle("nothing").waiting();
    nothing.write();
    assert_eq!(create(&sandbox, &alone, &[], &nothing).code, 0);
    assert_eq!(sandbox.log(), "");
}

/// Runs `create` in a mount namespace of its own, after a script that has the bundle's folder in `$B`.
fn create_in_namespace(sandbox: &Sandbox, bundle: &Bundle, prepare: &str, after: &str) -> Seen {
    bundle.write();
    let script = format!(
        "export B={} R={}/runc L={}/runtime.log; exec unshare --mount /bin/sh -c '{prepare}
        \"$0\" --root $R --log $L --log-format json create --bundle $B c; code=$?; {after}
        exit $code' \"$0\"",
        bundle.dir.display(),
        sandbox.dir().display(),
        sandbox.dir().display(),
    );
    let _ = fs::remove_file(sandbox.dir().join("runtime.log"));
    let mut seen = shell(sandbox, &dist("plimsoll-runtime"), &script);
    seen.log = fs::read_to_string(sandbox.dir().join("runtime.log")).ok();
    seen
}

#[test]
fn a_bundle_that_cannot_be_written_starts_unless_the_policy_says_otherwise() {
    let full = "cp $B/config.json $B.copy || exit 9
        mount -t tmpfs -o size=16k tmpfs $B && cp $B.copy $B/config.json || exit 9
        rm $B.copy; head -c 64k /dev/zero > $B/ballast 2>/dev/null";
    let read_only = "mount --bind $B $B && mount -o remount,bind,ro $B || exit 9";
    for (prepare, errno) in [(read_only, "EROFS"), (full, "ENOSPC")] {
        let sandbox = Sandbox::new("unwritable");
        let bundle = best_effort(&sandbox);
        let seen = create_in_namespace(&sandbox, &bundle, prepare, "ls -A $B");
        assert_eq!((seen.code, seen.stderr.as_str()), (0, ""), "{seen:?}");
        assert!(!seen.stdout.contains("plimsoll"), "{seen:?}");
        assert!(settings(bundle.group()).len() > 20);
        logged(&sandbox, &[errno, ".config.json.plimsoll-"]);
        gone(&sandbox, &bundle);
        sandbox.config("on_error = \"fail\"\n");
        let seen = create_in_namespace(&sandbox, &bundle, prepare, "");
        refused(&seen, LOGS[2], &[errno]);
    }
}

#[test]
fn the_kill_switch_turns_the_wrapper_into_the_runtime() {
    let sandbox = Sandbox::new("switch");
    let bundle = best_effort(&sandbox);
    // The usual one, in a file system of its own; then that of the configuration.
    let usual = "mount -t tmpfs tmpfs /run && mkdir /run/plimsoll && touch /run/plimsoll/disabled || exit 9";
    let own = format!("mkdir -p {0} && touch {0}/disabled || exit 9", sandbox.run_dir().display());
    for prepare in [usual, &own] {
        let seen = create_in_namespace(&sandbox, &bundle, prepare, "");
        assert_eq!((seen.code, seen.stderr.as_str()), (0, ""), "{seen:?}");
        assert_eq!(fs::read(config_json(&bundle)).unwrap(), serde_json::to_vec(&bundle.spec).unwrap());
        assert_eq!(sandbox.log(), "");
        let updated =
            call(&sandbox, &dist("plimsoll-runtime"), &[], &["update", "--cpu-quota", "40000", "c"]);
        assert_eq!(updated.code, 0, "{updated:?}");
        gone(&sandbox, &bundle);
    }
    fs::remove_file(sandbox.run_dir().join("disabled")).unwrap();
    let seen = create(&sandbox, &dist("plimsoll-runtime"), &[], &bundle);
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(fs::read_to_string(config_json(&bundle)).unwrap().contains("best-effort/c"));
    sandbox.delete_force(&bundle).ok();
}

#[test]
fn a_broken_configuration_starts_the_container_and_the_log_says_why() {
    let sandbox = Sandbox::new("config");
    fs::write(sandbox.config_path(), "on_eror = \"fail\"\n").unwrap();
    let bundle = best_effort(&sandbox);
    // Where the log is cannot be known, so it goes to its usual place: here, one of the wrapper's own.
    let places = "for folder in /var/log /run/systemd/journal; do
            [ ! -d $folder ] || mount -t tmpfs tmpfs $folder || exit 9
        done";
    let seen = create_in_namespace(&sandbox, &bundle, places, "cat /var/log/plimsoll/plimsoll.log");
    assert_eq!((seen.code, seen.stderr.as_str()), (0, ""), "{seen:?}");
    let line: Value = serde_json::from_str(&seen.stdout).unwrap();
    for word in ["on_eror", "line 1", "on_error"] {
        assert!(line["errors"].as_str().unwrap().contains(word), "{word:?} should be in {line}");
    }
    assert_eq!(fs::read(config_json(&bundle)).unwrap(), serde_json::to_vec(&bundle.spec).unwrap());
    gone(&sandbox, &bundle);
}
