//! A scenario back into YAML: as it was run, every default filled in, all objects inline.
//!
//! The text is a scenario itself, and running it gives the same results. Edits of the gateway's Deployment that an `IstioGateway` makes cannot be
//! written into an object; they stand under `variants`, and the head of the text says so.

mod operations;

use std::time::Duration;

use super::address::Patch;
use super::autoscaling;
use super::control_plane;
use super::disks;
use super::gateway_kind::Kind;
use super::images;
use super::kubelet;
use super::read::{ADDRESSES, DETECT_LOCAL, DRAIN_STRATEGIES, LOCATIONS, ORIGINS, PROXY_MODES};
use super::settings::{
    BackendSettings, ClusterSettings, Edition, KnownBalancer, LoadSettings, MixSettings, NodeGroup, Over,
    ProxySettings, Settings, TimelineEntry, TimelineVerb, WithoutDrain,
};
use super::state::State;
use crate::cluster::placement::Taint;
use crate::engine::Delay;
use crate::load::{Pacing, RateSegment, Reuse};
use crate::manifest::quantity::duration_text;
use crate::manifest::{Node, Place, Value, yaml};
use crate::record::results::{Level, ScenarioId};

/// The variant under which edits of the target stand.
const AS_RUN: &str = "as-run";

pub(super) fn bare(value: impl ToString) -> Node {
    let text = value.to_string();
    Node { at: Place::NOWHERE, value: Value::Scalar { text: text.as_str().into(), is_quoted: false } }
}

pub(super) fn text(value: &str) -> Node {
    Node::string(Place::NOWHERE, value)
}

pub(super) fn map(entries: Vec<(&str, Node)>) -> Node {
    Node::map(Place::NOWHERE, entries)
}

pub(super) fn list(items: Vec<Node>) -> Node {
    Node::list(Place::NOWHERE, items)
}

pub(super) fn span(value: Duration) -> Node {
    bare(duration_text(value))
}

pub(super) fn delay(value: &Delay) -> Node {
    match value {
        Delay::Constant(value) => span(*value),
        Delay::Lognormal { p50, p99 } => map(vec![("p50", span(*p50)), ("p99", span(*p99))]),
        Delay::Exponential { mean } => map(vec![("mean", span(*mean))]),
        Delay::Uniform { min, max } => map(vec![("min", span(*min)), ("max", span(*max))]),
        Delay::Values(values) => map(vec![("values", list(values.iter().map(|value| span(*value)).collect()))]),
    }
}

/// The scenario as YAML.
pub(super) fn write(
    id: &ScenarioId,
    document: &Node,
    settings: &Settings,
    state: &State,
    timeline: &[TimelineEntry],
    patches: &[Patch],
) -> String {
    let mut metadata = vec![("name", text(&id.name))];
    metadata.extend(document.find(&["metadata", "description"]).map(|node| ("description", node.clone())));
    let inline = |node: &Node| map(vec![("inline", node.clone())]);
    let mut spec = vec![
        ("duration", span(settings.duration)),
        ("warmup", span(settings.warmup)),
        ("seed", bare(settings.seed)),
        ("manifests", list(state.objects.iter().map(|object| inline(&object.node)).collect())),
    ];
    spec.extend(settings.target.as_ref().map(|(target, _)| ("target", text(target))));
    match &settings.clusters[..] {
        [only] if only.id.is_none() => spec.push(("cluster", map(cluster(only)))),
        named => spec.push(("clusters", list(named.iter().map(named_cluster).collect()))),
    }
    spec.push(("loadBalancer", balancer(settings)));
    if !settings.balancers.is_empty() {
        spec.push(("balancers", list(settings.balancers.iter().map(known_balancer).collect())));
    }
    spec.push(("gateway", gateway(settings)));
    spec.push(("backends", list(settings.backends.iter().map(backend).collect())));
    spec.push(("load", list(settings.loads.iter().map(load).collect())));
    spec.push(("timeline", list(timeline.iter().map(entry).collect())));
    spec.push(("slo", list(settings.slos.iter().map(slo).collect())));
    let mut head = String::new();
    let of_target: Vec<&Patch> =
        patches.iter().filter(|patch| patch.subject == super::address::Subject::Target).collect();
    if !of_target.is_empty() {
        let set = of_target.iter().map(|patch| (patch.text.as_str(), patch.value.clone())).collect();
        spec.push(("variants", map(vec![(AS_RUN, map(vec![("set", map(set))]))])));
        head = format!(
            "# Run it with --variant {AS_RUN}: edits of the Deployment that an IstioGateway makes stand there.\n"
        );
    }
    let root = map(vec![
        ("apiVersion", text("gatedrill/v1")),
        ("kind", text("Scenario")),
        ("metadata", map(metadata)),
        ("spec", map(spec)),
    ]);
    head + &yaml::write(&root)
}

