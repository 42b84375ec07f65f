//! The process of a virtual machine: which program it is, told by what the kernel says of it.

use crate::kernel::fs::{self, Roots};

/// A VMM, or the shim that is about to start one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmm {
    /// The process.
    pub pid: i32,
    /// Which.
    pub kind: Kind,
}

/// The VMMs that Kata Containers drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// QEMU.
    Qemu,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// Firecracker.
    Firecracker,
    /// StratoVirt.
    Stratovirt,
    /// Dragonball, a part of the shim of runtime-rs.
    Dragonball,
    /// None yet, or none any more: a thread of the shim.
    Shim,
}

impl Kind {
    /// The name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::CloudHypervisor => "Cloud Hypervisor",
            Self::Firecracker => "Firecracker",
            Self::Stratovirt => "StratoVirt",
            Self::Dragonball => "Dragonball",
            Self::Shim => "shim",
        }
    }

    /// By the name of a process or thread, of which the kernel keeps 15 bytes (proc_pid_comm(5)).
    pub fn of_comm(comm: &str) -> Option<Self> {
        match comm {
            "cloud-hyperviso" => Some(Self::CloudHypervisor),
            "firecracker" => Some(Self::Firecracker),
            "stratovirt" => Some(Self::Stratovirt),
            "vmm_master" => Some(Self::Dragonball),
            _ if comm.starts_with("qemu-") => Some(Self::Qemu),
            _ if comm.starts_with("containerd-shim") => Some(Self::Shim),
            _ => None,
        }
    }
}

impl Vmm {
    /// The machine's process by the pid in a state, which may be that of a thread; none where it is something else.
    pub fn of(roots: &Roots, pid: i32) -> Option<Self> {
        let comm = |pid: i32| fs::read(&roots.path(&format!("/proc/{pid}/comm"))).ok();
        let status = fs::read(&roots.path(&format!("/proc/{pid}/status"))).ok()?;
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()?;
        let kind = [pid, leader].into_iter().find_map(|pid| Kind::of_comm(&comm(pid)?))?;
        Some(Self { pid: leader, kind })
    }

    /// Whether there is a machine, and not only the shim that is to make one.
    pub fn is_up(&self) -> bool {
        self.kind != Kind::Shim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stands_for_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let task = |pid: i32, tgid: i32, comm: &str| {
            let folder = dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("status"), format!("Name:\t{comm}\nTgid:\t{tgid}\nPid:\t{pid}\n"))
                .unwrap();
            std::fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        };
        task(10, 10, "qemu-system-x86");
        task(20, 20, "containerd-shim");
        task(21, 20, "containerd-shim");
        task(22, 20, "vmm_master");
        task(23, 20, "tokio-runtime-w");
        task(30, 30, "runc:[1:CHILD]");
        let roots = Roots::at(dir.path());
        let found = |pid| Vmm::of(&roots, pid).map(|vmm| (vmm.pid, vmm.kind));
        for (pid, vmm) in [
            (10, Some((10, Kind::Qemu))),
            (21, Some((20, Kind::Shim))),
            (22, Some((20, Kind::Dragonball))),
            (23, Some((20, Kind::Shim))),
            (30, None),
            (99, None),
        ] {
            assert_eq!(found(pid), vmm, "{pid}");
        }
    }
}
