//! Zones: near endpoints first, others when those fail, and back; and shares of the requests for each zone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::gateway::locality::{EndpointPolicy, Locality, LocalityPolicy, Site};
use gatedrill::gateway::outlier::OutlierConfig;
use gatedrill::gateway::{ClusterConfig, EndpointConfig, Policy};
use gatedrill::units::SimTime;

use super::world::{Act, MS, SECOND, Seen, Setup, WEB, World, endpoint};

/// What a pod has seen.
type Pod = Rc<RefCell<Vec<Seen>>>;

fn site(zone: &str) -> Site {
    Site::new(Locality::of_zone(zone), "", &BTreeMap::new())
}

/// A world whose gateway is in zone `r-a` and is told of pods from 21 on in these zones.
fn world(config: ClusterConfig, locality: LocalityPolicy, zones: &[&str]) -> World {
    let mut config = config;
    config.balance.is_locality_weighted = locality.is_weighted();
    let world = World::new(Setup { config, ..Setup::default() });
    let pods = (21..).zip(zones).map(|(last, zone)| (EndpointConfig::new(endpoint(last)), site(zone)));
    let policy = EndpointPolicy { locality, tells_unready: false };
    world.configure_endpoints(WEB, &policy.assign(&site("r-a"), &pods.collect::<Vec<_>>()));
    world
}

fn near() -> LocalityPolicy {
    LocalityPolicy::Failover { regions: Vec::new(), labels: Vec::new() }
}

/// Requests at this pace until then.
fn ask_every(world: &World, pace: Duration, end: Duration) {
    let count = u32::try_from(end.as_nanos() / pace.as_nanos()).expect("a small number");
    (0..count).for_each(|number| world.get_at(pace * number));
    world.run_until(end);
}

#[test]
fn a_zone_that_fails_is_left_for_the_next_and_taken_up_again() {
    let outlier = OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::ISTIO };
    let config = ClusterConfig { outlier: Some(outlier), ..ClusterConfig::ISTIO };
    let world = world(config, near(), &["r-a", "r-a", "r-b", "r-b", "s-a", "s-a"]);
    // The gateway's own zone is out from 10 s to 30 s.
    let is_out = |at: Duration| (10 * SECOND..30 * SECOND).contains(&at);
    let since = |at: SimTime| at.since(SimTime::ZERO);
    let own: Vec<_> = (21..23)
        .map(|last| world.pod(last, move |at, _| Act::Status(if is_out(since(at)) { 503 } else { 200 })))
        .collect();
    let next: Vec<_> = (23..25).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
    let far: Vec<_> = (25..27).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
    ask_every(&world, 10 * MS, 80 * SECOND);
    let count = |pods: &[Pod], from: u32, to: u32| -> usize {
        let within = from * SECOND..to * SECOND;
        pods.iter().map(|pod| pod.borrow().iter().filter(|seen| within.contains(&since(seen.at))).count()).sum()
    };
    assert_eq!((count(&own, 0, 10), count(&next, 0, 10)), (1000, 0), "all requests stay in the zone");
    // Both pods are ejected within some requests of their own zone's end, the first of which sends a part on.
    assert!((10..60).contains(&count(&own, 10, 11)), "{}", count(&own, 10, 11));
    assert_eq!((count(&own, 11, 40), count(&next, 12, 40)), (0, 2800), "and then none comes there");
    assert_eq!(count(&own, 60, 80), 2000, "after the ejections all is as it was");
    assert_eq!(count(&far, 0, 80), 0, "another region is never needed");
}

#[test]
fn a_zone_keeps_all_requests_while_72_percent_of_it_are_healthy() {
    for (unready, sent_on) in [(28, 0), (29, 1), (50, 30), (100, 100)] {
        let world = World::new(Setup { config: ClusterConfig::ISTIO, ..Setup::default() });
        let zones = (0..200).map(|number| site(if number < 100 { "r-a" } else { "r-b" }));
        let pods = (21..).zip(zones).map(|(last, site)| {
            let is_healthy = last >= 21 + unready;
            (EndpointConfig { is_healthy, ..EndpointConfig::new(endpoint(last)) }, site)
        });
        let policy = EndpointPolicy { locality: near(), tells_unready: true };
        world.configure_endpoints(WEB, &policy.assign(&site("r-a"), &pods.collect::<Vec<_>>()));
        let near: Vec<_> = (21..121).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
        let far: Vec<_> = (121..221).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
        ask_every(&world, 5 * MS, 20 * SECOND);
        let count = |pods: &[Pod]| -> usize { pods.iter().map(|pod| pod.borrow().len()).sum() };
        let (near, far) = (count(&near), count(&far));
        assert_eq!(near + far, 4000);
        // Four standard deviations of a share of 4000 draws.
        let (mean, share) = (40.0 * f64::from(sent_on), f64::from(sent_on) / 100.0);
        let spread = 4.0 * (4000.0 * share * (1.0 - share)).sqrt();
        let found = f64::from(u32::try_from(far).unwrap());
        assert!((found - mean).abs() <= spread, "{unready} unready: {far} of 4000 went on");
    }
}

/// How many of 4000 requests each pod gets, where zone b gets 20 of 100.
fn shared(policy: Policy, zones: &[&str]) -> Vec<usize> {
    let shares = vec![("r/r-a/*".to_owned(), 80), ("r/r-b/*".to_owned(), 20)];
    let locality = LocalityPolicy::Distribute(vec![("r/r-a/*".to_owned(), shares)]);
    let world = world(ClusterConfig::balanced(policy), locality, zones);
    let pods: Vec<_> = (21..).zip(zones).map(|(last, _)| world.pod(last, |_, _| Act::Status(200))).collect();
    ask_every(&world, 5 * MS, 20 * SECOND);
    pods.iter().map(|pod| pod.borrow().len()).collect()
}

#[test]
fn zones_get_their_shares_however_many_pods_they_have() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random] {
        let found = shared(policy, &["r-a", "r-b", "r-b", "r-b", "s-a"]);
        // Zones take turns by weight, so shares are exact up to where the turns begin.
        assert!((3199..=3201).contains(&found[0]), "{policy:?}: {found:?}");
        assert!((799..=801).contains(&found[1..4].iter().sum::<usize>()), "{policy:?}: {found:?}");
        assert_eq!(found[4], 0, "{policy:?}: in none of the shares");
    }
    // Rings share their places out by weight; a request without a key has a random place.
    for policy in [Policy::RingHash { minimum: 65_536, maximum: 8 << 20 }, Policy::MAGLEV] {
        let found = shared(policy, &["r-a", "r-b", "r-b", "r-b", "s-a"]);
        assert!((3080..=3320).contains(&found[0]), "{policy:?}: {found:?}");
        assert_eq!((found.iter().sum::<usize>(), found[4]), (4000, 0), "{policy:?}: {found:?}");
    }
}

#[test]
fn a_zone_without_pods_leaves_its_share_to_the_others() {
    let found = shared(Policy::LeastRequest, &["r-b", "r-b"]);
    assert_eq!(found.iter().sum::<usize>(), 4000, "{found:?}");
}
