//! Kata Containers: a pod is a virtual machine, and what a container's group is elsewhere is the whole machine's here.
//!
//! `linux.cgroupsPath` of a workload names a group that is never made on the host; its parent is the pod's. The machine's
//! own group is made next to it by the shim, under a name that depends on which Kata it is, on its configuration and on
//! annotations of the pod. So it is looked for, for each pod anew.

use serde::{Deserialize, Serialize};

use super::kube;
use super::place::{self, Place};
use super::vmm::Vmm;
use crate::error::{Error, Result};
use crate::kernel::fs::Roots;
use crate::kernel::group::{Group, Groups};
use crate::record::ContainerId;

/// A machine's place, as far as it is not a container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// `linux.cgroupsPath` of a container of the pod, as the shim was told it.
    pub path: String,
    /// The same in the engine's words, where those were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_path: Option<String>,
    /// The group of what does not run in the machine's own: the VMM's threads but for the vCPUs, the shim, virtiofsd
    /// (`sandbox_cgroup_only = false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Groups>,
    /// Where the VMM was found, where that is neither group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub astray: Option<String>,
}

impl Vm {
    /// A machine by the `cgroupsPath` of one of its containers.
    pub fn new(path: &str) -> Result<Self> {
        if !place::is_whole(path) {
            return Err(Error::invalid(
                format!("linux.cgroupsPath {path:?}"),
                "it names no group, and Kata then uses one for all pods",
            )
            .hint("nothing is written to groups that several pods share"));
        }
        Ok(Self { path: path.to_owned(), engine_path: None, overhead: None, astray: None })
    }

    /// Where the machine of a sandbox is, or will be as far as can be told before.
    pub fn place(mut self, roots: &Roots, sandbox: &ContainerId, vmm: Option<&Vmm>) -> Result<Place> {
        let top = Groups::top(roots)?;
        let at = |path: &String| place::all_at(&top, |_| path.clone());
        let names = names(&self.path, sandbox.as_str());
        let mut own = names.iter().map(at).find(|groups| groups.cpu.exists());
        self.find_overhead(&top, sandbox.as_str());
        self.astray = None;
        // What the kernel says counts for more than any name.
        let found = vmm.and_then(|vmm| Groups::of_process(roots, vmm.pid).ok());
        if let Some(found) = found.filter(|found| self.overhead.as_ref().is_none_or(|o| o.cpu != found.cpu)) {
            match found.cpu.path.rsplit('/').next().is_some_and(|name| is_of(name, sandbox.as_str())) {
                // By path: on cgroup v2 a process has no group for a controller that its group was not given.
                true => {
                    let path = |controller| found.of(controller).unwrap_or(&found.cpu).path.clone();
                    own = Some(place::all_at(&top, path));
                }
                false => self.astray = Some(found.cpu.path),
            }
        }
        let own = own.or_else(|| names.first().map(at)).unwrap_or(top);
        let place = Place::at(own);
        let place = match &self.engine_path {
            Some(path) => place.of_engine(roots, path)?,
            // Kata with systemd may put the machine outside its pod.
            None if place.pod.is_none() => place.of_engine(roots, &self.path)?,
            None => place,
        };
        Ok(Place { vm: Some(self), inner: None, ..place })
    }

    /// Looks for the overhead's group: it is made after the first look, and need not last.
    pub fn find_overhead(&mut self, top: &Groups, sandbox: &str) {
        let at = |path: &String| place::all_at(top, |_| path.clone());
        self.overhead = overheads(sandbox).iter().map(at).find(|groups| groups.cpu.exists());
    }
}

/// What the machine's own group may be called, by the `cgroupsPath` of a container of its pod.
fn names(path: &str, sandbox: &str) -> Vec<String> {
    let mut names = Vec::new();
    if path.starts_with('/') {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        // Kata's Go runtime puts `kata_` before it. The sandbox's own name need not be its id.
        for name in [Some(sandbox), Some(name).filter(|name| *name != sandbox)].into_iter().flatten() {
            names.extend([format!("{parent}/kata_{name}"), format!("{parent}/{name}")]);
        }
    } else if let Some((unit, _)) = path.rsplit_once(':') {
        let path = format!("{unit}:{sandbox}");
        names.extend(kube::systemd_path(&path));
        // With `sandbox_cgroup_only = false` the Go runtime takes a unit for a path.
        names.push(format!("/{path}"));
    }
    // runtime-rs where containerd gives the sandbox no specification (`sandboxer = "shim"`).
    names.push(format!("/kata_sandboxed_pod/{sandbox}"));
    names
}

/// What the group of everything else may be called: Go's, and that of runtime-rs with systemd.
fn overheads(sandbox: &str) -> [String; 2] {
    [
        format!("/kata_overhead/{sandbox}"),
        format!("/kata.slice/kata-overhead.slice/runtime-rs-{sandbox}.scope"),
    ]
}

/// Whether a group's name is one that a sandbox's can have.
fn is_of(name: &str, sandbox: &str) -> bool {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    stem.strip_suffix(sandbox).is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', ':', '_']))
}

/// Whether a group is below another one of its hierarchy.
pub fn is_below(group: &Group, above: &Group) -> bool {
    group.mount == above.mount
        && group.path.strip_prefix(&above.path).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_group_is_looked_for_under_every_name_katas_have() {
        let pod = "/kubepods/besteffort/pod1";
        assert_eq!(
            names(&format!("{pod}/c1"), "sb1")[..3],
            [format!("{pod}/kata_sb1"), format!("{pod}/sb1"), format!("{pod}/kata_c1")]
        );
        assert_eq!(
            names("kubepods-pod1.slice:cri-containerd:c1", "sb1"),
            [
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-sb1.scope",
                "/kubepods-pod1.slice:cri-containerd:sb1",
                "/kata_sandboxed_pod/sb1",
            ]
        );
        for (name, is_its) in [
            ("kata_sb1", true),
            ("sb1", true),
            ("cri-containerd-sb1.scope", true),
            ("kubepods-pod1.slice:cri-containerd:sb1", true),
            ("containerd.service", false),
            ("xsb1", false),
        ] {
            assert_eq!(is_of(name, "sb1"), is_its, "{name}");
        }
        // Kata takes /kata_vc then, for every pod.
        assert!(Vm::new("").is_err());
    }
}
