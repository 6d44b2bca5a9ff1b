//! What a scenario says of a backend.

use std::time::Duration;

use super::{delay, key, span};
use crate::backend::{BackendConfig, BodyShape};
use crate::drill::MemoryCosts;
use crate::manifest::{Field, Sink};
use crate::scenario::disks;
use crate::scenario::settings::{BackendSettings, defaults};

/// What a pod holds of memory.
fn memory(field: &Field<'_>) -> Option<MemoryCosts> {
    let fields = field.fields()?;
    let base =
        fields.require("base", "write what a process holds by itself: base: 64MiB").and_then(|field| field.bytes());
    let size = |key: &str| fields.get(key).map_or(Some(0), |field| field.bytes());
    let (connection, request) = (size("perConnection"), size("perRequest"));
    fields.finish();
    Some(MemoryCosts { base_bytes: base?, cluster_bytes: 0, connection_bytes: connection?, request_bytes: request? })
}

/// What may name a backend's pods.
const NAMES: [&str; 3] = ["deployment", "daemonSet", "pod"];

/// The Service of a backend that could not be read.
pub(super) fn service(field: &Field<'_>) -> Option<String> {
    let quiet = Sink::default();
    key(&field.into_sink(&quiet).fields()?.look("service")?)
}

pub(super) fn backend(field: &Field<'_>) -> Option<BackendSettings> {
    let fields = field.fields()?;
    let service = fields.require("service", "name the Service: namespace/name").and_then(|field| key(&field));
    let named: Vec<(&str, Field<'_>)> = NAMES.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
    let found = |name: &str| match named.iter().find(|(known, _)| *known == name) {
        Some((_, field)) => Some(Some((key(field)?, field.place()))),
        None => Some(None),
    };
    let (deployment, daemon_set, pod) = (found("deployment"), found("daemonSet"), found("pod"));
    if let [(first, _), (second, field), ..] = &named[..] {
        let owner = if *first == "deployment" { "a Deployment's" } else { "a DaemonSet's" };
        field.refuse(
            format!("its replicas are {owner}"),
            format!("remove {second}: other pods that the Service selects serve, too"),
        );
    }
    let clusters = fields.get("clusters").map(|field| field.items()).unwrap_or_default();
    let clusters = clusters.iter().filter_map(|field| Some((field.text()?.to_owned(), field.place()))).collect();
    let replicas_field = fields.get("replicas");
    if let (Some((name, _)), Some(replicas)) = (named.first(), &replicas_field) {
        let text = match *name {
            "deployment" => "its Deployment says how many there are",
            "daemonSet" => "each node has one",
            _ => "each of its pods is one",
        };
        replicas.refuse(text, format!("remove replicas, or {name}"));
    }
    let replicas = replicas_field.map_or(Some(defaults::REPLICAS), |field| field.whole::<usize>(1, 4000));
    let zones_field = fields.get("zones");
    if let (Some((name, _)), Some(zones)) = (named.first(), &zones_field) {
        zones.refuse("its pods are in the zones of their nodes", format!("remove zones, or {name}"));
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
        Some(field) => field.positive_duration().map(Some),
        None => Some(None),
    };
    let memory_field = fields.get("memory");
    let memory = match &memory_field {
        Some(field) => memory(field).map(Some),
        None => Some(None),
    };
    if let (None, Some(memory)) = (named.first(), &memory_field) {
        let help = "name its deployment, its daemonSet or its pod, or remove memory";
        memory.refuse("its replicas are no pods, and on no node", help);
    }
    let disk_field = fields.get("disk");
    let disk = match &disk_field {
        Some(field) => disks::costs(field).map(Some),
        None => Some(None),
    };
    if let (None, Some(disk)) = (named.first(), &disk_field) {
        let help = "name its deployment, its daemonSet or its pod, or remove disk";
        disk.refuse("its replicas are no pods, and on no node", help);
    }
    let answer = fields.get("answer").map_or(Some(defaults::ANSWER_BYTES as u64), |field| field.bytes());
    fields.finish();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    let error_ppm = (error_ratio? * 1e6).round() as u32;
    Some(BackendSettings {
        service: service?,
        deployment: deployment?,
        daemon_set: daemon_set?,
        pod: pod?,
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
        cpu_per_request: cpu_per_request?,
        memory: memory?,
        disk: disk?,
        at: field.place(),
    })
}
