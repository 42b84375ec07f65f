//! `start` and `delete` of Kata's containers.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::args::Call;
use super::id;
use crate::apply;
use crate::container::edits::{CGROUPS_PATH, CPUS};
use crate::container::kube::Driver;
use crate::container::{Edits, Place, Role, Sandbox, State, Vm};
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::hook::{Failure, Hook, Stage};
use crate::kernel::group::Group;
use crate::log::Level;
use crate::plan::{self, Mover, TreeShape};
use crate::policy::treatment::Treatment;
use crate::record::{ContainerId, Phase, Record, Who};
use crate::runtime::own_hook;
use crate::runtime::spec::{Ours, Spec, Unread};

/// The stages the hook is put into. Go's runtime calls `prestart` for the sandbox and for each container, and would call
/// `createRuntime` beside it; runtime-rs calls `createContainer` for each. Both call the other two.
const STAGES: [Stage; 4] = [Stage::Prestart, Stage::CreateContainer, Stage::Poststart, Stage::Poststop];

/// Prepares the pod's groups and the bundle of a container that is about to be started.
pub(super) fn start(hook: &Hook, call: &Call, config: Option<&Path>) -> Result<(), Failure> {
    // Wrong usage: the real shim answers.
    let Some(id) = id(call) else { return Ok(()) };
    let program = own_hook()?;
    let file = call.bundle.join("config.json");
    let unread = match Unread::open(&file) {
        // No container comes of a bundle that is none; and a sandbox may have none at all.
        Err(error) if error.is_gone() => return Ok(()),
        unread => unread?,
    };
    let bundle = fs::canonicalize(
        file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")),
    )
    .ok()
    .and_then(|path| path.into_os_string().into_string().ok());
    let state = State { id: id?, pid: None, bundle, annotations: unread.annotations.clone() };
    let Sandbox { id: sandbox, role } = state.sandbox()?;
    fs::metadata(&program).map_err(|e| {
        Error::os("find the hook", &program, &e).hint("install it beside containerd-shim-plimsoll-v2")
    })?;
    let ours = Ours { program: &program, config, stages: &STAGES, sandbox: Some(&sandbox) };
    match role {
        Role::Workload => workload(hook, &state, &sandbox, unread, &ours),
        Role::Sandbox | Role::Single => machine(hook, &state, unread, &ours),
    }
}

/// The sandbox, or a container that is alone: everything that can be done before there is a machine.
fn machine(hook: &Hook, state: &State, unread: Unread, ours: &Ours<'_>) -> Result<(), Failure> {
    let id = &state.id;
    if let Ok(Some(record)) = hook.store.load(id) {
        // Of another life, whose end nobody told.
        hook.release(id, &record);
    }
    let is_edited = unread.is_edited;
    let request = hook.request(&state.annotations);
    if matches!(request, Ok(None)) && !is_edited {
        return Ok(());
    }
    let mut spec = unread.read(ours)?;
    let path = spec.cgroups_path().unwrap_or_default().to_owned();
    let found = match request {
        Ok(None) => None,
        Ok(Some(_)) => hook.treatment_of_machine(state, &path)?,
        Err(failure) => return Err(failure),
    };
    let mut edits = Edits::default();
    if let Some((treatment, who)) = found {
        let failure = |error| Failure { class: Some(treatment.class), error };
        let mut vm = Vm::new(&path).map_err(failure)?;
        let mut made = Vec::new();
        if let Some(wanted) = in_class_tree(hook, id, &vm, &who, &treatment).map_err(failure)? {
            spec.set(CGROUPS_PATH, Some(json!(wanted)), &mut edits).map_err(failure)?;
            vm = Vm { engine_path: Some(path), path: wanted, ..vm };
            made = make_branch(hook, id, &vm, &treatment).map_err(failure)?;
        }
        // Of a container that is alone; a pod's sandbox has none.
        let named = cpus(&spec).map_err(failure)?;
        let treated = hook.before_machine(id, vm, who, named, treatment.clone());
        let record = hook.store.load(id).ok().flatten();
        let put = treated.and_then(|()| {
            if let Some(record) = &record {
                put_cpus(hook, record, &mut spec, &mut edits)?;
            }
            write(&mut spec, ours, &edits)
        });
        if put.is_err() {
            record.iter().for_each(|record| drop(hook.release(id, record)));
            apply::remove(&made, &[]);
        }
        return put.map_err(failure);
    }
    spec.write().map_err(Failure::from)
}

/// The `cgroupsPath` in the class tree, where the plan is to have the machine there.
fn in_class_tree(
    hook: &Hook,
    id: &ContainerId,
    vm: &Vm,
    who: &Who,
    treatment: &Treatment,
) -> Result<Option<String>> {
    if !plan::gather::may_move(treatment) {
        return Ok(None);
    }
    let place = vm.clone().place(&hook.roots, id, None)?;
    let driver = if vm.path.starts_with('/') { Driver::Cgroupfs } else { Driver::Systemd };
    let facts = hook.sources().facts(treatment, &place, who, None)?;
    let shape =
        TreeShape { mover: Mover::Runtime(driver), ..hook.shape_at(&facts.groups.cpu, treatment.class) };
    let plan = plan::build(treatment, &facts, &shape);
    if plan.tree.is_none_or(|tree| tree.to.is_empty()) {
        return Ok(None);
    }
    let to = &plan.groups.cpu;
    let parent = to.parent();
    Ok(match driver {
        Driver::Cgroupfs => Some(to.path.clone()),
        Driver::Systemd => parent.map(|slice| format!("{}:plimsoll:{id}", slice.name())),
    })
}

