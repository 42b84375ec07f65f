//! Where host applications have their cgroup (`pkg/koordlet/util/host_application.go`).

use serde::Serialize;

use crate::annotations::json::go_object;
use crate::container::kube::{Driver, qos_group};
use crate::error::{Error, Result};
use crate::qos::{KubeQos, QosClass};

/// A process outside of Kubernetes that has a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostApp {
    /// Its name.
    pub name: String,
    /// Its class, as written.
    pub qos: String,
    /// Its cgroup; by its class where there is none.
    pub cgroup_path: Option<HostAppPath>,
}

/// The cgroup of a host application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostAppPath {
    /// `CgroupRoot` (also where it is empty), `Kubepods`, `KubepodsBurstable` or `KubepodsBesteffort`.
    pub base: String,
    /// A path under the base.
    pub parent_dir: String,
    /// A path under that.
    pub relative_path: String,
}

go_object!(HostApp {
    name = "name",
    qos = "qos",
    cgroup_path = "cgroupPath",
});

go_object!(HostAppPath {
    base = "base",
    parent_dir = "parentDir",
    relative_path = "relativePath",
});

impl HostApp {
    /// The class; `None` where the text names none.
    pub fn class(&self) -> Option<QosClass> {
        self.qos.parse().ok()
    }

    /// The cgroup path, without a leading slash. Steps out of the base are an error, where Koordinator follows them.
    pub fn group(&self, driver: Driver) -> Result<String> {
        let Some(path) = &self.cgroup_path else {
            let base = match self.class() {
                Some(QosClass::Lse | QosClass::Lsr | QosClass::Ls) => "host-latency-sensitive",
                Some(QosClass::Be) => "host-best-effort",
                Some(QosClass::System) | None => "",
            };
            return join(&[base, &self.name]);
        };
        let base = match path.base.as_str() {
            "Kubepods" => qos_group(driver, KubeQos::Guaranteed),
            "KubepodsBurstable" => qos_group(driver, KubeQos::Burstable),
            "KubepodsBesteffort" => qos_group(driver, KubeQos::BestEffort),
            _ => "",
        };
        join(&[base, &path.parent_dir, &path.relative_path])
    }
}

fn join(parts: &[&str]) -> Result<String> {
    let steps: Vec<&str> =
        parts.iter().flat_map(|part| part.split('/')).filter(|step| !matches!(*step, "" | ".")).collect();
    if steps.contains(&"..") {
        return Err(Error::invalid(format!("cgroup path {:?}", steps.join("/")), "has a .. in it"));
    }
    Ok(steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_base() {
        let app: HostApp = serde_json::from_str(
            "{\"name\":\"a\",\"cgroupPath\":{\"base\":\"Kubepods\",\"parentDir\":\"../b\"}}",
        )
        .unwrap();
        assert!(app.group(Driver::Cgroupfs).is_err());
        let app: HostApp = serde_json::from_str("{\"name\":\"a\",\"qos\":\"BE\"}").unwrap();
        assert_eq!(app.group(Driver::Cgroupfs).unwrap(), "host-best-effort/a");
    }
}
