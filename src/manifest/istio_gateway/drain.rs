//! Graceful shutdown of an `IstioGateway`: its annotation, and what is written of the same beside it.
//!
//! - Since ASM 1.26 the annotation sets how long the balancer and the gateway drain. Whoever writes another time for one of them wants two things at once, and the
//!   documents do not say which of both ASM keeps: that is refused. The same time, or a mere `on`, contradicts nothing.
//! - Before 1.26 nobody reads the annotation, so nothing of it is judged.
//! - It counts at the resource itself. Under `serviceAnnotations` or `podAnnotations` nobody reads it, as nobody reads a balancer's annotation at the resource.
//!
//! Source: ASM documents, "Use graceful shutdown to avoid traffic loss" (both versions); aliyun/alibabacloud-servicemesh-api v1 (the names).

use std::time::Duration;

use super::{DRAIN_ANNOTATION, GRACE_MARGIN_SECONDS, Generation, MANAGED_ANNOTATION};
use crate::manifest::deployment::PROXY_CONFIG;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::quantity;
use crate::manifest::read::{Field, Fields, Sink, did_you_mean};
use crate::manifest::service::ServiceManifest;
use crate::manifest::yaml::{self, Node};
use crate::record::results::FidelityStatus;

/// What ASM's annotations begin with.
const PREFIX: &str = "asm.alibabacloud.com/";
/// Those of the resource that are known here.
const KNOWN: [&str; 7] = [
    DRAIN_ANNOTATION,
    MANAGED_ANNOTATION,
    "asm.alibabacloud.com/enable-canary-deployment",
    "asm.alibabacloud.com/managed-by-asm",
    "asm.alibabacloud.com/aliyun-logs-project",
    "asm.alibabacloud.com/aliyun-logtail-config",
    "asm.alibabacloud.com/aliyun-logs-machinegroup",
];

/// The seconds of the annotation, where this ASM reads it.
pub(super) fn read(fields: &Fields<'_>, annotations: &Fields<'_>, generation: Generation) -> Option<(i64, Place)> {
    if generation == Generation::ConnectionDrain {
        let _ = annotations.look(DRAIN_ANNOTATION).and_then(|field| field.text());
        return None;
    }
    let note = "simulated as a drain of so many seconds in gateway and balancer, and a grace period 10 s longer";
    let field = annotations.approximated(DRAIN_ANNOTATION, note)?;
    let text = field.text()?;
    let service_type = fields.look("spec").and_then(|spec| spec.node().find(&["serviceType"]).and_then(Node::text));
    let has_balancer = !matches!(service_type, Some("ClusterIP" | "NodePort"));
    let most = if has_balancer { 890 } else { i64::from(i32::MAX) - GRACE_MARGIN_SECONDS };
    match text.parse::<i64>() {
        Ok(seconds) if (10..=most).contains(&seconds) => Some((seconds, field.place())),
        Ok(seconds) => {
            let help = if has_balancer { "write 10 to 890 behind a CLB or NLB" } else { "write at least 10" };
            field.refuse(format!("{seconds} s is out of range"), help);
            None
        }
        Err(_) => {
            field.refuse(
                format!("`{text}` is not a number of seconds"),
                "write whole seconds in quotes, such as \"30\"",
            );
            None
        }
    }
}

/// Annotations of the resource itself that nobody reads there, or that nobody knows.
pub(super) fn note_strangers(annotations: &Field<'_>) {
    for (name, value) in annotations.map() {
        if ServiceManifest::is_balancer_annotation(name) {
            let text = "it is read at the Service only: write it under spec.serviceAnnotations";
            value.note(FidelityStatus::Warning, Some(text));
        } else if name.starts_with(PREFIX) && !KNOWN.contains(&name) {
            let begins = |known: &&str| known.starts_with(name) || name.starts_with(*known);
            let near = KNOWN.into_iter().find(begins).or_else(|| did_you_mean(name, KNOWN));
            match near {
                Some(near) => {
                    let text = format!("no controller is known to read it; did you mean `{near}`?");
                    value.note(FidelityStatus::Warning, Some(&text));
                }
                None => value.note(FidelityStatus::Ignored, Some("this annotation is not simulated")),
            }
        }
    }
}

