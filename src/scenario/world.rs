//! A checked scenario into the settings of its world, with the line behind each cause of loss.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::judging;
use super::nodes;
use super::plan::Plan;
use super::rates;
use super::settings::{Settings, TimelineEntry, TimelineVerb, defaults};
use super::sharing;
use super::shutdown;
use super::state::{Resolved, State};
use super::target::Gateway;
use crate::cluster::OwnerKind;
use crate::drill::pod_host::CpuCosts;
use crate::drill::{Action, BackendSpec, GatewaySpec, LoadSpec, MixEntry, Verb, WorldConfig};
use crate::gateway::{AgentConfig, DownstreamConfig, GatewayConfig};
use crate::load::ClientConfig;
use crate::manifest::deployment::DeploymentManifest;
use crate::manifest::read::Note;
use crate::manifest::routes::Upstream;
use crate::manifest::{Files, Place, Problem, Sink, quantity};
use crate::record::results::{Fidelity, FidelityStatus, ScenarioId};

/// Workers of one Envoy: more cores than any machine that runs one has.
const WORKERS_MAX: u64 = 1024;

/// All that the world is made from.
pub(super) struct Ingredients<'a> {
    pub(super) settings: &'a Settings,
    pub(super) state: State,
    pub(super) timeline: &'a [TimelineEntry],
    pub(super) id: ScenarioId,
}

/// The world of a scenario, its fidelity list still without the places' lines.
pub(super) fn world(ingredients: Ingredients<'_>, files: &Files, sink: &Sink) -> Option<WorldConfig> {
    let Ingredients { settings, state, timeline, id } = ingredients;
    settings.check_clusters(&state.objects, sink);
    let views = settings.of_each_cluster();
    let plans =
        views.iter().enumerate().map(|(index, view)| Plan::new(index, view, state.clone(), timeline, files, sink));
    let plans = plans.collect::<Vec<_>>().into_iter().collect::<Option<Vec<Plan<'_>>>>();
    let Some(mut plans) = plans else {
        judging::check_all(&state.objects, timeline, Some(settings.cluster.version), sink);
        judging::check_names(Some(settings), &state.objects, timeline, sink);
        return None;
    };
    sharing::check_clusters(plans.iter().filter_map(|plan| Some((plan.name()?, plan.front()?))), sink);
    let mut actions: Vec<Action> = Vec::new();
    for entry in timeline {
        let place = files.position(entry.place).map(|(file, line, _)| (file.to_owned(), line));
        let acts = act(entry, &mut plans, sink).into_iter();
        actions.extend(acts.map(|action| Action { place: place.clone(), ..action }));
    }
    actions.sort_by_key(|action| action.at);
    for backend in &settings.backends {
        let is_its = |spec: &BackendSpec| *spec.service == *backend.service;
        if !plans.iter().any(|plan| plan.backends.specs.iter().any(is_its)) {
            let note = "no route leads to it, so it answers nothing";
            sink.note(backend.at, format!("Service {}", backend.service), FidelityStatus::Ignored, Some(note));
        }
    }
    let undescribed: Vec<Upstream> = plans.iter().flat_map(|plan| plan.backends.undescribed.clone()).collect();
    let members = plans.into_iter().map(|plan| plan.finish(sink)).collect();
    Some(WorldConfig {
        scenario: id,
        seed: settings.seed,
        warmup: settings.warmup,
        duration: settings.duration,
        members,
        loads: settings.loads.iter().map(|load| load_spec(load, settings, timeline)).collect(),
        actions,
        fidelity: fidelity(sink.take_notes(), &undescribed, files),
        watch: None,
    })
}

