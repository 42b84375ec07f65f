//! Random machines, with brute force as the judge.

use std::collections::BTreeSet;

use plimsoll::cpuset::CpuSet;
use plimsoll::kernel::topology::{Cpu, Topology};
use plimsoll::plan::exclusive::{Allocation, Span, allocate};
use proptest::prelude::*;

/// What names the domain of a CPU at some level.
type Domain = fn(&Cpu) -> usize;

/// A random machine: its cores have the same number of threads, or one and two mixed; numbers have holes and no order.
fn machine() -> impl Strategy<Value = Topology> {
    let shape = (1usize..3, 1usize..4, 1usize..4, 1usize..4);
    (shape, 0usize..4, any::<u64>()).prop_map(|((sockets, nodes, llcs, cores), kind, seed)| {
        let mut random = seed;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut places = Vec::new();
        for core in 0..sockets * nodes * llcs * cores {
            let threads = if kind == 0 { 1 + next(2) } else { [1, 2, 4][kind - 1] };
            places.extend(vec![core; threads]);
        }
        let mut ids: Vec<usize> = (0..places.len() + 5).collect();
        for i in (1..ids.len()).rev() {
            ids.swap(i, next(i + 1));
        }
        let cpu = |(id, core): (usize, usize)| Cpu {
            id,
            core,
            llc: core / cores,
            node: core / cores / llcs,
            socket: core / cores / llcs / nodes,
        };
        ids.into_iter().zip(places).map(cpu).collect()
    })
}

/// The sizes of the cores that are free as a whole, of CPUs that `here` accepts.
fn whole_cores(topology: &Topology, free: &CpuSet, here: impl Fn(&Cpu) -> bool) -> Vec<usize> {
    let cores: BTreeSet<usize> = topology.cpus().iter().filter(|c| here(c)).map(|c| c.core).collect();
    let sizes = cores.into_iter().filter_map(|core| {
        let threads: Vec<&Cpu> = topology.cpus().iter().filter(|c| c.core == core).collect();
        threads.iter().all(|c| free.contains(c.id)).then_some(threads.len())
    });
    sizes.collect()
}

/// By brute force: the fewest CPUs, `wanted` or more, that whole cores of these sizes add up to.
fn least_sum(sizes: &[usize], wanted: usize) -> Option<usize> {
    let mut sums = BTreeSet::from([0]);
    for size in sizes {
        sums.extend(sums.clone().into_iter().map(|sum| sum + size));
    }
    sums.range(wanted..).next().copied()
}

/// Whether one domain has room, where the pool can spare `spare` CPUs.
fn some_has_room(
    topology: &Topology,
    free: &CpuSet,
    wanted: usize,
    spare: usize,
    key: impl Fn(&Cpu) -> usize,
) -> bool {
    let keys: BTreeSet<usize> = topology.cpus().iter().map(&key).collect();
    keys.into_iter().any(|k| {
        let sizes = whole_cores(topology, free, |c| key(c) == k);
        least_sum(&sizes, wanted).is_some_and(|sum| sum <= spare)
    })
}

fn distinct(topology: &Topology, cpus: &CpuSet, key: impl Fn(&Cpu) -> usize) -> usize {
    let keys: BTreeSet<usize> = cpus.iter().map(|id| key(topology.cpu(id).unwrap())).collect();
    keys.len()
}

