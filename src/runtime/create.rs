//! `create`, `run` and `restore`: the bundle is prepared before the runtime reads it, and what the runtime does not know
//! is done after a `create`, before anybody can start the container.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::args::{Call, Verb};
use super::spec::{Ours, Spec, Unread};
use super::{child, values};
use crate::annotations::Request;
use crate::apply::Look;
use crate::container::kube::Driver;
use crate::container::{Edits, Place, State, edits, place};
use crate::error::Error;
use crate::hook::{Failure, Hook, Stage};
use crate::kernel::control::{Knob, Value};
use crate::plan::suppose::Supposed;
use crate::plan::{self, Mover, Plan, TreeShape};
use crate::policy::treatment::{CpusRule, Treatment};
use crate::record::Who;

/// The stages the hook is put into. Not poststart: the wrapper itself looks again at `start`, before the workload runs.
pub(super) const STAGES: [Stage; 2] = [Stage::CreateRuntime, Stage::Poststop];

/// A container to treat once the runtime has created it.
pub(super) struct Created {
    state: State,
    edits: Edits,
    pid_file: PathBuf,
}

/// Prepares the bundle of a container that asks for something: edits what the runtime or systemd own. The rest is done
/// after the runtime's `create`, or by hooks put into the bundle where there is no such moment, or none that can be had.
/// The bundle of a container that asks for nothing is not touched.
///
/// A container that cannot be planned for is tried again with its groups there, and the policy decides then.
pub(super) fn prepare(hook: &Hook, call: &Call, ours: &Ours<'_>) -> Result<Option<Created>, Failure> {
    // Wrong usage, or a call for help: the runtime answers.
    let Some(id) = call.id.as_deref() else { return Ok(None) };
    let bundle = call.value(&["bundle", "b"]).map_or_else(|| PathBuf::from("."), PathBuf::from);
    // crun's --config.
    let name = call.value(&["config", "f"]).unwrap_or_else(|| OsStr::new("config.json"));
    let file = bundle.join(name);
    let unread = match Unread::open(&file) {
        // No container comes of a bundle that is none.
        Err(error) if error.is_gone() => return Ok(None),
        unread => unread?,
    };
    let request = hook.request(&unread.annotations);
    if matches!(request, Ok(None)) && !unread.is_edited {
        return Ok(None);
    }
    let class = match &request {
        Ok(request) => request.as_ref().and_then(Request::claimed_class),
        Err(failure) => failure.class,
    };
    let annotations = unread.annotations.clone();
    let fail = |error| Failure { class, error };
    let mut spec = unread.read(ours).map_err(fail)?;
    let mut edits = Edits::default();
    let bundle = std::path::absolute(&bundle).unwrap_or(bundle).to_string_lossy().into_owned();
    let state = State { id: id.parse().map_err(fail)?, pid: None, bundle: Some(bundle), annotations };
    let is_wanted = match &request {
        Ok(None) => false,
        Err(_) => true,
        Ok(Some(request)) => match treated(hook, &spec, &state, request) {
            Ok(None) => false,
            // A checkpoint was made of the groups and values there were.
            Ok(Some(_)) if call.verb == Some(Verb::Restore) => true,
            Ok(Some(treated)) => {
                if let Ok(Some(plan)) = planned(hook, call, &spec, treated) {
                    let driver = systemd(call, &spec);
                    edit(&mut spec, &plan, driver, id, &mut edits).map_err(fail)?;
                }
                true
            }
            Err(_) => true,
        },
    };
    if !edits.is_empty() {
        spec.note(&edits).map_err(fail)?;
    }
    let pid_file = pid_file(call).filter(|_| is_wanted);
    match pid_file {
        _ if !is_wanted => {}
        Some(_) => spec.remove_hooks(ours.program),
        None => {
            let missing =
                |e| Error::os("find the hook", ours.program, &e).hint("install it beside plimsoll-runtime");
            fs::metadata(ours.program).map_err(missing).map_err(fail)?;
            spec.add_hooks(ours, &edits).map_err(fail)?;
        }
    }
    spec.write().map_err(fail)?;
    Ok(pid_file.map(|pid_file| Created { state, edits, pid_file }))
}

/// Where the runtime says which process it made, if there is a moment after it that is Plimsoll's: a `create` that need
/// not keep the pid of the wrapper (sd_listen_fds(3)).
fn pid_file(call: &Call) -> Option<PathBuf> {
    let is_free = call.verb == Some(Verb::Create) && env::var_os("LISTEN_FDS").is_none();
    call.value(&["pid-file"]).filter(|file| is_free && !file.is_empty()).map(PathBuf::from)
}

