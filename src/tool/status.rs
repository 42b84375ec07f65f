//! `status`: all treated containers, a row each.

use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::cli::StatusArgs;
use super::paint::{Cell, Paint, Table, Tone};
use super::seen::{Seen, State, own};
use super::stats::Stats;
use super::{DRIFT, Said, Session, human, print, record, switch};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value};
use crate::record::{ContainerId, Record};

/// How much of a container id is enough to know it by.
const SHORT_ID: usize = 12;

/// One container.
struct Row {
    id: ContainerId,
    /// The record and what is now; or why the record cannot be read.
    found: Result<(Record, Seen), Error>,
}

impl Row {
    fn is_well(&self) -> bool {
        self.found.as_ref().is_ok_and(|(_, seen)| seen.state == State::Ok && seen.trouble.is_none())
    }
}

pub(super) fn run(session: &Session, args: &StatusArgs) -> anyhow::Result<Said> {
    let hook = session.hook()?;
    let Some(seconds) = args.watch else {
        let rows = rows(&hook)?;
        let well = rows.iter().all(Row::is_well);
        let code = if args.exit_code && !well { DRIFT } else { 0 };
        if args.json {
            return Said::json(&json(session, &hook, &rows), code);
        }
        return Ok(Said { text: session.off_notice(&hook) + &text(session.paint, &rows), code });
    };
    loop {
        let rows = rows(&hook)?;
        let out = if args.json {
            format!("{}\n", json(session, &hook, &rows))
        } else if session.paint.is_terminal() {
            // To the upper left, and clear: the last look disappears.
            let title = session.paint.tone(Tone::Dim, &format!("every {seconds} s; Ctrl-C ends"));
            format!("\u{1b}[H\u{1b}[2J{title}\n\n{}{}", session.off_notice(&hook), text(session.paint, &rows))
        } else {
            format!("{}{}\n", session.off_notice(&hook), text(session.paint, &rows))
        };
        print(&out)?;
        thread::sleep(Duration::from_secs(seconds));
    }
}

fn rows(hook: &Hook) -> Result<Vec<Row>> {
    let row = |(id, record): (ContainerId, Result<Record>)| {
        let found = record.map(|record| {
            let seen = Seen::look(hook, &record);
            (record, seen)
        });
        Row { id, found }
    };
    let mut rows: Vec<Row> = hook.store.records()?.into_iter().map(row).collect();
    let key = |row: &Row| {
        let who = row.found.as_ref().ok().map(|(record, _)| {
            (
                record.treatment.class,
                record.who.namespace.clone(),
                record.who.pod.clone(),
                record.who.container.clone(),
            )
        });
        (who.is_none(), who, row.id.as_str().to_owned())
    };
    rows.sort_by_cached_key(key);
    Ok(rows)
}

fn text(paint: Paint, rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No treated containers.\n".to_owned();
    }
    let header = [
        "ID",
        "CLASS",
        "POD",
        "CONTAINER",
        "PLACEMENT",
        "IDENTITY",
        "BURST",
        "CPUS",
        "THROTTLED",
        "STATE",
        "CGROUP",
    ];
    let mut table = Table::new(0, &header).one_line();
    let mut unreadable = Vec::new();
    for row in rows {
        let id: String = row.id.as_str().chars().take(SHORT_ID).collect();
        match &row.found {
            Ok((record, seen)) => table.row(cells(&id, record, seen)),
            Err(error) => {
                let mut cells: Vec<Cell> = vec![id.into()];
                cells.resize(header.len() - 2, "?".into());
                cells.extend([Cell::new("unreadable", Tone::Bad), "".into()]);
                table.row(cells);
                unreadable.push(format!("{}: {error}", row.id));
            }
        }
    }
    let mut text = table.text(paint);
    let bad = rows.iter().filter(|row| !row.is_well()).count();
    let count = |n: usize| if n == 1 { "1 container".to_owned() } else { format!("{n} containers") };
    text.push_str(&format!("\n{}", count(rows.len())));
    match bad {
        0 => text.push_str(", all as they should be.\n"),
        _ => {
            let words = format!("{bad} not as it should be");
            text.push_str(&format!(
                ", {}: `plimsoll explain ID` says why, `plimsoll repair` puts changed values right.\n",
                paint.tone(Tone::Warn, &words)
            ));
        }
    }
    for line in unreadable {
        text.push_str(&paint.wrap("-", 2, &line, Tone::Bad));
    }
    text
}

