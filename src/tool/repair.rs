//! `repair`: what the hook could not finish, and what others changed.

use super::node;
use super::paint::Tone;
use super::{PROBLEM, Said, Session};

pub(super) fn run(session: &Session, dry_run: bool) -> anyhow::Result<Said> {
    let hook = session.hook()?;
    let repaired = if dry_run { hook.ailments()? } else { hook.repair()? };
    let paint = session.paint;
    let mut text = String::new();
    if repaired.done.is_empty() {
        text.push_str("Nothing to repair.\n");
    } else if dry_run {
        text.push_str("Nothing was changed. This is what `plimsoll repair` would report:\n");
    }
    for line in &repaired.done {
        text.push_str(&paint.wrap("-", 2, line, Tone::Plain));
    }
    if !repaired.errors.is_empty() {
        text.push_str(&format!("\n{}\n", paint.tone(Tone::Head, "What could not be put right")));
        for line in &repaired.errors {
            text.push_str(&paint.wrap("-", 2, line, Tone::Bad));
        }
        if !node::is_root() {
            text.push_str("Run it as root: cgroups belong to root.\n");
        }
    }
    let code = if repaired.errors.is_empty() { 0 } else { PROBLEM };
    Ok(Said { text, code })
}
