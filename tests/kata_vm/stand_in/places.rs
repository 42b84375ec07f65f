//! Which groups a sandbox gets, by flavour, layout and the form of `cgroupsPath`.

use super::config::Flavour;
use super::groups::Group;

/// The group of the sandbox, and the one for all but the vCPUs where the layout has one.
#[derive(Clone, Debug)]
pub struct Places {
    pub sandbox: Group,
    pub overhead: Option<Group>,
}

impl Places {
    /// `has_cpu`: whether the sandbox's specification says anything of CPUs. Go's groups on v2 have the controllers alone
    /// that their resources name, and those of the overhead's are empty.
    pub fn of(
        flavour: Flavour,
        cgroups_path: &str,
        id: &str,
        sandbox_cgroup_only: bool,
        has_cpu: bool,
    ) -> Self {
        let go = |path: &str| Group::new(path).with(if has_cpu { &["cpu", "cpuset"] } else { &[] });
        let unit = unit(cgroups_path);
        let overhead = (!sandbox_cgroup_only).then(|| match unit {
            Some(_) if !flavour.is_go() => {
                Group::scope("kata-overhead.slice", &format!("runtime-rs-{id}.scope"))
            }
            _ if flavour.is_go() => Group::new(&format!("/kata_overhead/{id}")).with(&[]),
            _ => Group::new(&format!("/kata_overhead/{id}")),
        });
        let sandbox = match unit {
            Some((slice, unit)) if sandbox_cgroup_only || !flavour.is_go() => Group::scope(slice, &unit),
            // Go takes a unit for a path where it has an overhead group: it lands at the root.
            Some(_) => go(&format!("/{cgroups_path}")),
            None if flavour.is_go() => go(&with_prefix(cgroups_path)),
            None => Group::new(&format!("/{}", cgroups_path.trim_matches('/'))),
        };
        Self { sandbox, overhead }
    }
}

/// Slice and scope of `slice:prefix:name`.
fn unit(cgroups_path: &str) -> Option<(&str, String)> {
    let mut parts = cgroups_path.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| (slice, format!("{prefix}-{name}.scope")))
}

fn with_prefix(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((above, name)) => format!("{above}/kata_{name}"),
        None => "/kata_vc".to_owned(),
    }
}
