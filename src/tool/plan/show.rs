//! A plan for people and for programs.

use serde_json::{Value as Json, json};

use super::{Outcome, Planned, Subject};
use crate::error::Result;
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value};
use crate::plan::{Plan, Write};
use crate::policy::treatment::Treatment;
use crate::tool::paint::{Cell, Paint, Table, Tone};
use crate::tool::{human, record};

const INDENT: usize = record::INDENT;

/// What the file of a write says; `None` where the group or the file is not there.
fn now(write: &Write) -> Option<Value> {
    if write.group.exists() { write.group.read(write.knob).ok().flatten() } else { None }
}

/// The CFS period of a write's group: planned, as it is, or the kernel's default.
fn period(writes: &[Write], write: &Write) -> Option<i64> {
    let planned = writes.iter().find(|w| w.group == write.group && w.knob == Knob::Period);
    planned.and_then(|w| w.value.int()).or_else(|| record::period(&write.group))
}

pub(super) fn text(paint: Paint, hook: &Hook, planned: &[Planned]) -> String {
    let mut blocks = Vec::new();
    // Containers of one pod share most notes.
    let mut said: Vec<&String> = Vec::new();
    for Planned { subject, outcome } in planned {
        let mut text = format!("{}\n", paint.tone(Tone::Head, &crate::tool::paint::clean(&subject.title)));
        match outcome {
            Outcome::Untouched(why) => {
                text.push_str(&paint.wrap("  untouched", INDENT, why, Tone::Plain));
            }
            Outcome::Failed { error, refuses } => {
                text.push_str(&paint.wrap("  error", INDENT, &error.to_string(), Tone::Bad));
                let then = match refuses {
                    true => "the container does not start (on_error = \"fail\")",
                    false => "the container starts untreated (on_error = \"ignore\")",
                };
                text.push_str(&paint.wrap("  then", INDENT, then, Tone::Plain));
            }
            Outcome::Treated { drift } if drift.is_empty() => {
                let why =
                    "treated already, and every file says what was planned: the hook would write nothing";
                text.push_str(&paint.wrap("  treated", INDENT, why, Tone::Good));
            }
            Outcome::Treated { drift } => {
                let why =
                    "already; the hook would put right what was changed since. `plimsoll explain` says more";
                text.push_str(&paint.wrap("  treated", INDENT, why, Tone::Warn));
                text.push('\n');
                text.push_str(&writes(paint, drift));
            }
            Outcome::Planned { treatment, plan } => planned_text(&mut text, paint, hook, treatment, plan),
        }
        let new: Vec<&String> = subject.notes.iter().filter(|note| !said.contains(note)).collect();
        text.push_str(&record::list(paint, "Notes", &new, Tone::Dim));
        said.extend(new);
        blocks.push(text);
    }
    blocks.join("\n")
}

fn planned_text(text: &mut String, paint: Paint, hook: &Hook, treatment: &Treatment, plan: &Plan) {
    let class = format!("{}, from {}", treatment.class, treatment.source);
    let exists = if plan.groups.cpu.exists() { "" } else { " (not there yet)" };
    let place = format!("{} in {}{exists}", record::placement(plan.placement), plan.groups.cpu.path);
    for (label, value) in [
        ("  class", class),
        ("  treatment", record::treatment(treatment)),
        ("  mechanism", record::rung(plan.rung, &plan.groups.cpu)),
        ("  placement", place),
    ] {
        text.push_str(&paint.wrap(label, INDENT, &value, Tone::Plain));
    }
    for (switch, on) in &plan.switches {
        let now = match switch.read(&hook.roots) {
            Ok(Some(on)) => u8::from(on).to_string(),
            _ => "?".to_owned(),
        };
        let line = format!("{}: {now} -> {}, for the whole node", switch.path(), u8::from(*on));
        text.push_str(&paint.wrap("  sysctl", INDENT, &line, Tone::Warn));
    }
    for line in plan.tree.iter().flat_map(record::moves) {
        text.push_str(&paint.wrap("  move", INDENT, &line, Tone::Plain));
    }
    text.push('\n');
    if plan.writes.is_empty() {
        text.push_str("  Nothing to write: everything is as this class wants it.\n");
    } else {
        text.push_str(&writes(paint, &plan.writes));
    }
    text.push_str(&record::list(paint, "What this kernel or placement cannot give", &plan.lost, Tone::Warn));
}

