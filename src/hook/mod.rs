//! The hook: one container's way from the state on standard input to its cgroup files, stage by stage.

mod create;
mod finish;
mod release;
pub mod repair;
mod shared;
pub mod update;
mod verify;
mod vm;

use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::annotations::Request;
use crate::container::kube::Driver;
use crate::container::state::is_sandbox;
use crate::container::{Edits, Place, State};
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::kernel::group::Group;
use crate::kernel::identity::{Rung, Wish};
use crate::log::{Level, Logger};
use crate::plan::gather::{CpuSettings, Sources};
use crate::plan::{Mover, TreeShape};
use crate::policy::config::{self, Config, CoreScheduling, IdentitySwitch, Mechanism, OnError, Placement};
use crate::policy::decide::{Asked, Rules};
use crate::policy::treatment::Treatment;
use crate::qos::{KubeQos, QosClass};
use crate::record::{ContainerId, Store, Who};

/// Where the kill switch is, whatever the configuration says.
pub(crate) const DEFAULT_RUN: &str = "/run/plimsoll";

/// A stage of the OCI lifecycle (runtime-spec, "Lifecycle").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the process is pivoted into its root: deprecated, and all that some runtimes have.
    Prestart,
    /// The same moment, in its present name.
    CreateRuntime,
    /// On the host in Kata's runtime-rs, before each container is created in the guest; other runtimes call it in the
    /// container's namespaces, where there is nothing to be done.
    CreateContainer,
    /// After the start; runc up to 1.5.1 calls it at the end of create already.
    Poststart,
    /// After the container is deleted.
    Poststop,
}

impl Stage {
    /// Every stage, in the order of a container's life.
    pub const ALL: [Self; 5] =
        [Self::Prestart, Self::CreateRuntime, Self::CreateContainer, Self::Poststart, Self::Poststop];

    /// Whether the container is yet to be started.
    pub fn is_create(self) -> bool {
        matches!(self, Self::Prestart | Self::CreateRuntime | Self::CreateContainer)
    }

    /// The name on the command line, and in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

impl FromStr for Stage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or(())
    }
}

/// What a stage did, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What happened, in a few words; empty where nothing is worth a line.
    pub message: String,
    /// The details.
    pub fields: Vec<(&'static str, String)>,
    /// What this kernel or placement could not give.
    pub lost: Vec<String>,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// Why a stage failed, and whose policy says what follows.
#[derive(Debug)]
pub struct Failure {
    /// The class, where it was known by then.
    pub class: Option<QosClass>,
    /// What went wrong.
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { class: None, error }
    }
}

/// Everything a stage needs.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The node's file systems.
    pub roots: Roots,
    /// The configuration.
    pub config: Config,
    /// The records.
    pub store: Store,
    /// The log.
    pub logger: Logger,
    /// What the runtime wrapper changed of what the engine wants for the container at hand.
    pub edits: Edits,
    /// The sandbox whose virtual machine the container at hand is in, where the shim's wrapper has said so.
    pub sandbox: Option<ContainerId>,
    rules: Rules,
    wish: Wish,
    cpus: CpuSettings,
    shape: TreeShape,
}

impl Hook {
    /// A hook on the node below `roots`, with this configuration.
    pub fn new(roots: Roots, config: Config) -> Result<Self> {
        let store = Store::at(roots.path(&config.paths.run.to_string_lossy()));
        let logger = Logger::new(&config);
        let rules = Rules::of(&config, &roots)?;
        Ok(Self {
            wish: wish(&config.identity),
            cpus: CpuSettings {
                reserved: config.exclusive.reserved_cpus.clone(),
                min_shared: config.exclusive.min_shared_cpus,
                system: if config.system.exclusive { config.system.cpus.clone() } else { Default::default() },
            },
            shape: TreeShape {
                root: config.paths.class_tree.to_string_lossy().into_owned(),
                offline_only: only_offline_in_tree(&config),
                identity: rules.identity().clone(),
                kube_identity: config.identity.kube_qos_groups.then(|| rules.identity().clone()),
                mover: Mover::Hook,
            },
            edits: Edits::default(),
            sandbox: None,
            rules,
            roots,
            config,
            store,
            logger,
        })
    }

