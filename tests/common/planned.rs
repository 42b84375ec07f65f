//! A record's plan against what a container's first process found.

use std::collections::BTreeMap;

use plimsoll::kernel::control::Version;
use plimsoll::record::Record;
use serde_json::Value;

use super::{cgroup, probed};

/// What a record says the first process must find, by v1 file name. The pool of CPUs is not the record's: it follows
/// from who owns some at the time.
pub fn planned(record: &Record) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for done in &record.writes {
        let write = &done.write;
        let own = [Some(&record.groups.cpu), record.groups.cpuset.as_ref(), record.groups.memory.as_ref()];
        if own.contains(&Some(&write.group)) {
            // Only the weight has no name on v1.
            let name = write.knob.file(Version::V1).or_else(|| write.knob.file(Version::V2)).unwrap();
            files.insert(name.to_owned(), write.value.to_string());
        }
    }
    files
}

/// What is not as planned, a line each.
pub fn differences(record: &Record, seen: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in planned(record) {
        let found = probed::file(seen, &name);
        if found != value {
            wrong.push(format!("{name} is {found} and was planned as {value}"));
        }
    }
    for (controller, group) in [("cpu", Some(&record.groups.cpu)), ("cpuset", record.groups.cpuset.as_ref())]
    {
        let found = probed::group(seen, controller);
        if let Some(group) = group.filter(|group| !cgroup::is_seen_as(found, controller, &group.path)) {
            wrong.push(format!("{controller} group is {found} and was planned as {}", group.path));
        }
    }
    if !record.errors.is_empty() {
        wrong.push(format!("errors: {:?}", record.errors));
    }
    wrong
}
