//! The wrapper becomes the real runtime: the same process, arguments, open files, signals. The real runtime here is a
//! script that tells what it is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::common::{Sandbox, dist};
use super::twin::{Seen, run, script, shell};

/// Tells everything that an engine could have given it.
const TELL: &str = r#"#!/bin/sh
echo "pid $$"
printf 'arg <%s>\n' "$@"
# Nothing is forked for it: a shell blocks signals meanwhile.
while read -r name value; do
    case $name in SigBlk: | SigIgn: | Groups: | CapEff: | NoNewPrivs: | Umask: | Seccomp:) echo "$name $value" ;; esac
done </proc/$$/status
echo "cwd $(pwd -P)"
for fd in /proc/$$/fd/*; do
    to=$(readlink "$fd") && echo "fd ${fd##*/} $to"
done
env | grep -v '^\(PLIMSOLL_RUNTIME_\|_=\|PWD=\)' | sort
ulimit -a
cat /proc/$$/oom_score_adj /proc/$$/timerslack_ns
echo "stdin $(cat)"
echo "to stderr" >&2
exit 9
"#;

/// A sandbox whose real runtime is a script, and the script.
fn scripted(name: &str, text: &str) -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new(name);
    let told = script(&sandbox.dir().join("told"), text);
    sandbox.config(&format!("[runtime]\npath = {told:?}\n"));
    (sandbox, told)
}

/// The same shell line with the script itself as `$0`, and with the wrapper.
#[track_caller]
fn same(script: &str) -> Seen {
    let (sandbox, told) = scripted("process", TELL);
    let line = format!("echo shell $$; {script}");
    let [mut direct, mut wrapped] =
        [told, dist("plimsoll-runtime")].map(|program| shell(&sandbox, &program, &line));
    for seen in [&mut direct, &mut wrapped] {
        let pid = |line: &str, word: &str| line.strip_prefix(word).map(str::to_owned);
        let shell_pid = seen.stdout.lines().find_map(|line| pid(line, "shell ")).unwrap();
        let own = seen.stdout.lines().find_map(|line| pid(line, "pid ")).unwrap();
        if script.starts_with("exec") {
            assert_eq!(own, shell_pid, "the process is another: {seen:#?}");
        }
        seen.stdout = seen.stdout.replace(&shell_pid, "PID").replace(&own, "PID");
        // Each call has output files of its own, and its own pipe; the script reads itself.
        let is_own = |line: &str| ["/call-", "pipe:[", "/told"].iter().any(|own| line.contains(own));
        let lines = seen.stdout.lines().filter(|line| !is_own(line));
        seen.stdout = lines.collect::<Vec<_>>().join("\n");
    }
    assert_eq!(wrapped, direct);
    assert_eq!(direct.code, 9);
    direct
}

#[test]
fn the_process_stays_and_so_do_arguments_environment_and_descriptors() {
    for verb in [
        "state x",
        "create --bundle /nonexistent x",
        "update --cpu-quota 5 x",
        "run",
        "bogus '' 'a b' '*'",
        "",
    ] {
        let seen = same(&format!("cd /; A='b c' exec \"$0\" {verb}"));
        assert!(seen.stdout.contains("A=b c"), "{seen:#?}");
    }
    let seen = same("exec \"$0\" --root /r exec --preserve-fds 2 x 3</etc/passwd 4</etc/group 7</etc/hosts");
    for fd in ["fd 3 /etc/passwd", "fd 4 /etc/group", "fd 7 /etc/hosts"] {
        assert!(seen.stdout.contains(fd), "{fd:?} should be in {seen:#?}");
    }
    same("umask 027; ulimit -n 77; echo 5 > /proc/self/oom_score_adj; exec \"$0\" create x");
}

#[test]
fn standard_input_is_not_touched() {
    for verb in ["create", "exec", "update x", "update --resources - x", "update --resources=- x"] {
        let seen = same(&format!("echo 'an input' | \"$0\" {verb}"));
        assert!(seen.stdout.contains("stdin an input"), "{seen:#?}");
    }
}

#[test]
fn blocked_and_ignored_signals_stay_so() {
    let seen = same("exec env --block-signal=USR1,TERM --ignore-signal=HUP,INT,USR2 \"$0\" create x");
    // Signal n is bit n-1: SIGUSR1 is 10, SIGTERM 15; SIGHUP 1, SIGINT 2, SIGUSR2 12.
    for (name, bits) in [("SigBlk: ", 0x4200), ("SigIgn: ", 0x803)] {
        let mask = seen.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & bits, bits, "{name}{mask}");
    }
    same("exec env --default-signal=PIPE \"$0\" create x");
}

#[test]
fn a_signal_that_ends_the_runtime_is_seen() {
    let (sandbox, _) = scripted("signal", "#!/bin/sh\nkill -TERM $$\n");
    let wrapper = dist("plimsoll-runtime");
    let mut command = Command::new(&wrapper);
    let seen = run(&sandbox, command.arg("create").env("PLIMSOLL_CONFIG", sandbox.config_path()), b"");
    assert_eq!(seen.code, -15, "{seen:?}");
}

/// Nothing of the wrapper's is open in what it becomes.
#[test]
fn no_descriptor_is_left_behind_by_a_treated_create() {
    let (sandbox, _) = scripted("fds", "#!/bin/sh\nls -l /proc/$$/fd | grep -v '/proc/\\|pipe:'\n");
    let bundle = sandbox.bundle("c").annotation("koordinator.sh/qosClass", "BE").cgroup("c");
    bundle.write();
    let seen = shell(
        &sandbox,
        &dist("plimsoll-runtime"),
        &format!("exec \"$0\" create --bundle {} c", bundle.dir.display()),
    );
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    assert!(text.contains("createRuntime"), "{text}");
    assert_eq!(
        seen.stdout.matches("config.json").count() + seen.stdout.matches("cgroup").count(),
        0,
        "{seen:#?}"
    );
}
