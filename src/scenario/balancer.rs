//! The target's Service and its annotations into the load balancer's settings, as Alibaba's controller reads them.
//!
//! - `loadBalancerClass: alibabacloud.com/nlb` makes an NLB, none a CLB. Scheduler: CLB `rr`, NLB `wrr`, or what is written. Health check: on, TCP; CLB every 2 s
//!   with 5 s of patience and 3/3, NLB every 10 s with 5 s and 2/2. A check's timeout below its interval counts as the interval (CLB).
//! - Backends: pods if `backend-type: eni` (the default on ACK with Terway), else nodes: those with a pod for policy `Local`, all for `Cluster`.
//!   With pods as backends the policy has no effect.
//! - `connection-drain: on` keeps connections of a removed or failing target for `connection-drain-timeout` (10 to 900 s). Only `on` counts.
//!   Off: what happens to open connections is not documented; the assumption is that they are cut at once (`loadBalancer.withoutDrain`).
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service; CLB and NLB documents on listeners and server groups.

mod capacity;
mod http;
pub(super) mod listeners;
mod probe;
pub(super) mod products;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::settings::{CheckSettings, Settings, WithoutDrain};
use super::sharing;
use super::state::Resolved;
use crate::edge::balancer::{BalancerConfig, OnRemoval};
use crate::edge::readiness_gate::condition_of;
use crate::edge::{
    BackendMode, Calls, Eligibility, HealthCheck, HttpRules, LoadBalancerConfig, NodeReach, Pace, Scheduler, Spacing,
    TargetRules, TrafficPolicy, Ways,
};
use crate::manifest::service::{BACKEND_TYPE, CLASS, NLB, ServiceManifest};
use crate::manifest::{Place, Problem, Sink};
use crate::record::CauseCode;
use crate::record::results::FidelityStatus;

/// Source: NLB documents, server group health check.
const NLB_CHECK: HealthCheck = HealthCheck {
    interval: Duration::from_secs(10),
    spacing: Spacing::Ends,
    timeout: Duration::from_secs(5),
    healthy_threshold: 2,
    unhealthy_threshold: 2,
};
/// Source: CLB documents, health check of a TCP listener as the controller creates it.
const CLB_CHECK: HealthCheck = HealthCheck {
    interval: Duration::from_secs(2),
    spacing: Spacing::Ends,
    timeout: Duration::from_secs(5),
    healthy_threshold: 3,
    unhealthy_threshold: 3,
};
/// Source: cloud-provider-alibaba-cloud, `default-weight`.
const WEIGHT: u64 = 100;

struct Annotations<'a> {
    service: &'a ServiceManifest,
    /// An `IstioGateway` makes the Service: its fields have other names.
    is_made: bool,
    sink: &'a Sink,
}

impl Annotations<'_> {
    fn text(&self, suffix: &str) -> Option<&str> {
        self.service.balancer_annotation(suffix).map(|(text, _)| text.as_str())
    }

    fn refuse(&self, suffix: &str, text: String, help: &str) {
        let (place, path) = self.place_and_path(suffix);
        self.sink.report(Problem::at(place, path, text).help(help));
    }

    /// The controller takes it, but hardly as it is meant.
    fn warn(&self, suffix: &str, text: &str) {
        let (place, path) = self.place_and_path(suffix);
        self.sink.note(place, path, FidelityStatus::Warning, Some(text));
    }

    /// The path of an annotation by its whole name.
    fn path(&self, name: &str) -> String {
        let parent = if self.is_made { "spec.serviceAnnotations" } else { "metadata.annotations" };
        format!("{parent}[{name}]")
    }

    fn place_and_path(&self, suffix: &str) -> (Place, String) {
        let place = self.service.balancer_annotation(suffix).map_or(self.service.annotations_at, |(_, place)| *place);
        (place, self.path(&self.service.written_name(suffix)))
    }

    /// Whole seconds or a count within a range.
    fn number(&self, suffix: &str, least: u64, most: u64, usual: u64) -> u64 {
        let Some(text) = self.text(suffix) else { return usual };
        match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.refuse(
                    suffix,
                    format!("`{text}` is no number from {least} to {most}"),
                    &format!("write \"{usual}\", for example"),
                );
                usual
            }
        }
    }

    fn is_on(&self, suffix: &str, usual: bool) -> bool {
        self.service.is_on(suffix).unwrap_or(usual)
    }
}