fn named_cluster(settings: &ClusterSettings) -> Node {
    let id = settings.id.as_deref().unwrap_or_default();
    let mut entries = vec![("id", text(id)), ("weight", bare(settings.weight))];
    entries.extend(cluster(settings));
    map(entries)
}

fn cluster(cluster: &ClusterSettings) -> Vec<(&str, Node)> {
    let group = |group: &NodeGroup| {
        let mut allocatable = vec![
            ("cpu", text(&format!("{}m", group.allocatable.cpu_millicores))),
            ("memory", text(&group.allocatable.memory_bytes.to_string())),
            ("pods", bare(group.pods_max)),
        ];
        allocatable.extend(group.extended.iter().map(|(name, amount)| (name.as_str(), bare(amount))));
        let taint = |taint: &Taint| {
            let effect = taint.effect.name();
            map(vec![("key", text(&taint.key)), ("value", text(&taint.value)), ("effect", text(effect))])
        };
        let labels = group.labels.iter().map(|(key, value)| (key.as_str(), text(value)));
        let mut entries = vec![
            ("name", text(&group.name)),
            ("count", bare(group.count)),
            ("zones", list(group.zones.iter().map(|zone| text(zone)).collect())),
            ("allocatable", map(allocatable)),
            ("labels", map(labels.collect())),
            ("taints", list(group.taints.iter().map(taint).collect())),
        ];
        entries.extend(group.disk.map(|disk| ("disk", disks::node_written(disk))));
        map(entries)
    };
    let timings = vec![
        ("schedule", delay(&cluster.schedule)),
        ("podStart", delay(&cluster.pod_start)),
        ("initContainer", delay(&cluster.init_container)),
        ("imagePull", delay(&cluster.image_pull)),
        ("endpointPropagation", delay(&cluster.endpoint_propagation)),
        ("configPropagation", delay(&cluster.config_propagation)),
        ("sandboxRemoval", delay(&cluster.sandbox_removal)),
        ("networkLatency", span(cluster.network_latency)),
    ];
    let proxy = kube_proxy(cluster.kube_proxy);
    let mut entries = vec![
        ("profile", text(cluster.profile)),
        ("version", text(&cluster.version.to_string())),
        ("nodes", list(cluster.nodes.iter().map(group).collect())),
        ("kubeProxy", proxy),
        ("controllerManager", control_plane::written(cluster.client_rates, cluster.terminated_pods_max)),
        ("kubelet", kubelet::written(&cluster.kubelet)),
        ("timings", map(timings)),
    ];
    entries.extend(images::written(cluster));
    entries.extend(cluster.region.as_ref().map(|region| ("region", text(region))));
    if !cluster.load_balancers {
        entries.push(("loadBalancers", bare(false)));
    }
    entries.extend(cluster.autoscaler.as_ref().map(|autoscaler| ("autoscaler", operations::autoscaler(autoscaler))));
    entries.extend(autoscaling::written(&cluster.autoscaling));
    entries
}

