//! Services that let go of their balancer and leave it where it is: one that was reused, one that is to be preserved.
//!
//! Each rule has its other side: what goes with its Service, and what stays; what is followed, and what is not any more.

use super::{Drill, check_lost, check_quiet, count, first_ms, warnings};
use gatedrill::drill::Outcome;

const FORCE: (&str, &str) = ("force-override-listeners", "true");
const REUSE: (&str, &str) = ("id", "lb-hand");
const PRESERVE: (&str, &str) = ("preserve-lb-on-delete", "true");
const ZONES: (&str, &str) = ("zone-maps", "a:vsw-a,b:vsw-b");
const RESTART: &str = "{ at: 40s, restart: {} }";

fn to(at: &str, kind: &str) -> String {
    format!("{{ at: {at}, set: {{ \"IstioGateway/istio-system/edge.spec.serviceType\": {kind} }} }}")
}

/// A Service with an NLB, if wished, and these annotations.
fn with(is_nlb: bool, annotations: &[(&str, &str)], timeline: &[&str]) -> Drill {
    let zones: &[(&str, &str)] = if is_nlb { &[ZONES] } else { &[] };
    let all: Vec<(&str, &str)> = zones.iter().chain(annotations).copied().collect();
    let mut drill = Drill::annotated(timeline, &all);
    if is_nlb {
        drill.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb");
    }
    drill
}

/// Lines behind the losses on the way to the gateway; what its pods lose at their end has lines of its own.
fn lines(outcome: &Outcome) -> Vec<u32> {
    let of_way = |code: &str| ["GD4101", "GD4105", "GD4111", "GD4117", "GD4302"].contains(&code);
    let causes = outcome.run.results.causes.iter().filter(|cause| of_way(&cause.code));
    let sources = causes.map(|cause| cause.source.clone().expect("a source"));
    sources.map(|source| source.line.expect("a line")).collect()
}

#[test]
fn a_reused_balancer_loses_the_listeners_that_its_controller_wrote() {
    for is_nlb in [false, true] {
        let drill = with(is_nlb, &[REUSE, FORCE], &[&to("20s", "ClusterIP")]);
        let outcome = drill.run();
        check_lost(&outcome, &[("GD4117", 3600)], 2);
        check_quiet(&outcome);
        let totals = &outcome.run.results.totals;
        assert!(totals.dropped - totals.refused <= 2, "it is there, and refuses: {totals:?}");
        assert_eq!((first_ms(&outcome, "lb_listener_deleted"), count(&outcome, "lb_deleted")), (24_000, 0));
        assert_eq!((count(&outcome, "lb_listener_deleted"), count(&outcome, "target_deregistered")), (2, 2));
        assert_eq!(lines(&outcome), [drill.line("at: 20s")]);
        assert!(warnings(&outcome).contains("takes away the listeners"), "{}", warnings(&outcome));
        // Kept connections through them are reset, and nobody opens another.
        let mut kept = drill.clone();
        kept.clients = "connections: 4,";
        check_lost(&kept.run(), &[("GD4117", 3600)], 2);
    }
}

#[test]
fn a_reused_balancer_that_is_wanted_again_serves_at_its_old_address() {
    let outcome = with(false, &[REUSE, FORCE], &[&to("20s", "ClusterIP"), &to("40s", "LoadBalancer")]).run();
    assert_eq!((first_ms(&outcome, "lb_listener_created"), count(&outcome, "lb_created")), (44_000, 0));
    check_quiet(&outcome);
    // 20 s without listeners; then targets that are new have to pass three checks, 2 s apart.
    check_lost(&outcome, &[("GD4117", 2000), ("GD4130", 400)], 8);
    let [status] = &outcome.run.results.gateway.status[..] else { panic!("one gateway") };
    assert_eq!((&*status.state, status.address.as_deref()), ("Running", Some("203.0.113.1")));
    // With another id it is another balancer, which nobody dials.
    let other = "{ at: 40s, set: { \"IstioGateway/istio-system/edge.spec.serviceType\": LoadBalancer, \
                 \"IstioGateway/istio-system/edge.spec.serviceAnnotations[service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id]\": lb-other } }";
    let outcome = with(false, &[REUSE, FORCE], &[&to("20s", "ClusterIP"), other]).run();
    check_lost(&outcome, &[("GD4117", 3600)], 2);
    assert_eq!(count(&outcome, "lb_created"), 1);
}

#[test]
fn listeners_that_are_not_the_controllers_keep_their_targets_for_ever() {
    for is_nlb in [false, true] {
        let quiet = with(is_nlb, &[REUSE], &[&to("20s", "ClusterIP")]).run();
        check_lost(&quiet, &[], 0);
        check_quiet(&quiet);
        // It tries again and again: after 5 s, 10 s, 20 s.
        assert!(count(&quiet, "lb_sync_failed") >= 3);
        let why = if is_nlb { "ResourceInUse.ServerGroup" } else { "RspoolVipExist" };
        assert!(quiet.log.events().iter().any(|event| format!("{:?}", event.data).contains(why)));
        // Nobody tells it of new pods, and nobody of those that leave.
        let drill = with(is_nlb, &[REUSE], &[&to("20s", "ClusterIP"), RESTART]);
        let outcome = drill.run();
        assert_eq!(count(&outcome, "target_registered"), 2, "those of the start");
        assert!(outcome.run.results.totals.dropped > 300, "{:?}", outcome.run.results.totals);
        assert!(lines(&outcome).iter().all(|line| *line == drill.line("at: 20s")), "{:?}", outcome.run.results.causes);
        // Had it stayed a LoadBalancer, the same restart would have cost less.
        let followed = with(is_nlb, &[REUSE], &[RESTART]).run();
        assert!(followed.run.results.totals.dropped < outcome.run.results.totals.dropped);
        // When it is one again before the restart, its controller follows again.
        let back = with(is_nlb, &[REUSE], &[&to("10s", "ClusterIP"), &to("20s", "LoadBalancer"), RESTART]).run();
        assert_eq!(back.run.results.totals.dropped, followed.run.results.totals.dropped);
        assert!(lines(&back).iter().all(|line| *line != drill.line("at: 20s")));
    }
}