/// What an entry of the timeline does: in the cluster it names, or in all. The first action begins its phase.
fn act(entry: &TimelineEntry, plans: &mut [Plan<'_>], sink: &Sink) -> Vec<Action> {
    let are_several = plans.len() > 1;
    if matches!(entry.verb, TimelineVerb::Load(..) | TimelineVerb::Phase) {
        if let Some((_, place)) = &entry.cluster {
            let problem = Problem::at(*place, "spec.timeline", "loads and phases are of no cluster");
            sink.report(problem.help("take `cluster` out"));
        }
        return plans[0].act(entry, sink);
    }
    let Some(wanted) = addressed(entry, plans, sink) else { return Vec::new() };
    let mut actions = Vec::new();
    for index in wanted {
        let plan = &mut plans[index];
        for mut action in plan.act(entry, sink) {
            if let Some(name) = plan.name().filter(|_| are_several) {
                action.text = format!("{} in {name}", action.text);
            }
            actions.push(action);
        }
    }
    let is_change = |action: &Action| !matches!(action.verb, Some(Verb::Unchanged));
    if actions.iter().any(is_change) {
        actions.retain(is_change);
    } else if let Some(action) = actions.first_mut() {
        note_unchanged(entry, action, sink);
        actions.truncate(1);
    }
    for (index, action) in actions.iter_mut().enumerate() {
        action.phase = (index == 0).then(|| entry.phase.clone());
    }
    actions
}

/// What is by then as it is to be triggers nothing. In the words of kubectl, where it has some.
fn note_unchanged(entry: &TimelineEntry, action: &mut Action, sink: &Sink) {
    let text = match entry.verb {
        TimelineVerb::Rollback(_) => {
            "skipped rollback: the current template is that one already, so nothing is triggered"
        }
        _ => "unchanged: nothing that is simulated is another than before, so nothing is triggered",
    };
    sink.note(entry.place, "spec.timeline".to_owned(), FidelityStatus::Warning, Some(text));
    action.text = format!("{} (unchanged)", action.text);
}

/// The clusters that an entry of the timeline is for: the one it names, or all that have the workload it is about.
fn addressed(entry: &TimelineEntry, plans: &[Plan<'_>], sink: &Sink) -> Option<Vec<usize>> {
    let Some((name, place)) = &entry.cluster else {
        let has = |plan: &Plan<'_>| entry.of.as_ref().is_none_or(|text| plan.current.workload(text).is_some());
        let having: Vec<usize> = (0..plans.len()).filter(|index| has(&plans[*index])).collect();
        // Where none has it, the first says so.
        return Some(if having.is_empty() { vec![0] } else { having });
    };
    let found = plans.iter().position(|plan| plan.name() == Some(name));
    if found.is_none() {
        let problem = Problem::at(*place, "spec.timeline", format!("no cluster is called `{name}`"));
        let known: Vec<&str> = plans.iter().filter_map(Plan::name).collect();
        sink.report(match known.is_empty() {
            true => problem.help("the scenario has one cluster, which has no name: take `cluster` out"),
            false => problem.did_you_mean(name, known),
        });
    }
    let alien = |kind: &str| {
        !["Deployment", "DaemonSet", "Pod", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"].contains(&kind)
    };
    let kinds: Vec<&str> = match &entry.verb {
        TimelineVerb::Apply(objects) => objects.iter().map(|object| object.id.kind.as_str()).collect(),
        TimelineVerb::Set(patches) => patches.iter().filter_map(|patch| patch.subject.kind()).collect(),
        _ => Vec::new(),
    };
    if let Some(kind) = kinds.into_iter().find(|kind| alien(kind)) {
        let problem = Problem::at(*place, "spec.timeline", format!("an object of kind {kind} is the whole mesh's"));
        let help = match kind {
            "IstioGateway" => "take `cluster` out, and write what differs in a cluster under the gateway's overrides",
            _ => "take `cluster` out: it holds in all clusters",
        };
        sink.report(problem.help(help));
        return None;
    }
    found.map(|index| vec![index])
}

/// A gateway without pods loses everything, and there is nothing to drill.
pub(super) fn check_replicas(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    if nodes::pods_of(&resolved.target, resolved, settings) > 0 {
        return;
    }
    if resolved.target.kind == OwnerKind::DaemonSet {
        let path = resolved.target.to_string();
        let problem =
            Problem::at(resolved.origin.place(), path, "no node will do for it: the gateway begins without pods");
        sink.report(problem.help("let it bear the taints of cluster.nodes, or give them the labels that it asks for"));
        return;
    }
    let key = if resolved.origin.id.kind == "IstioGateway" { "replicaCount" } else { "replicas" };
    let place = resolved.origin.node.find(&["spec", key]).map_or(resolved.origin.place(), |node| node.at);
    let problem = Problem::at(place, format!("spec.{key}"), "the gateway begins without pods");
    sink.report(problem.help("write 1 or more; a timeline may scale it to 0 later"));
}

/// The gateways, each with the owner of its pods and the `other` of their template.
pub(super) fn gateway_specs(
    resolved: &Resolved,
    settings: &Settings,
    sink: &Sink,
) -> Vec<(Rc<str>, String, GatewaySpec)> {
    let spec = |(gateway, manifest): (&Gateway, &DeploymentManifest)| {
        let spec = gateway_spec((gateway, manifest), resolved, settings, sink)?;
        Some((gateway.workload.owner(), manifest.deployment.template.other.clone(), spec))
    };
    resolved.gateways().filter_map(spec).collect()
}

/// The gateway that the pods of one workload run.
fn gateway_spec(
    (gateway, manifest): (&Gateway, &DeploymentManifest),
    resolved: &Resolved,
    settings: &Settings,
    sink: &Sink,
) -> Option<GatewaySpec> {
    let shutdown = shutdown::of_pods((manifest, &gateway.proxy_config), resolved, settings, sink)?;
    shutdown::check_status(&shutdown, &resolved.routing.listeners, settings, sink);
    let clusters = resolved.routing.upstreams.iter().map(|upstream| (Arc::clone(&upstream.cluster), upstream.config));
    let node_cpu = settings.cluster.nodes.iter().map(|group| group.allocatable.cpu_millicores).max().unwrap_or(1000);
    // No pod gets more than its node has.
    let cores = manifest.cpu_limit_millicores.unwrap_or(node_cpu).min(node_cpu).div_ceil(1000).clamp(1, WORKERS_MAX);
    let concurrency = gateway.proxy_config.concurrency.as_ref().map(|it| it.value).filter(|count| *count > 0);
    let is_configured = sharing::unconfigured(resolved).is_none();
    Some(GatewaySpec {
        config: GatewayConfig {
            listeners: if is_configured { resolved.routing.listeners.clone() } else { Default::default() },
            clusters: clusters.collect(),
            downstream: DownstreamConfig::in_drill(),
            drain: shutdown.drain,
        },
        agent: AgentConfig {
            shutdown: shutdown.moves,
            status_port: shutdown.status.0,
            // Whoever waits for its first configuration answers no probe.
            status_paths: if is_configured { shutdown.status.1 } else { Vec::new() },
        },
        pre_stop: manifest.hook.as_ref().map(|hook| hook.orders.clone()).unwrap_or_default(),
        hook_fails: manifest.hook.is_none() && manifest.deployment.template.pre_stop.is_some(),
        workers: usize::from(concurrency.unwrap_or(u16::try_from(cores).ok()?)),
        costs: CpuCosts { request: settings.gateway.cpu_per_request, connection: settings.gateway.cpu_per_connection },
        cpu_limit_millicores: manifest.cpu_limit_millicores,
        memory_limit_bytes: manifest.memory_limit.as_ref().map(|limit| limit.bytes),
        config_propagation: settings.cluster.config_propagation.clone(),
        exit_delay: settings.gateway.exit_delay.clone(),
    })
}

/// The images that a Deployment's pods need.
pub(super) fn images_of(manifest: &DeploymentManifest) -> impl Iterator<Item = String> + use<> {
    let template = &manifest.deployment.template;
    let init = template.init.iter().map(|container| container.image.clone());
    init.chain(template.images()).collect::<Vec<_>>().into_iter()
}

fn load_spec(load: &super::settings::LoadSettings, settings: &Settings, timeline: &[TimelineEntry]) -> LoadSpec {
    let mut segments = load.segments.clone();
    for segment in &mut segments {
        // A single figure holds to the end and no longer: its rate is the same over any length.
        if segment.from_per_s.to_bits() == segment.to_per_s.to_bits() {
            segment.duration = segment.duration.min(settings.duration);
        }
    }
    let mut changes: Vec<(Duration, f64)> = timeline
        .iter()
        .filter_map(|entry| match &entry.verb {
            TimelineVerb::Load(name, factor) if name.as_ref().is_none_or(|name| *name == load.name) => {
                Some((entry.at, *factor))
            }
            _ => None,
        })
        .collect();
    changes.sort_by_key(|(at, _)| *at);
    if !changes.is_empty() {
        segments = rates::scaled(&segments, &changes);
    }
    LoadSpec {
        name: load.name.clone(),
        segments,
        pacing: load.pacing.clone(),
        runs_in_warmup: true,
        client: ClientConfig {
            connections: load.connections,
            reuse: load.reuse,
            keep_alive: load.keep_alive,
            timeout: load.timeout,
            retries: load.retries,
            detect_idle_close: load.detect_idle_close,
            honor_connection_close: load.honor_connection_close,
            cookies: load.cookies,
            // Connections are opened by the requests that need them; the warm-up is there for that.
            prewarm: false,
        },
        rtt: load.rtt.unwrap_or(settings.cluster.network_latency),
        mix: load.mix.iter().map(|kind| mix_entry(&kind.entry, settings)).collect(),
    }
}

/// A kind of request, with the handshake that its URL asks for.
fn mix_entry(entry: &MixEntry, settings: &Settings) -> MixEntry {
    let round_trips = if entry.speaks_tls() { settings.balancer.tls_round_trips } else { 0 };
    MixEntry { tls_round_trips: round_trips, ..entry.clone() }
}

fn fidelity(notes: Vec<Note>, undescribed: &[Upstream], files: &Files) -> Vec<Fidelity> {
    let row = |place: Place, path: String, status: FidelityStatus, note: Option<String>| {
        let position = files.position(place);
        let (file, line) = (position.map(|(file, ..)| file.to_owned()), position.map(|(_, line, _)| line));
        Fidelity { path, file, line, status, note }
    };
    let assumed = undescribed.iter().map(|upstream| {
        let note = format!(
            "the scenario does not describe it: {} replicas that answer after {} are assumed",
            defaults::REPLICAS,
            quantity::duration_text(Duration::from_millis(10)),
        );
        row(upstream.at, format!("Service {}", upstream.service), FidelityStatus::Approximated, Some(note))
    });
    let noted = notes.into_iter().map(|note| row(note.place, note.path, note.status, note.text));
    let mut rows: Vec<Fidelity> = noted.chain(assumed).collect();
    rows.sort_by(|a, b| (&a.file, a.line, &a.path).cmp(&(&b.file, b.line, &b.path)));
    // What is so in several clusters is told once.
    rows.dedup();
    rows
}
