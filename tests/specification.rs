//! Every promise in `SPECIFICATION.md` names its test, and every test it names exists.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_tests_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("SPECIFICATION.md")).unwrap();
    let mut promises = 0;
    let mut missing = Vec::new();
    // The figures of that chapter are a benchmark's.
    let chapters = text.split("\n## ").filter(|chapter| !chapter.lines().next().unwrap().ends_with(". Cost"));
    let numbered = |row: &&str| row.starts_with("| ") && row.as_bytes()[2].is_ascii_digit();
    for row in chapters.flat_map(str::lines).filter(numbered) {
        promises += 1;
        let holders = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<&str> = holders.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            missing.push(format!("no test in: {row}"));
        }
        for name in named {
            if name.starts_with("make ") {
                continue;
            }
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let source = fs::read_to_string(top.join("tests").join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {test}(")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(promises > 25, "{promises} promises");
    assert_eq!(missing, Vec::<String>::new());
}
