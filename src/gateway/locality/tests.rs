use super::*;

fn site(place: &str) -> Site {
    let mut parts = place.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let locality = Locality { region: part(), zone: part(), subzone: part() };
    Site::new(locality, "", &BTreeMap::new())
}

fn labelled(place: &str, labels: &[(&str, &str)]) -> Site {
    let mut site = site(place);
    site.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    site
}

fn endpoints(sites: &[Site]) -> Vec<(EndpointConfig, Site)> {
    let address = |index: usize| std::net::SocketAddr::from(([10, 0, 0, u8::try_from(index).unwrap()], 80));
    sites.iter().enumerate().map(|(index, site)| (EndpointConfig::new(address(index)), site.clone())).collect()
}

fn failover(regions: &[(&str, &str)], labels: &[&str]) -> EndpointPolicy {
    let regions = regions.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    EndpointPolicy { locality: LocalityPolicy::Failover { regions, labels }, tells_unready: false }
}

/// The priorities of endpoints at these places.
#[track_caller]
fn check(policy: &EndpointPolicy, gateway: &Site, places: &[Site], expected: &[u32]) {
    let told = policy.assign(gateway, &endpoints(places));
    let priorities: Vec<u32> = told.iter().map(|endpoint| endpoint.priority).collect();
    assert_eq!(priorities, expected);
}

#[test]
fn near_endpoints_come_first_and_priorities_have_no_gaps() {
    let gateway = site("r1/z1/s1");
    let places = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1"].map(site);
    check(&failover(&[], &[]), &gateway, &places, &[0, 1, 2, 3, 3]);
    check(&failover(&[("r1", "r3")], &[]), &gateway, &places, &[0, 1, 2, 4, 3]);
    check(&failover(&[("r2", "r3")], &[]), &gateway, &places, &[0, 1, 2, 3, 3]);
    check(&failover(&[], &[]), &gateway, &places[2..], &[0, 1, 1]);
    check(&failover(&[], &[]), &Site::default(), &["", "/a", "/b"].map(site), &[0, 1, 1]);
}

#[test]
fn labels_rank_by_the_first_that_differs() {
    let version = |value| labelled("r1/z1", &[("version", value)]);
    let gateway = version("v1");
    let places = [version("v1"), labelled("r1/z2", &[("version", "v1")]), version("v2"), site("r2/z1")];
    check(&failover(&[], &[REGION, ZONE, "version"]), &gateway, &places, &[0, 2, 1, 3]);
    check(&failover(&[], &["version=v2"]), &gateway, &places, &[1, 1, 0, 1]);
    // The network's own difference counts as all the labels, and the rest still tells near from far.
    let networks = [("n1", "r1/z1"), ("n1", "r1/z2"), ("n2", "r1/z1"), ("n2", "r1/z2"), ("n2", "r2/z1")];
    let places = networks.map(|(network, place)| labelled(place, &[(NETWORK, network)]));
    let gateway = labelled("r1/z1", &[(NETWORK, "n1")]);
    check(&failover(&[], &[NETWORK, REGION, ZONE]), &gateway, &places, &[0, 1, 2, 3, 4]);
    // Elsewhere it is a label like any other.
    check(&failover(&[], &[ZONE, NETWORK]), &gateway, &places, &[0, 2, 1, 2, 1]);
}

#[test]
fn labels_and_regions_rank_labels_first() {
    let version = |place, value| labelled(place, &[("version", value)]);
    let places = [version("r2/z", "v1"), version("r3/z", "v1"), version("r1/z", "v2"), version("r3/z", "v2")];
    let policy = failover(&[("r1", "r3")], &["version"]);
    check(&policy, &version("r1/z", "v1"), &places, &[1, 0, 2, 3]);
}

/// Name and weight of each endpoint's locality, in order.
fn weights(policy: &EndpointPolicy, gateway: &str, places: &[&str]) -> Vec<(String, u32)> {
    let sites: Vec<Site> = places.iter().map(|place| site(place)).collect();
    let told = policy.assign(&site(gateway), &endpoints(&sites));
    let weight = |endpoint: EndpointConfig| endpoint.locality.map(|of| (of.name.to_string(), of.weight)).unwrap();
    told.into_iter().map(weight).collect()
}

fn distribution(entries: &[(&str, &[(&str, u32)])]) -> EndpointPolicy {
    let shares = |shares: &[(&str, u32)]| shares.iter().map(|(to, share)| ((*to).to_owned(), *share)).collect();
    let entries = entries.iter().map(|(from, to)| ((*from).to_owned(), shares(to))).collect();
    EndpointPolicy { locality: LocalityPolicy::Distribute(entries), tells_unready: false }
}

#[test]
fn shares_are_divided_by_endpoints_and_rounded_up() {
    let named = |list: &[(&str, u32)]| -> Vec<(String, u32)> {
        list.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    };
    let policy = distribution(&[("r1/z1/*", &[("r1/z1/*", 80), ("r1/z2/*", 20)]), ("r1/*", &[("*", 100)])]);
    let told = weights(&policy, "r1/z1", &["r1/z1", "r1/z2", "r1/z2", "r2/z1"]);
    assert_eq!(told, named(&[("r1/z1/", 80), ("r1/z2/", 20), ("r1/z2/", 20)]), "r2 gets none");
    // One entry for three localities of one endpoint each: 100/3, rounded up.
    let told = weights(&policy, "r1/z2", &["r1/z1", "r1/z2", "r2/z1"]);
    assert_eq!(told, named(&[("r1/z1/", 34), ("r1/z2/", 34), ("r2/z1/", 34)]));
    let told = weights(&policy, "r9/z1", &["r1/z1", "r1/z2", "r1/z2"]);
    assert_eq!(told, named(&[("r1/z1/", 1), ("r1/z2/", 2), ("r1/z2/", 2)]), "no entry is for this gateway");
}

#[test]
fn endpoints_that_are_not_ready_are_told_only_if_the_policy_says_so() {
    let mut all = endpoints(&["r1/z1", "r1/z1"].map(site));
    all[1].0.is_healthy = false;
    for (tells_unready, count) in [(false, 1), (true, 2)] {
        let policy = EndpointPolicy { tells_unready, ..EndpointPolicy::default() };
        let told = policy.assign(&site("r1/z1"), &all);
        assert_eq!(told.len(), count);
        assert!(told.iter().all(|endpoint| endpoint.locality.is_none()));
        assert_eq!(told.iter().filter(|endpoint| endpoint.is_healthy).count(), 1);
    }
}

#[test]
fn a_zone_names_its_region() {
    for (zone, region) in [
        ("eu-west-1a", "eu-west-1"),
        ("us-central1-a", "us-central1"),
        ("cn-hangzhou-b", "cn-hangzhou"),
        ("eastus-1", "eastus"),
        ("a", ""),
        ("z1", ""),
        ("zone1a", ""),
    ] {
        assert_eq!(Locality::of_zone(zone).region, region, "{zone}");
    }
}
