//! Containers from Kubernetes manifests: pods, and the templates of workloads.

use serde_json::{Map, Value, json};

use super::Subject;
use super::kubelet;
use super::resources::{self, Container, Pod};
use crate::annotations::class::Source;
use crate::annotations::resources::{BATCH_CPU, BATCH_MEMORY, EXTENDED_RESOURCES};
use crate::container::Place;
use crate::container::kube::{self, Driver, Engine};
use crate::container::place::all_at;
use crate::error::{Error, Result};
use crate::kernel::group::Groups;
use crate::plan::Mover;
use crate::plan::suppose::Supposed;
use crate::record::Who;
use crate::tool::cli::DriverArg;
use crate::tool::human;
use crate::tool::{Session, node};

/// How deep lists may hold lists.
const MAX_DEPTH: usize = 4;
/// How many pods are planned for; a manifest with more is no manifest.
const MAX_PODS: usize = 1000;

/// A pod, or a workload's pod to be.
struct Template<'a> {
    /// `Deployment web`
    what: String,
    namespace: String,
    name: String,
    metadata: &'a Value,
    spec: &'a Value,
    status: Option<&'a Value>,
    /// What a reader should know about it.
    notes: Vec<String>,
}

/// What a manifest's pods are placed by.
struct Node {
    top: Groups,
    driver: Driver,
    engine: Engine,
    note: String,
}

/// The containers of all pods of a manifest.
pub(super) fn read(
    session: &Session,
    text: &str,
    file: &str,
    driver: Option<DriverArg>,
) -> anyhow::Result<Vec<Subject>> {
    let documents = documents(file, text)?;
    let mut templates = Vec::new();
    let mut others = Vec::new();
    for document in &documents {
        collect(file, document, 0, &mut templates, &mut others)?;
    }
    if templates.is_empty() {
        let why = match others.is_empty() {
            true => "there is no Kubernetes object in it".to_owned(),
            false => format!("no pod in it, only {}", others.join(", ")),
        };
        return Err(Error::invalid(file, why)
            .hint("understood are Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob and lists of them")
            .into());
    }
    if templates.len() > MAX_PODS {
        return Err(Error::invalid(file, format!("more than {MAX_PODS} pods")).into());
    }
    let node = node(session, driver)?;
    let mut subjects = Vec::new();
    for template in &templates {
        subjects.extend(subjects_of(&node, template)?);
    }
    Ok(subjects)
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>> {
    let bad = |why: String| Error::invalid(file, why).hint("give a Kubernetes manifest in YAML or JSON");
    if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(text).into_iter();
        return stream.collect::<Result<_, _>>().map_err(|e| bad(format!("not JSON: {e}")));
    }
    serde_saphyr::from_multiple(text).map_err(|e| bad(format!("not YAML: {e}")))
}

fn string<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Finds the pods of an object; the others' names are kept for the error that there are none.
fn collect<'a>(
    file: &str,
    object: &'a Value,
    depth: usize,
    templates: &mut Vec<Template<'a>>,
    others: &mut Vec<String>,
) -> Result<()> {
    let kind = string(object, "kind").ok_or_else(|| {
        Error::invalid(file, "an object without a kind").hint("is it a Kubernetes manifest?")
    })?;
    if let Some(Value::Array(items)) = object.get("items").filter(|_| kind.ends_with("List")) {
        if depth >= MAX_DEPTH {
            return Err(Error::invalid(file, "lists in lists in lists"));
        }
        return items.iter().try_for_each(|item| collect(file, item, depth + 1, templates, others));
    }
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = string(metadata, "name").or_else(|| string(metadata, "generateName")).unwrap_or("(no name)");
    let path = match kind {
        "Pod" => "",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            "/spec/template"
        }
        "CronJob" => "/spec/jobTemplate/spec/template",
        "PodTemplate" => "/template",
        _ => {
            others.push(format!("{kind} {name}"));
            return Ok(());
        }
    };
    let what = format!("{kind} {name}");
    let pod = object.pointer(path).ok_or_else(|| {
        Error::invalid(
            format!("{file}: {what}"),
            format!("{} is missing", path.trim_start_matches('/').replace('/', ".")),
        )
    })?;
    let spec = pod
        .get("spec")
        .filter(|spec| spec.is_object())
        .ok_or_else(|| Error::invalid(format!("{file}: {what}"), "the pod has no spec"))?;
    let mut notes = Vec::new();
    if spec.get("resources").is_some_and(Value::is_object) {
        notes.push(
            "spec.resources (of the whole pod) is not counted here; kubelet sets the pod's group by it"
                .to_owned(),
        );
    }
    if string(spec, "runtimeClassName").is_some_and(|class| class.contains("kata")) {
        notes.push(
            "a Kata pod has one group on the node, that of the pod; its containers' groups are in the VM"
                .to_owned(),
        );
    }
    templates.push(Template {
        what: format!("{file}: {what}"),
        namespace: string(metadata, "namespace").unwrap_or("default").to_owned(),
        name: if kind == "Pod" { name.to_owned() } else { format!("{name}-…") },
        metadata: pod.get("metadata").unwrap_or(&Value::Null),
        spec,
        status: object.get("status").filter(|_| kind == "Pod"),
        notes,
    });
    Ok(())
}

