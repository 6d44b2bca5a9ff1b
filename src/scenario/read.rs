//! The scenario file into [`Settings`]: every key checked, every default filled in.

use std::rc::Rc;
use std::time::Duration;

use super::autoscaling;
use super::control_plane;
use super::gateway_kind;
use super::node_scaling;
use super::product::{self, ProductSettings};
use super::settings::{
    Address, BackendSettings, BalancerOrigin, BalancerSettings, CheckSettings, ClusterSettings, DrainTimers, Edition,
    GatewaySettings, KnownBalancer, LoadSettings, Location, MixSettings, Over, ProxySettings, Settings, SloSettings,
    TimelineEntry, Variant, WaySettings, WithoutDrain, defaults,
};
use super::{images, nodes, slo};
use crate::backend::{BackendConfig, BodyShape};
use crate::cluster::{CLUSTERS_MAX, Identity, Version};
use crate::drill::{MixEntry, NameSpec};
use crate::edge::ProxyMode;
use crate::edge::conntrack::TableSize;
use crate::edge::kube_proxy::health::SYNC_PERIOD;
use crate::engine::Delay;
use crate::gateway::DrainStrategy;
use crate::load::{Pacing, RateSegment, Reuse};
use crate::manifest::{Field, Fields, Node, Place, Sink};
use crate::record::results::Level;

/// Virtual time a run may last. A day of a busy gateway is more than anyone waits for.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Requests per second of one load: more than any gateway takes, and than anyone can wait for.
const RATE_MAX: f64 = 10_000_000.0;

/// Reads `spec`. The keys `manifests`, `timeline` and `variants` are left to the caller.
pub(super) fn settings(spec: &Fields<'_>) -> Option<Settings> {
    let duration = spec.require("duration", "write the virtual time to measure, such as duration: 4m");
    let duration = duration.and_then(|field| bounded(&field, field.positive_duration()?));
    let warmup = spec.get("warmup").map_or(Some(Duration::ZERO), |field| bounded(&field, field.duration()?));
    let seed = spec.get("seed").map_or(Some(1), |field| field.whole::<u64>(0, i64::MAX));
    let target = spec.get("target").and_then(|field| Some((key(&field)?, field.place())));
    let clusters = clusters(spec);
    let balancer = balancer(spec.get("loadBalancer").as_ref());
    let balancers = spec.get("balancers").map(|field| field.items()).unwrap_or_default();
    let balancers: Vec<_> = balancers.iter().map(known_balancer).collect();
    let gateway = gateway(spec.get("gateway").as_ref());
    let backends = spec.get("backends").map(|field| field.items()).unwrap_or_default();
    let backends: Vec<_> = backends.iter().map(backend).collect();
    let loads_field =
        spec.require("load", "say who asks: load: [ { name: …, rate: 100/s, mix: [ { get: http://… } ] } ]");
    let loads: Vec<_> = loads_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(load).collect();
    if let Some(field) = &loads_field
        && loads.is_empty()
    {
        field.refuse("no load is described", "describe at least one");
    }
    duplicates(&loads_field.map(|field| field.items()).unwrap_or_default());
    let slos: Vec<_> = spec.get("slo").map(|field| field.items()).unwrap_or_default().iter().map(read_slo).collect();
    Some(Settings {
        duration: duration?,
        warmup: warmup?,
        seed: seed?,
        target,
        cluster: clusters.as_ref()?.first()?.clone(),
        clusters: clusters?,
        balancer: balancer?,
        balancers: balancers.into_iter().collect::<Option<_>>()?,
        gateway: gateway?,
        backends: backends.into_iter().collect::<Option<_>>()?,
        loads: loads.into_iter().collect::<Option<_>>()?,
        slos: slos.into_iter().collect::<Option<_>>()?,
    })
}

fn bounded(field: &Field<'_>, span: Duration) -> Option<Duration> {
    if span > DURATION_MAX {
        field.refuse("this is longer than a week", "write at most 168h");
    }
    (span <= DURATION_MAX).then_some(span)
}

/// `namespace/name`; a bare name is in `default`.
pub(super) fn key(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => Some(format!("default/{name}")),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Some(text.to_owned()),
        _ => {
            field.refuse(format!("`{text}` names no object"), "write namespace/name");
            None
        }
    }
}

fn duplicates(items: &[Field<'_>]) {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = item.node().find(&["name"]).and_then(Node::text) else { continue };
        if names.iter().any(|known| known == name) {
            item.refuse(format!("two loads are called `{name}`"), "give each a name of its own");
        }
        names.push(name.to_owned());
    }
}

