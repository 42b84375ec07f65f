//! The interfaces of vendor kernels on real cgroup file systems: the module of `lab/vendor` gives them to the guest's
//! kernel. This proves the interface, not the scheduling.

use std::fs;

use super::common::invariants::{self, records};
use super::common::{Bundle, Sandbox, cgroup, probed};

const QOS: &str = "koordinator.sh/qosClass";
const CLASSES: [&str; 5] = ["LSE", "LSR", "LS", "BE", "SYSTEM"];
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;

fn bundle(sandbox: &Sandbox, id: &str, class: &str) -> Bundle {
    let slice = if class == "BE" { "besteffort" } else { "burstable" };
    sandbox
        .bundle(id)
        .cgroup(&format!("kubepods/{slice}/pod{id}/{id}"))
        .resource("cpu", "quota", 50_000)
        .resource("cpu", "period", 100_000)
        .annotation(QOS, class)
        .waiting()
        .plimsoll_hooks(sandbox)
}

fn read(group: &str, name: &str) -> String {
    cgroup::read(group, name).unwrap_or_else(|| panic!("{name} of {group}"))
}

/// What the kernel says to a write: 0, or an errno.
fn answer(group: &str, name: &str, value: &str) -> i32 {
    cgroup::write(group, name, value).map_or_else(|e| e.raw_os_error().unwrap(), |()| 0)
}

