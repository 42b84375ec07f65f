//! Where a container is: its groups, the pod's around them, Kubernetes' around those.

use nix::errno::Errno;

use super::kube::{self, PodGroup};
use super::{State, Vm, bundle};
use crate::error::{Error, Result};
use crate::kernel::control::Controller;
use crate::kernel::fs::{self, Roots};
use crate::kernel::group::{GONE, Group, Groups};
use crate::qos::KubeQos;

/// A container's place in the hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The container's groups: those the engine named.
    pub groups: Groups,
    /// The group below them the process really is in, where the runtime makes one (crun with systemd: `container`).
    pub inner: Option<Groups>,
    /// The pod's groups.
    pub pod: Option<Groups>,
    /// The pod's uid.
    pub pod_uid: Option<String>,
    /// Kubernetes' QoS class, as the path says.
    pub kube_qos: Option<KubeQos>,
    /// `kubepods`, and the QoS group below it; the `cpu` hierarchy.
    pub kube_groups: Vec<(KubeQos, Group)>,
    /// What there is besides, where the container is a virtual machine.
    pub vm: Option<Vm>,
}

/// crun's name for the group below the scope.
const INNER: &str = "container";

impl Place {
    /// Finds a container by its process: the path in `config.json` is a wish, `/proc/<pid>/cgroup` is the truth.
    pub fn of(roots: &Roots, state: &State, pid: i32) -> Result<Self> {
        let found = Groups::of_process(roots, pid)?;
        if found.cpu.is_root() && has_ended(roots, pid) {
            let file = roots.path(&format!("/proc/{pid}/cgroup"));
            return Err(Error::errno("find the container by", &file, Errno::ESRCH).hint(GONE));
        }
        belongs(&found.cpu, state, pid)?;
        Ok(Self::at(found))
    }

    /// A container that the runtime was told to put elsewhere than the engine wanted it: its pod is the engine's.
    pub fn of_engine(self, roots: &Roots, path: &str) -> Result<Self> {
        let engine = Self::at(wanted(roots, path)?);
        Ok(Self { groups: self.groups, inner: self.inner, ..engine })
    }

    /// The group crun with systemd makes below a container's, whose name it is.
    pub fn inner_of(group: &Group) -> Option<Group> {
        let inner = group.child(INNER);
        (group.name().ends_with(".scope") && inner.exists()).then_some(inner)
    }

    /// The place of a container whose process is in these groups.
    pub fn at(found: Groups) -> Self {
        let in_scope =
            |g: &Group| g.name() == INNER && g.parent().is_some_and(|p| p.name().ends_with(".scope"));
        let (groups, inner) = match found.map(|g| if in_scope(g) { g.parent() } else { Some(g.clone()) }) {
            Some(outer) if in_scope(&found.cpu) => (outer, Some(found)),
            _ => (found, None),
        };
        let pod = groups.map(|group| PodGroup::find(&group.path).map(|found| group.at(found.pod)));
        let found = PodGroup::find(&groups.cpu.path);
        let kube_groups = found.iter().flat_map(|found| {
            let own = (found.qos != KubeQos::Guaranteed).then(|| (found.qos, groups.cpu.at(found.qos_group)));
            [Some((KubeQos::Guaranteed, groups.cpu.at(found.root))), own].into_iter().flatten()
        });
        Self {
            kube_groups: kube_groups.collect(),
            pod_uid: found.as_ref().map(|found| found.uid.clone().into_owned()),
            kube_qos: found.as_ref().map(|found| found.qos),
            pod,
            groups,
            inner,
            vm: None,
        }
    }
}

/// Whether a `linux.cgroupsPath` says by itself where the group is: an absolute path, or a systemd unit's.
pub fn is_whole(path: &str) -> bool {
    path.starts_with('/') || kube::systemd_path(path).is_some()
}

/// The groups a runtime makes for a `linux.cgroupsPath`. One that is no whole path is taken to lie below this process's
/// own groups, as below a runtime's.
pub fn wanted(roots: &Roots, path: &str) -> Result<Groups> {
    let top = Groups::top(roots)?;
    let whole = match path.starts_with('/') {
        true => Some(format!("/{}", path.trim_matches('/'))),
        false => kube::systemd_path(path),
    };
    let own = match &whole {
        Some(_) => None,
        None => Groups::of_process(roots, i32::try_from(std::process::id()).unwrap_or(0)).ok(),
    };
    let at = |controller: Controller| match &whole {
        Some(whole) => whole.clone(),
        None => {
            let own = own.as_ref().and_then(|own| own.of(controller)).map_or("", |group| group.path.as_str());
            format!("{}/{path}", own.trim_end_matches('/'))
        }
    };
    Ok(all_at(&top, at))
}

/// The same hierarchies at other paths.
pub fn all_at(top: &Groups, path: impl Fn(Controller) -> String) -> Groups {
    Groups {
        cpu: top.cpu.at(path(Controller::Cpu)),
        cpuset: top.cpuset.as_ref().map(|group| group.at(path(Controller::Cpuset))),
        memory: top.memory.as_ref().map(|group| group.at(path(Controller::Memory))),
    }
}

/// Whether a process has ended and waits for its parent: the kernel shows it in the root cgroup.
fn has_ended(roots: &Roots, pid: i32) -> bool {
    // The name before it may hold anything: `7 (a b) Z 1 …` (proc_pid_stat(5)).
    let stat = fs::read(&roots.path(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Whether the process can be this container's: a wrong pid must not let anybody's group be written.
fn belongs(group: &Group, state: &State, pid: i32) -> Result<()> {
    let id = state.id.as_str();
    let refuse = |why: String| {
        Err(Error::invalid(format!("pid {pid} in the OCI state"), why)
            .hint("nothing is written to a group that is not the container's"))
    };
    if group.is_root() {
        return refuse("it is in the root cgroup, where no container is".to_owned());
    }
    let named = |part: &str| {
        part == id
            || part.strip_suffix(".scope").is_some_and(|unit| unit == id || unit.ends_with(&format!("-{id}")))
    };
    if group.path.rsplit('/').take(2).any(named) {
        return Ok(());
    }
    // Outside Kubernetes the path need not name the container; then the bundle says which it is to be.
    let wanted = match &state.bundle {
        Some(bundle) => bundle::cgroups_path(bundle)?,
        None => None,
    };
    let fits = match wanted.as_deref() {
        Some(path) if path.contains(':') => {
            let mut parts = path.splitn(3, ':').skip(1);
            let (prefix, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let unit =
                if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
            group.path.rsplit('/').take(2).any(|part| part == unit)
        }
        Some(path) => {
            let path = path.trim_matches('/');
            let mut here = group.path.trim_matches('/').to_owned();
            here.insert(0, '/');
            !path.is_empty() && here.ends_with(&format!("/{path}"))
        }
        None => false,
    };
    if fits {
        return Ok(());
    }
    refuse(format!("it is in cgroup {}, which is not that of container {id}", group.path))
}
