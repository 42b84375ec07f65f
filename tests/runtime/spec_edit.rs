//! What the wrapper writes into `config.json`, and what it leaves there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::QOS;
use super::common::{Bundle, Hook, Sandbox, dist, invariants};

const STATUS: &str = "scheduling.koordinator.sh/resource-status";
const EXTENDED: &str = "node.koordinator.sh/extended-resource-spec";

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

/// Creates the bundle's container as it stands on disk, and deletes it.
fn create(sandbox: &Sandbox, bundle: &Bundle) {
    let dir = bundle.dir.to_str().unwrap();
    let mut command = sandbox.runc_command();
    let file = |name: &str| fs::File::create(sandbox.dir().join(name)).unwrap();
    let status = command
        .args(["create", "--bundle", dir, &bundle.id])
        .stdout(file("out"))
        .stderr(file("err"))
        .status();
    assert!(status.unwrap().success(), "{}", fs::read_to_string(sandbox.dir().join("err")).unwrap());
    assert!(!sandbox.log().contains("\"level\":\"error\""), "{}", sandbox.log());
    sandbox.delete_force(bundle).ok();
    let names =
        fs::read_dir(&bundle.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.contains("plimsoll")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn text(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.dir.join("config.json")).unwrap()
}

fn spec(bundle: &Bundle) -> Value {
    serde_json::from_str(&text(bundle)).unwrap()
}

/// Writes, creates, and reads again.
fn edited(sandbox: &Sandbox, bundle: &Bundle) -> Value {
    bundle.write();
    create(sandbox, bundle);
    spec(bundle)
}

fn own<'v>(spec: &'v Value, stage: &str) -> Vec<&'v Value> {
    let hooks = spec["hooks"][stage].as_array().map_or(&[][..], Vec::as_slice);
    hooks.iter().filter(|hook| hook["path"] == dist("plimsoll-hook").to_str().unwrap()).collect()
}

/// The engine's file again, out of an edited one.
fn engines(mut spec: Value, cgroups_path: &str) -> Value {
    spec.as_object_mut().unwrap().shift_remove("io.plimsoll.engine");
    for (_, hooks) in spec["hooks"].as_object_mut().unwrap() {
        hooks.as_array_mut().unwrap().retain(|hook| hook["path"] != dist("plimsoll-hook").to_str().unwrap());
    }
    spec["hooks"].as_object_mut().unwrap().retain(|_, hooks| hooks != &json!([]));
    spec["linux"]["cgroupsPath"] = cgroups_path.into();
    spec
}

#[test]
fn unknown_fields_order_numbers_and_text_survive() {
    let sandbox = Sandbox::wrapped("survive");
    let mut bundle = best_effort(&sandbox);
    bundle.spec["zeta"] =
        json!({"b": 1, "a": [null, 1.5, -0.0, 18_446_744_073_709_551_615_u64, i64::MIN], "": {}});
    bundle.spec["alpha"] = json!("\u{0}\u{1f}\"\\/é\u{2028}\u{10ffff}");
    bundle.spec["linux"]["unknown"] = json!([{"z": 1, "y": 2}]);
    bundle.spec["linux"]["resources"]["cpu"]["unknown"] = json!(true);
    bundle.spec["hooks"]["startContainer"] = json!([]);
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "PATH=/other"]);
    let mut before = bundle.spec.clone();
    before["hooks"].as_object_mut().unwrap().clear();
    let after = engines(edited(&sandbox, &bundle), bundle.group());
    // Objects compare without order; text does not.
    assert_eq!(after.to_string(), before.to_string());
}

#[test]
fn the_hooks_are_the_last_and_can_be_run_by_any_runtime() {
    let sandbox = Sandbox::wrapped("hooks");
    let bundle = best_effort(&sandbox)
        .hook("createRuntime", Hook::shell("exit 0"))
        .hook("poststop", Hook::shell("exit 0"))
        .hook("prestart", Hook::shell("exit 0"));
    let spec = edited(&sandbox, &bundle);
    assert_eq!(spec["hooks"]["prestart"], bundle.spec["hooks"]["prestart"]);
    for stage in ["createRuntime", "poststop"] {
        let hooks = spec["hooks"][stage].as_array().unwrap();
        assert_eq!(
            hooks[..1],
            bundle.spec["hooks"][stage].as_array().unwrap()[..],
            "the engine's comes first"
        );
        let [ours] = own(&spec, stage)[..] else { panic!("not one: {hooks:#?}") };
        assert_eq!(hooks.last(), Some(ours));
        assert!(Path::new(ours["path"].as_str().unwrap()).is_absolute());
        let args: Vec<&str> =
            ours["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        assert_eq!(args[..3], ["plimsoll-hook", stage, "--config"]);
        assert_eq!(args[3], sandbox.config_path().to_str().unwrap());
        assert_eq!(ours["env"], json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]));
        assert_eq!(ours["timeout"], 10);
    }
}

#[test]
fn mode_owner_and_links_stay() {
    let sandbox = Sandbox::wrapped("owner");
    let bundle = best_effort(&sandbox);
    bundle.write();
    let (file, target) = (bundle.dir.join("config.json"), sandbox.dir().join("elsewhere.json"));
    fs::rename(&file, &target).unwrap();
    symlink("../../elsewhere.json", &file).unwrap();
    chown(&target, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o604)).unwrap();
    create(&sandbox, &bundle);
    assert_eq!(fs::read_link(&file).unwrap(), Path::new("../../elsewhere.json"));
    let meta = fs::symlink_metadata(&target).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 2345, 0o604));
    assert_eq!(own(&spec(&bundle), "createRuntime").len(), 1);
    let names =
        fs::read_dir(sandbox.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with(".config")).count(), 0);
}

