//! Listeners that redirect to HTTPS: `forward-port`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, ENI, ran};
use crate::shop::{PREFIX, annotation_lines, lost};

const PROTOCOLS: (&str, &str) = ("protocol-port", "http:80,https:81");
const CERTIFICATE: (&str, &str) = ("cert-id", "c-1");
const FORWARD: (&str, &str) = ("forward-port", "80:81");
const PLAIN: &str = "http://shop.example.com/";
const SECURE: &str = "https://shop.example.com:81/";

#[test]
fn a_listener_that_redirects_answers_itself_and_asks_no_pod() {
    let annotations = [ENI, PROTOCOLS, CERTIFICATE, FORWARD];
    for (url, forward, expected) in [(PLAIN, true, 302), (PLAIN, false, 200), (SECURE, true, 200)] {
        let annotations = if forward { &annotations[..] } else { &annotations[..3] };
        let outcome = ran(&Case { annotations, url, duration: "5s", ..Case::default() });
        assert_eq!((lost(&outcome), outcome.run.results.totals.sent), (BTreeMap::new(), 200), "{url} {forward}");
        let statuses: BTreeSet<Option<u16>> = outcome.run.requests.iter().map(|row| row.status).collect();
        assert_eq!(statuses, BTreeSet::from([Some(expected)]), "{url} {forward}");
        let pods = outcome.run.requests.iter().filter(|row| row.pod.is_some()).count();
        assert_eq!(pods > 0, expected == 200, "{url} {forward}: {pods} requests came to pods");
        // The clients keep their connections.
        assert_eq!(outcome.run.results.totals.connections_opened, 8, "{url} {forward}");
    }
    // It needs no target, and counts as any other by the second.
    let gone = "{ at: 1s, scale: { replicas: 0 } }";
    let case = Case { annotations: &annotations, url: PLAIN, timeline: gone, duration: "20s", ..Case::default() };
    assert_eq!(lost(&ran(&case)), BTreeMap::new());
    let limited =
        [ENI, PROTOCOLS, CERTIFICATE, FORWARD, ("instance-charge-type", "PayBySpec"), ("spec", "slb.s1.small")];
    let case = Case { annotations: &limited, rate: "1200/s", clients: "connections: 200", duration: "4s", ..case };
    // As at any listener for HTTP: 4 times 200 too many, but for those that are still on their way at first.
    let outcome = ran(&Case { timeline: "", ..case });
    let over = lost(&outcome);
    assert_eq!(over, BTreeMap::from([("GD4127", 788)]));
}

#[test]
fn a_listener_that_is_to_redirect_otherwise_is_made_anew() {
    let annotations = [ENI, PROTOCOLS, CERTIFICATE];
    let path = format!("Service/default/edge.metadata.annotations[{PREFIX}forward-port]");
    let timeline = format!("{{ at: 2s, set: {{ '{path}': \"80:81\" }} }}");
    let case = Case { annotations: &annotations, timeline: &timeline, duration: "12s", ..Case::default() };
    let outcome = ran(&case);
    let kinds = |kind: &str| outcome.log.events().iter().filter(|event| event.kind == kind).count();
    assert_eq!((kinds("lb_listener_deleted"), kinds("lb_listener_created")), (1, 1));
    assert!(lost(&outcome).keys().all(|code| *code == "GD4117"), "{:?}", lost(&outcome));
    let mut rows: Vec<_> = outcome.run.requests.iter().filter(|row| row.cause.is_none()).collect();
    rows.sort_by(|one, other| one.t_intended_s.total_cmp(&other.t_intended_s));
    let answers: Vec<Option<u16>> = rows.iter().map(|row| row.status).collect();
    let first = answers.iter().position(|status| *status == Some(302)).expect("it comes");
    assert!(first > 0 && answers[..first].iter().all(|status| *status == Some(200)));
    assert!(answers[first..].iter().all(|status| *status == Some(302)));
}

#[test]
fn a_listener_redirects_no_more_when_nobody_writes_it() {
    // The controller compares both with what is written, and makes the listener anew where they differ: nothing stays as it was.
    let annotations = [ENI, PROTOCOLS, CERTIFICATE, FORWARD];
    for (suffix, made) in [("forward-port", 1), ("protocol-port", 2)] {
        let left: Vec<String> = annotation_lines(annotations.into_iter().filter(|(name, _)| *name != suffix))
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        let timeline =
            format!("{{ at: 2s, set: {{ Service/default/edge.metadata.annotations: {{ {} }} }} }}", left.join(", "));
        let case =
            Case { annotations: &annotations, timeline: &timeline, url: PLAIN, duration: "12s", ..Case::default() };
        let outcome = ran(&case);
        let kinds = |kind: &str| outcome.log.events().iter().filter(|event| event.kind == kind).count();
        assert_eq!((kinds("lb_listener_deleted"), kinds("lb_listener_created")), (made, made), "{suffix}");
        let mut rows: Vec<_> = outcome.run.requests.iter().filter(|row| row.cause.is_none()).collect();
        rows.sort_by(|one, other| one.t_intended_s.total_cmp(&other.t_intended_s));
        let redirected = rows.iter().take_while(|row| row.status == Some(302)).count();
        assert!(redirected > 0 && redirected < rows.len(), "{suffix}");
        assert!(rows[redirected..].iter().all(|row| row.status == Some(200)), "{suffix}");
    }
}
