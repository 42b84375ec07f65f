//! Wrong usage, and bundles that are none: the real runtime says so, in its own words, where it always does.

use std::fs;
use std::path::Path;

use super::common::{Sandbox, real_runc};
use super::twin::{LOGS, Seen, call, no_groups, shell, sides};

/// Command lines that fail, or only print. `{}` is a folder without `config.json`, `{good}` a bundle, `{torn}` and so on
/// those made below.
const CALLS: [&str; 58] = [
    "",
    "--help",
    "-h",
    "help",
    "help create",
    "help bogus",
    "--bogus",
    "--bogus create --bundle {good} c",
    "--log-level nonsense state c",
    "--root",
    "bogus",
    "bogus create",
    "state",
    "state c",
    "state a b",
    "state ../c",
    "kill c",
    "kill c KILL",
    "kill c BOGUS",
    "delete c",
    "delete --force c",
    "delete --bogus c",
    "start c",
    "start",
    "exec c",
    "exec c true",
    "exec",
    "update c",
    "update --cpu-quota 50000 c",
    "update --cpu-quota many c",
    "update --bogus c",
    "update --resources /nonexistent c",
    "update",
    "update --help",
    "pause c",
    "resume c",
    "ps c",
    "events c",
    "events --stats c",
    "checkpoint c",
    "spec --bogus",
    "list --format bogus",
    "create",
    "create --help",
    "create -h",
    "run --help",
    "restore --help",
    "create --bogus c",
    "create a b",
    "create --bundle",
    "create --bundle {} c",
    "create --bundle {}/nonexistent c",
    "create --bundle {torn} c",
    "run --bundle {torn} c",
    "create --bundle {list} c",
    "create --bundle {good} bad!id",
    "restore --bundle {good} --image-path {}/image c",
    "run --bundle {good}",
];

fn usage_on(sandbox: &Sandbox, program: &Path, log: &[&str]) -> Vec<(&'static str, Seen)> {
    let folder = |name: &str| sandbox.dir().join(name).to_str().unwrap().to_owned();
    let good = sandbox.bundle("good");
    good.write();
    for (name, text) in [("empty", None), ("torn", Some("{\"ociVersion\":\"1.0.2\",")), ("list", Some("[]"))]
    {
        fs::create_dir_all(folder(name)).unwrap();
        if let Some(text) = text {
            fs::write(Path::new(&folder(name)).join("config.json"), text).unwrap();
        }
    }
    let mut seen = Vec::new();
    for line in CALLS {
        let line_here = line
            .replace("{good}", good.dir.to_str().unwrap())
            .replace("{torn}", &folder("torn"))
            .replace("{list}", &folder("list"))
            .replace("{}", &folder("empty"));
        let words: Vec<&str> = line_here.split(' ').filter(|word| !word.is_empty()).collect();
        seen.push((line, call(sandbox, program, log, &words)));
    }
    no_groups(sandbox);
    seen
}

fn is_the_same(policy: &str) {
    let sandbox = Sandbox::new("usage");
    sandbox.config(&format!("on_error = \"{policy}\"\n"));
    for log in LOGS {
        let [real, wrapped] = sides().map(|program| usage_on(&sandbox, &program, log));
        for (real, wrapped) in real.iter().zip(&wrapped) {
            if policy == "fail" && real.0.contains("{torn}") {
                // What cannot be read may ask for anything: it is refused before the runtime would have.
                assert!(
                    wrapped.1.code == 1 && wrapped.1.stderr.contains("not an OCI config.json"),
                    "{wrapped:#?}"
                );
            } else {
                assert_eq!(wrapped, real, "{log:?}");
            }
        }
        assert!(real.iter().filter(|(_, seen)| seen.code != 0).count() > 40, "{real:#?}");
    }
    assert!(!sandbox.run_dir().exists());
}

#[test]
fn wrong_usage_is_answered_by_the_real_runtime() {
    is_the_same("ignore");
}

#[test]
fn wrong_usage_is_answered_by_the_real_runtime_where_errors_are_fatal_too() {
    is_the_same("fail");
}

#[test]
fn spec_writes_the_same_file() {
    let sandbox = Sandbox::new("spec");
    let specs = sides().map(|program| {
        let folder = sandbox.dir().join("spec");
        fs::create_dir(&folder).unwrap();
        let seen = call(&sandbox, &program, &[], &["spec", "--bundle", folder.to_str().unwrap()]);
        let spec = fs::read(folder.join("config.json")).unwrap();
        let again = call(&sandbox, &program, &[], &["spec", "--bundle", folder.to_str().unwrap()]);
        fs::remove_dir_all(folder).unwrap();
        (seen, spec, again)
    });
    assert_eq!(specs[0], specs[1]);
    assert!(real_runc().exists());
}

/// Whoever is not root of the machine gets the real runtime and nothing else.
#[test]
fn without_root_there_is_the_real_runtime_only() {
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for user in [
        nobody.to_owned(),
        format!("{nobody} unshare --user --map-root-user"),
        "unshare --user --map-root-user".to_owned(),
    ] {
        let sandbox = Sandbox::new("rootless");
        let mut bundle =
            sandbox.bundle("c").annotation(super::QOS, "BE").args(&["/bin/cat", "/proc/self/uid_map"]);
        bundle.spec["linux"] = serde_json::json!({
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": if user == nobody { 65534 } else { 0 }, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": if user == nobody { 65534 } else { 0 }, "size": 1}],
        });
        bundle = bundle.without_mount("/host/cgroup");
        bundle.write();
        let file = bundle.dir.join("config.json");
        let before = fs::read(&file).unwrap();
        let seen = sides().map(|program| {
            let line = format!(
                "chown -R 65534:65534 . && chmod 755 . && mkdir -p run && chmod 1777 run && exec {user} \"$0\" --root {0}/run/runc-$$ run --bundle {1} c",
                sandbox.dir().display(),
                bundle.dir.display(),
            );
            shell(&sandbox, &program, &line)
        });
        assert_eq!(seen[1], seen[0], "{user}");
        assert_eq!(fs::read(&file).unwrap(), before);
        assert_eq!(sandbox.log(), "");
        // The container that the real runtime makes here shows its own user namespace.
        assert!(seen[0].code == 0 && seen[0].stdout.trim().ends_with(" 1"), "{user}: {seen:#?}");
    }
}
