//! What the entries of the timeline do to the objects, and what that asks of the world.
//!
//! An entry edits the objects as its command would; the state before it and the state after it are resolved by the same rules, and their
//! difference is the list of actions. What the API server does not let change is refused here.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::address::{Patch, Subject};
use super::backends::Backends;
use super::front_changes::{self, Moments, fate};
use super::past::Past;
use super::settings::{Settings, TimelineEntry, TimelineVerb};
use super::state::{Resolved, State};
use super::target::{self, Workload};
use super::world::gateway_specs;
use super::{autoscaling, departures, front, gateway_template, route_changes, sharing, shutdown, sources};
use crate::cluster::autoscaler::AutoscalerSpec;
use crate::cluster::disruption::DisruptionBudget;
use crate::cluster::operation::{Operation, PodChoice};
use crate::cluster::{DaemonSet, OwnerKind, TargetPort};
use crate::drill::config::{ClusterChange, ServiceChange};
use crate::drill::{Action, ClusterSpec, FrontSpec, GatewayPods, GatewaySpec, Share, Size, Sources, Verb};
use crate::manifest::object::GATEWAY_API;
use crate::manifest::pod::PodManifest;
use crate::manifest::routes::Upstream;
use crate::manifest::service::{ServiceKind, ServiceManifest};
use crate::manifest::{Files, Node, Object, Place, Problem, Sink, quantity};
use crate::record::CauseCode;
use crate::record::results::FidelityStatus;

/// What a restart writes. Source: kubectl rollout restart.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// What the plan of a cluster has made so far, for the world as a whole.
pub(super) struct Made<'a> {
    pub(super) gateways: &'a mut BTreeMap<Rc<str>, GatewayPods>,
    pub(super) backends: &'a mut Backends,
    pub(super) front: &'a mut FrontSpec,
    pub(super) files: &'a Files,
}

/// The workload that an entry of the timeline is for.
pub(super) fn workload(entry: &TimelineEntry, current: &Resolved, past: &Past, sink: &Sink) -> Option<Workload> {
    let named = |text: &String| {
        let found = current.workload(text);
        if found.is_none() {
            let (kinds, key) = target::written(text);
            let text = format!("no {} is called `{key}`", kinds[0].name());
            let all: Vec<Workload> = current.workloads().map(|(workload, _)| workload).collect();
            let known = all.iter().filter(|known| kinds.contains(&known.kind)).map(|known| known.key.as_str());
            sink.report(Problem::at(entry.place, "spec.timeline", text).did_you_mean(key, known));
        }
        found
    };
    let workload = entry.of.as_ref().map_or_else(|| Some(current.target.clone()), named)?;
    if past.is_elsewhere && entry.cluster.is_none() && workload == current.target {
        // What is for the gateway is for those that are left; all else may be for what is here.
        let is_for_it = matches!(
            entry.verb,
            TimelineVerb::Restart
                | TimelineVerb::Scale(_)
                | TimelineVerb::Rollback(_)
                | TimelineVerb::Pause(_)
                | TimelineVerb::Delete
                | TimelineVerb::ConfigPush
                | TimelineVerb::DeleteService(..)
        );
        return (!is_for_it).then_some(workload);
    }
    if past.is_deleted(&workload.owner()) && !matches!(entry.verb, TimelineVerb::Phase | TimelineVerb::Load(..)) {
        let problem = Problem::at(entry.place, "spec.timeline", format!("{workload} has been deleted by then"));
        sink.report(problem.help("what is deleted cannot be restored in the run: compare two scenarios instead"));
        return None;
    }
    if let Some((text, help)) = refusal(&entry.verb, &workload) {
        sink.report(Problem::at(entry.place, "spec.timeline", text).help(help));
        return None;
    }
    Some(workload)
}

