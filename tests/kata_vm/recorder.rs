//! A shim that is none: it writes down what the groups of a pod say before the real shim does anything, and becomes that.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use crate::stand_in::journal::{Entry, Step};
use crate::stand_in::spec::Spec;

/// The name that makes this program the recorder.
pub const NAME: &str = "containerd-shim-recorder-v2";

/// The file beside the program that says what to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config {
    /// The real shim.
    pub shim: PathBuf,
    pub journal: PathBuf,
}

impl Config {
    fn beside(program: &Path) -> PathBuf {
        program.with_file_name("recorder.json")
    }

    /// Writes the file for a recorder.
    pub fn write(&self, program: &Path) {
        fs::write(Self::beside(program), serde_json::to_string(self).unwrap()).unwrap();
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let why = match record() {
        Ok(shim) => {
            let error = Command::new(&shim).args(std::env::args_os().skip(1)).exec();
            format!("start {}: {error}", shim.display())
        }
        Err(why) => why,
    };
    eprintln!("recorder: {why}");
    ExitCode::FAILURE
}

fn record() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let file = Config::beside(&program);
    let text = fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
    let config: Config = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let words: Vec<String> = std::env::args().collect();
    if words.last().is_some_and(|word| word == "start") {
        let id = words.iter().skip_while(|word| *word != "-id").nth(1).ok_or("no -id")?;
        let spec = Spec::load(Path::new("."))?;
        let group = pod_group(spec.cgroups_path());
        Entry::new(Step::ShimStarts, id, spec.cpus()).with_values(&group).write(&config.journal)?;
    }
    Ok(config.shim)
}

/// The group that the sandbox's will be in.
fn pod_group(cgroups_path: &str) -> String {
    match cgroups_path.split(':').collect::<Vec<_>>()[..] {
        [slice, _, _] => crate::stand_in::slice_path(slice),
        _ => cgroups_path.rsplit_once('/').map_or("/", |(pod, _)| pod).to_owned(),
    }
}
