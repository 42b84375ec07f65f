//! The class tree: Plimsoll's own groups, one for each class, and how a container gets into one.

use super::TreeMove;
use super::build::Builder;
use crate::container::kube::Driver;
use crate::kernel::control::{Controller, Version};
use crate::kernel::group::{Group, Groups};
use crate::kernel::identity::Rung;
use crate::policy::config::Placement;
use crate::policy::koordinator::identity::IdentityRule;
use crate::qos::{KubeQos, QosClass};

/// The class tree's shape, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeShape {
    /// The tree's root group: an absolute cgroup path.
    pub root: String,
    /// Whether only best effort ever lives in it, so that the root itself may be idle.
    pub offline_only: bool,
    /// The identities of the classes, which their groups in the tree have.
    pub identity: IdentityRule,
    /// The identities of Kubernetes' own groups, where Group Identity writes them as koordlet does.
    pub kube_identity: Option<IdentityRule>,
    /// Who brings containers into it.
    pub mover: Mover,
}

/// Who brings a container into the class tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// The hook: it moves the process after the runtime made the groups.
    Hook,
    /// The runtime: it is told to make the groups there, named as this driver names them.
    Runtime(Driver),
}

/// A class's branch of the tree, as a cgroup driver names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The tree's root group.
    pub root: String,
    /// The class's group.
    pub class: String,
}

impl TreeShape {
    /// The branch of a class: `/plimsoll/best-effort`, or `/plimsoll.slice/plimsoll-besteffort.slice`.
    pub fn branch(&self, driver: Driver, class: QosClass) -> Branch {
        match driver {
            Driver::Cgroupfs => {
                Branch { root: self.root.clone(), class: format!("{}/{}", self.root, class.group_name()) }
            }
            Driver::Systemd => {
                let (mut path, mut stem) = (String::new(), String::new());
                // In a slice's name a dash stands for a level.
                for part in self.root.split('/').filter(|part| !part.is_empty()) {
                    let dash = if stem.is_empty() { "" } else { "-" };
                    stem = format!("{stem}{dash}{}", part.replace('-', ""));
                    path = format!("{path}/{stem}.slice");
                }
                let class = class.group_name().replace('-', "");
                Branch { class: format!("{path}/{stem}-{class}.slice"), root: path }
            }
        }
    }

    /// The branch of a class that a group lies in.
    pub fn holding(&self, group: &Group, class: QosClass) -> Option<Branch> {
        let drivers = [Driver::Cgroupfs, Driver::Systemd].into_iter();
        drivers.map(|driver| self.branch(driver, class)).find(|branch| branch.holds(group))
    }

    /// Whether a group is below any class's: a pod's in the tree, or a container's.
    pub fn is_below_class(&self, group: &Group) -> bool {
        QosClass::ALL.into_iter().any(|class| self.holding(group, class).is_some())
    }
}

impl Branch {
    /// Whether a group is below the class's.
    pub fn holds(&self, group: &Group) -> bool {
        group.path.strip_prefix(&self.class).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The pod's group around a container's; none where the container is right below the class.
    pub fn pod(&self, group: &Group) -> Option<Group> {
        group.parent().filter(|parent| self.holds(parent))
    }
}

/// Where a container is or comes in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) moved: TreeMove,
    pub(super) branch: Branch,
}

impl Tree {
    /// The container's groups when it is there.
    pub(super) fn groups(&self, groups: &Groups) -> Groups {
        let to =
            |group: &Group| self.moved.to.iter().find(|to| to.mount == group.mount).unwrap_or(group).clone();
        Groups {
            cpu: to(&groups.cpu),
            cpuset: groups.cpuset.as_ref().map(to),
            memory: groups.memory.as_ref().map(to),
        }
    }

    /// Whether the plan's move takes the container out of groups that somebody else has filled in.
    pub(super) fn moves(&self) -> bool {
        !self.moved.make.is_empty()
    }
}

