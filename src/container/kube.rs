//! Where Kubernetes puts pods and containers in the cgroup tree, for both cgroup drivers (koordlet's
//! `pkg/koordlet/util/system/cgroup_driver.go`, kubelet's `cm/pod_container_manager_linux.go`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::qos::KubeQos;

/// Who makes the groups, and so how they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// `kubepods/burstable/pod<uid>/<id>`
    Cgroupfs,
    /// `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope`
    Systemd,
}

/// A pod's place in the tree, found in the cgroup path of one of its processes. The paths are the beginnings of that path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup<'a> {
    /// How the groups are named.
    pub driver: Driver,
    /// The `kubepods` group.
    pub root: &'a str,
    /// The group of the pod's Kubernetes QoS; the root for Guaranteed pods.
    pub qos_group: &'a str,
    /// The pod's group.
    pub pod: &'a str,
    /// What follows the pod's group, without a leading slash: the container's group, and what it made below.
    pub below: &'a str,
    /// The pod's UID, with the dashes that systemd's names lack.
    pub uid: Cow<'a, str>,
    /// The pod's Kubernetes QoS.
    pub qos: KubeQos,
}

impl<'a> PodGroup<'a> {
    /// Finds the pod a path lies in: the nearest group, from the leaf upward, that kubelet names like a pod. `kubepods`
    /// may itself lie below anything, as in kind, where a node is a container of another cluster's pod.
    pub fn find(path: &'a str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let mut pod = path;
        loop {
            let (parent, name) = split(pod)?;
            if let Some(group) = Self::at(path, pod, parent, name) {
                return Some(group);
            }
            pod = parent;
        }
    }

    fn at(path: &'a str, pod: &'a str, parent: &'a str, name: &'a str) -> Option<Self> {
        let (grandparent, parent_name) = split(parent).unwrap_or(("", parent));
        let found = |driver, (root, qos), uid| Self {
            driver,
            root,
            qos_group: parent,
            pod,
            below: path.get(pod.len()..).unwrap_or("").trim_start_matches('/'),
            uid,
            qos,
        };
        if let Some(stem) = name.strip_suffix(".slice") {
            // The name of a slice begins with its parent's.
            let parent_stem = parent_name.strip_suffix(".slice")?;
            let uid = stem.strip_prefix(parent_stem)?.strip_prefix("-pod")?;
            let place = if is_root_stem(parent_stem) {
                (parent, KubeQos::Guaranteed)
            } else {
                let (root_stem, qos) = parent_stem.rsplit_once('-')?;
                (grandparent, qos_of_name(qos).filter(|_| is_root_stem(root_stem))?)
            };
            return (!uid.is_empty()).then(|| found(Driver::Systemd, place, dashes(uid)));
        }
        let uid = name.strip_prefix("pod").filter(|uid| !uid.is_empty())?;
        let place = if parent_name == "kubepods" {
            (parent, KubeQos::Guaranteed)
        } else {
            let (_, root_name) = split(grandparent).unwrap_or(("", grandparent));
            (grandparent, qos_of_name(parent_name).filter(|_| root_name == "kubepods")?)
        };
        Some(found(Driver::Cgroupfs, place, Cow::Borrowed(uid)))
    }

    /// The container's ID out of the group right below the pod's.
    pub fn container_id(&self) -> Option<&'a str> {
        let name = self.below.split('/').next().filter(|name| !name.is_empty())?;
        container_id_of_name(self.driver, name)
    }
}

/// Parent path and name; `None` where there is no name.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (!name.is_empty()).then_some((parent, name))
}

fn is_root_stem(stem: &str) -> bool {
    stem == "kubepods" || stem.ends_with("-kubepods")
}

fn qos_of_name(name: &str) -> Option<KubeQos> {
    match name {
        "burstable" => Some(KubeQos::Burstable),
        "besteffort" => Some(KubeQos::BestEffort),
        _ => None,
    }
}

fn dashes(uid: &str) -> Cow<'_, str> {
    if uid.contains('_') { Cow::Owned(uid.replace('_', "-")) } else { Cow::Borrowed(uid) }
}

/// The Kubernetes QoS as Koordinator sees it in any path: by the words in it. [`PodGroup::find`] is more exact.
pub fn qos_of_path(path: &str) -> KubeQos {
    if path.contains("besteffort") {
        KubeQos::BestEffort
    } else if path.contains("burstable") {
        KubeQos::Burstable
    } else {
        KubeQos::Guaranteed
    }
}

/// The pod's UID out of the name of its group; `None` where the driver does not name pods so.
pub fn pod_uid_of_name(driver: Driver, name: &str) -> Option<Cow<'_, str>> {
    let uid = match driver {
        Driver::Cgroupfs => name.strip_prefix("pod")?,
        Driver::Systemd => {
            let (parent, uid) = name.strip_suffix(".slice")?.split_once("-pod")?;
            let root = parent.rsplit_once('-').filter(|(_, qos)| qos_of_name(qos).is_some());
            if !is_root_stem(root.map_or(parent, |(root, _)| root)) {
                return None;
            }
            uid
        }
    };
    match driver {
        _ if uid.is_empty() => None,
        Driver::Cgroupfs => Some(Cow::Borrowed(uid)),
        Driver::Systemd => Some(dashes(uid)),
    }
}