/// Why kubectl does not do this to such an object, in its words, and what to write instead.
///
/// Source: kubernetes/kubectl pkg/polymorphichelpers/{objectpauser,objectresumer,objectrestarter,rollback}.go, as of v1.28; the API server knows no size of these kinds.
fn refusal(verb: &TimelineVerb, of: &Workload) -> Option<(String, &'static str)> {
    let name = of.key.rsplit('/').next().unwrap_or_default();
    let (resource, help) = match of.kind {
        OwnerKind::Deployment => return None,
        OwnerKind::DaemonSet => (
            "daemonsets.apps",
            "a DaemonSet has a pod on each node that will do: set its nodeSelector, its updateStrategy or its template, or add nodes",
        ),
        OwnerKind::Pod => ("pods", "a pod without a controller is deleted (killPod) and applied again"),
    };
    let not_supported = |what: &str| format!("{resource} \"{name}\" {what} is not supported");
    let text = match (verb, of.kind) {
        (TimelineVerb::Restart, OwnerKind::Pod) => not_supported("restarting"),
        (TimelineVerb::Rollback(_), OwnerKind::Pod) => "no rollbacker has been implemented for \"Pod\"".to_owned(),
        (TimelineVerb::Pause(true), _) => not_supported("pausing"),
        (TimelineVerb::Pause(false), _) => not_supported("resuming"),
        (TimelineVerb::Scale(_), _) => {
            format!("{resource} \"{name}\": the server could not find the requested resource")
        }
        _ => return None,
    };
    Some((text, help))
}

/// Who scales by hand what ASM owns is told that it will not last.
fn note_owner(entry: &TimelineEntry, key: &str, sink: &Sink) {
    let text = "ASM owns the replicas of this gateway: replicaCount returns with its next sync (gateway.replicasSync)";
    let path = format!("Deployment {key} spec.replicas");
    sink.note(entry.place, path, FidelityStatus::Warning, Some(text));
}