fn delay(fields: Option<&Fields<'_>>, key: &str, usual: Delay) -> Option<Delay> {
    match fields.and_then(|fields| fields.get(key)) {
        Some(field) => field.delay(),
        None => Some(usual),
    }
}

fn span(fields: Option<&Fields<'_>>, key: &str, usual: Duration) -> Option<Duration> {
    match fields.and_then(|fields| fields.get(key)) {
        Some(field) => field.duration(),
        None => Some(usual),
    }
}

/// kube-proxy's own settings, as its configuration has them.
///
/// Source: Kubernetes pkg/proxy/apis/config/validation/validation.go (`minSyncPeriod` is at most `syncPeriod`, which is 30 s).
fn kube_proxy(fields: &Fields<'_>) -> Option<ProxySettings> {
    let mode = match fields.get("mode") {
        Some(field) => field.choice(&PROXY_MODES)?,
        None => ProxyMode::Iptables,
    };
    let mut settings = ProxySettings::usual(mode);
    if let Some(field) = fields.get("minSyncPeriod") {
        settings.min_sync_period = field.duration()?;
        if settings.min_sync_period > SYNC_PERIOD {
            field.refuse("this is longer than kube-proxy's syncPeriod of 30 s", "write 0s to 30s");
        }
    }
    if let Some(field) = fields.get("detectLocalMode") {
        settings.detects_pods = field.choice(&DETECT_LOCAL)?;
    }
    if let Some(conntrack) = fields.get("conntrack").and_then(|field| field.fields()) {
        let count = |key: &str, usual: u64| match conntrack.get(key) {
            Some(field) => field.whole::<u64>(0, i64::from(i32::MAX)),
            None => Some(usual),
        };
        let (per_core, least) = (count("maxPerCore", settings.table.per_core), count("min", settings.table.least));
        conntrack.finish();
        settings.table = TableSize { per_core: per_core?, least: least? };
    }
    fields.finish();
    Some(settings)
}

/// How kube-proxy tells the pods of its node, or that it cannot. Source: Kubernetes pkg/proxy/apis/config/types.go `LocalMode`.
pub(super) const DETECT_LOCAL: [(&str, bool); 5] = [
    ("None", false),
    ("ClusterCIDR", true),
    ("NodeCIDR", true),
    ("BridgeInterface", true),
    ("InterfaceNamePrefix", true),
];

/// The names of kube-proxy's modes.
pub(super) const PROXY_MODES: [(&str, ProxyMode); 3] =
    [("iptables", ProxyMode::Iptables), ("ipvs", ProxyMode::Ipvs), ("nftables", ProxyMode::Nftables)];

/// The clusters: `cluster` for one, which needs no name, or `clusters` for several.
fn clusters(spec: &Fields<'_>) -> Option<Vec<ClusterSettings>> {
    let (one, several) = (spec.get("cluster"), spec.get("clusters"));
    let Some(several) = several else {
        let fields = one.and_then(|field| field.fields());
        let found = cluster(fields.as_ref());
        if let Some(fields) = fields {
            fields.finish();
        }
        return Some(vec![found?]);
    };
    if let Some(one) = one {
        one.refuse("`clusters` says which clusters there are", "write this one under clusters, too");
    }
    let items = several.items();
    if items.is_empty() || items.len() > CLUSTERS_MAX {
        let text = format!("{} clusters are described", items.len());
        several.refuse(text, format!("describe 1 to {CLUSTERS_MAX}"));
        return None;
    }
    let found: Vec<Option<ClusterSettings>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let fields = item.fields()?;
            let id_field = fields.require("id", "name the cluster, as clusterIds of the gateway does: id: c-1");
            let id = id_field.as_ref().and_then(|field| name(field));
            let weight = fields.get("weight").map_or(Some(1), |field| field.whole::<u32>(0, 1_000_000));
            let settings = cluster(Some(&fields));
            fields.finish();
            let (id, at): (Rc<str>, Place) = (Rc::from(id?), id_field?.place());
            let is_alone = items.len() == 1;
            let identity = if is_alone { Identity::ALONE } else { Identity::of_several(index, Rc::clone(&id)) };
            Some(ClusterSettings { id: Some(id), at, identity, weight: weight?, ..settings? })
        })
        .collect();
    let found: Vec<ClusterSettings> = found.into_iter().collect::<Option<_>>()?;
    for (index, cluster) in found.iter().enumerate() {
        if found[..index].iter().any(|earlier| earlier.id == cluster.id) {
            let id = cluster.id.as_deref().unwrap_or_default();
            items[index].refuse(format!("two clusters are called `{id}`"), "give each a name of its own");
        }
    }
    if found.iter().all(|cluster| cluster.weight == 0) {
        several.refuse("no client comes to any cluster", "give at least one a weight above 0");
    }
    Some(found)
}

