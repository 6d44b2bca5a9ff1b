//! What is odd in a balancer's annotations: values that the API rejects, words that are taken for their contrary, settings that have no effect together.

use std::collections::BTreeMap;

use super::Annotations;
use crate::edge::{BackendMode, Scheduler, TrafficPolicy};
use crate::manifest::service::ServiceManifest;
use crate::manifest::service::annotations::{Effect, REUSE, ROWS, Row, Values};
use crate::manifest::{Place, Problem, Sink};
use crate::record::results::FidelityStatus;

/// Most targets of one balancer. Source: CLB and NLB documents, "Limits".
const CLB_TARGETS_MAX: usize = 200;
const NLB_TARGETS_MAX: usize = 400;
/// Most listeners of one balancer.
const LISTENERS_MAX: usize = 50;

/// Judges each value by what its annotation may say.
pub(super) fn check_values(annotations: &Annotations<'_>, is_nlb: bool) {
    let reads_check = reads_check(annotations, is_nlb);
    let is_unread = |row: &Row| is_of_check(row.suffix) && !reads_check;
    for row in ROWS.iter().filter(|row| row.is_of(is_nlb) && !is_unread(row)) {
        let Some(text) = annotations.text(row.suffix) else { continue };
        match row.values {
            // A number that is followed is judged where it is read, if it is.
            Values::Number(least, most)
                if row.effect != Effect::Modelled
                    && !text.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number)) =>
            {
                let help = format!("write a whole number in quotes, such as \"{least}\"");
                annotations.refuse(row.suffix, format!("`{text}` is no number from {least} to {most}"), &help);
            }
            Values::Word(words) if !words.contains(&text) => reject(annotations, row.suffix, text, words),
            Values::WordAnyCase(words) if !words.iter().any(|word| word.eq_ignore_ascii_case(text)) => {
                reject(annotations, row.suffix, text, words);
            }
            Values::Only(word) | Values::OnlyAnyCase(word) if !row.is_on(text) && !matches!(text, "off" | "false") => {
                let text = format!("`{text}` is parsed as off: only \"{word}\" counts");
                annotations.warn(row.suffix, &text);
            }
            _ => {}
        }
    }
}

/// A word that the API does not know.
fn reject(annotations: &Annotations<'_>, suffix: &str, text: &str, words: &[&str]) {
    annotations.refuse(suffix, format!("the API rejects `{text}`"), &format!("write one of {}", words.join(", ")));
}

/// Whether it is an option of the health check. The flag itself is none.
fn is_of_check(suffix: &str) -> bool {
    matches!(suffix, "healthy-threshold" | "unhealthy-threshold")
        || (suffix.starts_with("health-check-") && suffix != "health-check-flag")
}

/// Whether the controller reads the options of the health check: an NLB's does so only where its flag is on. Source: cloud-provider-alibaba-cloud
/// pkg/controller/service/nlbv2/server_groups.go (`setServerGroupAttributeFromAnno`).
pub(super) fn reads_check(annotations: &Annotations<'_>, is_nlb: bool) -> bool {
    !is_nlb || annotations.is_on("health-check-flag", false)
}