/// One entry of the timeline: applied to the objects, and what that means for the world.
#[expect(clippy::too_many_lines, reason = "one arm per verb")]
pub(super) fn act(
    entry: &TimelineEntry,
    state: &mut State,
    (current, past): (&mut Resolved, &mut Past),
    mut made: Made<'_>,
    settings: &Settings,
    sink: &Sink,
) -> Vec<Action> {
    let Some(workload) = workload(entry, current, past, sink) else { return Vec::new() };
    let key = workload.key.clone();
    let at = entry.at;
    let written = departures::written(state, current);
    let told = |verb: Option<Verb>, text: String| {
        vec![Action { at, member: 0, phase: Some(entry.phase.clone()), verb, text, place: None }]
    };
    let text = match &entry.verb {
        TimelineVerb::Restart => {
            if is_paused(current, &workload) {
                let problem = Problem::at(entry.place, "spec.timeline", format!("{key} is paused then"));
                sink.report(problem.help("kubectl rollout restart refuses that: resume it first"));
                return Vec::new();
            }
            edit(
                state,
                &workload,
                &format!("spec.template.metadata.annotations[{RESTARTED_AT}]"),
                Node::string(entry.place, &quantity::duration_text(at)),
                entry.place,
                sink,
            );
            format!("restart {workload}")
        }
        TimelineVerb::Scale(replicas) => {
            let number = Node::number(entry.place, i64::from(*replicas));
            edit(state, &workload, "spec.replicas", number, entry.place, sink);
            if workload == current.target && current.owned_replicas.is_some() {
                note_owner(entry, &key, sink);
            }
            format!("scale {key} to {replicas}")
        }
        TimelineVerb::Apply(objects) => {
            state.apply_later(objects);
            let names: Vec<String> = objects.iter().map(|object| object.id.to_string()).collect();
            format!("apply {}", names.join(", "))
        }
        TimelineVerb::Set(patches) => {
            for patch in patches {
                state.patch_later(patch, &current.target, sink);
            }
            let paths: Vec<&str> = patches.iter().map(|patch| patch.text.as_str()).collect();
            format!("set {}", paths.join(", "))
        }
        TimelineVerb::Operate(_) => unreachable!("operations change no object"),
        TimelineVerb::Rollback(revision) => {
            if is_paused(current, &workload) {
                let problem = Problem::at(entry.place, "spec.timeline", format!("{key} is paused then"));
                sink.report(problem.help("kubectl rollout undo refuses that: resume it first"));
                return Vec::new();
            }
            let limit = current.manifest(&workload).expect("it was found there").deployment.revision_history_limit;
            let Some(template) = past.template((&workload.owner(), limit), *revision, entry, sink) else {
                return Vec::new();
            };
            edit(state, &workload, "spec.template", template, entry.place, sink);
            format!("rollback {workload}")
        }
        TimelineVerb::Pause(is_paused) => {
            if current.deployments[&key].deployment.is_paused == *is_paused {
                let text = format!("{key} is {} then", if *is_paused { "paused already" } else { "not paused" });
                sink.report(Problem::at(entry.place, "spec.timeline", text).help("take the entry out"));
                return Vec::new();
            }
            edit(state, &workload, "spec.paused", Node::boolean(entry.place, *is_paused), entry.place, sink);
            format!("{} {key}", if *is_paused { "pause" } else { "resume" })
        }
        TimelineVerb::Delete => {
            past.delete(&workload.owner());
            let mut actions = told(Some(deletion(&workload)), format!("delete {workload}"));
            if workload == current.target && !past.standing.is_deleted() {
                // With the gateway all goes that leads to it.
                let (moment, written) = ((entry, &*current), ("spec.timeline.delete", key.as_str()));
                let gone = fate::delete(moment, &mut past.standing, written, settings, made.files, sink);
                actions.extend(
                    told(gone, format!("delete Service {}", current.front_key()))
                        .into_iter()
                        .map(|action| Action { phase: None, ..action }),
                );
            }
            return actions;
        }
        TimelineVerb::DeleteService(service, place) => {
            let front = current.front_key();
            if service == front && state.has_service(service) {
                let written = ("spec.timeline.delete.service", service.as_str());
                let moment = (entry, &*current);
                let gone = fate::delete(moment, &mut past.standing, written, settings, made.files, sink);
                return gone.map_or_else(Vec::new, |verb| told(Some(verb), format!("delete Service {service}")));
            }
            if service == front || !state.delete("Service", service) {
                let text = match service == front {
                    true => format!("{service} is made for the gateway, and its controller would make it anew"),
                    false => format!("no manifest has a Service `{service}` then"),
                };
                let problem = Problem::at(*place, "spec.timeline.delete.service", text);
                let others = current.services.keys().filter(|key| *key != front).map(String::as_str);
                sink.report(problem.did_you_mean(service, others));
                return Vec::new();
            }
            format!("delete Service {service}")
        }
        TimelineVerb::DeleteObject((_, kind), key, _) if *kind == "DaemonSet" && is_target(current, key) => {
            past.delete(&current.target.owner());
            return told(Some(deletion(&current.target)), format!("delete {}", current.target));
        }
        TimelineVerb::DeleteObject((field, kind), key, place) => {
            if *kind == "Gateway" && current.origin.is(kind, GATEWAY_API) && current.origin.key() == *key {
                let text = format!("{key} makes the gateway's own Deployment and Service, which would go with it");
                let problem = Problem::at(*place, format!("spec.timeline.delete.{field}"), text);
                sink.report(problem.help("write delete: {} for the gateway as a whole"));
                return Vec::new();
            }
            if !state.delete(kind, key) {
                let is_made = current.autoscalers.contains_key(key) && *kind == "HorizontalPodAutoscaler";
                let text = match is_made {
                    true => format!("{key} is made for the gateway, and its controller would make it anew"),
                    false => format!("no manifest has a {kind} `{key}` then"),
                };
                let problem = Problem::at(*place, format!("spec.timeline.delete.{field}"), text);
                let known = state.keys_of(kind);
                sink.report(problem.did_you_mean(key, known.iter().map(String::as_str)));
                return Vec::new();
            }
            format!("delete {kind} {key}")
        }
        TimelineVerb::Load(name, factor) => {
            if let Some(name) = name.as_ref().filter(|name| settings.loads.iter().all(|load| load.name != **name)) {
                let problem = Problem::at(entry.place, "spec.timeline", format!("no load is called `{name}`"));
                sink.report(problem.did_you_mean(name, settings.loads.iter().map(|load| load.name.as_str())));
            }
            let text = format!("load {} times {factor}", name.as_deref().unwrap_or("of all"));
            return told(Some(Verb::Load(name.clone(), *factor)), text);
        }
        TimelineVerb::ConfigPush if workload != current.target => {
            let problem =
                Problem::at(entry.place, "spec.timeline", format!("{workload} has no configuration to be pushed"));
            sink.report(problem.help("only the gateway has: leave out `of`"));
            return Vec::new();
        }
        TimelineVerb::ConfigPush => return told(Some(Verb::ConfigPush), "push all configuration".to_owned()),
        TimelineVerb::Phase => return told(None, entry.phase.clone()),
    };
    let departure = written.and_then(|before| departures::of_entry(entry, &before, state, settings, sink));
    let mut verbs = Vec::new();
    if let Some(departure) = departure {
        past.delete(&current.target.owner());
        past.is_elsewhere = !departure.is_last;
        verbs.push((deletion(&current.target), format!("delete {}", current.target)));
        if !past.standing.is_deleted() {
            let written = ("spec.clusterIds", departure.written.as_str());
            let moment = (&TimelineEntry { place: departure.place, ..entry.clone() }, &*current);
            let gone = fate::delete(moment, &mut past.standing, written, settings, made.files, sink);
            verbs.extend(gone.map(|gone| (gone, format!("delete Service {}", current.front_key()))));
        }
    }
    gateway_template::follow(state, current, entry.place, sink);
    let Some(next) = state.resolve(settings, sink) else { return Vec::new() };
    state.note(&next);
    made.backends.add(&next, settings, sink);
    let changed = changes(entry, (current, &next), past, &mut made, settings, sink);
    verbs.extend(changed.into_iter().map(|verb| (verb, text.clone())));
    if verbs.is_empty() {
        // As with kubectl, that is no error.
        if let Some(text) = shutdown::unread_edit(current, &next, settings) {
            sink.note(entry.place, "spec.timeline".to_owned(), FidelityStatus::Warning, Some(&text));
        }
        verbs.push((Verb::Unchanged, text));
    }
    *current = next;
    let phases = std::iter::once(Some(entry.phase.clone())).chain(std::iter::repeat(None));
    let actions = verbs.into_iter().zip(phases);
    actions.map(|((verb, text), phase)| Action { at, member: 0, phase, verb: Some(verb), text, place: None }).collect()
}

