//! In-place resizes through `plimsoll-runtime`: `update` as containerd and kubelet send it always succeeds, in either
//! direction, and the treatment holds after it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::fs;

use common::invariants::{self, online};
use common::{Bundle, Ran, Sandbox, cgroup};
use serde_json::{Value, json};

const QOS: &str = "koordinator.sh/qosClass";
const PERIOD: i64 = 100_000;

/// A pod as kubelet makes it: its group first, then the containers.
struct Pod<'a> {
    sandbox: &'a Sandbox,
    group: String,
    containers: Vec<(Bundle, i64)>,
}

impl<'a> Pod<'a> {
    /// A pod with containers of these quotas.
    fn new(sandbox: &'a Sandbox, name: &str, class: &str, quotas: &[i64]) -> Self {
        let group = sandbox.group(&format!("kubepods/burstable/{name}"));
        let mut pod = Self { sandbox, group, containers: Vec::new() };
        for (n, quota) in quotas.iter().enumerate() {
            let id = format!("{name}-{n}");
            let bundle = sandbox
                .bundle(&id)
                .cgroup(&format!("kubepods/burstable/{name}/{id}"))
                .resource("cpu", "shares", 512)
                .resource("cpu", "period", PERIOD)
                .resource("cpu", "quota", *quota)
                .annotation(QOS, class)
                .waiting();
            sandbox.run_detached(&bundle).ok();
            pod.containers.push((bundle, *quota));
            if n == 0 {
                // The runtime has made the pod's group, which kubelet would have made with these.
                cgroup::write(&pod.group, "cpu.cfs_quota_us", &quotas.iter().sum::<i64>().to_string())
                    .unwrap();
            }
        }
        pod
    }

    fn sum(&self) -> i64 {
        self.containers.iter().map(|(_, quota)| quota).sum()
    }

    /// Resizes as kubelet does: the pod grows before its containers and shrinks after them.
    fn resize(&mut self, quotas: &[i64]) {
        let sum: i64 = quotas.iter().sum();
        if sum > self.sum() {
            self.set_pod(sum);
        }
        for ((bundle, now), quota) in self.containers.iter_mut().zip(quotas) {
            containerd(self.sandbox, bundle, *quota).ok();
            *now = *quota;
        }
        self.set_pod(sum);
    }

    fn set_pod(&self, quota: i64) {
        let written = cgroup::write(&self.group, "cpu.cfs_quota_us", &quota.to_string());
        written.unwrap_or_else(|e| {
            panic!("kubelet's write of the pod's quota {quota}: {e}\n{}", self.sandbox.log())
        });
    }

    /// Quota and burst are as they should be, of each container and of the pod.
    #[track_caller]
    fn holds(&self) {
        for (bundle, quota) in &self.containers {
            assert_eq!(number(bundle.group(), "cpu.cfs_quota_us"), *quota, "{}", bundle.id);
            assert_eq!(
                number(bundle.group(), "cpu.cfs_burst_us"),
                *quota,
                "{}\n{}",
                bundle.id,
                self.sandbox.log()
            );
        }
        assert_eq!(number(&self.group, "cpu.cfs_burst_us"), self.sum(), "the pod's");
        invariants::hold(self.sandbox);
    }

    fn end(self) {
        for (bundle, _) in &self.containers {
            self.sandbox.delete_force(bundle).ok();
        }
        cgroup::write(&self.group, "cpu.cfs_burst_us", "0").unwrap();
    }
}

fn number(group: &str, file: &str) -> i64 {
    cgroup::read(group, file).unwrap().parse().unwrap()
}

/// What containerd sends: all of `linux.resources` of the spec it keeps, with kubelet's new values in it.
fn stored(bundle: &Bundle, quota: i64) -> Value {
    let mut resources = bundle.spec["linux"]["resources"].clone();
    resources["cpu"]["quota"] = quota.into();
    resources["cpu"]["period"] = PERIOD.into();
    for list in ["cpus", "mems"] {
        if resources["cpu"][list].is_null() {
            resources["cpu"][list] = "".into();
        }
    }
    resources["unified"] = Value::Null;
    resources
}

