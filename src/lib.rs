//! Plimsoll: a container gets its QoS before its first instruction.
//!
//! The way of one container, a room each:
//!
//! ```text
//! container ─► annotations ─► policy ─► plan ─► apply ─► record
//!  who is it?   what is       what may   what    write    remember
//!               asked?        it get?    would   it,
//!                  kernel ───────────►   be      safely
//!                  what can this node?   written?
//! ```
//!
//! Everything left of [`apply`] is pure or read-only, so the plan that is printed is the plan that is applied.

pub mod annotations;
pub mod apply;
pub mod container;
pub mod cpuset;
pub mod error;
pub mod hook;
#[cfg(feature = "tool")]
pub mod install;
pub mod kernel;
pub mod log;
pub mod plan;
pub mod policy;
#[cfg(feature = "tool")]
pub mod programs;
pub mod qos;
pub mod quantity;
pub mod record;
pub mod runtime;
pub mod shim;
mod sys;
#[cfg(feature = "tool")]
pub mod tool;
