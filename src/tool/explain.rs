//! `explain`: from a container's request to what its files say now.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::cli::ExplainArgs;
use super::paint::{Cell, Paint, Table, Tone, clean};
use super::seen::{FileState, Seen, State, own};
use super::stats::Stats;
use super::status::stats_text;
use super::vm::Machine;
use super::{PROBLEM, Said, Session, human, record};
use crate::annotations::class::Source;
use crate::annotations::{cpu_burst, cpu_qos, resources};
use crate::container::State as OciState;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value, Version};
use crate::kernel::identity::Rung;
use crate::record::{ContainerId, Phase, Record};

const INDENT: usize = record::INDENT;
/// How many of too many matches are named.
const MAX_NAMED: usize = 10;

pub(super) fn run(session: &Session, args: &ExplainArgs) -> anyhow::Result<Said> {
    let hook = session.hook()?;
    let found = find(&hook, &args.container)?;
    let seen: Vec<(Record, Seen, Option<Machine>)> = found
        .into_iter()
        .map(|record| {
            let (seen, machine) = (Seen::look(&hook, &record), Machine::look(&hook, &record));
            (record, seen, machine)
        })
        .collect();
    let well = seen.iter().all(|(_, seen, _)| seen.state == State::Ok);
    let code = if well { 0 } else { PROBLEM };
    if args.json {
        let list: Vec<Json> =
            seen.iter().map(|(record, seen, machine)| json(record, seen, machine.as_ref())).collect();
        return Said::json(&json!({"containers": list}), code);
    }
    let block = |(record, seen, machine): &(Record, Seen, Option<Machine>)| {
        text(session.paint, record, seen, machine.as_ref())
    };
    let blocks: Vec<String> = seen.iter().map(block).collect();
    Ok(Said { text: session.off_notice(&hook) + &blocks.join("\n"), code })
}

/// The containers meant: by id, by pod, or by the beginning of an id.
fn find(hook: &Hook, wanted: &str) -> Result<Vec<Record>> {
    let mut records = hook.store.records()?;
    let what = || format!("container {wanted:?}");
    if let Some(at) = records.iter().position(|(id, _)| id.as_str() == wanted) {
        return Ok(vec![records.swap_remove(at).1?]);
    }
    let pod = |record: &Record| match wanted.split_once('/') {
        Some((namespace, pod)) => {
            record.who.namespace.as_deref() == Some(namespace) && record.who.pod.as_deref() == Some(pod)
        }
        None => record.who.pod.as_deref() == Some(wanted),
    };
    let of_pod: Vec<&Record> =
        records.iter().filter_map(|(_, r)| r.as_ref().ok()).filter(|r| pod(r)).collect();
    if !of_pod.is_empty() {
        let mut namespaces: Vec<&str> =
            of_pod.iter().map(|r| r.who.namespace.as_deref().unwrap_or("-")).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if namespaces.len() > 1 {
            let names: Vec<String> =
                namespaces.iter().map(|namespace| format!("{namespace}/{wanted}")).collect();
            return Err(Error::invalid(what(), "pods of that name are in several namespaces")
                .hint(format!("say which: {}", names.join(", "))));
        }
        return Ok(of_pod.into_iter().cloned().collect());
    }
    let is_start = |id: &ContainerId| !wanted.is_empty() && id.as_str().starts_with(wanted);
    let mut starts: Vec<(ContainerId, Result<Record>)> =
        records.into_iter().filter(|(id, _)| is_start(id)).collect();
    match (starts.len(), starts.pop()) {
        (1, Some((_, record))) => Ok(vec![record?]),
        (0, _) => Err(Error::invalid(what(), "no treated container has this id, pod, or beginning of an id")
            .hint("`plimsoll status` lists them; `plimsoll plan` shows what an untreated one would get")),
        (count, last) => {
            let ids = starts.iter().chain(&last).take(MAX_NAMED).map(|(id, _)| id.to_string());
            let ids: Vec<String> = ids.collect();
            Err(Error::invalid(what(), format!("{count} container ids begin like this"))
                .hint(format!("give more of it: {}", ids.join(", "))))
        }
    }
}

/// What the bundle says was asked for, as far as it is there still.
fn asked(record: &Record) -> Vec<(String, String)> {
    let state = json!({"id": record.who.id, "bundle": record.who.bundle});
    let annotations =
        OciState::parse(state.to_string().as_bytes()).map(|s| s.annotations).unwrap_or_default();
    let others = [
        cpu_qos::KEY,
        cpu_burst::KEY,
        cpu_burst::VOLCANO_ENABLE,
        cpu_burst::VOLCANO_TIME,
        resources::RESOURCE_STATUS,
        resources::EXTENDED_RESOURCES,
    ];
    let is_ours = |key: &str| Source::ALL.iter().any(|s| s.key() == key) || others.contains(&key);
    annotations.into_iter().filter(|(key, _)| is_ours(key)).collect()
}