/// Reads what is said of a cluster; the caller closes the map.
fn cluster(fields: Option<&Fields<'_>>) -> Option<ClusterSettings> {
    let profile = match fields.and_then(|fields| fields.get("profile")) {
        Some(field) => field.choice(&[(defaults::PROFILE, defaults::PROFILE)]),
        None => Some(defaults::PROFILE),
    };
    let version = match fields.and_then(|fields| fields.get("version")) {
        Some(field) => field.text().and_then(|text| kubernetes(&field, text)),
        None => Some(defaults::KUBERNETES),
    };
    let region = fields.and_then(|fields| fields.get("region")).map(|field| name(&field));
    let load_balancers =
        fields.and_then(|fields| fields.get("loadBalancers")).map_or(Some(true), |field| field.boolean());
    let nodes_field = fields.and_then(|fields| fields.get("nodes"));
    let nodes: Vec<_> =
        nodes_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(nodes::group).collect();
    let kube_proxy = match fields.and_then(|fields| fields.get("kubeProxy")).and_then(|field| field.fields()) {
        Some(fields) => kube_proxy(&fields),
        None => Some(ProxySettings::usual(ProxyMode::Iptables)),
    };
    let autoscaler_field = fields.and_then(|fields| fields.get("autoscaler"));
    let described = images::read(fields);
    let timings = fields.and_then(|fields| fields.get("timings")).and_then(|field| field.fields());
    let timings = timings.as_ref();
    let schedule = delay(timings, "schedule", defaults::SCHEDULE);
    let pod_start = delay(timings, "podStart", defaults::POD_START);
    let init_container = delay(timings, "initContainer", defaults::INIT_CONTAINER);
    let image_pull = delay(timings, "imagePull", defaults::IMAGE_PULL);
    let endpoint_propagation = delay(timings, "endpointPropagation", defaults::ENDPOINT_PROPAGATION);
    let config_propagation = delay(timings, "configPropagation", defaults::CONFIG_PROPAGATION);
    let sandbox_removal = delay(timings, "sandboxRemoval", defaults::SANDBOX_REMOVAL);
    let network_latency = span(timings, "networkLatency", defaults::NETWORK_LATENCY);
    let autoscaling = autoscaling::read(fields, version);
    let client_rates = control_plane::read(fields);
    if let Some(timings) = timings {
        timings.finish();
    }
    let nodes = nodes::checked(nodes.into_iter().collect::<Option<_>>()?, nodes_field.as_ref());
    let autoscaler = match &autoscaler_field {
        Some(field) => Some(node_scaling::read(field, &nodes)?),
        None => None,
    };
    let (images, bad_images) = described?;
    Some(ClusterSettings {
        id: None,
        at: Place::NOWHERE,
        identity: Identity::ALONE,
        weight: 1,
        region: region.flatten(),
        load_balancers: load_balancers?,
        profile: profile?,
        autoscaler,
        version: version?,
        nodes,
        schedule: schedule?,
        pod_start: pod_start?,
        init_container: init_container?,
        image_pull: image_pull?,
        images,
        bad_images,
        endpoint_propagation: endpoint_propagation?,
        config_propagation: config_propagation?,
        sandbox_removal: sandbox_removal?,
        network_latency: network_latency?,
        autoscaling: autoscaling?,
        kube_proxy: kube_proxy?,
        client_rates: client_rates?,
    })
}

/// A version whose behaviour is known: 1.20 is the oldest that was compared with a real control plane.
fn kubernetes(field: &Field<'_>, text: &str) -> Option<Version> {
    let known = Version::parse(text).filter(|version| (Version::new(1, 20)..Version::new(2, 0)).contains(version));
    if known.is_none() {
        field.refuse(
            format!("`{text}` is not a version whose behaviour is known"),
            "write \"1.20\" or newer, in quotes",
        );
    }
    known
}

/// The names of Envoy's drain strategies.
pub(super) const DRAIN_STRATEGIES: [(&str, DrainStrategy); 2] =
    [("immediate", DrainStrategy::Immediate), ("gradual", DrainStrategy::Gradual)];

/// `1.26`.
fn version(field: &Field<'_>, text: &str) -> Option<String> {
    let is_version = text.split('.').count() == 2 && text.split('.').all(|part| part.parse::<u32>().is_ok());
    if !is_version {
        field.refuse(format!("`{text}` is not a version"), "write major.minor in quotes, such as \"1.33\"");
    }
    is_version.then(|| text.to_owned())
}

