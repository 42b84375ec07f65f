//! Plans of Kubernetes manifests, on this node's kernel.

use serde_json::{Value, json};

use super::common::{Ran, Sandbox};
use super::{code, json, says, tool_with};

fn plan(sandbox: &Sandbox, manifest: &str, more: &[&str]) -> Ran {
    tool_with(sandbox, &[&["plan", "-f", "-"], more].concat(), manifest.as_bytes())
}

fn planned(sandbox: &Sandbox, manifest: &str, more: &[&str]) -> Vec<Value> {
    let ran = plan(sandbox, manifest, &[&["--json"], more].concat()).ok();
    json(&ran)["containers"].as_array().unwrap().clone()
}

/// The value of a write; null where there is none.
fn value(container: &Value, level: &str, knob: &str) -> Value {
    let writes = container["writes"].as_array().unwrap();
    let found = writes.iter().find(|w| w["level"] == level && w["knob"] == knob);
    found.map_or(Value::Null, |write| write["value"].clone())
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: prod}
spec:
  template:
    metadata:
      labels: {koordinator.sh/qosClass: LS}
    spec:
      initContainers:
      - {name: setup, resources: {limits: {cpu: 250m, memory: 1Gi}}}
      containers:
      - name: nginx
        resources: {requests: {cpu: 250m, memory: 64Mi}, limits: {cpu: 500m, memory: 128Mi}}
      - name: side
        resources: {limits: {cpu: "1", memory: 1Gi}}
"#;

#[test]
fn a_workloads_containers_get_what_kubelet_and_the_hook_give_them() {
    let sandbox = Sandbox::new("cli-web");
    let containers = planned(&sandbox, WEB, &["--cgroup-driver", "cgroupfs"]);
    let names: Vec<&Value> = containers.iter().map(|c| &c["container"]["container"]).collect();
    assert_eq!(names, ["setup", "nginx", "side"]);
    assert_eq!(containers[1]["group"], "/kubepods/burstable/podUID/nginx");
    assert_eq!(value(&containers[1], "container", "burst"), 50_000);
    assert_eq!(value(&containers[2], "container", "burst"), 100_000);
    // The pod is throttled as a whole at 1.5 CPUs: its burst is the sum of its containers', at most its quota.
    assert_eq!(value(&containers[0], "pod", "burst"), 25_000);
    assert_eq!(value(&containers[1], "pod", "burst"), 75_000);
    assert_eq!(value(&containers[2], "pod", "burst"), 150_000);
    let notes = containers[1]["notes"].to_string();
    says(&notes, &["a label never reaches a hook", "Kubernetes QoS Burstable", "shares 256, quota 50000 us"]);
    says(&notes, &["the pod shares 1280, quota 150000 us, memory 1.125 GiB"]);
}

#[test]
fn both_cgroup_drivers_paths_are_kubelets() {
    let sandbox = Sandbox::new("cli-driver");
    let pod = r#"{"kind":"Pod","metadata":{"name":"p","uid":"6553a60b-2b97-442a-b6da-a5704d81dd98",
        "annotations":{"koordinator.sh/qosClass":"BE"}},"spec":{"containers":[{"name":"c"}]},
        "status":{"containerStatuses":[{"name":"c","containerID":"cri-o://0123abc"}]}}"#;
    let of = |driver| planned(&sandbox, pod, &["--cgroup-driver", driver])[0]["group"].clone();
    assert_eq!(of("cgroupfs"), "/kubepods/besteffort/pod6553a60b-2b97-442a-b6da-a5704d81dd98/0123abc");
    assert_eq!(
        of("systemd"),
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6553a60b_2b97_442a_b6da_a5704d81dd98.slice/crio-0123abc.scope"
    );
}

#[test]
fn batch_resources_become_limits_as_by_koordinators_webhook() {
    let sandbox = Sandbox::new("cli-batch");
    let pod = r#"
kind: Pod
metadata:
  name: spark
  annotations: {koordinator.sh/qosClass: BE}
spec:
  containers:
  - name: main
    resources:
      requests: {kubernetes.io/batch-cpu: 2k, kubernetes.io/batch-memory: 1Gi}
      limits: {kubernetes.io/batch-cpu: 4000, kubernetes.io/batch-memory: 2Gi}
"#;
    let spark = &planned(&sandbox, pod, &[])[0];
    assert_eq!(value(spark, "container", "shares"), 2048);
    assert_eq!(value(spark, "container", "quota"), 400_000);
    assert_eq!(value(spark, "pod", "quota"), 400_000);
    assert_eq!(value(spark, "container", "memory-limit"), json!(2_147_483_648_u64));
    says(&spark["notes"].to_string(), &["Kubernetes QoS BestEffort", "extended-resource-spec is made of"]);
}