impl Builder<'_> {
    /// The container's place in the class tree: where it is already, or where the treatment wants it and it can be had.
    pub(super) fn place(&mut self, shape: &TreeShape) -> Option<Tree> {
        let facts = self.facts;
        if let Some(branch) = shape.holding(&facts.groups.cpu, self.treatment.class) {
            let stays = TreeMove { make: Vec::new(), to: Vec::new(), from: Vec::new() };
            return Some(Tree { moved: stays, branch });
        }
        let wanted = match self.treatment.placement {
            Placement::Keep => false,
            Placement::ClassTree => true,
            Placement::Auto => {
                self.treatment.class == QosClass::Be
                    && facts.pod.as_ref().is_none_or(|pod| pod.kube_qos.is_none())
                    && matches!(facts.ladder.rung, Rung::Idle | Rung::Weight)
            }
        };
        if !wanted {
            return None;
        }
        // All containers of a class share its group: what one of them wants for itself must not reach the others.
        let of_class = shape.identity.pod(Some(self.treatment.class), KubeQos::Guaranteed);
        if self.treatment.identity.is_some_and(|own| i64::from(own) != of_class) {
            self.lost.push(format!(
                "placement: its identity is not that of {} ({of_class}), which the class tree's group has; kept where it is",
                self.treatment.class
            ));
            return None;
        }
        match shape.mover {
            Mover::Hook => self.move_by_hook(shape.branch(Driver::Cgroupfs, self.treatment.class)),
            Mover::Runtime(driver) => {
                let branch = shape.branch(driver, self.treatment.class);
                let path = match (driver, &facts.pod) {
                    (Driver::Systemd, _) => format!("{}/plimsoll-{}.scope", branch.class, facts.name),
                    (Driver::Cgroupfs, Some(pod)) => {
                        format!("{}/{}/{}", branch.class, pod.groups.cpu.name(), facts.name)
                    }
                    (Driver::Cgroupfs, None) => format!("{}/{}", branch.class, facts.name),
                };
                let from: Vec<Group> =
                    Controller::ALL.into_iter().filter_map(|c| facts.groups.of(c)).cloned().collect();
                let to = from.iter().map(|group| group.at(path.clone())).collect();
                Some(Tree { moved: TreeMove { make: Vec::new(), to, from }, branch })
            }
        }
    }

    /// A hook can move the `cpu` and `cpuset` of cgroup v1, each by itself.
    fn move_by_hook(&mut self, branch: Branch) -> Option<Tree> {
        let facts = self.facts;
        let controllers = [Controller::Cpu, Controller::Cpuset];
        let from: Vec<&Group> = controllers.iter().filter_map(|c| facts.groups.of(*c)).collect();
        if from.iter().any(|group| group.version == Version::V2) {
            self.lost.push(
                "placement: on cgroup v2 a hook cannot move a container into the class tree, only the runtime wrapper can; kept where it is".to_owned(),
            );
            return None;
        }
        if facts.groups.memory.as_ref().is_some_and(|memory| from.iter().any(|g| g.mount == memory.mount)) {
            self.lost.push("placement: cpu and memory share a hierarchy here; kept where it is".to_owned());
            return None;
        }
        let mut paths = vec![branch.root.clone(), branch.class.clone()];
        for name in facts.pod.iter().map(|pod| pod.groups.cpu.name()).chain([facts.name.as_str()]) {
            let above = paths.last().map_or("", String::as_str);
            paths.push(format!("{above}/{name}"));
        }
        let mut moved = TreeMove { make: Vec::new(), to: Vec::new(), from: Vec::new() };
        // cpu and cpuset may be one hierarchy.
        for group in from {
            if moved.from.contains(group) {
                continue;
            }
            let chain: Vec<Group> = paths.iter().map(|path| group.at(path.clone())).collect();
            moved.to.extend(chain.last().cloned());
            moved.make.extend(chain);
            moved.from.push(group.clone());
        }
        self.lost.push(
            "placement: moved by a hook alone, `exec` joins the old group and `update` writes it".to_owned(),
        );
        Some(Tree { moved, branch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_as_the_driver_names_groups() {
        let rule = IdentityRule { enabled: true, class: [None; 5], kube_group: [0; 3], kube_pod: [0; 3] };
        let shape = TreeShape {
            root: "/my-node/plimsoll".to_owned(),
            offline_only: true,
            identity: rule,
            kube_identity: None,
            mover: Mover::Hook,
        };
        for (driver, root, class) in [
            (Driver::Cgroupfs, "/my-node/plimsoll", "/my-node/plimsoll/best-effort"),
            (
                Driver::Systemd,
                "/mynode.slice/mynode-plimsoll.slice",
                "/mynode.slice/mynode-plimsoll.slice/mynode-plimsoll-besteffort.slice",
            ),
        ] {
            let branch = shape.branch(driver, QosClass::Be);
            assert_eq!((branch.root.as_str(), branch.class.as_str()), (root, class));
            let group = Group { version: Version::V2, mount: "/m".into(), path: format!("{class}/pod1/c") };
            assert_eq!(shape.holding(&group, QosClass::Be), Some(branch.clone()));
            assert_eq!(shape.holding(&group, QosClass::Ls), None);
            assert_eq!(branch.pod(&group).map(|pod| pod.path), Some(format!("{class}/pod1")));
            assert_eq!(branch.pod(&group.at(format!("{class}/c"))), None);
            assert!(!shape.is_below_class(&group.at(class)));
            assert!(!shape.is_below_class(&group.at(format!("{class}x/c"))));
        }
    }
}