/// Whether a Deployment is paused, so that kubectl neither restarts it nor takes it back.
fn is_paused(current: &Resolved, of: &Workload) -> bool {
    current.manifest(of).is_some_and(|manifest| manifest.deployment.is_paused)
}

fn is_target(current: &Resolved, daemon: &str) -> bool {
    current.target == Workload::new(OwnerKind::DaemonSet, daemon)
}

/// What deletes a workload.
fn deletion(of: &Workload) -> Verb {
    let key: Rc<str> = Rc::from(of.key.as_str());
    match of.kind {
        OwnerKind::Deployment => Verb::Delete(key),
        OwnerKind::DaemonSet => Verb::DeleteDaemonSet(key),
        OwnerKind::Pod => {
            Verb::Operate(Operation::KillPod { owner: of.owner(), pod: PodChoice::Named(key), grace_seconds: None })
        }
    }
}

/// Edits a Deployment or a `DaemonSet`, whether it was written or made.
fn edit(state: &mut State, workload: &Workload, path: &str, value: Node, at: Place, sink: &Sink) {
    match Patch::new(path, at, value) {
        Ok(patch) => state.edit(workload, patch),
        Err(why) => sink.report(Problem::at(at, path, why)),
    }
}

/// What the world has to do to get from one state of the objects to the next.
fn changes(
    entry: &TimelineEntry,
    (current, next): (&Resolved, &Resolved),
    past: &mut Past,
    made: &mut Made<'_>,
    settings: &Settings,
    sink: &Sink,
) -> Vec<Verb> {
    let mut verbs = Vec::new();
    let told = |value: &dyn std::fmt::Debug| format!("{value:?}");
    for (key, manifest) in &next.deployments {
        let before = current.deployments.get(key).map(|known| told(&known.deployment));
        if past.is_deleted(key) && before.as_ref() != Some(&told(&manifest.deployment)) {
            let problem = Problem::at(entry.place, "spec.timeline", format!("{key} has been deleted by then"));
            sink.report(problem.help("what is deleted cannot be restored in the run: compare two scenarios instead"));
        }
        if current.deployments.get(key).is_some_and(|known| known.selector != manifest.selector) {
            let problem = Problem::at(entry.place, "spec.timeline", format!("the selector of {key} cannot change"));
            sink.report(problem.help("the API server refuses it: make another Deployment"));
        }
        let size = size_of(entry, key, current, next);
        // A size that is written again takes back what an autoscaler has written since, or the mesh's control plane.
        let is_written = size == Size::Written && current.deployments.contains_key(key);
        let is_again = is_written && is_resized(entry, next, key);
        if is_again || before.as_ref() != Some(&told(&manifest.deployment)) {
            verbs.push(Verb::Apply(Box::new(manifest.deployment.clone()), size));
        }
    }
    for (key, pod) in &next.pods {
        match current.pods.get(key) {
            None => verbs.push(Verb::Pod(Box::new(pod.pod()))),
            Some(before) if before.fixed != pod.fixed || before.pod().node_name != pod.pod().node_name => {
                refuse_pod_update(entry, key, sink);
            }
            // As with `kubectl apply`: one that is gone by then is made anew.
            Some(before) if is_applied(entry, "Pod", key) => {
                note_pod_update(entry, (before, pod), sink);
                verbs.push(Verb::Pod(Box::new(pod.pod())));
            }
            Some(before) if before.pod() != pod.pod() => {
                note_pod_update(entry, (before, pod), sink);
                verbs.push(Verb::EditPod(Box::new(pod.pod())));
            }
            Some(_) => {}
        }
    }
    verbs.extend(daemon_changes(entry, (current, next), past, sink));
    let fresh = next.budgets.iter().filter(|budget| !current.budgets.contains(budget));
    verbs.extend(fresh.cloned().map(Verb::Budget));
    let is_gone = |budget: &&DisruptionBudget| next.budgets.iter().all(|it| it.key != budget.key);
    verbs.extend(current.budgets.iter().filter(is_gone).map(|budget| Verb::DeleteBudget(Rc::clone(&budget.key))));
    verbs.extend(scaling_changes(current, next, settings, sink));
    for (owner, other, spec) in gateway_specs(next, settings, sink) {
        let known = made.gateways.entry(Rc::clone(&owner)).or_insert_with(|| {
            let sources = sources::own_sources(&owner, next, settings, made.files);
            GatewayPods { specs: BTreeMap::new(), sources }
        });
        let known = known.specs.entry(other.clone()).or_insert_with(|| spec.clone());
        let name = (Rc::clone(&owner), other.clone());
        let before = past.processes.entry(name.clone()).or_insert_with(|| started(known)).clone();
        if before != started(&spec) {
            let text =
                "it is read at the start of a process: pods that run keep what they began with, and nothing restarts";
            sink.note(entry.place, "ProxyConfig".to_owned(), FidelityStatus::Warning, Some(text));
            past.processes.insert(name, started(&spec));
            verbs.push(Verb::Process(owner, other, Box::new(spec)));
        }
    }
    let moments = Moments { entry, current, next };
    let changed = changed_clusters(&current.routing.upstreams, &next.routing.upstreams);
    let gone = gone_clusters(current, next);
    if !changed.is_empty() || !gone.is_empty() {
        let sources = route_changes::of_clusters(&moments, made.files);
        verbs.push(Verb::Clusters(ClusterChange { changed, gone, sources }));
    }
    // A listener that goes keeps the routes it has, so it goes first.
    if current.routing.listeners != next.routing.listeners {
        verbs.push(Verb::Listeners(front_changes::listening(&moments, made.files)));
    }
    if told(&current.routing.routes) != told(&next.routing.routes) {
        verbs.push(Verb::Routes(next.routing.routes.clone(), route_changes::of_routes(&moments, made.files)));
    }
    verbs.extend(front_changes::change(&moments, (&mut past.standing, made.front), settings, made.files, sink));
    verbs.extend(sharing_changes((current, next), settings, sink));
    verbs.extend(service_changes(&moments, made));
    verbs
}