/// A balancer that is there before the run.
fn known_balancer(field: &Field<'_>) -> Option<KnownBalancer> {
    let fields = field.fields()?;
    let id = fields.require("id", "write the id that Services name: id: lb-shop").and_then(|field| field.text());
    let origin = match fields.get("madeBy") {
        Some(field) => field.choice(&ORIGINS),
        None => Some(BalancerOrigin::Hand),
    };
    let region = fields.get("region").map(|field| name(&field));
    let is_shared = fields.get("sharedPerformance").map_or(Some(false), |field| field.boolean());
    fields.finish();
    let (id, region) = (id?.to_owned(), region.flatten());
    Some(KnownBalancer { id, origin: origin?, region, is_shared_performance: is_shared? })
}

/// Who may have made a balancer.
pub(super) const ORIGINS: [(&str, BalancerOrigin); 2] =
    [("hand", BalancerOrigin::Hand), ("kubernetes", BalancerOrigin::Kubernetes)];

fn balancer(field: Option<&Field<'_>>) -> Option<BalancerSettings> {
    let fields = field.and_then(Field::fields);
    let fields = fields.as_ref();
    let product = product::read(fields, field.map_or(Place::NOWHERE, Field::place));
    let of_product = product.as_ref().and_then(ProductSettings::controller);
    let controller_latency = delay(fields, "controllerLatency", of_product.unwrap_or(defaults::CONTROLLER_LATENCY));
    let in_batches = match fields.and_then(|fields| fields.get("controller")) {
        Some(field) => field.choice(&[("each", false), ("batches", true)]),
        None => Some(defaults::IN_BATCHES),
    };
    let call_latency = span(fields, "callLatency", defaults::CALL_LATENCY);
    let throttled = fields.and_then(|fields| fields.get("throttled")).map_or(Some(0.0), |field| field.ratio());
    let tls_round_trips = match fields.and_then(|fields| fields.get("tlsRoundTrips")) {
        Some(field) => field.whole(0, 10),
        None => Some(defaults::TLS_ROUND_TRIPS),
    };
    let without_drain = match fields.and_then(|fields| fields.get("withoutDrain")) {
        Some(field) => field.choice(&[("cut", WithoutDrain::Cut), ("keep", WithoutDrain::Keep)]),
        None => Some(WithoutDrain::Cut),
    };
    let names = match fields.and_then(|fields| fields.get("dns")) {
        Some(field) => names(&field),
        None => Some(NameSpec { probing: defaults::NAME_PROBING, ttl: defaults::NAME_TTL }),
    };
    let is_proxy_mode = match fields.and_then(|fields| fields.get("ipMode")) {
        Some(field) => field.choice(&[("VIP", false), ("Proxy", true)]),
        None => Some(false),
    };
    let check = fields.and_then(|fields| fields.get("healthCheck"));
    let health_check = match &check {
        Some(field) => health_check(field)?,
        None => CheckSettings::default(),
    };
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(BalancerSettings {
        product: product?,
        controller_latency: controller_latency?,
        in_batches: in_batches?,
        call_latency: call_latency?,
        throttled_ppm: parts_per_million(throttled?),
        tls_round_trips: tls_round_trips?,
        names: names?,
        health_check,
        without_drain: without_drain?,
        is_proxy_mode: is_proxy_mode?,
    })
}

/// A share of one in whole parts per million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
fn parts_per_million(share: f64) -> u32 {
    (share * 1_000_000.0).round() as u32
}

/// How soon a name server knows of a dead address, and for how long clients keep its answers.
fn names(field: &Field<'_>) -> Option<NameSpec> {
    let fields = field.fields()?;
    let probing = fields.get("probing").map_or(Some(defaults::NAME_PROBING), |field| field.duration());
    let ttl = fields.get("ttl").map_or(Some(defaults::NAME_TTL), |field| field.duration());
    fields.finish();
    Some(NameSpec { probing: probing?, ttl: ttl? })
}

fn health_check(field: &Field<'_>) -> Option<CheckSettings> {
    let fields = field.fields()?;
    let span = |key: &str| fields.get(key).map(|field| field.positive_duration());
    let count = |key: &str| fields.get(key).map(|field| field.whole::<u32>(1, 10));
    let (interval, timeout) = (span("interval"), span("timeout"));
    let (healthy, unhealthy) = (count("healthyThreshold"), count("unhealthyThreshold"));
    fields.finish();
    // Inside: written and wrong. That is told already, and no scenario comes of it.
    Some(CheckSettings {
        interval: interval.flatten(),
        timeout: timeout.flatten(),
        healthy_threshold: healthy.flatten(),
        unhealthy_threshold: unhealthy.flatten(),
    })
}

