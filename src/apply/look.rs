//! A group to look at, for what this kernel gives a group.

use crate::error::{Error, Result};
use crate::kernel::control::Knob;
use crate::kernel::fs;
use crate::kernel::group::Group;

/// Made where no group has the `cpu` controller yet (cgroup v2 before its first container), and removed when dropped.
#[derive(Debug)]
pub struct Look(Group);

impl Look {
    /// Makes one in the hierarchy of `cpu`. Only where `enables`, groups are given the controller for it, as runtimes and
    /// systemd do for a container.
    pub fn make(cpu: &Group, enables: bool) -> Result<Self> {
        let top = cpu.at("/");
        let group = top.child(&format!("plimsoll-check-{}", std::process::id()));
        std::fs::create_dir(group.dir()).map_err(|e| Error::os("make group", &group.dir(), &e))?;
        let look = Self(group);
        if enables && look.group().is_none() {
            fs::write(&top.dir().join("cgroup.subtree_control"), "+cpu")?;
        }
        Ok(look)
    }

    /// The group, where it has the controller.
    pub fn group(&self) -> Option<&Group> {
        Some(&self.0).filter(|group| group.has(Knob::Quota))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.dir());
    }
}
