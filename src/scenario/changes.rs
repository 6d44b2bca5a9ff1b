//! What the entries of the timeline do to the objects, and what that asks of the world.
//!
//! An entry edits the objects as its command would; the state before it and the state after it are resolved by the same rules, and their
//! difference is the list of actions. What cannot change while a drill runs is refused here.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::address::{Patch, Subject};
use super::past::Past;
use super::settings::{Settings, TimelineEntry, TimelineVerb};
use super::state::{Resolved, State};
use super::world::{Backends, gateway_spec};
use super::{autoscaling, front, sharing};
use crate::cluster::autoscaler::AutoscalerSpec;
use crate::drill::{Action, ClusterSpec, FrontSpec, GatewaySpec, Size, Verb};
use crate::edge::load_balancer::Removal;
use crate::edge::{BalancerConfig, OnRemoval};
use crate::manifest::routes::Upstream;
use crate::manifest::service::{ServiceKind, ServiceManifest};
use crate::manifest::{Node, Object, Place, Problem, Sink, quantity};
use crate::record::results::FidelityStatus;

/// What a restart writes. Source: kubectl rollout restart.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The Deployment that an entry of the timeline is for.
pub(super) fn owner(entry: &TimelineEntry, current: &Resolved, past: &Past, sink: &Sink) -> Option<String> {
    let key = entry.of.clone().unwrap_or_else(|| current.target.clone());
    if !current.deployments.contains_key(&key) {
        let problem = Problem::at(entry.place, "spec.timeline", format!("no Deployment is called `{key}`"));
        sink.report(problem.did_you_mean(&key, current.deployments.keys().map(String::as_str)));
        return None;
    }
    if past.is_deleted(&key) && !matches!(entry.verb, TimelineVerb::Phase | TimelineVerb::Load(..)) {
        let problem = Problem::at(entry.place, "spec.timeline", format!("{key} has been deleted by then"));
        sink.report(problem.help("what is deleted cannot be restored in the run: compare two scenarios instead"));
        return None;
    }
    Some(key)
}

/// Who scales by hand what ASM owns is told that it will not last.
fn note_owner(entry: &TimelineEntry, key: &str, sink: &Sink) {
    let text = "ASM owns the replicas of this gateway: replicaCount returns with its next sync (gateway.replicasSync)";
    let path = format!("Deployment {key} spec.replicas");
    sink.note(entry.place, path, FidelityStatus::Approximated, Some(text));
}

