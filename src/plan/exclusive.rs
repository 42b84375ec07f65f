//! CPUs of one's own for LSE and LSR, and the pools that are left for everyone else.
//!
//! Pure functions. Whoever calls them holds the node lock and has collected the owners from cgroups and records.
//! Whole cores only: a hyperthread shared with somebody else is not exclusive, since the siblings compete for the same
//! execution units. So a request is rounded up to whole cores, and a core with a single taken sibling is not free.

mod cores;

use std::fmt;

use crate::cpuset::CpuSet;
use crate::error::Error;
use crate::kernel::topology::{Cpu, Topology};
use cores::{Core, Level, cpus_of, fill, fit, lowest, pick, split, threads};

/// How far apart the CPUs of an [`Allocation`] are, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// All share one last-level cache.
    Llc,
    /// All are in one NUMA node.
    Node,
    /// All are in one socket.
    Socket,
    /// They are in several sockets.
    Machine,
}

/// CPUs picked for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The CPUs: whole cores, never empty.
    pub cpus: CpuSet,
    /// How many CPUs were asked for, at most `cpus.len()`.
    pub wanted: usize,
    /// How far apart they are: as near as the free cores and the pool allow.
    pub span: Span,
}

impl Allocation {
    /// How many CPUs were added to make whole cores; 0 where the request was met exactly.
    pub fn extra(&self) -> usize {
        self.cpus.len().saturating_sub(self.wanted)
    }
}

/// Which pool of CPUs is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The pool of LS and of containers without a class.
    Shared,
    /// The pool of BE.
    BestEffort,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shared => "shared pool",
            Self::BestEffort => "best-effort pool",
        })
    }
}

/// Why CPUs cannot be had. All numbers count online CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Zero CPUs were asked for.
    #[error("0 CPUs wanted")]
    NothingWanted,
    /// There are not that many free CPUs.
    #[error("{wanted} CPUs wanted, {free} of {online} are free")]
    NotEnoughFree {
        /// CPUs asked for.
        wanted: usize,
        /// CPUs that are free.
        free: usize,
        /// CPUs of the machine.
        online: usize,
    },
    /// There are enough free CPUs, but too many of them sit beside a sibling that is taken.
    #[error(
        "{wanted} CPUs wanted, {free} are free, but only {whole} of those in cores that are free as a whole"
    )]
    NotEnoughWholeCores {
        /// CPUs asked for.
        wanted: usize,
        /// Free CPUs whose siblings are free too.
        whole: usize,
        /// CPUs that are free.
        free: usize,
    },
    /// The shared pool would become too small.
    #[error(
        "{wanted} CPUs wanted ({needed} as whole cores): {left} of the {pool} CPUs in the shared pool would be left, \
         {min_shared} must stay"
    )]
    SharedPoolTooSmall {
        /// CPUs asked for.
        wanted: usize,
        /// CPUs in whole cores it takes to meet that.
        needed: usize,
        /// CPUs in the shared pool now.
        pool: usize,
        /// CPUs that would be left in it.
        left: usize,
        /// CPUs that must stay in it.
        min_shared: usize,
    },
    /// A pool would have no CPU at all. An empty cpuset is never written: to the kernel it means "no CPUs" on
    /// cgroup v1 and "whatever the parent has" on v2.
    #[error("the {pool} would be empty: all {all} CPUs are taken")]
    EmptyPool {
        /// The pool.
        pool: Pool,
        /// CPUs there were to share out.
        all: usize,
    },
}

impl Refusal {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NothingWanted => "ask for at least one CPU",
            Self::NotEnoughFree { .. } => "ask for fewer CPUs, or end a container that has CPUs of its own",
            Self::NotEnoughWholeCores { .. } => {
                "find the owner of the other sibling: give it whole cores, or end it"
            }
            Self::SharedPoolTooSmall { .. } => {
                "ask for fewer CPUs, or lower the size the shared pool must keep"
            }
            Self::EmptyPool { .. } => "end a container that has CPUs of its own, or give it fewer",
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let what = match refusal {
            Refusal::EmptyPool { .. } => "CPU pools",
            _ => "exclusive CPUs",
        };
        Self::invalid(what, refusal.to_string()).hint(refusal.hint())
    }
}