#[test]
fn a_bundle_that_is_used_again_starts_from_the_engines_values() {
    let sandbox = Sandbox::wrapped("again");
    let bundle = best_effort(&sandbox);
    let first = edited(&sandbox, &bundle);
    let first_text = text(&bundle);
    create(&sandbox, &bundle);
    assert_eq!(text(&bundle), first_text);
    // Another class: what was done for the first is undone.
    let mut spec_now = first;
    spec_now["annotations"][QOS] = "LS".into();
    fs::write(bundle.dir.join("config.json"), spec_now.to_string()).unwrap();
    create(&sandbox, &bundle);
    let as_ls = spec(&bundle);
    assert_eq!(as_ls["linux"]["cgroupsPath"], bundle.group());
    assert_eq!(own(&as_ls, "createRuntime").len(), 1);
    // None any more.
    spec_now["annotations"] = json!({});
    fs::write(bundle.dir.join("config.json"), spec_now.to_string()).unwrap();
    create(&sandbox, &bundle);
    let mut before = bundle.spec.clone();
    before["annotations"] = json!({});
    assert_eq!(engines(spec(&bundle), "").to_string(), engines(before, "").to_string());
    assert_eq!(spec(&bundle)["linux"]["cgroupsPath"], bundle.group());
    invariants::nothing_left(&sandbox);
}

#[test]
fn a_hook_that_is_configured_already_is_not_doubled() {
    let sandbox = Sandbox::wrapped("twice");
    let mut bundle = best_effort(&sandbox);
    for stage in ["createRuntime", "poststop"] {
        bundle = bundle.hook(stage, Hook::plimsoll(&sandbox, stage));
    }
    let spec = edited(&sandbox, &bundle);
    for stage in ["createRuntime", "poststop"] {
        assert_eq!(own(&spec, stage).len(), 1, "{spec:#}");
    }
    assert_eq!(sandbox.log().matches("container placed").count(), 1, "{}", sandbox.log());
}

#[test]
fn a_configured_hook_is_no_reason_to_touch_a_file_that_asks_for_nothing() {
    let sandbox = Sandbox::wrapped("configured");
    let bundle =
        sandbox.bundle("c").hook("createRuntime", Hook::plimsoll(&sandbox, "createRuntime")).waiting();
    bundle.write();
    let file = bundle.dir.join("config.json");
    let before = (text(&bundle), fs::metadata(&file).unwrap().ino());
    create(&sandbox, &bundle);
    assert_eq!((text(&bundle), fs::metadata(&file).unwrap().ino()), before);
}

#[test]
fn a_sandbox_is_treated_too() {
    let sandbox = Sandbox::wrapped("pause");
    let bundle = sandbox
        .bundle("pause")
        .annotation(QOS, "LS")
        .annotation("io.kubernetes.cri.container-type", "sandbox")
        .waiting();
    let spec = edited(&sandbox, &bundle);
    assert_eq!(own(&spec, "createRuntime").len(), 1);
    assert!(sandbox.log().contains("container placed"), "{}", sandbox.log());
}

#[test]
fn cpus_of_its_own_are_the_runtimes_to_write() {
    let sandbox = Sandbox::wrapped("pinned");
    let bundle = sandbox
        .bundle("c")
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .resource("cpu", "cpus", "0-1")
        .annotation(QOS, "LSR")
        .annotation(STATUS, r#"{"cpuset":"0"}"#)
        .waiting();
    let spec = edited(&sandbox, &bundle);
    let cpu = &spec["linux"]["resources"]["cpu"];
    assert_eq!((&cpu["cpus"], &cpu["quota"], &cpu["period"]), (&json!("0"), &Value::Null, &json!(100_000)));
    let args = own(&spec, "createRuntime")[0]["args"].as_array().unwrap();
    let noted: Value = serde_json::from_str(args.last().unwrap().as_str().unwrap()).unwrap();
    assert_eq!(noted["/linux/resources/cpu/cpus"], "0-1");
    assert_eq!(noted["/linux/resources/cpu/quota"], 50_000);
}

#[test]
fn batch_resources_are_the_runtimes_to_write() {
    let resources = json!({"kubernetes.io/batch-cpu": "500", "kubernetes.io/batch-memory": "64Mi"});
    let extended = json!({"containers": {"main": {"limits": resources, "requests": resources}}}).to_string();
    let mib = |n: i64| n << 20;
    // The engine's memory and memory with swap, and what becomes of the latter.
    for (memory, swap, swap_after) in [
        (None, None, None),
        (Some(mib(128)), Some(mib(128)), Some(mib(64))),
        (Some(mib(128)), Some(mib(192)), Some(mib(192))),
        (Some(mib(128)), None, None),
        (Some(mib(128)), Some(-1), Some(-1)),
    ] {
        let sandbox = Sandbox::wrapped("batch");
        let mut bundle = sandbox
            .bundle("c")
            .cgroup("c")
            .annotation(QOS, "BE")
            .annotation(EXTENDED, &extended)
            .annotation("io.kubernetes.cri.container-name", "main")
            .waiting();
        for (key, value) in [("limit", memory), ("swap", swap)] {
            if let Some(value) = value {
                bundle = bundle.resource("memory", key, value);
            }
        }
        let spec = edited(&sandbox, &bundle);
        let resources = &spec["linux"]["resources"];
        assert_eq!((&resources["cpu"]["shares"], &resources["cpu"]["quota"]), (&json!(512), &json!(50_000)));
        assert_eq!(resources["memory"]["limit"], mib(64));
        assert_eq!(
            resources["memory"].get("swap").and_then(Value::as_i64),
            swap_after,
            "{memory:?} {swap:?}"
        );
    }
}
