//! What Istio's control plane makes of a cluster's endpoints before it tells a gateway of them: priorities and weights by where both are.
//!
//! - Failover by locality: rank 0 for the gateway's own region, zone and subzone, 1 for its zone, 2 for its region, 3 elsewhere. Where a failover is
//!   named for its region, regions other than the named one have rank 4.
//! - Failover by labels, L of them: rank 0 where all have the gateway's values, L − j where label j is the first that differs. A label of the network
//!   that stands first and differs adds L, and the others are looked at all the same. `label=value` stands for a value in place of the gateway's own.
//! - With both, labels come first and localities within them. Ranks become priorities without gaps.
//! - Distribution: the first entry for the gateway's locality says which localities get how many of 100. Those that share an entry divide
//!   it by their endpoints, and are rounded up. Endpoints in none are not told. Without an entry each locality counts as many as its endpoints.
//! - Where failover is named or shares are, localities of one priority are chosen by weight (`balance`); otherwise all endpoints of a priority are alike.
//! - Endpoints that are not ready are left out, unless the policy tells of them: then they count as unhealthy.
//!
//! Sources: istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go, pilot/pkg/networking/util/util.go (`LbPriority`,
//! `LocalityMatch`), pilot/pkg/xds/endpoints/endpoint_builder.go, pilot/pkg/networking/core/cluster_traffic_policy.go
//! `applyLocalityLoadBalancer`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::balance::LocalityWeight;
use super::cluster::EndpointConfig;

/// The network of a pod. Source: istio api label/labels.gen.go.
pub const NETWORK: &str = "topology.istio.io/network";
/// The region of a node.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The zone of a node.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The part of a zone.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// The name of a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// A place in the world. An empty part is unknown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Locality {
    /// Such as `eu-west-1`.
    pub region: String,
    /// Such as `eu-west-1a`.
    pub zone: String,
    /// A part of the zone.
    pub subzone: String,
}

/// Where a gateway or an endpoint is, and what it is called there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Site {
    /// Where.
    pub locality: Locality,
    /// Labels of the pod, with those of its place.
    pub labels: BTreeMap<String, String>,
}

/// What is made of a cluster's endpoints.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EndpointPolicy {
    /// Which come first.
    pub locality: LocalityPolicy,
    /// Whether the gateway is told of endpoints that are not ready.
    pub tells_unready: bool,
}

/// What of a gateway's site its endpoints depend on: gateways of one view are told the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct View {
    locality: Option<Locality>,
    /// The values of labels that endpoints are compared by, in the order of the policy.
    labels: Vec<Option<String>>,
}

/// Which endpoints come first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum LocalityPolicy {
    /// All are alike.
    #[default]
    Alike,
    /// Near ones; others when those fail.
    Failover {
        /// From a region to the one that is next.
        regions: Vec<(String, String)>,
        /// Labels in whose order endpoints are near, each `name` or `name=value`.
        labels: Vec<String>,
    },
    /// From a locality of gateways, shares of 100 for localities of endpoints.
    Distribute(Vec<(String, Vec<(String, u32)>)>),
}

impl Locality {
    /// The region and zone of a node in this zone. What comes before the last part of a zone's name is taken for its region: `eu-west-1` of
    /// `eu-west-1a`, `cn-hangzhou` of `cn-hangzhou-b`. A name in one part has none.
    ///
    /// Sources: the names of zones at AWS (region and letter), Google and Alibaba Cloud (region, dash and letter).
    #[must_use]
    pub fn of_zone(zone: &str) -> Self {
        let is_lettered =
            |before: &str, last: char| last.is_ascii_lowercase() && before.ends_with(|c: char| c.is_ascii_digit());
        let mut characters = zone.chars();
        let lettered =
            characters.next_back().filter(|last| is_lettered(characters.as_str(), *last)).map(|_| characters.as_str());
        let region =
            lettered.filter(|region| region.contains('-')).or_else(|| zone.rsplit_once('-').map(|(region, _)| region));
        Self { region: region.unwrap_or_default().to_owned(), zone: zone.to_owned(), subzone: String::new() }
    }

