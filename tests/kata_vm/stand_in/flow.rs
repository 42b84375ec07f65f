//! What is done when: the order of steps of each runtime, from a container's creation to its end.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::config::Config;
use super::journal::{Entry, Step};
use super::messages::{CreateTaskRequest, Status};
use super::places::Places;
use super::sandbox::{Container, Sandbox, Whose};
use super::spec::{Resources, Spec};
use super::vmm::Vmm;

impl Sandbox {
    /// Makes the sandbox and its VM. Whatever fails, nothing stays.
    pub fn create(request: &CreateTaskRequest, spec: Spec) -> Result<Self, String> {
        let config = Config::load(request.options.as_ref())?;
        let flavour = config.stand_in.flavour;
        let note = |entry: Entry| entry.write(&config.stand_in.journal);
        note(read(request, &spec))?;
        let only = config.runtime.sandbox_cgroup_only;
        let places = Places::of(flavour, spec.cgroups_path(), &request.id, only, spec.has_cpu());

        // The runtime in Rust makes the sandbox's group when it first puts something in.
        let first = match &places.overhead {
            Some(overhead) if flavour.is_go() => vec![&places.sandbox, overhead],
            Some(overhead) => vec![overhead],
            None => vec![&places.sandbox],
        };
        for group in &first {
            group.make()?;
            note(Entry::new(Step::GroupMade, &request.id, &group.path).with_values(&group.path))?;
        }
        if flavour.is_go() {
            places.sandbox.set_cpus(spec.cpus())?;
        }
        let home = places.overhead.as_ref().unwrap_or(&places.sandbox);
        home.join(std::process::id())?;
        note(Entry::new(Step::ShimJoined, &request.id, &home.path))?;

        let vmm = Vmm::start(&config, &request.id);
        let vmm = vmm.inspect_err(|_| first.iter().for_each(|group| drop(group.remove())))?;
        let mut sandbox = Self::new(&request.id, config.clone(), places.clone(), vmm);
        let done = sandbox.boot(container(request, spec));
        if let Err(why) = done {
            sandbox.stop();
            return Err(why);
        }
        Ok(sandbox)
    }

    fn boot(&mut self, container: Container) -> Result<(), String> {
        let id = self.id.clone();
        let hooks = container.spec.hooks();
        self.note_threads(Step::VmmBorn, &id, "")?;
        self.vmm.run()?;
        self.note(&Entry::new(Step::GuestRuns, &id, ""))?;

        for (stage, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            let done = self.run_hooks(stage, list, (&id, &container), Whose::Vmm, "creating");
            if self.flavour().is_go() {
                done?;
            }
        }
        let limit = Duration::from_secs(self.config.stand_in.dial_timeout_s);
        self.vmm.wait_for_guest(&self.config.stand_in.answer, limit)?;
        self.note_threads(Step::GuestAnswered, &id, "")?;
        if !self.flavour().is_go() {
            if self.places.overhead.is_some() {
                self.places.sandbox.make()?;
                let path = &self.places.sandbox.path;
                self.note(&Entry::new(Step::GroupMade, &id, path).with_values(path))?;
                self.move_vcpus(&id)?;
            }
            let _ = self.run_hooks(
                "createContainer",
                &hooks.create_container,
                (&id, &container),
                Whose::Vmm,
                "creating",
            );
        }
        self.containers.insert(id.clone(), container);
        self.constrain(&id)?;
        self.persist()?;
        self.note_threads(Step::Created, &id, "")
    }

