//! The values a runtime writes, as it is told them: in `linux.resources` and in the flags of `update`.

use serde_json::{Value as Json, json};

use crate::kernel::control::{Knob, Value};
use crate::plan::Write;

/// Whether a value is no limit. It is best said by saying nothing: crun 1.8 writes -1 as an unsigned number, which cgroup
/// v1 refuses, and the container does not start.
pub(super) fn is_no_limit(write: &Write) -> bool {
    write.knob == Knob::Quota && write.value == Value::Int(-1)
}

/// Where a value stands in `linux.resources`, as a JSON pointer, and the value.
pub(super) fn in_resources(write: &Write) -> Option<(&'static str, Json)> {
    let value = match &write.value {
        Value::Int(number) => json!(number),
        Value::Set(set) => json!(set.to_string()),
    };
    let pointer = match write.knob {
        Knob::Cpus => "/cpu/cpus",
        Knob::Quota => "/cpu/quota",
        Knob::Shares => "/cpu/shares",
        // Runtimes map shares to a weight in several ways: this says it outright.
        Knob::Weight => return Some(("/unified/cpu.weight", json!(write.value.to_string()))),
        Knob::MemoryLimit => "/memory/limit",
        _ => return None,
    };
    Some((pointer, value))
}

/// The flag of `update` for a value.
pub(super) fn as_flag(write: &Write) -> Option<(&'static str, String)> {
    let name = match write.knob {
        Knob::Cpus => "cpuset-cpus",
        Knob::Quota => "cpu-quota",
        Knob::Shares => "cpu-share",
        Knob::MemoryLimit => "memory",
        _ => return None,
    };
    Some((name, write.value.to_string()))
}
