//! Pods whose groups a real systemd makes: what it writes again, and what stands after that.

use super::kit::{Containerd, Pod, QOS, Suite, cpu, systemctl};
use super::pods::STATUS;
use crate::common::invariants::nothing_left;
use crate::read;

/// Whether all values of all containers stand, as Plimsoll itself says.
fn all_stands(engine: &Containerd) -> bool {
    let status = engine.node.run("plimsoll", &["status", "--exit-code"]);
    match status.status.code() {
        Some(0) => true,
        Some(3) => false,
        _ => panic!("{status:#?}"),
    }
}

#[test]
#[ignore = "for systemd: make lab"]
fn what_was_set_stands_whatever_systemd_writes_again_or_is_said_and_put_back() {
    for suite in Suite::all() {
        let engine = &Containerd::start(suite, "reload");
        let ls = Pod::run(engine, "ls", "burstable", &[(QOS, "LS")]).unwrap();
        let be = Pod::run(engine, "be", "besteffort", &[(QOS, "BE")]).unwrap();
        let own = Pod::run(engine, "own", "", &[(QOS, "LSR"), (STATUS, r#"{"cpuset":"1"}"#)]).unwrap();
        let of_ls = ls.start(engine, "main", cpu(512, 50_000)).unwrap();
        be.start(engine, "main", cpu(2, 0)).unwrap();
        let of_own = own.start(engine, "main", cpu(512, 100_000)).unwrap();
        let (group_of_ls, group_of_own) = (ls.group_of(&of_ls), own.group_of(&of_own));
        let scope = group_of_ls.rsplit_once('/').unwrap().1;
        for (acts, quota) in [
            (vec!["daemon-reload"], "50000"),
            (vec!["set-property", "--runtime", be.unit(), "CPUWeight=7"], "50000"),
            (vec!["set-property", "--runtime", own.unit(), "CPUWeight=70"], "50000"),
            (vec!["set-property", "--runtime", scope, "CPUQuota=60%"], "60000"),
            (vec!["daemon-reload"], "60000"),
        ] {
            systemctl(&acts);
            let stood = all_stands(engine);
            println!("{acts:?}: {}", if stood { "all stands" } else { "said, and put back" });
            // What was set through the runtime is systemd's own.
            assert_eq!(read(&group_of_own, "cpuset.cpus"), "1", "{acts:?}");
            assert_eq!(read(&group_of_own, "cpu.cfs_quota_us"), "-1", "{acts:?}");
            engine.node.run("plimsoll", &["repair"]).ok();
            assert!(all_stands(engine), "{acts:?}, repaired");
            assert_eq!(read(be.group(), "cpu.idle"), "1", "{acts:?}");
            assert_eq!(read(&group_of_ls, "cpu.cfs_quota_us"), quota, "{acts:?}");
            assert_eq!(read(&group_of_ls, "cpu.cfs_burst_us"), "50000", "{acts:?}");
        }
        // Its engine's word goes before.
        engine.cri.update_container_resources(&of_ls, &cpu(512, 20_000)).unwrap();
        systemctl(&["daemon-reload"]);
        engine.node.run("plimsoll", &["repair"]).ok();
        assert_eq!(read(&group_of_ls, "cpu.cfs_quota_us"), "20000");
        assert_eq!(read(&group_of_ls, "cpu.cfs_burst_us"), "20000");
        for pod in [&ls, &be, &own] {
            pod.remove(engine);
        }
        nothing_left(&engine.node.sandbox);
    }
}