/// Nobody makes a balancer of another class, nor one that the older annotation leaves to another controller.
fn check_class(service: &ServiceManifest, path: impl Fn(&str) -> String, sink: &Sink) -> Option<()> {
    if let Some((other, at)) = service.other_controller() {
        let text = format!("no controller of this cluster handles `{other}`: the balancer stays pending for ever");
        sink.report(Problem::at(*at, path(CLASS), text).help("take it out for a CLB"));
        return None;
    }
    let Some((other, at)) = service.load_balancer_class.as_ref().filter(|(class, _)| class != NLB) else {
        return Some(());
    };
    let text = format!("no controller of this cluster handles `{other}`: the balancer stays pending for ever");
    let help = format!("write {NLB}, or leave it out for a CLB, or choose the loadBalancer.profile of another cloud");
    sink.report(Problem::at(*at, "spec.loadBalancerClass", text).help(help));
    None
}

/// The balancer in front of the target.
pub(super) fn config(
    resolved: &Resolved,
    settings: &Settings,
    (ports, node_ports): (BTreeMap<u16, u16>, BTreeMap<u16, u16>),
    sink: &Sink,
) -> Option<LoadBalancerConfig> {
    let service = resolved.front()?;
    let origin = &resolved.origin.id;
    let is_made =
        origin.kind == "IstioGateway" && *service.service.key == *format!("{}/istio-{}", origin.namespace, origin.name);
    let annotations = Annotations { service, is_made, sink };
    let product = &settings.balancer.product;
    if let Some(profile) = product.profile(service.policy) {
        return products::config(resolved, settings, (&annotations, profile), (ports, node_ports));
    }
    products::note_aws_elsewhere(&annotations, product.product);
    check_class(service, |name| annotations.path(name), sink)?;
    let is_nlb = is_nlb(service);
    if let Some((suffix, reason)) = trouble(service) {
        let usual = if suffix == "zone-maps" { "zone-a:vsw-…,zone-b:vsw-…" } else { "on" };
        annotations.warn(suffix, &format!("{reason}: no NLB is created; write \"{usual}\""));
    }
    let removal = on_removal(&annotations, is_nlb, settings.balancer.without_drain);
    rules::check_values(&annotations, is_nlb);
    let plain: Vec<u16> = resolved.routing.listeners.iter().map(|(bound, _)| *bound).collect();
    let listeners = listeners::read(&annotations, &ports, &plain);
    listeners::note(&listeners, ports.len(), &annotations);
    let http = match is_nlb {
        true => BTreeMap::new(),
        false => http::rules(&annotations, &listeners, settings.balancer.target_keep_alive),
    };
    if !is_nlb {
        http::warn(&annotations, &http, settings);
    }
    let checks_http = !http.is_empty() && http.len() >= ports.len();
    let is_read = checks_http && annotations.is_on("health-check-flag", false);
    if !is_nlb && !is_read {
        // Nothing is checked with it, but the controller hands it on.
        annotations.number("health-check-timeout", 1, 300, 5);
    }
    let kind = if is_nlb { CheckKind::Nlb } else { CheckKind::of_clb(checks_http) };
    let check = health_check(&annotations, kind, settings.balancer.health_check);
    let scheduler = scheduler(&annotations, is_nlb);
    let mode = if service.reaches_pods() { BackendMode::Pods } else { BackendMode::Nodes(service.policy) };
    check_node_ports(service, mode, (&ports, &node_ports), sink);
    rules::warn(&annotations, is_nlb, mode, scheduler);
    rules::warn_http(&annotations, listeners::has_http(&listeners));
    let is_cross_zone = !is_nlb || crosses_zones(&annotations, settings);
    if sharing::writes_listeners(service) {
        rules::check_listeners(service, sink);
    }
    let targets = target_count(resolved, settings, mode)?;
    let replicas = (mode == BackendMode::Pods).then(|| replicas_at(resolved));
    rules::check_quota(&annotations, is_nlb, targets, replicas);
    let asked = probe::Asked { mode, is_nlb, is_proxy: checks_http, is_checked: check.is_some() };
    let probe = probe::read(&annotations, asked, (&ports, &node_ports), &probe::listened(resolved, settings))?;
    Some(LoadBalancerConfig {
        identity: settings.cluster.identity.clone(),
        service: service.service.key.to_string(),
        balancer: BalancerConfig {
            scheduler,
            persistence: capacity::persistence(&annotations, is_nlb),
            health_check: check,
            first_passes: None,
            on_deregister: removal,
            on_unhealthy: if matches!(removal, OnRemoval::CutAfter(span) if !span.is_zero()) {
                removal
            } else {
                OnRemoval::Keep
            },
            slow_start: None,
            fail_open: is_nlb,
            groups: if is_cross_zone { 1 } else { zones(service).len().max(1) },
        },
        limits: capacity::limits(&annotations, is_nlb, listeners::has_http(&listeners)),
        zones: if is_nlb { zones(service) } else { Vec::new() },
        is_cross_zone,
        idle: Some(capacity::idle(&annotations, is_nlb)),
        targets: TargetRules {
            mode,
            weight: u32::try_from(annotations.number("default-weight", 0, 100, WEIGHT)).unwrap_or(u32::MAX),
            is_gentle: rules::is_gentle(&annotations),
            keeps_weights: annotations.is_on("ignore-weight-update", false),
            quota: Some(rules::quota(is_nlb)),
            nodes: Eligibility {
                labels: rules::backend_label(&annotations),
                leaves_out_cordoned: annotations.is_on("remove-unscheduled-backend", false),
            },
            reach: NodeReach::WithPods,
        },
        pace: pace(settings, is_nlb),
        probe,
        ways: Ways::at_once(condition_of(&service.service.key)),
        register_latency: settings.balancer.controller_latency.clone(),
        deregister_latency: settings.balancer.controller_latency.clone(),
        ports,
        node_ports: if mode == BackendMode::Pods { BTreeMap::new() } else { node_ports },
        http,
        first_probe: None,
        stands_at_zero: true,
    })
}

