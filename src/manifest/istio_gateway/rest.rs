//! The fields of an `IstioGateway` that nothing here acts on: their types are checked all the same, as the resource's schema would, and those
//! with an effect on traffic are noted.
//!
//! Source: aliyun/alibabacloud-servicemesh-api v1 istiogateway_types.go.

use crate::manifest::read::{Field, Fields};
use crate::manifest::resources::read_resources;
use crate::manifest::service::{GATEWAY_PROTOCOLS, read_ports};
use crate::record::results::FidelityStatus;

/// `kernel.parameters`.
const SYSCTLS: [&str; 18] = [
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_tw_timeout",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_tw_recycle",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_autocorking",
    "kernel.printk",
    "vm.swappiness",
];

/// What a field must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Count,
    Texts,
}

use Kind::{Count, Flag, Text, Texts};

fn check(fields: &Fields<'_>, kinds: &[(&str, Kind)]) {
    for (key, kind) in kinds {
        let Some(field) = fields.look(key) else { continue };
        match kind {
            Text => drop(field.text()),
            Flag => drop(field.boolean()),
            Count => drop(field.whole::<u32>(0, i64::from(u32::MAX))),
            Texts => drop(field.texts()),
        }
    }
}

fn check_all(field: &Field<'_>, kinds: &[(&str, Kind)]) {
    if let Some(fields) = field.fields() {
        check(&fields, kinds);
        fields.finish();
    }
}

/// Checks what is left of a spec, and notes what would change something.
pub(super) fn note(spec: &Fields<'_>) {
    check(
        spec,
        &[
            ("hostNetwork", Flag),
            ("loadBalancerIP", Text),
            ("runAsRoot", Flag),
            ("autoCreateGatewayYaml", Flag),
            ("disableContainerPortExposed", Flag),
            ("applicationPorts", Text),
            ("requestedNetworkView", Text),
        ],
    );
    if let Some(field) = spec.look("dnsPolicy").filter(|field| field.node().text() != Some("")) {
        // Its pods have it, and the API server takes no other.
        let words = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"].map(|word| (word, ()));
        let _ = field.choice(&words);
    }
    for (key, of) in [("secretVolumes", "secretName"), ("configVolumes", "configMapName")] {
        for item in spec.look(key).map(|field| field.items()).unwrap_or_default() {
            check_all(&item, &[("name", Text), (of, Text), ("mountPath", Text)]);
        }
    }
    note_switched(spec);
    if let Some(field) = spec.look("meshExpansionPorts") {
        let _ = read_ports(&field, &GATEWAY_PROTOCOLS);
    }
    spec.ignore(&["meshExpansionPorts", "applicationPorts", "requestedNetworkView"], "legacy fields, not simulated");
    if spec.look("hostNetwork").is_some_and(|field| field.node().text() == Some("true")) {
        spec.ignore(&["hostNetwork"], "pods have addresses of their own");
    }
}

/// Features with a switch of their own: off, they are not worth a line.
fn note_switched(spec: &Fields<'_>) {
    if let Some(fields) = spec.look("kernel").and_then(|field| field.fields()) {
        check(&fields, &[("enabled", Flag)]);
        if let Some(parameters) = fields.look("parameters") {
            check_all(&parameters, &SYSCTLS.map(|name| (name, Text)));
        }
        fields.finish();
    }
    if let Some(fields) = spec.look("compression").and_then(|field| field.fields()) {
        check(
            &fields,
            &[
                ("enabled", Flag),
                ("min_content_length", Count),
                ("content_type", Texts),
                ("disable_on_etag_header", Flag),
                ("remove_accept_encoding_header", Flag),
            ],
        );
        if let Some(gzip) = fields.look("gzip") {
            let levels = [("compression_level", Text), ("compression_strategy", Text)];
            let counts = [("memory_level", Count), ("window_bits", Count), ("chunk_size", Count)];
            check_all(&gzip, &[&levels[..], &counts[..]].concat());
        }
        fields.finish();
    }
    if let Some(fields) = spec.look("sds").and_then(|field| field.fields()) {
        check(&fields, &[("enabled", Flag), ("image", Text)]);
        if let Some(resources) = fields.look("resources") {
            let _ = read_resources(&resources);
        }
        fields.finish();
    }
    for key in ["kernel", "compression", "sds"] {
        let is_off =
            |field: &Field<'_>| field.node().find(&["enabled"]).is_some_and(|node| node.text() == Some("false"));
        if !spec.look(key).is_some_and(|field| is_off(&field)) {
            spec.ignore(&[key], "not simulated");
        }
    }
}

/// A target of the autoscaler: `cpu` or `memory`.
pub(super) fn check_target(spec: &Fields<'_>, key: &str, is_enabled: bool) {
    let Some(field) = spec.look(key) else { return };
    check_all(&field, &[("targetAverageUtilization", Count)]);
    let target = field.fields().and_then(|fields| fields.look("targetAverageUtilization"));
    if let Some(target) = target {
        let note = if is_enabled { None } else { Some("without autoscaleEnabled it has no effect") };
        target.note(FidelityStatus::Modelled, note);
    }
}
