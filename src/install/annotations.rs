//! Which annotations an engine must hand to the runtime.

use serde_json::Value;

use crate::annotations::KEYS;

/// The one that engines set themselves.
const OF_ENGINES: &str = "io.kubernetes.";
/// Koordinator has many subdomains, and later versions may use more of them.
const KOORDINATOR: &str = "koordinator.sh";

/// Patterns as containerd's `pod_annotations` takes them (Go's `path.Match`: `*` does not cross a slash) that let every
/// annotation through that is read.
pub(super) fn patterns() -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    for key in KEYS.iter().filter(|key| !key.starts_with(OF_ENGINES)) {
        let domain = key.split('/').next().unwrap_or(key);
        let pattern = match domain.strip_suffix(KOORDINATOR) {
            Some("") | None => format!("{domain}/*"),
            Some(_) => format!("*.{KOORDINATOR}/*"),
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns
}

/// Patterns that are there already, and those of ours that are not.
pub(super) fn with(there: Option<&Value>) -> Value {
    let mut all: Vec<Value> = there.and_then(Value::as_array).cloned().unwrap_or_default();
    for pattern in patterns().into_iter().map(Value::String) {
        if !all.contains(&pattern) {
            all.push(pattern);
        }
    }
    Value::Array(all)
}

/// The annotations that no pattern lets through.
pub(super) fn missing(there: &[&str]) -> Vec<&'static str> {
    let reads = KEYS.iter().filter(|key| !key.starts_with(OF_ENGINES));
    reads.copied().filter(|key| !there.iter().any(|pattern| matches(pattern, key))).collect()
}

/// Go's `path.Match` with `*` and `?` only; a pattern with `[` or `\` counts as one that does not match.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern_chars.as_str();
            let reach = text.find('/').unwrap_or(text.len());
            let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts
                .by_ref()
                .take_while(|at| *at <= reach)
                .any(|at| matches(rest, text.get(at..).unwrap_or("")))
        }
        Some('[' | '\\') => false,
        Some(wanted) => {
            let mut chars = text.chars();
            let fits = chars.next().is_some_and(|c| c == wanted || (wanted == '?' && c != '/'));
            fits && matches(pattern_chars.as_str(), chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_let_every_annotation_through_that_is_read() {
        let patterns = patterns();
        let there: Vec<&str> = patterns.iter().map(String::as_str).collect();
        assert_eq!(missing(&there), Vec::<&str>::new());
        assert_eq!(
            there,
            [
                "koordinator.sh/*",
                "*.koordinator.sh/*",
                "volcano.sh/*",
                "katalyst.kubewharf.io/*",
                "qos.gocrane.io/*"
            ]
        );
    }

    #[test]
    fn the_ready_hook_definitions_name_every_annotation_that_is_read() {
        let keys: Vec<&str> = KEYS.into_iter().filter(|key| !key.starts_with(OF_ENGINES)).collect();
        for stage in ["createRuntime", "poststart", "poststop"] {
            let file = format!("{}/hooks/plimsoll-{stage}.json", env!("CARGO_MANIFEST_DIR"));
            let hook: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let pattern = hook["when"]["annotations"].as_object().unwrap().keys().next().unwrap();
            let mut grep = std::process::Command::new("grep");
            let grep = grep.args(["-E", pattern]).stdin(std::process::Stdio::piped());
            let mut grep = grep.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let others = "koordinator.sh/qosClass2\nkoordinator_sh/qosClass\nmy.koordinator.sh/qosClass\n";
            let input = format!("{}\n{others}", keys.join("\n"));
            std::io::Write::write_all(&mut grep.stdin.take().unwrap(), input.as_bytes()).unwrap();
            let found = String::from_utf8(grep.wait_with_output().unwrap().stdout).unwrap();
            assert_eq!(found.lines().collect::<Vec<_>>(), keys, "{file}");
        }
    }

    #[test]
    fn a_star_does_not_cross_a_slash() {
        for (pattern, text, fits) in [
            ("*", "koordinator.sh/qosClass", false),
            ("*koordinator.sh/*", "koordinator.sh/qosClass", true),
            ("*koordinator.sh/*", "node.koordinator.sh/x", true),
            ("koordinator.sh/*", "node.koordinator.sh/x", false),
            ("*/*", "node.koordinator.sh/x", true),
            ("a/*", "a/b/c", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("abc", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_there_stays_and_comes_first() {
        let there = serde_json::json!(["my.org/*", "volcano.sh/*"]);
        let all = with(Some(&there));
        let names: Vec<&str> = all.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(&names[..3], ["my.org/*", "volcano.sh/*", "koordinator.sh/*"]);
        assert_eq!(names.len(), 6);
    }
}