/// Makes the groups above the machine's in the class tree, so that it is born below their values; returns those of its
/// pod. Those of systemd are systemd's to make.
fn make_branch(hook: &Hook, id: &ContainerId, vm: &Vm, treatment: &Treatment) -> Result<Vec<Group>> {
    let mut pods = Vec::new();
    if !vm.path.starts_with('/') {
        return Ok(pods);
    }
    let Place { groups, .. } = vm.clone().place(&hook.roots, id, None)?;
    let branch = hook.shape().branch(Driver::Cgroupfs, treatment.class);
    for group in [Some(&groups.cpu), groups.cpuset.as_ref()].into_iter().flatten() {
        let mut chain = vec![group.at(branch.root.clone()), group.at(branch.class.clone())];
        let pod = branch.pod(group);
        chain.extend(pod.clone());
        apply::make(&chain, &mut Vec::new())?;
        pods.extend(pod);
    }
    Ok(pods)
}

/// A container of a pod whose machine is up. What was left to be done for the machine is done now, before the workload.
fn workload(
    hook: &Hook,
    state: &State,
    sandbox: &ContainerId,
    unread: Unread,
    ours: &Ours<'_>,
) -> Result<(), Failure> {
    let record = hook.store.load(sandbox)?.filter(|record| record.vm.is_some());
    let Some(record) = record else {
        let is_asking = !matches!(hook.request(&state.annotations), Ok(None));
        if is_asking {
            report(
                hook,
                state,
                "its pod's sandbox asks for nothing, and a virtual machine has the class of its sandbox",
            );
        }
        return Ok(());
    };
    let class = Some(record.treatment.class);
    let failure = |error| Failure { class, error };
    compare(hook, state, &record);
    hook.finish_machine(sandbox, &record).map_err(failure)?;
    let record = hook.store.load(sandbox).map_err(failure)?.unwrap_or(record);
    let mut spec = unread.read(ours).map_err(failure)?;
    let mut edits = Edits::default();
    put_cpus(hook, &record, &mut spec, &mut edits).map_err(failure)?;
    write(&mut spec, ours, &edits).map_err(failure)
}

/// Puts the hooks in, notes what was changed, and writes the bundle.
fn write(spec: &mut Spec, ours: &Ours<'_>, edits: &Edits) -> Result<()> {
    if !edits.is_empty() {
        spec.note(edits)?;
    }
    spec.add_hooks(ours, edits)?;
    spec.write()
}

/// Says where a container asks for another class than its machine has.
fn compare(hook: &Hook, state: &State, record: &Record) {
    let own = hook.class_in_machine(state, record);
    let class = record.treatment.class;
    match own {
        Ok(Some(own)) if own != class => {
            report(
                hook,
                state,
                &format!("it asks for {own}, and its pod's virtual machine is {class}, as its sandbox is"),
            );
        }
        Ok(None) => {
            report(hook, state, &format!("it asks for nothing, and its pod's virtual machine is {class}"))
        }
        Err(Failure { error, .. }) => report(hook, state, &error.to_string()),
        Ok(Some(_)) => {}
    }
}

fn report(hook: &Hook, state: &State, why: &str) {
    let fields = [("stage", "shim"), ("container", state.id.as_str()), ("lost", why)];
    hook.logger.log(Level::Warning, "container has the class of its pod", &fields);
}

/// Kata gives the machine's group the CPUs that its containers' specifications name, all together, at every create, delete
/// and update. What one names is kept to what the machine may have; and CPUs of its own are named where that does not count:
/// without a limit anywhere Kata makes as many vCPUs as CPUs are named.
fn put_cpus(hook: &Hook, record: &Record, spec: &mut Spec, edits: &mut Edits) -> Result<()> {
    let Some((cpus, is_own)) = hook.cpus_of_machine(record)? else { return Ok(()) };
    let named = self::cpus(spec)?;
    let has_limit = spec.cpu()?.quota.is_some_and(|quota| quota > 0);
    let wanted = match named {
        Some(named) => match named.intersection(&cpus) {
            shared if shared.is_empty() => cpus,
            shared if shared == named => return Ok(()),
            shared => shared,
        },
        None if is_own && has_limit => cpus,
        None => return Ok(()),
    };
    spec.set(CPUS, Some(Json::String(wanted.to_string())), edits)
}

/// The CPUs that a specification names.
fn cpus(spec: &Spec) -> Result<Option<CpuSet>> {
    let text = spec.cpu()?.cpus.filter(|text| !text.is_empty());
    text.map(|text| text.parse()).transpose()
}

/// Gives back what a machine had, where its sandbox is what is deleted.
pub(super) fn delete(hook: &Hook, call: &Call) -> Result<()> {
    let Some(Ok(id)) = id(call) else { return Ok(()) };
    let Some(record) = hook.store.load(&id)?.filter(|record| record.vm.is_some()) else { return Ok(()) };
    let errors = hook.release(&id, &record);
    let cut = if record.phase == Phase::Applying { " before it was up" } else { "" };
    match errors.is_empty() {
        true => Ok(()),
        false => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(Error::invalid(format!("virtual machine {id}, deleted{cut}"), texts.join("; ")))
        }
    }
}
