//! What the allocator of exclusive CPUs promises, on examples and on random machines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "allocator/random.rs"]
mod random;

use plimsoll::cpuset::CpuSet;
use plimsoll::error::Error;
use plimsoll::kernel::topology::{Cpu, Topology};
use plimsoll::plan::exclusive::{Pool, Refusal, Span, allocate, best_effort_pool, conflicts, shared_pool};

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// Allocates where the free CPUs are the shared pool.
fn take(topology: &Topology, free: &str, wanted: usize) -> Result<(String, Span), Refusal> {
    let free = set(free);
    allocate(topology, &free, wanted, 0, &free).map(|got| (got.cpus.to_string(), got.span))
}

fn got(cpus: &str, span: Span) -> Result<(String, Span), Refusal> {
    Ok((cpus.to_owned(), span))
}

/// Cores with these numbers of threads, numbered in a row, `per_llc` cores to a cache, all in one node.
fn row(threads: &[usize], per_llc: usize) -> Topology {
    let ids = threads.iter().enumerate().flat_map(|(core, n)| vec![core; *n]);
    ids.enumerate().map(|(id, core)| Cpu { id, core, llc: core / per_llc, node: 0, socket: 0 }).collect()
}

#[test]
fn siblings_stay_together_and_near() {
    // 2 sockets × 2 nodes × 2 caches × 2 cores × 2 threads: core c has CPUs c and c + 16.
    let machine = Topology::uniform(2, 2, 2, 2, 2);
    for (wanted, cpus, span) in [
        (2, "0,16", Span::Llc),
        (4, "0-1,16-17", Span::Llc),
        (6, "0-2,16-18", Span::Node),
        (8, "0-3,16-19", Span::Node),
        (12, "0-5,16-21", Span::Socket),
        (18, "0-8,16-24", Span::Machine),
        (32, "0-31", Span::Machine),
    ] {
        assert_eq!(take(&machine, "0-31", wanted), got(cpus, span), "{wanted}");
    }
}

#[test]
fn the_tightest_hole_is_filled_first() {
    let machine = Topology::uniform(2, 2, 2, 2, 1);
    // Caches 0-1 … 14-15. Cache 6-7 has one CPU left, the others two.
    assert_eq!(take(&machine, "0-5,7-15", 1), got("7", Span::Llc));
    // All caches alike: the node that has least beside it, then the socket.
    assert_eq!(take(&machine, "0-3,6-11", 2), got("6-7", Span::Llc));
    assert_eq!(take(&machine, "0-1,4-5,8-9", 2), got("8-9", Span::Llc));
    // Three fit node 0 exactly; node 2 has four.
    assert_eq!(take(&machine, "0-2,8-11", 3), got("0-2", Span::Node));
    // Socket 1 has exactly six left.
    assert_eq!(take(&machine, "0-7,8-13", 6), got("8-13", Span::Socket));
}

#[test]
fn as_few_nodes_as_can_be() {
    // One CPU per cache, four per node, a socket each. Free per node: 2, 3, 1, 4.
    let machine = Topology::uniform(4, 1, 4, 1, 1);
    let free = "0-1,4-6,8,12-15";
    // Seven: the nodes of 4 and 3. Six: the node of 4, then the rest where it fits exactly.
    assert_eq!(take(&machine, free, 7), got("4-6,12-15", Span::Machine));
    assert_eq!(take(&machine, free, 6), got("0-1,12-15", Span::Machine));
    assert_eq!(take(&machine, free, 5), got("8,12-15", Span::Machine));
}

#[test]
fn a_cache_that_spans_nodes_does_not_hide_them() {
    // Sub-NUMA clusters: one cache, two nodes with interleaved numbers.
    let machine: Topology = (0..8).map(|id| Cpu { id, core: id, llc: 0, node: id % 2, socket: 0 }).collect();
    assert_eq!(take(&machine, "0-7", 4), got("0,2,4,6", Span::Llc));
    assert_eq!(take(&machine, "0,2,4-7", 2), got("5,7", Span::Llc));
}

#[test]
fn a_node_that_spans_sockets_is_filled_a_socket_at_a_time() {
    // NUMA switched off in the firmware; socket 0 has the caches 0,4 and 2,6.
    let machine: Topology =
        (0..8).map(|id| Cpu { id, core: id, llc: id % 4, node: 0, socket: id % 2 }).collect();
    assert_eq!(take(&machine, "0-7", 3), got("0,2,4", Span::Node));
    assert_eq!(take(&machine, "0-7", 5), got("0-2,4,6", Span::Node));
}

#[test]
fn an_odd_count_is_rounded_up_to_whole_cores_and_says_so() {
    let free = set("0-7");
    let got = allocate(&Topology::uniform(1, 1, 1, 4, 2), &free, 3, 0, &free).unwrap();
    assert_eq!((got.cpus.to_string(), got.wanted, got.extra()), ("0-1,4-5".into(), 3, 1));
    let got = allocate(&Topology::uniform(1, 1, 1, 8, 1), &free, 3, 0, &free).unwrap();
    assert_eq!((got.cpus.to_string(), got.extra()), ("0-2".into(), 0));
}