/// One entry of the timeline: applied to the objects, and what that means for the world.
#[expect(clippy::too_many_lines, reason = "one arm per verb")]
pub(super) fn act(
    entry: &TimelineEntry,
    state: &mut State,
    (current, past): (&mut Resolved, &mut Past),
    made: (&mut BTreeMap<String, GatewaySpec>, &mut Backends),
    settings: &Settings,
    sink: &Sink,
) -> Vec<Action> {
    let Some(key) = owner(entry, current, past, sink) else { return Vec::new() };
    let at = entry.at;
    let told =
        |verb: Option<Verb>, text: String| vec![Action { at, member: 0, phase: Some(entry.phase.clone()), verb, text }];
    let text = match &entry.verb {
        TimelineVerb::Restart => {
            edit(
                state,
                &key,
                &format!("spec.template.metadata.annotations[{RESTARTED_AT}]"),
                Node::string(entry.place, &quantity::duration_text(at)),
                entry.place,
                sink,
            );
            format!("restart {key}")
        }
        TimelineVerb::Scale(replicas) => {
            let number = Node::number(entry.place, i64::from(*replicas));
            edit(state, &key, "spec.replicas", number, entry.place, sink);
            if key == current.target && current.owned_replicas.is_some() {
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
                if patch.subject == Subject::Target {
                    state.edit(&current.target, patch.clone());
                } else {
                    state.patch(patch, sink);
                }
            }
            let paths: Vec<&str> = patches.iter().map(|patch| patch.text.as_str()).collect();
            format!("set {}", paths.join(", "))
        }
        TimelineVerb::Operate(_) => unreachable!("operations change no object"),
        TimelineVerb::Rollback(revision) => {
            if current.deployments[&key].deployment.is_paused {
                let problem = Problem::at(entry.place, "spec.timeline", format!("{key} is paused then"));
                sink.report(problem.help("kubectl rollout undo refuses that: resume it first"));
                return Vec::new();
            }
            let Some(template) = past.template(&key, *revision, entry, sink) else { return Vec::new() };
            edit(state, &key, "spec.template", template, entry.place, sink);
            format!("rollback {key}")
        }
        TimelineVerb::Pause(is_paused) => {
            if current.deployments[&key].deployment.is_paused == *is_paused {
                let text = format!("{key} is {} then", if *is_paused { "paused already" } else { "not paused" });
                sink.report(Problem::at(entry.place, "spec.timeline", text).help("take the entry out"));
                return Vec::new();
            }
            edit(state, &key, "spec.paused", Node::boolean(entry.place, *is_paused), entry.place, sink);
            format!("{} {key}", if *is_paused { "pause" } else { "resume" })
        }
        TimelineVerb::Delete => {
            past.delete(&key);
            return told(Some(Verb::Delete(Rc::from(key.as_str()))), format!("delete {key}"));
        }
        TimelineVerb::Load(name, factor) => {
            if let Some(name) = name.as_ref().filter(|name| settings.loads.iter().all(|load| load.name != **name)) {
                let problem = Problem::at(entry.place, "spec.timeline", format!("no load is called `{name}`"));
                sink.report(problem.did_you_mean(name, settings.loads.iter().map(|load| load.name.as_str())));
            }
            let text = format!("load {} times {factor}", name.as_deref().unwrap_or("of all"));
            return told(Some(Verb::Load(name.clone(), *factor)), text);
        }
        TimelineVerb::ConfigPush if key != current.target => {
            let problem = Problem::at(entry.place, "spec.timeline", format!("{key} has no configuration to be pushed"));
            sink.report(problem.help("only the gateway has: leave out `of`"));
            return Vec::new();
        }
        TimelineVerb::ConfigPush => return told(Some(Verb::ConfigPush), "push all configuration".to_owned()),
        TimelineVerb::Phase => return told(None, entry.phase.clone()),
    };
    let Some(next) = state.resolve(settings, sink) else { return Vec::new() };
    let (gateways, backends) = made;
    backends.add(&next, settings, sink);
    let mut verbs = changes(entry, (current, &next), past, gateways, settings, sink);
    if verbs.is_empty() && sink.problem_count() == 0 {
        let problem = Problem::at(entry.place, "spec.timeline", "this changes nothing that is simulated");
        sink.report(
            problem.help("take it out, or change something the drill knows: the fidelity list of a run names them"),
        );
    }
    *current = next;
    let first = Some(entry.phase.clone());
    verbs
        .drain(..)
        .enumerate()
        .map(|(index, verb)| Action {
            at,
            member: 0,
            phase: if index == 0 { first.clone() } else { None },
            verb: Some(verb),
            text: text.clone(),
        })
        .collect()
}

/// Edits a Deployment, whether it was written or made.
fn edit(state: &mut State, key: &str, path: &str, value: Node, at: Place, sink: &Sink) {
    match Patch::new(path, at, value) {
        Ok(patch) => state.edit(key, patch),
        Err(why) => sink.report(Problem::at(at, path, why)),
    }
}

