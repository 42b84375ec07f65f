//! Containers that people start by hand, with Podman and Docker: outside Kubernetes.

use super::kit::{Cli, Node, QOS, Suite};
use crate::common::invariants::{nothing_left, records, store};
use crate::common::planned::differences;
use crate::common::{dist, probed};
use crate::{best_effort, cpu_group, read};

/// The cpu group of a program that runs in a container.
fn group_of_exec(engine: &Cli, name: &str) -> String {
    let text = engine.call(&["exec", name, "/bin/cat", "/proc/self/cgroup"]).ok().stdout;
    cpu_group(&text)
}

/// What holds under every engine that can be told an annotation: each class is placed and keeps its treatment over a
/// restart, `exec` and `update` land where the container is, and nothing is left.
fn treats_what_is_asked(engine: &Cli) {
    let sandbox = &engine.node.sandbox;
    for class in ["LS", "BE"] {
        let asks = format!("{QOS}={class}");
        engine.start(class, &["--annotation", &asks]).ok();
        let seen = engine.probe(class);
        let record = store(sandbox).load(&engine.id(class).parse().unwrap()).unwrap().unwrap();
        assert_eq!(differences(&record, &seen), Vec::<String>::new(), "{class}");
        let group = probed::group(&seen, "cpu");
        assert_eq!(group_of_exec(engine, class), group);
        if class == "LS" {
            assert_eq!(read(group, "cpu.cfs_burst_us"), "50000");
        } else {
            assert!(group.starts_with(&best_effort(&engine.node)), "{group}");
            assert_eq!(read(&best_effort(&engine.node), "cpu.idle"), "1");
        }
        // Below the burst, which the kernel does not let the engine do by itself.
        engine.call(&["update", "--cpu-quota", "20000", class]).ok();
        assert_eq!(read(group, "cpu.cfs_quota_us"), "20000");
        engine.node.run("plimsoll", &["status", "--exit-code"]).ok();

        engine.call(&["restart", "--time", "0", class]).ok();
        // Docker keeps the new quota, Podman of some versions the old one.
        let again = group_of_exec(engine, class);
        let burst = if class == "LS" { read(&again, "cpu.cfs_quota_us") } else { "0".to_owned() };
        assert_eq!(read(&again, "cpu.cfs_burst_us"), burst);
        engine.remove(class);
        nothing_left(sandbox);
    }
    untouched(engine, &[]);
}

/// A container that asks for nothing starts as ever.
fn untouched(engine: &Cli, options: &[&str]) {
    let log = engine.node.sandbox.log();
    engine.start("plain", options).ok();
    let seen = engine.probe("plain");
    assert_eq!(probed::file(&seen, "cpu.cfs_quota_us"), "50000");
    assert_eq!(probed::file(&seen, "cpu.cfs_burst_us"), "0");
    assert!(records(&engine.node.sandbox).is_empty());
    engine.remove("plain");
    assert_eq!(engine.node.sandbox.log(), log);
}

#[test]
fn podman_with_the_wrapper_over_runc() {
    for suite in Suite::all() {
        treats_what_is_asked(&Cli::podman(Node::new(suite, "podman"), "runc"));
    }
}

#[test]
fn podman_with_the_wrapper_over_crun() {
    for suite in Suite::all() {
        treats_what_is_asked(&Cli::podman(Node::without_hybrid(suite, "podman-crun"), "crun"));
    }
}

/// `hooks.d`, in the one folder that Podman reads unless told of others, and no wrapper: placed and treated before the first instruction. What only a wrapper can do is not asked.
#[test]
fn podman_with_hooks_d_and_plain_runtimes() {
    for suite in Suite::all() {
        for runtime in ["runc", "crun"] {
            let engine = Cli::plain_podman(Node::without_hybrid(suite, "hooks"), runtime);
            engine.node.place(&dist("plimsoll-hook"), "/usr/local/bin/plimsoll-hook");
            for stage in ["createRuntime", "poststart", "poststop"] {
                let name = format!("plimsoll-{stage}.json");
                let ours = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks").join(&name);
                let text = std::fs::read_to_string(ours).unwrap();
                engine.node.write(&format!("/usr/share/containers/oci/hooks.d/{name}"), &text);
            }
            let sandbox = &engine.node.sandbox;
            for class in ["LS", "BE"] {
                engine.start(class, &["--annotation", &format!("{QOS}={class}")]).ok();
                let seen = engine.probe(class);
                let record = store(sandbox).load(&engine.id(class).parse().unwrap()).unwrap().unwrap();
                assert_eq!(differences(&record, &seen), Vec::<String>::new(), "{class} with {runtime}");
                if class == "LS" {
                    assert_eq!(probed::file(&seen, "cpu.cfs_burst_us"), "50000");
                } else {
                    let group = probed::group(&seen, "cpu");
                    assert!(group.starts_with(&best_effort(&engine.node)), "{group}");
                }
                engine.remove(class);
                nothing_left(sandbox);
            }
            untouched(&engine, &[]);
        }
    }
}

#[test]
fn docker_with_the_wrapper_as_its_default() {
    for suite in [Suite::Trixie, Suite::Forky] {
        treats_what_is_asked(&Cli::docker(suite, "docker"));
    }
}

/// Docker before 24 has no annotations, and labels reach no runtime: nothing can be asked, and nothing is done.
#[test]
fn docker_without_annotations_leaves_everything_as_it_was() {
    let engine = Cli::docker(Suite::Bookworm, "docker");
    let label = format!("{QOS}=BE");
    engine.start("asked", &["--annotation", &label]).fails();
    untouched(&engine, &["--label", &label]);
}
