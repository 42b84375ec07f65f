//! `update`: the runtime is a child here, so that the treatment can be brought back after it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use serde::Deserialize;
use serde_json::Value as Json;

use super::args::Call;
use super::{child, values};
use crate::container::bundle::Cpu;
use crate::container::edits;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::hook::update::Wishes;
use crate::log::Level;
use crate::plan;
use crate::record::{ContainerId, Record};

/// How much of an update's JSON is read; real ones are a few kilobytes.
const MAX_RESOURCES: u64 = 16 * 1024 * 1024;

/// What the runtime was given, and what it is to be given instead.
struct Given {
    wishes: Wishes,
    /// The JSON, where it is not flags that say it.
    resources: Option<Json>,
}

/// Runs an update of a treated container. Returns how it ended; none where the container is not Plimsoll's.
///
/// # Errors
///
/// The runtime cannot be started, or its JSON not be handed on.
pub(super) fn run(hook: &Hook, call: &Call, args: &[OsString], program: &Path) -> Result<Option<ExitCode>> {
    let Some((id, record)) = treated(hook, call) else { return Ok(None) };
    let mut input = None;
    let given = match call.value(&["resources", "r"]) {
        Some(file) => {
            let bytes = read(file)?;
            let given = from_json(&bytes);
            input = Some(bytes);
            given
        }
        None => from_flags(call),
    };
    let Ok(given) = given else {
        // Not for us to complain of: the runtime sees it as it was given.
        return child::run(program, args, input.as_deref()).map(|status| Some(child::code(status)));
    };
    let (update, error) = hook.update(record, &given.wishes);
    let mut errors: Vec<Error> = error.into_iter().collect();
    // No limit where there is none is left out of what the runtime is told.
    let (left_out, told): (Vec<&plan::Write>, Vec<&plan::Write>) = update.owned().partition(|write| {
        let now = || write.group.read(write.knob).ok().flatten();
        values::is_no_limit(write) && now().as_ref() == Some(&write.value)
    });
    let (args, input) = match given.resources {
        Some(mut resources) => {
            let told = told.iter().filter_map(|write| values::in_resources(write));
            let told = told.map(|(pointer, value)| (pointer, Some(value)));
            let left_out = left_out.iter().filter_map(|write| values::in_resources(write));
            for (pointer, value) in told.chain(left_out.map(|(pointer, _)| (pointer, None))) {
                errors.extend(edits::put(&mut resources, pointer, value).err());
            }
            let from_input = call.without(&["resources", "r"]).with(&[("resources", "-".to_owned())]);
            (from_input, Some(resources.to_string().into_bytes()))
        }
        None => {
            let flags = |writes: &[&plan::Write]| -> Vec<(&str, String)> {
                writes.iter().filter_map(|write| values::as_flag(write)).collect()
            };
            let left_out: Vec<&str> = flags(&left_out).iter().map(|(name, _)| *name).collect();
            (call.without(&left_out).with(&flags(&told)), None)
        }
    };
    errors.extend(hook.make_way(&update));
    let status = child::run(program, &args, input.as_deref());
    errors.extend(hook.after_update(&id, update, status.as_ref().is_ok_and(ExitStatus::success)));
    if !errors.is_empty() {
        let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let fields = [("container", id.as_str()), ("errors", text.as_str())];
        hook.logger.log(Level::Error, "container updated, and treated again in part", &fields);
    }
    status.map(|status| Some(child::code(status)))
}

/// The container's record, where it is treated.
fn treated(hook: &Hook, call: &Call) -> Option<(ContainerId, Record)> {
    let id: ContainerId = call.id.as_deref()?.parse().ok()?;
    let record = hook.store.load(&id).ok().flatten().filter(Record::is_live)?;
    Some((id, record))
}

fn read(file: &OsStr) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = Path::new(file);
    let read = match file.as_encoded_bytes() {
        b"-" => std::io::stdin().lock().take(MAX_RESOURCES).read_to_end(&mut bytes),
        _ => File::open(name).and_then(|open| open.take(MAX_RESOURCES).read_to_end(&mut bytes)),
    };
    read.map(|_| bytes).map_err(|e| Error::os("read --resources", name, &e))
}

fn from_json(bytes: &[u8]) -> Result<Given, serde_json::Error> {
    let resources: Json = serde_json::from_slice(bytes)?;
    let cpu = resources.get("cpu").filter(|cpu| !cpu.is_null());
    let cpu = cpu.map(Cpu::deserialize).transpose()?.unwrap_or_default();
    let memory = resources.pointer("/memory/limit").and_then(Json::as_i64);
    if !resources.is_object() {
        return Err(serde::de::Error::custom("not an object"));
    }
    Ok(Given { wishes: Wishes { cpu, memory }, resources: Some(resources) })
}

fn from_flags(call: &Call) -> Result<Given, serde_json::Error> {
    let text = |name: &str| call.value(&[name]).and_then(OsStr::to_str);
    let cpu = Cpu {
        shares: text("cpu-share").and_then(|text| text.parse().ok()),
        quota: text("cpu-quota").and_then(|text| text.parse().ok()),
        period: text("cpu-period").and_then(|text| text.parse().ok()),
        cpus: text("cpuset-cpus").map(str::to_owned),
        mems: text("cpuset-mems").map(str::to_owned),
    };
    let memory = text("memory").and_then(|text| text.parse().ok());
    Ok(Given { wishes: Wishes { cpu, memory }, resources: None })
}
