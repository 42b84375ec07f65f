//! Whole cores, the domains they sit in, and how many of which to take.

use std::cmp::Reverse;

use super::Span;
use crate::kernel::topology::Cpu;

/// A core that is free as a whole.
#[derive(Clone, Copy)]
pub(super) struct Core<'a> {
    /// The lowest of its CPUs; says where it sits.
    pub(super) first: &'a Cpu,
    /// Its online CPUs.
    pub(super) threads: &'a [Cpu],
}

/// What the machine is divided into. Real machines do not nest: a cache can span nodes (sub-NUMA clusters), a node can
/// span sockets (NUMA switched off in the firmware). So caches are cut at the edges of nodes and sockets, and nodes
/// at the edges of sockets.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Llc,
    /// The part of a node that is in one socket.
    NodePart,
    Node,
    Socket,
    Machine,
}

impl Level {
    pub(super) const NEAREST_FIRST: [Self; 5] =
        [Self::Llc, Self::NodePart, Self::Node, Self::Socket, Self::Machine];

    /// CPUs with the same key are in the same domain of this level.
    fn key(self, cpu: &Cpu) -> (usize, usize, usize) {
        match self {
            Self::Llc => (cpu.node, cpu.socket, cpu.llc),
            Self::NodePart => (cpu.node, cpu.socket, 0),
            Self::Node => (cpu.node, 0, 0),
            Self::Socket => (cpu.socket, 0, 0),
            Self::Machine => (0, 0, 0),
        }
    }

    /// What to use as few of as can be, inside a domain of this level.
    fn parts(self) -> Option<Self> {
        match self {
            Self::Llc => None,
            Self::NodePart => Some(Self::Llc),
            Self::Node | Self::Socket => Some(Self::NodePart),
            Self::Machine => Some(Self::Node),
        }
    }

    pub(super) fn span(self) -> Span {
        match self {
            Self::Llc => Span::Llc,
            Self::NodePart | Self::Node => Span::Node,
            Self::Socket => Span::Socket,
            Self::Machine => Span::Machine,
        }
    }
}

pub(super) fn threads(cores: &[Core<'_>]) -> usize {
    cores.iter().map(|core| core.threads.len()).sum()
}

pub(super) fn cpus_of<'a>(cores: &[Core<'a>]) -> impl Iterator<Item = usize> {
    cores.iter().flat_map(|core| core.threads).map(|cpu| cpu.id)
}

pub(super) fn lowest(cores: &[Core<'_>]) -> Option<usize> {
    cores.iter().map(|core| core.first.id).min()
}

/// How well a pick fits its domain, smaller is better: CPUs taken (the least rounding), then CPUs left over.
pub(super) fn fit(picked: &[Core<'_>], domain: &[Core<'_>]) -> (usize, usize) {
    (threads(picked), threads(domain) - threads(picked))
}

pub(super) fn split<'a>(cores: &[Core<'a>], level: Level) -> Vec<Vec<Core<'a>>> {
    let mut cores = cores.to_vec();
    cores.sort_by_key(|core| (level.key(core.first), core.first.id));
    cores.chunk_by(|a, b| level.key(a.first) == level.key(b.first)).map(<[Core<'_>]>::to_vec).collect()
}

/// Picks at least `wanted` CPUs from a domain that has them, from as few of its parts as can be: whole parts, the
/// largest first, until one part has room for the rest.
pub(super) fn fill<'a>(level: Level, domain: &[Core<'a>], wanted: usize) -> Vec<Core<'a>> {
    let Some(part_level) = level.parts() else {
        return pick(domain, wanted);
    };
    let mut parts = split(domain, part_level);
    let mut picked = Vec::new();
    let mut rest = wanted;
    loop {
        let last = parts
            .iter()
            .filter(|part| threads(part) >= rest)
            .map(|part| (fill(part_level, part, rest), part))
            .min_by_key(|(picked, part)| (fit(picked, part), lowest(picked)));
        if let Some((last, _)) = last {
            picked.extend(last);
            break;
        }
        let largest =
            (0..parts.len()).max_by_key(|i| parts.get(*i).map(|p| (threads(p), Reverse(lowest(p)))));
        let Some(largest) = largest else { break };
        let part = parts.swap_remove(largest);
        rest -= threads(&part);
        picked.extend(part);
    }
    trim(picked, wanted)
}

/// Picks cores without looking at where they are: those with most threads first, then the lowest numbers. With one or
/// two threads per core, or the same number everywhere, no pick of whole cores is smaller.
pub(super) fn pick<'a>(cores: &[Core<'a>], wanted: usize) -> Vec<Core<'a>> {
    let mut cores = cores.to_vec();
    cores.sort_by_key(|core| (Reverse(core.threads.len()), core.first.id));
    let mut rest = wanted;
    let (mut picked, others): (Vec<_>, Vec<_>) = cores.into_iter().partition(|core| {
        let fits = core.threads.len() <= rest;
        if fits {
            rest -= core.threads.len();
        }
        fits
    });
    if rest > 0 {
        // Each of the others is larger than the rest.
        picked.extend(others.into_iter().min_by_key(|core| (core.threads.len(), core.first.id)));
    }
    trim(picked, wanted)
}

/// Gives back every core that is not needed for `wanted` CPUs, the largest first.
fn trim(mut cores: Vec<Core<'_>>, wanted: usize) -> Vec<Core<'_>> {
    let mut spare = threads(&cores).saturating_sub(wanted);
    cores.sort_by_key(|core| Reverse((core.threads.len(), core.first.id)));
    cores.retain(|core| {
        let needed = core.threads.len() > spare;
        if !needed {
            spare -= core.threads.len();
        }
        needed
    });
    cores
}
