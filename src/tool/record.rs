//! What `plan`, `explain` and `status` say alike about treatments and values.

use serde_json::{Value as Json, json};

use super::paint::{Paint, Tone};
use crate::kernel::control::{Knob, Value};
use crate::kernel::group::Group;
use crate::kernel::identity::Rung;
use crate::plan::TreeMove;
use crate::policy::config::{OnError, Placement};
use crate::policy::treatment::{Burst, CpusRule, Treatment};

/// Where labels end and texts begin.
pub(super) const INDENT: usize = 14;

/// The treatment in a line: `identity 2, burst 1000 % of the limit, CPUs of the shared pool`.
pub(super) fn treatment(treatment: &Treatment) -> String {
    let mut parts = Vec::new();
    parts.push(match treatment.identity {
        Some(identity) => format!("identity {identity} ({})", treatment.identity_why),
        None => "identity left alone".to_owned(),
    });
    parts.push(match treatment.burst {
        Some(Burst::Percent(percent)) => format!("burst {percent} % of the CPU limit"),
        Some(Burst::Micros(micros)) => format!("burst {micros} us"),
        None => "no burst".to_owned(),
    });
    parts.push(match &treatment.cpus {
        CpusRule::Keep => "CPUs left alone".to_owned(),
        CpusRule::Exact(cpus) => format!("CPUs {cpus}"),
        CpusRule::Allocate => "CPUs of its own, chosen here".to_owned(),
        CpusRule::SharedPool => "CPUs of the shared pool (all but LSE's and LSR's)".to_owned(),
        CpusRule::BestEffortPool => "all CPUs but LSE's".to_owned(),
    });
    if treatment.unset_quota {
        parts.push("no CFS quota while the CPUs are its own".to_owned());
    }
    if treatment.batch.is_some() || treatment.pod_batch.is_some() {
        parts.push("limits from batch resources".to_owned());
    }
    parts.push(match treatment.on_error {
        OnError::Ignore => "starts even if something fails".to_owned(),
        OnError::Fail => "does not start if something fails".to_owned(),
    });
    parts.join(", ")
}

/// A placement's name.
pub(super) fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::Auto => "auto",
        Placement::Keep => "keep",
        Placement::ClassTree => "class-tree",
    }
}

/// A rung with its control file.
pub(super) fn rung(rung: Rung, group: &Group) -> String {
    match rung.knob().and_then(|knob| knob.file(group.version)) {
        Some(file) => format!("{rung} ({file})"),
        None if rung == Rung::Weight => "weight (cpu.shares or cpu.weight)".to_owned(),
        None => rung.to_string(),
    }
}

/// A file's name in its group.
pub(super) fn file_name(group: &Group, knob: Knob) -> String {
    knob.file(group.version).map_or_else(|| knob.to_string(), str::to_owned)
}

/// The group's CFS period as its file says it.
pub(super) fn period(group: &Group) -> Option<i64> {
    group.read(Knob::Period).ok().flatten().and_then(|value| value.int())
}

/// A value as JSON: a number, or a CPU list.
pub(super) fn json_value(value: Option<&Value>) -> Json {
    match value {
        Some(Value::Int(n)) => json!(n),
        Some(Value::Set(set)) => json!(set.to_string()),
        None => Json::Null,
    }
}

/// What a move means in words, a line for each hierarchy.
pub(super) fn moves(tree: &TreeMove) -> Vec<String> {
    let line = |to: &Group| {
        let from = tree.from.iter().find(|from| from.mount == to.mount);
        let hierarchy =
            to.mount.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!("{hierarchy}: {} -> {}", from.map_or("?", |from| from.path.as_str()), to.path)
    };
    tree.to.iter().map(line).collect()
}

/// A titled list; nothing where the list is empty.
pub(super) fn list(paint: Paint, title: &str, lines: &[impl AsRef<str>], tone: Tone) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n  {}\n", paint.tone(Tone::Head, title));
    for line in lines {
        text.push_str(&paint.wrap("  -", 4, line.as_ref(), tone));
    }
    text
}