fn node(session: &Session, driver: Option<DriverArg>) -> Result<Node> {
    let top = Groups::top(&session.roots)?;
    let (driver, why) = match driver {
        Some(DriverArg::Cgroupfs) => (Driver::Cgroupfs, "--cgroup-driver".to_owned()),
        Some(DriverArg::Systemd) => (Driver::Systemd, "--cgroup-driver".to_owned()),
        None => node::driver(&session.roots, &top),
    };
    let has_crio = session.roots.path("/run/crio/crio.sock").exists();
    let engine = if has_crio { Engine::CriO } else { Engine::Containerd };
    let note = format!("cgroup driver {}: {why}", node::driver_name(driver));
    Ok(Node { top, driver, engine, note })
}

/// A mapping of strings, as labels and annotations are.
fn strings(template: &Template<'_>, key: &str) -> Result<Vec<(String, String)>> {
    let what = || format!("{} metadata.{key}", template.what);
    let entries = match template.metadata.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Error::invalid(what(), "not a mapping")),
    };
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        _ => {
            Err(Error::invalid(format!("{}.{name}", what()), "not a string").hint("put the value in quotes"))
        }
    };
    entries.iter().map(pair).collect()
}

fn subjects_of(node: &Node, template: &Template<'_>) -> Result<Vec<Subject>> {
    let pod = resources::pod(&template.what, template.spec)?;
    let mut notes = template.notes.clone();
    let annotations = annotations(template, &pod, &mut notes)?;
    let qos = kubelet::qos(&pod);
    let pod_set = kubelet::pod(&pod);
    let uid = string(template.metadata, "uid");
    let pod_path = kube::pod_group(node.driver, qos, uid.unwrap_or("UID"))
        .map_err(|e| Error::invalid(format!("{} metadata.uid", template.what), e.to_string()))?;
    notes.insert(0, format!("Kubernetes QoS {qos}; {}", node.note));
    if uid.is_none() {
        notes.push("the pod's uid and the containers' ids are not known before it runs: UID and names stand for them".to_owned());
    }
    let subject = |container: &Container| -> Result<Subject> {
        let id = id(node, template, &container.name);
        let path = kube::container_group(node.driver, &pod_path, &id)
            .map_err(|e| Error::invalid(template.what.clone(), e.to_string()))?;
        let set = kubelet::container(container);
        let bare = id.split_once("://").map_or(id.as_str(), |(_, bare)| bare).to_owned();
        let mut notes = notes.clone();
        notes.insert(
            1,
            format!("kubelet gives the container {}, the pod {}", amounts(&set), amounts(&pod_set)),
        );
        Ok(Subject {
            title: format!("{}/{} {}", template.namespace, template.name, container.name),
            who: Who {
                id: bare,
                bundle: None,
                namespace: Some(template.namespace.clone()),
                pod: Some(template.name.clone()),
                pod_uid: uid.map(str::to_owned),
                container: Some(container.name.clone()),
            },
            annotations: annotations.clone(),
            place: Ok(Place::at(all_at(&node.top, |_| format!("/{path}")))),
            mover: Mover::Runtime(node.driver),
            supposed: Supposed {
                container: set.time,
                pod: pod_set.time,
                memory: [Some(set.memory), Some(pod_set.memory)],
                ..Supposed::default()
            },
            treated: None,
            notes,
        })
    };
    pod.all().map(subject).collect()
}

