//! A container from its OCI bundle, or from the state a runtime hands to hooks.

use std::path::Path;

use oci_spec::runtime::{Hook as OciHook, LinuxCpu, Spec};

use super::{Subject, read};
use crate::container::bundle::Cpu;
use crate::container::kube::Driver;
use crate::container::{Place, Role, Sandbox, State, Vm, bundle, edits, place};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::kernel::group::Groups;
use crate::plan::Mover;
use crate::plan::suppose::Supposed;
use crate::record::{ContainerId, Phase, Record, Who};
use crate::tool::Session;

/// The container of a bundle.
pub(super) fn of_bundle(
    session: &Session,
    hook: &Hook,
    dir: &Path,
    id: Option<&str>,
    is_vm: bool,
) -> anyhow::Result<Subject> {
    let (file, spec) = load(dir)?;
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let id = match id {
        Some(id) => id.parse()?,
        None => guess_id(&dir, &spec).ok_or_else(|| {
            Error::invalid(file.display().to_string(), "the container's id cannot be told from it")
                .hint("give it with --id")
        })?,
    };
    let annotations = annotations(&spec);
    let state = State { id, pid: None, bundle: Some(dir.display().to_string()), annotations };
    if is_vm || own_args(&spec).iter().any(|arg| arg == "--sandbox") {
        return Ok(machine(session, hook, state, &spec)?);
    }
    Ok(subject(session, hook, &state, &file, &spec)?)
}

/// The virtual machine of a container's pod.
fn machine(session: &Session, hook: &Hook, state: State, spec: &Spec) -> Result<Subject> {
    let Sandbox { id, role } = state.sandbox()?;
    let mut notes = Vec::new();
    let mut state = State { id, ..state };
    if role == Role::Workload {
        notes.push(format!(
            "its pod is a virtual machine, treated as a whole: this is that of sandbox {}",
            state.id
        ));
        let of_sandbox = state.bundle.as_deref().map(|own| Path::new(own).with_file_name(state.id.as_str()));
        let annotations = of_sandbox.and_then(|dir| bundle::annotations(dir.to_str()?).ok());
        match annotations {
            Some(annotations) => state.annotations = annotations,
            None => {
                notes.push("its sandbox's bundle is not there; its own annotations stand for that".to_owned())
            }
        }
    }
    let treated = treated(hook, &state.id, None);
    let path = cgroups_path(spec).unwrap_or_default();
    let vm = match treated.as_ref().and_then(|record| record.vm.clone()) {
        Some(vm) => vm,
        None => Vm::new(&path)?,
    };
    let place = vm.place(&session.roots, &state.id, None)?;
    if !place.groups.cpu.exists() {
        notes.push(
            "the machine's group is not there yet, and Kata may give it another name; what its pod's group gets is written before the machine is started".to_owned(),
        );
    }
    let driver = if path.starts_with('/') { Driver::Cgroupfs } else { Driver::Systemd };
    Ok(Subject {
        title: format!("virtual machine of {}", title(&state)),
        who: Who { container: None, ..state.who() },
        annotations: state.annotations,
        place: Ok(place),
        mover: Mover::Runtime(driver),
        supposed: Supposed::default(),
        treated,
        notes,
    })
}

/// The arguments of our hooks in a bundle.
fn own_args(spec: &Spec) -> Vec<String> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.prestart().clone()).unwrap_or_default();
    let ours =
        hooks.iter().filter(|hook| hook.path().file_name().is_some_and(|name| name == "plimsoll-hook"));
    ours.flat_map(|hook| hook.args().clone().unwrap_or_default()).collect()
}

/// The container of a state.
pub(super) fn of_state(session: &Session, hook: &Hook, bytes: &[u8]) -> anyhow::Result<Subject> {
    let state = State::parse(bytes)?;
    if let Some(pid) = state.pid {
        let treated = treated(hook, &state.id, Some(pid));
        let place = match &treated {
            Some(record) => Ok(Place::at(record.groups.clone())),
            None => Place::of(&session.roots, &state, pid),
        };
        return Ok(Subject {
            title: title(&state),
            who: state.who(),
            annotations: state.annotations.clone(),
            place,
            supposed: Supposed::default(),
            mover: Mover::Hook,
            treated,
            notes: Vec::new(),
        });
    }
    let Some(bundle) = &state.bundle else {
        return Err(Error::invalid("OCI state", "it names neither a process nor a bundle")
            .hint("give the state of a created container, or its bundle")
            .into());
    };
    let (file, spec) = load(Path::new(bundle))?;
    Ok(subject(session, hook, &state, &file, &spec)?)
}

