//! What the shim wrapper costs a shim's `start`: a shim that only prints an address, the cheapest wrapper there can be
//! before it, a static C program that only becomes it, and `containerd-shim-plimsoll-v2` before it: for a pod's sandbox, for a
//! container of the pod, for one that asks for nothing, and for a shim that is not Kata's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::one::{Sample, Series, children_cpu_ms};
use crate::common::{Helper, Sandbox, cgroup, dist, helpers};
use crate::figures::Dice;
use crate::stop_if_interrupted;

pub(super) const CHEAPEST: &str = "C wrapper";
pub(super) const ALONE: &str = "shim alone";
pub(super) const SANDBOX: &str = "sandbox, LS";

/// A way to start a container's shim.
struct Arm {
    name: &'static str,
    program: PathBuf,
    id: &'static str,
    asks: bool,
}

/// The arms' runs, and how many virtual machines were placed.
pub(super) fn run(rounds: usize, dice: &mut Dice) -> (Vec<Series>, usize) {
    let sandbox = Sandbox::new("bench-shim");
    let pod = sandbox.group("kubepods/burstable/pod1");
    cgroup::make(&pod);
    cgroup::write(&pod, "cpu.cfs_quota_us", "150000").unwrap();
    let bin = sandbox.dir().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let place = |program: &Path, name: &str| {
        helpers::copy_program(program, &bin.join(name));
        bin.join(name)
    };
    let real = place(&Helper::Shim.path(), "shim");
    let wrapper = place(&Helper::Shim.path(), "wrapper");
    place(&dist("plimsoll-hook"), "plimsoll-hook");
    place(&dist("containerd-shim-plimsoll-v2"), "containerd-shim-plimsoll-v2");
    let link = |name: &str| {
        let link = bin.join(format!("containerd-shim-plimsoll-{name}-v2"));
        symlink("containerd-shim-plimsoll-v2", &link).unwrap();
        link
    };
    let (kata, runc) = (link("kata"), link("runc"));
    sandbox.config(&format!("[shim.programs]\nkata = {real:?}\nrunc = {real:?}\n"));
    let arm = |name, program: &Path, id, asks| Arm { name, program: program.to_owned(), id, asks };
    let arms = [
        arm(ALONE, &real, "sb1", true),
        arm(CHEAPEST, &wrapper, "sb1", true),
        arm(SANDBOX, &kata, "sb1", true),
        arm("its container, LS", &kata, "c1", true),
        arm("asks for nothing", &kata, "sb2", false),
        arm("not Kata's", &runc, "sb1", true),
    ];
    let mut series: Vec<Series> = arms.iter().map(|arm| Series::new(arm.name)).collect();
    for round in 0..=rounds {
        stop_if_interrupted();
        for at in dice.order(arms.len()) {
            let sample = measure(&sandbox, &pod, &real, &kata, &arms[at]);
            // The first round warms up.
            if round > 0 {
                series[at].samples.push(sample);
            }
        }
    }
    let placed = sandbox.log().lines().filter(|line| line.contains("virtual machine placed")).count();
    (series, placed)
}

fn measure(sandbox: &Sandbox, pod: &str, real: &Path, kata: &Path, arm: &Arm) -> Sample {
    if arm.id == "c1" {
        // Its sandbox has been started.
        bundle(sandbox, pod, "sb1", true);
        call(sandbox, real, kata, "sb1", "start");
    }
    bundle(sandbox, pod, arm.id, arm.asks);
    let cpu = children_cpu_ms();
    let begin = Instant::now();
    call(sandbox, real, &arm.program, arm.id, "start");
    let wall = begin.elapsed();
    let sample = Sample { wall_ms: wall.as_secs_f64() * 1e3, cpu_ms: children_cpu_ms() - cpu };
    call(sandbox, real, kata, if arm.id == "c1" { "sb1" } else { arm.id }, "delete");
    sample
}

/// A bundle of the size that engines make.
fn bundle(sandbox: &Sandbox, pod: &str, id: &str, asks: bool) {
    let kind = if id == "c1" { "container" } else { "sandbox" };
    let mut spec: Value = sandbox.bundle(id).cgroups_path(&format!("{pod}/{id}")).spec;
    spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.sandbox-id": if kind == "container" { "sb1" } else { id },
        "io.kubernetes.cri.sandbox-namespace": "default",
    });
    if asks {
        spec["annotations"]["koordinator.sh/qosClass"] = "LS".into();
    }
    let dir = sandbox.dir().join("task").join(id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), spec.to_string()).unwrap();
}

fn call(sandbox: &Sandbox, real: &Path, program: &Path, id: &str, action: &str) {
    let done = Command::new(program)
        .args(["-namespace", "k8s.io", "-address", "/a", "-publish-binary", "/b", "-id", id, action])
        .current_dir(sandbox.dir().join("task").join(id))
        .env("PLIMSOLL_CONFIG", sandbox.config_path())
        .env("SHIM", real)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success(), "{} {action} {id}: {done}", program.display());
}
