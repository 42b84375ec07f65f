//! Plays a sequence on a new node; a failing one is cut down to what it takes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::op::Op;
use super::world::{Ground, Stats, World};

/// How often a failing sequence is tried again with a part of it left out.
const TRIES: usize = 1_200;
/// How many operations between two looks at every group, in long and in short sequences.
const LOOK: (usize, usize, usize) = (50, 300, 1);

/// What went wrong after how many operations of a sequence.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) at: usize,
    pub(crate) text: String,
}

/// Plays a sequence to its end, where everybody ends and nothing may be left.
pub(crate) fn play(
    settings: &str,
    ops: &[Op],
    ground: &mut Ground,
    stats: &mut Stats,
) -> Result<(), Failure> {
    let (rarely, long, often) = LOOK;
    let look = if ops.len() > long { rarely } else { often };
    let mut world = World::new(settings, ground, stats);
    for (at, op) in ops.iter().enumerate() {
        let mut step = || -> Result<(), String> {
            // Foreign writes count themselves.
            if world.run(op)? && !matches!(op, Op::Foreign { .. } | Op::Resize { .. }) {
                world.stats.ops += 1;
            }
            if at % look == 0 { world.check_all() } else { Ok(()) }
        };
        guarded(&mut step).map_err(|text| Failure { at: at + 1, text: format!("{op:?}: {text}") })?;
    }
    guarded(&mut || world.end())
        .map_err(|text| Failure { at: ops.len(), text: format!("at the end: {text}") })
}

/// A panic is a failure like any other.
fn guarded(step: &mut dyn FnMut() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

/// Leaves out parts, from large to small, as long as something still goes wrong.
pub(crate) fn shrink(
    settings: &str,
    ops: &[Op],
    failure: Failure,
    ground: &mut Ground,
) -> (Vec<Op>, Failure) {
    let mut ops = ops[..failure.at].to_vec();
    let mut failure = failure;
    let mut size = ops.len() / 2;
    let mut tries = 0;
    while size > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < ops.len() && tries < TRIES {
            tries += 1;
            let mut fewer = ops.clone();
            fewer.drain(from..(from + size).min(ops.len()));
            match play(settings, &fewer, ground, &mut Stats::default()) {
                Ok(()) => from += size,
                Err(now) => {
                    fewer.truncate(now.at);
                    (ops, failure, shorter) = (fewer, now, true);
                }
            }
        }
        if tries >= TRIES {
            break;
        }
        size = if shorter && size == 1 { 1 } else { size / 2 };
    }
    (ops, failure)
}
