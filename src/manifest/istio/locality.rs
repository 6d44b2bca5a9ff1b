//! `LocalityLoadBalancerSetting`: which endpoints come first by where they are, and what decides it where a rule says nothing.
//!
//! - A DestinationRule's setting comes first, then the Service's `trafficDistribution`, then the mesh's: localities count, without more words.
//! - Failover needs `outlierDetection`; `trafficDistribution` does without. Shares need neither.
//!
//! Sources: istio api networking/v1alpha3/destination_rule.proto; istio pkg/config/validation/agent/validation.go
//! `ValidateLocalityLbSetting`; istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go `GetLocalityLbSetting`.

use std::collections::{BTreeMap, BTreeSet};

use super::traffic_policy::TrafficPolicy;
use super::values;
use crate::gateway::locality::{EndpointPolicy, HOSTNAME, LocalityPolicy, NETWORK, REGION, SUBZONE, ZONE};
use crate::manifest::read::Field;
use crate::manifest::service::TrafficDistribution;
use crate::record::results::FidelityStatus;

/// Which localities come first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Locality {
    /// Whether it holds; unset: it does.
    pub enabled: Option<bool>,
    /// From a region to another.
    pub failover: Vec<(String, String)>,
    /// Labels in whose order endpoints are preferred.
    pub failover_priority: Vec<String>,
    /// From a locality, shares of 100 of others.
    pub distribute: Vec<(String, Vec<(String, u32)>)>,
}

/// What becomes of a cluster's endpoints. `unready_are_told` is whether the version of Istio tells gateways of endpoints that are not ready.
pub(super) fn endpoint_policy(
    policy: &TrafficPolicy,
    service: Option<TrafficDistribution>,
    unready_are_told: bool,
) -> EndpointPolicy {
    let balancer = policy.load_balancer.as_ref();
    let has_outlier = policy.outlier_detection.is_some();
    let own = balancer.and_then(|balancer| balancer.locality.as_ref());
    let by_service = service.filter(|_| own.is_none());
    let locality = match (own, by_service) {
        _ if balancer.is_some_and(|balancer| balancer.is_zone_aware) => LocalityPolicy::Alike,
        (Some(own), _) if own.enabled == Some(false) => LocalityPolicy::Alike,
        (Some(own), _) if !own.distribute.is_empty() => LocalityPolicy::Distribute(own.distribute.clone()),
        (Some(own), _) if has_outlier => {
            LocalityPolicy::Failover { regions: own.failover.clone(), labels: own.failover_priority.clone() }
        }
        (Some(_), _) => LocalityPolicy::Alike,
        (None, Some(service)) => LocalityPolicy::Failover { regions: Vec::new(), labels: labels(service) },
        (None, None) if has_outlier => LocalityPolicy::Failover { regions: Vec::new(), labels: Vec::new() },
        (None, None) => LocalityPolicy::Alike,
    };
    let outlier = policy.outlier_detection.as_ref();
    let may_panic = outlier.and_then(|outlier| outlier.min_health_percent).is_some_and(|percent| percent > 0);
    EndpointPolicy { locality, tells_unready: by_service.is_some() || unready_are_told && !may_panic }
}