    /// Where facts are read.
    pub fn sources(&self) -> Sources<'_> {
        Sources { roots: &self.roots, store: &self.store, wish: &self.wish, cpus: &self.cpus }
    }

    /// What a container's annotations ask for; `None` where nobody need look any further. A part that cannot be read
    /// leaves the container as it is: nothing of a broken request is guessed.
    pub fn request(&self, annotations: &[(String, String)]) -> Result<Option<Request>, Failure> {
        let request = Request::read(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if request.is_empty() && !self.config.kube_qos {
            return Ok(None);
        }
        match request.first_error() {
            None => Ok(Some(request)),
            Some(error) => Err(Failure { class: request.claimed_class(), error: error.clone() }),
        }
    }

    /// What a container gets; `None` where its request leads to nothing.
    pub fn treatment(
        &self,
        request: &Request,
        annotations: &[(String, String)],
        who: &Who,
        kube_qos: Option<KubeQos>,
    ) -> Option<Treatment> {
        self.treatment_as(request, who, kube_qos, is_sandbox(annotations))
    }

    /// The same, where it is known whether the container is a sandbox that only waits.
    pub fn treatment_as(
        &self,
        request: &Request,
        who: &Who,
        kube_qos: Option<KubeQos>,
        sandbox: bool,
    ) -> Option<Treatment> {
        let asked = Asked {
            request,
            namespace: who.namespace.as_deref(),
            container: who.container.as_deref(),
            kube_qos,
            sandbox,
        };
        self.rules.decide(&self.config, &asked)
    }

    /// The class tree's shape.
    pub fn shape(&self) -> &TreeShape {
        &self.shape
    }

    /// The class tree's shape as it is now: where online containers are left in it from another configuration, its root
    /// must not become idle above them.
    pub fn shape_at(&self, cpu: &Group, class: QosClass) -> TreeShape {
        let is_lived_in = |class: QosClass| {
            let groups =
                [Driver::Cgroupfs, Driver::Systemd].map(|driver| self.shape.branch(driver, class).class);
            groups.into_iter().any(|path| !cpu.at(path).children().is_empty())
        };
        let mut online = QosClass::ALL.into_iter().filter(|class| *class != QosClass::Be);
        let is_mixed = class == QosClass::Be && self.shape.offline_only && online.any(is_lived_in);
        TreeShape { offline_only: self.shape.offline_only && !is_mixed, ..self.shape.clone() }
    }

    fn lock_budget(&self) -> Duration {
        Duration::from_millis(self.config.exclusive.lock_timeout_ms)
    }

    /// Runs a stage. An error is for the runtime: the policy says that the container must not start.
    pub fn run(&self, stage: Stage, input: impl Read) -> Result<()> {
        if self.store.is_disabled() {
            State::skip(input);
            return Ok(());
        }
        match State::read(input) {
            Ok(state) => self.stage(stage, &state),
            Err(error) => self.failed(stage, None, error.into()),
        }
    }

    /// The same, for a state that is known: the runtime wrapper does a stage's work at a time of its own.
    pub fn stage(&self, stage: Stage, state: &State) -> Result<()> {
        let done = match (self.machine(stage, state), stage) {
            (Err(error), _) => Err(error.into()),
            (Ok(Some(machine)), _) => self.run_machine(stage, state, machine),
            (_, Stage::Prestart | Stage::CreateRuntime) => self.create(state),
            (_, Stage::CreateContainer) => Ok(Report::default()),
            (_, Stage::Poststart) => self.verify(state).map_err(Failure::from),
            (_, Stage::Poststop) => self.stop(state).map_err(Failure::from),
        };
        match done {
            Ok(report) => {
                self.report(stage.name(), &state.id, &report);
                Ok(())
            }
            Err(failure) => self.failed(stage, Some(state), failure),
        }
    }

    /// Whether there is anything to give back of a container.
    pub fn has(&self, id: &ContainerId) -> bool {
        !matches!(self.store.load(id), Ok(None)) || self.store.has_claim(id)
    }

    /// Whether a treated container is still there.
    pub fn is_live(&self, id: &ContainerId) -> bool {
        self.store.load(id).is_ok_and(|record| record.is_some_and(|record| record.is_live()))
    }

    fn report(&self, stage: &str, id: &ContainerId, report: &Report) {
        if report.message.is_empty() && report.errors.is_empty() {
            return;
        }
        let level = match (report.errors.is_empty(), report.lost.is_empty()) {
            (false, _) => Level::Error,
            (true, false) => Level::Warning,
            (true, true) => Level::Info,
        };
        let (lost, errors) = (report.lost.join("; "), report.errors.join("; "));
        let mut fields = vec![("stage", stage), ("container", id.as_str())];
        fields.extend(report.fields.iter().map(|(name, value)| (*name, value.as_str())));
        for (name, value) in [("lost", &lost), ("errors", &errors)] {
            if !value.is_empty() {
                fields.push((name, value));
            }
        }
        self.logger.log(level, &report.message, &fields);
    }

    fn failed(&self, stage: Stage, state: Option<&State>, failure: Failure) -> Result<()> {
        let fails = self.config.on_error(failure.class) == OnError::Fail && stage != Stage::Poststop;
        let text = failure.error.to_string();
        let fields = [
            ("stage", stage.name()),
            ("container", state.map_or("?", |state| state.id.as_str())),
            ("class", failure.class.map_or("?", QosClass::name)),
            ("errors", text.as_str()),
        ];
        let message = match stage {
            _ if fails => "container refused",
            Stage::Prestart | Stage::CreateRuntime | Stage::CreateContainer => "container left as it was",
            Stage::Poststart => "container could not be checked",
            Stage::Poststop => "container could not be given back",
        };
        self.logger.log(Level::Error, message, &fields);
        if fails { Err(failure.error) } else { Ok(()) }
    }

    /// Whether a container asks for anything.
    fn asks(&self, state: &State) -> bool {
        !matches!(self.request(&state.annotations), Ok(None))
    }

    /// The container's place, by its process.
    fn place(&self, state: &State) -> Result<(i32, Place)> {
        let pid = state.pid.ok_or_else(|| {
            Error::invalid("OCI state on standard input", "no pid")
                .hint("only a running container can be placed")
        })?;
        let place = Place::of(&self.roots, state, pid)?;
        let place = match self.edits.cgroups_path() {
            Some(path) => place.of_engine(&self.roots, path)?,
            None => place,
        };
        Ok((pid, place))
    }
}