#[test]
fn hybrid_cores_add_up_without_rounding_where_they_can() {
    // Cores 0-1 and 2-3 with two threads, 4 to 7 with one.
    let machine = row(&[2, 2, 1, 1, 1, 1], 6);
    for (wanted, cpus) in [(1, "4"), (2, "0-1"), (3, "0-1,4"), (5, "0-4"), (7, "0-6")] {
        assert_eq!(take(&machine, "0-7", wanted), got(cpus, Span::Llc), "{wanted}");
    }
    // The cache of four, and of the other a core that makes one of them needless.
    let small_first = row(&[1, 1, 1, 1, 2], 4);
    assert_eq!(take(&small_first, "0-5", 5), got("0-2,4-5", Span::Node));
    // A cache of single threads is the better place for one CPU, even if the other is tighter.
    let machine = row(&[2, 1, 1, 1], 1);
    assert_eq!(take(&machine, "0-4", 1), got("2", Span::Llc));
}

#[test]
fn a_core_with_a_taken_sibling_is_not_free() {
    let machine = Topology::uniform(1, 1, 1, 4, 2);
    assert_eq!(take(&machine, "1-3,5-7", 4), got("1-2,5-6", Span::Llc));
    assert_eq!(
        take(&machine, "0-3,7", 3),
        Err(Refusal::NotEnoughWholeCores { wanted: 3, whole: 2, free: 5 })
    );
}

#[test]
fn an_offline_sibling_leaves_a_whole_core() {
    let machine: Topology =
        Topology::uniform(1, 1, 1, 2, 2).cpus().iter().filter(|cpu| cpu.id != 2).copied().collect();
    assert_eq!(take(&machine, "0-3", 1), got("0", Span::Llc));
    assert_eq!(take(&machine, "0-3", 3), got("0-1,3", Span::Llc));
}

#[test]
fn refusals_explain_themselves_in_numbers() {
    let machine = Topology::uniform(1, 1, 1, 4, 2);
    let refuse = |free: &str, wanted, min_shared, pool: &str| {
        let refusal = allocate(&machine, &set(free), wanted, min_shared, &set(pool)).unwrap_err();
        Error::from(refusal).to_string()
    };
    for (text, numbers) in [
        (refuse("0-7", 0, 0, "0-7"), "0 CPUs wanted"),
        (refuse("0-3,8-99", 5, 0, "0-7"), "5 CPUs wanted, 4 of 8 are free"),
        (refuse("0-2,4", 3, 0, "0-7"), "3 CPUs wanted, 4 are free, but only 2 of those"),
        (
            refuse("0-7", 5, 3, "0-99"),
            "5 CPUs wanted (6 as whole cores): 2 of the 8 CPUs in the shared pool would be left, 3 must stay",
        ),
        (refuse("0-7", usize::MAX, 0, "0-7"), "8 of 8 are free"),
    ] {
        assert!(text.starts_with("exclusive CPUs: ") && text.contains(numbers), "{text}");
        assert!(text.contains("; "), "no hint: {text}");
    }
}

#[test]
fn the_shared_pool_keeps_its_minimum_even_at_the_price_of_nearness() {
    let free = set("0-7");
    let machine = Topology::uniform(1, 1, 1, 4, 2);
    let least = |wanted, min| allocate(&machine, &free, wanted, min, &free).map(|got| got.cpus.len());
    assert_eq!(least(6, 2), Ok(6));
    assert_eq!(least(5, 2), Ok(6));
    assert!(least(5, 3).is_err());
    // Near by the cache of the wide cores three CPUs cost four; the pool can only spare three.
    let machine = row(&[2, 2, 1], 2);
    let free = set("0-4");
    let got = |min| allocate(&machine, &free, 3, min, &free).map(|got| (got.cpus.to_string(), got.span));
    assert_eq!(got(1), Ok(("0-3".into(), Span::Llc)));
    assert_eq!(got(2), Ok(("0-1,4".into(), Span::Node)));
}

#[test]
fn pools_follow_koordinator() {
    let (all, lse, lsr, system) = (set("0-15"), set("2-3"), set("4-7"), set("0"));
    assert_eq!(shared_pool(&all, &lse, &lsr, &system), Ok(set("1,8-15")));
    // LSR's idle CPUs serve best effort; LSE's never.
    assert_eq!(best_effort_pool(&all, &lse, &system), Ok(set("1,4-15")));
}

#[test]
fn an_empty_pool_is_refused() {
    let (all, none) = (set("0-3"), CpuSet::new());
    let empty = |pool| Err(Refusal::EmptyPool { pool, all: 4 });
    assert_eq!(shared_pool(&all, &set("0-1"), &set("2-3"), &none), empty(Pool::Shared));
    assert_eq!(best_effort_pool(&all, &set("0-2"), &set("3")), empty(Pool::BestEffort));
    let text = Error::from(empty(Pool::Shared).unwrap_err()).to_string();
    assert!(text.contains("the shared pool would be empty: all 4 CPUs are taken; "), "{text}");
}

#[test]
fn conflicts_name_the_other_owners_and_the_cpus() {
    let owners = [("a", "0-1"), ("b", "2-5"), ("c", "4-5"), ("d", "8")];
    let owners = owners.map(|(key, cpus)| (key.to_owned(), set(cpus)));
    assert_eq!(conflicts(&set("1-4"), &owners, "c"), [("a", set("1")), ("b", set("2-4"))]);
    assert_eq!(conflicts(&set("6-7"), &owners, "c"), []);
}