fn gateway(field: Option<&Field<'_>>) -> Option<GatewaySettings> {
    let fields = field.and_then(Field::fields);
    let fields = fields.as_ref();
    let kind = gateway_kind::read(fields);
    let editions =
        [("standard", Edition::Standard), ("enterprise", Edition::Enterprise), ("ultimate", Edition::Ultimate)];
    let edition = match fields.and_then(|fields| fields.get("edition")) {
        Some(field) => field.choice(&editions),
        None => Some(Edition::Enterprise),
    };
    let istio = match fields.and_then(|fields| fields.get("istio")) {
        Some(field) => field.text().and_then(|text| version(&field, text)),
        None => Some(defaults::ISTIO.to_owned()),
    };
    let drain_field = fields.and_then(|fields| fields.get("terminationDrainDuration"));
    let termination_drain = match drain_field {
        Some(field) => field.duration().map(|span| (span, field.place())),
        None => Some((defaults::TERMINATION_DRAIN, Place::NOWHERE)),
    };
    let drain_duration = match fields.and_then(|fields| fields.get("drainDuration")) {
        Some(field) => field.duration().map(|span| (span, field.place())),
        None => Some((defaults::DRAIN_DURATION, Place::NOWHERE)),
    };
    let strategy = match fields.and_then(|fields| fields.get("drainStrategy")) {
        Some(field) => field.choice(&DRAIN_STRATEGIES),
        None => Some(defaults::DRAIN.strategy),
    };
    let drain_timeout = span(fields, "drainTimeout", defaults::DRAIN.timeout);
    let delayed_close = span(fields, "delayedCloseTimeout", defaults::DRAIN.delayed_close);
    let cpu_per_request = span(fields, "cpuPerRequest", defaults::CPU_PER_REQUEST);
    let cpu_per_connection = span(fields, "cpuPerConnection", defaults::CPU_PER_CONNECTION);
    let exit_delay = delay(fields, "exitDelay", defaults::EXIT_DELAY);
    let memory = autoscaling::read_memory(fields);
    let replicas_sync = match fields.and_then(|fields| fields.get("replicasSync")) {
        Some(field) => field.positive_duration(),
        None => Some(defaults::REPLICAS_SYNC),
    };
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(GatewaySettings {
        kind: kind?,
        istio: istio?,
        edition: edition?,
        termination_drain: termination_drain?,
        drain_duration: drain_duration?,
        drain: DrainTimers { strategy: strategy?, timeout: drain_timeout?, delayed_close: delayed_close? },
        cpu_per_request: cpu_per_request?,
        cpu_per_connection: cpu_per_connection?,
        exit_delay: exit_delay?,
        memory: memory?,
        replicas_sync: replicas_sync?,
    })
}

fn backend(field: &Field<'_>) -> Option<BackendSettings> {
    let fields = field.fields()?;
    let service = fields.require("service", "name the Service: namespace/name").and_then(|field| key(&field));
    let deployment_field = fields.get("deployment");
    let deployment = match &deployment_field {
        Some(field) => Some((key(field)?, field.place())),
        None => None,
    };
    let clusters = fields.get("clusters").map(|field| field.items()).unwrap_or_default();
    let clusters = clusters.iter().filter_map(|field| Some((field.text()?.to_owned(), field.place()))).collect();
    let replicas_field = fields.get("replicas");
    if let (Some(_), Some(replicas)) = (&deployment_field, &replicas_field) {
        replicas.refuse("its Deployment says how many there are", "remove replicas, or deployment");
    }
    let replicas = replicas_field.map_or(Some(defaults::REPLICAS), |field| field.whole::<usize>(1, 4000));
    let zones_field = fields.get("zones");
    if let (Some(_), Some(zones)) = (&deployment_field, &zones_field) {
        zones.refuse("its pods are in the zones of their nodes", "remove zones, or deployment");
    }
    let zones = zones_field.map(|field| field.texts()).unwrap_or_default();
    let service_time = delay(Some(&fields), "serviceTime", defaults::SERVICE_TIME);
    let concurrency =
        fields.get("concurrency").map_or(Some(defaults::CONCURRENCY), |field| field.whole::<usize>(1, 1_000_000));
    let error_ratio = fields.get("errorRatio").map_or(Some(0.0), |field| field.ratio());
    let keep_alive = match fields.get("keepAlive") {
        Some(field) => field.duration(),
        None => Some(defaults::BACKEND_KEEP_ALIVE),
    };
    let shutdown_delay = span(Some(&fields), "shutdownDelay", Duration::ZERO);
    let cpu_per_request = match fields.get("cpuPerRequest") {
        Some(field) => Some(field.positive_duration()?),
        None => None,
    };
    let answer = fields.get("answer").map_or(Some(defaults::ANSWER_BYTES as u64), |field| field.bytes());
    fields.finish();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    let error_ppm = (error_ratio? * 1e6).round() as u32;
    Some(BackendSettings {
        service: service?,
        deployment,
        clusters,
        replicas: replicas?,
        zones,
        config: BackendConfig {
            service_time: service_time?,
            concurrency: concurrency?,
            error_ppm,
            // None closes idle connections.
            keep_alive: keep_alive.map(|span| (!span.is_zero()).then_some(span))?,
            body: BodyShape::Whole,
            body_bytes: usize::try_from(answer?).ok()?,
        },
        shutdown_delay: shutdown_delay?,
        cpu_per_request,
        at: field.place(),
    })
}