fn labels(service: TrafficDistribution) -> Vec<String> {
    let names: &[&str] = match service {
        TrafficDistribution::SameZone => &[NETWORK, REGION, ZONE],
        TrafficDistribution::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Reads it. `has_outlier` tells whether endpoints can be put aside, without which failover never happens.
pub(super) fn read(field: &Field<'_>, has_outlier: bool) -> Option<Locality> {
    let fields = field.fields()?;
    let mut found =
        Locality { enabled: fields.get("enabled").and_then(|field| field.boolean()), ..Locality::default() };
    for item in fields.get("failover").map(|field| field.items()).unwrap_or_default() {
        found.failover.extend(read_failover(&item));
    }
    let priority_field = fields.get("failoverPriority");
    found.failover_priority = priority_field.as_ref().map(Field::texts).unwrap_or_default();
    let entries = fields.get("distribute").map(|field| field.items()).unwrap_or_default();
    let mut froms = Vec::new();
    for item in &entries {
        found.distribute.extend(read_distribution(item, &mut froms));
    }
    fields.finish();
    check_localities(&froms);
    if !entries.is_empty() && !found.failover.is_empty() {
        field.refuse("`distribute` and `failover` exclude each other", "write one of them");
    }
    let topology = found.failover_priority.iter().find(|label| [REGION, ZONE, SUBZONE].contains(&label.as_str()));
    if let (Some(label), Some(priorities), false) = (topology, &priority_field, found.failover.is_empty()) {
        let text = format!("`failover` and the label `{label}` in failoverPriority exclude each other");
        priorities.refuse(text, "take one of them out");
    }
    let has_failover = !found.failover.is_empty() || !found.failover_priority.is_empty();
    if has_failover && !has_outlier {
        let text = "without outlierDetection no endpoint is put aside, and failover does nothing";
        values::warn(field, text);
        field.note(FidelityStatus::Ignored, Some(text));
    }
    Some(found)
}

fn read_failover(item: &Field<'_>) -> Option<(String, String)> {
    let fields = item.fields()?;
    let region = |key: &str| {
        let field = fields.require(key, "write a region")?;
        let text = field.text()?;
        if text.is_empty() || text.contains(['/', '*']) {
            field.refuse(format!("`{text}` is no region"), "write a region without its zones");
            return None;
        }
        Some(text.to_owned())
    };
    let (from, to) = (region("from"), region("to"));
    fields.finish();
    let (from, to) = (from?, to?);
    if from == to {
        item.refuse("failover from a region to itself", "write two regions");
        return None;
    }
    Some((from, to))
}

fn read_distribution<'a>(
    item: &Field<'a>,
    froms: &mut Vec<(String, Field<'a>)>,
) -> Option<(String, Vec<(String, u32)>)> {
    let fields = item.fields()?;
    let from = fields.require("from", "write the locality of the proxy");
    let to = fields.get("to");
    fields.finish();
    if let Some((text, field)) = from.as_ref().and_then(|field| Some((field.text()?, field.clone()))) {
        froms.push((text.to_owned(), field));
    }
    let entries = to.as_ref().map(Field::map).unwrap_or_default();
    let mut shares = Vec::new();
    for (locality, share) in &entries {
        shares.push(((*locality).to_owned(), share.whole::<u32>(1, 100)?));
    }
    if shares.iter().map(|(_, share)| share).sum::<u32>() != 100 {
        item.refuse("the shares are not 100 together", "write shares of 100");
        return None;
    }
    let localities: Vec<_> = entries.into_iter().map(|(locality, field)| (locality.to_owned(), field)).collect();
    check_localities(&localities);
    Some((from?.text()?.to_owned(), shares))
}

/// Refuses what is no locality, and one that lies in one before it.
fn check_localities(localities: &[(String, Field<'_>)]) {
    let mut known: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (text, field) in localities {
        let stars = text.matches('*').count();
        if stars > 1 || stars == 1 && !text.ends_with('*') {
            field.refuse(format!("`{text}` has a wildcard before its end"), "write one `*`, as the last part");
            continue;
        }
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            field.refuse(format!("`{text}` has an empty part"), "write region, region/zone or region/zone/subzone");
            continue;
        }
        let (region, zone, subzone) = (parts[0], parts.get(1).copied(), parts.get(2).copied());
        let zones = known.get(region);
        let in_zone = |zone: &str| zones.and_then(|zones| zones.get(zone));
        let is_covered = match (zone, subzone) {
            (None, _) => zones.is_some(),
            (Some(zone), None) => in_zone("*").is_some() || in_zone(zone).is_some(),
            (Some(zone), Some(subzone)) => {
                in_zone("*").is_some()
                    || in_zone(zone).is_some_and(|parts| parts.contains("*") || parts.contains(subzone))
            }
        };
        if known.contains_key("*") || is_covered {
            field.refuse(format!("`{text}` overlaps with a locality before it"), "write each locality once");
            continue;
        }
        let zones = known.entry(region).or_default();
        zones.entry(zone.unwrap_or("*")).or_default().insert(subzone.unwrap_or("*"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_balancer::LoadBalancer;
    use super::super::traffic_policy::OutlierDetection;
    use super::*;

    fn policy(locality: Option<Locality>, outlier: Option<OutlierDetection>) -> TrafficPolicy {
        let load_balancer = Some(LoadBalancer { locality, ..LoadBalancer::default() });
        TrafficPolicy { load_balancer, outlier_detection: outlier, ..TrafficPolicy::default() }
    }

    #[test]
    fn the_rule_comes_before_the_service_and_the_service_before_the_mesh() {
        let near = |labels: &[&str]| LocalityPolicy::Failover {
            regions: Vec::new(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        };
        let some = || Some(OutlierDetection::default());
        let named = || Some(Locality { failover_priority: vec!["team".to_owned()], ..Locality::default() });
        let off = || Some(Locality { enabled: Some(false), ..Locality::default() });
        let shares = vec![("*".to_owned(), vec![("r/*".to_owned(), 100)])];
        let shared = || Some(Locality { distribute: shares.clone(), ..Locality::default() });
        let same_zone = Some(TrafficDistribution::SameZone);
        for (locality, outlier, service, expected) in [
            (None, None, None, LocalityPolicy::Alike),
            (None, some(), None, near(&[])),
            (None, None, same_zone, near(&[NETWORK, REGION, ZONE])),
            (off(), some(), same_zone, LocalityPolicy::Alike),
            (named(), None, same_zone, LocalityPolicy::Alike),
            (named(), some(), same_zone, near(&["team"])),
            (shared(), None, None, LocalityPolicy::Distribute(shares.clone())),
            (shared(), some(), same_zone, LocalityPolicy::Distribute(shares.clone())),
        ] {
            let found = endpoint_policy(&policy(locality.clone(), outlier.clone()), service, false);
            assert_eq!(found.locality, expected, "{locality:?} {outlier:?} {service:?}");
        }
    }

    #[test]
    fn unready_endpoints_are_told_as_the_version_says_unless_panic_would_use_them() {
        let outlier = |percent| Some(OutlierDetection { min_health_percent: percent, ..OutlierDetection::default() });
        for (percent, is_new, service, expected) in [
            (None, false, None, false),
            (None, true, None, true),
            (Some(0), true, None, true),
            (Some(1), true, None, false),
            (None, false, Some(TrafficDistribution::SameNode), true),
        ] {
            let found = endpoint_policy(&policy(None, outlier(percent)), service, is_new);
            assert_eq!(found.tells_unready, expected, "{percent:?} {is_new} {service:?}");
        }
    }
}