fn text(paint: Paint, record: &Record, seen: &Seen, machine: Option<&Machine>) -> String {
    let who = &record.who;
    let name = match (&who.namespace, &who.pod, &who.container) {
        (Some(namespace), Some(pod), container) => {
            format!("{namespace}/{pod} {} ({})", container.as_deref().unwrap_or("-"), who.id)
        }
        _ => who.id.clone(),
    };
    let mut text = format!("{}\n", paint.tone(Tone::Head, &clean(&name)));
    let (tone, state) = state_text(seen, record);
    text.push_str(&paint.wrap("  state", INDENT, &state, tone));
    let asked = asked(record);
    for (key, value) in &asked {
        text.push_str(&paint.wrap("  asked", INDENT, &format!("{key} = {value}"), Tone::Plain));
    }
    let class = format!("{}, from {}", record.treatment.class, record.treatment.source);
    let place = format!("{} in {}", record::placement(record.placement), record.groups.cpu.path);
    for (label, value) in [
        ("  class", class),
        ("  treatment", record::treatment(&record.treatment)),
        ("  mechanism", record::rung(record.rung, &record.groups.cpu)),
        ("  placement", place),
    ] {
        text.push_str(&paint.wrap(label, INDENT, &value, Tone::Plain));
    }
    for line in record.tree.iter().flat_map(record::moves) {
        text.push_str(&paint.wrap("  moved", INDENT, &line, Tone::Plain));
    }
    text.push_str(&paint.wrap("  has now", INDENT, &has_now(record), Tone::Plain));
    if let Some(stats) = Stats::read(&record.groups.cpu) {
        text.push_str(&paint.wrap("  since then", INDENT, &stats_text(stats), Tone::Plain));
    }
    text.extend(machine.map(|machine| machine.text(paint, INDENT, record)));
    text.push('\n');
    text.push_str(&files(paint, seen));
    if let Some(trouble) = &seen.trouble {
        text.push_str(&paint.wrap("  error", INDENT, trouble, Tone::Bad));
    }
    text.push_str(&record::list(paint, "Errors when it started", &record.errors, Tone::Bad));
    text.push_str(&record::list(
        paint,
        "What this kernel or placement could not give",
        &record.lost,
        Tone::Warn,
    ));
    text.push_str(&record::list(paint, "What the placement means", &consequences(record), Tone::Plain));
    text
}

fn state_text(seen: &Seen, record: &Record) -> (Tone, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let ago = now.saturating_sub(record.created);
    let since = format!("treated {} ago, pid {}", duration(ago), record.pid);
    match seen.state {
        State::Ok => (Tone::Good, format!("ok: every file says what was planned; {since}")),
        State::Drift => {
            let count = seen.drifted().count();
            let what = format!("drift: {count} of {} files changed", seen.files.len());
            (Tone::Bad, format!("{what}; `plimsoll repair` puts them right; {since}"))
        }
        State::Degraded => (Tone::Warn, format!("degraded: not everything could be given; {since}")),
        State::Applying if record.is_booting() => (
            Tone::Warn,
            format!(
                "the virtual machine is starting; its hooks, or the start of its next container, do the rest; {since}"
            ),
        ),
        State::Applying => (
            Tone::Warn,
            format!("the hook was cut off, or is at work; `plimsoll repair` finishes it; {since}"),
        ),
        State::Gone => (
            Tone::Bad,
            format!("the container is gone and was not given back; `plimsoll repair` does it; {since}"),
        ),
    }
}

