//! What is shown of a measurement: the table, the goals, the JSON, the plots, and a page that holds all of it.

mod plot;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::figures::{Figure, Verdict};
pub(crate) use plot::{Panel, lines, panels};

/// All that one measurement came to.
#[derive(Debug)]
pub(crate) struct Section {
    /// Names its files: `colocation`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What was done, in a few sentences.
    pub(crate) what: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) goals: Vec<Goal>,
    /// What makes the figures say less than they seem to.
    pub(crate) doubts: Vec<String>,
    /// Each plot's name and picture.
    pub(crate) plots: Vec<(&'static str, String)>,
    pub(crate) json: Value,
}

/// Rows of text under a head.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// What was to be shown, and whether it was.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) measured: Figure,
    pub(crate) decimals: usize,
    pub(crate) verdict: Verdict,
}

impl Goal {
    /// The figure is to be at most so much.
    pub(crate) fn at_most(what: &str, measured: Figure, most: f64, decimals: usize) -> Self {
        let (what, goal) = (what.to_owned(), format!("at most {most}"));
        Self { what, goal, measured, decimals, verdict: measured.at_most(most) }
    }

    /// The figure is to be at least so much.
    pub(crate) fn at_least(what: &str, measured: Figure, least: f64, decimals: usize) -> Self {
        let (what, goal) = (what.to_owned(), format!("at least {least}"));
        Self { what, goal, measured, decimals, verdict: measured.at_least(least) }
    }

    /// A figure that the wall clock makes is no witness on a machine that was not quiet.
    pub(crate) fn unless(mut self, noisy: bool) -> Self {
        if noisy {
            self.verdict = Verdict::CannotTell;
        }
        self
    }
}

impl Section {
    /// Prints it, and writes its JSON and its plots.
    pub(crate) fn publish(&mut self) {
        println!("\n== {}\n{}", self.title, self.what);
        if !self.goals.is_empty() {
            self.tables.push(goals(&self.goals));
            self.json["goals"] = self.goals.iter().map(|g| {
                json!({"what": g.what, "goal": g.goal, "measured": g.measured.json(), "verdict": g.verdict.text()})
            }).collect();
        }
        self.json["doubts"] = json!(self.doubts);
        for table in &self.tables {
            table.print();
        }
        for doubt in &self.doubts {
            println!("!! {doubt}");
        }
        write(&format!("{}.json", self.name), &format!("{:#}\n", self.json));
        for (name, svg) in &self.plots {
            write(&format!("{name}.svg"), svg);
        }
    }

    fn html(&self) -> String {
        let mut html = format!("<h2>{}</h2>\n<p>{}</p>\n", escaped(self.title), escaped(&self.what));
        for (_, svg) in &self.plots {
            let _ = writeln!(html, "<figure>{svg}</figure>");
        }
        for table in &self.tables {
            html += &table.html();
        }
        for doubt in &self.doubts {
            let _ = writeln!(html, "<p class=\"doubt\">{}</p>", escaped(doubt));
        }
        html
    }
}

impl Table {
    fn print(&self) {
        println!("\n{}", self.title);
        let lines = || {
            std::iter::once(self.head.iter().map(|h| (*h).to_owned()).collect())
                .chain(self.rows.iter().cloned())
        };
        let width =
            |column: usize| lines().map(|l: Vec<String>| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for line in lines() {
            print!("  {:<1$}", line[0], widths[0]);
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                print!("  {cell:>width$}");
            }
            println!();
        }
    }

    fn html(&self) -> String {
        let row = |tag: &str, cells: Vec<&str>| {
            let cells: String =
                cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String =
            self.rows.iter().map(|cells| row("td", cells.iter().map(String::as_str).collect())).collect();
        format!(
            "<div class=\"wide\"><table><caption>{}</caption>\n{}{rows}</table></div>\n",
            escaped(&self.title),
            row("th", self.head.clone())
        )
    }
}

fn goals(goals: &[Goal]) -> Table {
    let row = |g: &Goal| {
        vec![g.what.clone(), g.goal.clone(), g.measured.text(g.decimals), g.verdict.text().to_owned()]
    };
    Table {
        title: "What it should come to".to_owned(),
        head: vec!["figure", "goal", "measured [95 %]", "verdict"],
        rows: goals.iter().map(row).collect(),
    }
}

/// Writes the page of these sections: `<name>.html`, with nothing to load.
pub(crate) fn page(name: &str, facts: &Value, sections: &[Section]) {
    let facts: Vec<String> = facts
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            format!("{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    let body: String = sections.iter().map(Section::html).collect();
    let path = write(
        &format!("{name}.html"),
        &format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>plimsoll bench</title>\n<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n\
            :root {{ color-scheme: light dark }}\n\
            body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }}\n\
            figure {{ margin: 1rem 0; overflow-x: auto }} .wide {{ overflow-x: auto }}\n\
            table {{ border-collapse: collapse; margin: 1rem 0; font-size: 13px; font-variant-numeric: tabular-nums }}\n\
            caption {{ text-align: left; font-weight: 600; padding: .3rem 0 }}\n\
            th, td {{ text-align: right; padding: .15rem .6rem; border-bottom: 1px solid #8886; white-space: nowrap }}\n\
            th:first-child, td:first-child {{ text-align: left }}\n\
            .doubt {{ border-left: 3px solid #d29922; padding-left: .6rem }} .facts {{ opacity: .75; font-size: 13px }}\n\
            </style>\n<h1>What Plimsoll costs, and what it does for the node</h1>\n<p class=\"facts\">{}</p>\n{body}</html>\n",
            escaped(&facts.join(" · "))
        ),
    );
    println!("\n{}", path.display());
}

/// Text as HTML and SVG have it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// `target/bench/`.
pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The first line of what a program says of itself.
pub(crate) fn version(program: impl AsRef<Path>, argument: &str) -> String {
    let output = Command::new(program.as_ref()).arg(argument).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}