fn load(field: &Field<'_>) -> Option<LoadSettings> {
    let fields = field.fields()?;
    let name = fields.require("name", "give the load a name").and_then(|field| name(&field));
    let rate_field = fields.require("rate", "write a rate such as 600/s, or segments: [ { for: 1m, at: 600/s } ]");
    let segments = rate_field.and_then(|field| segments(&field));
    let pacing = match fields.get("arrivals") {
        Some(field) if !matches!(field.node().value, crate::manifest::Value::Map(_)) => {
            let is_poisson = field.choice(&[("poisson", true), ("constant", false)]);
            is_poisson.map(|is_poisson| if is_poisson { Pacing::Poisson } else { Pacing::Constant })
        }
        Some(field) => {
            field.refuse("bursts and replays are not simulated yet", "write poisson or constant");
            None
        }
        None => Some(Pacing::Poisson),
    };
    let clients_field = fields.get("clients");
    let clients = clients_field.as_ref().and_then(|field| field.fields());
    let clients = clients.as_ref();
    let get = |key: &str| clients.and_then(|fields| fields.get(key));
    let connections =
        get("connections").map_or(Some(defaults::CONNECTIONS), |field| field.whole::<usize>(1, 1_000_000));
    let reuse = get("reuse").map_or(Some(Reuse::MostRecent), |field| {
        field.choice(&[("mru", Reuse::MostRecent), ("lru", Reuse::LeastRecent), ("none", Reuse::Never)])
    });
    if let Some(field) = get("protocol")
        && field.scalar() != Some("http/1.1")
    {
        field.refuse("only http/1.1 is simulated yet", "write protocol: http/1.1");
    }
    let keep_alive = get("keepAlive").map_or(Some(defaults::CLIENT_KEEP_ALIVE), |field| field.duration());
    let timeout = get("timeout").map_or(Some(defaults::TIMEOUT), |field| bounded(&field, field.positive_duration()?));
    let retries = get("retries").map_or(Some(0), |field| field.whole::<u32>(0, 100));
    let rtt = get("rtt").map(|field| field.duration());
    let way = way(&get, clients_field.as_ref().unwrap_or(field).place());
    let detect_idle_close = get("detectIdleClose").map_or(Some(true), |field| field.boolean());
    let honor_connection_close = get("honorConnectionClose").map_or(Some(true), |field| field.boolean());
    if let Some(clients) = clients {
        clients.finish();
    }
    let mix_field = fields.require("mix", "say what is asked for: mix: [ { get: http://shop.example.com/ } ]");
    let mix: Vec<_> = mix_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(mix_entry).collect();
    let mix: Option<Vec<MixSettings>> = mix.into_iter().collect();
    if let (Some(field), Some(mix)) = (&mix_field, &mix)
        && mix.iter().all(|kind| kind.entry.weight == 0)
    {
        field.refuse("nothing is asked for", "write at least one request with a weight above 0");
    }
    fields.finish();
    Some(LoadSettings {
        name: name?,
        segments: segments?,
        pacing: pacing?,
        connections: connections?,
        reuse: reuse?,
        keep_alive: keep_alive.map(|span| (!span.is_zero()).then_some(span))?,
        timeout: timeout?,
        retries: retries?,
        rtt: match (rtt, &way) {
            (Some(rtt), _) => Some(rtt?),
            (None, Some(way)) if way.location == Location::Cluster => None,
            (None, _) => Some(defaults::RTT),
        },
        way: way?,
        detect_idle_close: detect_idle_close?,
        honor_connection_close: honor_connection_close?,
        mix: mix?,
    })
}

