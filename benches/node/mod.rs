//! A small node: pods in groups as kubelet makes them, an online service (nginx) and offline work (a transcode) in
//! containers, and what the kernel counts of them.

pub(crate) mod counters;
pub(crate) mod service;
mod transcode;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::{Bundle, Sandbox, cgroup};

pub(crate) use service::Service;
pub(crate) use transcode::Transcode;

/// The length of the periods that CPU limits count in, µs.
pub(crate) const PERIOD_US: u64 = 100_000;

/// The node: everything on it goes through the runtime wrapper, and into groups of its own.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) sandbox: Sandbox,
    root: PathBuf,
}

/// Where kubelet would put a pod, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    /// `burstable` or `besteffort`.
    pub(crate) qos: &'static str,
    /// From its CPU request.
    pub(crate) shares: u64,
    /// CPU time it may use in each period, µs.
    pub(crate) limit_us: Option<u64>,
    /// The annotations it comes with.
    pub(crate) annotations: &'static [(&'static str, &'static str)],
}

impl Node {
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::wrapped("bench");
        let root = sandbox.dir().join("root");
        // This machine's programs, in a root of their own.
        for folder in ["dev", "etc", "proc", "tmp", "usr", "work"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for folder in ["bin", "lib", "lib64", "sbin"] {
            symlink(format!("usr/{folder}"), root.join(folder)).unwrap();
        }
        // What kubelet gives its own groups here: all CPUs, the one request of the pods that made one, the least there is.
        for (group, shares) in [("", cpus() * 1024), ("/burstable", 1024), ("/besteffort", 2)] {
            give(&sandbox.group(&format!("kubepods{group}")), shares);
        }
        Self { sandbox, root }
    }

    /// A container of a pod, with a folder of this machine as its `/work`.
    fn container(&self, pod: &Pod, work: &Path, args: &[&str]) -> Bundle {
        let above = format!("kubepods/{}/pod{}", pod.qos, pod.name);
        let group = self.sandbox.group(&above);
        give(&group, pod.shares);
        let mut bundle = self
            .sandbox
            .bundle(pod.name)
            .cgroup(&format!("{above}/{}", pod.name))
            .args(args)
            .without_mount("/host/cgroup")
            .namespace("network")
            .namespace("ipc")
            .resource("cpu", "shares", pod.shares);
        if let Some(limit) = pod.limit_us {
            cgroup::write(&group, "cpu.cfs_period_us", &PERIOD_US.to_string()).unwrap();
            cgroup::write(&group, "cpu.cfs_quota_us", &limit.to_string()).unwrap();
            bundle = bundle.resource("cpu", "quota", limit).resource("cpu", "period", PERIOD_US);
        }
        for (key, value) in pod.annotations {
            bundle = bundle.annotation(key, value);
        }
        bundle.spec["root"]["path"] = self.root.to_str().unwrap().into();
        // Memory that is given back after each request would make page faults the better part of it.
        bundle.spec["process"]["env"] = serde_json::json!([
            "PATH=/usr/sbin:/usr/bin",
            "MALLOC_MMAP_THRESHOLD_=16777216",
            "MALLOC_TRIM_THRESHOLD_=67108864"
        ]);
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        for (from, to, how) in
            [("/usr", "/usr", "ro"), ("/etc", "/etc", "ro"), (work.to_str().unwrap(), "/work", "rw")]
        {
            mounts.push(serde_json::json!(
                {"destination": to, "type": "bind", "source": from, "options": ["rbind", how, "rprivate"]}
            ));
        }
        bundle
    }

    /// Deletes a pod's container, and its group as kubelet does after it.
    fn remove(&self, bundle: &Bundle) {
        self.sandbox.delete_force(bundle).ok();
        for found in cgroup::leftovers(self.sandbox.prefix()) {
            let below = bundle.pod_group().split_once(self.sandbox.prefix()).map_or("", |(_, below)| below);
            cgroup::remove(&found.join(below.trim_start_matches('/')));
        }
    }
}

/// Makes a group that is there, with these shares.
fn give(group: &str, shares: u64) {
    cgroup::make(group);
    give_shares(group, shares);
}

/// Gives a group these shares, or on v2 the weight that kubelet makes of them.
pub(crate) fn give_shares(group: &str, shares: u64) {
    let value = if cgroup::is_v1() { shares } else { 1 + (shares - 2) * 9_999 / 262_142 };
    cgroup::write(group, "cpu.shares", &value.to_string()).unwrap();
}

/// The group of a process that is there.
pub(crate) fn group(pid: i32, controller: &str) -> String {
    cgroup::of_process(pid, controller).unwrap()
}

/// How many CPUs there are.
pub(crate) fn cpus() -> u64 {
    std::thread::available_parallelism().unwrap().get() as u64
}
