//! Which CPUs are near each other: cores, last-level caches, NUMA nodes and sockets, as sysfs tells it.
//!
//! Files and their meaning: `Documentation/ABI/{stable,testing}/sysfs-devices-system-cpu` and
//! `Documentation/admin-guide/cputopology.rst` of the kernel. Only online CPUs are looked at: an offline CPU has no
//! topology, and its online sibling has the core to itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cpuset::{CpuSet, MAX_CPU};
use crate::error::{Error, Result};

/// Longest sysfs text read, in bytes; a list that names every CPU one by one is shorter.
const MAX_TEXT: u64 = 64 * 1024;

/// One online CPU and where it sits. The numbers name groups: equal numbers mean the same core, cache, node or socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's CPU number, at most [`MAX_CPU`].
    pub id: usize,
    /// The core; unique on the machine. When read from sysfs: the lowest online CPU of the core.
    pub core: usize,
    /// The last-level cache; unique on the machine. When read from sysfs: the lowest online CPU that shares it.
    pub llc: usize,
    /// The NUMA node, as numbered by the kernel.
    pub node: usize,
    /// The socket (`physical_package_id`).
    pub socket: usize,
}

/// The online CPUs of a machine and where each sits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Ascending by id, no id twice.
    cpus: Vec<Cpu>,
    online: CpuSet,
}

impl Topology {
    /// Reads the topology from a mounted sysfs (`/sys`).
    ///
    /// What a kernel or a virtual machine does not tell is filled in: without sibling lists CPUs of one socket with
    /// the same `core_id` are one core, without that each CPU is; CPUs without a level-3 cache share one per node;
    /// without NUMA there is node 0; without a package number (none, or −1) there is socket 0.
    ///
    /// # Errors
    /// The list of online CPUs is missing or empty, or a file that is there cannot be read or parsed.
    pub fn read(sys: &Path) -> Result<Self> {
        let online = Self::read_online(sys)?;
        let sockets = sockets(sys, &online)?;
        let nodes = nodes(sys)?;
        let socket = |cpu: usize| sockets.get(&cpu).copied().unwrap_or(0);
        let node = |cpu: usize| nodes.get(&cpu).copied().unwrap_or(0);

        let mut llcs = groups(sys, &online, &["cache/index3/shared_cpu_list"])?;
        let mut cores = groups(sys, &online, &["topology/thread_siblings_list", "topology/core_cpus_list"])?;
        let mut first_without_llc = BTreeMap::new();
        let mut first_of_core_id = BTreeMap::new();
        for cpu in online.iter() {
            llcs.entry(cpu).or_insert_with(|| *first_without_llc.entry(node(cpu)).or_insert(cpu));
            if let Entry::Vacant(unknown) = cores.entry(cpu) {
                let core = match read_number(&cpu_file(sys, cpu, "topology/core_id"))? {
                    Some(id) => *first_of_core_id.entry((socket(cpu), id)).or_insert(cpu),
                    None => cpu,
                };
                unknown.insert(core);
            }
        }
        let cpus = online.iter().map(|id| Cpu {
            id,
            core: cores.get(&id).copied().unwrap_or(id),
            llc: llcs.get(&id).copied().unwrap_or(id),
            node: node(id),
            socket: socket(id),
        });
        Ok(cpus.collect())
    }

    /// Reads the online CPUs only: one small file.
    ///
    /// # Errors
    /// The file is missing, cannot be read or parsed, or names no CPU.
    pub fn read_online(sys: &Path) -> Result<CpuSet> {
        let path = sys.join("devices/system/cpu/online");
        let online = match read_list(&path)? {
            Some(online) => online,
            None => {
                return Err(
                    Error::errno("read", &path, nix::errno::Errno::ENOENT).hint("is sysfs mounted there?")
                );
            }
        };
        if online.is_empty() {
            return Err(
                Error::invalid(path.display().to_string(), "names no CPU").hint("is sysfs mounted there?")
            );
        }
        Ok(online)
    }

    /// The CPUs of some NUMA nodes; nodes that are not there have none.
    ///
    /// # Errors
    /// A file that is there cannot be read or parsed.
    pub fn cpus_of_nodes(sys: &Path, wanted: &[i32]) -> Result<CpuSet> {
        let is_wanted = |node: usize| i32::try_from(node).is_ok_and(|node| wanted.contains(&node));
        Ok(nodes(sys)?.into_iter().filter(|(_, node)| is_wanted(*node)).map(|(cpu, _)| cpu).collect())
    }

