//! The container runtimes of this node, and what their versions mean.

use super::super::Session;
use super::Lines;
use crate::programs::Version;

/// A runtime or engine.
struct Known {
    name: &'static str,
    /// Whether it runs hooks itself.
    is_runtime: bool,
    /// Versions before this one have a gap worth naming.
    since: Option<((u32, u32), &'static str)>,
}

/// Kata's first version that runs `createRuntime` hooks for the containers of a pod, too.
const KATA: ((u32, u32), &str) = (
    (3, 5),
    "runs createRuntime hooks for a pod's sandbox only; containerd-shim-plimsoll uses prestart, hooks of your own must too",
);

const KNOWN: [Known; 10] = [
    Known {
        name: "runc",
        is_runtime: true,
        since: Some(((1, 2), "ignores cpu.burst and cpu.idle of a config.json; the hook writes both itself")),
    },
    Known {
        name: "crun",
        is_runtime: true,
        since: Some(((1, 11), "ignores cpu.burst of a config.json; the hook writes it itself")),
    },
    Known {
        name: "youki",
        is_runtime: true,
        since: Some(((0, 6), "runs createRuntime hooks too late or not at all; update it")),
    },
    Known { name: "kata-runtime", is_runtime: true, since: Some(KATA) },
    Known { name: "containerd-shim-kata-v2", is_runtime: true, since: Some(KATA) },
    Known { name: "containerd", is_runtime: false, since: None },
    Known { name: "crio", is_runtime: false, since: None },
    Known { name: "dockerd", is_runtime: false, since: None },
    Known { name: "podman", is_runtime: false, since: None },
    Known { name: "kubelet", is_runtime: false, since: None },
];

pub(super) fn check(session: &Session, lines: &mut Lines) {
    let mut runtimes = 0;
    let programs = session.programs();
    for known in &KNOWN {
        let Some(path) = programs.find(known.name) else { continue };
        runtimes += usize::from(known.is_runtime);
        let name = match programs.version(&path) {
            Some(Version { number, text }) => {
                if let Some((since, gap)) = known.since.filter(|(since, _)| number < *since) {
                    lines.warn(
                        "runtimes",
                        format!("{} {text}: {gap}", known.name),
                        format!("{} {}.{} or later does not", known.name, since.0, since.1),
                    );
                    continue;
                }
                format!("{} {text}", known.name)
            }
            None => known.name.to_owned(),
        };
        lines.ok("runtimes", format!("{name} at {}", path.display()));
    }
    if runtimes == 0 {
        lines.warn(
            "runtimes",
            "no OCI runtime was found in the usual places",
            "install runc, crun, youki or Kata Containers",
        );
    }
}
