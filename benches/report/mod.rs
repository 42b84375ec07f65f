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

/// Everything there is to say.
#[derive(Debug)]
pub(crate) struct Report {
    rounds: usize,
    seed: u64,
    /// Whether an LS container looks different with the hook.
    pub(crate) acts: bool,
    /// Records on the full node before, and after.
    pub(crate) records: usize,
    pub(crate) records_after: usize,
    pub(crate) start: Vec<Series>,
    pub(crate) direct: Vec<Series>,
}

impl Report {
    pub(crate) fn new(rounds: usize, seed: u64) -> Self {
        Self {
            rounds,
            seed,
            acts: false,
            records: 0,
            records_after: 0,
            start: Vec::new(),
            direct: Vec::new(),
        }
    }

    /// The table to stdout, the JSON to `target/bench/hook.json`.
    pub(crate) fn print(&self) {
        let hook = dist("plimsoll-hook");
        let elf = fs::read(&hook).unwrap();
        let is_static = !wants_loader(&elf);
        let runc = first_line("runc", "--version");
        let kernel = first_line("uname", "-sr");

        println!();
        println!("{kernel}, {runc}, {} rounds, seed {}", self.rounds, self.seed);
        println!(
            "{}: {} bytes, {}",
            hook.file_name().unwrap().to_string_lossy(),
            elf.len(),
            if is_static { "static" } else { "NOT STATIC" }
        );
        println!();
        println!("Container start: runc create + start + delete, three hooks each; medians, all processes");
        let start = table(&self.start, "no-op hooks", "ms", 1000.0);
        println!();
        println!("One createRuntime by itself, state on stdin; medians");
        let direct = table(&self.direct, "no-op hooks", "us", 1.0);
        println!();
        println!(
            "The difference to the no-op is the median over rounds, with its 95 % interval; the ratio is that of the medians."
        );
        self.warn();

        let all = json!({
            "kernel": kernel, "runtime": runc, "rounds": self.rounds, "seed": self.seed,
            "hook": {"bytes": elf.len(), "static": is_static, "acts": self.acts},
            "records": {"before": self.records, "after": self.records_after},
            "start": start, "direct": direct,
        });
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hook.json"), format!("{all:#}\n")).unwrap();
    }

    /// What would make the figures say less than they seem to.
    fn warn(&self) {
        if !self.acts {
            println!(
                "!! An LS container looked the same with the hook as without: these are figures of a hook that does not act."
            );
        }
        if self.records == 0 {
            println!("!! The hook left no record in containers/: the arm with many records had none.");
        } else if self.records_after < self.records {
            println!("!! Of {} records {} were left at the end.", self.records, self.records_after);
        }
    }
}

/// Prints the arms and returns them; `scale` is the number of µs in `unit`.
fn table(arms: &[Series], base: &str, unit: &str, scale: f64) -> Vec<Value> {
    let Some(base) = arms.iter().find(|a| a.name == base) else {
        return Vec::new();
    };
    let with_rss = arms.iter().any(|a| a.samples.iter().any(|s| s.rss_kib > 0.0));
    let wall = |s: &Sample| s.wall_us / scale;
    let cpu = |s: &Sample| s.cpu_us / scale;
    let (base_wall, base_cpu) = (base.of(wall), base.of(cpu));

    println!(
        "  {:<18} {:>9} {:>9} {:>26} {:>26} {:>9}{}",
        "arm",
        format!("wall {unit}"),
        format!("cpu {unit}"),
        "wall - no-op",
        "cpu - no-op",
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
            "  {:<18} {:>9.2} {:>9.2} {:>26} {:>26} {:>9.2}{}",
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
            "wall_over_noop": more_wall.json(), "cpu_over_noop": more_cpu.json(),
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
