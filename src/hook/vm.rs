//! Virtual machines: a pod is treated as a whole, in as many steps as it takes until all of its groups are there.
//!
//! The record of the pod is that of its sandbox. It is an intent as long as something is left to be written: a group that
//! the shim has not made yet, or a low identity before the guest has answered. Each hook of each container of the pod, and
//! each start of one, does what can be done by then.

use super::create::Subject;
use super::{Failure, Hook, Report, Stage};
use crate::apply;
use crate::container::kube::{self, PodGroup};
use crate::container::{Role, Sandbox, State, Vm, Vmm, bundle};
use crate::cpuset::CpuSet;
use crate::error::{Error, Result};
use crate::kernel::control::Knob;
use crate::plan::{Level, Plan, Write};
use crate::policy::config::Boot;
use crate::policy::treatment::{CpusRule, Treatment};
use crate::qos::QosClass;
use crate::record::{ContainerId, Phase, Record, Who};

/// The stage in the log, where no hook but the shim's wrapper is at work.
const SHIM: &str = "shim";

/// How far a machine is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress<'a> {
    /// Whether its guest has answered, so that a low identity does not keep it from that.
    pub(super) has_answered: bool,
    /// Whether all of its groups must be there by now.
    pub(super) is_complete: bool,
    /// What was done before.
    pub(super) earlier: Option<&'a Record>,
}

/// A container's machine, as a hook finds it.
pub(super) struct Machine {
    sandbox: Sandbox,
    vmm: Option<Vmm>,
}

impl Subject<'_> {
    pub(super) fn earlier(&self) -> Option<&Record> {
        self.machine.and_then(|machine| machine.earlier)
    }

    /// Whether nothing is left, or nobody comes after this who could do it. A machine that has no group yet is not known
    /// yet, either.
    pub(super) fn is_done(&self, held: &[Write]) -> bool {
        self.is_last() || (held.is_empty() && self.place.groups.cpu.exists())
    }

    fn is_last(&self) -> bool {
        self.machine.is_none_or(|machine| machine.is_complete)
    }

    /// The error for a group that should be there by now.
    pub(super) fn missing(&self, held: &[Write]) -> Option<Error> {
        let write = held.iter().find(|_| self.is_last())?;
        Some(
            Error::invalid(
                format!("group {} of the virtual machine {}", write.group.path, self.id),
                "it is not there, under this name or another that Kata is known to take",
            )
            .hint("its pod's group has the values all the same"),
        )
    }
}

impl Hook {
    /// The machine a container is in; none for an ordinary container.
    pub(super) fn machine(&self, stage: Stage, state: &State) -> Result<Option<Machine>> {
        let vmm = || state.pid.and_then(|pid| Vmm::of(&self.roots, pid));
        if let Some(id) = &self.sandbox {
            let sandbox = Sandbox { id: id.clone(), role: state.sandbox()?.role };
            return Ok(Some(Machine { sandbox, vmm: vmm() }));
        }
        if stage.is_create() {
            // By far the most containers ask for nothing.
            let vmm = if self.asks(state) { vmm() } else { None };
            return match vmm {
                Some(_) => Ok(Some(Machine { sandbox: state.sandbox()?, vmm })),
                None => Ok(None),
            };
        }
        let sandbox = state.sandbox()?;
        // Kata's Go runtime gives the sandbox's id for its own.
        let is_taken_for = sandbox.role == Role::Workload && sandbox.id == state.id;
        Ok((is_taken_for && self.store.has(&sandbox.id)).then(|| Machine { sandbox, vmm: vmm() }))
    }

    /// Does a stage for a container in a machine.
    pub(super) fn run_machine(
        &self,
        stage: Stage,
        state: &State,
        machine: Machine,
    ) -> Result<Report, Failure> {
        let Machine { sandbox: Sandbox { id, role }, vmm } = machine;
        if stage == Stage::Poststop && role != Role::Workload {
            return self.stop(&State { id, ..state.clone() }).map_err(Failure::from);
        }
        let record = match self.store.load(&id) {
            Ok(record) => record,
            Err(error) => {
                self.set_aside(&id, &error);
                None
            }
        };
        let vmm = vmm.filter(Vmm::is_up);
        // The machine of another life, whose end nobody told.
        let is_other = |record: &Record| {
            let other = vmm.as_ref().is_some_and(|vmm| record.pid != 0 && record.pid != vmm.pid);
            stage.is_create() && role != Role::Workload && (other || !record.is_live())
        };
        let record = match record {
            Some(record) if is_other(&record) => {
                self.release(&id, &record);
                None
            }
            record => record,
        };
        let progress = Progress {
            has_answered: match stage {
                _ if role == Role::Workload => true,
                // Before these the guest's agent has answered, and the container of a pod's sandbox does no work.
                Stage::CreateContainer | Stage::Poststart => true,
                // Nothing comes between the guest's answer and the workload of a container that is alone.
                _ => role == Role::Single && vmm.is_some(),
            },
            is_complete: stage == Stage::Poststart,
            earlier: record.as_ref(),
        };
        match (&record, stage.is_create()) {
            (Some(record), _) => {
                let class = Some(record.treatment.class);
                self.go_on(&id, record, vmm.as_ref(), progress).map_err(|error| Failure { class, error })
            }
            (None, true) => self.begin(&id, role, state, vmm.as_ref(), progress),
            (None, false) => Ok(Report::default()),
        }
    }

