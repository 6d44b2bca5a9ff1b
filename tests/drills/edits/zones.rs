//! Edits of the zones in which an NLB has its addresses.

use super::{Drill, PREFIX, annotate, check_lost, check_quiet, count, first_ms, warnings};
use gatedrill::drill::Outcome;

/// An NLB in these zones, whose name clients ask for every ten seconds.
fn nlb(zones: &str, timeline: &[&str]) -> Drill {
    let mut drill = Drill::annotated(timeline, &[("zone-maps", zones), ("cross-zone-enabled", "on")]);
    drill.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb");
    drill.balancer = ", dns: { ttl: 10s, probing: 30s }";
    drill
}

const AB: &str = "a:vsw-a,b:vsw-b";

fn failures(outcome: &Outcome) -> usize {
    count(outcome, "lb_sync_failed")
}

#[test]
fn who_knows_the_address_of_a_zone_that_was_left_is_lost_until_it_asks_again() {
    let drill = nlb(AB, &[&annotate("20s", "zone-maps", "b:vsw-b,c:vsw-c")]);
    let outcome = drill.run();
    check_quiet(&outcome);
    assert_eq!((first_ms(&outcome, "zone_added"), first_ms(&outcome, "zone_removed")), (24_000, 24_000));
    // Half of 100/s, and fewer as answers of up to ten seconds grow old: a quarter of 1,000.
    check_lost(&outcome, &[("GD4126", 250)], 45);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!(source.line, Some(drill.line("at: 20s")));
    assert!(source.value.is_some_and(|value| value.contains("c:vsw-c")));
    // Connections that are kept through it hear nothing.
    let mut kept = drill;
    kept.clients = "connections: 8,";
    let lost = kept.run().run.results.totals.dropped;
    assert!((1..=60).contains(&lost), "{lost}");
}

#[test]
fn a_zone_that_is_added_gets_its_share_and_nothing_is_lost() {
    let outcome = nlb(AB, &[&annotate("20s", "zone-maps", "a:vsw-a,b:vsw-b,c:vsw-c")]).run();
    check_lost(&outcome, &[], 0);
    check_quiet(&outcome);
    assert_eq!((count(&outcome, "zone_added"), count(&outcome, "zone_removed")), (1, 0));
    // One that fails then is an address of three.
    let fail = "{ at: 40s, failZone: { zone: c } }";
    let lost = |timeline: &[&str]| nlb(AB, timeline).run().run.results.totals.dropped;
    let edit = annotate("20s", "zone-maps", "a:vsw-a,b:vsw-b,c:vsw-c");
    let third = lost(&[&edit, fail]);
    assert!(third.abs_diff(2000 / 3) < 80, "a third of 100/s for 20 s, until anybody knows: {third}");
}

#[test]
fn a_zone_that_is_only_left_out_stays() {
    let three = "a:vsw-a,b:vsw-b,c:vsw-c";
    let outcome = nlb(three, &[&annotate("20s", "zone-maps", AB)]).run();
    check_lost(&outcome, &[], 0);
    assert_eq!(count(&outcome, "zone_removed"), 0);
    assert!(warnings(&outcome).contains("a zone that is only left out stays"), "{}", warnings(&outcome));
    // A vSwitch that changes makes the controller write its whole list.
    let outcome = nlb(three, &[&annotate("20s", "zone-maps", "a:vsw-other,b:vsw-b")]).run();
    assert_eq!(count(&outcome, "zone_removed"), 1);
}

#[test]
fn zones_that_cannot_be_read_stop_the_controller_and_those_that_cannot_be_do_not() {
    let restart = "{ at: 30s, restart: {} }";
    let unread = nlb(AB, &[&annotate("20s", "zone-maps", "a"), restart]).run();
    let path = "IstioGateway/istio-system/edge.spec.serviceAnnotations";
    let gone = format!("{{ at: 20s, set: {{ {path}: {{ {PREFIX}-cross-zone-enabled: \"on\" }} }} }}");
    let gone = nlb(AB, &[&gone, restart]).run();
    for outcome in [&unread, &gone] {
        // No target comes or goes any more: the new pods get nothing.
        assert!(outcome.run.results.totals.dropped > 1000, "{}", outcome.run.results.totals.dropped);
        assert!(failures(outcome) > 1);
    }
    // One zone is too few for the cloud: all else goes on.
    let outcome = nlb(AB, &[&annotate("20s", "zone-maps", "c:vsw-c"), restart]).run();
    assert!(failures(&outcome) > 1 && count(&outcome, "zone_removed") == 0);
    let plain = nlb(AB, &[restart]).run();
    assert_eq!(outcome.run.results.totals.dropped, plain.run.results.totals.dropped);
}
