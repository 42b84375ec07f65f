//! `check`: what this node can do, and what stands in the way; each line with what to do about it.

mod engines;
mod files;
mod kata;
mod kernel;
mod runtimes;

use serde::Serialize;
use serde_json::json;

use super::paint::{Paint, Tone};
use super::{PROBLEM, Said, Session};

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// As it should be.
    Ok,
    /// Works, but less well than it could.
    Warn,
    /// Does not work.
    Bad,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    /// What it is about.
    topic: &'static str,
    mark: Mark,
    /// What was found.
    found: String,
    /// What to do about it; empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    todo: String,
}

/// The lines found so far.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    fn ok(&mut self, topic: &'static str, found: impl Into<String>) {
        self.add(topic, Mark::Ok, found, "");
    }

    fn add(&mut self, topic: &'static str, mark: Mark, found: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Line { topic, mark, found: found.into(), todo: todo.into() });
    }

    fn warn(&mut self, topic: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(topic, Mark::Warn, found, todo);
    }

    fn bad(&mut self, topic: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(topic, Mark::Bad, found, todo);
    }
}

pub(super) fn run(session: &Session, as_json: bool) -> anyhow::Result<Said> {
    let mut lines = Lines::default();
    let config = files::config(session, &mut lines);
    kernel::check(session, &config, &mut lines);
    files::check(session, &config, &mut lines);
    runtimes::check(session, &mut lines);
    engines::check(session, &mut lines);
    kata::check(session, &mut lines);
    let Lines(lines) = lines;
    let code = if lines.iter().any(|line| line.mark == Mark::Bad) { PROBLEM } else { 0 };
    if as_json {
        return Said::json(&json!({"lines": lines}), code);
    }
    Ok(Said { text: text(session.paint, &lines), code })
}

fn text(paint: Paint, lines: &[Line]) -> String {
    const TOPIC: usize = 16;
    const MARK: usize = 6;
    let mut text = String::new();
    let mut last = "";
    for line in lines {
        let topic = if line.topic == last { "" } else { line.topic };
        last = line.topic;
        let (tone, mark) = match line.mark {
            Mark::Ok => (Tone::Good, "ok"),
            Mark::Warn => (Tone::Warn, "warn"),
            Mark::Bad => (Tone::Bad, "bad"),
        };
        // Colours have no width, so the padding is made by hand.
        let head = format!(
            "{topic}{}{}{}",
            " ".repeat(TOPIC - topic.len()),
            paint.tone(tone, mark),
            " ".repeat(MARK - mark.len())
        );
        let body = paint.wrap("", TOPIC + MARK, &line.found, Tone::Plain);
        text.push_str(&head);
        text.push_str(body.trim_start());
        if !line.todo.is_empty() {
            let todo = format!("-> {}", line.todo);
            text.push_str(&paint.wrap("", TOPIC + MARK, &todo, Tone::Dim));
        }
    }
    let count = |mark| lines.iter().filter(|line| line.mark == mark).count();
    let (warn, bad) = (count(Mark::Warn), count(Mark::Bad));
    let verdict = match (bad, warn) {
        (0, 0) => paint.tone(Tone::Good, "This node is ready."),
        (0, n) => format!("{} {n} to look at.", paint.tone(Tone::Good, "This node works.")),
        (n, w) => format!("{} {w} more to look at.", paint.tone(Tone::Bad, &format!("{n} in the way."))),
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}
