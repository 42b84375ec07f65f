//! A record's plan against what a container's first process found.

use std::collections::BTreeMap;

use plimsoll::record::Record;
use serde_json::Value;

/// What a record says the first process must find, by file name. The pool of CPUs is not the record's: it follows from
/// who owns some at the time.
pub fn planned(record: &Record) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for done in &record.writes {
        let write = &done.write;
        let own = [Some(&record.groups.cpu), record.groups.cpuset.as_ref(), record.groups.memory.as_ref()];
        if own.contains(&Some(&write.group)) {
            let name = write.knob.file(write.group.version).unwrap();
            files.insert(name.to_owned(), write.value.to_string());
        }
    }
    files
}

/// What is not as planned, a line each.
pub fn differences(record: &Record, seen: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in planned(record) {
        if seen["files"][&name] != value {
            wrong.push(format!("{name} is {} and was planned as {value}", seen["files"][&name]));
        }
    }
    for (controller, group) in [("cpu", Some(&record.groups.cpu)), ("cpuset", record.groups.cpuset.as_ref())]
    {
        if let Some(group) = group.filter(|group| seen["cgroup"][controller] != group.path) {
            wrong.push(format!(
                "{controller} group is {} and was planned as {}",
                seen["cgroup"][controller], group.path
            ));
        }
    }
    if !record.errors.is_empty() {
        wrong.push(format!("errors: {:?}", record.errors));
    }
    wrong
}
