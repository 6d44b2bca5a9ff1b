//! A checked scenario into the settings of its world, with the line behind each cause of loss.

use std::sync::Arc;
use std::time::Duration;

use super::balancer::{self, products};
use super::plan::Plan;
use super::rates;
use super::settings::{Settings, TimelineEntry, TimelineVerb, defaults};
use super::sharing;
use super::shutdown;
use super::state::{Resolved, State};
use crate::cluster::deployment::Strategy;
use crate::drill::pod_host::CpuCosts;
use crate::drill::{Action, BackendSpec, GatewaySpec, LoadSpec, MixEntry, Sources, Verb, WorldConfig};
use crate::edge::{Product, TrafficPolicy};
use crate::gateway::{AgentConfig, DownstreamConfig, GatewayConfig};
use crate::load::ClientConfig;
use crate::manifest::deployment::{DeploymentManifest, MemoryLimit};
use crate::manifest::istio_gateway::{DRAIN_ANNOTATION, Generation};
use crate::manifest::read::Note;
use crate::manifest::routes::Upstream;
use crate::manifest::service::ServiceManifest;
use crate::manifest::{Files, Object, Place, Problem, Sink, quantity};
use crate::record::results::{Fidelity, FidelityStatus, ScenarioId};
use crate::record::{CauseCode, Source};

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
    let mut plans = plans.collect::<Vec<_>>().into_iter().collect::<Option<Vec<Plan<'_>>>>()?;
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

