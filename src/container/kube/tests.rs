use super::*;

const UID: &str = "6553a60b-2b97-442a-b6da-a5704d81dd98";
const UID_: &str = "6553a60b_2b97_442a_b6da_a5704d81dd98";

#[test]
fn finds_the_pod_of_a_container_in_either_naming() {
    let path = format!("/kubepods/besteffort/pod{UID}/0123abc/child");
    let got = PodGroup::find(&path).unwrap();
    assert_eq!((got.driver, got.qos, &*got.uid), (Driver::Cgroupfs, KubeQos::BestEffort, UID));
    assert_eq!((got.root, got.qos_group), ("/kubepods", "/kubepods/besteffort"));
    assert_eq!((got.pod, got.below), (&*format!("/kubepods/besteffort/pod{UID}"), "0123abc/child"));
    assert_eq!(got.container_id(), Some("0123abc"));

    let path = format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-0123abc.scope"
    );
    let got = PodGroup::find(&path).unwrap();
    assert_eq!((got.driver, got.qos, &*got.uid), (Driver::Systemd, KubeQos::Burstable, UID));
    assert_eq!(got.root, "/kubepods.slice");
    assert_eq!(got.container_id(), Some("0123abc"));
}

#[test]
fn the_root_of_a_guaranteed_pod_is_its_qos_group() {
    for (path, root) in [
        (format!("/kubepods/pod{UID}/x"), "/kubepods"),
        (format!("/kubepods.slice/kubepods-pod{UID_}.slice/docker-x.scope"), "/kubepods.slice"),
        (format!("kubepods/pod{UID}"), "kubepods"),
    ] {
        let got = PodGroup::find(&path).unwrap();
        assert_eq!(
            (got.root, got.qos_group, got.qos, &*got.uid),
            (root, root, KubeQos::Guaranteed, UID),
            "{path}"
        );
    }
}

#[test]
fn the_innermost_kubepods_counts() {
    let path = format!(
        "/kubepods/besteffort/podouter/ctr/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
         kubelet-kubepods-burstable-pod{UID_}.slice/cri-containerd-x.scope"
    );
    let got = PodGroup::find(&path).unwrap();
    assert_eq!((&*got.uid, got.qos), (UID, KubeQos::Burstable));
    assert!(got.root.ends_with("/kubelet.slice/kubelet-kubepods.slice"));
    let got = PodGroup::find("/kubepods/besteffort/podA/ctr/kubelet/kubepods/podB/c").unwrap();
    assert_eq!((&*got.uid, got.qos), ("B", KubeQos::Guaranteed));
}

#[test]
fn what_only_looks_like_a_pod_is_none() {
    for path in [
        "",
        "/",
        "/podman/x",
        "/machine.slice/libpod-123.scope",
        "/burstable/pod1",
        "/user.slice/user-pod1.slice",
        "/kubepods/pod",
        "/kubepods/system/pod1",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice",
        "/notkubepods.slice/notkubepods-pod1.slice",
        "/system.slice/docker-1.scope",
    ] {
        assert_eq!(PodGroup::find(path), None, "{path}");
    }
}

#[test]
fn container_ids_out_of_names() {
    for (driver, name, id) in [
        (Driver::Systemd, "pouch-1.scope", Some("1")),
        (Driver::Systemd, "crio-1", Some("1")),
        (Driver::Systemd, "crio-conmon-1.scope", None),
        (Driver::Systemd, "1.scope", None),
        (Driver::Systemd, "docker-.scope", None),
        (Driver::Cgroupfs, "crio-1", Some("1")),
        (Driver::Cgroupfs, "crio-conmon-1", None),
    ] {
        assert_eq!(container_id_of_name(driver, name), id, "{name}");
    }
}

#[test]
fn ids_that_would_be_paths_are_errors() {
    for id in ["containerd://../x", "containerd://", "containerd://..", "crio://1", "1"] {
        assert!(container_group(Driver::Cgroupfs, "kubepods", id).is_err(), "{id}");
    }
    for uid in ["", "..", "a/b", "a\0b"] {
        assert!(pod_group(Driver::Systemd, KubeQos::Burstable, uid).is_err(), "{uid:?}");
    }
}

#[test]
fn a_built_path_is_found_again() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        for qos in [KubeQos::Guaranteed, KubeQos::Burstable, KubeQos::BestEffort] {
            let pod = pod_group(driver, qos, UID).unwrap();
            let path = container_group(driver, &pod, "cri-o://abc").unwrap();
            let got = PodGroup::find(&path).unwrap();
            assert_eq!((got.driver, got.qos, &*got.uid, got.pod), (driver, qos, UID, &*pod));
            assert_eq!((got.qos_group, got.container_id()), (qos_group(driver, qos), Some("abc")));
        }
    }
}

#[test]
fn systemd_units_lie_where_systemd_puts_them() {
    for (text, path) in [
        (
            "kubepods-burstable-pod1_2.slice:cri-containerd:abc",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-abc.scope",
        ),
        ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
        (":libpod:abc", "/system.slice/libpod-abc.scope"),
        ("-.slice:x:abc", "/x-abc.scope"),
        ("machine.slice::abc", "/machine.slice/abc.scope"),
    ] {
        assert_eq!(systemd_path(text).as_deref(), Some(path), "{text}");
    }
    assert_eq!(systemd_path("/a/b"), None);
}