/// Nodes that are targets have a port for each of the Service's.
fn check_node_ports(
    service: &ServiceManifest,
    mode: BackendMode,
    (ports, node_ports): (&BTreeMap<u16, u16>, &BTreeMap<u16, u16>),
    sink: &Sink,
) {
    if mode != BackendMode::Pods && ports.keys().any(|port| !node_ports.contains_key(port)) {
        let problem = Problem::at(
            service.kind_at,
            "spec.allocateLoadBalancerNodePorts",
            "nodes are the balancer's targets, and have no port",
        );
        sink.report(problem.help(format!("take it out, or write {BACKEND_TYPE}: eni for pods as targets")));
    }
}

/// The listeners for HTTP of a Service that shares a balancer.
pub(super) fn http_rules(service: &ServiceManifest, settings: &Settings, sink: &Sink) -> BTreeMap<u16, Rc<HttpRules>> {
    let annotations = Annotations { service, is_made: false, sink };
    let listeners = if is_nlb(service) { BTreeMap::new() } else { listeners::written(service) };
    http::rules(&annotations, &listeners, settings.balancer.target_keep_alive)
}

/// How it chooses targets. Words that are none of these are refused elsewhere.
fn scheduler(annotations: &Annotations<'_>, is_nlb: bool) -> Scheduler {
    // An NLB's API has spellings of its own, and takes the annotation's too.
    match annotations.text("scheduler").map(str::to_ascii_lowercase).as_deref() {
        None if is_nlb => Scheduler::WeightedRoundRobin,
        Some("wrr" | "qch") => Scheduler::WeightedRoundRobin,
        Some("wlc") => Scheduler::WeightedLeastConnections,
        Some("sch") => Scheduler::SourceHash,
        Some("tch") => Scheduler::FlowHash,
        _ => Scheduler::RoundRobin,
    }
}

/// How its controller carries changes out.
fn pace(settings: &Settings, is_nlb: bool) -> Pace {
    let balancer = &settings.balancer;
    if !balancer.in_batches {
        return Pace::Each;
    }
    let calls = if is_nlb { Calls::Jobs } else { Calls::Synchronous };
    Pace::Batches { calls, further: balancer.call_latency, throttled_ppm: balancer.throttled_ppm }
}

/// Whether a Service's balancer is an NLB.
pub(super) fn is_nlb(service: &ServiceManifest) -> bool {
    service.is_nlb()
}