/// The identity ladder's settings.
pub fn wish(settings: &config::Identity) -> Wish {
    Wish {
        only: match settings.mechanism {
            Mechanism::Auto => None,
            Mechanism::GroupIdentity => Some(Rung::GroupIdentity),
            Mechanism::QosLevel => Some(Rung::QosLevel),
            Mechanism::Offline => Some(Rung::Offline),
            Mechanism::Idle => Some(Rung::Idle),
            Mechanism::Weight => Some(Rung::Weight),
            Mechanism::None => Some(Rung::None),
        },
        may_enable: settings.group_identity_switch == IdentitySwitch::Enable,
        may_disable_core_scheduling: settings.core_scheduling == CoreScheduling::Disable,
    }
}

/// Whether the configuration lets nothing but best effort into the class tree.
fn only_offline_in_tree(config: &Config) -> bool {
    let online = QosClass::ALL.into_iter().filter(|class| *class != QosClass::Be);
    online.map(|class| config.placement(class)).all(|placement| placement != Placement::ClassTree)
}

/// What a wrapper tells the hooks it puts into a bundle.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What it changed.
    pub edits: Edits,
    /// The sandbox whose virtual machine the container is in.
    pub sandbox: Option<ContainerId>,
}

/// Runs one stage on this node: what the program `plimsoll-hook` does.
pub fn main(stage: Stage, file: &Path, roots: Roots, told: Told, input: impl Read) -> Result<()> {
    // Before anything that could go wrong: the kill switch works with a broken configuration too.
    if Store::at(roots.path(DEFAULT_RUN)).is_disabled() {
        State::skip(input);
        return Ok(());
    }
    match Config::load(file).and_then(|config| Hook::new(roots, config)) {
        Ok(hook) => Hook { edits: told.edits, sandbox: told.sandbox, ..hook }.run(stage, input),
        Err(error) => {
            State::skip(input);
            // What the policy would have been is not known: the container starts, and the log says why like this.
            let message = "container left as it was: the configuration cannot be used";
            Logger::new(&Config::default()).log(
                Level::Error,
                message,
                &[("stage", stage.name()), ("errors", &error.to_string())],
            );
            Ok(())
        }
    }
}
