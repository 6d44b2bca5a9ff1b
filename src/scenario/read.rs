//! The scenario file into [`Settings`]: every key checked, every default filled in.

mod backend;
mod balancer;
mod cluster;
mod gateway;
mod load;

use std::time::Duration;

pub(super) use self::balancer::ORIGINS;
pub(super) use self::cluster::{DETECT_LOCAL, PROXY_MODES};
pub(super) use self::gateway::DRAIN_STRATEGIES;
pub(super) use self::load::{ADDRESSES, LOCATIONS};
use super::settings::{Over, Settings, SloSettings, TimelineEntry, Variant};
use super::slo;
use crate::cluster::OwnerKind;
use crate::engine::Delay;
use crate::manifest::{Field, Fields, Place, Sink};
use crate::record::results::Level;

/// Virtual time a run may last. A day of a busy gateway is more than anyone waits for.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What `spec` says, as far as it could be read.
pub(super) struct Read {
    /// None if something that objects are judged by could not be read: the target, the clusters, the gateway, the Service of a backend. Other parts that could
    /// not be read are left out, or as they are by default.
    pub(super) settings: Option<Settings>,
    /// Whether all of it could be read.
    pub(super) is_whole: bool,
    /// The Services of backends that could not be read: they are there.
    pub(super) described: Vec<String>,
}

/// Reads `spec`. The keys `manifests`, `timeline` and `variants` are left to the caller.
pub(super) fn settings(spec: &Fields<'_>) -> Read {
    let duration = spec.require("duration", "write the virtual time to measure, such as duration: 4m");
    let duration = duration.and_then(|field| bounded(&field, field.positive_duration()?));
    let warmup = spec.get("warmup").map_or(Some(Duration::ZERO), |field| bounded(&field, field.duration()?));
    let seed = spec.get("seed").map_or(Some(1), |field| field.whole::<u64>(0, i64::MAX));
    let target = match spec.get("target") {
        Some(field) => workload(&field).map(|name| Some((name, field.place()))),
        None => Some(None),
    };
    let clusters = cluster::clusters(spec);
    let balancer = balancer::balancer(spec.get("loadBalancer").as_ref());
    let balancers = spec.get("balancers").map(|field| field.items()).unwrap_or_default();
    let balancers: Vec<_> = balancers.iter().map(balancer::known_balancer).collect();
    let gateway = gateway::gateway(spec.get("gateway").as_ref());
    let backends_fields = spec.get("backends").map(|field| field.items()).unwrap_or_default();
    let backends: Vec<_> = backends_fields.iter().map(backend::backend).collect();
    let broken = backends_fields.iter().zip(&backends).filter(|(_, backend)| backend.is_none());
    let described: Option<Vec<String>> = broken.map(|(field, _)| backend::service(field)).collect();
    let loads_field =
        spec.require("load", "say who asks: load: [ { name: …, rate: 100/s, mix: [ { get: http://… } ] } ]");
    let loads: Vec<_> =
        loads_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(load::load).collect();
    if let Some(field) = &loads_field
        && loads.is_empty()
    {
        field.refuse("no load is described", "describe at least one");
    }
    load::duplicates(&loads_field.map(|field| field.items()).unwrap_or_default());
    let slos: Vec<_> = spec.get("slo").map(|field| field.items()).unwrap_or_default().iter().map(read_slo).collect();
    let is_whole = duration.is_some()
        && warmup.is_some()
        && seed.is_some()
        && balancer.is_some()
        && balancers.iter().all(Option::is_some)
        && backends.iter().all(Option::is_some)
        && loads.iter().all(Option::is_some)
        && slos.iter().all(Option::is_some);
    let legible = || {
        Some(Settings {
            duration: duration.unwrap_or(DURATION_MAX),
            warmup: warmup.unwrap_or_default(),
            seed: seed.unwrap_or(1),
            target: target?,
            cluster: clusters.as_ref()?.first()?.clone(),
            clusters: clusters?,
            balancer: balancer.or_else(|| balancer::balancer(None))?,
            balancers: balancers.into_iter().flatten().collect(),
            gateway: gateway?,
            backends: backends.into_iter().flatten().collect(),
            loads: loads.into_iter().flatten().collect(),
            slos: slos.into_iter().flatten().collect(),
        })
    };
    let settings = described.as_ref().and_then(|_| legible());
    Read { is_whole: is_whole && settings.is_some(), settings, described: described.unwrap_or_default() }
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

/// The same, or with the kind of a workload before it: `DaemonSet/namespace/name`.
pub(super) fn workload(field: &Field<'_>) -> Option<String> {
    let named = field.node().text().and_then(|text| text.split_once('/'));
    let kind = named.filter(|(first, _)| OwnerKind::ALL.iter().any(|kind| kind.name() == *first));
    match kind.map(|(kind, rest)| (kind, rest, rest.split('/').collect::<Vec<_>>())) {
        Some((kind, rest, parts)) if parts.iter().all(|part| !part.is_empty()) && parts.len() <= 2 => {
            let namespace = if parts.len() == 1 { "default/" } else { "" };
            Some(format!("{kind}/{namespace}{rest}"))
        }
        _ => key(field),
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

pub(super) fn name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let is_name =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    if !is_name {
        field.refuse(format!("`{text}` is not a name"), "use letters, digits, dashes and dots");
    }
    is_name.then(|| text.to_owned())
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