/// The API server refuses it, in its words; or it is an image of which nothing is simulated.
fn refuse_pod_update(entry: &TimelineEntry, key: &str, sink: &Sink) {
    let text = format!("Pod {key}: spec: Forbidden: pod updates may not change fields other than an image");
    sink.report(Problem::at(entry.place, "spec.timeline", text).help(
        "labels, annotations and the image of the container whose process is simulated may change: for all else give the pod another name",
    ));
}

/// What is read when a pod is made is read once.
fn note_pod_update(entry: &TimelineEntry, (before, after): (&PodManifest, &PodManifest), sink: &Sink) {
    let config = |pod: &PodManifest| pod.manifest.proxy_config.as_ref().map(|(text, _)| text.clone());
    if config(before) != config(after) {
        let text = "proxy.istio.io/config is read when a pod is made: this one keeps what it was made with, whatever restarts in it";
        let path = format!("Pod {} metadata.annotations", after.manifest.deployment.key);
        sink.note(entry.place, path, FidelityStatus::Warning, Some(text));
    }
}

/// Whether an entry of the timeline applies this very object.
fn is_applied(entry: &TimelineEntry, kind: &str, key: &str) -> bool {
    let TimelineVerb::Apply(objects) = &entry.verb else { return false };
    objects.iter().any(|object| object.id.kind == kind && object.key() == key)
}

