//! Runs Koordinator's own test tables, restated as data, against our rules.
//!
//! Reads `tests/vectors/koordinator.json`, or the file that `PLIMSOLL_VECTORS` names. Prints per area how many rows passed,
//! failed (with the id, and what was got and expected), differ on purpose (with the reason), or belong to areas that are
//! not built yet. Fails when a row failed. Lists of CPUs that a container is pinned to are compared as sets, since
//! `0-7,8-15` and `0-15` are the same to the kernel; everything else must be equal.

use std::collections::BTreeMap;

use serde_json::Value;

#[path = "vectors/cpuset.rs"]
mod cpuset;
#[path = "vectors/ext.rs"]
mod ext;
#[path = "vectors/identity.rs"]
mod identity;
#[path = "vectors/input.rs"]
mod input;
#[path = "vectors/paths.rs"]
mod paths;
#[path = "vectors/resources.rs"]
mod resources;

use input::{Outcome, Row};

/// Rows where we differ on purpose, by id, and why. Rows that hand Koordinator's Go code a nil pointer are found by their
/// shape; see [`input::NIL`].
const DIFFERS: &[(&str, &str)] = &[];

fn run(row: &Row<'_>) -> Outcome {
    let (room, function) = row.area.split_once('.').unwrap_or((row.area, ""));
    match room {
        "groupidentity" => identity::run(function, row),
        "cpuset" => cpuset::run(function, row),
        "batchresource" | "cpunormalization" | "cpuburst" | "cgroup" | "cgroup2" => {
            resources::run(room, function, row)
        }
        "cgroupPath" | "hostapp" | "validator" | "resourceexecutor" => paths::run(room, function, row),
        "ext" | "sloconfig" => ext::run(room, function, row),
        _ => Outcome::NotBuilt,
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    differ: usize,
    not_built: usize,
}

#[test]
fn koordinators_tables_hold() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/koordinator.json");
    let file = std::env::var("PLIMSOLL_VECTORS").unwrap_or_else(|_| default.to_owned());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {file}: {e}"));
    let rows: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("parse {file}: {e}"));
    let rows = rows.as_array().unwrap_or_else(|| panic!("{file} is not a list of rows"));

    let mut areas: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut notes = Vec::new();
    for value in rows {
        let row = Row::new(value);
        let tally = areas.entry(row.area).or_default();
        let outcome = match DIFFERS.iter().find(|(id, _)| *id == row.id) {
            Some((_, reason)) => Outcome::Differs(reason),
            None => run(&row),
        };
        match outcome {
            Outcome::Got(got) if input::same(row.expected, &got, cpuset::is_pinning(row.area)) => {
                tally.passed += 1
            }
            Outcome::Got(got) => {
                tally.failed += 1;
                notes.push(format!(
                    "FAILED   {} {}\n           input    {}\n           expected {}\n           got      {got}",
                    row.id, row.area, row.input, row.expected
                ));
            }
            Outcome::UnknownShape(why) => {
                tally.failed += 1;
                notes.push(format!("FAILED   {} {}: {why}; input {}", row.id, row.area, row.input));
            }
            Outcome::Differs(reason) => {
                tally.differ += 1;
                notes.push(format!("differs  {} {}: {reason}", row.id, row.area));
            }
            Outcome::NotBuilt => tally.not_built += 1,
        }
    }

    println!("{:<46} {:>6} {:>6} {:>7} {:>9}", "area", "passed", "failed", "differs", "not built");
    let mut total = Tally::default();
    for (area, tally) in &areas {
        println!(
            "{area:<46} {:>6} {:>6} {:>7} {:>9}",
            tally.passed, tally.failed, tally.differ, tally.not_built
        );
        total.passed += tally.passed;
        total.failed += tally.failed;
        total.differ += tally.differ;
        total.not_built += tally.not_built;
    }
    println!(
        "{:<46} {:>6} {:>6} {:>7} {:>9}",
        "total", total.passed, total.failed, total.differ, total.not_built
    );
    for note in &notes {
        println!("{note}");
    }
    assert_eq!(total.failed, 0, "rows failed; they are listed above");
}

#[test]
fn a_wrong_value_would_be_seen() {
    let same = |expected: &str, got: &str, pinning| {
        let parse = |text| serde_json::from_str::<Value>(text).unwrap();
        input::same(&parse(expected), &parse(got), pinning)
    };
    assert!(same(r#"{"a":1,"note":"x"}"#, r#"{"a":1}"#, false));
    assert!(same(r#"{"a":null}"#, "{}", false));
    assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#, false));
    assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false));
    assert!(!same(r#"{"a":-1}"#, "{}", false));
    assert!(same(r#""0-7,8-15""#, r#""0-15""#, true));
    assert!(!same(r#""0-7,8-15""#, r#""0-15""#, false));
    assert!(!same(r#""0-7""#, r#""0-6""#, true));
    assert!(!same(r#""""#, "null", true));
}