#[test]
fn every_kind_of_workload_and_list_is_read() {
    let sandbox = Sandbox::new("cli-kinds");
    let template = r#"{"metadata":{"annotations":{"koordinator.sh/qosClass":"LS"}},"spec":{"containers":[{"name":"c"}]}}"#;
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
        let text =
            format!(r#"{{"kind":"{kind}","metadata":{{"name":"x"}},"spec":{{"template":{template}}}}}"#);
        assert_eq!(planned(&sandbox, &text, &[]).len(), 1, "{kind}");
    }
    let cron =
        format!(r#"{{"kind":"CronJob","spec":{{"jobTemplate":{{"spec":{{"template":{template}}}}}}}}}"#);
    assert_eq!(planned(&sandbox, &cron, &[]).len(), 1);
    let list = format!(
        r#"{{"kind":"List","items":[{cron},{{"kind":"Service","metadata":{{"name":"s"}}}},{cron}]}}"#
    );
    assert_eq!(planned(&sandbox, &list, &[]).len(), 2);
    let documents = format!("{WEB}---\nkind: Service\nmetadata: {{name: s}}\n---\n{cron}\n");
    assert_eq!(planned(&sandbox, &documents, &[]).len(), 4);
}

#[test]
fn classes_above_ls_need_the_configurations_leave() {
    let sandbox = Sandbox::new("cli-claims");
    sandbox.config("[claims]\nnamespaces = []\n");
    let pod = r#"{"kind":"Pod","metadata":{"name":"p","namespace":"prod","annotations":{"koordinator.sh/qosClass":"LSR",
        "scheduling.koordinator.sh/resource-status":"{\"cpuset\":\"1\"}"}},"spec":{"containers":[{"name":"c"}]}}"#;
    let refused = &planned(&sandbox, pod, &[])[0];
    assert_eq!((&refused["class"], &value(refused, "container", "cpus")), (&json!("LS"), &Value::Null));
    says(&refused["lost"].to_string(), &["namespace prod may not claim LSR", "claims.namespaces"]);
    sandbox.config("[claims]\nnamespaces = [\"prod\"]\n");
    let given = &planned(&sandbox, pod, &[])[0];
    assert_eq!((&given["class"], &value(given, "container", "cpus")), (&json!("LSR"), &json!("1")));
}

#[test]
fn a_manifest_that_cannot_be_planned_says_where_and_why() {
    let sandbox = Sandbox::new("cli-bad");
    let spec = "spec: {containers: [{name: c}]}";
    for (manifest, parts) in [
        ("", vec!["no Kubernetes object"]),
        ("{", vec!["not JSON"]),
        ("a: [1", vec!["not YAML"]),
        ("just words", vec!["an object without a kind"]),
        ("kind: Service\nmetadata: {name: s}\n", vec!["no pod in it, only Service s", "Deployment"]),
        ("kind: Pod\n", vec!["Pod", "no spec"]),
        ("kind: Deployment\nmetadata: {name: d}\n", vec!["Deployment d", "spec.template is missing"]),
        ("kind: Pod\nspec: {containers: []}\n", vec!["spec.containers is missing or empty"]),
        ("kind: Pod\nspec: {containers: {}}\n", vec!["spec.containers", "not a list"]),
        ("kind: Pod\nspec: {containers: [{}]}\n", vec!["spec.containers[0].name", "missing"]),
        (
            "kind: Pod\nspec: {containers: [{name: c, resources: {limits: {cpu: lots}}}]}\n",
            vec!["spec.containers[0].resources.limits.cpu", "lots"],
        ),
        (
            &format!("kind: Pod\nmetadata: {{annotations: {{koordinator.sh/qosClass: true}}}}\n{spec}\n"),
            vec!["metadata.annotations.koordinator.sh/qosClass", "not a string", "quotes"],
        ),
        (
            &format!(
                "kind: Pod\nmetadata: {{uid: ../x, annotations: {{koordinator.sh/qosClass: LS}}}}\n{spec}\n"
            ),
            vec!["metadata.uid", "not one element of a path"],
        ),
        ("a: &a [x,x]\nb: &b [*a,*a]\nkind: *b\n", vec!["an object without a kind"]),
    ] {
        let ran = plan(&sandbox, manifest, &[]);
        assert_eq!(code(&ran), 1, "{manifest:?}: {ran:#?}");
        assert_eq!(ran.stdout, "", "{manifest:?}");
        says(&ran.stderr, &parts);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    // An annotation that is wrong is the hook's to judge.
    let ran = plan(
        &sandbox,
        &format!("kind: Pod\nmetadata: {{annotations: {{koordinator.sh/qosClass: GOLD}}}}\n{spec}\n"),
        &[],
    );
    assert_eq!(code(&ran), 1);
    says(&ran.stdout, &["GOLD", "starts untreated"]);
}