    /// How far the other is: 0 the same, 3 another region.
    fn distance(&self, other: &Self) -> u32 {
        match (self.region == other.region, self.zone == other.zone, self.subzone == other.subzone) {
            (false, ..) => 3,
            (true, false, _) => 2,
            (true, true, false) => 1,
            (true, true, true) => 0,
        }
    }

    /// Whether it is one of `region/zone/subzone`, in which `*`, and a part that is missing, stands for any.
    fn is_in(&self, pattern: &str) -> bool {
        let mut parts = pattern.split('/');
        let region = parts.next().unwrap_or_default();
        let mut is_any_or = |own: &str| parts.next().is_none_or(|part| part.is_empty() || part == "*" || part == own);
        (region == "*" || region == self.region) && is_any_or(&self.zone) && is_any_or(&self.subzone)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.zone, self.subzone)
    }
}

impl Site {
    /// The site of a pod with these labels on a node.
    #[must_use]
    pub fn new(locality: Locality, node: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut labels = labels.clone();
        let places =
            [(REGION, &*locality.region), (ZONE, &*locality.zone), (SUBZONE, &*locality.subzone), (HOSTNAME, node)];
        for (name, value) in places.into_iter().filter(|(_, value)| !value.is_empty()) {
            labels.insert(name.to_owned(), value.to_owned());
        }
        Self { locality, labels }
    }
}

impl LocalityPolicy {
    /// Whether localities of one priority are chosen by weight.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        match self {
            Self::Alike => false,
            Self::Failover { regions, labels } => !regions.is_empty() || !labels.is_empty(),
            Self::Distribute(_) => true,
        }
    }
}

impl EndpointPolicy {
    /// What a gateway there sees of endpoints as all others do that see the same.
    #[must_use]
    pub fn view(&self, gateway: &Site) -> View {
        match &self.locality {
            LocalityPolicy::Alike => View::default(),
            LocalityPolicy::Failover { regions, labels } => {
                let compares_places = labels.is_empty() || !regions.is_empty();
                let own = |label: &String| gateway.labels.get(label).cloned();
                View {
                    locality: compares_places.then(|| gateway.locality.clone()),
                    labels: labels.iter().map(own).collect(),
                }
            }
            LocalityPolicy::Distribute(_) => View { locality: Some(gateway.locality.clone()), labels: Vec::new() },
        }
    }

    /// The endpoints as a gateway there is told of them.
    #[must_use]
    pub fn assign(&self, gateway: &Site, endpoints: &[(EndpointConfig, Site)]) -> Vec<EndpointConfig> {
        let told: Vec<(EndpointConfig, &Site)> = endpoints
            .iter()
            .filter(|(endpoint, _)| endpoint.is_healthy || self.tells_unready)
            .map(|(endpoint, site)| (endpoint.clone(), site))
            .collect();
        match &self.locality {
            LocalityPolicy::Alike => told.into_iter().map(|(endpoint, _)| endpoint).collect(),
            LocalityPolicy::Failover { regions, labels } => {
                let mut ranks = vec![0; told.len()];
                if !labels.is_empty() {
                    ranks = compact(told.iter().map(|(_, site)| rank_by_labels(labels, gateway, site)).collect());
                }
                if labels.is_empty() || !regions.is_empty() {
                    let within = told.iter().map(|(_, site)| rank_by_locality(regions, gateway, site));
                    ranks = compact(ranks.iter().zip(within).map(|(rank, within)| rank * 5 + within).collect());
                }
                let told = told.into_iter().zip(ranks);
                let told = told.map(|((endpoint, site), priority)| (EndpointConfig { priority, ..endpoint }, site));
                if self.locality.is_weighted() {
                    weigh(told.collect(), |_, weight| Some(weight))
                } else {
                    told.map(|(endpoint, _)| endpoint).collect()
                }
            }
            LocalityPolicy::Distribute(entries) => {
                let entry = entries.iter().find(|(from, _)| gateway.locality.is_in(from));
                let Some((_, shares)) = entry else { return weigh(told, |_, weight| Some(weight)) };
                let weights = distribute(shares, &localities(&told));
                weigh(told, |locality, _| weights.get(locality).copied())
            }
        }
    }
}

