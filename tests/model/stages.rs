//! What Plimsoll does: every stage and repair, and what must be there afterwards.

use std::collections::BTreeMap;
use std::rc::Rc;

use plimsoll::annotations::Request;
use plimsoll::apply::Done;
use plimsoll::container::state::is_sandbox;
use plimsoll::container::{Place, State};
use plimsoll::cpuset::CpuSet;
use plimsoll::hook::Stage;
use plimsoll::kernel::control::{Controller, Knob, Value};
use plimsoll::kernel::fs::Roots;
use plimsoll::kernel::group::{Group, Groups};
use plimsoll::plan::{self, Level, Write};
use plimsoll::policy::config::OnError;
use plimsoll::policy::decide::{Asked, Rules};
use plimsoll::policy::treatment::CpusRule;
use plimsoll::qos::QosClass;
use plimsoll::record::Record;
use serde_json::json;

use super::op::PER_POD;
use super::state::{Key, Live, Treated, int, parent, pod_of, refusals};
use super::world::{Check, World};

/// What stood in a container's way.
struct WhyNot {
    reasons: Vec<String>,
    /// Whether its burst would have been in the pod's.
    bursts: bool,
    /// Whether it would have had CPUs of its own.
    owned: bool,
}

impl World<'_> {
    /// A stage for a container that is there.
    pub(crate) fn stage(&mut self, n: usize, stage: Stage) -> Result<bool, String> {
        let Some(live) = self.model.slots[n].live.clone() else { return Ok(false) };
        let id = self.model.slots[n].id.clone();
        let earlier = self.model.treated.get(&id).cloned();
        if stage == Stage::Poststart {
            // Only after a stage that treated this very process.
            if earlier.as_ref().is_some_and(|t| t.record.pid != live.pid) {
                return Ok(false);
            }
            self.call(n, stage).map_err(|e| format!("poststart: {e}"))?;
            let logged = self.logged();
            if earlier.is_none() {
                return self.quiet(&logged).map(|()| true);
            }
            return self.mended_alone(&id, &logged).map(|()| true);
        }
        if earlier.as_ref().is_some_and(|t| t.record.pid == live.pid) {
            let ran = self.call(n, stage);
            let mut logged = self.logged();
            logged.extend(ran.err());
            return self.mended_alone(&id, &logged).map(|()| true);
        }
        let owned = self.owns_cpus(&id);
        if earlier.is_some() {
            // It came back under its id, and nobody said that it had gone.
            self.release(&id);
        }
        let ran = self.call(n, stage);
        let logged = self.logged();
        let record = self.record(&id)?;
        match (ran, record) {
            (Err(error), None) => self.rolled_back(n, &live, &error)?,
            (Err(error), Some(_)) => return Err(format!("refused, and a record is left: {error}")),
            (Ok(()), Some(record)) => self.treated(n, &live, record, owned)?,
            (Ok(()), None) => {
                self.quiet(&logged)?;
                if live.asks.class.is_some() {
                    return Err(format!("{id} asks for {:?} and has no record", live.asks.class));
                }
                self.stats.event("left alone");
                self.pools(&[], owned)?;
            }
        }
        self.check_around(&live.rel)?;
        Ok(true)
    }

    /// The last stage of a container that is gone.
    pub(crate) fn stop(&mut self, n: usize) -> Result<bool, String> {
        if !std::mem::take(&mut self.model.slots[n].pending) {
            return Ok(false);
        }
        let id = self.model.slots[n].id.clone();
        let owned = self.owns_cpus(&id);
        self.call(n, Stage::Poststop).map_err(|e| format!("poststop: {e}"))?;
        self.quiet(&self.logged())?;
        if self.record(&id)?.is_some() {
            return Err(format!("{id} is gone and its record is left"));
        }
        self.release(&id);
        self.pools(&[], owned)?;
        if let Some(pod) = pod_of(n).and_then(|pod| self.model.pods[pod].clone()) {
            self.check_group(&pod.rel)?;
        }
        Ok(true)
    }

    pub(crate) fn repair(&mut self) -> Check {
        let repaired = self.hook.repair().map_err(|e| format!("repair: {e}"))?;
        let (live, dead): (Vec<String>, Vec<String>) =
            self.model.treated.keys().cloned().partition(|id| self.model.exists(&self.model.treated[id].rel));
        let all_fits = self.mended(&live, &repaired.errors)?;
        for id in &dead {
            self.release(id);
        }
        self.pools(&[], true)?;
        self.check_all()?;
        if all_fits {
            let again = self.hook.repair().map_err(|e| format!("repair: {e}"))?;
            if !again.done.is_empty() || !again.errors.is_empty() {
                return Err(format!(
                    "a second repair had something to do: {again:?}, the first: {repaired:?}"
                ));
            }
        }
        self.stats.event("repaired");
        Ok(())
    }

    fn call(&self, n: usize, stage: Stage) -> Check {
        self.hook.run(stage, self.input(n).as_slice()).map_err(|e| e.to_string())
    }

    fn input(&self, n: usize) -> Vec<u8> {
        let slot = &self.model.slots[n];
        let (pid, annotations) = match &slot.live {
            Some(live) => (live.pid, live.asks.annotations(n % PER_POD)),
            None => (0, json!({})),
        };
        let state = json!({
            "ociVersion": "1.0.2", "id": slot.id, "status": "creating", "pid": pid,
            "bundle": "/nonexistent", "annotations": annotations,
        });
        serde_json::to_vec(&state).unwrap()
    }

    fn record(&self, id: &str) -> Result<Option<Record>, String> {
        self.hook.store.load(&id.parse().unwrap()).map_err(|e| e.to_string())
    }

    fn quiet(&self, errors: &[String]) -> Check {
        if errors.is_empty() { Ok(()) } else { Err(format!("unexpected errors: {errors:?}")) }
    }

    /// The model's side of giving back.
    fn release(&mut self, id: &str) {
        let Some(treated) = self.model.treated.remove(id) else { return };
        if let Some(pod) = &treated.pod {
            let mut writes = treated.record.writes.iter().map(|done| &done.write);
            self.model.released(pod, writes.any(|w| w.level == Level::Pod && w.knob == Knob::Burst));
        }
    }

    fn owns_cpus(&self, id: &str) -> bool {
        self.hook.store.has_claim(&id.parse().unwrap())
    }

    /// The path of a group in its tree; `None` for the class tree's.
    fn rel(&self, group: &Group) -> Option<String> {
        let rest = group.path.strip_prefix(&self.with.prefix)?.trim_start_matches('/');
        (!rest.starts_with("plimsoll")).then(|| rest.to_owned())
    }

    /// The planned writes in the engine's tree that concern container and pod.
    fn targets<'w>(&self, writes: impl Iterator<Item = &'w Write>) -> BTreeMap<Key, Value> {
        let own = writes.filter(|w| w.level != Level::Neighbour);
        own.filter_map(|w| Some(((self.rel(&w.group)?, w.knob), w.value.clone()))).collect()
    }

    /// In the class tree the pod's batch limit holds for those of its containers that have another one, too.
    fn too_small_a_pod<'w>(&self, writes: impl Iterator<Item = &'w Write>, live: &Live) -> Option<String> {
        let writes: Vec<&Write> = writes.filter(|w| self.rel(&w.group).is_none()).collect();
        let end = |group: &Group, knob: Knob| {
            let planned =
                writes.iter().find(|w| w.group == *group && w.knob == knob).map(|w| w.value.clone());
            planned.or_else(|| group.read(knob).ok().flatten())
        };
        let ratio = |group: &Group| {
            let quota = int(&end(group, Knob::Quota)?);
            let period = end(group, Knob::Period).map_or(100_000, |period| int(&period));
            (quota > 0).then(|| (quota << 20) / period)
        };
        let pod = &writes.iter().find(|w| w.level == Level::Pod && w.knob == Knob::Quota)?.group;
        let limit = ratio(pod)?;
        if self.model.is_dying_in(parent(&live.rel)) {
            return Some(format!("a container of {} is not quite gone", pod.path));
        }
        let planned = writes.iter().map(|w| w.group.clone()).filter(|g| g.parent().as_ref() == Some(pod));
        let mut inside = pod.children().into_iter().chain(planned);
        inside
            .find(|group| ratio(group) > Some(limit))
            .map(|group| format!("{} is above {}", group.path, pod.path))
    }

    fn treated(&mut self, n: usize, live: &Live, record: Record, owned: bool) -> Check {
        let id = record.who.id.clone();
        let given = || record.writes.iter().map(|done| &done.write);
        let mut reasons = refusals(&self.model, &self.targets(given()));
        reasons.extend(self.too_small_a_pod(given(), live));
        if !reasons.is_empty() {
            self.stats.event("could not be had");
        }
        let refused = |error: &String| error.starts_with("CPUs of its own for ");
        if record.errors.iter().any(refused) {
            self.stats.event("no CPUs of its own");
            self.may_be_refused(&record, live)?;
        }
        let others: Vec<&String> = record.errors.iter().filter(|error| !refused(error)).collect();
        if !others.is_empty() && reasons.is_empty() {
            return Err(format!("{id}: unexpected errors: {others:?}"));
        }
        for done in &record.writes {
            self.given(done, &reasons)?;
        }
        let pod = pod_of(n).and_then(|pod| self.model.pods[pod].clone()).map(|pod| pod.rel);
        let owns = owned || self.owns_cpus(&id);
        let placement = if record.tree.is_some() { "in the tree" } else { "kept" };
        self.stats.event(format!("{} {placement}", record.treatment.class));
        if let Some(tree) = &record.tree {
            let now = Groups::of_process(&Roots::default(), live.pid).map_err(|e| e.to_string())?;
            if !tree.to.contains(&now.cpu) {
                return Err(format!("{id} is in {} and not in the class tree", now.cpu.path));
            }
        }
        let treated = Treated { rel: live.rel.clone(), pod: pod.clone(), record: Rc::new(record) };
        self.model.treated.insert(id.clone(), treated);
        if let Some(pod) = pod.filter(|pod| self.model.cover(pod, Knob::Burst).is_some()) {
            let (is, sum) = (int(&self.model.with(&pod, Knob::Burst)), self.model.sum_of_bursts(&pod));
            let planned = self.model.treated[&id].record.writes.iter();
            let mut planned = planned.filter(|d| d.write.level == Level::Pod && d.write.knob == Knob::Burst);
            if planned.next().is_some() && is != sum {
                return Err(format!("burst of {pod} is {is}, its containers' are {sum}"));
            }
        }
        self.pools(&[id], owns)
    }

    /// One write of a plan that was applied.
    fn given(&mut self, done: &Done, reasons: &[String]) -> Check {
        let write = &done.write;
        let now = write.group.read(write.knob).map_err(|e| e.to_string())?;
        if now != done.after {
            return Err(format!(
                "{} of {}: the record says {:?}, the file {now:?}",
                write.knob, write.group.path, done.after
            ));
        }
        if write.level == Level::Neighbour {
            return Ok(());
        }
        if !done.holds() && reasons.is_empty() {
            return Err(format!(
                "{} of {}: planned {}, is {now:?}",
                write.knob, write.group.path, write.value
            ));
        }
        let (Some(rel), Some(now)) = (self.rel(&write.group), now) else { return Ok(()) };
        let before = self.model.with(&rel, write.knob);
        if done.holds() {
            self.set(&rel, write.knob, now.clone(), Some(now));
        } else {
            // Among a pod's containers the latest plan counts, and is tried again.
            let wanted = (write.level == Level::Pod).then(|| write.value.clone());
            if before != now || wanted.is_some() {
                self.set(&rel, write.knob, now, wanted);
            }
        }
        Ok(())
    }

    /// A write of Plimsoll's and what the kernel and the order of writes do beside it.
    fn set(&mut self, rel: &str, knob: Knob, value: Value, wanted: Option<Value>) {
        let before = self.model.with(rel, knob);
        self.model.set_cover(rel, knob, value.clone(), wanted);
        match (knob, &value) {
            (Knob::Idle, Value::Int(1)) if before != value => {
                self.model.set_cover(rel, Knob::Shares, Value::Int(3), None);
            }
            (Knob::Quota, Value::Int(quota))
                if *quota > 0 && int(&self.model.with(rel, Knob::Burst)) > *quota =>
            {
                let wanted = self.model.cover(rel, Knob::Burst).and_then(|c| c.wanted.clone());
                self.model.set_cover(rel, Knob::Burst, value, wanted);
            }
            _ => {}
        }
    }

    /// CPUs of one's own are refused only where another owner has some of them, where they are all that a container
    /// that shares CPUs may use, or where Plimsoll was to choose.
    fn may_be_refused(&self, record: &Record, live: &Live) -> Check {
        let Some(own) = &live.asks.cpus else { return Ok(()) };
        let own: CpuSet = own.parse().unwrap();
        let claims = self.hook.store.claims().map_err(|e| e.to_string())?;
        let mut taken = claims.iter().filter_map(|(_, claim)| claim.as_ref().ok());
        let system = &self.hook.config.system;
        let has_owner = taken.any(|claim| claim.is_live() && !claim.cpus.is_disjoint(&own))
            || (system.exclusive && !system.cpus.is_disjoint(&own));
        if has_owner || self.strands(record.treatment.class, &own) {
            return Ok(());
        }
        Err(format!("{:?}, and nobody has CPUs {own}", record.errors))
    }

    /// Whether a container that shares CPUs would have none left if these were a container's of the class.
    fn strands(&self, class: QosClass, own: &CpuSet) -> bool {
        let (lse, all) = self.owned();
        let then = (if class == QosClass::Lse { lse.union(own) } else { lse }, all.union(own));
        // Every record counts whose group is there, also of a container that died and was not taken away yet.
        let records = self.hook.store.records().unwrap();
        records.into_iter().filter_map(|(_, record)| record.ok()).any(|record| {
            let Some((group, allowed)) = self.pool_of(&record) else { return false };
            let parent = group.parent().and_then(|parent| parent.read(Knob::Cpus).ok().flatten());
            let may = parent
                .as_ref()
                .and_then(Value::set)
                .map_or_else(|| allowed.clone(), |p| allowed.intersection(p));
            group.exists() && self.share(&then, record.treatment.class, &may).is_empty()
        })
    }

    /// A start that the policy refused: only for a reason, and everything is as it was.
    fn rolled_back(&mut self, n: usize, live: &Live, error: &str) -> Check {
        if self.hook.config.on_error(None) != OnError::Fail {
            return Err(format!("refused although on_error is ignore: {error}"));
        }
        let id = self.model.slots[n].id.clone();
        let state = State::parse(&self.input(n)).map_err(|e| e.to_string())?;
        let why_not = self.why_not(&state, live).map_err(|e| e.to_string())?;
        let Some(WhyNot { bursts, owned, .. }) = why_not.filter(|why| !why.reasons.is_empty()) else {
            return Err(format!("refused for no reason: {error}"));
        };
        self.stats.event("rolled back");
        if let Some(pod) = pod_of(n).and_then(|pod| self.model.pods[pod].clone()) {
            self.model.released(&pod.rel, bursts);
        }
        let now = Groups::of_process(&Roots::default(), live.pid).map_err(|e| e.to_string())?;
        for controller in Controller::ALL {
            let path = now.of(controller).map(|group| group.path.clone());
            if path != Some(self.with.path(&live.rel)) {
                return Err(format!("{id} was refused and left in {path:?}"));
            }
        }
        self.pools(&[], owned)
    }

    /// The plan for a container and what stands in its way.
    fn why_not(&self, state: &State, live: &Live) -> plimsoll::error::Result<Option<WhyNot>> {
        let place = Place::of(&self.hook.roots, state, live.pid)?;
        let who = state.who();
        let request = Request::read(state.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let asked = Asked {
            request: &request,
            namespace: who.namespace.as_deref(),
            container: who.container.as_deref(),
            kube_qos: place.kube_qos,
            sandbox: is_sandbox(&state.annotations),
        };
        let rules = Rules::of(&self.hook.config, &self.hook.roots)?;
        let Some(treatment) = rules.decide(&self.hook.config, &asked) else { return Ok(None) };
        let facts = self.hook.sources().facts(&treatment, &place, &who, None)?;
        let plan = plan::build(&treatment, &facts, self.hook.shape());
        let mut reasons = refusals(&self.model, &self.targets(plan.writes.iter()));
        reasons.extend(self.too_small_a_pod(plan.writes.iter(), live));
        reasons.extend(facts.refusal);
        let bursts = plan.value(Level::Pod, Knob::Burst).is_some();
        Ok(Some(WhyNot { reasons, bursts, owned: facts.own.is_some() && treatment.owns_cpus() }))
    }

    /// Values of these containers that had changed are as planned again. Says whether the kernel can hold them all.
    fn mended(&mut self, ids: &[String], errors: &[String]) -> Result<bool, String> {
        let mut targets: BTreeMap<Key, Value> = BTreeMap::new();
        for id in ids {
            let treated = &self.model.treated[id];
            let shares = self.pool_of(&treated.record).is_some();
            for done in treated.record.writes.iter().filter(|done| done.holds()) {
                let write = &done.write;
                let level = write.level;
                if !matches!(level, Level::Container | Level::Pod) || (shares && write.knob == Knob::Cpus) {
                    continue;
                }
                let Some(rel) = self.rel(&write.group) else { continue };
                if !self.model.exists(&rel) {
                    continue;
                }
                // What the pod's containers want together is what was planned last.
                let latest = self.model.cover(&rel, write.knob).and_then(|c| c.wanted.clone());
                let value = if level == Level::Pod { latest } else { None };
                targets.insert((rel, write.knob), value.unwrap_or_else(|| write.value.clone()));
            }
        }
        let reasons = refusals(&self.model, &targets);
        if reasons.is_empty() {
            self.quiet(errors)?;
        } else {
            self.stats.event("could not be mended");
        }
        // Quotas first, for a burst is at most the quota; a pod's burst last, for it is the sum of its containers'.
        let is_pod = |rel: &str| ids.iter().any(|id| self.model.treated[id].pod.as_deref() == Some(rel));
        let mut order: Vec<(Key, Value)> = targets.into_iter().collect();
        order.sort_by_key(|((rel, knob), _)| (*knob == Knob::Burst, is_pod(rel)));
        let is_sum = |((rel, knob), _): &(Key, Value)| *knob == Knob::Burst && is_pod(rel);
        let sums: Vec<bool> = order.iter().map(is_sum).collect();
        for (((rel, knob), mut wanted), is_sum) in order.into_iter().zip(sums) {
            if is_sum {
                wanted = Value::Int(self.model.sum_of_bursts(&rel));
                // A pod without a quota needs no burst; whether it had one when its burst was looked at, who knows.
                let now = self.with.read(&rel, knob);
                if int(&self.model.with(&rel, Knob::Quota)) < 0 && now != wanted {
                    continue;
                }
            }
            let mut value = wanted.clone();
            if !reasons.is_empty() {
                value = self.with.read(&rel, knob);
                if value != self.model.with(&rel, knob) && value != wanted && knob != Knob::Burst {
                    return Err(format!("{knob} of {rel} is {value}: neither as before nor {wanted}"));
                }
            } else if knob == Knob::Burst {
                let quota = int(&self.model.with(&rel, Knob::Quota));
                value = Value::Int(if quota > 0 { int(&wanted).min(quota) } else { int(&wanted) });
            }
            if value != self.model.with(&rel, knob) {
                self.stats.event("mended");
            }
            self.set(&rel, knob, value, Some(wanted));
        }
        Ok(reasons.is_empty())
    }

    fn mended_alone(&mut self, id: &str, errors: &[String]) -> Check {
        let ids = [id.to_owned()];
        self.mended(&ids, errors)?;
        self.pools(&ids, false)?;
        let rel = self.model.treated[id].rel.clone();
        self.check_around(&rel)
    }

    fn check_around(&self, rel: &str) -> Check {
        for group in [rel, parent(rel)] {
            if self.model.exists(group) {
                self.check_group(group)?;
            }
        }
        Ok(())
    }

    /// The `cpuset` group and the most it may have, of a container that shares CPUs.
    fn pool_of(&self, record: &Record) -> Option<(Group, CpuSet)> {
        let shares = matches!(record.treatment.cpus, CpusRule::SharedPool | CpusRule::BestEffortPool);
        Some((record.groups.cpuset.clone().filter(|_| shares)?, record.allowed.clone()?))
    }

    /// The CPUs that belong to LSE, and those that belong to anybody but BE.
    fn owned(&self) -> (CpuSet, CpuSet) {
        let system = &self.hook.config.system;
        let mut lse = if system.exclusive { system.cpus.clone() } else { CpuSet::new() };
        let mut all = lse.clone();
        let claims = self.hook.store.claims().unwrap().into_iter().filter_map(|(_, claim)| claim.ok());
        for claim in claims.filter(plimsoll::record::Claim::is_live) {
            all = all.union(&claim.cpus);
            if claim.class == QosClass::Lse {
                lse = lse.union(&claim.cpus);
            }
        }
        (lse, all)
    }

    /// The CPUs a class shares, as far as the container may have them; empty where nothing is left.
    fn share(&self, owned: &(CpuSet, CpuSet), class: QosClass, allowed: &CpuSet) -> CpuSet {
        let (lse, all) = owned;
        let taken = if class == QosClass::Be { lse } else { all };
        self.ground.online.intersection(allowed).difference(taken)
    }

    /// Every container that shares CPUs has what it should: `looked` and, where CPUs changed hands, all of them what
    /// nobody owns; the others what they had.
    fn pools(&mut self, looked: &[String], all: bool) -> Check {
        let owned = self.owned();
        let treated: Vec<(String, Treated)> =
            self.model.treated.iter().map(|(id, t)| (id.clone(), t.clone())).collect();
        for (id, treated) in treated {
            let Some((group, allowed)) = self.pool_of(&treated.record) else { continue };
            let Some(rel) = self.rel(&group).filter(|rel| self.model.exists(rel)) else { continue };
            let now = self.with.read(&rel, Knob::Cpus);
            let old = self.model.with(&rel, Knob::Cpus);
            let share = self.share(&owned, treated.record.treatment.class, &allowed);
            let fits = share.intersection(&self.model.cpus(parent(&rel)));
            let should = if (all || looked.contains(&id)) && !fits.is_empty() {
                Value::Set(fits)
            } else {
                old.clone()
            };
            if now != should {
                return Err(format!("{id} has CPUs {now} and should share {should} (had {old})"));
            }
            if now != old {
                self.stats.event("CPUs shared anew");
                self.model.set_cover(&rel, Knob::Cpus, now, None);
            } else if self.model.cover(&rel, Knob::Cpus).is_none() {
                self.model.set_cover(&rel, Knob::Cpus, now, None);
            }
        }
        Ok(())
    }

    /// The class tree holds those who are in it, as planned, and nobody else.
    pub(crate) fn check_tree(&self) -> Check {
        let mut wanted: Vec<std::path::PathBuf> = Vec::new();
        for (id, treated) in &self.model.treated {
            let Some(tree) = &treated.record.tree else { continue };
            wanted.extend(tree.make.iter().map(Group::dir));
            for done in treated.record.writes.iter().filter(|done| done.holds()) {
                let write = &done.write;
                let is_pool = write.knob == Knob::Cpus && self.pool_of(&treated.record).is_some();
                if self.rel(&write.group).is_some() || is_pool || write.level == Level::Neighbour {
                    continue;
                }
                let now = write.group.read(write.knob).map_err(|e| format!("{id}: {e}"))?;
                if now.as_ref() != Some(&write.value) {
                    return Err(format!(
                        "{} of {} is {now:?}, not {}",
                        write.knob, write.group.path, write.value
                    ));
                }
            }
        }
        for root in self.ground.mounts.dirs(&self.with.path("plimsoll")) {
            let mut todo = vec![root.clone()];
            while let Some(dir) = todo.pop().filter(|dir| dir.exists()) {
                // The classes' groups stay.
                let is_of_all = dir.strip_prefix(&root).is_ok_and(|below| below.components().count() < 2);
                if !is_of_all && !wanted.contains(&dir) {
                    return Err(format!("{} is left in the class tree", dir.display()));
                }
                let inner = std::fs::read_dir(&dir).unwrap().flatten();
                todo.extend(inner.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()));
                if dir.ends_with("latency-sensitive") && dir.join("cpu.idle").exists() {
                    let idle = std::fs::read_to_string(dir.join("cpu.idle")).unwrap();
                    if idle.trim() != "0" {
                        return Err("one LS container made every LS container's group idle".to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}
