//! `plan`: the hook with its last step taken off, for a container that is there or one that is yet to come.

mod bundle;
mod kubelet;
mod manifest;
mod resources;
mod show;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::cli::PlanArgs;
use super::{PROBLEM, Said, Session};
use crate::container::Place;
use crate::container::state::is_sandbox;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::kernel::control::{Knob, Value};
use crate::plan::suppose::Supposed;
use crate::plan::{self, Level, Mover, Plan, TreeShape, Write};
use crate::policy::config::OnError;
use crate::policy::treatment::Treatment;
use crate::record::{Record, Who};

/// The largest file read; real ones are far smaller.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

/// A container to be planned for.
struct Subject {
    /// What to call it.
    title: String,
    who: Who,
    /// What a hook would be handed.
    annotations: Vec<(String, String)>,
    /// Where it is or will be.
    place: Result<Place>,
    /// What its files will say once the runtime has made them.
    supposed: Supposed,
    /// Who would bring it into the class tree.
    mover: Mover,
    /// Its record, where it is treated already.
    treated: Option<Box<Record>>,
    notes: Vec<String>,
}

/// What the hook would do.
enum Outcome {
    /// Nothing, and why.
    Untouched(String),
    /// Nothing, for something is wrong; `refuses` says that the container does not start.
    Failed { error: Error, refuses: bool },
    /// Only what was changed since it was treated is put right.
    Treated { drift: Vec<Write> },
    /// This.
    Planned { treatment: Box<Treatment>, plan: Box<Plan> },
}

/// A container and what the hook would do with it.
struct Planned {
    subject: Subject,
    outcome: Outcome,
}

pub(super) fn run(session: &Session, args: &PlanArgs) -> anyhow::Result<Said> {
    let hook = session.hook()?;
    let subjects = match (&args.from.bundle, &args.from.state, &args.from.file) {
        (Some(dir), ..) => vec![bundle::of_bundle(session, &hook, dir, args.id.as_deref(), args.vm)?],
        (_, Some(file), _) => vec![bundle::of_state(session, &hook, &read(file)?)?],
        (_, _, Some(file)) => {
            manifest::read(session, &text(file)?, &file.display().to_string(), args.cgroup_driver)?
        }
        _ => Vec::new(),
    };
    let mut planned: Vec<Planned> = Vec::new();
    for mut subject in subjects {
        // Containers of a pod start one after the other: the later ones find the earlier ones' bursts.
        subject.supposed.other_bursts = bursts(&subject.who, &planned);
        let outcome = consider(&hook, &subject);
        planned.push(Planned { subject, outcome });
    }
    let failed = planned.iter().any(|p| matches!(p.outcome, Outcome::Failed { .. }));
    let code = if failed { PROBLEM } else { 0 };
    if args.json {
        return Said::json(&show::json(&planned), code);
    }
    Ok(Said { text: session.off_notice(&hook) + &show::text(session.paint, &hook, &planned), code })
}

/// Goes the way of `createRuntime` up to the plan.
fn consider(hook: &Hook, subject: &Subject) -> Outcome {
    let failed = |error: Error, class| Outcome::Failed {
        refuses: hook.config.on_error(class) == OnError::Fail,
        error,
    };
    let request = match hook.request(&subject.annotations) {
        Ok(Some(request)) => request,
        Ok(None) => return Outcome::Untouched("no annotation asks for anything".to_owned()),
        Err(failure) => return failed(failure.error, failure.class),
    };
    let class = request.claimed_class();
    let place = match &subject.place {
        Ok(place) => place,
        Err(error) => return failed(error.clone(), class),
    };
    if let Some(record) = &subject.treated {
        return match hook.drift(record) {
            Ok(drift) => Outcome::Treated { drift },
            Err(error) => failed(error, Some(record.treatment.class)),
        };
    }
    let mut who = subject.who.clone();
    who.pod_uid.clone_from(&place.pod_uid);
    let is_waiting = place.vm.is_none() && is_sandbox(&subject.annotations);
    let treatment = hook.treatment_as(&request, &who, place.kube_qos, is_waiting);
    let Some(treatment) = treatment else {
        return Outcome::Untouched("nothing it asks for leads to a treatment".to_owned());
    };
    match hook.sources().suppose(&subject.supposed, &treatment, place, &who) {
        Ok(facts) => {
            let shape = hook.shape_at(&facts.groups.cpu, treatment.class);
            let plan = plan::build(&treatment, &facts, &TreeShape { mover: subject.mover, ..shape });
            Outcome::Planned { treatment: Box::new(treatment), plan: Box::new(plan) }
        }
        Err(error) => failed(error, Some(treatment.class)),
    }
}

/// The bursts that the pod's earlier containers would have by then.
fn bursts(who: &Who, earlier: &[Planned]) -> i64 {
    let same_pod =
        |other: &Who| who.pod.is_some() && (&who.namespace, &who.pod) == (&other.namespace, &other.pod);
    let burst = |planned: &Planned| match &planned.outcome {
        Outcome::Planned { plan, .. } if same_pod(&planned.subject.who) => {
            plan.value(Level::Container, Knob::Burst).and_then(Value::int)
        }
        _ => None,
    };
    earlier.iter().filter_map(burst).sum()
}

/// A file's bytes, or those of standard input.
fn read(path: &Path) -> Result<Vec<u8>> {
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|e| Error::os("read", path, &e))?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(|e| Error::os("read", path, &e))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Error::invalid(path.display().to_string(), format!("longer than {MAX_INPUT} bytes")));
    }
    Ok(bytes)
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|e| Error::invalid(path.display().to_string(), e.to_string()).hint("save it as UTF-8"))
}