/// Creates a container, and treats it before the engine knows of it: it may be started when this has returned.
///
/// # Errors
///
/// The runtime cannot be started; or the policy says that the container must not be, and then it is deleted again.
pub(super) fn run(
    mut hook: Hook,
    call: &Call,
    args: &[OsString],
    program: &Path,
    created: Created,
) -> Result<ExitCode, Error> {
    let Created { mut state, edits, pid_file } = created;
    hook.edits = edits;
    let status = child::run(program, args, None)?;
    if !status.success() {
        // What the runtime made in the class tree on its way; not what a container with this id has that lives.
        if !hook.is_live(&state.id) {
            hook.stage(Stage::Poststop, &state)?;
        }
        return Ok(child::code(status));
    }
    state.pid = read_pid(&pid_file);
    let placed = hook.stage(Stage::CreateRuntime, &state);
    if placed.is_err() {
        let deleted = child::run(program, &call.other(&["delete", "--force"]), None);
        hook.stage(Stage::Poststop, &state)?;
        deleted?;
    }
    placed.map(|()| child::code(status))
}

fn read_pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// What the container is to get; nothing where nothing comes of its request.
fn treated(
    hook: &Hook,
    spec: &Spec,
    state: &State,
    request: &Request,
) -> Result<Option<(Treatment, Place, Who)>, Error> {
    let path = spec.cgroups_path().unwrap_or(state.id.as_str());
    let place = Place::at(place::wanted(&hook.roots, path)?);
    let who = Who { pod_uid: place.pod_uid.clone(), ..state.who() };
    let treatment = hook.treatment(request, &state.annotations, &who, place.kube_qos);
    Ok(treatment.map(|treatment| (treatment, place, who)))
}

/// The plan, with all that the runtime can do; none where the runtime has nothing to do with it.
fn planned(
    hook: &Hook,
    call: &Call,
    spec: &Spec,
    (mut treatment, place, who): (Treatment, Place, Who),
) -> Result<Option<Plan>, Error> {
    if !hook.sources().may_concern_runtime(&treatment)? {
        return Ok(None);
    }
    let memory = spec.get("/linux/resources/memory/limit").and_then(Json::as_i64);
    let supposed = Supposed::of("linux.resources", &spec.cpu()?, memory)?;
    let suppose = || hook.sources().suppose(&supposed, &treatment, &place, &who);
    let facts = suppose().or_else(|error| {
        // Before the first container of a v2 machine no group tells what its kernel can do, or the one that did has gone
        // while it was looked at. Whether there is another by now says nothing of what there will be in a moment.
        let _look = Look::make(&place.groups.cpu, true).map_err(|_| error)?;
        suppose()
    })?;
    if facts.refusal.is_some() {
        treatment = Treatment { cpus: CpusRule::SharedPool, ..treatment };
    }
    let shape = TreeShape {
        mover: Mover::Runtime(systemd(call, spec)),
        ..hook.shape_at(&facts.groups.cpu, treatment.class)
    };
    let mut plan = plan::build(&treatment, &facts, &shape);
    // What the engine says already is not edited; and CPUs chosen here are claimed by the hook, under the lock.
    plan.writes.retain(|write| match (write.knob, &write.value) {
        (Knob::Cpus, _) if treatment.cpus == CpusRule::Allocate => false,
        (Knob::Quota, _) if treatment.cpus == CpusRule::Allocate => false,
        (Knob::Cpus, Value::Set(cpus)) => !cpus.is_empty() && supposed.cpus.as_ref() != Some(cpus),
        (Knob::Quota, Value::Int(quota)) => supposed.container.quota != *quota,
        (Knob::MemoryLimit, Value::Int(limit)) => supposed.memory[0].unwrap_or(-1) != *limit,
        _ => true,
    });
    Ok(Some(plan))
}

fn systemd(call: &Call, spec: &Spec) -> Driver {
    let is_unit = spec.cgroups_path().is_some_and(|path| !path.starts_with('/') && path.contains(':'));
    if call.systemd && is_unit { Driver::Systemd } else { Driver::Cgroupfs }
}

fn edit(spec: &mut Spec, plan: &Plan, driver: Driver, id: &str, edits: &mut Edits) -> Result<(), Error> {
    if plan.tree.is_some() && plan.groups.cpu.path != spec.cgroups_path().unwrap_or_default() {
        let path = match driver {
            Driver::Cgroupfs => plan.groups.cpu.path.clone(),
            Driver::Systemd => {
                let slice =
                    plan.groups.cpu.parent().map_or_else(String::new, |slice| slice.name().to_owned());
                format!("{slice}:plimsoll:{id}")
            }
        };
        spec.set(edits::CGROUPS_PATH, Some(json!(path)), edits)?;
    }
    for write in plan.of_runtime() {
        let Some((pointer, value)) = values::in_resources(write) else { continue };
        let pointer = format!("/linux/resources{pointer}");
        if write.knob == Knob::MemoryLimit {
            // Memory and swap together must not be less than memory.
            let swap = "/linux/resources/memory/swap";
            if let Some(limit) = spec.get(swap).and_then(Json::as_i64).filter(|swap| *swap > 0) {
                let wanted = write.value.int().unwrap_or(-1);
                let as_memory = spec.get(&pointer).and_then(Json::as_i64) == Some(limit);
                if as_memory || wanted < 0 || wanted > limit {
                    spec.set(swap, Some(value.clone()), edits)?;
                }
            }
        }
        let value = Some(value).filter(|_| !values::is_no_limit(write));
        if spec.get(&pointer) != value.as_ref() {
            spec.set(&pointer, value, edits)?;
        }
    }
    Ok(())
}