/// The rung a container's record names, and that nothing went wrong on it.
#[track_caller]
fn rung(sandbox: &Sandbox, id: &str) -> String {
    let (_, record) = records(sandbox).into_iter().find(|(name, _)| name == id).unwrap();
    assert_eq!(record.errors, Vec::<String>::new(), "{id}");
    serde_json::to_value(record.rung).unwrap().as_str().unwrap().to_owned()
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn any_class_starts_and_leaves_nothing() {
    let sandbox = Sandbox::new("any");
    for class in CLASSES {
        let one = bundle(&sandbox, &class.to_lowercase(), class);
        sandbox.run_detached(&one).ok();
        sandbox.probe(&one);
        sandbox.delete_force(&one).ok();
        assert!(!sandbox.log().contains("\"level\":\"error\""), "{class}: {}", sandbox.log());
    }
    // The groups of Kubernetes' own classes keep what koordlet would give them, until somebody tidies up.
    invariants::repaired(&sandbox);
    invariants::hold(&sandbox);
    invariants::nothing_left(&sandbox);
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn group_identity_1_is_what_first_processes_find_on_their_pod_and_themselves() {
    let sandbox = Sandbox::new("bvt");
    for (class, bvt, flags) in
        [("LSE", "2", "22"), ("LSR", "2", "22"), ("LS", "2", "22"), ("BE", "-1", "9"), ("SYSTEM", "0", "0")]
    {
        let one = bundle(&sandbox, &class.to_lowercase(), class);
        sandbox.run_detached(&one).ok();
        assert_eq!(probed::file(&sandbox.probe(&one), "cpu.bvt_warp_ns"), bvt, "{class}");
        for group in [one.group(), one.pod_group()] {
            assert_eq!(
                (read(group, "cpu.bvt_warp_ns"), read(group, "cpu.identity")),
                (bvt.into(), flags.into())
            );
        }
        assert_eq!(rung(&sandbox, &one.id), "group-identity", "{class}");
    }
    let kubepods = sandbox.group("kubepods");
    let groups =
        ["", "/burstable", "/besteffort"].map(|sub| read(&format!("{kubepods}{sub}"), "cpu.bvt_warp_ns"));
    assert_eq!(groups, ["0", "2", "-1"], "as koordlet has them");
    if let Ok(switch) = fs::read_to_string("/proc/sys/kernel/sched_group_identity_enabled") {
        assert_eq!(switch.trim(), "1", "it was turned on");
    }
    // A runtime's update knows nothing of it.
    let ls = bundle(&sandbox, "ls", "LS");
    sandbox.update(&ls, &["--cpu-quota", "60000"]).ok();
    assert_eq!(read(ls.group(), "cpu.bvt_warp_ns"), "2");
    invariants::hold(&sandbox);
}

/// The module itself, so that what is proved above is worth something.
#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn group_identity_1_of_the_module_has_the_vendors_ranges_and_inheritance() {
    let sandbox = Sandbox::new("bvt-rules");
    // The first container turns the switch on.
    sandbox.run_detached(&bundle(&sandbox, "on", "LS")).ok();
    let (top, child) = (sandbox.group("rules"), sandbox.group("rules/child"));
    cgroup::make(&top);
    for (value, says) in [("3", ERANGE), ("-3", ERANGE), ("abc", EINVAL), ("1.5", EINVAL), ("2", 0)] {
        assert_eq!(answer(&top, "cpu.bvt_warp_ns", value), says, "{value}");
    }
    cgroup::make(&child);
    assert_eq!(read(&child, "cpu.bvt_warp_ns"), "2", "a group is made with its parent's");
    assert_eq!(answer(&top, "cpu.bvt_warp_ns", "-1"), 0);
    assert_eq!((read(&top, "cpu.identity"), read(&child, "cpu.bvt_warp_ns")), ("9".into(), "2".into()));
    for (value, says) in [("256", ERANGE), ("-1", ERANGE), ("3", EINVAL), ("4", 0)] {
        assert_eq!(answer(&top, "cpu.identity", value), says, "{value}");
    }
    assert_eq!((read(&top, "cpu.identity"), read(&top, "cpu.bvt_warp_ns")), ("4".into(), "-1".into()));
    assert_eq!(answer(&top, "cpu.bvt_warp_ns", "-1"), 0);
    assert_eq!(read(&top, "cpu.identity"), "4", "what it says already is not written");
    if cgroup::is_v1() {
        assert_eq!(answer("/", "cpu.bvt_warp_ns", "2"), EINVAL);
    }
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn group_identity_2_is_on_pod_and_container_and_best_effort_is_idle() {
    let sandbox = Sandbox::new("priority");
    for (class, priority, idle) in
        [("LSE", "1", "0"), ("LSR", "1", "0"), ("LS", "1", "0"), ("BE", "-1", "1"), ("SYSTEM", "0", "0")]
    {
        let one = bundle(&sandbox, &class.to_lowercase(), class);
        let pod = one.pod_group().to_owned();
        sandbox.run_detached(&one).ok();
        let found = (read(&pod, "cpu.priority"), read(&pod, "cpu.identity"), read(&pod, "cpu.idle"));
        assert_eq!(found, (priority.into(), priority.into(), idle.into()), "{class}");
        assert_eq!(read(one.group(), "cpu.identity"), priority, "{class}");
        assert_eq!(rung(&sandbox, &one.id), "group-identity-2", "{class}");
        // Its weight can still be written by its runtime.
        sandbox.update(&one, &["--cpu-share", "300"]).ok();
        sandbox.delete_force(&one).ok();
        assert_eq!((read(&pod, "cpu.priority"), read(&pod, "cpu.idle")), ("0".into(), "0".into()), "{class}");
    }
    invariants::nothing_left(&sandbox);
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn group_identity_2_of_the_module_has_the_vendors_ranges_and_drives_idle() {
    let sandbox = Sandbox::new("priority-rules");
    let top = sandbox.group("rules");
    cgroup::make(&top);
    for name in ["cpu.priority", "cpu.identity"] {
        for (value, says) in [("2", EINVAL), ("-2", EINVAL), ("x", EINVAL), ("-1", 0)] {
            assert_eq!(answer(&top, name, value), says, "{name} {value}");
        }
    }
    assert_eq!(read(&top, "cpu.idle"), "1");
    assert_eq!((answer(&top, "cpu.idle", "0"), answer(&top, "cpu.shares", "200")), (EINVAL, EINVAL));
    assert_eq!(answer(&top, "cpu.priority", "1"), 0);
    assert_eq!((read(&top, "cpu.idle"), answer(&top, "cpu.idle", "1")), ("0".into(), EINVAL));
    cgroup::make(&sandbox.group("rules/child"));
    assert_eq!(read(&sandbox.group("rules/child"), "cpu.priority"), "1");
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn openeuler_takes_best_effort_offline_for_good() {
    let sandbox = Sandbox::new("qos");
    for (class, level) in [("LSE", "0"), ("LSR", "0"), ("LS", "0"), ("BE", "-1"), ("SYSTEM", "0")] {
        let one = bundle(&sandbox, &class.to_lowercase(), class);
        sandbox.run_detached(&one).ok();
        assert_eq!(probed::file(&sandbox.probe(&one), "cpu.qos_level"), level, "{class}");
        assert_eq!(read(one.pod_group(), "cpu.qos_level"), level, "{class}");
        assert_eq!(rung(&sandbox, &one.id), "qos-level", "{class}");
        sandbox.delete_force(&one).ok();
    }
    // The pod was taken offline, and this kernel takes nobody back: an online container in it is said to be so.
    let late = bundle(&sandbox, "late", "LS").cgroup("kubepods/besteffort/podbe/late");
    sandbox.run_detached(&late).ok();
    assert_eq!(read(late.group(), "cpu.qos_level"), "-1");
    assert!(sandbox.log().contains("never takes an offline group back"), "{}", sandbox.log());
}

#[test]
#[ignore = "for the interfaces of vendor kernels: make lab"]
fn openeuler_of_the_module_goes_one_way_and_takes_all_below_along() {
    let sandbox = Sandbox::new("qos-rules");
    let (top, child) = (sandbox.group("rules"), sandbox.group("rules/child"));
    cgroup::make(&child);
    for (value, says) in [("1", EINVAL), ("-2", EINVAL), ("0", 0), ("-1", 0), ("-1", 0), ("0", EINVAL)] {
        assert_eq!(answer(&top, "cpu.qos_level", value), says, "{value}");
    }
    assert_eq!(read(&child, "cpu.qos_level"), "-1");
    cgroup::make(&sandbox.group("rules/later"));
    assert_eq!(read(&sandbox.group("rules/later"), "cpu.qos_level"), "-1");
    assert_eq!(answer("/", "cpu.qos_level", "-1"), EINVAL);
}
