//! Ring hash and Maglev: positions, tables, look-ups, distributions.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatedrill::gateway::balance::hashing::{HashedHost, Maglev, Ring, shares};
use gatedrill::gateway::balance::{BalanceConfig, BalancedHost, HostSets, PickRequest, Picker, Policy};
use gatedrill::units::SimTime;
use serde::Deserialize;

use super::family;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingCase {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    config: ConfigSpec,
    #[serde(default)]
    hosts: Vec<HostSpec>,
    localities: Option<Vec<LocalitySpec>>,
    ring: Option<RingSpec>,
    positions: Option<Vec<(String, usize)>>,
    #[serde(default)]
    lookups: Vec<LookupSpec>,
    distribution: Option<DistributionSpec>,
    #[serde(default)]
    reject: bool,
    healthy_hosts: Option<Vec<usize>>,
    priorities: Option<Vec<PrioritySpec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaglevCase {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    config: ConfigSpec,
    #[serde(default)]
    hosts: Vec<HostSpec>,
    hosts_range: Option<RangeSpec>,
    localities: Option<Vec<LocalitySpec>>,
    table: Option<Vec<usize>>,
    min_entries_per_host: Option<usize>,
    max_entries_per_host: Option<usize>,
    entries: Option<EntriesSpec>,
    #[serde(default)]
    lookups: Vec<LookupSpec>,
    default_table_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSpec {
    minimum_ring_size: Option<u64>,
    maximum_ring_size: Option<u64>,
    table_size: Option<u64>,
    #[serde(default)]
    use_hostname_for_hashing: bool,
    #[serde(default)]
    locality_weighted: bool,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct HostSpec {
    address: String,
    #[serde(alias = "hostname")]
    hash_key: Option<String>,
    weight: Option<u32>,
}

/// Hosts whose address holds their number in place of `N`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeSpec {
    address: String,
    from: usize,
    to: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalitySpec {
    weight: u32,
    #[serde(default)]
    hosts: Vec<usize>,
    hosts_range: Option<[usize; 2]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingSpec {
    size: usize,
    min_hashes_per_host: usize,
    max_hashes_per_host: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesSpec {
    #[serde(rename = "host 0")]
    first: usize,
    #[serde(rename = "every other host")]
    other: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupSpec {
    hash: Option<String>,
    random: Option<String>,
    priority: Option<usize>,
    #[serde(default)]
    host_selection_retries: u32,
    #[serde(default)]
    rejected_hosts: RejectedSpec,
    host: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RejectedSpec {
    All(AllSpec),
    These(Vec<usize>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AllSpec {
    All,
}

impl Default for RejectedSpec {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistributionSpec {
    hashes: u64,
    hash: String,
    hosts_without_traffic: Option<usize>,
    counts: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrioritySpec {
    hosts: Vec<HostSpec>,
    healthy: Vec<usize>,
}

impl ConfigSpec {
    fn key<'a>(&self, host: &'a HostSpec) -> &'a str {
        host.hash_key.as_deref().filter(|_| self.use_hostname_for_hashing).unwrap_or(&host.address)
    }

    /// The hosts with their shares; by locality where that is on.
    fn hashed(&self, hosts: &[HostSpec], localities: Option<&[LocalitySpec]>) -> Vec<HashedHost> {
        assert_eq!(self.locality_weighted, localities.is_some());
        let whole = [LocalitySpec { weight: 1, hosts: (0..hosts.len()).collect(), hosts_range: None }];
        let weighted: Vec<(u32, Vec<(usize, u32)>)> = localities
            .unwrap_or(&whole)
            .iter()
            .map(|locality| {
                let range = locality.hosts_range.map_or(0..0, |[first, last]| first..last + 1);
                let members = locality.hosts.iter().copied().chain(range);
                (locality.weight, members.map(|host| (host, hosts[host].weight.unwrap_or(1))).collect())
            })
            .collect();
        let weighted: Vec<_> = weighted.iter().map(|(weight, hosts)| (*weight, hosts.as_slice())).collect();
        let shares = shares(&weighted).into_iter();
        shares.map(|(host, share)| HashedHost { key: self.key(&hosts[host]).to_owned(), host, share }).collect()
    }
}

impl RejectedSpec {
    fn has(&self, host: usize) -> bool {
        match self {
            Self::All(AllSpec::All) => true,
            Self::These(hosts) => hosts.contains(&host),
        }
    }
}

impl LookupSpec {
    fn number(&self) -> u64 {
        self.hash.as_ref().and_then(|hash| hash.parse().ok()).expect("a hash of 64 bits")
    }
}

/// A cluster that hashes: its hosts with their priority and number in it.
struct Cluster {
    sets: HostSets,
    places: Vec<(usize, usize)>,
}

impl Cluster {
    fn new(config: &ConfigSpec, policy: Policy, priorities: &[(&[HostSpec], Option<&[usize]>)]) -> Self {
        let (mut hosts, mut places) = (Vec::new(), Vec::new());
        for (priority, (members, healthy)) in priorities.iter().enumerate() {
            for (number, host) in members.iter().enumerate() {
                hosts.push(BalancedHost {
                    weight: host.weight.unwrap_or(1),
                    priority,
                    locality: None,
                    is_healthy: healthy.is_none_or(|healthy| healthy.contains(&number)),
                    hash_key: Some(Arc::from(config.key(host))),
                    slow_start_since: None,
                });
                places.push((priority, number));
            }
        }
        Self { sets: HostSets::new(BalanceConfig::new(policy), 50, hosts), places }
    }

    /// Priority and number of the host that a look-up finds.
    fn find(&self, lookup: &LookupSpec) -> Option<(usize, usize)> {
        let number = |text: &String| text.parse::<u64>().expect("a number of 64 bits");
        let request = PickRequest {
            hash: lookup.hash.as_ref().map(number),
            repicks: lookup.host_selection_retries,
            ..PickRequest::default()
        };
        let random = || lookup.random.as_ref().map(number).expect("a hash or a random number");
        let mut picker = Picker::default();
        picker.refresh(&self.sets, SimTime::ZERO, |_| 0, |_| 0);
        let is_rejected = |host: usize| lookup.rejected_hosts.has(self.places[host].1);
        let picked = picker.pick(&self.sets, &request, is_rejected, |_| 0, SimTime::ZERO, |bound| random() % bound);
        picked.map(|host| self.places[host])
    }
}

/// How often each of these hosts is found.
fn counts(found: impl Iterator<Item = usize>, hosts: &[HashedHost]) -> BTreeMap<usize, usize> {
    let mut counts: BTreeMap<usize, usize> = hosts.iter().map(|host| (host.host, 0)).collect();
    found.for_each(|host| *counts.get_mut(&host).expect("one of the hosts") += 1);
    counts
}

fn check_ring(case: &RingCase) {
    let label = format!("{} {} {}", case.id, case.test, case.note);
    let Policy::RingHash { minimum, maximum } = Policy::RING_HASH else { unreachable!("a ring") };
    let minimum = case.config.minimum_ring_size.unwrap_or(minimum);
    let maximum = case.config.maximum_ring_size.unwrap_or(maximum);
    let policy = Policy::RingHash { minimum, maximum };
    assert_eq!(policy.check().is_err(), case.reject, "{label}");
    assert_eq!(case.config.table_size, None, "{label}: a ring is no table");
    let hashed = case.config.hashed(&case.hosts, case.localities.as_deref());
    let ring = Ring::new(&hashed, minimum, maximum);
    if let Some(expected) = &case.ring {
        let counts = counts(ring.positions().iter().map(|(_, host)| *host), &hashed);
        assert_eq!(ring.positions().len(), expected.size, "{label}");
        assert_eq!(counts.values().min(), Some(&expected.min_hashes_per_host), "{label}");
        assert_eq!(counts.values().max(), Some(&expected.max_hashes_per_host), "{label}");
    }
    if let Some(expected) = &case.positions {
        let text: Vec<_> = ring.positions().iter().map(|(hash, host)| (hash.to_string(), *host)).collect();
        assert_eq!(&text, expected, "{label}");
    }
    if let Some(expected) = &case.distribution {
        let last = expected.hashes - 1;
        let formula = format!("i * floor((2^64-1) / {}) for i = 0 .. {last}", expected.hashes);
        assert_eq!(expected.hash, formula, "{label}: another choice of hashes");
        let hashes = (0..expected.hashes).map(|number| number * (u64::MAX / expected.hashes));
        let counts = counts(hashes.filter_map(|hash| ring.pick(hash, 0)), &hashed);
        let idle = counts.values().filter(|count| **count == 0).count();
        assert!(expected.hosts_without_traffic.is_none_or(|expected| idle == expected), "{label}: {counts:?}");
        let list: Vec<usize> = counts.into_values().collect();
        assert!(expected.counts.as_ref().is_none_or(|expected| &list == expected), "{label}: {list:?}");
    }
    let priorities: Vec<(&[HostSpec], Option<&[usize]>)> = match &case.priorities {
        None => vec![(&case.hosts, case.healthy_hosts.as_deref())],
        Some(list) => list.iter().map(|spec| (spec.hosts.as_slice(), Some(spec.healthy.as_slice()))).collect(),
    };
    let cluster = Cluster::new(&case.config, policy, &priorities);
    for lookup in &case.lookups {
        let found = match case.localities {
            None => cluster.find(lookup),
            Some(_) => ring.pick(lookup.number(), 0).map(|host| (0, host)),
        };
        let expected = lookup.host.map(|host| (lookup.priority.unwrap_or(0), host));
        assert_eq!(found, expected, "{label}: {:?} {:?}", lookup.hash, lookup.random);
    }
}

fn check_maglev(case: &MaglevCase) {
    let label = format!("{} {} {}", case.id, case.test, case.note);
    let Policy::Maglev { table_size } = Policy::MAGLEV else { unreachable!("a table") };
    assert!(case.default_table_size.is_none_or(|expected| expected == table_size), "{label}");
    assert_eq!((case.config.minimum_ring_size, case.config.maximum_ring_size), (None, None), "{label}: no ring");
    let table_size = case.config.table_size.unwrap_or(table_size);
    Policy::Maglev { table_size }.check().expect("a prime number");
    let mut hosts = case.hosts.clone();
    if let Some(range) = &case.hosts_range {
        hosts.extend((range.from..=range.to).map(|number| HostSpec {
            address: range.address.replace('N', &number.to_string()),
            hash_key: None,
            weight: None,
        }));
    }
    let hashed = case.config.hashed(&hosts, case.localities.as_deref());
    let maglev = Maglev::new(&hashed, table_size);
    if let Some(expected) = &case.table {
        assert_eq!(maglev.table(), expected, "{label}");
    }
    let counts = counts(maglev.table().iter().copied(), &hashed);
    if let Some(expected) = case.min_entries_per_host {
        assert_eq!(counts.values().min(), Some(&expected), "{label}");
    }
    if let Some(expected) = case.max_entries_per_host {
        assert_eq!(counts.values().max(), Some(&expected), "{label}");
    }
    if let Some(expected) = &case.entries {
        let wanted = |host| if host == 0 { expected.first } else { expected.other };
        assert!(counts.iter().all(|(host, count)| *count == wanted(*host)), "{label}");
    }
    for lookup in &case.lookups {
        assert!(lookup.random.is_none() && lookup.priority.is_none(), "{label}: more than a table");
        let attempt = lookup.host_selection_retries;
        assert_eq!(maglev.pick(lookup.number(), attempt), lookup.host, "{label}");
    }
}

#[test]
fn conformance_ring_hash() {
    family("envoy-ring-hash").cases.iter().for_each(check_ring);
}

#[test]
fn conformance_maglev() {
    family("envoy-maglev").cases.iter().for_each(check_maglev);
}
