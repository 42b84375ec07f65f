//! `containerd-shim-plimsoll-v2` on this machine's groups, with a script in the place of Kata's shim.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{Ran, Sandbox, cgroup, dist, helpers, invariants};

const QOS: &str = "koordinator.sh/qosClass";
const TREE: &str = "[class.BE]\nplacement = \"class-tree\"\n";

/// A node with the wrapper and a script that stands for the real shim: it tells its arguments, its standard input and
/// what the pod's groups say, and prints an address.
struct Node {
    sandbox: Sandbox,
    machines: Vec<Child>,
}

impl Node {
    fn new(name: &str, config: &str) -> Self {
        let node = Self { sandbox: Sandbox::new(name), machines: Vec::new() };
        let bin = node.bin();
        fs::create_dir_all(&bin).unwrap();
        for program in ["containerd-shim-plimsoll-v2", "plimsoll-hook"] {
            helpers::copy_program(&dist(program), &bin.join(program));
        }
        for name in ["kata", "runc", "kata-other"] {
            symlink("containerd-shim-plimsoll-v2", bin.join(format!("containerd-shim-plimsoll-{name}-v2")))
                .unwrap();
            node.script(&format!("containerd-shim-{name}-v2"));
        }
        node.config(config);
        node
    }

    fn config(&self, config: &str) {
        let programs = if config.contains("[shim.programs]") { "" } else { "[shim.programs]\n" };
        let paths = ["kata", "runc"].map(|name| {
            let path = self.bin().join(format!("containerd-shim-{name}-v2"));
            if config.contains(&format!("\n{name} =")) {
                String::new()
            } else {
                format!("{name} = {path:?}\n")
            }
        });
        let (top, tables) = config.find('[').map_or((config, ""), |at| config.split_at(at));
        self.sandbox.config(&format!("{top}\n{tables}{programs}{}", paths.concat()));
    }

    fn bin(&self) -> PathBuf {
        self.sandbox.dir().join("bin")
    }