/// What the world has to do to get from one state of the objects to the next.
fn changes(
    entry: &TimelineEntry,
    (current, next): (&Resolved, &Resolved),
    past: &Past,
    gateways: &mut BTreeMap<String, GatewaySpec>,
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
        // A size that is written again takes back what an autoscaler has written since.
        let is_again =
            size == Size::Written && matches!(entry.verb, TimelineVerb::Apply(_)) && is_autoscaled(next, key);
        if is_again || before.as_ref() != Some(&told(&manifest.deployment)) {
            verbs.push(Verb::Apply(Box::new(manifest.deployment.clone()), size));
        }
    }
    let fresh = next.budgets.iter().filter(|budget| !current.budgets.contains(budget));
    verbs.extend(fresh.cloned().map(Verb::Budget));
    verbs.extend(scaling_changes(current, next, settings));
    if let (Some(spec), Some(target)) = (gateway_spec(next, settings, sink), next.target()) {
        gateways.entry(target.deployment.template.other.clone()).or_insert(spec);
    }
    let changed = changed_clusters(&current.routing.upstreams, &next.routing.upstreams);
    if !changed.is_empty() {
        verbs.push(Verb::Clusters(changed));
    }
    if told(&current.routing.routes) != told(&next.routing.routes) {
        verbs.push(Verb::Routes(next.routing.routes.clone()));
    }
    let refuse = |what: &str| {
        let problem =
            Problem::at(entry.place, "spec.timeline", format!("{what} cannot change while the drill runs yet"));
        sink.report(problem.help("compare two scenarios or variants that differ in it instead"));
    };
    let way_in = |resolved: &Resolved| front::spec(resolved, settings, &Sink::default());
    let removal = |front: &Option<FrontSpec>| {
        let BalancerConfig { on_deregister, on_unhealthy, .. } = front.as_ref()?.balancer.as_ref()?.balancer;
        Some(Removal { on_deregister, on_unhealthy })
    };
    let without_removal = |front: &Option<FrontSpec>| {
        let mut front = front.clone();
        if let Some(config) = front.as_mut().and_then(|front| front.balancer.as_mut()) {
            (config.balancer.on_deregister, config.balancer.on_unhealthy) = (OnRemoval::Keep, OnRemoval::Keep);
        }
        told(&front)
    };
    let (before, after) = (way_in(current), way_in(next));
    if without_removal(&before) != without_removal(&after) {
        refuse("the Service in front and the settings of its load balancer, but for its connection draining,");
    } else if removal(&before) != removal(&after) {
        verbs.extend(removal(&after).map(Verb::Removal));
    }
    let name = |resolved: &Resolved| resolved.target().map(|manifest| manifest.deployment.template.other.clone());
    if current.proxy_config != next.proxy_config && name(current) == name(next) {
        refuse("a ProxyConfig object");
    }
    if current.routing.listeners != next.routing.listeners {
        refuse("the ports of the gateway");
    }
    let known = |upstream: &Upstream| current.routing.upstreams.iter().find(|known| known.cluster == upstream.cluster);
    if next.routing.upstreams.iter().any(|upstream| known(upstream).is_some_and(|of| of.subset != upstream.subset)) {
        refuse("the labels of a subset");
    }
    let is_further = |service: &ServiceManifest| service.kind == ServiceKind::LoadBalancer;
    for (key, service) in next.services.iter().filter(|(_, service)| is_further(service)) {
        let balancer = front::spec(current, settings, &Sink::default()).and_then(|spec| spec.balancer);
        if let (false, Some(balancer)) = (current.services.contains_key(key), balancer) {
            let shared = sharing::shared(service, next, &balancer, settings, sink);
            verbs.push(Verb::Share(Box::new(shared)));
        }
    }
    // What is behind a Service: its pods and their ports. The balancer's side was compared above.
    let behind = |service: &ServiceManifest| told(&(&service.service, &service.ports));
    for (key, service) in next.services.iter().filter(|(key, _)| **key != next.front_key()) {
        if current.services.get(key).is_some_and(|before| behind(before) != behind(service)) {
            refuse("the ports and pods of a Service");
        }
    }
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
    let is_written = match &entry.verb {
        TimelineVerb::Scale(_) => replicas(current) != replicas(next),
        TimelineVerb::Apply(objects) => next.sized.contains(key) && objects.iter().any(names),
        TimelineVerb::Set(_) => replicas(current) != replicas(next) && next.sized.contains(key),
        _ => false,
    };
    if is_written || !current.deployments.contains_key(key) { Size::Written } else { Size::Kept }
}

fn is_autoscaled(resolved: &Resolved, key: &str) -> bool {
    resolved.autoscalers.values().any(|manifest| *manifest.spec.target == *key)
}

/// What changes in who sizes what.
fn scaling_changes(current: &Resolved, next: &Resolved, settings: &Settings) -> Vec<Verb> {
    let is_new = |key: &String, spec: &AutoscalerSpec| current.autoscalers.get(key).is_none_or(|it| it.spec != *spec);
    let changed = next.autoscalers.iter().filter(|(key, manifest)| is_new(key, &manifest.spec));
    let mut verbs: Vec<Verb> = changed.map(|(_, manifest)| Verb::Autoscale(Box::new(manifest.spec.clone()))).collect();
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
    let is_same =
        |a: &Upstream, b: &Upstream| a.cluster == b.cluster && a.config == b.config && a.endpoints == b.endpoints;
    let changed = next.iter().filter(|upstream| !current.iter().any(|known| is_same(known, upstream)));
    let spec = |upstream: &Upstream| ClusterSpec {
        name: Arc::clone(&upstream.cluster),
        config: upstream.config,
        endpoints: upstream.endpoints.clone(),
    };
    changed.map(spec).collect()
}
