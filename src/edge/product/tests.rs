use super::*;
use crate::edge::balancer::{Balancer, BalancerConfig, HealthChange};
use crate::edge::idle::IdleEnd;
use crate::units::SimTime;
use std::net::{Ipv4Addr, SocketAddrV4};

const LOCAL: TrafficPolicy = TrafficPolicy::Local;
const CLUSTER: TrafficPolicy = TrafficPolicy::Cluster;

fn profile(product: Product, policy: TrafficPolicy) -> Profile {
    product.profile(policy).expect("it has one")
}

/// How a target answers its probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Never,
    Refused,
    Well,
}

/// From the start of the first probe that finds a target changed to the change, and the number of probes that takes. A new one is not healthy before.
fn window(profile: &Profile, answer: Answer, is_new: bool) -> (Duration, usize) {
    let check = profile.health_check.expect("it has a check");
    let mut balancer = Balancer::new(BalancerConfig {
        scheduler: profile.scheduler,
        persistence: None,
        health_check: Some(check),
        first_passes: Some(profile.first_passes),
        on_deregister: profile.on_deregister,
        on_unhealthy: profile.on_unhealthy,
        slow_start: None,
        fail_open: profile.fail_open,
        groups: 1,
    });
    let id = balancer.register(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80), 1, None);
    if !is_new {
        balancer.set_healthy(id);
        if answer == Answer::Well {
            while balancer.handle_probe(SimTime::ZERO, id, false, None) != Some(HealthChange::Unhealthy) {}
        }
    }
    let mut started_at = SimTime::ZERO;
    for count in 1.. {
        let ended_at = started_at.after(if answer == Answer::Never { check.timeout } else { Duration::ZERO });
        let was_healthy = balancer.is_healthy(id);
        if balancer.handle_probe(ended_at, id, answer == Answer::Well, None).is_some() {
            return (ended_at.since(SimTime::ZERO), count);
        }
        assert_eq!(balancer.is_healthy(id), was_healthy, "nothing changes before the threshold");
        started_at = check.next_probe(started_at, ended_at);
    }
    unreachable!("each threshold is reached")
}

#[test]
fn failures_are_noticed_after_their_probes_and_not_before() {
    use Answer::{Never, Refused, Well};
    // No answer: interval × (failures − 1) + timeout; at once: interval × (probes − 1).
    let table = [
        (Product::AwsNlb, CLUSTER, Never, false, 30, 3),
        (Product::AwsNlb, CLUSTER, Refused, false, 20, 3),
        (Product::AwsNlb, CLUSTER, Well, false, 20, 3),
        (Product::AwsNlb, CLUSTER, Well, true, 0, 1),
        (Product::AwsAlb, CLUSTER, Never, false, 20, 2),
        (Product::AwsAlb, CLUSTER, Refused, false, 15, 2),
        (Product::AwsAlb, CLUSTER, Well, false, 15, 2),
        (Product::AwsAlb, CLUSTER, Well, true, 0, 1),
        (Product::GcpPassthrough, LOCAL, Never, false, 4, 2),
        (Product::GcpPassthrough, LOCAL, Refused, false, 3, 2),
        (Product::GcpPassthrough, LOCAL, Well, false, 0, 1),
        (Product::GcpPassthrough, CLUSTER, Never, false, 17, 3),
        (Product::GcpPassthrough, CLUSTER, Refused, false, 16, 3),
        (Product::GcpPassthrough, CLUSTER, Well, true, 0, 1),
    ];
    for (product, policy, answer, is_new, seconds, probes) in table {
        let found = window(&profile(product, policy), answer, is_new);
        assert_eq!(found, (Duration::from_secs(seconds), probes), "{product:?} {policy:?} {answer:?}");
    }
}

#[test]
fn open_connections_meet_what_the_documents_say() {
    let seconds = Duration::from_secs;
    let table = [
        (Product::AwsNlb, OnRemoval::Keep, OnRemoval::CutAfter(Duration::ZERO), Some((350, IdleEnd::Forgotten))),
        (Product::AwsAlb, OnRemoval::CutAfter(seconds(300)), OnRemoval::Keep, None),
        (Product::GcpPassthrough, OnRemoval::CutAfter(seconds(30)), OnRemoval::Keep, None),
        (Product::MetalLb, OnRemoval::Forget, OnRemoval::Keep, None),
    ];
    for (product, on_deregister, on_unhealthy, idle) in table {
        let profile = profile(product, LOCAL);
        let found = profile.idle.map(|rule| (rule.timeout.as_secs(), rule.end));
        assert_eq!(
            (profile.on_deregister, profile.on_unhealthy, found),
            (on_deregister, on_unhealthy, idle),
            "{product:?}"
        );
        // A proxy has times of its own.
        let http = profile.http.map(|http| [http.client_idle, http.answer_timeout, http.connect_timeout]);
        assert_eq!(http, (product == Product::AwsAlb).then_some([60, 60, 10].map(seconds)), "{product:?}");
    }
}

#[test]
fn each_product_has_a_name_and_all_but_one_a_profile() {
    for (name, product) in Product::NAMES {
        assert_eq!(product.name(), name);
        for policy in [LOCAL, CLUSTER] {
            let profile = product.profile(policy);
            assert_eq!(profile.is_some(), product != Product::Alibaba, "{name}");
            let Some(profile) = profile else { continue };
            assert!(profile.ways.title.is_some(), "{name}");
            // Who answers by gossip has no checks, and the others do.
            assert_eq!(profile.ways.failover.is_some(), profile.health_check.is_none(), "{name}");
            assert!(profile.first_passes >= 1, "{name}");
        }
    }
    assert_eq!(
        Product::NAMES.iter().filter(|(_, product)| product.is_of_aws()).map(|(name, _)| *name).collect::<Vec<_>>(),
        ["aws-nlb", "aws-alb"]
    );
}

#[test]
fn checks_ask_where_the_product_asks() {
    let probe = |product, policy| profile(product, policy).check.probe(8080, Some(32_000));
    assert_eq!(probe(Product::AwsNlb, LOCAL), Probe::Tcp);
    let of_alb = HttpProbe { passes: vec![(200, 200)], ..HttpProbe::get(8080, "/") };
    assert_eq!(probe(Product::AwsAlb, LOCAL), Probe::Http(of_alb));
    assert_eq!(probe(Product::GcpPassthrough, LOCAL), Probe::ServiceHealth { port: 32_000, asks_status: true });
    assert_eq!(probe(Product::GcpPassthrough, CLUSTER), Probe::ProxyHealth { port: 10_256, asks_status: true });
}