    fn script(&self, name: &str) {
        let seen = self.sandbox.dir().join("seen");
        let file = self.bin().join(name);
        let cpu = cgroup::dir("cpu", &self.pod());
        let text = format!(
            "#!/bin/sh\nexec 2>&1\n{{ echo \"$0 $*\"; cat; pwd; cat {cpu}/cpu.idle {cpu}/cpu.cfs_burst_us; }} > {seen} \n\
             echo unix:///address\n",
            cpu = cpu.display(),
            seen = seen.display(),
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the real shim saw.
    fn seen(&self) -> Vec<String> {
        let text = fs::read_to_string(self.sandbox.dir().join("seen")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The pod's group, which kubelet makes.
    fn pod(&self) -> String {
        self.sandbox.group("kubepods/burstable/pod1")
    }

    fn kubelets_pod(&self) {
        cgroup::make(&self.pod());
        fill(&self.pod());
        cgroup::write(&self.pod(), "cpu.cfs_quota_us", "150000").unwrap();
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.sandbox.dir().join("task").join(id)
    }

    /// The bundle of a container of the pod; the sandbox is `sb1`.
    fn bundle(&self, id: &str, class: Option<&str>, cpu: Value) -> PathBuf {
        let kind = if id == "sb1" { "sandbox" } else { "container" };
        let mut annotations = json!({
            "io.kubernetes.cri.container-type": kind,
            "io.kubernetes.cri.sandbox-id": "sb1",
            "io.kubernetes.cri.sandbox-namespace": "default",
            "io.kubernetes.cri.sandbox-name": "pod",
        });
        if let Some(class) = class {
            annotations[QOS] = class.into();
        }
        self.bundle_of(
            id,
            &json!({
                "ociVersion": "1.1.0",
                "annotations": annotations,
                "linux": {"cgroupsPath": format!("{}/{id}", self.pod()), "resources": {"cpu": cpu}},
            }),
        )
    }

    fn bundle_of(&self, id: &str, spec: &Value) -> PathBuf {
        let dir = self.folder(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), spec.to_string()).unwrap();
        dir
    }

    fn spec(&self, id: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder(id).join("config.json")).unwrap()).unwrap()
    }

    /// Calls a link to the wrapper as containerd does.
    fn call(&self, link: &str, dir: &Path, args: &[&str]) -> Ran {
        let mut child = Command::new(self.bin().join(link))
            .args(["-namespace", "k8s.io", "-address", "/a.sock", "-publish-binary", "/usr/bin/containerd"])
            .args(args)
            .current_dir(dir)
            .env("PLIMSOLL_CONFIG", self.sandbox.config_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that is refused reads nothing.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"options\n");
        let out = child.wait_with_output().unwrap();
        Ran {
            status: out.status,
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    fn start(&self, id: &str) -> Ran {
        self.call("containerd-shim-plimsoll-kata-v2", &self.folder(id), &["-id", id, "start"])
    }

    fn started(&self, id: &str) {
        let ran = self.start(id).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("unix:///address\n", ""), "{ran:?}");
    }

    /// Kata's Go runtime makes its group, and a VMM in it.
    fn boot(&mut self, group: &str) -> i32 {
        for hierarchy in cgroup::hierarchies() {
            fs::create_dir_all(hierarchy.dir(group)).unwrap();
        }
        fill(group);
        let program = self.bin().join("qemu-system-x86_64");
        if !program.exists() {
            helpers::copy_program(Path::new("/bin/busybox"), &self.bin().join("sleep"));
            fs::rename(self.bin().join("sleep"), &program).unwrap();
        }
        use std::os::unix::process::CommandExt;
        let child = Command::new(&program).arg0("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        for hierarchy in cgroup::hierarchies() {
            fs::write(hierarchy.dir(group).join("cgroup.procs"), pid.to_string()).unwrap();
        }
        self.machines.push(child);
        pid
    }

    /// Runs the hooks that stand in a container's bundle, with Go's state.
    fn hooks(&self, stage: &str, id: &str, pid: i32) {
        let spec = self.spec(id);
        let late = matches!(stage, "poststart" | "poststop");
        let state = json!({
            "ociVersion": "", "id": if late { "sb1" } else { id }, "status": "", "pid": pid,
            "bundle": self.folder(id), "annotations": spec["annotations"],
        });
        for hook in spec["hooks"][stage].as_array().into_iter().flatten() {
            let args: Vec<&str> =
                hook["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
            let ran = self.sandbox.command_with(
                hook["path"].as_str().unwrap(),
                &args[1..],
                state.to_string().as_bytes(),
            );
            let ran = ran.ok();
            assert_eq!(ran.stderr, "", "{stage} {id}");
        }
    }

    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.sandbox.run_dir().join("containers")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The machine and its group are gone.
    fn end(&mut self, group: &str) {
        for mut child in self.machines.drain(..) {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL);
            child.wait().unwrap();
        }
        for hierarchy in cgroup::hierarchies() {
            cgroup::remove(&hierarchy.dir(group));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in &mut self.machines {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Some process that is no machine, as a thread of the shim is none.
fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// Gives a group and those above it the CPUs and memory nodes of the root, where they have none: cgroup v1.
fn fill(group: &str) {
    for name in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|_| cgroup::is_v1()) {
        let mut above = cgroup::read("/", name).unwrap();
        let mut path = String::new();
        for part in group.trim_start_matches('/').split('/') {
            path = format!("{path}/{part}");
            match cgroup::read(&path, name) {
                Some(own) if !own.is_empty() => above = own,
                _ => cgroup::write(&path, name, &above).unwrap(),
            }
        }
    }
}

fn stages(spec: &Value) -> Vec<(String, usize)> {
    let hooks = spec["hooks"].as_object().cloned().unwrap_or_default();
    hooks.iter().map(|(stage, list)| (stage.clone(), list.as_array().unwrap().len())).collect()
}

#[test]
fn everything_is_passed_on_as_it_is() {
    let node = Node::new("shim-pass", "");
    node.kubelets_pod();
    let dir = node.bundle("sb1", Some("LS"), json!({}));
    let untouched = fs::read(dir.join("config.json")).unwrap();
    for (link, real, args) in [
        ("containerd-shim-plimsoll-runc-v2", "containerd-shim-runc-v2", &["-id", "sb1", "start"][..]),
        (
            "containerd-shim-plimsoll-runc-v2",
            "containerd-shim-runc-v2",
            &["-id", "sb1", "-bundle", "x", "delete"],
        ),
        ("containerd-shim-plimsoll-kata-v2", "containerd-shim-kata-v2", &["-info"]),
        ("containerd-shim-plimsoll-kata-v2", "containerd-shim-kata-v2", &["-v"]),
        (
            "containerd-shim-plimsoll-v2",
            "containerd-shim-kata-v2",
            &["-id", "nobody", "-bundle", "x", "delete"],
        ),
    ] {
        let ran = node.call(link, &dir, args).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("unix:///address\n", ""), "{link} {args:?}");
        let seen = node.seen();
        let line = format!(
            "{} -namespace k8s.io -address /a.sock -publish-binary /usr/bin/containerd {}",
            node.bin().join(real).display(),
            args.join(" ")
        );
        assert_eq!(seen[..3], [line, "options".to_owned(), dir.display().to_string()], "{link} {args:?}");
    }
    assert_eq!(fs::read(dir.join("config.json")).unwrap(), untouched);
    assert_eq!(node.kept(), [""; 0]);
}

#[test]
fn a_pod_that_asks_for_nothing_is_left_byte_for_byte() {
    let node = Node::new("shim-nothing", "");
    node.kubelets_pod();
    for id in ["sb1", "c1"] {
        let dir = node.bundle(id, None, json!({"cpus": "0"}));
        let before = fs::read(dir.join("config.json")).unwrap();
        node.started(id);
        assert_eq!(fs::read(dir.join("config.json")).unwrap(), before);
    }
    // Then what a container says counts for nothing: the machine has its sandbox's class.
    node.bundle("c2", Some("LS"), json!({}));
    node.started("c2");
    assert!(node.sandbox.log().contains("its pod's sandbox asks for nothing"), "{}", node.sandbox.log());
    invariants::nothing_left(&node.sandbox);
}

/// The order of events is proven by what the real shim itself reads.
#[test]
fn the_pod_has_its_class_before_there_is_a_machine() {
    let mut node = Node::new("shim-ls", "");
    node.kubelets_pod();
    node.bundle("sb1", Some("LS"), json!({}));
    node.started("sb1");
    assert_eq!(node.seen()[3..], ["0", "150000"]);
    assert_eq!(node.kept(), ["sb1.applying"]);
    let spec = node.spec("sb1");
    let once = ["prestart", "createContainer", "poststart", "poststop"].map(|stage| (stage.to_owned(), 1));
    assert_eq!(stages(&spec), once);
    let group = format!("{}/kata_sb1", node.pod());
    let vmm = node.boot(&group);
    node.hooks("prestart", "sb1", vmm);
    assert_eq!(node.kept(), ["sb1.json"]);
    node.hooks("poststart", "sb1", own_pid());
    node.bundle("c1", Some("LS"), json!({"quota": 100_000, "period": 100_000}));
    node.started("c1");
    for stage in ["prestart", "poststart", "poststop"] {
        node.hooks(stage, "c1", vmm);
    }
    assert_eq!(cgroup::read(&node.pod(), "cpu.cfs_burst_us").as_deref(), Some("150000"));
    assert_eq!(node.kept(), ["sb1.json"]);
    assert!(!node.sandbox.log().contains("\"level\":\"error\""), "{}", node.sandbox.log());
    node.end(&group);
    node.hooks("poststop", "sb1", vmm);
    assert_eq!(cgroup::read(&node.pod(), "cpu.cfs_burst_us").as_deref(), Some("0"));
    invariants::nothing_left(&node.sandbox);
}

#[test]
fn a_low_identity_waits_for_the_guest_unless_it_is_told_not_to() {
    for (when, before, after) in [("after-boot", "0", "0"), ("before-boot", "1", "1")] {
        let config = format!("[class.BE]\nplacement = \"keep\"\n[shim]\nlow_identity = \"{when}\"\n");
        let mut node = Node::new("shim-be", &config);
        node.kubelets_pod();
        node.bundle("sb1", Some("BE"), json!({}));
        node.started("sb1");
        assert_eq!(node.seen()[3], before, "{when}");
        let vmm = node.boot(&format!("{}/kata_sb1", node.pod()));
        node.hooks("prestart", "sb1", vmm);
        assert_eq!(cgroup::read(&node.pod(), "cpu.idle").as_deref(), Some(after), "{when}");
        // The start of the first container comes before its workload, whatever became of the sandbox's hooks.
        node.bundle("c1", Some("BE"), json!({}));
        node.started("c1");
        assert_eq!(node.seen()[3], "1", "{when}");
        assert_eq!(node.kept(), ["sb1.json"], "{when}");
        assert!(!node.sandbox.log().contains("\"level\":\"error\""), "{}", node.sandbox.log());
    }
}

#[test]
fn a_container_with_another_class_is_told_and_has_its_pods() {
    let mut node = Node::new("shim-differs", "");
    node.kubelets_pod();
    node.bundle("sb1", Some("LS"), json!({}));
    node.started("sb1");
    let vmm = node.boot(&format!("{}/kata_sb1", node.pod()));
    node.hooks("prestart", "sb1", vmm);
    for (id, class, why) in [
        ("c1", Some("BE"), "it asks for BE, and its pod's virtual machine is LS"),
        ("c2", None, "it asks for nothing, and its pod's virtual machine is LS"),
    ] {
        node.bundle(id, class, json!({}));
        node.started(id);
        node.hooks("prestart", id, vmm);
        assert!(node.sandbox.log().contains(why), "{}", node.sandbox.log());
    }
    assert_eq!(cgroup::read(&node.pod(), "cpu.idle").as_deref(), Some("0"));
    assert_eq!(node.kept(), ["sb1.json"]);
}

#[test]
fn the_class_tree_is_there_before_the_machine() {
    let mut node = Node::new("shim-tree", TREE);
    node.kubelets_pod();
    let dir = node.bundle("sb1", Some("BE"), json!({}));
    node.started("sb1");
    let class = format!("{}/best-effort", node.sandbox.class_tree());
    let path = node.spec("sb1")["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    assert_eq!(path, format!("{class}/pod1/sb1"));
    assert_eq!(cgroup::read(&class, "cpu.idle").as_deref(), Some("1"));
    // Kubelet's limit of the pod goes along.
    let pod = format!("{class}/pod1");
    assert_eq!(cgroup::read(&pod, "cpu.cfs_quota_us").as_deref(), Some("150000"));
    let group = format!("{pod}/kata_sb1");
    let vmm = node.boot(&group);
    for stage in ["prestart", "poststart"] {
        node.hooks(stage, "sb1", vmm);
    }
    assert_eq!(node.kept(), ["sb1.json"]);
    assert!(!node.sandbox.log().contains("\"level\":\"error\""), "{}", node.sandbox.log());
    node.end(&group);
    node.hooks("poststop", "sb1", vmm);
    fs::remove_dir_all(dir).unwrap();
    invariants::nothing_left(&node.sandbox);
}

/// Kata makes as many vCPUs as CPUs are named where nothing has a limit: it must not be us who name them.
#[test]
fn cpus_are_named_only_where_they_do_not_size_the_machine() {
    let config = "[exclusive]\nmin_shared_cpus = 0\n";
    let mut node = Node::new("shim-cpus", config);
    node.kubelets_pod();
    let status = "scheduling.koordinator.sh/resource-status";
    let dir = node.bundle("sb1", Some("LSR"), json!({}));
    let mut spec = node.spec("sb1");
    spec["annotations"][status] = "{\"cpuset\":\"0\"}".into();
    node.bundle_of("sb1", &spec);
    node.started("sb1");
    assert_eq!(node.spec("sb1")["linux"]["resources"]["cpu"], json!({}));
    // The machine is born with them all the same: its pod has them until it has a group.
    let all = cgroup::read("/", "cpuset.cpus");
    assert_eq!(cgroup::read(&node.pod(), "cpuset.cpus").as_deref(), Some("0"));
    let group = format!("{}/kata_sb1", node.pod());
    let vmm = node.boot(&group);
    node.hooks("prestart", "sb1", vmm);
    assert_eq!(cgroup::read(&group, "cpuset.cpus").as_deref(), Some("0"));
    assert_eq!(cgroup::read(&node.pod(), "cpuset.cpus"), all);
    for (id, cpu, cpus) in [
        ("none", json!({}), Value::Null),
        ("limit", json!({"quota": 100_000, "period": 100_000}), "0".into()),
        ("named", json!({"cpus": "0-1"}), "0".into()),
        ("within", json!({"cpus": "0"}), "0".into()),
    ] {
        node.bundle(id, Some("LSR"), cpu);
        node.started(id);
        assert_eq!(node.spec(id)["linux"]["resources"]["cpu"]["cpus"], cpus, "{id}");
    }
    assert!(!node.sandbox.log().contains("\"level\":\"error\""), "{}", node.sandbox.log());
    node.end(&group);
    let args = ["-id", "sb1", "-bundle", dir.to_str().unwrap(), "delete"];
    node.call("containerd-shim-plimsoll-kata-v2", &dir, &args).ok();
    invariants::nothing_left(&node.sandbox);
}

#[test]
fn a_container_that_is_alone_is_its_own_sandbox() {
    let mut node = Node::new("shim-single", "[class.BE]\nplacement = \"keep\"\n");
    node.kubelets_pod();
    node.bundle_of(
        "one",
        &json!({
            "annotations": {QOS: "BE"},
            "linux": {"cgroupsPath": format!("{}/one", node.pod())},
        }),
    );
    node.started("one");
    assert_eq!(node.seen()[3], "0");
    let group = format!("{}/kata_one", node.pod());
    let vmm = node.boot(&group);
    // Nothing comes between this and its workload.
    node.hooks("prestart", "one", vmm);
    assert_eq!(cgroup::read(&node.pod(), "cpu.idle").as_deref(), Some("1"));
    assert_eq!(node.kept(), ["one.json"]);
}

/// What of another life nobody told the end of does not count for a new one under the same id.
#[test]
fn a_second_start_begins_anew() {
    let node = Node::new("shim-again", "");
    node.kubelets_pod();
    node.bundle("sb1", Some("LS"), json!({}));
    node.started("sb1");
    node.started("sb1");
    assert_eq!(stages(&node.spec("sb1")).iter().map(|(_, count)| *count).max(), Some(1));
    assert_eq!(cgroup::read(&node.pod(), "cpu.cfs_burst_us").as_deref(), Some("150000"));
    let dir = node.folder("sb1");
    node.call("containerd-shim-plimsoll-kata-v2", &dir, &["-id", "sb1", "delete"]).ok();
    assert_eq!(cgroup::read(&node.pod(), "cpu.cfs_burst_us").as_deref(), Some("0"));
    invariants::nothing_left(&node.sandbox);
}

#[test]
fn bad_bundles_are_the_real_shims_unless_the_policy_is_to_fail() {
    for (policy, starts) in [("ignore", true), ("fail", false)] {
        let node = Node::new("shim-bad", &format!("on_error = \"{policy}\"\n"));
        node.kubelets_pod();
        let dir = node.folder("sb1");
        fs::create_dir_all(&dir).unwrap();
        // No bundle at all: the real shim knows what to say.
        node.started("sb1");
        for text in ["", "nonsense", "{\"annotations\": {\"a\": 7}}"] {
            fs::write(dir.join("config.json"), text).unwrap();
            let ran = node.start("sb1");
            assert_eq!(ran.status.success(), starts, "{policy} {text:?}: {ran:?}");
            let says = ran.stderr.contains("config.json: not an OCI config.json");
            assert_eq!(says, !starts, "{policy} {text:?}: {ran:?}");
            assert!(node.sandbox.log().contains("not an OCI config.json"), "{}", node.sandbox.log());
        }
        // No group of its own: Kata would take one for all pods.
        node.bundle_of("sb1", &json!({"annotations": {QOS: "LS"}}));
        let ran = node.start("sb1");
        assert_eq!(ran.status.success(), starts, "{policy}: {ran:?}");
        // A workload whose sandbox nobody knows.
        node.bundle("c1", Some("LS"), json!({}));
        node.started("c1");
        invariants::nothing_left(&node.sandbox);
    }
}

#[test]
fn a_shim_that_is_not_there_is_said_to_containerd_and_nothing_is_left() {
    let node = Node::new("shim-missing", "");
    node.kubelets_pod();
    node.bundle("sb1", Some("LS"), json!({}));
    let own = node.bin().join("containerd-shim-plimsoll-v2");
    let broken = node.bin().join("broken");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let missing = PathBuf::from("/not/there");
    for (path, why) in
        [(&missing, "ENOENT"), (&own, "containerd-shim-plimsoll itself"), (&broken, "execute ")]
    {
        node.config(&format!("[shim.programs]\nkata = {path:?}\n"));
        let ran = node.start("sb1").fails();
        assert!(ran.stderr.starts_with("containerd-shim-plimsoll: ") && ran.stderr.contains(why), "{ran:?}");
        assert_eq!(ran.stdout, "");
        assert_eq!(cgroup::read(&node.pod(), "cpu.cfs_burst_us").as_deref(), Some("0"));
        invariants::nothing_left(&node.sandbox);
    }
    // A copy of the wrapper in the place of the real shim comes back to itself.
    let copy = node.bin().join("containerd-shim-copy-v2");
    helpers::copy_program(&own, &copy);
    node.config(&format!("[shim.programs]\nkata = {copy:?}\n"));
    let ran = node.start("sb1").fails();
    assert!(ran.stderr.contains("containerd-shim-plimsoll itself"), "{ran:?}");
    invariants::nothing_left(&node.sandbox);
}

#[test]
fn the_kill_switch_passes_everything_through() {
    let node = Node::new("shim-off", "");
    node.kubelets_pod();
    let dir = node.bundle("sb1", Some("LS"), json!({}));
    let before = fs::read(dir.join("config.json")).unwrap();
    fs::create_dir_all(node.sandbox.run_dir()).unwrap();
    fs::write(node.sandbox.run_dir().join("disabled"), "").unwrap();
    node.started("sb1");
    assert_eq!(fs::read(dir.join("config.json")).unwrap(), before);
    assert_eq!(node.seen()[3..], ["0", "0"]);
}

fn plimsoll(node: &Node, args: &[&str]) -> (Ran, Value) {
    let config = node.sandbox.config_path();
    let args = [&["--config", config.to_str().unwrap()], args, &["--json"]].concat();
    let ran = node.sandbox.command(dist("plimsoll"), &args);
    let said = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran, said)
}

/// What `plan` shows of a list of writes: level, group, knob and value.
fn planned(writes: &Value) -> Vec<String> {
    let line = |write: &Value| {
        let group = write["group"]["path"].as_str().or_else(|| write["group"].as_str()).unwrap();
        let value = if write["value"].is_null() { &write["planned"] } else { &write["value"] };
        format!("{} {group} {} {value}", write["level"], write["knob"])
    };
    let mut lines: Vec<String> = writes.as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_plan_shown_is_the_plan_applied() {
    let mut node = Node::new("shim-plan", "[class.BE]\nplacement = \"keep\"\n");
    node.kubelets_pod();
    let dir = node.bundle("sb1", Some("BE"), json!({}));
    let (ran, said) = plimsoll(&node, &["plan", "--vm", dir.to_str().unwrap()]);
    ran.ok();
    let before = planned(&said["containers"][0]["writes"]);
    assert!(before.iter().any(|line| line.contains("pod1 \"idle\"")), "{before:?}");
    node.started("sb1");
    // The hooks in it say that it is Kata's now.
    let (ran, said) = plimsoll(&node, &["plan", dir.to_str().unwrap()]);
    ran.ok();
    assert_eq!(planned(&said["containers"][0]["writes"]), before);
    let (ran, said) = plimsoll(&node, &["explain", "sb1"]);
    assert_eq!((ran.status.code(), &said["containers"][0]["state"]), (Some(1), &"applying".into()));
    assert!(said["containers"][0]["files"].to_string().contains("to-come"), "{said}");
    let vmm = node.boot(&format!("{}/kata_sb1", node.pod()));
    for stage in ["prestart", "poststart"] {
        node.hooks(stage, "sb1", vmm);
    }
    let (ran, said) = plimsoll(&node, &["explain", "sb1"]);
    ran.ok();
    assert_eq!(planned(&said["containers"][0]["record"]["writes"]), before);
    assert_eq!(said["containers"][0]["state"], "ok");
}

#[test]
fn explain_shows_the_machine_and_who_asks_for_something_else() {
    let mut node = Node::new("shim-explain", "");
    node.kubelets_pod();
    node.bundle("sb1", Some("LS"), json!({}));
    node.started("sb1");
    let vmm = node.boot(&format!("{}/kata_sb1", node.pod()));
    node.hooks("prestart", "sb1", vmm);
    for (id, class) in [("same", Some("LS")), ("other", Some("BE")), ("none", None)] {
        node.bundle(id, class, json!({}));
        node.started(id);
    }
    let (ran, said) = plimsoll(&node, &["explain", "default/pod"]);
    ran.ok();
    let machine = &said["containers"][0]["vm"];
    assert_eq!(machine["vmm"], vmm);
    let threads = machine["threads"].as_array().unwrap();
    assert!(
        threads.iter().all(|threads| threads["covered"] == "whole" && threads["pid"] == vmm),
        "{machine}"
    );
    assert_eq!(
        machine["others"],
        json!([{"container": "none", "asks": null}, {"container": "other", "asks": "BE"}])
    );
    // A VMM that is somewhere else is shown with what does not reach it.
    let elsewhere = node.sandbox.group("elsewhere");
    for hierarchy in cgroup::hierarchies() {
        fs::create_dir_all(hierarchy.dir(&elsewhere)).unwrap();
    }
    fill(&elsewhere);
    for hierarchy in cgroup::hierarchies() {
        fs::write(hierarchy.dir(&elsewhere).join("cgroup.procs"), vmm.to_string()).unwrap();
    }
    let text = node.sandbox.command(
        dist("plimsoll"),
        &["--config", node.sandbox.config_path().to_str().unwrap(), "explain", "sb1"],
    );
    assert!(
        text.stdout.contains("by nothing") && text.stdout.contains("sandbox_cgroup_only"),
        "{}",
        text.stdout
    );
}

/// A machine whose hooks never came is finished by a repair, once it has had its time; one that is gone is given back.
#[test]
fn repair_knows_machines() {
    let mut node = Node::new("shim-repair", "[class.BE]\nplacement = \"keep\"\n");
    node.kubelets_pod();
    node.bundle("sb1", Some("BE"), json!({}));
    node.started("sb1");
    let group = format!("{}/kata_sb1", node.pod());
    node.boot(&group);
    assert_eq!(invariants::repaired(&node.sandbox).done, [""; 0]);
    let file = node.sandbox.run_dir().join("containers/sb1.applying");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["created"] = 1.into();
    fs::write(&file, record.to_string()).unwrap();
    let repaired = invariants::repaired(&node.sandbox);
    assert!(repaired.done[0].contains("finished what was cut off"), "{repaired:?}");
    assert_eq!(repaired.done.len(), 1, "{repaired:?}");
    assert_eq!(node.kept(), ["sb1.json"]);
    assert_eq!(cgroup::read(&node.pod(), "cpu.idle").as_deref(), Some("1"));
    assert_eq!(invariants::repaired(&node.sandbox).done, [""; 0]);
    // Neither hook nor `delete` was called.
    node.end(&group);
    fs::remove_dir_all(node.folder("sb1")).unwrap();
    assert_eq!(invariants::repaired(&node.sandbox).done.len(), 1);
    assert_eq!(cgroup::read(&node.pod(), "cpu.idle").as_deref(), Some("0"));
    invariants::nothing_left(&node.sandbox);
}
