//! What a balancer can take, and how long its connections may be silent, from its annotations.
//!
//! - CLB: `spec` counts with `instance-charge-type: PayBySpec` only, and is `slb.s1.small` there if nobody writes it. Without one, or with `PayByCLCU`, the
//!   instance pays by usage and can take what is commonly quoted of its ceiling; no document that we could read says so.
//! - NLB: so much for each zone; `cps` limits each listener in each zone.
//!
//! Sources: CLB documents, "Specifications"; NLB documents, "Limits"; cloud-provider-alibaba-cloud pkg/controller/service/clbv1 (defaults).

use std::time::Duration;

use super::Annotations;
use crate::edge::{IdleEnd, IdleRule, Limits};
use crate::record::results::FidelityStatus;

/// A specification: its name, open connections, new ones per second, queries per second. Queries count at listeners for HTTP only.
const SPECS: [(&str, u64, u64, u64); 8] = [
    ("slb.s1.small", 5_000, 3_000, 1_000),
    ("slb.s2.small", 50_000, 5_000, 5_000),
    ("slb.s2.medium", 100_000, 10_000, 10_000),
    ("slb.s3.small", 200_000, 20_000, 20_000),
    ("slb.s3.medium", 500_000, 50_000, 30_000),
    ("slb.s3.large", 1_000_000, 100_000, 50_000),
    ("slb.s3.xlarge", 2_000_000, 200_000, 100_000),
    ("slb.s3.xxlarge", 5_000_000, 500_000, 100_000),
];
/// What older instances have instead of a specification: no limits that anybody promises. They are sold no more.
const SHARED: &str = "slb.s0.share";
/// The specification of an instance that is paid by it, where none is written.
const SPEC: &str = "slb.s1.small";
/// Of an instance that is paid by usage: open connections, new ones per second, queries per second. An assumption.
const BY_USAGE: (u64, u64, u64) = (1_000_000, 100_000, 50_000);
/// Of one zone of an NLB. Source: NLB documents, "Limits".
const NLB_ZONE: (u64, u64) = (5_000_000, 200_000);
/// Source: CLB and NLB documents, TCP listeners.
const IDLE: Duration = Duration::from_secs(900);

/// The limits of each address.
pub(super) fn limits(annotations: &Annotations<'_>, is_nlb: bool, has_http: bool) -> Limits {
    if is_nlb {
        let cps = annotations.text("cps").map(|_| annotations.number("cps", 0, 1_000_000, 0)).filter(|cps| *cps > 0);
        let (connections, per_s) = NLB_ZONE;
        return Limits {
            connections: Some(connections),
            connections_per_s: Some(per_s),
            listener_connections_per_s: cps,
            queries_per_s: None,
        };
    }
    let written = annotations.text("spec");
    let known = |name: &str| SPECS.iter().find(|(known, ..)| *known == name);
    if written == Some(SHARED) {
        let text = "shared-performance instances are sold no more, and take no ENI as a backend".to_owned();
        annotations.refuse("spec", text, "write a specification, such as slb.s1.small");
    } else if let Some(name) = written.filter(|name| known(name).is_none()) {
        let names: Vec<&str> = SPECS.iter().map(|(name, ..)| *name).collect();
        let help = format!("write one of {}", names.join(", "));
        annotations.refuse("spec", format!("`{name}` is no specification: the API rejects it"), &help);
    }
    let (connections, per_s, queries) = if annotations.text("instance-charge-type") == Some("PayBySpec") {
        let spec = known(written.unwrap_or(SPEC));
        if let Some((_, _, _, queries)) = spec.filter(|_| !has_http) {
            note_queries(annotations, *queries);
        }
        spec.map_or(BY_USAGE, |(_, connections, per_s, queries)| (*connections, *per_s, *queries))
    } else {
        if written.is_some() {
            let text = "the instance is paid by usage, so it has no limits of a specification: they come with \
                        instance-charge-type: PayBySpec";
            annotations.warn("spec", text);
        }
        BY_USAGE
    };
    Limits {
        connections: Some(connections),
        connections_per_s: Some(per_s),
        listener_connections_per_s: None,
        queries_per_s: Some(queries),
    }
}

/// Queries per second count at listeners for HTTP, and the Service has none.
fn note_queries(annotations: &Annotations<'_>, queries: u64) {
    let suffix = if annotations.text("spec").is_some() { "spec" } else { "instance-charge-type" };
    let (place, path) = annotations.place_and_path(suffix);
    let text = format!("its {queries} queries/s count at listeners for HTTP, and the Service has none");
    annotations.sink.note(place, path, FidelityStatus::Modelled, Some(&text));
}

/// How long connections may be silent, and what they meet then. An NLB's end is an assumption: it forgets them.
pub(super) fn idle(annotations: &Annotations<'_>, is_nlb: bool) -> IdleRule {
    let (suffix, least, end) =
        if is_nlb { ("idle-timeout", 1, IdleEnd::Forgotten) } else { ("established-timeout", 10, IdleEnd::Reset) };
    IdleRule { timeout: Duration::from_secs(annotations.number(suffix, least, 900, IDLE.as_secs())), end }
}

/// For how long a client's address keeps its target.
pub(super) fn persistence(annotations: &Annotations<'_>, is_nlb: bool) -> Option<Duration> {
    let seconds = if is_nlb { 0 } else { annotations.number("persistence-timeout", 0, 3600, 0) };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_grow() {
        assert!(SPECS.windows(2).all(|pair| pair[0].1 < pair[1].1 && pair[0].2 < pair[1].2 && pair[0].3 <= pair[1].3));
        assert!(SPECS.iter().any(|(name, ..)| *name == SPEC));
    }
}
