//! A virtual machine as it is now: its processes, their threads by kind and group, and what covers each.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value as Json;

use super::paint::{Cell, Paint, Table, Tone};
use crate::container::vm::is_below;
use crate::container::vmm::{Kind, Vmm};
use crate::container::{State as OciState, Vm, bundle};
use crate::hook::Hook;
use crate::kernel::fs::{self, Roots};
use crate::kernel::group::{Group, Groups};
use crate::record::Record;

/// Threads of one process that are alike, in one group.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Threads {
    /// The process.
    pid: i32,
    /// Its program.
    program: String,
    /// What they are.
    kind: &'static str,
    /// How many.
    count: usize,
    /// Their group of the cpu hierarchy.
    group: String,
    /// What of the class reaches them.
    covered: Cover,
}

/// What of a class reaches a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Cover {
    /// Everything.
    Whole,
    /// Its identity, and no limit or weight of the pod.
    Identity,
    /// Nothing.
    Nothing,
}

/// A container of the pod that asks for another class than it has.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Other {
    container: String,
    asks: Option<String>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    vmm: Option<i32>,
    threads: Vec<Threads>,
    others: Vec<Other>,
}

impl Machine {
    /// Looks at a record's machine; none for an ordinary container.
    pub(super) fn look(hook: &Hook, record: &Record) -> Option<Self> {
        let roots = &hook.roots;
        let vm = record.vm.as_ref()?;
        // Kata makes it after the record was written, and where nothing is to be written there, the record does not know it.
        let mut now = vm.clone();
        if let Ok(top) = Groups::top(roots) {
            now.find_overhead(&top, &record.who.id);
        }
        let named = vcpus_of_kernel(roots);
        let mut threads: Vec<Threads> = Vec::new();
        let mut vmm = None;
        for process in processes(roots, record, &now) {
            let program = comm(roots, process).unwrap_or_default();
            let tasks = numbers(&roots.path(&format!("/proc/{process}/task")));
            let group_of = |task: i32| Groups::of_process(roots, task).ok().map(|groups| groups.cpu);
            let leader = group_of(process);
            let kind = Kind::of_comm(&program);
            let is_vmm = kind.is_some_and(|kind| kind != Kind::Shim)
                || tasks.iter().any(|task| comm(roots, *task).as_deref() == Some("vmm_master"));
            if is_vmm {
                vmm = Some(process);
            }
            for task in tasks {
                let Some(group) = group_of(task) else { continue };
                let name = comm(roots, task).unwrap_or_default();
                // Kata splits the threads of one process over two groups to have the vCPUs in the machine's own.
                let is_split = is_vmm && group == record.groups.cpu && leader.as_ref() != Some(&group);
                let kind = match kind {
                    _ if is_vcpu(&name) || named.contains(&task) || is_split => "vCPU",
                    _ if name == "vmm_master" => "VMM",
                    Some(Kind::Shim) => "shim",
                    Some(Kind::Qemu)
                        if named.is_empty() && leader.as_ref() == Some(&group) && task != process =>
                    {
                        "VMM, vCPU or I/O"
                    }
                    Some(_) if task == process => "VMM",
                    Some(_) => "I/O",
                    None => "helper",
                };
                let covered = cover(record, vm, &group);
                let same = |t: &&mut Threads| t.pid == process && t.kind == kind && t.group == group.path;
                match threads.iter_mut().find(same) {
                    Some(threads) => threads.count += 1,
                    None => threads.push(Threads {
                        pid: process,
                        program: program.clone(),
                        kind,
                        count: 1,
                        group: group.path,
                        covered,
                    }),
                }
            }
        }
        Some(Self { vmm, threads, others: others(hook, record) })
    }

    /// For people.
    pub(super) fn text(&self, paint: Paint, indent: usize, record: &Record) -> String {
        let mut text = String::new();
        let vmm = match self.vmm {
            Some(pid) => format!("pid {pid}; one virtual machine for all containers of the pod"),
            None => "no VMM was found in its groups or by Kata's state".to_owned(),
        };
        text.push_str(&paint.wrap("  machine", indent, &vmm, Tone::Plain));
        if !self.threads.is_empty() {
            let mut table = Table::new(2, &["PID", "PROGRAM", "THREADS", "KIND", "COVERED", "GROUP"]);
            for threads in &self.threads {
                let (tone, covered) = match threads.covered {
                    Cover::Whole => (Tone::Good, "by the class"),
                    Cover::Identity => (Tone::Warn, "identity only"),
                    Cover::Nothing => (Tone::Bad, "by nothing"),
                };
                table.row(vec![
                    threads.pid.to_string().into(),
                    threads.program.as_str().into(),
                    threads.count.to_string().into(),
                    threads.kind.into(),
                    Cell::new(covered, tone),
                    threads.group.as_str().into(),
                ]);
            }
            text.push_str(&format!("\n{}\n", table.text(paint)));
        }
        if self.threads.iter().any(|threads| threads.covered != Cover::Whole) {
            let todo = "set sandbox_cgroup_only = true in Kata's configuration (and take io.katacontainers.config.runtime.* \
                        out of what pods may set): then all of it runs in the pod";
            text.push_str(&paint.wrap("  to do", indent, todo, Tone::Warn));
        }
        for other in &self.others {
            let asks = other.asks.as_deref().unwrap_or("nothing");
            let line = format!(
                "{} asks for {asks}; it has {}, as its sandbox: a machine has one class",
                other.container, record.treatment.class
            );
            text.push_str(&paint.wrap("  differs", indent, &line, Tone::Warn));
        }
        text
    }
}