fn load(dir: &Path) -> Result<(std::path::PathBuf, Spec)> {
    // Whoever names the file itself means its folder.
    let file = if dir.is_file() { dir.to_owned() } else { dir.join("config.json") };
    let bytes = read(&file).map_err(|e| match e.is_gone() {
        true => e.hint("an OCI bundle is the folder that holds a container's config.json"),
        false => e,
    })?;
    let bad = |why: String| {
        Error::invalid(file.display().to_string(), format!("not an OCI config.json: {why}"))
            .hint("for a Kubernetes manifest use -f")
    };
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if !value.is_object() {
        // A list would pass for a structure whose fields stand in order.
        return Err(bad("not an object".to_owned()));
    }
    // As the runtime wrapper does when it meets its own work.
    edits::undo(&mut value).map_err(|e| bad(e.to_string()))?;
    let spec = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
    Ok((file, spec))
}

fn annotations(spec: &Spec) -> Vec<(String, String)> {
    let pairs = spec.annotations().iter().flatten();
    let mut pairs: Vec<(String, String)> = pairs.map(|(k, v)| (k.clone(), v.clone())).collect();
    pairs.sort();
    pairs
}

fn cgroups_path(spec: &Spec) -> Option<String> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    Some(path.to_string_lossy().into_owned()).filter(|path| !path.is_empty())
}

/// Engines end `cgroupsPath` with the container's id; where there is none the bundle's folder has its name.
fn guess_id(dir: &Path, spec: &Spec) -> Option<ContainerId> {
    let path = cgroups_path(spec);
    let name = path.as_deref().map(|path| path.rsplit(['/', ':']).next().unwrap_or_default());
    name.or_else(|| dir.file_name()?.to_str())?.parse().ok()
}

fn subject(session: &Session, hook: &Hook, state: &State, file: &Path, spec: &Spec) -> Result<Subject> {
    let mut notes = Vec::new();
    let groups = groups(session, state, spec, &mut notes)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let cpu = resources.and_then(|resources| resources.cpu().as_ref()).map(asked).unwrap_or_default();
    let memory = resources.and_then(|resources| resources.memory().as_ref()?.limit());
    let treated = treated(hook, &state.id, None);
    let place = Place::at(treated.as_ref().map_or(groups, |record| record.groups.clone()));
    if !place.groups.cpu.exists() {
        notes.push(
            "its group is not there yet; the values are those the runtime will have written".to_owned(),
        );
    }
    Ok(Subject {
        title: title(state),
        who: state.who(),
        annotations: state.annotations.clone(),
        place: Ok(place),
        mover: mover(spec),
        supposed: Supposed::of(&format!("{}: linux.resources", file.display()), &cpu, memory)?,
        treated,
        notes,
    })
}

/// A bundle that has our hook, and not by the runtime wrapper, is run as it is; any other is the wrapper's to prepare.
fn mover(spec: &Spec) -> Mover {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.create_runtime().as_ref());
    let is_ours = |hook: &OciHook| {
        let is_wrappers = || hook.args().iter().flatten().any(|arg| arg == "--engine");
        hook.path().file_name().is_some_and(|name| name == "plimsoll-hook") && !is_wrappers()
    };
    if hooks.is_some_and(|hooks| hooks.iter().any(is_ours)) {
        return Mover::Hook;
    }
    let is_unit = cgroups_path(spec).is_some_and(|path| !path.starts_with('/') && path.contains(':'));
    Mover::Runtime(if is_unit { Driver::Systemd } else { Driver::Cgroupfs })
}

fn asked(cpu: &LinuxCpu) -> Cpu {
    Cpu {
        shares: cpu.shares(),
        quota: cpu.quota(),
        period: cpu.period(),
        cpus: cpu.cpus().clone(),
        mems: cpu.mems().clone(),
    }
}

fn title(state: &State) -> String {
    let who = state.who();
    match (&who.namespace, &who.pod, &who.container) {
        (Some(namespace), Some(pod), Some(container)) => {
            format!("{namespace}/{pod} {container} ({})", state.id)
        }
        _ => state.id.to_string(),
    }
}

/// The groups a runtime will make for the container.
fn groups(session: &Session, state: &State, spec: &Spec, notes: &mut Vec<String>) -> Result<Groups> {
    let path = cgroups_path(spec).unwrap_or_else(|| state.id.to_string());
    if !place::is_whole(&path) {
        notes.push(
            "linux.cgroupsPath is not absolute: the runtime puts it below its own group; here it is taken to be this program's".to_owned(),
        );
    }
    place::wanted(&session.roots, &path)
}

/// The record of a container that the hook would not treat again.
fn treated(hook: &Hook, id: &ContainerId, pid: Option<i32>) -> Option<Box<Record>> {
    let record = hook.store.load(id).ok().flatten()?;
    let is_it = record.is_live() && pid.is_none_or(|pid| record.pid == pid);
    (is_it && record.phase != Phase::Applying).then(|| Box::new(record))
}
