//! Which runtime is the real one: it is found, it is not the wrapper itself, and it does not come back to it.

use std::fs;
use std::path::Path;

use super::QOS;
use super::common::{Sandbox, dist};
use super::failure::refused;
use super::twin::{LOGS, Seen, call, script, shell};

fn wrapper(sandbox: &Sandbox, log: &[&str], args: &[&str]) -> Seen {
    call(sandbox, &dist("plimsoll-runtime"), log, args)
}

#[test]
fn a_configured_runtime_that_cannot_be_executed_is_an_error() {
    let sandbox = Sandbox::new("noreal");
    let text = sandbox.dir().join("text");
    fs::write(&text, "").unwrap();
    let own = dist("plimsoll-runtime");
    for (path, word) in [
        (Path::new("/nonexistent/runc"), "find [runtime] path /nonexistent/runc: ENOENT"),
        (text.as_path(), "EACCES"),
        (sandbox.dir(), "EACCES"),
        (own.as_path(), "it is plimsoll-runtime itself"),
    ] {
        sandbox.config(&format!("[runtime]\npath = {path:?}\n"));
        for log in LOGS {
            for args in [&["state", "c"][..], &["create", "c"], &["--version"]] {
                refused(&wrapper(&sandbox, log, args), log, &[word]);
            }
        }
    }
}

#[test]
fn no_runtime_at_all_is_an_error() {
    let sandbox = Sandbox::new("none");
    // In a mount namespace where none is a program.
    let line = format!(
        "exec unshare --mount /bin/sh -c 'for r in runc crun youki; do
            for d in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
                [ ! -e $d/$r ] || mount --bind /dev/null $d/$r || exit 9
            done
        done
        PATH=/nonexistent exec \"$0\" --log {0}/runtime.log --log-format json state c' \"$0\"",
        sandbox.dir().display()
    );
    let mut seen = shell(&sandbox, &dist("plimsoll-runtime"), &line);
    seen.log = fs::read_to_string(sandbox.dir().join("runtime.log")).ok();
    refused(&seen, LOGS[2], &["runc, crun, youki", "not found in PATH", "[runtime] path"]);
}

#[test]
fn a_link_to_the_wrapper_is_not_the_real_runtime() {
    let sandbox = Sandbox::new("link");
    let folder = sandbox.dir().join("first");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(dist("plimsoll-runtime"), folder.join("runc")).unwrap();
    for program in ["\"$0\"", "runc"] {
        let line = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin {program} --version", folder.display());
        let seen = shell(&sandbox, &dist("plimsoll-runtime"), &line);
        assert!(seen.code == 0 && seen.stdout.starts_with("runc version"), "{seen:?}");
    }
    // A copy of it is taken for a runtime, and then finds the real one.
    fs::remove_file(folder.join("runc")).unwrap();
    let folder = folder.display();
    let line = format!("cp \"$0\" {folder}/runc; PATH={folder}:/usr/sbin:/usr/bin:/bin \"$0\" --version");
    let seen = shell(&sandbox, &dist("plimsoll-runtime"), &line);
    assert!(seen.code == 0 && seen.stdout.starts_with("runc version"), "{seen:?}");
}

#[test]
fn a_links_name_says_which_runtime() {
    let sandbox = Sandbox::new("names");
    for name in ["runc", "crun", "youki"] {
        let link = sandbox.dir().join(format!("plimsoll-runtime-{name}"));
        std::os::unix::fs::symlink(dist("plimsoll-runtime"), &link).unwrap();
        // The link's name says more than the configuration.
        sandbox.config("[runtime]\npath = \"/bin/true\"\n");
        let seen = call(&sandbox, &link, &[], &["--version"]);
        let is_here = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(name).exists());
        if is_here {
            assert!(seen.code == 0 && seen.stdout.starts_with(name), "{seen:?}");
        } else {
            refused(&seen, &[], &[&format!("({name})"), "not found"]);
        }
    }
}

/// Ways back to the wrapper, `W`.
const LOOPS: [&str; 4] = [
    "#!/bin/sh\nexec W \"$@\"\n",
    "#!/bin/sh\nW \"$@\"\nexit $?\n",
    "#!/bin/sh\n(W \"$@\"; exit $?)\nexit $?\n",
    "#!/bin/sh\nsetsid -w sh -c 'W \"$@\"; exit $?' sh \"$@\"\nexit $?\n",
];

#[test]
fn a_runtime_that_comes_back_to_the_wrapper_is_found_out() {
    for text in LOOPS {
        let sandbox = Sandbox::new("loop");
        let bundle = sandbox.bundle("c").cgroup("c").annotation(QOS, "BE").waiting();
        bundle.write();
        // A treated container, so that update has something to do.
        assert_eq!(
            wrapper(&sandbox, &[], &["create", "--bundle", bundle.dir.to_str().unwrap(), "c"]).code,
            0
        );
        let text = text.replace('W', dist("plimsoll-runtime").to_str().unwrap());
        let back = script(&sandbox.dir().join("back"), &text);
        sandbox.config(&format!("[runtime]\npath = {back:?}\n"));
        for log in LOGS {
            let dir = bundle.dir.to_str().unwrap();
            for args in [
                &["state", "c"][..],
                &["create", "--bundle", dir, "d"],
                &["update", "--cpu-quota", "50000", "c"],
                &["start", "c"],
            ] {
                refused(&wrapper(&sandbox, log, args), log, &["it called plimsoll-runtime again"]);
            }
        }
        sandbox.config("");
        wrapper(&sandbox, &[], &["delete", "--force", "c"]);
    }
}