fn kube_proxy(proxy: ProxySettings) -> Node {
    let mode = PROXY_MODES.iter().find(|(_, mode)| *mode == proxy.mode).map_or("iptables", |(name, _)| name);
    let detects =
        DETECT_LOCAL.iter().find(|(_, detects)| *detects == proxy.detects_pods).map_or("None", |(name, _)| name);
    map(vec![
        ("mode", text(mode)),
        ("minSyncPeriod", span(proxy.min_sync_period)),
        ("detectLocalMode", text(detects)),
        ("conntrack", map(vec![("maxPerCore", bare(proxy.table.per_core)), ("min", bare(proxy.table.least))])),
    ])
}

fn balancer(settings: &Settings) -> Node {
    let balancer = &settings.balancer;
    let without = match balancer.without_drain {
        WithoutDrain::Cut => "cut",
        WithoutDrain::Keep => "keep",
    };
    let mut entries = balancer.product.entries();
    let is_alibaba = entries.is_empty();
    entries.push(("controllerLatency", delay(&balancer.controller_latency)));
    if is_alibaba {
        entries.push(("withoutDrain", text(without)));
        entries.push(("controller", text(if balancer.in_batches { "batches" } else { "each" })));
        entries.push(("callLatency", span(balancer.call_latency)));
        if balancer.throttled_ppm > 0 {
            entries.push(("throttled", bare(f64::from(balancer.throttled_ppm) / 1_000_000.0)));
        }
        entries.push(("tlsRoundTrips", bare(balancer.tls_round_trips)));
        if let Some(kept) = balancer.target_keep_alive {
            entries.push(("targetKeepAlive", span(kept)));
        }
    }
    if balancer.is_proxy_mode {
        entries.push(("ipMode", text("Proxy")));
    }
    let names = balancer.names;
    entries.push(("dns", map(vec![("probing", span(names.probing)), ("ttl", span(names.ttl))])));
    let check = balancer.health_check;
    let spans = [("interval", check.interval), ("timeout", check.timeout)];
    let counts = [("healthyThreshold", check.healthy_threshold), ("unhealthyThreshold", check.unhealthy_threshold)];
    let mut written: Vec<(&str, Node)> =
        spans.into_iter().filter_map(|(key, value)| Some((key, span(value?)))).collect();
    written.extend(counts.into_iter().filter_map(|(key, value)| Some((key, bare(value?)))));
    if !written.is_empty() {
        entries.push(("healthCheck", map(written)));
    }
    map(entries)
}

fn known_balancer(balancer: &KnownBalancer) -> Node {
    let origin = ORIGINS.iter().find(|(_, origin)| *origin == balancer.origin).map_or("hand", |(name, _)| name);
    let mut entries = vec![("id", text(&balancer.id)), ("madeBy", text(origin))];
    entries.extend(balancer.region.as_ref().map(|region| ("region", text(region))));
    if balancer.is_shared_performance {
        entries.push(("sharedPerformance", bare(true)));
    }
    map(entries)
}

fn gateway(settings: &Settings) -> Node {
    let gateway = &settings.gateway;
    let edition = match gateway.edition {
        Edition::Standard => "standard",
        Edition::Enterprise => "enterprise",
        Edition::Ultimate => "ultimate",
    };
    let mut entries = gateway.kind.entries();
    entries.extend([("istio", text(&gateway.istio)), ("edition", text(edition))]);
    if gateway.kind.kind == Kind::Istio {
        let strategy = DRAIN_STRATEGIES.iter().find(|(_, strategy)| *strategy == gateway.drain.strategy);
        entries.extend([
            ("terminationDrainDuration", span(gateway.termination_drain.0)),
            ("drainDuration", span(gateway.drain_duration.0)),
            ("drainStrategy", text(strategy.map_or("immediate", |(name, _)| name))),
            ("drainTimeout", span(gateway.drain.timeout)),
            ("delayedCloseTimeout", span(gateway.drain.delayed_close)),
        ]);
    }
    entries.extend([
        ("cpuPerRequest", span(gateway.cpu_per_request)),
        ("cpuPerConnection", span(gateway.cpu_per_connection)),
        ("exitDelay", delay(&gateway.exit_delay)),
        ("memory", autoscaling::written_memory(gateway.memory)),
        ("replicasSync", span(gateway.replicas_sync)),
    ]);
    entries.extend(gateway.disk.as_ref().map(|disk| ("disk", disks::written(&disk.costs))));
    map(entries)
}

