//! Text for people: colours on a terminal, columns by display width, long texts wrapped.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also in a pipe
    Always,
    /// Not at all
    Never,
}

/// What a piece of text is, and so how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Plain text.
    #[default]
    Plain,
    /// A title.
    Head,
    /// As it should be.
    Good,
    /// To be looked at.
    Warn,
    /// Wrong.
    Bad,
    /// By the way.
    Dim,
}

impl Tone {
    fn style(self) -> Style {
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Head => Style::new().bold(),
            Self::Good => color(AnsiColor::Green),
            Self::Warn => color(AnsiColor::Yellow),
            Self::Bad => color(AnsiColor::Red).bold(),
            Self::Dim => Style::new().dimmed(),
        }
    }
}

/// How standard output wants its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    color: bool,
    /// The terminal's width; `None` in a pipe, where nothing is wrapped.
    width: Option<usize>,
}

impl Paint {
    /// For standard output. `NO_COLOR` counts where it is not empty (no-color.org).
    pub(super) fn of(when: ColorWhen) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !unwanted && !dumb,
        };
        let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
        Self { color, width: terminal.then_some(width) }
    }

    /// Whether standard output is a terminal.
    pub(super) fn is_terminal(self) -> bool {
        self.width.is_some()
    }

    /// The text in its tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        let style = tone.style();
        if self.color && style != Style::new() && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// A text behind a label of `indent` columns, wrapped on a terminal.
    pub(super) fn wrap(self, label: &str, indent: usize, text: &str, tone: Tone) -> String {
        self.labelled(label, Tone::Plain, indent, text, tone)
    }

    /// The same with a label in a tone of its own.
    pub(super) fn labelled(
        self,
        label: &str,
        of_label: Tone,
        indent: usize,
        text: &str,
        tone: Tone,
    ) -> String {
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(24));
        let mut out = String::new();
        for (index, line) in lines(&clean(text), room).into_iter().enumerate() {
            let head = if index == 0 { label } else { "" };
            out.push_str(&self.tone(of_label, head));
            out.push_str(&" ".repeat(indent.saturating_sub(head.width())));
            out.push_str(&self.tone(tone, &line));
            out.push('\n');
        }
        out
    }
}

/// One field of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field in a tone.
    pub(super) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: clean(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table with aligned columns. The last one takes what room is left and is wrapped there, or shortened where every
/// row is to be one line.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    indent: usize,
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
    is_one_line: bool,
}

impl Table {
    /// A table with a header, `indent` columns from the left.
    pub(super) fn new(indent: usize, header: &[&str]) -> Self {
        Self {
            indent,
            header: header.iter().map(|&h| h.to_owned()).collect(),
            rows: Vec::new(),
            is_one_line: false,
        }
    }

    /// Shortens the last column on a terminal that is too narrow, in place of wrapping it.
    pub(super) fn one_line(mut self) -> Self {
        self.is_one_line = true;
        self
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table's text.
    pub(super) fn text(&self, paint: Paint) -> String {
        let columns = self.header.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.text.width());
                let title = self.header.get(column).map_or(0, |h| h.width());
                cells.chain([title]).max().unwrap_or(0)
            })
            .collect();
        let before_last = widths.iter().take(columns.saturating_sub(1)).map(|w| w + 2).sum::<usize>();
        let start = self.indent + before_last;
        let room = paint.width.map_or(usize::MAX, |width| width.saturating_sub(start).max(24));
        let mut out = String::new();
        let titles: Vec<Cell> = self.header.iter().map(|h| Cell::new(h, Tone::Dim)).collect();
        for row in [titles].iter().filter(|_| self.header.iter().any(|h| !h.is_empty())).chain(&self.rows) {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths).take(columns.saturating_sub(1)) {
                let fill = width.saturating_sub(cell.text.width()) + 2;
                line.push_str(&paint.tone(cell.tone, &cell.text));
                line.push_str(&" ".repeat(fill));
            }
            if let Some(last) = row.get(columns.saturating_sub(1)) {
                let parts = if self.is_one_line {
                    vec![shortened(&last.text, room)]
                } else {
                    lines(&last.text, room)
                };
                for (index, part) in parts.into_iter().enumerate() {
                    if index > 0 {
                        out.push_str(line.trim_end());
                        out.push('\n');
                        line = " ".repeat(start);
                    }
                    line.push_str(&paint.tone(last.tone, &part));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The text without control characters: names out of annotations must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Lines of at most `room` columns, broken at blanks where there are any.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let Some(line) = lines.last_mut() else { return lines };
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= room {
                line.push_str(if gap == 1 { " " } else { "" });
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                // Longer than a whole line: a cgroup path, which has no blanks.
                let (head, tail) = word.split_at(fitting(word, room));
                line.push_str(head);
                word = tail;
            }
            lines.push(String::new());
        }
    }
    lines
}

/// The text with its middle left out where it does not fit: a cgroup path says most at its ends.
fn shortened(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let keep = room.saturating_sub(1);
    let (head, tail) = (keep / 2, keep - keep / 2);
    let start = text.get(..fitting(text, head)).unwrap_or_default();
    let reversed: String = text.chars().rev().collect();
    let end: String = reversed.get(..fitting(&reversed, tail)).unwrap_or_default().chars().rev().collect();
    format!("{start}…{end}")
}

/// How many bytes of a word fit; at least one character.
fn fitting(word: &str, room: usize) -> usize {
    let mut used = 0;
    for (at, c) in word.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room && at > 0 {
            return at;
        }
    }
    word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_display_width() {
        let mut table = Table::new(0, &["NAME", "X"]);
        table.row(vec!["日本".into(), "1".into()]);
        table.row(vec!["abcdef".into(), "2".into()]);
        assert_eq!(table.text(Paint { color: false, width: None }), "NAME    X\n日本    1\nabcdef  2\n");
    }

    #[test]
    fn long_texts_are_wrapped_and_nothing_is_lost() {
        let path = format!("/kubepods.slice/{}", "x".repeat(90));
        for text in ["a few short words that do not fit", path.as_str()] {
            let wrapped = lines(text, 20);
            assert!(wrapped.iter().all(|line| line.width() <= 20), "{wrapped:?}");
            assert_eq!(wrapped.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn a_path_is_shortened_in_its_middle() {
        assert_eq!(shortened("/kubepods.slice/abc.scope", 12), "/kube….scope");
        assert_eq!(shortened("日本日本日本", 7), "日…本");
        assert_eq!(shortened("/short", 12), "/short");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let paint = Paint { color: true, width: Some(80) };
        let mut table = Table::new(0, &["A"]);
        table.row(vec!["\u{1b}[2Jx\n".into()]);
        assert!(!table.text(paint).contains("\u{1b}[2J"));
        assert!(!paint.wrap("", 0, "\u{1b}[2J", Tone::Plain).contains("\u{1b}[2J"));
    }
}