/// Weights of the localities that have endpoints.
fn localities(endpoints: &[(EndpointConfig, &Site)]) -> BTreeMap<Locality, u32> {
    let mut weights: BTreeMap<Locality, u32> = BTreeMap::new();
    for (endpoint, site) in endpoints {
        *weights.entry(site.locality.clone()).or_default() += endpoint.weight;
    }
    weights
}

/// What localities get by shares of 100; one that is in no share gets nothing.
fn distribute(shares: &[(String, u32)], weights: &BTreeMap<Locality, u32>) -> BTreeMap<Locality, u32> {
    let mut found = BTreeMap::new();
    for (pattern, share) in shares {
        let fits = |locality: &Locality| !found.contains_key(locality) && locality.is_in(pattern);
        let fitting: Vec<(&Locality, u64)> = weights
            .iter()
            .filter(|(locality, _)| fits(locality))
            .map(|(known, weight)| (known, u64::from(*weight)))
            .collect();
        let total: u64 = fitting.iter().map(|(_, weight)| weight).sum();
        for (locality, weight) in fitting.into_iter().filter(|(_, weight)| *weight > 0) {
            let part = (weight * u64::from(*share)).div_ceil(total);
            found.insert(locality.clone(), u32::try_from(part).unwrap_or(u32::MAX));
        }
    }
    found
}

/// The endpoints with the weights of their localities; those whose locality has none are left out. `weight` is given the sum of a locality's
/// endpoints of one priority.
fn weigh(
    endpoints: Vec<(EndpointConfig, &Site)>,
    weight: impl Fn(&Locality, u32) -> Option<u32>,
) -> Vec<EndpointConfig> {
    let mut groups: BTreeMap<(u32, &Locality), u32> = BTreeMap::new();
    for (endpoint, site) in &endpoints {
        *groups.entry((endpoint.priority, &site.locality)).or_default() += endpoint.weight;
    }
    let told = endpoints.iter().filter_map(|(endpoint, site)| {
        let weight = weight(&site.locality, groups[&(endpoint.priority, &site.locality)])?;
        let locality = LocalityWeight { name: Arc::from(site.locality.to_string()), weight };
        Some(EndpointConfig { locality: Some(locality), ..endpoint.clone() })
    });
    told.collect()
}

fn rank_by_locality(regions: &[(String, String)], gateway: &Site, endpoint: &Site) -> u32 {
    let distance = gateway.locality.distance(&endpoint.locality);
    let next = regions.iter().find(|(from, _)| *from == gateway.locality.region);
    match next {
        Some((_, to)) if distance == 3 && *to != endpoint.locality.region => 4,
        _ => distance,
    }
}

fn rank_by_labels(labels: &[String], gateway: &Site, endpoint: &Site) -> u32 {
    let mut rank = 0;
    for (place, label) in labels.iter().enumerate() {
        let (name, value) = label.split_once('=').map_or((&**label, None), |(name, value)| (name, Some(value)));
        let wanted = value.or_else(|| gateway.labels.get(name).map(String::as_str)).unwrap_or_default();
        if wanted == endpoint.labels.get(name).map(String::as_str).unwrap_or_default() {
            continue;
        }
        let left = u32::try_from(labels.len() - place).unwrap_or(u32::MAX);
        rank += left;
        if place > 0 || name != NETWORK {
            break;
        }
    }
    rank
}

/// Ranks without gaps, in the same order.
fn compact(ranks: Vec<u32>) -> Vec<u32> {
    let mut known = ranks.clone();
    known.sort_unstable();
    known.dedup();
    let place = |rank| u32::try_from(known.partition_point(|known| *known < rank)).unwrap_or(u32::MAX);
    ranks.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests;