fn containerd(sandbox: &Sandbox, bundle: &Bundle, quota: i64) -> Ran {
    sandbox.update_resources(bundle, &stored(bundle, quota))
}

#[test]
fn a_quota_shrinks_below_the_burst_and_grows_again() {
    let sandbox = Sandbox::wrapped("resize");
    let mut pod = Pod::new(&sandbox, "pod1", "LS", &[50_000, 40_000]);
    pod.holds();
    for quotas in [[30_000, 40_000], [30_000, 10_000], [80_000, 10_000], [20_000, 90_000], [1_000, 1_000]] {
        pod.resize(&quotas);
        pod.holds();
    }
    pod.end();
    invariants::nothing_left(&sandbox);
}

#[test]
fn without_the_wrapper_the_kernel_refuses_it() {
    // What the wrapper is for: should this begin to work, the wrapper has less to do.
    let sandbox = Sandbox::new("refused");
    let bundle = sandbox.bundle("c").resource("cpu", "quota", 50_000).annotation(QOS, "LS").waiting();
    let bundle = bundle.plimsoll_hooks(&sandbox);
    sandbox.run_detached(&bundle).ok();
    assert_eq!(number(bundle.group(), "cpu.cfs_burst_us"), 50_000);
    containerd(&sandbox, &bundle, 30_000).fails();
}

#[test]
fn random_resizes_of_many_pods_in_kubelets_order_all_succeed() {
    let sandbox = Sandbox::wrapped("resizes");
    let mut pods: Vec<Pod<'_>> =
        (0..3).map(|n| Pod::new(&sandbox, &format!("pod{n}"), "LS", &[50_000; 2])).collect();
    // A fixed seed: xorshift, so that a failure is the same tomorrow.
    let mut seed = 0x2026_1122_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        i64::try_from(seed % below).unwrap()
    };
    // An emulated machine has no time for more.
    let rounds = if std::env::var_os("PLIMSOLL_TEST_STARTS").is_some() { 10 } else { 40 };
    for _ in 0..rounds {
        let pod = usize::try_from(random(3)).unwrap();
        let quotas = [1_000 + random(120_000), 1_000 + random(120_000)];
        pods[pod].resize(&quotas);
        pods[pod].holds();
    }
    pods.into_iter().for_each(Pod::end);
    invariants::nothing_left(&sandbox);
}

