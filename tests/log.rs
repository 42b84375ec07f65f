//! The log: lines arrive whole, in the right place, and never fill the disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};
use plimsoll::log::{Level, Logger};
use plimsoll::policy::config::Config;
use serde_json::Value;
use tempfile::TempDir;

const MAX: u64 = 65_536;

/// A log file in a folder that is not there yet.
fn log_in(folder: &TempDir) -> PathBuf {
    folder.path().join("a/b/plimsoll.log")
}

fn older(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Every line of a file; each must be whole.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// One datagram as the journal reads it.
fn datagram(socket: &UnixDatagram) -> Vec<(String, String)> {
    let mut buffer = vec![0; 1 << 18];
    let len = socket.recv(&mut buffer).unwrap();
    let mut rest = &buffer[..len];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        let (name, value) = match head.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let len = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(rest[8..8 + len].to_vec()).unwrap();
                assert_eq!(rest[8 + len], b'\n');
                rest = &rest[8 + len + 1..];
                (head, value)
            }
        };
        fields.push((name.to_owned(), value));
    }
    fields
}

#[test]
fn the_journal_gets_every_field() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    let journal = UnixDatagram::bind(&socket).unwrap();
    let log = log_in(&folder);
    Logger::with_paths(Some(&socket), &log, MAX).log(
        Level::Warning,
        "identity\nnot written",
        &[
            ("class", "LS"),
            ("pod-uid", "a=b"),
            ("annotation", "x\nMESSAGE=forged\nPRIORITY=0"),
            ("empty", ""),
        ],
    );
    let fields = datagram(&journal);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [
            (
                "MESSAGE",
                r#"identity\nnot written class="LS" pod-uid="a=b" annotation="x\nMESSAGE=forged\nPRIORITY=0" empty="""#
            ),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "plimsoll"),
            ("PLIMSOLL_CLASS", "LS"),
            ("PLIMSOLL_POD_UID", "a=b"),
            ("PLIMSOLL_ANNOTATION", "x\nMESSAGE=forged\nPRIORITY=0"),
            ("PLIMSOLL_EMPTY", ""),
        ]
    );
    assert!(!log.exists(), "the journal had it; the file is for nodes without one");
}

#[test]
fn priorities_are_those_of_syslog() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    let journal = UnixDatagram::bind(&socket).unwrap();
    let logger = Logger::with_paths(Some(&socket), &log_in(&folder), MAX);
    for (level, priority) in
        [(Level::Error, "3"), (Level::Warning, "4"), (Level::Info, "6"), (Level::Debug, "7")]
    {
        logger.log(level, "m", &[]);
        assert_eq!(datagram(&journal)[1], ("PRIORITY".to_owned(), priority.to_owned()));
    }
}

#[test]
fn without_a_journal_the_file_gets_the_line() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let dead = folder.path().join("dead");
    drop(UnixDatagram::bind(&dead).unwrap());
    for socket in [None, Some(folder.path().join("none")), Some(dead)] {
        Logger::with_paths(socket.as_deref(), &log, MAX).log(
            Level::Error,
            "write failed",
            &[("container", "c\n1"), ("level", "mine")],
        );
    }
    let lines = lines(&log);
    assert_eq!(lines.len(), 3);
    for line in lines {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["ts", "level", "msg", "container", "level_"]);
        assert_eq!((&line["level"], &line["container"]), (&"error".into(), &"c\n1".into()));
        let ts = line["ts"].as_str().unwrap();
        assert_eq!((ts.len(), &ts[10..11], &ts[23..]), (24, "T", "Z"), "{ts}");
    }
    // Whatever the umask takes away, nobody else may read them.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&log) & !0o640, mode(&log) & 0o600), (0, 0o600));
    assert_eq!(mode(log.parent().unwrap()) & !0o750, 0);
}

#[test]
fn a_journal_that_does_not_keep_up_is_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    // Bound and never read: its queue is full after a few events.
    let _journal = UnixDatagram::bind(&socket).unwrap();
    let log = log_in(&folder);
    let logger = Logger::with_paths(Some(&socket), &log, MAX);
    for _ in 0..2000 {
        logger.log(Level::Info, &"m".repeat(3000), &[]);
        if log.exists() {
            break;
        }
    }
    assert_eq!(lines(&log).len(), 1);
}

#[test]
fn the_configuration_decides_where_lines_go() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let mut config = Config::default();
    config.log.journal = false;
    config.paths.log.clone_from(&log);
    Logger::new(&config).log(Level::Info, "placed", &[]);
    assert_eq!(lines(&log)[0]["msg"], "placed");
}

#[test]
fn the_file_and_one_older_file_are_kept_and_no_line_is_lost_between_them() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let logger = Logger::with_paths(None, &log, MAX);
    let padding = "p".repeat(500);
    for i in 0..1000 {
        logger.log(Level::Info, &i.to_string(), &[("padding", &padding)]);
        assert!(size(&log) <= MAX && size(&older(&log)) <= MAX);
    }
    let mut all = lines(&older(&log));
    assert!(size(&older(&log)) > MAX - 1000, "rotated too early");
    all.extend(lines(&log));
    let first = 1000 - all.len();
    for (i, line) in all.iter().enumerate() {
        assert_eq!(line["msg"], (first + i).to_string());
    }
    assert_eq!(fs::read_dir(log.parent().unwrap()).unwrap().count(), 2);
}