/// How many targets it has at least, as far as the manifests say it.
pub(super) fn target_count(resolved: &Resolved, settings: &Settings, mode: BackendMode) -> Option<usize> {
    Some(match mode {
        BackendMode::Pods => {
            resolved.gateways().map(|(gateway, _)| super::nodes::pods_of(&gateway.workload, resolved, settings)).sum()
        }
        BackendMode::Nodes(TrafficPolicy::Cluster) => nodes(settings).count(),
        BackendMode::Nodes(TrafficPolicy::Local) => 0,
    })
}

/// Where the number of the gateway's pods is written, or would be.
fn replicas_at(resolved: &Resolved) -> (Place, String) {
    let origin = &resolved.origin;
    let key = if origin.id.kind == "IstioGateway" { "replicaCount" } else { "replicas" };
    let place =
        origin.node.find(&["spec", key]).or_else(|| origin.node.find(&["spec"])).map_or(origin.place(), |it| it.at);
    (place, format!("spec.{key}"))
}

/// All nodes by name, with their number.
pub(super) fn nodes(settings: &Settings) -> impl Iterator<Item = (Rc<str>, usize)> + '_ {
    let names = settings
        .cluster
        .nodes
        .iter()
        .flat_map(|group| (0..group.count).map(move |index| Rc::from(format!("{}-{}", group.name, index + 1))));
    names.enumerate().map(|(index, name)| (name, index))
}

/// The annotations behind causes of loss: where each stands or would, its path by its last part, its value.
pub(super) fn sources(
    service: &ServiceManifest,
    path: impl Fn(&str) -> String,
) -> Vec<(CauseCode, Place, String, Option<String>)> {
    let is_nlb = is_nlb(service);
    let first_of = |code: CauseCode, suffixes: &[&str]| {
        let mut written = suffixes.iter().filter_map(|suffix| Some((*suffix, service.balancer_annotation(suffix)?)));
        match written.next() {
            Some((suffix, (text, place))) => (code, *place, path(suffix), Some(text.clone())),
            None => (code, service.annotations_at, path(suffixes[0]), None),
        }
    };
    // The one that decides is told first: the timeout of a draining that is on, or the switch.
    let is_on = service.is_on("connection-drain") == Some(true);
    let mut draining = ["connection-drain-timeout", "connection-drain"];
    if !is_on {
        draining.reverse();
    }
    let is_proxy = listeners::has_http(&listeners::written(service));
    let silence: &[&str] = if is_nlb || is_proxy { &["idle-timeout"] } else { &["established-timeout"] };
    let asks_http =
        |suffix: &&str| service.balancer_annotation(suffix).is_some_and(|(text, _)| text.eq_ignore_ascii_case("http"));
    let checks: &[&str] = match ["health-check-type"].iter().any(asks_http) {
        true => &["health-check-type"],
        false => &["health-check-interval", "healthy-threshold", "health-check-flag"],
    };
    let mut found = vec![
        first_of(CauseCode::LbTargetUnchecked, checks),
        first_of(CauseCode::LbCutConnection, &draining),
        first_of(CauseCode::LbLimit, if is_nlb { &["cps", "zone-maps"] } else { &["spec", "instance-charge-type"] }),
        first_of(CauseCode::LbQueryLimit, &["spec", "instance-charge-type"]),
        first_of(CauseCode::LbRequestTimeout, &["request-timeout"]),
        first_of(CauseCode::IdleTimeout, silence),
        first_of(CauseCode::LbZoneLost, &["zone-maps"]),
        first_of(CauseCode::LbCheckFails, &probe::SUFFIXES),
    ];
    let weighs_nothing = service.balancer_annotation("default-weight").is_some_and(|(text, _)| text == "0");
    let who =
        ["default-weight", "backend-label"].into_iter().filter(|suffix| *suffix != "default-weight" || weighs_nothing);
    let mut written = who.filter(|suffix| service.balancer_annotation(suffix).is_some());
    found.extend(written.next().map(|suffix| first_of(CauseCode::LbNoTarget, &[suffix])));
    found
}

/// The zones of an NLB: `zone:vswitch,zone:vswitch`.
pub(super) fn zones(service: &ServiceManifest) -> Vec<Rc<str>> {
    service.balancer_annotation("zone-maps").map(|(text, _)| zone_names(text)).unwrap_or_default()
}

