//! A real QEMU. It is started with its vCPUs halted, so that what holds before the guest's first instruction is a matter
//! of order: see [`Vmm::run`].

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::config::Config;

/// The command line of the guest's kernel.
pub const APPEND: &str = "console=ttyS0 earlyprintk=serial panic=-1 no_timer_check";

#[derive(Debug)]
pub struct Vmm {
    child: Child,
    folder: PathBuf,
    qmp: BufReader<UnixStream>,
    /// The threads that run the guest's CPUs.
    pub vcpus: Vec<u32>,
}

impl Vmm {
    /// Starts one for a sandbox, as a child of this process and so in its groups, its vCPUs not running yet.
    pub fn start(config: &Config, id: &str) -> Result<Self, String> {
        let folder = config.stand_in.folder.join(id);
        fs::create_dir_all(&folder).map_err(|e| format!("make {}: {e}", folder.display()))?;
        let (qemu, own) = (&config.hypervisor.qemu, &config.stand_in);
        let words: Vec<&String> = own.enter.iter().chain([&qemu.path]).collect();
        // By descriptor: a path of this length is none for a socket.
        let (qmp, theirs) = UnixStream::pair().map_err(|e| format!("QMP: {e}"))?;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let log = folder.join("qemu.log");
        let file = File::create(&log).map_err(|e| format!("create {}: {e}", log.display()))?;
        let child = command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"])
            .args(["-machine", &own.machine, "-accel", &own.accelerator, "-m", "128M"])
            .args(["-smp", &qemu.default_vcpus.to_string(), "-kernel", &qemu.kernel, "-initrd", &qemu.initrd])
            .args(["-append", APPEND])
            .args(["-serial".to_owned(), format!("file:{}", folder.join("console").display())])
            .args(["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|e| format!("start {}: {e}", words[0]))?;
        drop(command);
        let mut vmm = Self { child, folder, qmp: BufReader::new(qmp), vcpus: Vec::new() };
        if let Err(why) = vmm.attend() {
            vmm.stop();
            return Err(format!("{why}: {}", fs::read_to_string(&log).unwrap_or_default().trim()));
        }
        Ok(vmm)
    }

    fn attend(&mut self) -> Result<(), String> {
        // Kata's own limit is 10 s, for a machine that is no emulated one.
        let limit = Some(Duration::from_secs(60));
        self.qmp.get_ref().set_read_timeout(limit).map_err(|e| format!("QMP: {e}"))?;
        self.line()?;
        self.ask("qmp_capabilities")?;
        let cpus = self.ask("query-cpus-fast")?;
        let tids = cpus.as_array().into_iter().flatten().filter_map(|cpu| cpu["thread-id"].as_u64());
        self.vcpus = tids.filter_map(|tid| u32::try_from(tid).ok()).collect();
        let run = PathBuf::from("/run/vc/vm").join(self.folder.file_name().unwrap_or_default());
        fs::create_dir_all(&run).map_err(|e| format!("make {}: {e}", run.display()))?;
        fs::write(run.join("pid"), self.pid().to_string()).map_err(|e| format!("write pid: {e}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the vCPUs run: the guest's first instruction comes after this.
    pub fn run(&mut self) -> Result<(), String> {
        self.ask("cont").map(|_| ())
    }

    /// Waits until the guest has given this answer.
    pub fn wait_for_guest(&mut self, answer: &str, limit: Duration) -> Result<(), String> {
        let console = self.folder.join("console");
        let begin = Instant::now();
        loop {
            let heard = fs::read(&console).unwrap_or_default();
            let heard = String::from_utf8_lossy(&heard);
            if heard.contains(answer) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the VMM ended: {status}: {heard}"));
            }
            if begin.elapsed() > limit {
                return Err(format!("the guest did not answer in {limit:?}: {heard}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let run = PathBuf::from("/run/vc/vm").join(self.folder.file_name().unwrap_or_default());
        let _ = fs::remove_dir_all(run);
    }

    fn ask(&mut self, command: &str) -> Result<Value, String> {
        let request = json!({"execute": command}).to_string() + "\n";
        let sent = self.qmp.get_mut().write_all(request.as_bytes());
        sent.map_err(|e| format!("QMP: {e}"))?;
        loop {
            let answer = self.line()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if answer.get("error").is_some() {
                return Err(format!("QMP: {command}: {answer}"));
            }
        }
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.qmp.read_line(&mut line).map_err(|e| format!("QMP: {e}"))?;
        serde_json::from_str(&line).map_err(|e| format!("QMP: {line:?}: {e}"))
    }
}