/// Picks whole cores near each other for one container, from `free` and nowhere else.
///
/// - Exactly `wanted` CPUs where whole cores add up to that, else the next more that they do ([`Allocation::extra`]).
///   Where cores have different numbers of threads, those with more threads go first.
/// - Within one last-level cache if any has room, else one node, else one socket, else as few nodes as can be.
///   Among several that have room: the least rounding, then the one it fits tightest (in the cache, in its node, in
///   its socket), so that large holes stay large; then the lowest CPU number. The same input gives the same answer.
/// - At least `min_shared` CPUs of `shared_pool` are left; going further apart beats refusing. With `min_shared` 0
///   the pool may be taken whole, so pass at least 1 where anything runs in it.
///
/// `free` is normally the shared pool less what the node keeps for itself. CPUs that are not online do not count,
/// neither as free nor as part of the pool.
///
/// # Errors
/// A [`Refusal`]; never [`Refusal::EmptyPool`].
pub fn allocate(
    topology: &Topology,
    free: &CpuSet,
    wanted: usize,
    min_shared: usize,
    shared_pool: &CpuSet,
) -> Result<Allocation, Refusal> {
    if wanted == 0 {
        return Err(Refusal::NothingWanted);
    }
    let online = topology.online();
    let free = free.intersection(online);
    if free.len() < wanted {
        return Err(Refusal::NotEnoughFree { wanted, free: free.len(), online: online.len() });
    }
    let mut cpus = topology.cpus().to_vec();
    cpus.sort_by_key(|cpu| (cpu.core, cpu.id));
    let cores: Vec<Core<'_>> = cpus
        .chunk_by(|a, b| a.core == b.core)
        .filter(|threads| threads.iter().all(|cpu| free.contains(cpu.id)))
        .filter_map(|threads| threads.first().map(|first| Core { first, threads }))
        .collect();
    if threads(&cores) < wanted {
        return Err(Refusal::NotEnoughWholeCores { wanted, whole: threads(&cores), free: free.len() });
    }

    let pool = shared_pool.intersection(online);
    let left = |picked: &[Core<'_>]| pool.len() - cpus_of(picked).filter(|cpu| pool.contains(*cpu)).count();
    for level in Level::NEAREST_FIRST {
        let best = split(&cores, level)
            .into_iter()
            .filter(|domain| threads(domain) >= wanted)
            .filter_map(|domain| {
                let near = fill(level, &domain, wanted);
                if left(&near) >= min_shared {
                    return Some((near, domain));
                }
                // Cores of different sizes: the nearest ones may round up more than the pool can bear.
                let exact = pick(&domain, wanted);
                (left(&exact) >= min_shared).then_some((exact, domain))
            })
            .min_by_key(|(picked, domain)| {
                let beside = |same: fn(&Cpu) -> usize| -> usize {
                    let of = domain.first().map(|core| same(core.first));
                    let near = cores.iter().filter(|core| Some(same(core.first)) == of);
                    near.map(|core| core.threads.len()).sum()
                };
                (fit(picked, domain), beside(|cpu| cpu.node), beside(|cpu| cpu.socket), lowest(picked))
            });
        if let Some((picked, _)) = best {
            return Ok(Allocation { cpus: cpus_of(&picked).collect(), wanted, span: level.span() });
        }
    }
    let least = pick(&cores, wanted);
    Err(Refusal::SharedPoolTooSmall {
        wanted,
        needed: threads(&least),
        pool: pool.len(),
        left: left(&least),
        min_shared,
    })
}

/// The shared pool: `all` less the CPUs of LSE and LSR and those that system services have for themselves.
///
/// Koordinator's rule (`states_noderesourcetopology.go`, "cpu-shared-pools"). CPUs the node reserves go into
/// `system_exclusive` too.
///
/// # Errors
/// [`Refusal::EmptyPool`] where nothing would be left.
pub fn shared_pool(
    all: &CpuSet,
    lse: &CpuSet,
    lsr: &CpuSet,
    system_exclusive: &CpuSet,
) -> Result<CpuSet, Refusal> {
    rest(Pool::Shared, all, &lse.union(lsr).union(system_exclusive))
}

/// The best-effort pool: as [`shared_pool`], but LSR's CPUs stay in it ("be-cpu-shared-pools").
///
/// # Errors
/// [`Refusal::EmptyPool`] where nothing would be left.
pub fn best_effort_pool(all: &CpuSet, lse: &CpuSet, system_exclusive: &CpuSet) -> Result<CpuSet, Refusal> {
    rest(Pool::BestEffort, all, &lse.union(system_exclusive))
}

fn rest(pool: Pool, all: &CpuSet, taken: &CpuSet) -> Result<CpuSet, Refusal> {
    let rest = all.difference(taken);
    if rest.is_empty() {
        return Err(Refusal::EmptyPool { pool, all: all.len() });
    }
    Ok(rest)
}

/// The other owners that hold any of the wanted CPUs, in the order given, each with the CPUs in question.
/// Entries under `self_key` are not conflicts: a container may be given its own CPUs again.
pub fn conflicts<'a>(
    wanted: &CpuSet,
    owners: &'a [(String, CpuSet)],
    self_key: &str,
) -> Vec<(&'a str, CpuSet)> {
    owners
        .iter()
        .filter(|(key, _)| key != self_key)
        .map(|(key, cpus)| (key.as_str(), cpus.intersection(wanted)))
        .filter(|(_, cpus)| !cpus.is_empty())
        .collect()
}
