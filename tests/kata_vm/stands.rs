//! The stand-in by itself: it does what is known of Kata.

use std::collections::BTreeSet;

use crate::host::{Kata, Layout, VCPUS};
use crate::kit::{Suite, cpu};
use crate::stand_in::journal::{Entry, Step};

/// The cpu groups of the threads that run the guest's CPUs, or of the others.
fn groups(entry: &Entry, of_vcpus: bool) -> BTreeSet<String> {
    let controller = if crate::common::cgroup::is_v1() { "cpu" } else { "" };
    let threads = entry.threads.iter().filter(|thread| thread.is_vcpu == of_vcpus);
    threads.map(|thread| thread.groups[controller].clone()).collect()
}

pub fn the_stand_in_does_what_kata_does() {
    let kata = Kata::plain(Suite::Bookworm, "kata");
    for layout in Layout::ALL {
        let name = layout.handler().replace('.', "");
        let pod = kata.pod(layout, &name, "burstable", 100_000, &[]);
        let id = pod.sandbox.clone();
        let container = pod.start(&kata.engine, "main", cpu(512, 50_000)).unwrap();
        let own = layout.sandbox_group(pod.group(), &id);
        let overhead = format!("/kata_overhead/{id}");
        let home = if layout.sandbox_cgroup_only { &own } else { &overhead };

        let born = kata.step(Step::VmmBorn, &id);
        assert_eq!(born.threads.iter().filter(|thread| thread.is_vcpu).count(), VCPUS, "{born:?}");
        for is_vcpu in [true, false] {
            assert_eq!(groups(&born, is_vcpu), [home.clone()].into(), "{layout:?}");
        }
        let started = kata.step(Step::Started, &container);
        assert_eq!(groups(&started, true), [own.clone()].into(), "{layout:?}");
        // Only v1 can part the threads of one process.
        let others = if crate::common::cgroup::is_v1() { home } else { &own };
        assert_eq!(groups(&started, false), [others.clone()].into(), "{layout:?}");
        pod.remove(&kata.engine);
    }
}