/// Annotations of the resource that stand at its Service or its pods.
pub(super) fn note_misplaced(annotations: &Field<'_>) {
    for (name, value) in annotations.map() {
        if [DRAIN_ANNOTATION, MANAGED_ANNOTATION].contains(&name) {
            value.note(FidelityStatus::Warning, Some("nobody reads it here: write it under metadata.annotations"));
        }
    }
}

/// Refuses what says otherwise than the annotation; whether nothing does.
pub(super) fn check(spec: &Node, seconds: i64, sink: &Sink) -> bool {
    let found = contradictions(spec, seconds);
    for (place, path, what) in &found {
        let text = format!("{what}, and metadata.annotations[{DRAIN_ANNOTATION}] sets {seconds} s");
        sink.report(
            Problem::at(*place, path.clone(), text).help("take one of both out: ASM does not say which it keeps"),
        );
    }
    found.is_empty()
}

/// What a spec says otherwise: place, path, and the words of it.
fn contradictions(spec: &Node, seconds: i64) -> Vec<(Place, String, String)> {
    let has_balancer = !matches!(spec.find(&["serviceType"]).and_then(Node::text), Some("ClusterIP" | "NodePort"));
    let of_service = spec.find(&["serviceAnnotations"]).filter(|_| has_balancer).map(Node::entries).unwrap_or_default();
    let mut found = Vec::new();
    for entry in of_service {
        let (Some(suffix), Some(text)) = (ServiceManifest::suffix(&entry.key), entry.node.text()) else { continue };
        let is_other = match suffix {
            "connection-drain" => !text.eq_ignore_ascii_case("on"),
            "connection-drain-timeout" => text.parse() != Ok(seconds),
            _ => false,
        };
        if is_other && !text.is_empty() {
            let path = format!("spec.serviceAnnotations[{}]", entry.key);
            found.push((entry.node.at, path, format!("{suffix} is `{text}`")));
        }
    }
    let config = spec.find(&["podAnnotations", PROXY_CONFIG]);
    if let Some((node, text)) = config.and_then(|node| Some((node, node.text()?))) {
        const KEY: &str = "terminationDrainDuration";
        let (documents, _) = yaml::parse(text, 0);
        let written = documents.first().and_then(|document| document.find(&[KEY])?.text());
        let is_other = |text: &&str| quantity::duration(text) != Ok(Duration::from_secs(seconds.unsigned_abs()));
        if let Some(written) = written.filter(is_other) {
            found.push((node.at, format!("spec.podAnnotations[{PROXY_CONFIG}]"), format!("{KEY} is `{written}`")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_time_than_the_annotations_is_a_contradiction() {
        const ON: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain";
        let of_service = |value: &str| format!("serviceAnnotations: {{ {ON}: \"{value}\" }}");
        let timeout = |value: &str| format!("serviceAnnotations: {{ {ON}-timeout: \"{value}\" }}");
        let of_pods = |value: &str| format!("podAnnotations: {{ {PROXY_CONFIG}: \"{value}\" }}");
        for (spec, expected) in [
            ("{}".to_owned(), vec![]),
            (of_service("on"), vec![]),
            (of_service("ON"), vec![]),
            (of_service(""), vec![]),
            (of_service("off"), vec!["connection-drain is `off`"]),
            (timeout("30"), vec![]),
            (timeout("29"), vec!["connection-drain-timeout is `29`"]),
            (timeout("31"), vec!["connection-drain-timeout is `31`"]),
            (format!("serviceType: NodePort\n{}", timeout("31")), vec![]),
            (of_pods("terminationDrainDuration: 30s"), vec![]),
            (of_pods("concurrency: 2"), vec![]),
            (of_pods("terminationDrainDuration: 60s"), vec!["terminationDrainDuration is `60s`"]),
            (
                format!("{}\n{}", of_service("off"), of_pods("terminationDrainDuration: 29s")),
                vec!["connection-drain is `off`", "terminationDrainDuration is `29s`"],
            ),
        ] {
            let (documents, problems) = yaml::parse(&spec, 0);
            assert!(problems.is_empty(), "{spec}");
            let found = contradictions(&documents[0], 30);
            assert_eq!(found.iter().map(|(.., text)| text.as_str()).collect::<Vec<_>>(), expected, "{spec}");
        }
    }
}