/// Where clients are, and what they dial. Whether there is such a way is judged with the Service.
fn way<'a>(get: &dyn Fn(&str) -> Option<Field<'a>>, at: Place) -> Option<WaySettings> {
    let location = get("location").map_or(Some(Location::Internet), |field| field.choice(&LOCATIONS));
    let address_field = get("address");
    let address = address_field.as_ref().map(|field| field.choice(&ADDRESSES));
    let place = address_field.as_ref().map_or(at, Field::place);
    let text = |key: &str| get(key).and_then(|field| field.text().map(str::to_owned));
    let (node, zone) = (text("node"), text("zone"));
    let address = match address {
        Some(address) => Some(address?),
        None => None,
    };
    Some(WaySettings { location: location?, address, node, zone, at: place })
}

/// Where clients can be.
pub(super) const LOCATIONS: [(&str, Location); 2] = [("internet", Location::Internet), ("cluster", Location::Cluster)];
/// What they can dial.
pub(super) const ADDRESSES: [(&str, Address); 3] =
    [("loadBalancer", Address::LoadBalancer), ("nodePort", Address::NodePort), ("clusterIP", Address::ClusterIp)];

pub(super) fn name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let is_name =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    if !is_name {
        field.refuse(format!("`{text}` is not a name"), "use letters, digits, dashes and dots");
    }
    is_name.then(|| text.to_owned())
}

/// One figure, or segments. A single figure holds for as long as the run lasts.
fn segments(field: &Field<'_>) -> Option<Vec<RateSegment>> {
    let always = Duration::from_secs(u64::from(u32::MAX));
    if !matches!(field.node().value, crate::manifest::Value::List(_)) {
        // Nothing has no unit.
        let rate = if field.node().text() == Some("0") { 0.0 } else { bounded_rate(field)? };
        if rate <= 0.0 {
            field.refuse("a rate of 0 asks for nothing", "write a rate above 0, or take the load out");
            return None;
        }
        return Some(vec![RateSegment { duration: always, from_per_s: rate, to_per_s: rate }]);
    }
    let segments: Vec<_> = field.items().iter().map(segment).collect();
    let segments: Vec<RateSegment> = segments.into_iter().collect::<Option<_>>()?;
    if segments.iter().all(|segment| segment.from_per_s <= 0.0 && segment.to_per_s <= 0.0) {
        field.refuse("a rate of 0 asks for nothing", "write at least one segment with a rate above 0");
        return None;
    }
    Some(segments)
}

fn bounded_rate(field: &Field<'_>) -> Option<f64> {
    let rate = field.rate()?;
    if rate > RATE_MAX {
        field.refuse("this is more than a drill can ask", format!("write at most {RATE_MAX}/s"));
    }
    (rate <= RATE_MAX).then_some(rate)
}

fn segment(field: &Field<'_>) -> Option<RateSegment> {
    let fields = field.fields()?;
    let duration =
        fields.require("for", "write how long it lasts: for: 1m").and_then(|field| field.positive_duration());
    let rate = |key: &str| fields.get(key).map(|field| bounded_rate(&field));
    let (at, from, to) = (rate("at"), rate("from"), rate("to"));
    fields.finish();
    let (from_per_s, to_per_s) = match (at, from, to) {
        (Some(at), None, None) => (at?, at?),
        (None, Some(from), Some(to)) => (from?, to?),
        _ => {
            field.refuse(
                "this is no rate over time",
                "write { for: 1m, at: 600/s } or { for: 1m, from: 100/s, to: 600/s }",
            );
            return None;
        }
    };
    Some(RateSegment { duration: duration?, from_per_s, to_per_s })
}

const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

