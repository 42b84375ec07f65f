//! What the VMs of these tests boot: a real kernel, and one program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::helpers::rootfs;
use crate::stand_in::APPEND;

/// How a VM is booted, and what its guest says then.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    pub machine: &'static str,
    pub answer: &'static str,
}

impl Boot {
    const TO_THE_END: Self = Self { machine: "q35", answer: "the guest is up" };
    const EARLY: Self = Self { machine: "microvm", answer: "Linux version" };
}

/// To the guest's first program; where `PLIMSOLL_TEST_EMULATED` says that this machine is itself an emulated one, on the
/// smallest of machines and to its kernel's first line, since all after it takes minutes there.
pub fn boot() -> Boot {
    if std::env::var_os("PLIMSOLL_TEST_EMULATED").is_some() { Boot::EARLY } else { Boot::TO_THE_END }
}

/// The kernel: that which `PLIMSOLL_TEST_KERNEL` names, else the one `scripts/guest-kernel` has fetched.
pub fn kernel() -> PathBuf {
    let path = match std::env::var_os("PLIMSOLL_TEST_KERNEL") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest-kernel/vmlinuz"),
    };
    assert!(path.is_file(), "{} is not there; run make guest-kernel", path.display());
    path
}

/// Writes the guest's root file system: a busybox, and a first program that says it is there and sleeps.
pub fn write_initrd(path: &Path) {
    let init = format!(
        "#!/bin/busybox sh\necho \"{}: $(/bin/busybox nproc) CPUs\"\nwhile :; do /bin/busybox sleep 3600; done\n",
        Boot::TO_THE_END.answer
    );
    let busybox = fs::read(rootfs().join("bin/busybox")).unwrap();
    let mut archive = Vec::new();
    for (name, mode, device, data) in [
        ("bin", 0o40755, 0, [].as_slice()),
        ("dev", 0o40755, 0, &[]),
        ("dev/console", 0o20600, 5, &[]),
        ("bin/busybox", 0o100_755, 0, &busybox),
        ("init", 0o100_755, 0, init.as_bytes()),
        ("TRAILER!!!", 0, 0, &[]),
    ] {
        entry(&mut archive, name, mode, device, data);
    }
    fs::write(path, archive).unwrap();
}

/// One file in cpio's "newc" form: thirteen hexadecimal numbers, name and data, padded to words. A device's minor number is 1.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, major: u32, data: &[u8]) {
    let inode = u32::try_from(archive.len()).unwrap();
    let size = u32::try_from(data.len()).unwrap();
    let named = u32::try_from(name.len() + 1).unwrap();
    archive.extend(b"070701");
    for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, major, u32::from(major > 0), named, 0] {
        archive.extend(format!("{field:08x}").bytes());
    }
    for part in [name.as_bytes(), &[0]] {
        archive.extend(part);
    }
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// The accelerator that boots a guest on this machine. That there is a `/dev/kvm` does not say that it does: it is tried.
pub fn accelerator(initrd: &Path) -> &'static str {
    static FOUND: OnceLock<&str> = OnceLock::new();
    FOUND.get_or_init(|| if Path::new("/dev/kvm").exists() && boots_by_kvm(initrd) { "kvm" } else { "tcg" })
}

fn boots_by_kvm(initrd: &Path) -> bool {
    let console = initrd.with_extension("console");
    let mut vmm = Command::new("qemu-system-x86_64")
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            boot().machine,
            "-accel",
            "kvm",
        ])
        .args(["-m", "128M", "-append", APPEND, "-kernel"])
        .arg(kernel())
        .arg("-initrd")
        .arg(initrd)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let is_up = loop {
        if fs::read(&console).is_ok_and(|text| String::from_utf8_lossy(&text).contains(boot().answer)) {
            break true;
        }
        // A guest under KVM takes a second, and under KVM in an emulated machine some ten.
        if vmm.try_wait().unwrap().is_some() || begin.elapsed() > Duration::from_secs(40) {
            break false;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let _ = vmm.kill();
    vmm.wait().unwrap();
    is_up
}