    /// A machine that nothing was done for yet: no shim of ours stood before Kata's.
    fn begin(
        &self,
        id: &ContainerId,
        role: Role,
        state: &State,
        vmm: Option<&Vmm>,
        progress: Progress<'_>,
    ) -> Result<Report, Failure> {
        let Some(own) = state.bundle.as_deref() else {
            return Err(Error::invalid("OCI state on standard input", "no bundle")
                .hint("a virtual machine's groups are found by the cgroupsPath in it")
                .into());
        };
        let path = bundle::cgroups_path(own)?.unwrap_or_default();
        // The sandbox says what its pod is; engines keep the bundles of a pod's containers in one folder.
        let of_sandbox = std::path::Path::new(own).with_file_name(id.as_str());
        let of_sandbox = of_sandbox.to_str().filter(|_| role == Role::Workload).unwrap_or(own);
        let annotations = match bundle::annotations(of_sandbox) {
            Ok(annotations) => annotations,
            Err(_) => state.annotations.clone(),
        };
        let subject = State { id: id.clone(), pid: None, bundle: Some(of_sandbox.to_owned()), annotations };
        let Some((treatment, who)) = self.treatment_of_machine(&subject, &path)? else {
            return Ok(Report::default());
        };
        let failure = |error| Failure { class: Some(treatment.class), error };
        let mut vm = Vm::new(self.edits.cgroups_path().unwrap_or(&path)).map_err(failure)?;
        if self.edits.cgroups_path().is_some() {
            vm = Vm { engine_path: Some(vm.path), path, ..vm };
        }
        self.step(id, vm, who, None, treatment.clone(), vmm, progress).map_err(failure)
    }

    /// What a machine gets by the annotations of its sandbox; none where they ask for nothing.
    pub fn treatment_of_machine(
        &self,
        sandbox: &State,
        path: &str,
    ) -> Result<Option<(Treatment, Who)>, Failure> {
        let Some(request) = self.request(&sandbox.annotations)? else { return Ok(None) };
        let class = request.claimed_class();
        Vm::new(path).map_err(|error| Failure { class, error })?;
        // By names alone: where the machine is, or will be, is looked for once it is known that it matters.
        let group = kube::systemd_path(path).unwrap_or_else(|| path.to_owned());
        let pod = PodGroup::find(&group);
        let pod_uid = pod.as_ref().map(|pod| pod.uid.clone().into_owned());
        let who = Who { pod_uid, container: None, ..sandbox.who() };
        // Elsewhere a sandbox only waits; here it is all of its pod.
        let treatment = self.treatment_as(&request, &who, pod.map(|pod| pod.qos), false);
        Ok(treatment.map(|treatment| (treatment, who)))
    }

    /// The first step, before there is a machine. What was left of another one under the same id is given back.
    pub fn before_machine(
        &self,
        id: &ContainerId,
        vm: Vm,
        who: Who,
        allowed: Option<CpuSet>,
        treatment: Treatment,
    ) -> Result<()> {
        self.report(SHIM, id, &self.step(id, vm, who, allowed, treatment, None, Progress::default())?);
        Ok(())
    }

    /// What is left to be done for a machine whose guest has answered.
    pub fn finish_machine(&self, id: &ContainerId, record: &Record) -> Result<()> {
        self.report(SHIM, id, &self.rest_of_machine(id, record)?);
        Ok(())
    }

    pub(super) fn rest_of_machine(&self, id: &ContainerId, record: &Record) -> Result<Report> {
        let progress = Progress { has_answered: true, is_complete: true, earlier: Some(record) };
        let vmm = Vmm::of(&self.roots, record.pid).filter(Vmm::is_up);
        self.go_on(id, record, vmm.as_ref(), progress)
    }

