//! The localities of a priority by weight.
//!
//! - A locality of weight w with h of its n hosts healthy counts as w · min(1, factor · h / n), the factor being that of over-provisioning: it keeps
//!   all its requests until fewer than 72 % of it are healthy.
//! - Localities take turns by earliest deadline (`edf`); a host is picked within the one that is due.
//! - One without weight, or without a healthy host, is never chosen. In panic there are no localities: all hosts of the priority are alike.
//! - Rings and tables share their places out by the weights as they are, whatever the health.
//!
//! Source: envoy source/common/upstream/upstream_impl.cc `effectiveLocalityWeight`; envoy
//! source/extensions/load_balancing_policies/common/thread_aware_lb_impl.cc `normalizeLocalityWeights`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BalancedHost, Group};

/// Envoy's over-provisioning factor.
const OVERPROVISIONING: f64 = 1.4;

/// A locality and its weight among those of its priority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalityWeight {
    /// Its name; hosts of one name and one priority are together.
    pub name: Arc<str>,
    /// Its weight. 0: none of the requests.
    pub weight: u32,
}

/// A locality and its hosts in use.
#[derive(Clone, Debug)]
pub(super) struct Locality {
    pub(super) group: Group,
    pub(super) weight: u32,
    /// The weight that is left of it; 0: it is not chosen.
    pub(super) effective_weight: f64,
}

/// The localities of a priority that have weight, by name, each with those of the `members` in use that are its own.
pub(super) fn sort(hosts: &[BalancedHost], priority: usize, members: &[usize]) -> Vec<Locality> {
    /// Weight, hosts in all, and those in use.
    type Found = (u32, u32, Vec<usize>);
    let mut found: BTreeMap<&str, Found> = BTreeMap::new();
    for host in hosts.iter().filter(|host| host.priority == priority) {
        let Some(locality) = &host.locality else { continue };
        let (weight, count, _) = found.entry(&locality.name).or_default();
        *weight = locality.weight;
        *count += 1;
    }
    for member in members {
        let name = hosts[*member].locality.as_ref().map(|locality| &*locality.name);
        if let Some((.., used)) = name.and_then(|name| found.get_mut(name)) {
            used.push(*member);
        }
    }
    let weighted = found.into_values().filter(|(weight, ..)| *weight > 0);
    weighted
        .map(|(weight, count, used)| {
            let effective_weight = effective_weight(weight, used.len(), count);
            Locality { group: Group::new(used, hosts), weight, effective_weight }
        })
        .collect()
}

/// What is left of a weight with so many healthy hosts of `count`.
fn effective_weight(weight: u32, healthy: usize, count: u32) -> f64 {
    let healthy = f64::from(u32::try_from(healthy).unwrap_or(u32::MAX));
    let availability = OVERPROVISIONING * (healthy / f64::from(count));
    f64::from(weight) * availability.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_keeps_its_weight_until_too_little_of_it_is_healthy() {
        for (healthy, expected) in [(100, 10.0), (72, 10.0), (71, 9.94), (50, 7.0), (25, 3.5)] {
            let left = effective_weight(10, healthy, 100);
            assert!((left - expected).abs() < 1e-9, "{healthy} %: {left}");
        }
    }
}
