//! No window: whatever starts, however many start at once, the first act of a container's first process finds what was
//! planned for it, and CPUs that have an owner have no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::invariants::{self, library, online, store};
use common::planned::{differences, planned};
use common::{Bundle, Sandbox, cgroup, probed};
use plimsoll::cpuset::CpuSet;
use plimsoll::qos::QosClass;
use plimsoll::record::Phase;

const QOS: &str = "koordinator.sh/qosClass";
const STATUS: &str = "scheduling.koordinator.sh/resource-status";

/// As many as the promise in SPECIFICATION.md says.
const STARTS: usize = 1_000;
/// Starts through the wrapper, which are the same but for who puts the hooks in.
const WRAPPED: usize = 300;
/// How many start at once.
const AT_ONCE: usize = 200;
/// How many of them overlap.
const OVERLAP: usize = 16;

/// How many starts stand for so many here: an emulated machine says by `PLIMSOLL_TEST_STARTS` how many it has time for
/// in place of a thousand.
fn here(starts: usize) -> usize {
    std::env::var("PLIMSOLL_TEST_STARTS")
        .map_or(starts, |text| starts * text.parse::<usize>().unwrap() / 1_000)
}

/// A container of the mix: its class, where it is, and what it asks for.
fn mixed(sandbox: &Sandbox, n: usize) -> Bundle {
    let id = format!("c{n}");
    let (class, sub) = match n % 6 {
        0 => ("LS", format!("kubepods/burstable/pod{n}/{id}")),
        1 => ("BE", format!("kubepods/besteffort/pod{n}/{id}")),
        // The class tree.
        2 => ("BE", format!("plain/{id}")),
        3 => ("LSR", format!("kubepods/pod{n}/{id}")),
        4 => ("LSE", format!("kubepods/pod{n}/{id}")),
        // Two of them share a pod.
        _ => ("LS", format!("kubepods/burstable/pod{}/{id}", n / 12)),
    };
    let quota = 20_000 + 1_000 * i64::try_from(n % 50).unwrap();
    let bundle = sandbox
        .bundle(&id)
        .cgroup(&sub)
        .resource("cpu", "shares", 100 + n)
        .resource("cpu", "period", 100_000)
        .resource("cpu", "quota", if matches!(class, "LSR" | "LSE") { 100_000 } else { quota })
        .annotation(QOS, class);
    let bundle = if sandbox.is_wrapped() { bundle } else { bundle.plimsoll_hooks(sandbox) };
    // Half of the exclusive ones bring the scheduler's choice, the others leave it to the allocator.
    if matches!(n % 12, 3 | 4) {
        let own: CpuSet = online().iter().take(1).collect();
        return bundle.annotation(STATUS, &format!("{{\"cpuset\":\"{own}\"}}"));
    }
    bundle
}

#[test]
fn a_thousand_first_processes_find_what_was_planned() {
    first_processes(STARTS, Sandbox::new);
}

#[test]
fn first_processes_started_by_the_wrapper_find_what_was_planned() {
    first_processes(WRAPPED, Sandbox::wrapped);
}

/// One start after the other, from two sides.
fn first_processes(starts: usize, sandbox: fn(&str) -> Sandbox) {
    let starts = here(starts);
    let next = AtomicUsize::new(0);
    let differ: Vec<String> = thread::scope(|scope| {
        let side = || {
            let sandbox = sandbox("window");
            // Nobody else owns CPUs while one of these starts, so that even the CPUs are those of the plan.
            sandbox.config("[exclusive]\nallocate = true\n");
            let mut differ = Vec::new();
            let mut plans = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= starts {
                    break;
                }
                let bundle = mixed(&sandbox, n);
                // Created, and not yet started: the record is there to be read.
                sandbox.create(&bundle).ok();
                let record = store(&sandbox).load(&bundle.id.parse().unwrap()).unwrap();
                sandbox.start(&bundle).ok();
                let seen = sandbox.probe(&bundle);
                let wrong = match &record {
                    Some(record) => differences(record, &seen),
                    None => vec!["no record".to_owned()],
                };
                plans += record.map_or(0, |record| record.writes.len());
                differ.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", bundle.id)));
                sandbox.delete_force(&bundle).ok();
                fs_remove(&bundle);
            }
            assert!(plans > 0, "nothing was planned");
            invariants::nothing_left(&sandbox);
            invariants::hold(&sandbox);
            differ
        };
        let sides = [scope.spawn(side), scope.spawn(side)];
        sides.into_iter().flat_map(|side| side.join().unwrap()).collect()
    });
    assert!(differ.is_empty(), "{} of {starts} differ: {differ:#?}", differ.len());
}

fn fs_remove(bundle: &Bundle) {
    std::fs::remove_dir_all(&bundle.dir).unwrap();
}

/// The owners of CPUs at one moment, as the kernel has them: `None` where something changed while they were read.
fn clashes(sandbox: &Sandbox) -> Vec<String> {
    let owners: Vec<(String, QosClass, CpuSet, CpuSet)> = store(sandbox)
        .claims()
        .unwrap()
        .into_iter()
        .filter_map(|(id, claim)| {
            let claim = claim.ok()?;
            let has = cgroup::read(&claim.group.path, "cpuset.cpus")?.parse().ok()?;
            Some((id.to_string(), claim.class, claim.cpus, has))
        })
        .collect();
    let mut clashes = Vec::new();
    for (n, (one, _, cpus, _)) in owners.iter().enumerate() {
        for (other, _, others, _) in &owners[n + 1..] {
            if !cpus.is_disjoint(others) {
                clashes.push(format!("{one} owns {cpus} and {other} owns {others}"));
            }
        }
    }
    clashes
}