/// `DaemonSet`s that come, go, or are edited.
fn daemon_changes(
    entry: &TimelineEntry,
    (current, next): (&Resolved, &Resolved),
    past: &Past,
    sink: &Sink,
) -> Vec<Verb> {
    let mut verbs = Vec::new();
    for (key, daemon) in &next.daemons {
        let before = current.daemons.get(key);
        if before.is_some_and(|before| before.manifest.selector != daemon.manifest.selector) {
            let problem =
                Problem::at(entry.place, "spec.timeline", format!("the selector of DaemonSet {key} cannot change"));
            sink.report(problem.help("the API server refuses it, the field is immutable: make another DaemonSet"));
        }
        let is_changed = before.is_none_or(|before| before.daemon_set() != daemon.daemon_set());
        if past.is_deleted(&DaemonSet::owner_of(key)) && (is_changed || is_applied(entry, "DaemonSet", key)) {
            let text = format!("DaemonSet {key} has been deleted by then");
            let problem = Problem::at(entry.place, "spec.timeline", text);
            sink.report(
                problem.help("a gateway that is deleted cannot be restored in the run: compare two scenarios instead"),
            );
        }
        if is_changed {
            verbs.push(Verb::DaemonSet(Box::new(daemon.daemon_set())));
        }
    }
    let gone = current.daemons.keys().filter(|key| !next.daemons.contains_key(*key));
    verbs.extend(gone.map(|key| Verb::DeleteDaemonSet(Rc::from(key.as_str()))));
    verbs
}