/// The zones that such a text names.
pub(super) fn zone_names(text: &str) -> Vec<Rc<str>> {
    text.split(',').filter_map(|part| Some(Rc::from(part.split_once(':')?.0.trim()))).collect()
}

/// Why an NLB is not created, and the annotation that is to blame: in the words of its controller, which makes nothing of what it cannot read, or for the
/// cloud's API, which makes none in one zone. A balancer that is reused has its zones.
pub(super) fn trouble(service: &ServiceManifest) -> Option<(&'static str, String)> {
    zones_trouble(service)
        .map(|reason| ("zone-maps", reason))
        .or_else(|| cross_zone_trouble(service).map(|reason| ("cross-zone-enabled", reason)))
}

/// Why the controller cannot read whether zones are crossed. It reads all of the balancer or nothing.
///
/// Source: cloud-provider-alibaba-cloud pkg/controller/service/nlbv2/loadbalancer.go (`BuildLocalModel`, of 2026; older ones do not know the annotation).
pub(super) fn cross_zone_trouble(service: &ServiceManifest) -> Option<String> {
    let (text, _) = service.balancer_annotation("cross-zone-enabled").filter(|_| is_nlb(service))?;
    let is_known = ["on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    (!is_known).then(|| format!("ParameterInvalid, cross zone enabled flag error: {text}"))
}

fn zones_trouble(service: &ServiceManifest) -> Option<String> {
    let is_reused = service.balancer_annotation("id").is_some();
    let Some((text, _)) = service.balancer_annotation("zone-maps").filter(|_| is_nlb(service)) else {
        let is_missing = is_nlb(service) && !is_reused;
        return is_missing.then(|| "ParameterMissing, zone mappings are required".to_owned());
    };
    if text.split(',').any(|part| !part.contains(':')) {
        return Some(format!("ZoneMapping format error, expect [zone-a:vsw-id-1,zone-b:vsw-id-2], got {text}"));
    }
    // The controller hands these on as they are, spaces and all.
    for part in text.split(',') {
        let mut words = part.split(':');
        let (zone, switch) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if zone.is_empty() || switch.is_empty() || part.contains(char::is_whitespace) {
            return Some(format!("create nlb error: `{part}` is no zone with its vSwitch"));
        }
    }
    let distinct: BTreeSet<Rc<str>> = zones(service).into_iter().collect();
    if distinct.len() < 2 && !is_reused {
        return Some("create nlb error: an NLB needs two zones".to_owned());
    }
    let named = zones(service);
    if let Some(zone) = named.iter().enumerate().find_map(|(at, zone)| named[..at].contains(zone).then_some(zone)) {
        return Some(format!("create nlb error: zone {zone} stands twice"));
    }
    None
}

/// Whether each address of an NLB sends to targets of all zones. What holds where nobody writes it is an assumption.
fn crosses_zones(annotations: &Annotations<'_>, settings: &Settings) -> bool {
    let is_cross_zone = annotations.text("cross-zone-enabled").is_none_or(|text| !text.eq_ignore_ascii_case("off"));
    let zones = zones(annotations.service);
    let has_nodes = |zone: &Rc<str>| {
        settings.cluster.nodes.iter().any(|group| group.count > 0 && group.zones.iter().any(|it| **it == **zone))
    };
    if !is_cross_zone && !zones.is_empty() && !zones.iter().any(has_nodes) {
        let text =
            "without cross-zone balancing an address sends to its own zone only, and no node is in one of these zones";
        annotations.refuse(
            "zone-maps",
            text.to_owned(),
            "name the zones of cluster.nodes, or write cross-zone-enabled: \"on\"",
        );
    }
    is_cross_zone
}

/// Whose health check it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CheckKind {
    Nlb,
    /// Of a CLB's listeners for TCP.
    Clb,
    /// Of a CLB's listeners for HTTP, where it has no others.
    ClbHttp,
}

impl CheckKind {
    fn of_clb(checks_http: bool) -> Self {
        if checks_http { Self::ClbHttp } else { Self::Clb }
    }

    /// What switches it on or off, and which of both it is where nobody does.
    fn switch(self) -> (&'static str, bool) {
        match self {
            Self::Nlb => ("health-check-flag", true),
            Self::Clb => ("health-check-switch", true),
            Self::ClbHttp => ("health-check-flag", false),
        }
    }
}

