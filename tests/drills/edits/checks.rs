//! What health checks ask, from the start and from an edit on: which port, with which method, and what passes.
//!
//! Each has its other side: a check that a ready gateway passes costs nothing, and one that it cannot pass takes all targets out of a CLB. An NLB then sends to all of them.

use super::{Drill, annotate, check_lost, check_quiet, count};
use gatedrill::drill::Outcome;

const ON: (&str, &str) = ("health-check-flag", "on");
const HTTP: (&str, &str) = ("health-check-type", "http");
const PORT: &str = "health-check-connect-port";
const SHOP: [(&str, &str); 2] = [HTTP, ("health-check-domain", "shop.example.com")];

fn nlb(annotations: &[(&str, &str)], timeline: &[&str]) -> Drill {
    let zones = ("zone-maps", "a:vsw-a,b:vsw-b");
    let on = Some(ON).filter(|(name, _)| annotations.iter().all(|(known, _)| known != name));
    let all: Vec<(&str, &str)> = [zones].into_iter().chain(on).chain(annotations.iter().copied()).collect();
    let mut drill = Drill::annotated(timeline, &all);
    drill.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb");
    drill
}

fn lost(drill: &Drill) -> u64 {
    drill.run().run.results.totals.dropped
}

#[test]
fn a_port_that_nobody_listens_on_takes_all_targets_out() {
    let outcome = Drill::annotated(&[], &[(PORT, "9")]).run();
    // Three refused checks, 2 s apart: the last target is out after 4 to 6 s.
    let lost_to = |outcome: &Outcome| outcome.run.results.totals.dropped;
    check_lost(&outcome, &[("GD4129", lost_to(&outcome))], 0);
    assert!((5400..=5600).contains(&lost_to(&outcome)), "{}", lost_to(&outcome));
    check_quiet(&outcome);
    let cause = &outcome.run.results.causes[0];
    let source = cause.source.as_ref().expect("the line of the port");
    assert!(source.path.ends_with("health-check-connect-port]") && source.value.as_deref() == Some("9"), "{source:?}");
    assert!(super::warnings(&outcome).contains("no gateway listens on port 9"), "{}", super::warnings(&outcome));
    // Another that they do listen on is as good as the usual one.
    for port in ["15021", "8080", "80"] {
        assert_eq!(lost(&Drill::annotated(&[], &[(PORT, port)])), 0, "{port}");
    }
}

#[test]
fn an_edit_of_the_port_counts_from_the_controllers_visit_on() {
    let drill = Drill::annotated(&[&annotate("20s", PORT, "9")], &[]);
    let outcome = drill.run();
    // 4 s to the controller, then three checks, the first after up to 2 s: 4 to 6 s.
    let lost = outcome.run.results.totals.dropped;
    check_lost(&outcome, &[("GD4129", lost)], 0);
    assert!((3000..=3200).contains(&lost), "{lost}");
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!(source.line, Some(drill.line("at: 20s")));
    // Mended, it takes three checks more.
    let mended = Drill::annotated(&[&annotate("20s", PORT, "9"), &annotate("40s", PORT, "15021")], &[]).run();
    let lost = mended.run.results.totals.dropped;
    assert!((1800..=2300).contains(&lost), "{lost}");
    assert_eq!(count(&mended, "target_unhealthy"), 2);
}

#[test]
fn an_nlb_whose_targets_all_fail_sends_to_all_of_them() {
    let outcome = nlb(&[(PORT, "9")], &[]).run();
    assert_eq!((outcome.run.results.totals.dropped, count(&outcome, "target_unhealthy")), (0, 2));
    // Its options count only while its flag is on.
    let off = nlb(&[(PORT, "9"), ("health-check-flag", "off")], &[]).run();
    assert_eq!((off.run.results.totals.dropped, count(&off, "target_unhealthy")), (0, 0));
}

#[test]
fn answers_pass_by_their_codes() {
    // The gateway has no route for the target's address: 404.
    let codes = |codes: Option<&str>| {
        let rows: Vec<(&str, &str)> = [HTTP].into_iter().chain(codes.map(|it| ("health-check-httpcode", it))).collect();
        lost(&Drill::annotated(&[], &rows))
    };
    assert!([codes(None), codes(Some("http_2xx,http_3xx"))].iter().all(|lost| *lost > 5400));
    assert_eq!([codes(Some("http_4xx")), codes(Some("http_2xx,http_4xx"))], [0, 0]);
    // With a host that it knows, the backend answers 200.
    assert_eq!(lost(&Drill::annotated(&[], &SHOP)), 0);
    let told = Drill::annotated(&[], &[HTTP, ("health-check-httpcode", "200")]).load().expect_err("the API rejects it");
    assert!(told.contains("the API rejects `200`") && told.contains("http_5xx"), "{told}");
}

#[test]
fn a_clb_asks_with_head_and_an_nlb_with_get() {
    // From 10 s on the gateway knows GET alone.
    let edit =
        "{ at: 10s, set: { \"VirtualService/default/shop.spec.http[0].match\": [ { method: { exact: GET } } ] } }";
    let with = |method: Option<&'static str>| -> Vec<(&'static str, &'static str)> {
        SHOP.into_iter().chain(method.map(|it| ("health-check-method", it))).collect()
    };
    let clb = |method| Drill::annotated(&[edit], &with(method)).run();
    assert!(clb(None).run.results.totals.dropped > 4000);
    assert_eq!(clb(Some("get")).run.results.totals.dropped, 0);
    assert!(clb(Some("head")).run.results.totals.dropped > 4000);
    let failed = |method| count(&nlb(&with(method), &[edit]).run(), "target_unhealthy");
    assert_eq!([failed(None), failed(Some("GET")), failed(Some("HEAD"))], [0, 0, 2]);
}
