//! The command line. Completions and manual pages are made from these definitions, so that nothing is said twice.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::paint::ColorWhen;
use crate::install::Engine;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and nothing is wrong
  1  a problem was found, or something could not be done
  2  the command line is wrong
  3  `status --exit-code`: some container is not as it should be";

/// See and check what Plimsoll does to containers on this node.
///
/// Plimsoll gives containers their CPU class (LSE, LSR, LS, BE, SYSTEM) before their first instruction. The work is
/// done by plimsoll-hook, which the container runtime calls; this tool shows what the hook would do, what it did, and
/// what this node can do. Only `install`, `uninstall`, `repair`, `disable` and `enable` change anything.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// The configuration; config.d/*.toml beside it is read too [default: /etc/plimsoll/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A fixture tree to look at in place of this node
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(super) root: Option<PathBuf>,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: ColorWhen,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what a container would get: every write, its value and its reason
    ///
    /// The plan shown is the plan that the hook applies: both are made by the same code. Nothing is written.
    Plan(PlanArgs),
    /// Show why a running container has what it has, and whether it still has it
    Explain(ExplainArgs),
    /// List all treated containers
    Status(StatusArgs),
    /// Tell what this node can do, and what stands in the way
    Check(JsonArgs),
    /// Put right what was cut off or changed by others
    ///
    /// Gives back what ended containers had, writes changed values again, and removes what belongs to nobody. Running
    /// it twice changes nothing.
    Repair(RepairArgs),
    /// Put Plimsoll under this node's container engines
    ///
    /// Copies the programs, and gives each engine one more runtime handler: as its default one, but for the wrapper
    /// that is called in the place of the runtime. Running it twice changes nothing; `uninstall` takes everything off.
    Install(InstallArgs),
    /// Take Plimsoll off this node's container engines
    ///
    /// The engines' files become what they were. Where others changed them since, only what is ours is taken out, and the
    /// default that was replaced is put back. The programs stay while containers that run refer to them; run it again
    /// when these are gone.
    Uninstall(UninstallArgs),
    /// Check or show the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Turn the hook off: containers start untreated
    ///
    /// Containers that were treated already stay as they are, and are still given back at their end by `repair`.
    Disable,
    /// Turn the hook on again
    Enable,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write one per command into a folder
    Man {
        /// The folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

/// What to plan for.
#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// What the container is read from.
    #[command(flatten)]
    pub(super) from: PlanSource,
    /// The container's id, where the bundle does not tell
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// The bundle is Kata's: plan for the virtual machine of its pod [default: whether our hooks in it say so]
    #[arg(long, conflicts_with_all = ["file", "state"])]
    pub(super) vm: bool,
    /// Who names the groups of a manifest's pods [default: found on this node]
    #[arg(long, value_name = "DRIVER", conflicts_with_all = ["bundle", "state"])]
    pub(super) cgroup_driver: Option<DriverArg>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Where a container to be planned is read from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct PlanSource {
    /// An OCI bundle: the folder that holds config.json
    #[arg(value_name = "BUNDLE_DIR")]
    pub(super) bundle: Option<PathBuf>,
    /// An OCI state, as a runtime hands it to hooks; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,
    /// Kubernetes manifests, YAML or JSON: pods, workloads, lists, several documents; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// Kubelet's cgroup driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DriverArg {
    /// kubepods/burstable/pod<uid>/<id>
    Cgroupfs,
    /// kubepods.slice/kubepods-burstable.slice/…
    Systemd,
}

/// Which container to explain.
#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// A container id or the beginning of one, a pod's name, or NAMESPACE/POD
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// How to list.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) watch: Option<u64>,
    /// Exit with 3 where a container is not as it should be
    #[arg(long, conflicts_with = "watch")]
    pub(super) exit_code: bool,
}

/// A command whose output may be JSON.
#[derive(Args, Debug)]
pub(super) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// How to repair.
#[derive(Args, Debug)]
pub(super) struct RepairArgs {
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How to install.
#[derive(Args, Debug)]
pub(super) struct InstallArgs {
    /// The engine [default: every one that is found]
    #[arg(long, value_name = "ENGINE")]
    pub(super) engine: Option<EngineArg>,
    /// Its main configuration file, where it is not at the usual place
    #[arg(long, value_name = "FILE", requires = "engine")]
    pub(super) engine_config: Option<PathBuf>,
    /// The name of the handler, which a Kubernetes RuntimeClass refers to
    #[arg(long, value_name = "NAME", default_value = "plimsoll")]
    pub(super) runtime_class: String,
    /// Make it the engine's default, for containers that name none
    #[arg(long)]
    pub(super) default: bool,
    /// Where the programs go
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    pub(super) bin_dir: PathBuf,
    /// Only show what would be done, files as a unified diff
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Restart the engines whose configuration changes; containers that run stay
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) restart: bool,
}

/// How to uninstall.
#[derive(Args, Debug)]
pub(super) struct UninstallArgs {
    /// The engine [default: every one it was installed for]
    #[arg(long, value_name = "ENGINE")]
    pub(super) engine: Option<EngineArg>,
    /// Its main configuration file, where it was installed with one
    #[arg(long, value_name = "FILE", requires = "engine")]
    pub(super) engine_config: Option<PathBuf>,
    /// Only show what would be done, files as a unified diff
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Restart the engines whose configuration changes; containers that run stay
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) restart: bool,
}

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineArg {
    /// containerd, for Kubernetes
    Containerd,
    /// CRI-O
    Crio,
    /// Docker
    Docker,
    /// Podman, for root
    Podman,
}

impl From<EngineArg> for Engine {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Containerd => Self::Containerd,
            EngineArg::Crio => Self::Crio,
            EngineArg::Docker => Self::Docker,
            EngineArg::Podman => Self::Podman,
        }
    }
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Name every mistake with its file, line and key
    Check,
    /// Print the configuration as one commented file
    Show {
        /// What counts without any configuration
        #[arg(long)]
        defaults: bool,
    },
}