fn check_allocation(
    topology: &Topology,
    free: &CpuSet,
    min_shared: usize,
    got: &Allocation,
) -> Result<(), TestCaseError> {
    let Allocation { cpus, wanted, span } = got;
    prop_assert!(cpus.is_subset(free), "{cpus} outside {free}");
    prop_assert!(cpus.len() >= *wanted && got.extra() == cpus.len() - wanted);
    prop_assert!(free.len() - cpus.len() >= min_shared);
    // Whole cores, and none that could be given back.
    let sizes = whole_cores(topology, cpus, |c| cpus.contains(c.id));
    prop_assert_eq!(sizes.iter().sum::<usize>(), cpus.len(), "split cores in {}", cpus);
    prop_assert!(sizes.iter().all(|size| cpus.len() - size < *wanted), "needless core in {cpus}");

    // As near as could be, and as near as it says.
    let spare = free.len() - min_shared;
    let levels: [(Span, Domain); 3] =
        [(Span::Llc, |c| c.llc), (Span::Node, |c| c.node), (Span::Socket, |c| c.socket)];
    let nearest = levels.iter().find(|(_, key)| some_has_room(topology, free, *wanted, spare, key));
    prop_assert_eq!(*span, nearest.map_or(Span::Machine, |(span, _)| *span), "{} of {}", cpus, free);
    for (level, key) in levels {
        prop_assert!(level < *span || distinct(topology, cpus, key) == 1, "{cpus} is not in one {level:?}");
    }
    // As few nodes as could be; cores of mixed sizes may trade that for what the pool can spare.
    let all = whole_cores(topology, free, |_| true);
    if *span == Span::Machine && all.iter().all(|size| *size == all[0]) {
        let nodes: BTreeSet<usize> = topology.cpus().iter().map(|c| c.node).collect();
        let mut room: Vec<usize> =
            nodes.iter().map(|node| whole_cores(topology, free, |c| c.node == *node).iter().sum()).collect();
        room.sort_unstable_by(|a, b| b.cmp(a));
        let fewest = (1..=room.len()).find(|n| room[..*n].iter().sum::<usize>() >= *wanted);
        prop_assert_eq!(Some(distinct(topology, cpus, |c| c.node)), fewest, "{} of {}", cpus, free);
    }
    Ok(())
}

proptest! {
    #[test]
    fn promises_hold_over_any_sequence_of_starts_and_stops(
        topology in machine(),
        broken in proptest::collection::vec(0usize..60, 0..6),
        min_shared in 0usize..6,
        steps in proptest::collection::vec((0usize..3, 1usize..20, any::<prop::sample::Index>()), 1..24),
    ) {
        // CPUs that the scheduler gave away without care for cores.
        let broken: CpuSet = broken.into_iter().collect();
        let mut owners: Vec<CpuSet> = Vec::new();
        for (action, wanted, which) in steps {
            if action == 0 && !owners.is_empty() {
                owners.swap_remove(which.index(owners.len()));
                continue;
            }
            let taken = owners.iter().fold(broken.clone(), |sum, cpus| sum.union(cpus));
            let free = topology.online().difference(&taken);
            let got = allocate(&topology, &free, wanted, min_shared, &free);
            prop_assert_eq!(&got, &allocate(&topology, &free, wanted, min_shared, &free));
            match got {
                Ok(got) => {
                    check_allocation(&topology, &free, min_shared, &got)?;
                    owners.push(got.cpus);
                }
                // Refused only what cannot be done at all.
                Err(refusal) => {
                    let least = least_sum(&whole_cores(&topology, &free, |_| true), wanted);
                    let possible = least.is_some_and(|sum| sum + min_shared <= free.len());
                    prop_assert!(!possible, "{refusal}, but {least:?} of {free} would do");
                }
            }
        }
    }

    #[test]
    fn any_input_is_answered_within_bounds(
        cpus in proptest::collection::vec((0usize..40, 0usize..9, 0usize..4, 0usize..4, 0usize..3), 0..40),
        free in proptest::collection::vec(0usize..50, 0..50),
        pool in proptest::collection::vec(0usize..50, 0..50),
        wanted in prop_oneof![0usize..12, Just(usize::MAX)],
        min_shared in prop_oneof![0usize..12, Just(usize::MAX)],
    ) {
        // Cores, caches, nodes and sockets that need not nest at all.
        let cpus = cpus.into_iter();
        let topology: Topology = cpus.map(|(id, core, llc, node, socket)| Cpu { id, core, llc, node, socket }).collect();
        let (free, pool): (CpuSet, CpuSet) = (free.into_iter().collect(), pool.into_iter().collect());
        if let Ok(got) = allocate(&topology, &free, wanted, min_shared, &pool) {
            prop_assert!(got.cpus.len() >= wanted && !got.cpus.is_empty());
            prop_assert!(got.cpus.is_subset(&free.intersection(topology.online())));
            prop_assert!(pool.intersection(topology.online()).difference(&got.cpus).len() >= min_shared);
            for cpu in topology.cpus().iter().filter(|cpu| got.cpus.contains(cpu.id)) {
                let siblings = topology.cpus().iter().filter(|other| other.core == cpu.core);
                prop_assert!(siblings.into_iter().all(|other| got.cpus.contains(other.id)));
            }
        }
    }
}