    /// A machine where everything is alike, all CPUs online. `cores` counts per last-level cache, `threads` per core.
    ///
    /// Numbered as Linux does on x86: first one thread of every core, then the second threads in the same order.
    /// CPUs above [`MAX_CPU`] are left out.
    pub fn uniform(
        sockets: usize,
        nodes_per_socket: usize,
        llcs_per_node: usize,
        cores: usize,
        threads: usize,
    ) -> Self {
        let llcs = sockets.saturating_mul(nodes_per_socket).saturating_mul(llcs_per_node);
        let total = llcs.saturating_mul(cores);
        // Bounded before the loop: a caller's huge numbers must not become a long loop.
        let last = total.saturating_mul(threads).min(MAX_CPU + 1);
        let cpus = (0..last).map(|id| {
            let core = id % total;
            let llc = core / cores;
            let node = llc / llcs_per_node;
            let socket = node / nodes_per_socket;
            Cpu { id, core, llc, node, socket }
        });
        cpus.collect()
    }

    /// The online CPUs.
    pub fn online(&self) -> &CpuSet {
        &self.online
    }

    /// Every online CPU, ascending by number.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Where one CPU sits; `None` if it is not online.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        let at = self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok()?;
        self.cpus.get(at)
    }
}

/// A topology from a description. A CPU named twice counts once (the first), CPUs above [`MAX_CPU`] are left out.
impl FromIterator<Cpu> for Topology {
    fn from_iter<I: IntoIterator<Item = Cpu>>(cpus: I) -> Self {
        let mut cpus: Vec<Cpu> = cpus.into_iter().filter(|cpu| cpu.id <= MAX_CPU).collect();
        cpus.sort_by_key(|cpu| cpu.id);
        cpus.dedup_by_key(|cpu| cpu.id);
        let online = cpus.iter().map(|cpu| cpu.id).collect();
        Self { cpus, online }
    }
}

/// CPU → lowest CPU of its group, by the first of these list files that the CPU has. One read serves the whole group,
/// which is why big machines cost one read per core and not one per CPU. CPUs
/// without such a file are left out; offline ones may show up.
fn groups(sys: &Path, online: &CpuSet, files: &[&str]) -> Result<BTreeMap<usize, usize>> {
    let mut leader = BTreeMap::new();
    for cpu in online.iter() {
        if leader.contains_key(&cpu) {
            continue;
        }
        for file in files {
            if let Some(list) = read_list(&cpu_file(sys, cpu, file))? {
                leader.insert(cpu, cpu);
                for other in list.iter() {
                    leader.entry(other).or_insert(cpu);
                }
                break;
            }
        }
    }
    Ok(leader)
}

/// CPU → socket, for CPUs that have a package number.
fn sockets(sys: &Path, online: &CpuSet) -> Result<BTreeMap<usize, usize>> {
    let packages = groups(sys, online, &["topology/core_siblings_list", "topology/package_cpus_list"])?;
    let mut sockets: BTreeMap<usize, usize> = BTreeMap::new();
    for cpu in online.iter() {
        let leader = packages.get(&cpu).copied().unwrap_or(cpu);
        let socket = match sockets.get(&leader) {
            Some(socket) => Some(*socket),
            None => read_number(&cpu_file(sys, cpu, "topology/physical_package_id"))?,
        };
        if let Some(socket) = socket {
            sockets.insert(cpu, socket);
        }
    }
    Ok(sockets)
}

/// CPU → NUMA node. Empty where the kernel knows no nodes; nodes without CPUs (memory only) do not show.
fn nodes(sys: &Path) -> Result<BTreeMap<usize, usize>> {
    let folder = sys.join("devices/system/node");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(source) => {
            let error = Error::os("list", &folder, &source);
            return if error.is_gone() { Ok(BTreeMap::new()) } else { Err(error) };
        }
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::os("list", &folder, &source))?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("node"));
        if let Some(number) = digits.and_then(|digits| digits.parse::<usize>().ok()) {
            numbers.push(number);
        }
    }
    // A folder's order is no order; the lowest node wins where two claim a CPU.
    numbers.sort_unstable();
    let mut nodes = BTreeMap::new();
    for number in numbers {
        let path = folder.join(format!("node{number}/cpulist"));
        for cpu in read_list(&path)?.unwrap_or_default().iter() {
            nodes.entry(cpu).or_insert(number);
        }
    }
    Ok(nodes)
}

fn cpu_file(sys: &Path, cpu: usize, file: &str) -> PathBuf {
    sys.join(format!("devices/system/cpu/cpu{cpu}/{file}"))
}

/// A CPU list file; `None` if it is not there.
fn read_list(path: &Path) -> Result<Option<CpuSet>> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    text.trim_ascii()
        .parse()
        .map(Some)
        .map_err(|error: Error| Error::invalid(path.display().to_string(), error.to_string()))
}

/// A number file; `None` if it is not there or negative, which is how the kernel says "unknown".
fn read_number(path: &Path) -> Result<Option<usize>> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    match text.trim_ascii().parse::<i64>() {
        Ok(number) => Ok(usize::try_from(number).ok()),
        Err(_) => Err(Error::invalid(path.display().to_string(), "is not a number")),
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(Some(text)),
        Err(source) => {
            let error = Error::os("read", path, &source);
            if error.is_gone() { Ok(None) } else { Err(error) }
        }
    }
}

#[cfg(test)]
mod tests;