    /// Makes a container in the VM. The Go runtime leaves it there if a hook fails.
    pub fn create_container(&mut self, request: &CreateTaskRequest, spec: Spec) -> Result<(), String> {
        let id = request.id.as_str();
        if self.containers.contains_key(id) {
            return Err(format!("Duplicated container: {id}"));
        }
        self.note(&read(request, &spec))?;
        let hooks = spec.hooks();
        let container = container(request, spec);
        if !self.flavour().is_go() {
            let list = &hooks.create_container;
            let _ = self.run_hooks("createContainer", list, (id, &container), Whose::Vmm, "creating");
        }
        self.containers.insert(id.to_owned(), container);
        self.constrain(id)?;
        if self.flavour().is_go() {
            let container = &self.containers[id];
            self.run_hooks("prestart", &hooks.prestart, (id, container), Whose::Vmm, "creating")?;
            if self.flavour() != super::config::Flavour::Go32 {
                let list = &hooks.create_runtime;
                self.run_hooks("createRuntime", list, (id, container), Whose::Vmm, "creating")?;
            }
        }
        self.note_threads(Step::Created, id, "")
    }

    /// Starts a container's program.
    pub fn start(&mut self, id: &str) -> Result<(), String> {
        if let Some(container) = self.containers.get_mut(id) {
            container.status = Status::Running;
        }
        self.hooks_after(id, "poststart", "running");
        self.note_threads(Step::Started, id, "")
    }

    /// An update of a container's resources.
    pub fn update(&mut self, id: &str, resources: Resources) -> Result<(), String> {
        if let Some(container) = self.containers.get_mut(id) {
            container.spec.update(resources);
        }
        self.constrain(id)?;
        self.note_threads(Step::Updated, id, "")
    }

    /// A container's program ends. The sandbox's own takes the VM with it.
    pub fn end(&mut self, id: &str, signal: u32) -> Result<(), String> {
        if let Some(container) = self.containers.get_mut(id).filter(|it| it.status != Status::Stopped) {
            container.status = Status::Stopped;
            container.exit = 128 + signal;
            container.exited_at = Some(SystemTime::now());
            container.io.clear();
            self.note(&Entry::new(Step::Stopped, id, ""))?;
            if id == self.id {
                self.stop();
            } else if !self.flavour().is_go() {
                self.constrain(id)?;
            }
        }
        Ok(())
    }

    /// Forgets a container, whose CPUs nobody asks for any more.
    pub fn delete(&mut self, id: &str) -> Result<Option<Container>, String> {
        let Some(container) = self.containers.remove(id) else { return Ok(None) };
        if id != self.id {
            self.constrain(id)?;
        }
        self.containers.insert(id.to_owned(), container);
        self.hooks_after(id, "poststop", "stopped");
        self.note(&Entry::new(Step::Deleted, id, ""))?;
        Ok(self.containers.remove(id))
    }

    /// Hooks whose failure is no more than a warning. The Go runtime gives them the sandbox's id and its own thread.
    fn hooks_after(&self, id: &str, stage: &str, status: &str) {
        let Some(container) = self.containers.get(id) else { return };
        let hooks = container.spec.hooks();
        let list = if stage == "poststart" { hooks.poststart } else { hooks.poststop };
        let (name, whose) =
            if self.flavour().is_go() { (self.id.as_str(), Whose::ShimThread) } else { (id, Whose::Vmm) };
        let _ = self.run_hooks(stage, &list, (name, container), whose, status);
    }
}

fn read(request: &CreateTaskRequest, spec: &Spec) -> Entry {
    Entry::new(Step::SpecRead, &request.id, spec.cpus())
}

fn container(request: &CreateTaskRequest, spec: Spec) -> Container {
    let open = |path: &&String| {
        // For reading too, so that it does not wait for a reader.
        let nonblock = nix::libc::O_NONBLOCK;
        OpenOptions::new().read(true).write(true).custom_flags(nonblock).open(Path::new(path)).ok()
    };
    Container {
        spec,
        bundle: request.bundle.clone(),
        status: Status::Created,
        exit: 0,
        exited_at: None,
        io: [&request.stdout, &request.stderr]
            .iter()
            .filter(|path| !path.is_empty())
            .filter_map(open)
            .collect(),
    }
}