fn cells(id: &str, record: &Record, seen: &Seen) -> Vec<Cell> {
    let who = &record.who;
    let pod = match (&who.namespace, &who.pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        (_, Some(pod)) => pod.clone(),
        _ => who.pod_uid.as_ref().map_or_else(|| "-".to_owned(), |uid| format!("uid {uid}")),
    };
    let drifted = seen.drifted().count();
    let (tone, state) = match seen.state {
        State::Ok => (Tone::Good, "ok".to_owned()),
        State::Drift => (Tone::Bad, format!("drift ({drifted})")),
        State::Gone => (Tone::Bad, "gone".to_owned()),
        State::Degraded | State::Applying => (Tone::Warn, seen.state.name().to_owned()),
    };
    let burst = own(record, Knob::Burst).and_then(|value| value.int());
    let cpus = own(record, Knob::Cpus).filter(|value| value.set().is_none_or(|set| !set.is_empty()));
    let placement = match record.tree {
        Some(_) => "class-tree",
        None => record::placement(record.placement),
    };
    vec![
        id.into(),
        record.treatment.class.name().into(),
        pod.into(),
        who.container.as_deref().unwrap_or("-").into(),
        placement.into(),
        identity(record, seen).into(),
        burst
            .map_or_else(|| "-".to_owned(), |us| if us == 0 { "0".to_owned() } else { format!("{us} us") })
            .into(),
        cpus.map_or_else(|| "-".to_owned(), |value| value.to_string()).into(),
        Stats::read(&record.groups.cpu).map_or_else(|| "-".to_owned(), Stats::throttling).into(),
        Cell::new(state, tone),
        record.groups.cpu.path.as_str().into(),
    ]
}

/// `idle 1 (pod)`: the rung, the value now, and the level it sits at where that is not the container.
fn identity(record: &Record, seen: &Seen) -> String {
    // Online work needs no write on the lower rungs: it is best effort that is set below it.
    let Some(file) = seen.identity(record) else { return "-".to_owned() };
    let now = file.now.as_ref().map_or_else(|| "?".to_owned(), Value::to_string);
    let level = match file.write.level {
        crate::plan::Level::Container => String::new(),
        level => format!(" ({})", level.name()),
    };
    format!("{} {now}{level}", record.rung)
}

fn json(session: &Session, hook: &Hook, rows: &[Row]) -> Json {
    let row = |row: &Row| match &row.found {
        Err(error) => json!({"id": row.id.as_str(), "state": "unreadable", "error": error.to_string()}),
        Ok((record, seen)) => json!({
            "id": row.id.as_str(),
            "class": record.treatment.class,
            "source": record.treatment.source,
            "namespace": record.who.namespace,
            "pod": record.who.pod,
            "pod_uid": record.who.pod_uid,
            "container": record.who.container,
            "pid": record.pid,
            "created": record.created,
            "group": record.groups.cpu.path,
            "placement": record.placement,
            "rung": record.rung,
            "identity": seen.identity(record).map(|file| json!({
                "level": file.write.level, "knob": file.write.knob,
                "value": record::json_value(file.now.as_ref()),
            })),
            "quota": record::json_value(own(record, Knob::Quota).as_ref()),
            "burst": record::json_value(own(record, Knob::Burst).as_ref()),
            "cpus": record::json_value(own(record, Knob::Cpus).as_ref()),
            "stats": Stats::read(&record.groups.cpu),
            "phase": record.phase,
            "state": seen.state,
            "drift": seen.drifted().map(|file| file.json()).collect::<Vec<_>>(),
            "trouble": seen.trouble,
            "lost": record.lost,
            "errors": record.errors,
        }),
    };
    json!({
        "disabled": switch::is_off(session, Some(hook)),
        "containers": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The statistics in words.
pub(super) fn stats_text(stats: Stats) -> String {
    if stats.periods == 0 {
        return "never throttled: no period with a quota yet".to_owned();
    }
    let burst = match stats.bursts {
        0 => "no bursts".to_owned(),
        n => format!("{n} bursts, {} in all", human::time(stats.burst_ns)),
    };
    let permille = stats.throttled.saturating_mul(1000) / stats.periods;
    format!(
        "throttled in {} of {} periods ({}.{} %), {} in all; {burst}",
        stats.throttled,
        stats.periods,
        permille / 10,
        permille % 10,
        human::time(stats.throttled_ns),
    )
}