/// Services behind the gateway that come, go, have other pods, or lead to another of their ports.
fn service_changes(moments: &Moments<'_>, made: &Made<'_>) -> Vec<Verb> {
    let Moments { entry, current, next } = *moments;
    let mut verbs = Vec::new();
    for (key, service) in next.services.iter().filter(|(key, _)| **key != next.front_key()) {
        let before = current.services.get(key);
        let targets = made.backends.targets(key, service);
        let is_moved = before.is_some_and(|before| made.backends.targets(key, before) != targets);
        // What a balancer's Service comes to else is told with its listeners.
        if (is_further(service) || before.is_some_and(is_further)) && !is_moved {
            continue;
        }
        let has_other_pods = before.is_some_and(|before| before.service.selector != service.service.selector);
        if before.is_some_and(|before| before.service == service.service) && !is_moved {
            continue;
        }
        let mut sources = Sources::new();
        let mut add = |code: CauseCode, (place, path, value): (Place, &str, String)| {
            sources.insert(code, front_changes::source(made.files, place, path, &value));
        };
        if is_moved {
            let place = front_changes::edited_at(moments, &["Service"], &["ports"]);
            let target = |target: &TargetPort| match target {
                TargetPort::Number(number) => number.to_string(),
                TargetPort::Name(name) => name.clone(),
            };
            let told: BTreeSet<String> = targets.values().map(target).collect();
            let told = told.into_iter().collect::<Vec<_>>().join(", ");
            for code in [CauseCode::UpstreamRefused, CauseCode::NoHealthyUpstream] {
                add(code, (place, "spec.ports.targetPort", told.clone()));
            }
        }
        if has_other_pods {
            let place = front_changes::edited_at(moments, &["Service"], &["selector"]);
            let labels: Vec<String> =
                service.service.selector.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            add(CauseCode::NoHealthyUpstream, (place, "spec.selector", labels.join(", ")));
        }
        verbs.push(Verb::Service(Box::new(ServiceChange { service: service.service.clone(), targets, sources })));
    }
    for (key, _) in
        current.services.iter().filter(|(key, service)| !is_further(service) && !next.services.contains_key(*key))
    {
        let source = |code| (code, front_changes::source(made.files, entry.place, "spec.timeline.delete.service", key));
        let sources = [CauseCode::ClusterNotFound, CauseCode::NoHealthyUpstream].map(source).into_iter().collect();
        verbs.push(Verb::DeleteService(Rc::from(key.as_str()), sources));
    }
    verbs
}

/// The clusters whose Service, or its port, or the rule for its subset, is gone. Those that no route leads to any more stay, and nobody asks them.
fn gone_clusters(current: &Resolved, next: &Resolved) -> Vec<Arc<str>> {
    let is_there = |upstream: &Upstream| {
        !next.routing.nowhere.contains_key(&upstream.cluster)
            && match (current.services.get(&upstream.service), next.services.get(&upstream.service)) {
                (Some(_), None) => false,
                (_, Some(service)) => service.ports.iter().any(|port| port.port == upstream.port),
                // Declared without a manifest.
                (None, None) => true,
            }
    };
    current.routing.upstreams.iter().filter(|it| !is_there(it)).map(|it| Arc::clone(&it.cluster)).collect()
}

/// What a process reads at its start, and nothing that the control plane tells it later.
fn started(spec: &GatewaySpec) -> String {
    let GatewaySpec { config, agent, pre_stop, hook_fails, workers, cpu_limit_millicores, memory_limit_bytes, .. } =
        spec;
    format!("{:?}", (config.drain, agent, (pre_stop, hook_fails), workers, cpu_limit_millicores, memory_limit_bytes))
}

fn is_further(service: &ServiceManifest) -> bool {
    service.kind == ServiceKind::LoadBalancer
}

/// Further Services of type `LoadBalancer` that come, change their mind, or go.
fn sharing_changes((current, next): (&Resolved, &Resolved), settings: &Settings, sink: &Sink) -> Vec<Verb> {
    let mut verbs = Vec::new();
    let balancer = front::spec(current, settings, &Sink::default()).and_then(|spec| spec.balancer);
    for (key, service) in next.services.iter().filter(|(key, service)| **key != next.front_key() && is_further(service))
    {
        let Some(balancer) = &balancer else { continue };
        let shared = sharing::shared(service, next, balancer, settings, sink);
        let had = current.services.get(key).filter(|before| is_further(before));
        let had = had.map(|before| sharing::shared(before, current, balancer, settings, &Sink::default()));
        let is_same = had.as_ref().is_some_and(|had| {
            let text =
                |shared: &crate::drill::SharedService| format!("{:?}", (&shared.service, &shared.balancer.ports));
            had.share == shared.share && text(had) == text(&shared)
        });
        // What has listeners keeps them when it is told to leave them alone.
        let keeps = shared.share == Share::LeavesAlone && had.is_some();
        if !is_same && !keeps {
            verbs.push(Verb::Share(Box::new(shared)));
        }
    }
    let gone =
        current.services.iter().filter(|(key, service)| is_further(service) && !next.services.contains_key(*key));
    let gone = gone.filter(|(key, _)| **key != current.front_key());
    verbs.extend(gone.map(|(key, _)| Verb::Unshare(Rc::from(key.as_str()))));
    verbs
}