/// The clusters that an entry of the timeline is for: the one it names, or all that have the Deployment it is about.
fn addressed(entry: &TimelineEntry, plans: &[Plan<'_>], sink: &Sink) -> Option<Vec<usize>> {
    let Some((name, place)) = &entry.cluster else {
        let has = |plan: &Plan<'_>| entry.of.as_ref().is_none_or(|key| plan.current.deployments.contains_key(key));
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
        !["Deployment", "Pod", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"].contains(&kind)
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
pub(super) fn check_replicas(resolved: &Resolved, sink: &Sink) {
    if resolved.target().is_none_or(|target| target.deployment.replicas > 0) {
        return;
    }
    let key = if resolved.origin.id.kind == "IstioGateway" { "replicaCount" } else { "replicas" };
    let place = resolved.origin.node.find(&["spec", key]).map_or(resolved.origin.place(), |node| node.at);
    let problem = Problem::at(place, format!("spec.{key}"), "the gateway begins without pods");
    sink.report(problem.help("write 1 or more; a timeline may scale it to 0 later"));
}

/// The gateway that the target's pods run.
pub(super) fn gateway_spec(resolved: &Resolved, settings: &Settings, sink: &Sink) -> Option<GatewaySpec> {
    let manifest = resolved.target()?;
    let shutdown = shutdown::of(resolved, settings, sink)?;
    shutdown::check_status(&shutdown, &resolved.routing.listeners, settings, sink);
    let clusters = resolved.routing.upstreams.iter().map(|upstream| (Arc::clone(&upstream.cluster), upstream.config));
    let node_cpu = settings.cluster.nodes.iter().map(|group| group.allocatable.cpu_millicores).max().unwrap_or(1000);
    // No pod gets more than its node has.
    let cores = manifest.cpu_limit_millicores.unwrap_or(node_cpu).min(node_cpu).div_ceil(1000).clamp(1, WORKERS_MAX);
    let concurrency = resolved.proxy_config.concurrency.as_ref().map(|it| it.value).filter(|count| *count > 0);
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

/// The namespace that keeps a gateway from its configuration: where it is written, or would be.
fn namespace_source(origin: &Object) -> (CauseCode, Place, String, Option<String>) {
    let place = origin.node.find(&["metadata", "namespace"]).map_or(origin.place(), |node| node.at);
    (CauseCode::GatewayUnconfigured, place, "metadata.namespace".to_owned(), Some(origin.id.namespace.clone()))
}

/// The setting behind each cause of loss: where it is written, or where it would be.
pub(super) fn sources(resolved: &Resolved, settings: &Settings, timeline: &[TimelineEntry], files: &Files) -> Sources {
    let mut sources = Sources::new();
    let mut add = |codes: &[CauseCode], place: Place, path: &str, value: Option<String>| {
        let position = files.position(place);
        let source = Source {
            file: position.map(|(file, ..)| file.to_owned()),
            line: position.map(|(_, line, _)| line),
            path: path.to_owned(),
            value,
        };
        for code in codes {
            sources.insert(*code, source.clone());
        }
    };
    let Some((manifest, front)) = resolved.target().zip(resolved.front()) else { return sources };
    let origin = &resolved.origin;
    let decided = shutdown::of(resolved, settings, &Sink::default()).map(|shutdown| shutdown.decided);
    for decided in decided.into_iter().flatten() {
        match decided.value {
            Some(value) => add(&decided.codes, decided.at, &decided.path, Some(value)),
            // Nobody wrote it: the line to which it would be added.
            None if origin.id.kind == "IstioGateway" && shutdown::generation(settings) == Generation::DrainTimeout => {
                let path = format!("metadata.annotations[{DRAIN_ANNOTATION}]");
                add(&decided.codes, annotations_place(origin), &path, None);
            }
            None if origin.id.kind == "IstioGateway" => {
                let place = origin.node.entry("spec").map_or(origin.place(), |entry| entry.key_at);
                add(&decided.codes, place, "spec.podAnnotations[proxy.istio.io/config]", None);
            }
            None => {
                let place = origin.node.find(&["spec", "template", "metadata"]).map_or(origin.place(), |node| node.at);
                add(&decided.codes, place, "spec.template.metadata.annotations[proxy.istio.io/config]", None);
            }
        }
    }
    let parent = if origin.id.kind == "IstioGateway" { "spec.serviceAnnotations" } else { "metadata.annotations" };
    let path = |suffix: &str| format!("{parent}[{}]", front.written_name(suffix));
    let is_alibaba = settings.balancer.product.product == Product::Alibaba;
    let of_balancer = match is_alibaba {
        true => balancer::sources(front, path),
        false => products::sources(front, settings, |name| format!("{parent}[{name}]")),
    };
    let of_origin = |paths: &[&[&str]]| paths.iter().find_map(|path| Some((path.join("."), origin.node.find(path)?)));
    let mut add_written = |codes: &[CauseCode], paths: &[&[&str]], usual: &str, value: &str| match of_origin(paths) {
        Some((path, node)) => add(codes, node.at, &path, node.text().map(str::to_owned)),
        None => add(codes, Place::NOWHERE, usual, Some(value.to_owned())),
    };
    let unavailable: &[&[&str]] =
        &[&["spec", "rollingMaxUnavailable"], &["spec", "strategy", "rollingUpdate", "maxUnavailable"]];
    let usual = if origin.id.kind == "IstioGateway" { 0 } else { 1 };
    let nobody = [CauseCode::LbNoTarget, CauseCode::NoEndpoint];
    match manifest.deployment.strategy {
        // All old pods end before the first new one is made.
        Strategy::Recreate => add_written(&nobody, &[&["spec", "strategy", "type"]], "spec.strategy.type", "Recreate"),
        Strategy::RollingUpdate { .. } => {
            add_written(&nobody, unavailable, &unavailable[usual].join("."), "25%");
        }
    }
    add_written(
        &[CauseCode::GraceExceeded],
        &[&["spec", "template", "spec", "terminationGracePeriodSeconds"]],
        "spec.template.spec.terminationGracePeriodSeconds",
        &manifest.deployment.template.grace_seconds.to_string(),
    );
    let (place, written, value) = sharing::written(front, settings, path);
    add(&[CauseCode::LbNotCreated, CauseCode::LbListenerTaken], place, &written, value);
    let (place, written, word) = policy_written(front);
    add(&[CauseCode::LocalPolicyBlackhole, CauseCode::SnatPortsExhausted], place, written, Some(word.to_owned()));
    let per_core = settings.cluster.kube_proxy.table.per_core.to_string();
    add(&[CauseCode::ConntrackFull], Place::NOWHERE, "spec.cluster.kubeProxy.conntrack.maxPerCore", Some(per_core));
    let others = of_balancer.into_iter().chain([namespace_source(origin)]);
    for (code, place, path, value) in kill_sources(manifest, settings, timeline).into_iter().chain(others) {
        add(&[code], place, &path, value);
    }
    let behind = [CauseCode::UpstreamRefused, CauseCode::UpstreamClosed, CauseCode::NoHealthyUpstream];
    if let Some(backend) = settings.backends.first() {
        add(&behind, backend.at, "spec.backends[0].service", Some(backend.service.clone()));
    }
    if let Some(place) = resolved.routing.first_route_at {
        let codes = [
            CauseCode::NoRoute,
            CauseCode::ClusterNotFound,
            CauseCode::UpstreamTimeout,
            CauseCode::DirectResponse,
            CauseCode::FaultInjected,
        ];
        // Its rules are there, and too many words for a line.
        add(&codes, place, "spec.http", Some("…".to_owned()));
    }
    if let Some(place) = resolved.routing.first_policy_at {
        add(&[CauseCode::UpstreamOverflow], place, "spec.trafficPolicy.connectionPool", None);
    }
    let timeout = settings.loads.iter().map(|load| load.timeout).min().unwrap_or(defaults::TIMEOUT);
    let clients = [CauseCode::ClientTimeout];
    add(&clients, Place::NOWHERE, "spec.load.clients.timeout", Some(quantity::duration_text(timeout)));
    add(
        &[CauseCode::DrainCloseIgnored],
        Place::NOWHERE,
        "spec.load.clients.honorConnectionClose",
        Some("false".to_owned()),
    );
    sources
}

/// The traffic policy that decides where connections end on a node: `Local`, for whomever it holds, or `Cluster` for those from outside.
fn policy_written(front: &ServiceManifest) -> (Place, &'static str, &'static str) {
    let external = "spec.externalTrafficPolicy";
    match (front.policy, front.internal_policy) {
        (TrafficPolicy::Local, _) => (front.policy_at, external, "Local"),
        (_, TrafficPolicy::Local) => (front.internal_policy_at, "spec.internalTrafficPolicy", "Local"),
        _ if front.policy_is_written => (front.policy_at, external, "Cluster"),
        _ => (Place::NOWHERE, external, "Cluster"),
    }
}

/// What ends machines and processes that nobody asked to end: where it is written, the path, the value.
fn kill_sources(
    manifest: &DeploymentManifest,
    settings: &Settings,
    timeline: &[TimelineEntry],
) -> Vec<(CauseCode, Place, String, Option<String>)> {
    let mut sources = Vec::new();
    let operations = timeline.iter().filter_map(|entry| match &entry.verb {
        TimelineVerb::Operate(operation) => operation.killed_machine(),
        _ => None,
    });
    // The first of several: each loss goes back to its own in the event log.
    if let Some((verb, node)) = operations.min_by_key(|(_, node)| node.at()) {
        let path = format!("spec.timeline.{verb}.node");
        sources.push((CauseCode::NodeLost, node.at(), path, Some(node.text().to_owned())));
    }
    if let Some(liveness) = &manifest.liveness {
        sources.push((CauseCode::ProbeKill, liveness.at, liveness.path.clone(), None));
    }
    if let Some(group) = settings.cluster.nodes.iter().min_by_key(|group| group.allocatable.memory_bytes) {
        let (path, bytes) = ("spec.cluster.nodes.allocatable.memory".to_owned(), group.allocatable.memory_bytes);
        sources.push((CauseCode::NodePressure, group.at, path, Some(bytes.to_string())));
    }
    if let Some(MemoryLimit { written, at, .. }) = &manifest.memory_limit {
        let path = "resources.limits.memory".to_owned();
        sources.push((CauseCode::OutOfMemory, *at, path, Some(written.clone())));
    }
    sources
}

/// Where an object's annotations stand, or its metadata.
fn annotations_place(object: &Object) -> Place {
    let metadata = object.node.entry("metadata");
    let annotations = metadata.and_then(|entry| entry.node.entry("annotations"));
    annotations.or(metadata).map_or(object.place(), |entry| entry.key_at)
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