fn health_check(annotations: &Annotations<'_>, kind: CheckKind, written: CheckSettings) -> Option<HealthCheck> {
    let (is_nlb, (switch, usually)) = (kind == CheckKind::Nlb, kind.switch());
    if !annotations.is_on(switch, usually) {
        return None;
    }
    let of_product = if is_nlb { NLB_CHECK } else { CLB_CHECK };
    let usual = HealthCheck {
        interval: written.interval.unwrap_or(of_product.interval),
        spacing: of_product.spacing,
        timeout: written.timeout.unwrap_or(of_product.timeout),
        healthy_threshold: written.healthy_threshold.unwrap_or(of_product.healthy_threshold),
        unhealthy_threshold: written.unhealthy_threshold.unwrap_or(of_product.unhealthy_threshold),
    };
    // An NLB's options are read only if its flag is written.
    let reads_options = !is_nlb || annotations.text(switch).is_some();
    if !reads_options {
        return Some(usual);
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    // What is not written stays as it is, to the millisecond.
    let seconds = |suffix: &str, least: u64, most: u64, usual: Duration| match annotations.text(suffix) {
        Some(_) => Duration::from_secs(annotations.number(suffix, least, most, usual.as_secs().max(least))),
        None => usual,
    };
    let (least, most) = if is_nlb { (5, 5000) } else { (1, 50) };
    let interval = seconds("health-check-interval", least, most, usual.interval);
    let patience = if kind == CheckKind::ClbHttp { "health-check-timeout" } else { "health-check-connect-timeout" };
    let timeout = seconds(patience, 1, 300, usual.timeout);
    if !is_nlb && timeout < interval {
        let whole = interval.as_secs();
        match (annotations.text(patience), annotations.text("health-check-interval")) {
            (Some(_), _) => {
                annotations.warn(patience, &format!("it is below the interval, so the interval counts: {whole} s"));
            }
            (None, Some(_)) => {
                let text =
                    format!("the check waits for {} s, less than this, so this counts: {whole} s", timeout.as_secs());
                annotations.warn("health-check-interval", &text);
            }
            (None, None) => {}
        }
    }
    let count = |suffix: &str, usual: u32| match annotations.text(suffix) {
        Some(_) => small(annotations.number(suffix, 2, 10, u64::from(usual.max(2)))),
        None => usual,
    };
    Some(HealthCheck {
        interval,
        spacing: usual.spacing,
        timeout: if is_nlb { timeout } else { timeout.max(interval) },
        healthy_threshold: count("healthy-threshold", usual.healthy_threshold),
        unhealthy_threshold: count("unhealthy-threshold", usual.unhealthy_threshold),
    })
}

fn on_removal(annotations: &Annotations<'_>, is_nlb: bool, without_drain: WithoutDrain) -> OnRemoval {
    if !drains(annotations, is_nlb) {
        return match without_drain {
            WithoutDrain::Cut => OnRemoval::CutAfter(Duration::ZERO),
            WithoutDrain::Keep => OnRemoval::Keep,
        };
    }
    if annotations.text("connection-drain-timeout").is_none() && is_nlb {
        let text =
            "draining is on without connection-drain-timeout: the controller sends 0 s, which is taken for none at all";
        annotations.warn("connection-drain", text);
        return OnRemoval::CutAfter(Duration::ZERO);
    }
    if annotations.text("connection-drain-timeout").is_none() {
        annotations.refuse(
            "connection-drain-timeout",
            "connection draining is on, and its timeout is missing: the API rejects that".to_owned(),
            "write 10 to 900 seconds in quotes, such as \"30\"",
        );
    }
    OnRemoval::CutAfter(Duration::from_secs(annotations.number("connection-drain-timeout", 10, 900, 30)))
}

/// Whether connections are drained. What an NLB's annotation says but `on` is taken for off; a CLB's goes to the API as it stands.
fn drains(annotations: &Annotations<'_>, is_nlb: bool) -> bool {
    match annotations.text("connection-drain") {
        None | Some("off") => false,
        Some(_) if annotations.is_on("connection-drain", false) => true,
        Some(_) if is_nlb => false,
        Some(other) => {
            annotations.refuse(
                "connection-drain",
                format!("`{other}` is neither on nor off: the API rejects it"),
                "write \"on\" or \"off\" in quotes",
            );
            false
        }
    }
}