fn amounts(set: &kubelet::Set) -> String {
    let quota = match set.time.quota {
        -1 => "no CPU limit".to_owned(),
        quota => format!("quota {quota} us"),
    };
    let memory = match set.memory {
        -1 => "no memory limit".to_owned(),
        bytes => format!("memory {}", human::bytes(bytes)),
    };
    format!("shares {}, {quota}, {memory}", set.time.shares)
}

/// The container's id where the pod runs, else its name.
fn id(node: &Node, template: &Template<'_>, name: &str) -> String {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let statuses =
        template.status.into_iter().flat_map(|status| lists.iter().filter_map(|list| status.get(*list)));
    let mut statuses = statuses.filter_map(Value::as_array).flatten();
    let found = statuses.find(|status| string(status, "name") == Some(name));
    let id = found.and_then(|status| string(status, "containerID")).filter(|id| id.contains("://"));
    id.map_or_else(|| format!("{}://{name}", node.engine.name()), str::to_owned)
}

/// What a hook would be handed: the annotations, and what labels and resources become of by way of webhooks.
fn annotations(template: &Template<'_>, pod: &Pod, notes: &mut Vec<String>) -> Result<Vec<(String, String)>> {
    let mut annotations = strings(template, "annotations")?;
    let labels = strings(template, "labels")?;
    let key = Source::Koordinator.key();
    let label = labels.iter().find(|(name, _)| name == key);
    let annotation = annotations.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    match (label, annotation) {
        (Some((_, class)), None) => {
            annotations.push((key.to_owned(), class.clone()));
            notes.push(format!(
                "class {class} comes from the label {key}, and a label never reaches a hook: set the annotation {key}, too"
            ));
        }
        (Some((_, class)), Some(value)) if *class != value => notes.push(format!(
            "the label {key} says {class}, the annotation {value}: the hook sees the annotation only"
        )),
        _ => {}
    }
    if !annotations.iter().any(|(name, _)| name == EXTENDED_RESOURCES) {
        if let Some(spec) = extended(pod) {
            annotations.push((EXTENDED_RESOURCES.to_owned(), spec.to_string()));
            notes.push(format!("{EXTENDED_RESOURCES} is made of the batch resources, as Koordinator's webhook does; without the webhook set it"));
        }
    }
    if annotations.iter().any(|(name, _)| name.contains("koordinator.sh/")) {
        notes.push("containerd hands on the annotations only that its runtime's pod_annotations list, as \"*koordinator.sh/*\"".to_owned());
    }
    Ok(annotations)
}

/// Koordinator's annotation of batch resources (`pkg/webhook/pod/mutating/extended_resource_spec.go`).
fn extended(pod: &Pod) -> Option<Value> {
    let batch = |container: &Container, part: &str| -> Map<String, Value> {
        let entries = container.written.get(part).and_then(Value::as_object).into_iter().flatten();
        let of_batch = entries.filter(|(name, _)| [BATCH_CPU, BATCH_MEMORY].contains(&name.as_str()));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        of_batch.map(|(name, value)| (name.clone(), Value::String(text(value)))).collect()
    };
    let mut containers = Map::new();
    for container in &pod.containers {
        let (limits, requests) = (batch(container, "limits"), batch(container, "requests"));
        if !limits.is_empty() || !requests.is_empty() {
            containers.insert(container.name.clone(), json!({"limits": limits, "requests": requests}));
        }
    }
    (!containers.is_empty()).then(|| json!({"containers": containers}))
}
