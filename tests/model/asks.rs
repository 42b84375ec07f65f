//! What pods ask for, and the configurations of nodes.

use plimsoll::annotations::resources::{BATCH_CPU, BATCH_MEMORY, EXTENDED_RESOURCES, RESOURCE_STATUS};
use plimsoll::annotations::{cpu_burst, cpu_qos};
use plimsoll::cpuset::CpuSet;
use serde_json::{Map, Value, json};

use super::random::Random;

/// A pod's annotations: always valid ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) class: Option<&'static str>,
    /// `koordinator.sh/cpuQOS`: the identity.
    pub(crate) identity: Option<i64>,
    /// `koordinator.sh/cpuBurst`: the policy and the percentage.
    pub(crate) burst: Option<(&'static str, i64)>,
    /// `resource-status`: the pod's own CPUs.
    pub(crate) cpus: Option<String>,
    /// Batch resources of the containers 0..: thousandths of a CPU, and MiB; 0 is no limit.
    pub(crate) batch: Vec<(i64, i64)>,
}

impl Asks {
    pub(crate) fn random(random: &mut Random, cpus: &[CpuSet]) -> Self {
        let class = random.of(&[
            Some("BE"),
            Some("BE"),
            Some("LS"),
            Some("LS"),
            Some("LSR"),
            Some("LSE"),
            Some("SYSTEM"),
            None,
        ]);
        let burst = random.percent(30).then(|| {
            let policy = random.of(&["none", "auto", "cpuBurstOnly", "cfsQuotaBurstOnly"]);
            (policy, random.of(&[10, 50, 100, 1000]))
        });
        let own = match class {
            Some("LSR" | "LSE") => random.percent(80),
            Some("SYSTEM") => false,
            _ => random.percent(4),
        };
        let batch = match class {
            Some("BE") if random.percent(50) => {
                // None that add up to the kernel's default of 1024 shares: it cannot be told from a reset by idle.
                let amounts = |random: &mut Random| {
                    (random.of(&[0, 100, 550, 1100, 1650]), random.of(&[0, 64, 256, 1024]))
                };
                (0..1 + random.below(3)).map(|_| amounts(random)).collect()
            }
            _ => Vec::new(),
        };
        Self {
            class,
            identity: (class == Some("LS") && random.percent(15)).then(|| random.from(-1, 2)),
            burst,
            cpus: own.then(|| random.of(cpus).to_string()),
            batch,
        }
    }

    /// The annotations of the pod's `n`th container.
    pub(crate) fn annotations(&self, n: usize) -> Value {
        let mut map = Map::new();
        let mut set = |key: &str, value: String| map.insert(key.to_owned(), value.into());
        set("io.kubernetes.cri.container-name", format!("c{n}"));
        set("io.kubernetes.cri.sandbox-namespace", "team".to_owned());
        if let Some(class) = self.class {
            set("koordinator.sh/qosClass", class.to_owned());
        }
        if let Some(identity) = self.identity {
            set(cpu_qos::KEY, json!({"enable": true, "groupIdentity": identity}).to_string());
        }
        if let Some((policy, percent)) = self.burst {
            set(cpu_burst::KEY, json!({"policy": policy, "cpuBurstPercent": percent}).to_string());
        }
        if let Some(cpus) = &self.cpus {
            set(RESOURCE_STATUS, json!({"cpuset": cpus}).to_string());
        }
        if !self.batch.is_empty() {
            let containers = self.batch.iter().enumerate().map(|(n, (milli, mebi))| {
                let mut amounts = Map::new();
                if *milli > 0 {
                    amounts.insert(BATCH_CPU.to_owned(), (*milli).into());
                }
                if *mebi > 0 {
                    amounts.insert(BATCH_MEMORY.to_owned(), format!("{mebi}Mi").into());
                }
                (format!("c{n}"), json!({"limits": amounts, "requests": amounts}))
            });
            let containers: Map<String, Value> = containers.collect();
            set(EXTENDED_RESOURCES, json!({"containers": containers}).to_string());
        }
        map.into()
    }
}

/// A node's settings: the top of its `config.toml`.
pub(crate) fn settings(random: &mut Random, last_cpu: &CpuSet) -> String {
    let mut top = String::new();
    let mut tables = String::new();
    if random.percent(25) {
        top += "on_error = \"fail\"\n";
    }
    top += random.of(&["", "", "placement = \"keep\"\n", "placement = \"class-tree\"\n"]);
    if random.percent(20) {
        top += "kube_qos = true\n";
    }
    tables += random.of(&[
        "",
        "",
        "",
        "",
        "[identity]\nmechanism = \"weight\"\n",
        "[identity]\nmechanism = \"none\"\n",
    ]);
    if random.percent(40) {
        tables += "[exclusive]\nallocate = true\n";
        tables += random.of(&["", "min_shared_cpus = 0\n"]);
    }
    if random.percent(85) {
        tables += "[claims]\nnamespaces = [\"team\"]\n";
    }
    tables += "[cpuset]\n";
    tables += random.of(&["", "", "unset_quota = false\n"]);
    tables += random.of(&["", "", "shared_pool = false\n"]);
    if random.percent(10) {
        tables += &format!("[system]\ncpus = \"{last_cpu}\"\n");
        tables += random.of(&["", "exclusive = false\n"]);
    }
    tables += random.of(&["", "", "[class.LS]\nburst_percent = 50\n", "[class.LS]\nburst = \"none\"\n"]);
    top + &tables
}