/// The writes, and which group each level is.
fn writes(paint: Paint, writes: &[Write]) -> String {
    let mut table = Table::new(2, &["LEVEL", "FILE", "NOW", "WRITE", "WHY"]);
    let mut groups = Table::new(2, &["LEVEL", "GROUP"]);
    let mut seen: Vec<(&'static str, &str)> = Vec::new();
    for write in writes {
        let show = |value: &Value| human::value(write.knob, value, period(writes, write));
        let now = now(write);
        let (tone, current) = match &now {
            Some(now) if *now == write.value => (Tone::Dim, show(now)),
            Some(now) => (Tone::Plain, show(now)),
            None => (Tone::Dim, if write.group.exists() { "no such file" } else { "new" }.to_owned()),
        };
        let value = match &write.fallback {
            Some(second) => format!("{}, else {second}", show(&write.value)),
            None => show(&write.value),
        };
        table.row(vec![
            write.level.name().into(),
            record::file_name(&write.group, write.knob).into(),
            Cell::new(current, tone),
            value.into(),
            Cell::new(&write.why, Tone::Plain),
        ]);
        let line = (write.level.name(), write.group.path.as_str());
        if !seen.contains(&line) {
            seen.push(line);
            groups.row(vec![line.0.into(), line.1.into()]);
        }
    }
    format!("{}\n{}", table.text(paint), groups.text(paint))
}

pub(super) fn json(planned: &[Planned]) -> Json {
    let one = |Planned { subject, outcome }: &Planned| {
        let mut object = json!({
            "title": subject.title,
            "container": subject.who,
            "group": place(subject).ok(),
            "exists": subject.place.as_ref().is_ok_and(|place| place.groups.cpu.exists()),
            "notes": subject.notes,
        });
        let rest = match outcome {
            Outcome::Untouched(why) => json!({"outcome": "untouched", "why": why}),
            Outcome::Failed { error, refuses } => {
                json!({"outcome": "failed", "error": error.to_string(), "starts": !refuses})
            }
            Outcome::Treated { drift } => {
                json!({"outcome": "treated", "writes": drift.iter().map(write_json).collect::<Vec<_>>()})
            }
            Outcome::Planned { treatment, plan } => json!({
                "outcome": "planned",
                "class": treatment.class,
                "source": treatment.source,
                "treatment": treatment,
                "placement": plan.placement,
                "rung": plan.rung,
                "switches": plan.switches.iter().map(|(switch, on)| json!({"file": switch.path(), "value": u8::from(*on)})).collect::<Vec<_>>(),
                "tree": plan.tree,
                "groups": plan.groups,
                "writes": plan.writes.iter().map(write_json).collect::<Vec<_>>(),
                "lost": plan.lost,
            }),
        };
        if let (Json::Object(object), Json::Object(rest)) = (&mut object, rest) {
            object.extend(rest);
        }
        object
    };
    json!({"containers": planned.iter().map(one).collect::<Vec<_>>()})
}

fn place(subject: &Subject) -> Result<&str, ()> {
    subject.place.as_ref().map(|place| place.groups.cpu.path.as_str()).map_err(|_| ())
}

/// A write as the record has it, with its file and what that says now.
fn write_json(write: &Write) -> Json {
    let mut object = serde_json::to_value(write).unwrap_or_default();
    if let Json::Object(fields) = &mut object {
        fields.insert("file".to_owned(), json!(write.group.file(write.knob)));
        fields.insert("now".to_owned(), record::json_value(now(write).as_ref()));
    }
    object
}