#[test]
fn a_preserved_nlb_serves_on_with_the_targets_it_has() {
    let drill = with(true, &[PRESERVE], &[&to("20s", "ClusterIP")]);
    let outcome = drill.run();
    check_lost(&outcome, &[], 0);
    check_quiet(&outcome);
    assert_eq!((first_ms(&outcome, "lb_left"), count(&outcome, "lb_deleted")), (24_000, 0));
    let rolled = with(true, &[PRESERVE], &[&to("20s", "ClusterIP"), RESTART]);
    let outcome = rolled.run();
    assert_eq!(count(&outcome, "target_registered"), 2);
    assert!(outcome.run.results.totals.dropped > 300);
    assert!(lines(&outcome).iter().all(|line| *line == rolled.line("at: 20s")));
    // Whatever the annotation says counts, and nothing does not.
    let word = with(true, &[("preserve-lb-on-delete", "no")], &[&to("20s", "ClusterIP")]).run();
    check_lost(&word, &[], 0);
    let none = with(true, &[("preserve-lb-on-delete", "")], &[&to("20s", "ClusterIP")]).run();
    check_lost(&none, &[("GD4111", 3600)], 2);
    // Wanted again, it gets another: the one that was preserved is nobody's, and serves on.
    let again = with(true, &[PRESERVE], &[&to("20s", "ClusterIP"), &to("40s", "LoadBalancer")]).run();
    check_lost(&again, &[], 0);
    assert_eq!(count(&again, "lb_created"), 1);
}

#[test]
fn a_preserved_clb_is_an_address_that_refuses() {
    let drill = with(false, &[PRESERVE], &[&to("20s", "ClusterIP")]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4117", 3600)], 2);
    assert_eq!((count(&outcome, "lb_deleted"), count(&outcome, "lb_left")), (0, 1));
    assert_eq!(lines(&outcome), [drill.line("at: 20s")]);
    // One that is reused and to be preserved: an NLB's controller leaves its listeners alone, a CLB's does not.
    let kept = with(true, &[REUSE, FORCE, PRESERVE], &[&to("20s", "ClusterIP")]).run();
    check_lost(&kept, &[], 0);
    let cleared = with(false, &[REUSE, FORCE, PRESERVE], &[&to("20s", "ClusterIP")]).run();
    check_lost(&cleared, &[("GD4117", 3600)], 2);
}

#[test]
fn nodes_as_targets_go_with_their_ports() {
    let nodes = |kind: &str| {
        let mut drill = with(true, &[PRESERVE], &[&to("20s", kind)]);
        let ecs = "serviceAnnotations: { service.beta.kubernetes.io/backend-type: ecs,";
        drill.service = drill.service.replace("serviceAnnotations: {", ecs);
        drill
    };
    // A Service of type NodePort keeps them, and the nodes of the group go on.
    check_lost(&nodes("NodePort").run(), &[], 0);
    let drill = nodes("ClusterIP");
    let outcome = drill.run();
    // Each node has heard of it after 500 ms.
    check_lost(&outcome, &[("GD4117", 3950)], 4);
    assert_eq!(lines(&outcome), [drill.line("at: 20s")]);
}

#[test]
fn a_gateway_that_is_deleted_leaves_a_reused_balancer_behind() {
    let delete = "{ at: 20s, delete: {} }";
    let lost = |is_nlb: bool, annotations: &[(&str, &str)]| {
        let drill = with(is_nlb, annotations, &[delete]);
        let outcome = drill.run();
        assert!(lines(&outcome).iter().all(|line| *line == drill.line("at: 20s")), "{:?}", outcome.run.results.causes);
        let codes: Vec<String> = outcome.run.results.causes.iter().map(|cause| cause.code.clone()).collect();
        (codes, outcome.run.results.totals.clone())
    };
    let (codes, own) = lost(false, &[]);
    assert_eq!(codes, ["GD4111"]);
    assert!(own.dropped - own.connect_timeout <= 2, "nobody answers: {own:?}");
    let (codes, written) = lost(false, &[REUSE, FORCE]);
    assert_eq!(codes, ["GD4117"]);
    assert!(written.dropped - written.refused <= 2, "{written:?}");
    // The listeners lead to pods that are gone.
    let (codes, by_hand) = lost(false, &[REUSE]);
    assert!(["GD4101", "GD4105", "GD4302"].iter().all(|code| codes.iter().any(|its| its == code)), "{codes:?}");
    assert!(by_hand.dropped > 3000, "{by_hand:?}");
}

#[test]
fn within_the_cluster_a_balancer_without_listeners_refuses_too() {
    let mut drill = with(false, &[REUSE, FORCE], &[&to("20s", "ClusterIP")]);
    drill.clients = "location: cluster, reuse: none,";
    check_lost(&drill.run(), &[("GD4117", 3600)], 2);
    drill.service = drill.service.replace("\"true\"", "\"false\"");
    check_lost(&drill.run(), &[], 0);
}