fn backend(backend: &BackendSettings) -> Node {
    let mut entries = vec![("service", text(&backend.service))];
    match (&backend.deployment, &backend.daemon_set, &backend.pod) {
        (Some((deployment, _)), ..) => entries.push(("deployment", text(deployment))),
        (None, Some((daemon, _)), _) => entries.push(("daemonSet", text(daemon))),
        (None, None, Some((pod, _))) => entries.push(("pod", text(pod))),
        (None, None, None) => entries.push(("replicas", bare(backend.replicas))),
    }
    if !backend.clusters.is_empty() {
        entries.push(("clusters", list(backend.clusters.iter().map(|(cluster, _)| text(cluster)).collect())));
    }
    if !backend.zones.is_empty() {
        entries.push(("zones", list(backend.zones.iter().map(|zone| text(zone)).collect())));
    }
    entries.extend([
        ("serviceTime", delay(&backend.config.service_time)),
        ("concurrency", bare(backend.config.concurrency)),
        ("errorRatio", bare(f64::from(backend.config.error_ppm) / 1e6)),
        ("keepAlive", span(backend.config.keep_alive.unwrap_or_default())),
        ("shutdownDelay", span(backend.shutdown_delay)),
        ("answer", text(&format!("{}B", backend.config.body_bytes))),
    ]);
    entries.extend(backend.memory.map(|memory| {
        let size = |bytes: u64| text(&format!("{bytes}B"));
        let parts = [
            ("base", memory.base_bytes),
            ("perConnection", memory.connection_bytes),
            ("perRequest", memory.request_bytes),
        ];
        ("memory", map(parts.map(|(key, bytes)| (key, size(bytes))).to_vec()))
    }));
    entries.extend(backend.disk.as_ref().map(|disk| ("disk", disks::written(&disk.costs))));
    entries.extend(backend.cpu_per_request.map(|cost| ("cpuPerRequest", span(cost))));
    map(entries)
}

fn load(load: &LoadSettings) -> Node {
    let reuse = match load.reuse {
        Reuse::MostRecent => "mru",
        Reuse::LeastRecent => "lru",
        Reuse::Never => "none",
    };
    let way = &load.way;
    let location =
        LOCATIONS.iter().find(|(_, location)| *location == way.location).map_or("internet", |(name, _)| name);
    let mut clients = vec![
        ("location", text(location)),
        ("connections", bare(load.connections)),
        ("protocol", text("http/1.1")),
        ("reuse", text(reuse)),
        ("keepAlive", span(load.keep_alive.unwrap_or_default())),
        ("timeout", span(load.timeout)),
        ("retries", bare(load.retries)),
        ("detectIdleClose", bare(load.detect_idle_close)),
        ("honorConnectionClose", bare(load.honor_connection_close)),
        ("cookies", bare(load.cookies)),
    ];
    clients.extend(load.rtt.map(|rtt| ("rtt", span(rtt))));
    let address = ADDRESSES.iter().find(|(_, address)| Some(*address) == way.address);
    clients.extend(address.map(|(name, _)| ("address", text(name))));
    clients.extend(way.node.as_ref().map(|node| ("node", text(node))));
    clients.extend(way.zone.as_ref().map(|zone| ("zone", text(zone))));
    let mix = load.mix.iter().map(|MixSettings { entry, .. }| {
        let method = entry.method.to_ascii_lowercase();
        let mut fields = vec![("weight", bare(entry.weight)), (method.as_str(), text(&entry.url))];
        if entry.body_bytes > 0 {
            fields.push(("body", text(&format!("{}B", entry.body_bytes))));
        }
        if !entry.headers.is_empty() {
            let headers = entry.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
            fields.push(("headers", map(headers)));
        }
        map(fields)
    });
    let pacing = match &load.pacing {
        Pacing::Constant => "constant",
        Pacing::Poisson => "poisson",
        Pacing::Listed(_) => "replay",
    };
    map(vec![
        ("name", text(&load.name)),
        ("rate", rate(&load.segments)),
        ("arrivals", text(pacing)),
        ("clients", map(clients)),
        ("mix", list(mix.collect())),
    ])
}

