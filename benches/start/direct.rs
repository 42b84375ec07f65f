//! One `createRuntime` by itself, with a container's state on stdin, for a difference that runc's own noise does not hide.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::one::{Sample, Series, reap};
use super::{NOOP, container};
use crate::common::{Bundle, Helper, Sandbox, cgroup, dist};
use crate::figures::Dice;
use crate::stop_if_interrupted;

/// Each arm has a living container that runc has placed and no hook has seen. `many`: nodes with so many containers. Also
/// the most memory that a hook took, KiB.
pub(super) fn run(
    few: &Sandbox,
    many: &[(usize, Sandbox)],
    rounds: usize,
    dice: &mut Dice,
) -> (Vec<Series>, f64) {
    let hook = dist("plimsoll-hook");
    let noop = Helper::Noop.path();
    let mut arms: Vec<(String, &Sandbox, &Path, Option<&str>)> = vec![
        (NOOP.to_owned(), few, &noop, Some("LS")),
        ("asks for nothing".to_owned(), few, &hook, None),
        ("BE".to_owned(), few, &hook, Some("BE")),
        ("LS".to_owned(), few, &hook, Some("LS")),
    ];
    arms.extend(many.iter().map(|(n, node)| (format!("LS, {n} containers"), node, &*hook, Some("LS"))));
    let alive: Vec<(Bundle, i32)> = arms
        .iter()
        .enumerate()
        .map(|(n, (_, sandbox, _, class))| {
            let bundle = container(sandbox, &format!("direct-{n}"), *class).args(&["/prober", "wait"]);
            // By runc alone, whatever the other starts go through.
            bundle.write();
            let mut command = sandbox.command_of(&crate::common::real_runc());
            let log = fs::File::create(bundle.dir.join("stdout")).unwrap();
            command.args(["run", "--detach", "--bundle"]).arg(&bundle.dir).arg(&bundle.id);
            assert!(command.stdin(std::process::Stdio::null()).stdout(log).status().unwrap().success());
            let pid = sandbox.pid(&bundle);
            let state = json!({
                "ociVersion": "1.0.2", "id": bundle.id, "status": "creating", "pid": pid,
                "bundle": bundle.dir, "annotations": bundle.spec["annotations"],
            });
            fs::write(bundle.dir.join("state.json"), state.to_string()).unwrap();
            (bundle, pid)
        })
        .collect();

    let mut series: Vec<Series> = arms.iter().map(|(name, ..)| Series::new(name)).collect();
    let mut memory_kib: f64 = 0.0;
    for _ in 0..rounds {
        stop_if_interrupted();
        for arm in dice.order(arms.len()) {
            let (_, sandbox, program, _) = arms[arm];
            let (bundle, pid) = &alive[arm];
            forget(sandbox, bundle, *pid);
            let (sample, kib) = spawn(sandbox, bundle, program);
            series[arm].samples.push(sample);
            memory_kib = memory_kib.max(if program == hook { kib } else { 0.0 });
        }
    }
    for (arm, (bundle, _)) in arms.iter().zip(&alive) {
        arm.1.delete_force(bundle).ok();
    }
    reap();
    (series, memory_kib)
}

fn spawn(sandbox: &Sandbox, bundle: &Bundle, program: &Path) -> (Sample, f64) {
    let (state, config) = (bundle.dir.join("state.json"), sandbox.config_path());
    let args = [&*state, program, "createRuntime".as_ref(), "--config".as_ref(), &*config];
    let args = args.map(|a| a.to_str().unwrap());
    let ran = sandbox.command(Helper::Spawn.path(), &args).ok();
    let figures: Vec<f64> = ran.stdout.split_whitespace().map(|f| f.parse().unwrap()).collect();
    let [wall_us, cpu_us, rss_kib, status] = figures[..] else { panic!("{ran:?}") };
    assert!(status == 0.0, "{} ended with {status}: {ran:?}", program.display());
    (Sample { wall_ms: wall_us / 1e3, cpu_ms: cpu_us / 1e3 }, rss_kib)
}

/// Takes back what a hook wrote, as far as one can from here, so that the next one has its whole work to do.
/// A move to another group stays.
fn forget(sandbox: &Sandbox, bundle: &Bundle, pid: i32) {
    for record in records_of(sandbox, &bundle.id) {
        fs::remove_file(record).unwrap();
    }
    let group = cgroup::of_process(pid, "cpu").unwrap();
    for file in ["cpu.cfs_burst_us", "cpu.max.burst", "cpu.idle"] {
        if cgroup::read(&group, file).is_some_and(|v| v != "0") {
            cgroup::write(&group, file, "0").unwrap();
        }
    }
}

/// Makes a node with so many containers: real records of one container, copied under other ids.
pub(super) fn fill(sandbox: &Sandbox, count: usize) {
    let id = "template-of-records";
    let bundle = container(sandbox, id, Some("LS"));
    sandbox.create(&bundle).ok();
    for path in records_of(sandbox, id) {
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        for n in 0..count {
            let other = format!("bench-record-{n:06}");
            fs::write(folder.join(name.replace(id, &other)), text.replace(id, &other)).unwrap();
        }
    }
    sandbox.delete_force(id).ok();
}

fn records_of(sandbox: &Sandbox, id: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(sandbox.run_dir().join("containers"));
    entries
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file() && p.file_name().is_some_and(|n| n.to_string_lossy().contains(id)))
        .collect()
}

/// How many containers the node has of those that it was filled with.
pub(super) fn filled(sandbox: &Sandbox) -> usize {
    records_of(sandbox, "bench-record-").len()
}