#[test]
fn flags_and_files_are_understood_as_standard_input_is() {
    let sandbox = Sandbox::wrapped("flags");
    let bundle = sandbox.bundle("c").resource("cpu", "quota", 50_000).annotation(QOS, "LS").waiting();
    sandbox.run_detached(&bundle).ok();
    let burst = || number(bundle.group(), "cpu.cfs_burst_us");
    sandbox.update(&bundle, &["--cpu-quota", "30000"]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (30_000, 30_000));
    sandbox.update(&bundle, &["--cpu-quota=70000", "--cpu-share", "300"]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (70_000, 70_000));
    assert!(cgroup::is_shares(&cgroup::read(bundle.group(), "cpu.shares").unwrap(), 300));
    let file = sandbox.dir().join("resources.json");
    fs::write(&file, stored(&bundle, 20_000).to_string()).unwrap();
    sandbox.update(&bundle, &["--resources", file.to_str().unwrap()]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (20_000, 20_000));
    fs::write(&file, stored(&bundle, 40_000).to_string()).unwrap();
    sandbox.update(&bundle, &["-r", file.to_str().unwrap()]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (40_000, 40_000));
    // Memory alone: nothing of the CPU's changes.
    sandbox.update(&bundle, &["--memory", "268435456"]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (40_000, 40_000));
    assert_eq!(number(bundle.group(), "memory.limit_in_bytes"), 268_435_456);
    // No limit: nothing to burst over.
    sandbox.update(&bundle, &["--cpu-quota", "-1"]).ok();
    assert_eq!((number(bundle.group(), "cpu.cfs_quota_us"), burst()), (-1, 0));
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn cpus_of_ones_own_stay_and_stay_unthrottled() {
    if online().len() < 2 {
        return;
    }
    let sandbox = Sandbox::wrapped("own");
    let own = online().iter().next().unwrap().to_string();
    let bundle = sandbox
        .bundle("c")
        .cgroup("kubepods/podc/c")
        .resource("cpu", "quota", 100_000)
        .resource("cpu", "shares", 1024)
        .annotation(QOS, "LSR")
        .annotation("scheduling.koordinator.sh/resource-status", &json!({"cpuset": own}).to_string())
        .waiting();
    let shares = sandbox.bundle("ls").annotation(QOS, "LS").waiting();
    sandbox.run_detached(&shares).ok();
    let all = cgroup::read(shares.group(), "cpuset.cpus").unwrap();
    sandbox.run_detached(&bundle).ok();
    let holds = || {
        assert_eq!(cgroup::read(bundle.group(), "cpuset.cpus").unwrap(), own);
        assert_eq!(number(bundle.group(), "cpu.cfs_quota_us"), -1);
        assert_ne!(cgroup::read(shares.group(), "cpuset.cpus").unwrap(), all);
        invariants::hold(&sandbox);
    };
    holds();
    for resources in [stored(&bundle, 100_000), stored(&bundle, 50_000), json!({"cpu": {"cpus": all}})] {
        sandbox.update_resources(&bundle, &resources).ok();
        holds();
    }
    sandbox.update(&bundle, &["--cpuset-cpus", &all]).ok();
    holds();
    // Whoever shares may be given other CPUs, and keeps off those that are owned.
    sandbox.update_resources(&shares, &json!({"cpu": {"cpus": all}})).ok();
    holds();
    sandbox.delete_force(&bundle).ok();
    assert_eq!(cgroup::read(shares.group(), "cpuset.cpus").unwrap(), all);
    sandbox.update(&shares, &["--cpuset-cpus", &own]).ok();
    assert_eq!(cgroup::read(shares.group(), "cpuset.cpus").unwrap(), own);
    // That is what it may have from now on.
    assert!(invariants::repaired(&sandbox).done.is_empty());
    assert_eq!(cgroup::read(shares.group(), "cpuset.cpus").unwrap(), own);
    sandbox.delete_force(&shares).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn batch_limits_stay_whatever_the_engine_has_stored() {
    let sandbox = Sandbox::wrapped("batch");
    let amounts = json!({"kubernetes.io/batch-cpu": "500", "kubernetes.io/batch-memory": "64Mi"});
    let spec = json!({"containers": {"main": {"limits": amounts, "requests": amounts}}});
    let bundle = sandbox
        .bundle("c")
        .cgroup("kubepods/besteffort/podc/c")
        .resource("cpu", "shares", 2)
        .annotation(QOS, "BE")
        .annotation("io.kubernetes.cri.container-type", "container")
        .annotation("io.kubernetes.cri.container-name", "main")
        .annotation("node.koordinator.sh/extended-resource-spec", &spec.to_string())
        .waiting();
    sandbox.run_detached(&bundle).ok();
    let holds = || {
        assert_eq!(number(bundle.group(), "cpu.cfs_quota_us"), 50_000, "{}", sandbox.log());
        assert!(cgroup::is_shares(&cgroup::read(bundle.group(), "cpu.shares").unwrap(), 512));
        assert_eq!(number(bundle.group(), "memory.limit_in_bytes"), 64 << 20);
        invariants::hold(&sandbox);
    };
    holds();
    let kubelets = json!({"cpu": {"shares": 2, "period": PERIOD, "cpus": "", "mems": ""}, "memory": {}});
    for resources in [kubelets.clone(), json!({"cpu": {"shares": 2, "quota": -1, "period": PERIOD}})] {
        sandbox.update_resources(&bundle, &resources).ok();
        holds();
    }
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn the_weight_of_an_idle_container_can_be_written_and_it_stays_idle() {
    let sandbox = Sandbox::wrapped("idle");
    sandbox.config("placement = \"keep\"\n");
    // In no pod, so that the container's own group is the idle one.
    let bundle =
        sandbox.bundle("c").cgroup("plain/c").resource("cpu", "shares", 512).annotation(QOS, "BE").waiting();
    sandbox.run_detached(&bundle).ok();
    assert_eq!(number(bundle.group(), "cpu.idle"), 1);
    sandbox.update(&bundle, &["--cpu-share", "300"]).ok();
    assert_eq!(number(bundle.group(), "cpu.idle"), 1);
    sandbox.update_resources(&bundle, &stored(&bundle, 50_000)).ok();
    assert_eq!((number(bundle.group(), "cpu.idle"), number(bundle.group(), "cpu.cfs_quota_us")), (1, 50_000));
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn an_update_reaches_a_container_that_a_hook_has_moved() {
    // On v2 a hook moves nobody.
    if !cgroup::is_v1() {
        return;
    }
    let sandbox = Sandbox::new("moved");
    let bundle = sandbox
        .bundle("c")
        .cgroup("plain/c")
        .resource("cpu", "quota", 50_000)
        .annotation(QOS, "BE")
        .waiting();
    let bundle = bundle.plimsoll_hooks(&sandbox);
    sandbox.run_detached(&bundle).ok();
    let moved = format!("{}/best-effort/c", sandbox.class_tree());
    assert_eq!(number(&moved, "cpu.cfs_quota_us"), 50_000);
    // Installed after the container was started.
    let sandbox = sandbox.with_runtime(common::dist("plimsoll-runtime"));
    sandbox.update(&bundle, &["--cpu-quota", "20000", "--cpu-share", "300"]).ok();
    assert_eq!((number(&moved, "cpu.cfs_quota_us"), number(&moved, "cpu.shares")), (20_000, 300));
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}

#[test]
fn an_update_that_the_runtime_refuses_changes_nothing() {
    let sandbox = Sandbox::wrapped("fails");
    let bundle = sandbox.bundle("c").resource("cpu", "quota", 50_000).annotation(QOS, "LS").waiting();
    sandbox.run_detached(&bundle).ok();
    let plain = Sandbox::new("fails-alone");
    let alone = plain.bundle("c").resource("cpu", "quota", 50_000).waiting();
    plain.run_detached(&alone).ok();
    let limits = ["cpu.cfs_quota_us", "cpu.cfs_burst_us"];
    let is_limit = |file: &str| limits.iter().any(|name| file.ends_with(cgroup::here(name)));
    let mut before = invariants::frozen(bundle.group());
    for resources in [json!({"cpu": {"quota": 20_000, "cpus": "4095"}}), json!({"cpu": {"quota": 1}})] {
        plain.update_resources(&alone, &resources).fails();
        sandbox.update_resources(&bundle, &resources).fails();
        // On v2 runtimes have set the quota by the time the CPUs are refused, and leave it so. The burst goes with it.
        let quota = number(alone.group(), "cpu.cfs_quota_us");
        assert_eq!(limits.map(|name| number(bundle.group(), name)), [quota; 2], "{resources}");
        let now = invariants::frozen(bundle.group());
        let changed: Vec<_> =
            now.iter().filter(|(file, text)| !is_limit(file) && before.get(*file) != Some(*text)).collect();
        assert!(changed.is_empty(), "{resources}: {changed:#?}");
        before = now;
    }
    for text in ["{", "[]", "7"] {
        let ran = sandbox.update_text(&bundle, text);
        assert!(!ran.status.success() || text != "{", "{ran:?}");
        assert_eq!(invariants::frozen(bundle.group()), before, "{text}");
    }
    invariants::hold(&sandbox);
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}
