//! Probes of containers.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/core/validation (`validateProbe`), pkg/apis/core/v1/defaults.go (`SetDefaults_Probe`).

use std::collections::BTreeMap;

use super::pod_rules;
use super::read::{Field, Fields};
use crate::cluster::kubelet::probe::ProbeSpec;
use crate::cluster::{Probe, ProbeAction};
use crate::record::results::FidelityStatus;

/// A probe: `key` names it. One without a handler, or with two, is refused, as the API server does.
pub(super) fn read_probe(key: &str, field: &Field<'_>, ports: &BTreeMap<String, u16>) -> Option<Probe> {
    let fields = field.fields()?;
    let handlers: Vec<Field<'_>> =
        ["httpGet", "tcpSocket", "exec", "grpc"].into_iter().filter_map(|key| fields.look(key)).collect();
    if handlers.len() != 1 {
        field.refuse(format!("a probe asks in one way, and here are {}", handlers.len()), "write httpGet or tcpSocket");
    }
    let action = if let Some(http) = fields.look("httpGet") {
        let http = http.fields()?;
        let port = http.require("port", "write the container's port").and_then(|port| read_port(&port, ports));
        let path = http.get("path").and_then(|field| field.text()).unwrap_or("/").to_owned();
        http.ignore(&["host", "httpHeaders"], "probes go to the pod, without headers of their own");
        pod_rules::check_scheme(&http);
        let is_tls = http.look("scheme").and_then(|scheme| {
            let is_tls = scheme.node().text() == Some("HTTPS");
            let note = "a gateway speaks no TLS at its ports: there it fails; others are asked without TLS";
            is_tls.then(|| scheme.note(FidelityStatus::Approximated, Some(note)))
        });
        http.finish();
        port.map(
            |port| if is_tls.is_some() { ProbeAction::Https { port, path } } else { ProbeAction::Http { port, path } },
        )
    } else if let Some(tcp) = fields.look("tcpSocket") {
        let tcp = tcp.fields()?;
        let port = tcp.require("port", "write the container's port").and_then(|port| read_port(&port, ports));
        tcp.ignore(&["host"], "probes go to the pod");
        tcp.finish();
        port.map(|port| ProbeAction::Tcp { port })
    } else {
        fields.ignore(&["exec", "grpc"], "only HTTP and TCP probes are simulated; this one always passes");
        None
    };
    let spec = read_probe_spec(key == "readinessProbe", &fields);
    fields.finish();
    Some(Probe { action: action?, spec: spec? })
}

/// The numbers of a probe. A 0 is what the API server takes for an absent one (pkg/apis/core/v1/defaults.go).
fn read_probe_spec(is_readiness: bool, fields: &Fields<'_>) -> Option<ProbeSpec> {
    let usual = ProbeSpec::default();
    let number = |key: &str, usual: u32| match fields.get(key) {
        Some(field) => field.whole(0, i64::from(i32::MAX)).map(|number| if number == 0 { usual } else { number }),
        None => Some(usual),
    };
    let initial_delay_seconds = number("initialDelaySeconds", usual.initial_delay_seconds);
    let period_seconds = number("periodSeconds", usual.period_seconds);
    let timeout_seconds = number("timeoutSeconds", usual.timeout_seconds);
    let success_threshold = number("successThreshold", usual.success_threshold);
    let failure_threshold = number("failureThreshold", usual.failure_threshold);
    if let Some(field) = fields.look("successThreshold")
        && !is_readiness
        && success_threshold.is_some_and(|count| count != 1)
    {
        field.refuse("only a readiness probe counts successes", "write 1, or leave it out");
    }
    let grace = fields.get("terminationGracePeriodSeconds");
    if let Some(field) = grace.as_ref().filter(|_| is_readiness) {
        field.refuse("a readiness probe ends no container", "leave it out");
    }
    Some(ProbeSpec {
        initial_delay_seconds: initial_delay_seconds?,
        period_seconds: period_seconds?,
        timeout_seconds: timeout_seconds?,
        success_threshold: success_threshold?,
        failure_threshold: failure_threshold?,
        termination_grace_seconds: grace.and_then(|field| field.whole(1, i64::from(i32::MAX))),
    })
}

fn read_port(field: &Field<'_>, ports: &BTreeMap<String, u16>) -> Option<u16> {
    let text = field.scalar()?;
    if let Some(number) = ports.get(text) {
        return Some(*number);
    }
    if text.parse::<i64>().is_err() {
        let known: Vec<&str> = ports.keys().map(String::as_str).collect();
        field.sink().report(field.problem(format!("no container port is called `{text}`")).did_you_mean(text, known));
        return None;
    }
    field.whole(1, 65535)
}