/// How runtimes begin the names of their scopes. `crio-conmon-` is CRI-O's monitor, not a container.
const SCOPE_PREFIXES: [&str; 4] = ["cri-containerd-", "docker-", "crio-", "pouch-"];

/// The container's ID out of the name of its group; `None` where it is no container's.
pub fn container_id_of_name(driver: Driver, name: &str) -> Option<&str> {
    if name.starts_with("crio-conmon-") {
        return None;
    }
    let id = match driver {
        Driver::Cgroupfs => name.strip_prefix("crio-").unwrap_or(name),
        Driver::Systemd => {
            let stem = match name.strip_suffix(".scope") {
                Some(stem) => stem,
                // CRI-O also makes groups of this name that are no scopes.
                None => name.strip_prefix("crio-").map(|_| name)?,
            };
            SCOPE_PREFIXES.iter().find_map(|prefix| stem.strip_prefix(prefix))?
        }
    };
    (!id.is_empty()).then_some(id)
}

/// The group of a Kubernetes QoS, without a leading slash.
pub fn qos_group(driver: Driver, qos: KubeQos) -> &'static str {
    match (driver, qos) {
        (Driver::Cgroupfs, KubeQos::Guaranteed) => "kubepods",
        (Driver::Cgroupfs, KubeQos::Burstable) => "kubepods/burstable",
        (Driver::Cgroupfs, KubeQos::BestEffort) => "kubepods/besteffort",
        (Driver::Systemd, KubeQos::Guaranteed) => "kubepods.slice",
        (Driver::Systemd, KubeQos::Burstable) => "kubepods.slice/kubepods-burstable.slice",
        (Driver::Systemd, KubeQos::BestEffort) => "kubepods.slice/kubepods-besteffort.slice",
    }
}

/// The group of a pod, without a leading slash. A UID that is no path element is an error.
pub fn pod_group(driver: Driver, qos: KubeQos, uid: &str) -> Result<String> {
    element("pod UID", uid)?;
    let parent = qos_group(driver, qos);
    Ok(match driver {
        Driver::Cgroupfs => format!("{parent}/pod{uid}"),
        Driver::Systemd => {
            let (_, name) = split(parent).unwrap_or(("", parent));
            let stem = name.strip_suffix(".slice").unwrap_or(name);
            format!("{parent}/{stem}-pod{}.slice", uid.replace('-', "_"))
        }
    })
}

/// A container runtime, as Kubernetes names it in container IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `containerd://`
    Containerd,
    /// `docker://`
    Docker,
    /// `cri-o://`
    #[serde(rename = "cri-o")]
    CriO,
    /// `pouch://`
    Pouch,
}

impl Engine {
    /// The name before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::CriO => "cri-o",
            Self::Pouch => "pouch",
        }
    }

    fn scope_prefix(self) -> &'static str {
        match self {
            Self::Containerd => "cri-containerd-",
            Self::Docker => "docker-",
            Self::CriO => "crio-",
            Self::Pouch => "pouch-",
        }
    }
}

/// Runtime and bare ID out of a Kubernetes container ID (`containerd://1234`).
pub fn parse_container_id(id: &str) -> Result<(Engine, &str)> {
    let bad = |why| {
        let shown: String = id.chars().take(80).collect();
        Error::invalid(format!("container ID {shown:?}"), why).hint("write for instance containerd://<id>")
    };
    let (scheme, bare) = id.split_once("://").ok_or_else(|| bad("no <runtime>://"))?;
    let engine = [Engine::Containerd, Engine::Docker, Engine::CriO, Engine::Pouch]
        .into_iter()
        .find(|engine| engine.name() == scheme)
        .ok_or_else(|| bad("the runtime is not containerd, docker, cri-o or pouch"))?;
    element("container ID", bare)?;
    Ok((engine, bare))
}

/// The group of a container in its pod's, by its Kubernetes ID.
pub fn container_group(driver: Driver, pod_group: &str, id: &str) -> Result<String> {
    let (engine, bare) = parse_container_id(id)?;
    let pod_group = pod_group.trim_end_matches('/');
    let slash = if pod_group.is_empty() { "" } else { "/" };
    Ok(match driver {
        Driver::Cgroupfs => format!("{pod_group}{slash}{bare}"),
        Driver::Systemd => format!("{pod_group}{slash}{}{bare}.scope", engine.scope_prefix()),
    })
}

/// Refuses what would not be one element of a path.
fn element(what: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > 200 || matches!(text, "." | "..") || text.contains(['/', '\0']) {
        let shown: String = text.chars().take(80).collect();
        return Err(Error::invalid(format!("{what} {shown:?}"), "not one element of a path"));
    }
    Ok(())
}

/// The path of a systemd unit from `linux.cgroupsPath` in the form `slice:prefix:name`, as runc expands it; `None`
/// where the text has another form.
pub fn systemd_path(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, ':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let mut path = String::new();
    // `a-b.slice` lies in `a.slice`; `-.slice` is the root.
    if let Some(stem) = slice.strip_suffix(".slice").filter(|stem| *stem != "-") {
        for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            path.push_str(&format!("/{}.slice", stem.get(..at)?));
        }
    }
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(format!("{path}/{unit}"))
}

#[cfg(test)]
mod tests;
