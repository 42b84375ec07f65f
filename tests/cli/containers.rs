//! What the tool says about containers that really run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::common::{Bundle, Sandbox, cgroup, dist};
use super::{QOS, code, json, limited, says, squeezed, tool, tool_with};

/// What a plan and a record both say of each write.
fn essence(writes: &Value) -> Vec<Value> {
    let one = |write: &Value| {
        let keys = ["level", "group", "knob", "value", "fallback", "why"];
        Value::Object(keys.iter().map(|key| ((*key).to_owned(), write[*key].clone())).collect())
    };
    writes.as_array().unwrap_or_else(|| panic!("writes: {writes}")).iter().map(one).collect()
}

fn record(sandbox: &Sandbox, id: &str) -> Value {
    let path = sandbox.run_dir().join(format!("containers/{id}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Plans a bundle, starts it through the real hook, and compares; then plans it again from its state.
fn same_plan(sandbox: &Sandbox, bundle: &Bundle) {
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let plan = json(&tool(sandbox, &["plan", dir, "--json"]).ok());
    let planned = &plan["containers"][0];
    assert_eq!((&planned["outcome"], &planned["exists"]), (&json!("planned"), &json!(false)), "{plan:#}");
    assert_eq!(cgroup::read(bundle.group(), "cpu.shares"), None, "planning makes no group");

    sandbox.create(bundle).ok();
    let record = record(sandbox, &bundle.id);
    assert_eq!(record["errors"], json!([]), "{record:#}");
    assert_eq!(essence(&planned["writes"]), essence(&record["writes"]), "{}", bundle.id);
    for key in ["placement", "rung", "groups", "tree", "lost", "treatment"] {
        assert_eq!(planned[key], record[key], "{key} of {}", bundle.id);
    }

    // Once it is treated the hook writes nothing more.
    let state = sandbox.runc(&["state", &bundle.id]).ok().stdout;
    for args in [&["plan", "--state", "-", "--json"][..], &["plan", dir, "--json"]] {
        let again = json(&tool_with(sandbox, args, state.as_bytes()).ok());
        let again = &again["containers"][0];
        assert_eq!((&again["outcome"], &again["writes"]), (&json!("treated"), &json!([])), "{}", bundle.id);
    }
}

#[test]
fn the_plan_printed_is_the_plan_applied() {
    let sandbox = Sandbox::new("cli-plan");
    same_plan(&sandbox, &limited(&sandbox, "ls").annotation(QOS, "LS"));
    same_plan(&sandbox, &limited(&sandbox, "be").cgroup("kubepods/besteffort/podb/be").annotation(QOS, "BE"));
    same_plan(&sandbox, &limited(&sandbox, "tree").cgroup("tree").annotation(QOS, "BE"));
    same_plan(
        &sandbox,
        &limited(&sandbox, "batch").cgroup("kubepods/besteffort/podc/batch").annotation(QOS, "BE")
            .annotation("io.kubernetes.cri.container-name", "main")
            .annotation(
                "node.koordinator.sh/extended-resource-spec",
                r#"{"containers":{"main":{"requests":{"kubernetes.io/batch-cpu":"500"},"limits":{"kubernetes.io/batch-cpu":"1k","kubernetes.io/batch-memory":"64Mi"}}}}"#,
            ),
    );
    // CPUs of its own last: the pools of the others shrink.
    same_plan(
        &sandbox,
        &limited(&sandbox, "lsr")
            .annotation(QOS, "LSR")
            .annotation("scheduling.koordinator.sh/resource-status", r#"{"cpuset":"1"}"#),
    );
}

#[test]
fn a_running_containers_plan_is_what_its_hook_would_do_and_names_what_is_there_now() {
    let sandbox = Sandbox::new("cli-live");
    let mut bundle = limited(&sandbox, "live").annotation(QOS, "LS");
    bundle.spec["hooks"] = json!({});
    sandbox.create(&bundle).ok();
    let state = sandbox.runc(&["state", "live"]).ok().stdout;
    let plan = json(&tool_with(&sandbox, &["plan", "--state", "-", "--json"], state.as_bytes()).ok());
    let planned = &plan["containers"][0];
    assert_eq!(planned["exists"], true);
    assert_eq!((&planned["writes"][0]["now"], &planned["writes"][0]["value"]), (&json!(0), &json!(50_000)));
    let config = sandbox.config_path();
    let args = ["createRuntime", "--config", config.to_str().unwrap()];
    sandbox.command_with(dist("plimsoll-hook"), &args, state.as_bytes()).ok();
    assert_eq!(essence(&planned["writes"]), essence(&record(&sandbox, "live")["writes"]));

    cgroup::write(bundle.group(), "cpu.cfs_burst_us", "7000").unwrap();
    let again = tool_with(&sandbox, &["plan", "--state", "-"], state.as_bytes()).ok().stdout;
    says(&squeezed(&again), &["treated already", "container cpu.cfs_burst_us 7000 us"]);
}

#[test]
fn the_plan_of_chosen_cpus_is_the_plan_applied() {
    let sandbox = Sandbox::new("cli-own");
    sandbox.config("[exclusive]\nallocate = true\n");
    same_plan(&sandbox, &limited(&sandbox, "lse").resource("cpu", "quota", 100_000).annotation(QOS, "LSE"));
}

#[test]
fn a_plan_says_why_nothing_is_done() {
    let sandbox = Sandbox::new("cli-not");
    let plain = sandbox.bundle("plain");
    plain.write();
    let ran = tool(&sandbox, &["plan", plain.dir.to_str().unwrap()]).ok();
    says(&ran.stdout, &["untouched", "no annotation asks for anything"]);

    let wrong = sandbox.bundle("wrong").annotation(QOS, "GOLD");
    wrong.write();
    let ran = tool(&sandbox, &["plan", wrong.dir.to_str().unwrap()]);
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["GOLD", "LSE, LSR, LS, BE, SYSTEM", "the container starts untreated"]);
    sandbox.config("on_error = \"fail\"\n");
    let ran = tool(&sandbox, &["plan", wrong.dir.to_str().unwrap(), "--json"]);
    assert_eq!((code(&ran), &json(&ran)["containers"][0]["starts"]), (1, &json!(false)));
}

#[test]
fn explain_goes_from_the_request_to_the_files() {
    let sandbox = Sandbox::new("cli-explain");
    let bundle = limited(&sandbox, "0123456789abcdef")
        .cgroup("kubepods/burstable/podx/0123456789abcdef")
        .annotation(QOS, "LS")
        .annotation("koordinator.sh/cpuBurst", r#"{"policy":"auto","cpuBurstPercent":40}"#)
        .annotation("io.kubernetes.cri.sandbox-namespace", "prod")
        .annotation("io.kubernetes.cri.sandbox-name", "web-1")
        .annotation("io.kubernetes.cri.container-name", "nginx");
    sandbox.create(&bundle).ok();
    for name in ["0123456789abcdef", "0123", "web-1", "prod/web-1"] {
        let ran = tool(&sandbox, &["explain", name]).ok();
        says(&ran.stdout, &["prod/web-1 nginx (0123456789abcdef)"]);
        says(
            &squeezed(&ran.stdout),
            &[
                "asked koordinator.sh/qosClass = LS",
                "class LS, from koordinator.sh/qosClass",
                "container cpu.cfs_burst_us 0 20000 us = 0.2 cpu more for one period 20000 ok 40 % of the limit",
                "state ok",
                "`exec` joins it",
            ],
        );
    }
    // The kernel has taken everything, then somebody writes another value.
    cgroup::write(bundle.group(), "cpu.cfs_burst_us", "1000").unwrap();
    let ran = tool(&sandbox, &["explain", "web-1"]);
    assert_eq!(code(&ran), 1);
    says(&squeezed(&ran.stdout), &["20000 us = 0.2 cpu more for one period 1000 DRIFT", "state drift: 1 of"]);
    let ran = tool(&sandbox, &["explain", "web-1", "--json"]);
    let drift = &json(&ran)["containers"][0]["drift"][0];
    assert_eq!(
        (&drift["planned"], &drift["now"], &drift["knob"]),
        (&json!(20_000), &json!(1000), &json!("burst"))
    );
}

#[test]
fn a_container_is_found_only_where_it_is_the_only_one() {
    let sandbox = Sandbox::new("cli-find");
    for (id, namespace) in [("aa1", "one"), ("aa2", "two")] {
        let bundle = limited(&sandbox, id)
            .annotation(QOS, "LS")
            .annotation("io.kubernetes.cri.sandbox-namespace", namespace)
            .annotation("io.kubernetes.cri.sandbox-name", "web");
        sandbox.create(&bundle).ok();
    }
    for (name, parts) in [
        ("aa", ["2 container ids begin like this", "aa1, aa2"]),
        ("web", ["in several namespaces", "one/web, two/web"]),
        ("b", ["no treated container has this id", "plimsoll status"]),
        ("", ["no treated container has this id", "plimsoll status"]),
        ("three/web", ["no treated container has this id", "plimsoll status"]),
    ] {
        let ran = tool(&sandbox, &["explain", name]);
        assert_eq!(code(&ran), 1, "{name}");
        says(&ran.stderr, &parts);
    }
    assert_eq!(json(&tool(&sandbox, &["explain", "one/web", "--json"]).ok())["containers"][0]["id"], "aa1");
}

#[test]
fn status_has_a_row_for_every_container_and_marks_what_is_wrong() {
    let sandbox = Sandbox::new("cli-status");
    says(&tool(&sandbox, &["status"]).ok().stdout, &["No treated containers."]);
    let online = limited(&sandbox, "online")
        .annotation(QOS, "LS")
        .annotation("io.kubernetes.cri.sandbox-namespace", "prod")
        .annotation("io.kubernetes.cri.sandbox-name", "web");
    let offline =
        limited(&sandbox, "offline").cgroup("kubepods/besteffort/podb/offline").annotation(QOS, "BE");
    let moved = limited(&sandbox, "moved").cgroup("moved").annotation(QOS, "BE");
    for bundle in [&online, &offline, &moved] {
        sandbox.create(bundle).ok();
    }
    let ran = tool(&sandbox, &["status", "--exit-code"]).ok();
    says(
        &squeezed(&ran.stdout),
        &[
            "ID CLASS POD CONTAINER PLACEMENT IDENTITY BURST CPUS THROTTLED STATE CGROUP",
            "online LS prod/web - keep - 50000 us",
            "offline BE uid b - keep idle 1 (pod)",
            "moved BE - - class-tree idle 1 (class)",
            "3 containers, all as they should be.",
        ],
    );

    let class = format!("{}/best-effort", sandbox.class_tree());
    cgroup::write(&class, "cpu.idle", "0").unwrap();
    let torn = sandbox.run_dir().join("containers/torn.json");
    fs::write(&torn, "{\"version\":1,").unwrap();
    let ran = tool(&sandbox, &["status", "--exit-code"]);
    assert_eq!(code(&ran), 3, "{ran:#?}");
    says(
        &squeezed(&ran.stdout),
        &["drift (1)", "torn ? ?", "unreadable", "2 not as it should be", "not a whole record"],
    );
    // Without being asked the exit code tells nothing.
    let ran = tool(&sandbox, &["status", "--json"]).ok();
    let rows = json(&ran);
    let row = |id: &str| {
        let rows = rows["containers"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} in {rows:#?}")).clone()
    };
    assert_eq!((&row("online")["state"], &row("online")["burst"]), (&json!("ok"), &json!(50_000)));
    assert_eq!((&row("torn")["state"], &row("moved")["state"]), (&json!("unreadable"), &json!("drift")));
    assert_eq!(row("moved")["drift"][0]["now"], 0);
    assert!(row("online")["stats"]["periods"].is_u64(), "{rows:#?}");

    // Only said, then done.
    let ran = tool(&sandbox, &["repair", "--dry-run"]).ok();
    says(&ran.stdout, &["Nothing was changed", "class idle = 1", "removed the record of torn"]);
    assert!(torn.exists());
    assert_eq!(cgroup::read(&class, "cpu.idle").as_deref(), Some("0"));
    says(&tool(&sandbox, &["repair"]).ok().stdout, &["class idle = 1", "removed the record of torn"]);
    assert_eq!(cgroup::read(&class, "cpu.idle").as_deref(), Some("1"));
    says(&tool(&sandbox, &["repair"]).ok().stdout, &["Nothing to repair."]);
    tool(&sandbox, &["status", "--exit-code"]).ok();
}

#[test]
fn a_container_that_is_gone_is_a_row_until_it_is_repaired() {
    let sandbox = Sandbox::new("cli-gone");
    let mut bundle = limited(&sandbox, "lost").annotation(QOS, "LS");
    // Nobody tells Plimsoll about its end.
    bundle.spec["hooks"].as_object_mut().unwrap().remove("poststop");
    sandbox.create(&bundle).ok();
    sandbox.delete_force("lost").ok();
    let ran = tool(&sandbox, &["status", "--exit-code"]);
    assert_eq!(code(&ran), 3);
    says(&squeezed(&ran.stdout), &["lost LS", " gone "]);
    let ran = tool(&sandbox, &["explain", "lost"]);
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["the container is gone", "plimsoll repair"]);
    tool(&sandbox, &["repair"]).ok();
    says(&tool(&sandbox, &["status"]).ok().stdout, &["No treated containers."]);
}

#[test]
fn the_kill_switch_stops_the_hook_and_is_seen_everywhere() {
    let sandbox = Sandbox::new("cli-off");
    let bundle = limited(&sandbox, "off").annotation(QOS, "LS");
    says(&tool(&sandbox, &["disable"]).ok().stdout, &["The hook is off", "disabled"]);
    assert!(sandbox.run_dir().join("disabled").exists());
    sandbox.create(&bundle).ok();
    assert_eq!(cgroup::read(bundle.group(), "cpu.cfs_burst_us").as_deref(), Some("0"));
    says(&tool(&sandbox, &["status"]).ok().stdout, &["switched off", "No treated containers."]);
    says(
        &tool(&sandbox, &["plan", bundle.dir.to_str().unwrap()]).ok().stdout,
        &["switched off", "cpu.cfs_burst_us"],
    );
    says(&tool(&sandbox, &["check"]).stdout, &["switched off"]);
    assert_eq!(json(&tool(&sandbox, &["status", "--json"]).ok())["disabled"], true);
    says(&tool(&sandbox, &["enable"]).ok().stdout, &["The hook is on", "stay untreated"]);
    says(&tool(&sandbox, &["enable"]).ok().stdout, &["It was not off"]);
    sandbox.delete_force("off").ok();
    sandbox.create(&bundle).ok();
    assert_eq!(cgroup::read(bundle.group(), "cpu.cfs_burst_us").as_deref(), Some("50000"));
}

#[test]
fn a_class_tree_container_is_told_what_an_update_did_not_reach() {
    let sandbox = Sandbox::new("cli-update");
    let bundle = limited(&sandbox, "moved").cgroup("moved").annotation(QOS, "BE");
    sandbox.create(&bundle).ok();
    says(&tool(&sandbox, &["explain", "moved"]).ok().stdout, &["`exec` joins the engine's group"]);
    cgroup::write(bundle.group(), "cpu.cfs_quota_us", "70000").unwrap();
    says(&tool(&sandbox, &["explain", "moved"]).ok().stdout, &["the engine's group says quota 70000 by now"]);
}

#[test]
fn watching_prints_again_until_it_is_stopped() {
    let sandbox = Sandbox::new("cli-watch");
    sandbox.create(&limited(&sandbox, "one").annotation(QOS, "LS")).ok();
    let mut child = Command::new(dist("plimsoll"))
        .arg("--config")
        .arg(sandbox.config_path())
        .args(["status", "--json", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        let look: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(look["containers"][0]["id"], "one");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_root_everything_is_shown_and_nothing_is_changed() {
    let sandbox = Sandbox::new("cli-nobody");
    let bundle = limited(&sandbox, "one").annotation(QOS, "LS");
    sandbox.create(&bundle).ok();
    cgroup::write(bundle.group(), "cpu.cfs_burst_us", "1000").unwrap();
    // The target folder may be nobody's to read.
    let program = sandbox.dir().join("plimsoll");
    fs::copy(dist("plimsoll"), &program).unwrap();
    for path in [sandbox.dir(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg("--config")
            .arg(sandbox.config_path())
            .args(args)
            .stdin(Stdio::null())
            .uid(65534)
            .gid(65534);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, text, _) = run(&["status", "--exit-code"]);
    assert_eq!(status, Some(3), "{text}");
    says(&text, &["drift (1)"]);
    let (status, text, _) = run(&["explain", "one"]);
    assert_eq!(status, Some(1));
    says(&text, &["DRIFT"]);
    let (_, text, _) = run(&["check"]);
    says(&text, &["run this as root to see whether it can be written"]);
    let (status, text, _) = run(&["repair"]);
    assert_eq!(status, Some(1));
    says(&text, &["EACCES", "Run it as root"]);
    let (status, _, errors) = run(&["disable"]);
    assert_eq!(status, Some(1));
    says(&errors, &["EACCES", "run it as root"]);
    assert_eq!(cgroup::read(bundle.group(), "cpu.cfs_burst_us").as_deref(), Some("1000"));
}