#[test]
fn concurrent_writers_keep_the_file_bounded_and_the_lines_whole() {
    const PROCESSES: usize = 4;
    const THREADS: usize = 4;
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let children: Vec<_> =
        (0..PROCESSES).map(|_| child("writer", &log).stderr(Stdio::null()).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
    }
    // Each of the writers may be at its line when the file is full; see src/log/file.rs for the factor of two.
    let line = 1000;
    let bound = 2 * MAX + (PROCESSES * THREADS * line) as u64;
    for file in [&log, &older(&log)] {
        assert!(size(file) > 0 && size(file) <= bound, "{} bytes", size(file));
        for line in lines(file) {
            assert_eq!(line["padding"].as_str().unwrap().len(), 700);
        }
    }
}

#[test]
fn no_line_is_lost_when_many_write_below_the_limit() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let logger = Logger::with_paths(None, &log, 1 << 30);
            scope.spawn(move || {
                for i in 0..200 {
                    logger.log(Level::Info, &format!("{thread}/{i}"), &[]);
                }
            });
        }
    });
    let mut seen: Vec<_> = lines(&log).iter().map(|line| line["msg"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1600);
}

#[test]
fn no_line_is_lost_when_the_file_is_rotated_under_many_writers() {
    // Few enough bytes for the file and the older one together, so every line must be in one of them.
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let padding = "p".repeat(900);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let logger = Logger::with_paths(None, &log, MAX);
            let padding = &padding;
            scope.spawn(move || {
                for i in 0..12 {
                    logger.log(Level::Info, &format!("{thread}/{i}"), &[("padding", padding)]);
                }
            });
        }
    });
    let mut all = lines(&log);
    all.extend(lines(&older(&log)));
    let mut seen: Vec<_> = all.iter().map(|line| line["msg"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), all.len()), (96, 96));
    assert!(size(&older(&log)) > 0, "nothing was rotated");
}

#[test]
fn a_rotation_that_fails_stops_neither_logging_nor_the_bound() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    // A full folder in the place of the older file: the rename fails.
    fs::create_dir_all(older(&log).join("x")).unwrap();
    let logger = Logger::with_paths(None, &log, MAX);
    let padding = "p".repeat(500);
    for i in 0..500 {
        logger.log(Level::Info, &i.to_string(), &[("padding", &padding)]);
        assert!(size(&log) <= MAX);
        assert_eq!(lines(&log).last().unwrap()["msg"], i.to_string());
    }
}

#[test]
fn a_lock_that_is_never_released_stops_neither_logging_nor_the_bound() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let _lock = Flock::lock(File::create(&log).unwrap(), FlockArg::LockExclusive).unwrap();
    let output = run(child("padded", &log).arg("--nocapture"));
    assert!(output.status.success());
    let size = size(&log);
    assert!((2 * MAX - 2000..=2 * MAX + 2000).contains(&size), "{size} bytes");
    assert!(String::from_utf8(output.stderr).unwrap().contains("another process holds the lock"));
}

#[test]
fn where_no_file_can_be_written_standard_error_gets_one_line() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("file"), &link).unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for log in [folder.path().join("file/plimsoll.log"), folder.path().to_owned(), link, pipe] {
        let output = run(child("once", &log).arg("--nocapture"));
        assert!(output.status.success(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let ours: Vec<_> = stderr.lines().filter(|line| line.starts_with("plimsoll: ")).collect();
        assert_eq!(ours.len(), 1, "{stderr}");
        assert!(
            ours[0].starts_with(r#"plimsoll: error: two\nlines class="L\nS" (not in the log: "#),
            "{}",
            ours[0]
        );
        assert!(ours[0].contains(log.to_str().unwrap()), "{}", ours[0]);
    }
    assert_eq!(size(&folder.path().join("file")), 0, "a link was followed");
}

#[test]
fn a_folder_that_vanished_is_made_again() {
    let folder = TempDir::new().unwrap();
    let log = log_in(&folder);
    let logger = Logger::with_paths(None, &log, MAX);
    logger.log(Level::Info, "one", &[]);
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    logger.log(Level::Info, "two", &[]);
    assert_eq!(lines(&log).len(), 1);
}

/// This test program again, as another process that does only what `as_a_child` is told.
fn child(what: &str, log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "as_a_child", "--test-threads=1"])
        .env("PLIMSOLL_TEST_CHILD", what)
        .env("PLIMSOLL_TEST_LOG", log)
        .stdout(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.stderr(Stdio::piped()).output().unwrap()
}

/// Does nothing but in the processes that [`child`] starts.
#[test]
fn as_a_child() {
    let (Ok(what), Some(log)) = (std::env::var("PLIMSOLL_TEST_CHILD"), std::env::var_os("PLIMSOLL_TEST_LOG"))
    else {
        return;
    };
    let logger = Logger::with_paths(None, Path::new(&log), MAX);
    let padding = "p".repeat(700);
    let write = |lines: usize| {
        for i in 0..lines {
            logger.log(Level::Info, &i.to_string(), &[("padding", &padding)]);
        }
    };
    match what.as_str() {
        "once" => logger.log(Level::Error, "two\nlines", &[("class", "L\nS")]),
        "padded" => write(400),
        "writer" => std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| write(500));
            }
        }),
        other => unreachable!("{other}"),
    }
}
