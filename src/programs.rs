//! The programs of this node: where they are, and what version they say they are.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kernel::fs::Roots;

/// Where programs are besides in the folders of `PATH`, which a shell of root's may have shortened.
const FOLDERS: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/kata/bin"];
/// How long a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first two numbers, which order versions.
    pub number: (u32, u32),
    /// All of it.
    pub text: String,
}

/// Finds and asks programs.
#[derive(Clone, Debug)]
pub struct Programs {
    roots: Roots,
    /// Whether the tree is this node's own. Programs of another tree are found, but not run.
    is_live: bool,
}

impl Programs {
    /// Those of a tree.
    pub fn of(roots: &Roots, is_live: bool) -> Self {
        Self { roots: roots.clone(), is_live }
    }

    /// Where a program is.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.is_live.then(|| std::env::var_os("PATH")).flatten().unwrap_or_default();
        let usual = FOLDERS.iter().map(|folder| self.roots.path(folder));
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .chain(usual)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }

    /// What a program says its version is: the first number of the form `1.2` or `1.2.3` that it prints.
    pub fn version(&self, program: &Path) -> Option<Version> {
        if !self.is_live {
            return None;
        }
        let (true, text, _) = output(Command::new(program).arg("--version")).ok()? else { return None };
        first_version(&text)
    }
}

/// Runs a program to its end, or for so long as may be waited: whether it succeeded, and what it said on standard output
/// and standard error.
///
/// # Errors
///
/// It cannot be started, or takes too long.
pub fn output(command: &mut Command) -> std::io::Result<(bool, String, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let read = |from: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read until something went wrong is told all the same.
            let _ = from.map(|from| from.take(4 * 1024 * 1024).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let said = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok((status.success(), said(out), said(err)))
}

fn first_version(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v').trim_end_matches(',');
        let mut numbers = word.split(['.', '-', '+', '~']);
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        word.contains('.').then(|| Version { number: (major, minor), text: word.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::first_version;

    #[test]
    fn every_programs_way_to_print_its_version_is_read() {
        for (text, number) in [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n", Some((1, 1))),
            ("crun version 1.8.1\ncommit: f8a096be\n", Some((1, 8))),
            ("containerd github.com/containerd/containerd v1.7.13 7c3aca7a\n", Some((1, 7))),
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n", Some((1, 6))),
            ("containerd github.com/containerd/containerd/v2 2.1.9+unknown \n", Some((2, 1))),
            ("Docker version 24.0.7, build 311b9ff\n", Some((24, 0))),
            ("Kubernetes v1.30.2\n", Some((1, 30))),
            ("no version at all\n", None),
        ] {
            assert_eq!(first_version(text).map(|version| version.number), number, "{text}");
        }
    }
}