fn rate(segments: &[RateSegment]) -> Node {
    let per_second = |rate: f64| bare(format!("{rate}/s"));
    let is_level = |segment: &RateSegment| segment.from_per_s.to_bits() == segment.to_per_s.to_bits();
    match segments {
        [only] if is_level(only) && only.duration > Duration::from_secs(365 * 24 * 3600) => per_second(only.from_per_s),
        many => {
            let segment = |segment: &RateSegment| {
                let mut entries = vec![("for", span(segment.duration))];
                if is_level(segment) {
                    entries.push(("at", per_second(segment.from_per_s)));
                } else {
                    entries.extend([("from", per_second(segment.from_per_s)), ("to", per_second(segment.to_per_s))]);
                }
                map(entries)
            };
            list(many.iter().map(segment).collect())
        }
    }
}

fn entry(entry: &TimelineEntry) -> Node {
    let mut entries = vec![("at", span(entry.at))];
    match &entry.verb {
        TimelineVerb::Restart => entries.push(("restart", map(Vec::new()))),
        TimelineVerb::Scale(replicas) => entries.push(("scale", map(vec![("replicas", bare(replicas))]))),
        TimelineVerb::Set(patches) => {
            let set = patches.iter().map(|patch| (patch.text.as_str(), patch.value.clone())).collect();
            entries.push(("set", map(set)));
        }
        TimelineVerb::Apply(objects) => {
            let inline = match &objects[..] {
                [only] => only.node.clone(),
                many => map(vec![
                    ("apiVersion", text("v1")),
                    ("kind", text("List")),
                    ("items", list(many.iter().map(|object| object.node.clone()).collect())),
                ]),
            };
            entries.push(("apply", map(vec![("inline", inline)])));
        }
        TimelineVerb::Operate(operation) => entries.push(operations::operation(operation)),
        TimelineVerb::Rollback(revision) => {
            let revision = revision.map(|revision| ("toRevision", bare(revision)));
            entries.push(("rollback", map(revision.into_iter().collect())));
        }
        TimelineVerb::Pause(is_pause) => {
            entries.push((if *is_pause { "pause" } else { "resume" }, map(Vec::new())));
        }
        TimelineVerb::Delete => entries.push(("delete", map(Vec::new()))),
        TimelineVerb::DeleteService(key, _) => entries.push(("delete", map(vec![("service", text(key))]))),
        TimelineVerb::DeleteObject((field, _), key, _) => entries.push(("delete", map(vec![(*field, text(key))]))),
        TimelineVerb::Load(name, factor) => {
            let name = name.as_ref().map(|name| ("name", text(name)));
            let change = name.into_iter().chain([("factor", bare(factor))]).collect();
            entries.push(("load", map(change)));
        }
        TimelineVerb::ConfigPush => entries.push(("configPush", map(Vec::new()))),
        TimelineVerb::Phase => {}
    }
    entries.extend(entry.of.as_ref().map(|of| ("of", text(of))));
    entries.extend(entry.cluster.as_ref().map(|(cluster, _)| ("cluster", text(cluster))));
    entries.push(("phase", text(&entry.phase)));
    map(entries)
}

fn slo(slo: &super::settings::SloSettings) -> Node {
    let level = match slo.level {
        Level::Error => "error",
        Level::Warn => "warn",
    };
    let over = match slo.over {
        Over::Worst => "worst",
        Over::P95 => "p95",
        Over::Mean => "mean",
    };
    map(vec![("name", text(&slo.name)), ("expr", text(&slo.expr)), ("level", text(level)), ("over", text(over))])
}