/// Settings that have no effect together, or another than it seems.
pub(super) fn warn(annotations: &Annotations<'_>, is_nlb: bool, mode: BackendMode, scheduler: Scheduler) {
    let service = annotations.service;
    let of_policy = |text: &str| {
        annotations.sink.note(
            service.policy_at,
            "spec.externalTrafficPolicy".to_owned(),
            FidelityStatus::Warning,
            Some(text),
        );
    };
    match mode {
        BackendMode::Pods if service.policy == TrafficPolicy::Local => {
            of_policy("the balancer's targets are pods, so the policy decides nothing for those who come through it");
        }
        BackendMode::Nodes(TrafficPolicy::Local) if scheduler == Scheduler::RoundRobin => {
            of_policy("the scheduler rr does not heed that nodes have different numbers of pods: write scheduler: wrr");
        }
        _ => {}
    }
    if annotations.text("address-type").is_none() && annotations.text("id").is_none() {
        let (place, path) = annotations.place_and_path("address-type");
        let text = "nobody writes it, so the balancer is on the internet";
        annotations.sink.note(place, path, FidelityStatus::Modelled, Some(text));
    }
    if annotations.text("weight").is_some() {
        if annotations.text("id").is_some() && annotations.text("vgroup-port").is_some() {
            annotations.number("weight", 0, 100, 100);
            let (place, path) = annotations.place_and_path("weight");
            annotations.sink.note(place, path, FidelityStatus::Ignored, Some(REUSE));
        } else {
            annotations.warn("weight", "it counts only for a balancer that exists already, with vgroup-port: ignored");
        }
    }
    let draining = annotations.service.is_on("connection-drain");
    if annotations.text("connection-drain-timeout").is_some() && draining != Some(true) {
        // The controller reads the number all the same, and hands it on.
        annotations.number("connection-drain-timeout", 10, 900, 30);
        if matches!(annotations.text("connection-drain"), None | Some("off")) {
            annotations.warn("connection-drain-timeout", "it has no effect: connection-drain is not on");
        }
    }
    let is_gentle = annotations.text("graceful-shutdown") == Some("true");
    if is_gentle {
        let text = match (mode, annotations.is_on("ignore-weight-update", false)) {
            (BackendMode::Nodes(_), _) => Some("it has no effect: the balancer's targets are not pods"),
            (_, true) => Some("ignore-weight-update switches it off"),
            _ if scheduler == Scheduler::RoundRobin => {
                Some("the scheduler rr does not heed weight 0: write scheduler: wrr")
            }
            _ => None,
        };
        if let Some(text) = text {
            annotations.warn("graceful-shutdown", text);
        }
    }
    for suffix in ["backend-label", "remove-unscheduled-backend"] {
        if mode == BackendMode::Pods && annotations.text(suffix).is_some() {
            annotations.warn(suffix, "it has no effect: the balancer's targets are pods");
        }
    }
    if is_nlb && annotations.text("scheduler").is_some_and(|text| text.eq_ignore_ascii_case("qch")) {
        annotations.warn("scheduler", "it hashes ids of QUIC, which no client here speaks: simulated as wrr");
    }
    if !reads_check(annotations, is_nlb) {
        let unread = ROWS.iter().filter(|row| row.is_of(true) && is_of_check(row.suffix)).map(|row| row.suffix);
        for suffix in unread.filter(|suffix| annotations.text(suffix).is_some()) {
            annotations.warn(suffix, "it is not read: health-check-flag is not on");
        }
    }
}

/// Settings that the controller writes to listeners for TCP and UDP only, where a listener is one for HTTP.
pub(super) fn warn_http(annotations: &Annotations<'_>, has_http: bool) {
    for suffix in ["connection-drain", "established-timeout", "persistence-timeout"] {
        if has_http && annotations.text(suffix).is_some() {
            annotations.warn(suffix, "it holds at listeners for TCP only, and protocol-port names one for HTTP");
        }
    }
}

/// Whether pods that terminate stay with weight 0 while they serve.
pub(super) fn is_gentle(annotations: &Annotations<'_>) -> bool {
    annotations.text("graceful-shutdown") == Some("true") && !annotations.is_on("ignore-weight-update", false)
}

/// The labels that nodes must have to be targets: `key=value,key=value`.
pub(super) fn backend_label(annotations: &Annotations<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(text) = annotations.text("backend-label") else { return labels };
    for part in text.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            annotations.refuse("backend-label", format!("`{part}` is no label"), "write key=value,key=value");
            continue;
        };
        if part.contains(char::is_whitespace) {
            annotations.warn("backend-label", "the controller takes spaces for a part of the label, so no node has it");
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// How many targets one balancer takes.
pub(super) fn quota(is_nlb: bool) -> usize {
    if is_nlb { NLB_TARGETS_MAX } else { CLB_TARGETS_MAX }
}

/// More targets than the product takes. Where pods are the targets, `replicas` is where their number is written, or would be.
pub(super) fn check_quota(
    annotations: &Annotations<'_>,
    is_nlb: bool,
    targets: usize,
    replicas: Option<(Place, String)>,
) {
    let most = quota(is_nlb);
    if targets <= most {
        return;
    }
    let text = format!("{targets} targets are more than the {most} that one balancer takes");
    match replicas {
        Some((place, path)) => {
            annotations.sink.report(Problem::at(place, path, text).help("have fewer pods"));
        }
        None => annotations.refuse("backend-label", text, "have fewer: backend-label, or policy Local"),
    }
}

/// More listeners than the product takes. Source: CLB and NLB documents, "Limits".
pub(super) fn check_listeners(service: &ServiceManifest, sink: &Sink) {
    let count = service.ports.len();
    if count > LISTENERS_MAX {
        let text = format!("{count} listeners are more than the {LISTENERS_MAX} that one balancer takes");
        sink.report(
            Problem::at(service.kind_at, "spec.ports", text).help("have fewer ports, or a further Service for some"),
        );
    }
}