/// What the placement of a machine means.
pub(super) fn consequences(record: &Record) -> Vec<String> {
    let mut lines = vec![
        "every process of the pod's containers runs in the machine, so `exec` and later containers have the class as well".to_owned(),
        "the limits of single containers are the guest's; on this node there is the pod's".to_owned(),
    ];
    if record.vm.as_ref().is_some_and(|vm| vm.engine_path.is_some()) {
        lines.push(
            "kubelet's and cAdvisor's figures of the pod do not count this machine, neither CPU nor memory"
                .to_owned(),
        );
    }
    lines
}

fn cover(record: &Record, vm: &Vm, group: &Group) -> Cover {
    let own = &record.groups.cpu;
    // In the class tree, or in the engine's pod.
    let pod = own.parent().filter(|pod| !pod.is_root() && record.who.pod_uid.is_some());
    let is_in = |above: &Group| group == above || is_below(group, above);
    if pod.as_ref().is_some_and(is_in) || (record.who.pod_uid.is_none() && is_in(own)) {
        return Cover::Whole;
    }
    let overhead = vm.overhead.as_ref().map(|overhead| &overhead.cpu);
    if is_in(own) || overhead.is_some_and(is_in) { Cover::Identity } else { Cover::Nothing }
}

/// The processes of a machine: those in its groups, and those that Kata says are its own.
fn processes(roots: &Roots, record: &Record, vm: &Vm) -> Vec<i32> {
    let groups = [Some(&record.groups.cpu), vm.overhead.as_ref().map(|overhead| &overhead.cpu)];
    let mut found: Vec<i32> = Vec::new();
    for group in groups.into_iter().flatten() {
        // A group of cgroup v1 may hold threads of a process that is elsewhere.
        for file in ["cgroup.procs", "tasks"] {
            let text = fs::read(&group.dir().join(file)).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    let id = &record.who.id;
    let json = |path: String| -> Option<Json> {
        serde_json::from_slice(&std::fs::read(roots.path(&path)).ok()?).ok()
    };
    let go = json(format!("/run/vc/sbs/{id}/persist.json"));
    let rust = json(format!("/run/kata/{id}/state.json"));
    let pointers = ["/HypervisorState/Pid", "/HypervisorState/VirtiofsDaemonPid", "/hypervisor/pid"];
    let told = [go, rust].into_iter().flatten();
    found.extend(
        told.flat_map(|state| pointers.map(|at| state.pointer(at).and_then(Json::as_i64)))
            .flatten()
            .filter_map(|pid| i32::try_from(pid).ok()),
    );
    found.push(record.pid);
    let mut leaders: Vec<i32> =
        found.into_iter().filter(|pid| *pid > 1).filter_map(|pid| leader(roots, pid)).collect();
    leaders.sort_unstable();
    leaders.dedup();
    leaders
}

fn leader(roots: &Roots, pid: i32) -> Option<i32> {
    if let Some(vmm) = Vmm::of(roots, pid) {
        return Some(vmm.pid);
    }
    let status = fs::read(&roots.path(&format!("/proc/{pid}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn comm(roots: &Roots, pid: i32) -> Option<String> {
    fs::read(&roots.path(&format!("/proc/{pid}/comm"))).ok()
}

/// The names that VMMs give the threads of vCPUs.
fn is_vcpu(name: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.strip_prefix("CPU ").is_some_and(|rest| numbered(rest) && rest.contains('/'))
        || ["vcpu", "fc_vcpu ", "db_vcpu"].iter().any(|head| name.strip_prefix(head).is_some_and(numbered))
}

/// The threads that KVM says are vCPUs (`/sys/kernel/debug/kvm/<pid>-<fd>/vcpu<n>/pid`), where that can be read.
fn vcpus_of_kernel(roots: &Roots) -> Vec<i32> {
    let folders = |path: &Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let machines = folders(&roots.path("/sys/kernel/debug/kvm"));
    let vcpus = machines.iter().flat_map(|machine| folders(machine));
    vcpus.filter_map(|vcpu| fs::read(&vcpu.join("pid")).ok()?.trim().parse().ok()).collect()
}

fn numbers(folder: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// The pod's containers that ask for another class: their bundles stand beside the sandbox's.
fn others(hook: &Hook, record: &Record) -> Vec<Other> {
    let Some(folder) = record.who.bundle.as_deref().and_then(|own| Path::new(own).parent()) else {
        return Vec::new();
    };
    let mut others: BTreeMap<String, Other> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(annotations) = entry.path().to_str().and_then(|dir| bundle::annotations(dir).ok()) else {
            continue;
        };
        let state = OciState { id, pid: None, bundle: None, annotations };
        let is_in = state.sandbox().is_ok_and(|sandbox| sandbox.id.as_str() == record.who.id);
        if !is_in || state.id.as_str() == record.who.id {
            continue;
        }
        let asks = hook.class_in_machine(&state, record).ok().flatten();
        if asks != Some(record.treatment.class) {
            let name = state.who().container.unwrap_or_else(|| state.id.to_string());
            let other = Other { container: name, asks: asks.map(|class| class.name().to_owned()) };
            others.insert(state.id.to_string(), other);
        }
    }
    others.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::is_vcpu;

    #[test]
    fn vcpus_are_known_by_the_names_vmms_give_them() {
        for name in ["CPU 0/KVM", "CPU 12/TCG", "vcpu3", "fc_vcpu 0", "db_vcpu7"] {
            assert!(is_vcpu(name), "{name}");
        }
        for name in ["qemu-system-x86", "vcpu", "vcpux", "CPU ", "virtiofsd", "vmm_master"] {
            assert!(!is_vcpu(name), "{name}");
        }
    }
}
