//! What is odd in a balancer's annotations: values that the API rejects, words that are taken for their contrary, settings that have no effect together.

use std::collections::BTreeMap;

use super::Annotations;
use crate::edge::{BackendMode, Scheduler, TrafficPolicy};
use crate::manifest::service::annotations::{Effect, ROWS, Values};
use crate::record::results::FidelityStatus;

/// Most targets of one balancer. Source: CLB and NLB documents, "Limits".
const CLB_TARGETS_MAX: usize = 200;
const NLB_TARGETS_MAX: usize = 400;
/// Judges each value by what its annotation may say.
pub(super) fn check_values(annotations: &Annotations<'_>, is_nlb: bool) {
    for row in ROWS.iter().filter(|row| row.is_of(is_nlb)) {
        let Some(text) = annotations.text(row.suffix) else { continue };
        match row.values {
            // A number that is followed is judged where it is read, if it is.
            Values::Number(least, most) if row.effect != Effect::Modelled => {
                if !text.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number)) {
                    let help = format!("write a whole number in quotes, such as \"{least}\"");
                    annotations.refuse(row.suffix, format!("`{text}` is no number from {least} to {most}"), &help);
                }
            }
            Values::Word(words) if !words.contains(&text) => {
                let help = format!("write one of {}", words.join(", "));
                annotations.refuse(row.suffix, format!("the API rejects `{text}`"), &help);
            }
            Values::Only(word) if annotations.has_any_case(row.suffix) && text.eq_ignore_ascii_case(word) => {}
            Values::Only(word) if text != word && !matches!(text, "off" | "false") => {
                let text = format!("`{text}` is parsed as off: only \"{word}\" counts");
                annotations.warn(row.suffix, &text);
            }
            Values::Any | Values::Number(..) | Values::Word(_) | Values::Only(_) => {}
        }
    }
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
            of_policy("the balancer's targets are pods, so the policy decides nothing there");
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
        } else {
            annotations.warn("weight", "it counts only for a balancer that exists already, with vgroup-port: ignored");
        }
    }
    let draining = annotations.text("connection-drain");
    if annotations.text("connection-drain-timeout").is_some() && draining != Some("on") {
        // The controller reads the number all the same, and hands it on.
        annotations.number("connection-drain-timeout", 10, 900, 30);
        if matches!(draining, None | Some("off")) {
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
    let health = ["health-check-connect-timeout", "health-check-interval"].map(|suffix| annotations.text(suffix));
    if let (Some(timeout), Some(interval), false) = (health[0], health[1], is_nlb)
        && let (Ok(timeout), Ok(interval)) = (timeout.parse::<u64>(), interval.parse::<u64>())
        && timeout < interval
    {
        let text = format!("it is below the interval, so the interval counts: {interval} s");
        annotations.warn("health-check-connect-timeout", &text);
    }
    let reads_options = annotations.is_on("health-check-flag", false);
    if is_nlb && !reads_options {
        let unread = ROWS.iter().filter(|row| row.is_of(true)).map(|row| row.suffix);
        let unread = unread.filter(|suffix| suffix.starts_with("health") && *suffix != "health-check-flag");
        for suffix in unread.chain(["unhealthy-threshold"]).filter(|suffix| annotations.text(suffix).is_some()) {
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
    for part in annotations.text("backend-label").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            annotations.refuse("backend-label", format!("`{part}` is no label"), "write key=value,key=value");
            continue;
        };
        labels.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    labels
}

/// How many targets one balancer takes.
pub(super) fn quota(is_nlb: bool) -> usize {
    if is_nlb { NLB_TARGETS_MAX } else { CLB_TARGETS_MAX }
}

/// More targets than the product takes.
pub(super) fn check_quota(annotations: &Annotations<'_>, is_nlb: bool, targets: usize) {
    let most = quota(is_nlb);
    if targets > most {
        let text = format!("{targets} targets are more than the {most} that one balancer takes");
        let help = "have fewer: backend-label or policy Local for nodes, fewer replicas for pods";
        annotations.refuse("backend-label", text, help);
    }
}
