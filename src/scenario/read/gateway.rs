//! What a scenario says of the gateway, beside its manifests.

use super::{delay, span};
use crate::gateway::DrainStrategy;
use crate::manifest::{Field, Place};
use crate::scenario::settings::{DrainTimers, Edition, GatewaySettings, defaults};
use crate::scenario::{autoscaling, disks, gateway_kind};

pub(super) fn gateway(field: Option<&Field<'_>>) -> Option<GatewaySettings> {
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
    let disk = match fields.and_then(|fields| fields.get("disk")) {
        Some(field) => disks::costs(&field).map(Some),
        None => Some(None),
    };
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
        disk: disk?,
        replicas_sync: replicas_sync?,
    })
}

/// The names of Envoy's drain strategies.
pub(in crate::scenario) const DRAIN_STRATEGIES: [(&str, DrainStrategy); 2] =
    [("immediate", DrainStrategy::Immediate), ("gradual", DrainStrategy::Gradual)];

/// `1.26`.
fn version(field: &Field<'_>, text: &str) -> Option<String> {
    let is_version = text.split('.').count() == 2 && text.split('.').all(|part| part.parse::<u32>().is_ok());
    if !is_version {
        field.refuse(
            format!("`{text}` is not a version"),
            format!("write major.minor in quotes, such as \"{}\"", defaults::ISTIO),
        );
    }
    is_version.then(|| text.to_owned())
}
