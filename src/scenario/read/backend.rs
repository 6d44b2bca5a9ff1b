//! What a scenario says of a backend.

use std::time::Duration;

use super::{delay, key, span};
use crate::backend::{BackendConfig, BodyShape};
use crate::drill::MemoryCosts;
use crate::manifest::Field;
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

pub(super) fn backend(field: &Field<'_>) -> Option<BackendSettings> {
    let fields = field.fields()?;
    let service = fields.require("service", "name the Service: namespace/name").and_then(|field| key(&field));
    let deployment_field = fields.get("deployment");
    let deployment = match &deployment_field {
        Some(field) => Some((key(field)?, field.place())),
        None => None,
    };
    let pod_field = fields.get("pod");
    let pod = match &pod_field {
        Some(field) => Some((key(field)?, field.place())),
        None => None,
    };
    if let (Some(_), Some(pod)) = (&deployment_field, &pod_field) {
        pod.refuse(
            "its replicas are a Deployment's",
            "remove pod: pods without a Deployment that the Service selects serve, too",
        );
    }
    let clusters = fields.get("clusters").map(|field| field.items()).unwrap_or_default();
    let clusters = clusters.iter().filter_map(|field| Some((field.text()?.to_owned(), field.place()))).collect();
    let replicas_field = fields.get("replicas");
    if let (Some(_), Some(replicas)) = (&deployment_field, &replicas_field) {
        replicas.refuse("its Deployment says how many there are", "remove replicas, or deployment");
    }
    if let (Some(_), Some(replicas)) = (&pod_field, &replicas_field) {
        replicas.refuse("each of its pods is one", "remove replicas, or pod");
    }
    let replicas = replicas_field.map_or(Some(defaults::REPLICAS), |field| field.whole::<usize>(1, 4000));
    let zones_field = fields.get("zones");
    if let (Some(_), Some(zones)) = (&deployment_field, &zones_field) {
        zones.refuse("its pods are in the zones of their nodes", "remove zones, or deployment");
    }
    if let (Some(_), Some(zones)) = (&pod_field, &zones_field) {
        zones.refuse("its pods are in the zones of their nodes", "remove zones, or pod");
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
    let memory_field = fields.get("memory");
    let memory = match &memory_field {
        Some(field) => Some(memory(field)?),
        None => None,
    };
    if let (None, None, Some(memory)) = (&deployment_field, &pod_field, &memory_field) {
        memory.refuse("its replicas are no pods, and on no node", "name its deployment, or its pod, or remove memory");
    }
    let answer = fields.get("answer").map_or(Some(defaults::ANSWER_BYTES as u64), |field| field.bytes());
    fields.finish();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    let error_ppm = (error_ratio? * 1e6).round() as u32;
    Some(BackendSettings {
        service: service?,
        deployment,
        pod,
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
        memory,
        at: field.place(),
    })
}