    fn go_on(
        &self,
        id: &ContainerId,
        record: &Record,
        vmm: Option<&Vmm>,
        progress: Progress<'_>,
    ) -> Result<Report> {
        let Some(vm) = record.vm.clone().filter(|_| record.phase == Phase::Applying) else {
            let state = State { id: id.clone(), pid: None, bundle: None, annotations: Vec::new() };
            return self.again(&state, record.clone());
        };
        let (who, allowed) = (record.who.clone(), record.allowed.clone());
        self.step(id, vm, who, allowed, record.treatment.clone(), vmm, progress)
    }

    #[allow(clippy::too_many_arguments)]
    fn step(
        &self,
        id: &ContainerId,
        vm: Vm,
        who: Who,
        allowed: Option<CpuSet>,
        treatment: Treatment,
        vmm: Option<&Vmm>,
        progress: Progress<'_>,
    ) -> Result<Report> {
        let place = vm.place(&self.roots, id, vmm)?;
        let pid = vmm.map(|vmm| vmm.pid).or_else(|| progress.earlier.map(|record| record.pid)).unwrap_or(0);
        let subject = Subject { id, pid, place: &place, who: &who, allowed, machine: Some(progress) };
        self.treat(&subject, treatment, Vec::new())
    }

    /// Takes the writes out of a plan that have to wait: for the group, or for the guest's answer.
    pub(super) fn hold_back(
        &self,
        subject: &Subject<'_>,
        treatment: &Treatment,
        plan: &mut Plan,
    ) -> Vec<Write> {
        let Some(progress) = subject.machine else { return Vec::new() };
        let is_low = treatment.identity.is_some_and(|identity| identity < 0)
            && self.config.shim.low_identity == Boot::After
            && !progress.has_answered;
        let rung = plan.rung;
        let waits = |write: &Write| {
            let is_own = matches!(write.level, Level::Pod | Level::Container | Level::Overhead);
            !write.group.exists() || (is_low && is_own && rung.is_carried_by(write.knob))
        };
        let (held, ready) = std::mem::take(&mut plan.writes).into_iter().partition(waits);
        plan.writes = ready;
        held
    }

    /// The pod's CPUs bound the machine only until it had a group of its own.
    pub(super) fn unbind_pod(&self, subject: &Subject<'_>, record: &Record) -> Vec<Error> {
        let is_bound = |write: &Write| write.level == Level::Pod && write.knob == Knob::Cpus;
        if record.writes.iter().any(|done| is_bound(&done.write)) {
            return Vec::new();
        }
        let earlier = subject.earlier().into_iter().flat_map(|earlier| &earlier.writes);
        let back = earlier.filter(|done| is_bound(&done.write)).filter_map(|done| {
            let is_ours =
                done.write.group.read(Knob::Cpus).ok().flatten().as_ref() == Some(&done.write.value);
            let before = done.before.clone().filter(|_| is_ours)?;
            Some(Write { value: before, why: "as it was before".to_owned(), ..done.write.clone() })
        });
        apply::give_back(&back.collect::<Vec<_>>())
    }

    /// The class that a container of a machine's pod asks for itself; none where it asks for nothing.
    pub fn class_in_machine(&self, state: &State, record: &Record) -> Result<Option<QosClass>, Failure> {
        let Some(request) = self.request(&state.annotations)? else { return Ok(None) };
        let who = Who { namespace: record.who.namespace.clone(), ..state.who() };
        let kube_qos = PodGroup::find(&record.origin.cpu.path).map(|pod| pod.qos);
        Ok(self.treatment_as(&request, &who, kube_qos, false).map(|treatment| treatment.class))
    }

    /// The CPUs that a machine is to have now, where they are not simply all; and whether they are its own.
    pub fn cpus_of_machine(&self, record: &Record) -> Result<Option<(CpuSet, bool)>> {
        let own = record.writes.iter().map(|done| &done.write);
        // Where its own group has no cpuset, its pod's stands for it.
        let is_own = |write: &&Write| matches!(write.level, Level::Container | Level::Pod);
        let mut own = own.filter(is_own).filter(|write| write.knob == Knob::Cpus);
        let planned = own.next().and_then(|write| write.value.set()).cloned();
        if !matches!(record.treatment.cpus, CpusRule::SharedPool | CpusRule::BestEffortPool) {
            return Ok(planned.map(|cpus| (cpus, true)));
        }
        let sources = self.sources();
        let node = sources.node(&sources.live_claims()?)?;
        let pool = node.pool(record.treatment.class);
        let pool = record.allowed.as_ref().map_or_else(|| pool.clone(), |allowed| pool.intersection(allowed));
        Ok((!node.is_whole() && !pool.is_empty()).then_some((pool, false)))
    }
}
