//! The container runtimes of this node, and what their versions mean.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Session;
use super::Lines;

/// Where programs are, whatever this shell's PATH says.
const FOLDERS: [&str; 7] =
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin", "/opt/kata/bin"];
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(3);

/// A runtime or engine.
struct Known {
    name: &'static str,
    /// Whether it runs hooks itself.
    is_runtime: bool,
    /// Versions before this one have a gap worth naming.
    since: Option<((u32, u32), &'static str)>,
}

const KNOWN: [Known; 9] = [
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
    Known { name: "kata-runtime", is_runtime: true, since: None },
    Known { name: "containerd", is_runtime: false, since: None },
    Known { name: "crio", is_runtime: false, since: None },
    Known { name: "dockerd", is_runtime: false, since: None },
    Known { name: "podman", is_runtime: false, since: None },
    Known { name: "kubelet", is_runtime: false, since: None },
];

pub(super) fn check(session: &Session, lines: &mut Lines) {
    let mut runtimes = 0;
    for known in &KNOWN {
        let Some(path) = find(session, known.name) else { continue };
        runtimes += usize::from(known.is_runtime);
        // Programs of another tree are not asked.
        let version = session.is_live.then(|| version(&path)).flatten();
        let name = match version {
            Some((major, minor, text)) => {
                if let Some((since, gap)) = known.since.filter(|(since, _)| (major, minor) < *since) {
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

fn find(session: &Session, name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| session.roots.path(folder).join(name)).find(|path| path.is_file())
}

/// The first number of the form `1.2` or `1.2.3` that the program prints.
fn version(path: &Path) -> Option<(u32, u32, String)> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begin = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    child.stdout.take()?.take(64 * 1024).read_to_string(&mut text).ok()?;
    first_version(&text)
}

fn first_version(text: &str) -> Option<(u32, u32, String)> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v').trim_end_matches(',');
        let mut numbers = word.split(['.', '-', '+', '~']);
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        word.contains('.').then(|| (major, minor, word.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::first_version;

    #[test]
    fn every_runtimes_way_to_print_its_version_is_read() {
        for (text, version) in [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n", Some((1, 1))),
            ("crun version 1.8.1\ncommit: f8a096be\n", Some((1, 8))),
            ("containerd github.com/containerd/containerd v1.7.13 7c3aca7a\n", Some((1, 7))),
            ("Docker version 24.0.7, build 311b9ff\n", Some((24, 0))),
            ("Kubernetes v1.30.2\n", Some((1, 30))),
            ("no version at all\n", None),
        ] {
            assert_eq!(first_version(text).map(|(major, minor, _)| (major, minor)), version, "{text}");
        }
    }
}