#[test]
fn two_hundred_at_once_are_all_placed_and_share_no_cpu_they_own() {
    at_once(AT_ONCE, Sandbox::new("at-once"));
}

#[test]
fn a_hundred_at_once_through_the_wrapper_are_all_placed_and_share_no_cpu_they_own() {
    at_once(AT_ONCE / 2, Sandbox::wrapped("wrap-at-once"));
}

/// Starts overlap, and so do their ends: 16 at a time.
fn at_once(starts: usize, sandbox: Sandbox) {
    let starts = here(starts).max(OVERLAP);
    if online().len() < 2 {
        return;
    }
    sandbox.config("[exclusive]\nallocate = true\nlock_timeout_ms = 5000\n");
    let shared = &sandbox;
    let (next, placed, owned, is_over) =
        (&AtomicUsize::new(0), &AtomicUsize::new(0), &AtomicUsize::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let mut seen: Vec<String> = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.extend(clashes(shared));
                thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        let workers: Vec<_> = (0..OVERLAP)
            .map(|_| {
                scope.spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= starts {
                            break;
                        }
                        one_of_many(shared, n, placed, owned);
                    }
                })
            })
            .collect();
        let ends: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        let clashes = watcher.join().unwrap();
        for end in ends {
            end.unwrap();
        }
        assert!(clashes.is_empty(), "{clashes:#?}");
    });
    assert_eq!(placed.load(Ordering::Relaxed), starts);
    assert!(owned.load(Ordering::Relaxed) > 0, "nobody owned a CPU");
    invariants::nothing_left(&sandbox);
    invariants::hold(&sandbox);
    assert_eq!(library(&sandbox).repair().unwrap(), plimsoll::hook::repair::Repaired::default());
}

fn one_of_many(sandbox: &Sandbox, n: usize, placed: &AtomicUsize, owned: &AtomicUsize) {
    let bundle = mixed(sandbox, n).waiting();
    sandbox.run_detached(&bundle).ok();
    let seen = sandbox.probe(&bundle);
    let record = store(sandbox).load(&bundle.id.parse().unwrap()).unwrap();
    let record = record.unwrap_or_else(|| panic!("{} has no record\n{}", bundle.id, sandbox.log()));
    let mut wrong: Vec<String> = planned(&record)
        .into_iter()
        // Who owns CPUs has exactly those, from its first act; the others' change as owners come and go.
        .filter(|(name, _)| name != "cpuset.cpus" || record.treatment.owns_cpus())
        .map(|(name, value)| (probed::file(&seen, &name), name, value))
        .filter(|(found, _, value)| found != value)
        .map(|(found, name, value)| format!("{name} is {found} and was planned as {value}"))
        .collect();
    // Being refused CPUs that another has is no fault.
    wrong.extend(record.errors.iter().filter(|error| !error.contains("CPUs of its own")).cloned());
    assert!(wrong.is_empty(), "{}: {wrong:#?}\n{}", bundle.id, sandbox.log());
    if record.treatment.owns_cpus() {
        owned.fetch_add(1, Ordering::Relaxed);
        let own: CpuSet = seen["affinity"].as_str().unwrap().parse().unwrap();
        let class = record.treatment.class;
        for _ in 0..10 {
            let intruders = intruders(sandbox, &bundle.id, class, &own);
            assert!(intruders.is_empty(), "{intruders:#?}\n{}", sandbox.log());
            thread::sleep(Duration::from_millis(3));
        }
    }
    placed.fetch_add(1, Ordering::Relaxed);
    sandbox.delete_force(&bundle).ok();
}

/// Who has some of these CPUs and must not, a line each. Containers that are just being placed may have them until their
/// hook is through; they do not run yet.
fn intruders(sandbox: &Sandbox, owner: &str, class: QosClass, own: &CpuSet) -> Vec<String> {
    let mut intruders = Vec::new();
    for (id, record) in invariants::records(sandbox) {
        let may_share = class == QosClass::Lsr && record.treatment.class == QosClass::Be;
        let Some(group) = record.groups.cpuset.filter(|_| id != owner && !may_share) else { continue };
        let has = cgroup::read(&group.path, "cpuset.cpus").and_then(|text| text.parse::<CpuSet>().ok());
        if let Some(has) = has.filter(|has| record.phase != Phase::Applying && !has.is_disjoint(own)) {
            intruders.push(format!("{id} ({}) has {has}, and {owner} owns {own}", record.treatment.class));
        }
    }
    intruders
}

#[test]
fn what_was_touched_between_create_and_start_is_put_right_before_the_first_instruction() {
    if !cgroup::is_v1() {
        return;
    }
    let sandbox = Sandbox::wrapped("touched");
    let bundle = sandbox.bundle("c").resource("cpu", "quota", 50_000).annotation(QOS, "LS");
    sandbox.create(&bundle).ok();
    cgroup::write(bundle.group(), "cpu.cfs_burst_us", "0").unwrap();
    sandbox.start(&bundle).ok();
    assert_eq!(sandbox.probe(&bundle)["files"]["cpu.cfs_burst_us"], "50000");
    assert!(sandbox.log().contains("values had changed and were put back"), "{}", sandbox.log());
    sandbox.delete_force(&bundle).ok();
    invariants::nothing_left(&sandbox);
}
