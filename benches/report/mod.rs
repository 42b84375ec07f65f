//! The benchmark's figures: medians, differences between arms of one round, the table and the JSON.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::dist;

/// One measured run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) wall_us: f64,
    pub(crate) cpu_us: f64,
    /// Largest resident set; 0 where it was not measured.
    pub(crate) rss_kib: f64,
}

/// All runs of an arm, one for each round.
#[derive(Debug)]
pub(crate) struct Series {
    name: String,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new() }
    }

    fn of(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

/// What was measured, and where.
#[derive(Debug)]
pub(crate) struct Subject {
    facts: Value,
}

impl Subject {
    /// Looks at the program and the machine, and prints what it sees.
    pub(crate) fn look(name: &str, rounds: usize, seed: u64) -> Self {
        let elf = fs::read(dist(name)).unwrap();
        let is_static = !wants_loader(&elf);
        let (runc, kernel) = (first_line("runc", "--version"), first_line("uname", "-sr"));
        println!("\n{kernel}, {runc}, {rounds} rounds, seed {seed}");
        println!("{name}: {} bytes, {}", elf.len(), if is_static { "static" } else { "NOT STATIC" });
        Self {
            facts: json!({
                "kernel": kernel, "runtime": runc, "rounds": rounds, "seed": seed,
                "program": {"name": name, "bytes": elf.len(), "static": is_static},
            }),
        }
    }

    /// Explains the figures, and writes everything to `target/bench/<name>.json`.
    pub(crate) fn write(self, name: &str, figures: Value) {
        println!(
            "\nA difference is the median over rounds, with its 95 % interval; a ratio is that of the medians."
        );
        let mut all = self.facts;
        if let (Value::Object(all), Value::Object(figures)) = (&mut all, figures) {
            all.extend(figures);
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.json")), format!("{all:#}\n")).unwrap();
    }
}

/// Prints the arms beside the one called `base`, and returns them; `scale` is the number of µs in `unit`.
pub(crate) fn table(arms: &[Series], base: &str, unit: &str, scale: f64) -> Vec<Value> {
    let of = base;
    let Some(base) = arms.iter().find(|a| a.name == base) else {
        return Vec::new();
    };
    let with_rss = arms.iter().any(|a| a.samples.iter().any(|s| s.rss_kib > 0.0));
    let wall = |s: &Sample| s.wall_us / scale;
    let cpu = |s: &Sample| s.cpu_us / scale;
    let (base_wall, base_cpu) = (base.of(wall), base.of(cpu));

    println!("  (against: {of})");
    println!(
        "  {:<24} {:>9} {:>9} {:>26} {:>26} {:>9}{}",
        "arm",
        format!("wall {unit}"),
        format!("cpu {unit}"),
        "more wall",
        "more cpu",
        "cpu ratio",
        if with_rss { "  max RSS KiB" } else { "" }
    );
    let mut rows = Vec::new();
    for arm in arms {
        let (arm_wall, arm_cpu) = (arm.of(wall), arm.of(cpu));
        let (more_wall, more_cpu) =
            (Difference::new(&arm_wall, &base_wall), Difference::new(&arm_cpu, &base_cpu));
        let ratio = median(&arm_cpu) / median(&base_cpu);
        let rss = arm.samples.iter().map(|s| s.rss_kib).fold(0.0, f64::max);
        println!(
            "  {:<24} {:>9.2} {:>9.2} {:>26} {:>26} {:>9.2}{}",
            arm.name,
            median(&arm_wall),
            median(&arm_cpu),
            more_wall.text(),
            more_cpu.text(),
            ratio,
            if with_rss { format!("  {rss:>11.0}") } else { String::new() }
        );
        let mut row = json!({
            "arm": arm.name, "unit": unit, "samples": arm.samples.len(),
            "wall": median(&arm_wall), "cpu": median(&arm_cpu), "cpu_ratio": ratio,
            "against": of, "more_wall": more_wall.json(), "more_cpu": more_cpu.json(),
        });
        if with_rss {
            row["max_rss_kib"] = rss.into();
        }
        rows.push(row);
    }
    rows
}

/// The median difference of two arms' runs of one round, and the interval that holds the true one 95 times in 100.
struct Difference {
    middle: f64,
    low: f64,
    high: f64,
}

impl Difference {
    fn new(ours: &[f64], theirs: &[f64]) -> Self {
        let mut all: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        all.sort_by(f64::total_cmp);
        // Ranks n/2 -+ 1.96 sqrt(n)/2: the sign test turned round.
        let (half, spread) = (all.len() as f64 / 2.0, 0.98 * (all.len() as f64).sqrt());
        let last = all.len() - 1;
        Self {
            middle: median(&all),
            low: all[((half - spread).max(0.0) as usize).min(last)],
            high: all[((half + spread) as usize).min(last)],
        }
    }

    fn text(&self) -> String {
        format!("{:+.2} [{:+.2}, {:+.2}]", self.middle, self.low, self.high)
    }

    fn json(&self) -> Value {
        json!({"median": self.middle, "low": self.low, "high": self.high})
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// Whether a program needs another to start: a script, or a 64-bit little-endian ELF file with a `PT_INTERP` header.
fn wants_loader(elf: &[u8]) -> bool {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return true;
    }
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|n| number(table + n * size, 4) == 3)
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().unwrap_or_default().to_owned()
}
