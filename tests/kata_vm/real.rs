//! A real Kata: `make test-kata KATA_SHIM=/path/to/containerd-shim-kata-v2 [KATA_CONFIG=/path/to/configuration.toml]`.
//!
//! Nothing can be asked of its VMM, so the order of events is shown by the recorder, which the wrapper takes for Kata: what
//! it saw was there before Kata did anything, and what the VM's threads are in afterwards is made below that.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::by_ctr;
use crate::direct::Direct;
use crate::host::place_this_program;
use crate::recorder::{Config, NAME};

/// The shim under test; says what is missing.
fn shim() -> PathBuf {
    let Some(path) = std::env::var_os("KATA_SHIM").filter(|path| !path.is_empty()) else {
        panic!(
            "KATA_SHIM is not set: make test-kata KATA_SHIM=/path/to/containerd-shim-kata-v2 [KATA_CONFIG=/path/to/configuration.toml]"
        );
    };
    let path = PathBuf::from(path);
    assert!(path.is_file(), "KATA_SHIM={}: there is no such file", path.display());
    path
}

fn configuration() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("KATA_CONFIG").filter(|path| !path.is_empty())?);
    assert!(path.is_file(), "KATA_CONFIG={}: there is no such file", path.display());
    Some(path)
}

/// A pod of each class, one after the other.
pub fn a_real_kata_is_treated() {
    let shim = shim();
    assert!(Path::new("/dev/kvm").exists(), "/dev/kvm is not there: Kata starts no VM on this machine");
    let version = Command::new(&shim).arg("--version").output();
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).trim().replace('\n', ", "));
    println!("shim: {}: {}", shim.display(), version.unwrap_or_else(|e| format!("does not start: {e}")));
    let own = tempfile::tempdir().unwrap();
    let recorder = own.path().join(NAME);
    place_this_program(&recorder);
    let journal = own.path().join("journal");
    Config { shim, journal: journal.clone() }.write(&recorder);
    let machine = Direct::start("kata-real", &recorder, configuration(), "");
    for class in ["LS", "LSR", "BE"] {
        by_ctr::pod(&machine, &journal, class);
    }
    println!("not checked here: pods over CRI, other hypervisors and layouts than the configured one");
}