/// What the container's own files say, also where Plimsoll wrote nothing.
fn has_now(record: &Record) -> String {
    let period = record::period(&record.groups.cpu);
    let weight = if record.groups.cpu.version == Version::V1 { Knob::Shares } else { Knob::Weight };
    let part =
        |knob: Knob| own(record, knob).map(|value| format!("{knob} {}", human::value(knob, &value, period)));
    let parts: Vec<String> =
        [weight, Knob::Quota, Knob::Burst, Knob::Cpus].into_iter().filter_map(part).collect();
    if parts.is_empty() { "nothing: its group is gone".to_owned() } else { parts.join(", ") }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn files(paint: Paint, seen: &Seen) -> String {
    if seen.files.is_empty() {
        return "  Nothing was written: everything was as this class wants it.\n".to_owned();
    }
    let mut table = Table::new(2, &["LEVEL", "FILE", "BEFORE", "PLANNED", "NOW", "STATE", "WHY"]);
    let mut paths: Vec<(&str, &str)> = Vec::new();
    for file in &seen.files {
        let (group, knob) = (&file.write.group, file.write.knob);
        let period = record::period(group);
        let show = |value: &Value| human::value(knob, value, period);
        let (tone, state) = match file.state {
            FileState::Holds => (Tone::Good, "ok"),
            FileState::Drift => (Tone::Bad, "DRIFT"),
            FileState::NotGiven => (Tone::Warn, "not given"),
            FileState::ToCome => (Tone::Warn, "to come"),
            FileState::Theirs => (Tone::Dim, "others' group"),
            FileState::Gone => (Tone::Bad, "gone"),
        };
        let why = match &file.wanted {
            Some(wanted) => format!("{}; by now {wanted}", file.write.why),
            None => file.write.why.clone(),
        };
        table.row(vec![
            file.write.level.name().into(),
            record::file_name(group, knob).into(),
            Cell::new(file.before.as_ref().map_or_else(|| "new".to_owned(), |v| v.to_string()), Tone::Dim),
            show(&file.write.value).into(),
            Cell::new(file.now.as_ref().map_or_else(|| "-".to_owned(), |v| v.to_string()), tone),
            Cell::new(state, tone),
            why.into(),
        ]);
        let path = (file.write.level.name(), group.path.as_str());
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut groups = Table::new(2, &["LEVEL", "GROUP"]);
    for (level, path) in paths {
        groups.row(vec![level.into(), path.into()]);
    }
    format!("{}\n{}", table.text(paint), groups.text(paint))
}

/// What the placement costs and brings, and where it shows already.
fn consequences(record: &Record) -> Vec<String> {
    if record.vm.is_some() {
        return super::vm::consequences(record);
    }
    if record.tree.as_ref().is_some_and(|tree| tree.to.is_empty()) {
        return vec![
            "the runtime made the container's groups in Plimsoll's tree, in every hierarchy: `exec` joins them, `update` writes them".to_owned(),
            "kubelet's and cAdvisor's figures of the pod do not count this container, neither CPU nor memory".to_owned(),
        ];
    }
    if record.tree.is_none() {
        let mut lines = vec![
            "the container is in the engine's group: `exec` joins it, `update` writes it, kubelet and cAdvisor see it".to_owned(),
        ];
        if record.rung == Rung::Idle && record.treatment.identity.is_some_and(|identity| identity < 0) {
            lines.push("while a group is idle, kubelet's and the runtime's writes of its shares or weight fail with EINVAL; the value comes back when the container ends".to_owned());
        }
        return lines;
    }
    let mut lines = vec![
        "cpu and cpuset are Plimsoll's own groups, which nobody else writes; memory, pids and the rest are where the engine put them".to_owned(),
        "kubelet's and cAdvisor's CPU figures of the pod do not count this container".to_owned(),
        "`exec` joins the engine's group, so its processes do not have this class; `update` writes the engine's group, and this one too where it goes through plimsoll-runtime".to_owned(),
    ];
    for knob in [Knob::Shares, Knob::Quota, Knob::Cpus] {
        let origin = record.origin.of(knob.controller()).and_then(|group| group.read(knob).ok().flatten());
        let Some(origin) = origin else { continue };
        let before =
            record.writes.iter().find(|d| d.write.group == record.groups.cpu && d.write.knob == knob);
        let given = before.map(|done| &done.write.value);
        if let (Some(now), Some(given)) = (own(record, knob), given) {
            if origin != *given && now == *given {
                lines.push(format!(
                    "the engine's group says {knob} {origin} by now: an `update` that does not reach this container, which has {now}"
                ));
            }
        }
    }
    lines
}

fn json(record: &Record, seen: &Seen, machine: Option<&Machine>) -> Json {
    let asked: serde_json::Map<String, Json> =
        asked(record).into_iter().map(|(k, v)| (k, Json::from(v))).collect();
    json!({
        "id": record.who.id,
        "state": seen.state,
        "asked": asked,
        "class": record.treatment.class,
        "source": record.treatment.source,
        "files": seen.files.iter().map(|file| file.json()).collect::<Vec<_>>(),
        "drift": seen.drifted().map(|file| file.json()).collect::<Vec<_>>(),
        "lost": record.lost,
        "errors": record.errors,
        "trouble": seen.trouble,
        "consequences": consequences(record),
        "stats": Stats::read(&record.groups.cpu),
        "is_cut_off": record.phase == Phase::Applying,
        "vm": machine,
        "record": record,
    })
}