fn mix_entry(field: &Field<'_>) -> Option<MixSettings> {
    let fields = field.fields()?;
    let weight = fields.get("weight").map_or(Some(1), |field| field.whole::<u32>(0, 1_000_000));
    let asked: Vec<(&str, Field<'_>)> =
        METHODS.into_iter().filter_map(|method| Some((method, fields.get(method)?))).collect();
    let body = fields.get("body").map_or(Some(0), |field| field.bytes());
    let headers = fields.get("headers").map(|field| headers(&field)).unwrap_or_default();
    let before = field.sink().problem_count();
    fields.finish();
    let (method, url_field) = match &asked[..] {
        [(method, url)] => (*method, url),
        // A slip in the method's name was told.
        [] if field.sink().problem_count() > before => return None,
        [] => {
            field.refuse("it names no URL", "write a method and a URL, such as get: http://shop.example.com/");
            return None;
        }
        _ => {
            field.refuse("it names more than one URL", "write one entry for each");
            return None;
        }
    };
    if method == "head" {
        url_field.refuse("HEAD is not simulated yet", "write get");
        return None;
    }
    let (host, port, path) = url(url_field)?;
    let entry = MixEntry {
        weight: weight?,
        method: method.to_ascii_uppercase(),
        url: url_field.text()?.to_owned(),
        host,
        port,
        tls_round_trips: 0,
        path,
        headers,
        body_bytes: usize::try_from(body?).ok()?,
    };
    Some(MixSettings { entry, at: url_field.place() })
}

fn headers(field: &Field<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in field.map() {
        let Some(text) = value.text() else { continue };
        let is_name = http::HeaderName::try_from(name).is_ok();
        if !is_name || http::HeaderValue::try_from(text).is_err() {
            value.refuse(format!("`{name}: {text}` is no header"), "write a name and a value in plain letters");
        } else if ["host", "content-length", "connection", "transfer-encoding", "x-request-id"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            value.refuse(format!("`{name}` is written by the client itself"), "take it out");
        } else {
            headers.push((name.to_ascii_lowercase(), text.to_owned()));
        }
    }
    headers
}

fn url(field: &Field<'_>) -> Option<(String, u16, String)> {
    let text = field.text()?;
    let usual = if text.starts_with("https://") { 443 } else { 80 };
    let uri = text.parse::<http::Uri>().ok().filter(|_| usual == 443 || text.starts_with("http://"));
    let found =
        uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port_u16().unwrap_or(usual), uri.path_and_query()?)));
    let Some((host, port, path)) = found else {
        field.refuse(format!("`{text}` is not a URL"), "write http://host/path");
        return None;
    };
    let host = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
    Some((host, port, path.to_string()))
}

fn read_slo(field: &Field<'_>) -> Option<SloSettings> {
    let fields = field.fields()?;
    let expr_field = fields.require("expr", "write what must hold: expr: 'dropped_ratio <= 0.01%'");
    let name = fields.get("name").and_then(|field| field.text()).map(str::to_owned);
    let level = fields
        .get("level")
        .map_or(Some(Level::Error), |field| field.choice(&[("error", Level::Error), ("warn", Level::Warn)]));
    let over = fields.get("over").map_or(Some(Over::Worst), |field| {
        field.choice(&[("worst", Over::Worst), ("p95", Over::P95), ("mean", Over::Mean)])
    });
    fields.finish();
    let expr_field = expr_field?;
    let expr = expr_field.text()?.to_owned();
    let condition = match slo::parse(&expr) {
        Ok(condition) => condition,
        Err(wrong) => {
            expr_field.refuse(wrong.text, wrong.help);
            return None;
        }
    };
    Some(SloSettings { name: name.unwrap_or_else(|| expr.clone()), expr, condition, level: level?, over: over? })
}

/// Reads the variants.
pub(super) fn variants(field: &Field<'_>) -> Vec<Variant> {
    let mut variants = Vec::new();
    for (name, inner) in field.map() {
        let Some(fields) = inner.fields() else { continue };
        let set = fields.get("set").map(|field| field.map()).unwrap_or_default();
        let set = set.into_iter().map(|(path, value)| (path.to_owned(), value.place(), value.node().clone())).collect();
        fields.allow(&["description"]);
        fields.finish();
        variants.push(Variant { name: name.to_owned(), set });
    }
    variants
}

/// Checks what names other parts: phases and loads of SLOs.
pub(super) fn check_references(settings: &Settings, timeline: &[TimelineEntry], slo_places: &[Place], sink: &Sink) {
    let mut phases = vec!["before", "after"];
    phases.extend(timeline.iter().map(|entry| entry.phase.as_str()));
    let loads: Vec<&str> = settings.loads.iter().map(|load| load.name.as_str()).collect();
    for (slo, place) in settings.slos.iter().zip(slo_places) {
        let named = [("phase", &slo.condition.phase, &phases), ("load", &slo.condition.load, &loads)];
        for (what, name, known) in named {
            if let Some(name) = name
                && !known.contains(&name.as_str())
            {
                let problem = crate::manifest::Problem::at(*place, "spec.slo", format!("no {what} is called `{name}`"));
                sink.report(problem.did_you_mean(name, known.iter().copied()));
            }
        }
    }
}