/// Whether an entry of the timeline says how many pods a Deployment wants.
fn size_of(entry: &TimelineEntry, key: &str, current: &Resolved, next: &Resolved) -> Size {
    let replicas = |resolved: &Resolved| resolved.deployments.get(key).map(|manifest| manifest.deployment.replicas);
    let names = |object: &Object| match object.id.kind.as_str() {
        "Deployment" => object.key() == key,
        "IstioGateway" => format!("{}/istio-{}", object.id.namespace, object.id.name) == key,
        _ => false,
    };
    let sizes = |patch: &Patch| {
        patch.steps == ["spec", "replicas"]
            && match &patch.subject {
                Subject::Target => *current.target.owner() == *key,
                Subject::Object { kind, namespace, name } => {
                    let is_here = |of: &str| namespace.as_ref().is_none_or(|namespace| namespace == of);
                    kind == "Deployment" && key.split_once('/').is_some_and(|(of, its)| is_here(of) && its == name)
                }
                Subject::Scenario => false,
            }
    };
    let is_written = match &entry.verb {
        TimelineVerb::Scale(_) => {
            let of = entry.of.as_ref().map_or_else(|| Some(current.target.clone()), |text| current.workload(text));
            of == Some(Workload::new(OwnerKind::Deployment, key))
        }
        // Replicas that are not written any more fall back to one.
        TimelineVerb::Apply(objects) => {
            (next.sized.contains(key) || current.sized.contains(key)) && objects.iter().any(names)
        }
        TimelineVerb::Set(patches) => {
            patches.iter().any(sizes) || replicas(current) != replicas(next) && next.sized.contains(key)
        }
        _ => false,
    };
    if is_written || !current.deployments.contains_key(key) { Size::Written } else { Size::Kept }
}

/// Whether somebody else may have resized a Deployment whose size is written.
fn is_resized(entry: &TimelineEntry, resolved: &Resolved, key: &str) -> bool {
    let is_by_hand = matches!(entry.verb, TimelineVerb::Scale(_) | TimelineVerb::Set(_));
    let is_owned = is_by_hand && resolved.owned_replicas.is_some() && *resolved.target.owner() == *key;
    is_owned || resolved.autoscalers.values().any(|manifest| *manifest.spec.target == *key)
}

/// What changes in who sizes what.
fn scaling_changes(current: &Resolved, next: &Resolved, settings: &Settings, sink: &Sink) -> Vec<Verb> {
    let is_new = |key: &String, spec: &AutoscalerSpec| current.autoscalers.get(key).is_none_or(|it| it.spec != *spec);
    let changed = next.autoscalers.iter().filter(|(key, manifest)| is_new(key, &manifest.spec));
    let mut verbs = Vec::new();
    for (_, manifest) in changed {
        autoscaling::warn(manifest, next, settings, sink);
        verbs.push(Verb::Autoscale(Box::new(manifest.spec.clone())));
    }
    let gone = current.autoscalers.keys().filter(|key| !next.autoscalers.contains_key(*key));
    verbs.extend(gone.map(|key| Verb::StopAutoscaling(Rc::from(key.as_str()))));
    let owned = autoscaling::owned(next, settings);
    if owned != autoscaling::owned(current, settings) {
        verbs.push(Verb::Own(owned));
    }
    verbs
}

/// The clusters that are new, or differ.
fn changed_clusters(current: &[Upstream], next: &[Upstream]) -> Vec<ClusterSpec> {
    let is_same = |a: &Upstream, b: &Upstream| {
        a.cluster == b.cluster && a.config == b.config && a.endpoints == b.endpoints && a.subset == b.subset
    };
    let changed = next.iter().filter(|upstream| !current.iter().any(|known| is_same(known, upstream)));
    let spec = |upstream: &Upstream| ClusterSpec {
        name: Arc::clone(&upstream.cluster),
        config: upstream.config,
        endpoints: upstream.endpoints.clone(),
        subset: upstream.subset.clone(),
    };
    changed.map(spec).collect()
}
