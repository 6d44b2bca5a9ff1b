//! Sessions that stay at their pods by cookies of the balancer: whom they reach, for how long, and where they go when their pod does.

use std::collections::{BTreeMap, BTreeSet};

use gatedrill::drill::Outcome;
use gatedrill::engine::Datum;

use super::{Case, ENI, HTTP, ran};
use crate::shop::{lost, seconds};

const ON: (&str, &str) = ("sticky-session", "on");
const INSERT: (&str, &str) = ("sticky-session-type", "insert");
const SERVER: (&str, &str) = ("sticky-session-type", "server");
const ATTRIBUTES: &str = "alb.ingress.kubernetes.io/target-group-attributes";
const ALB: &str = "{ profile: aws-alb, controllerLatency: 4s }";
const CLIENTS: usize = 8;
const KEEPING: &str = "connections: 8, reuse: lru, cookies: true";
const FORGETTING: &str = "connections: 8, reuse: lru";
/// The gateways set a cookie.
const SETS_COOKIE: &str = r"
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy: { loadBalancer: { consistentHash: { httpCookie: { name: user, ttl: 600s } } } }
";

/// The pods of each client's requests in their order, with the second of each. With `lru` they send in turn, as long as no answer takes longer than a round.
fn pods(outcome: &Outcome) -> Vec<Vec<(f64, String)>> {
    assert_eq!(outcome.run.results.totals.sent, outcome.run.requests.len() as u64, "all rows are kept");
    let mut rows: Vec<_> = outcome.run.requests.iter().collect();
    rows.sort_by(|one, other| one.t_intended_s.total_cmp(&other.t_intended_s));
    let mut by_client = vec![Vec::new(); CLIENTS];
    for (number, row) in rows.into_iter().enumerate() {
        by_client[number % CLIENTS].push((row.t_intended_s, row.pod.clone().expect("a pod has answered")));
    }
    by_client
}

/// How many pods each client has met.
fn counts(outcome: &Outcome) -> Vec<usize> {
    let distinct = |met: &Vec<(f64, String)>| met.iter().map(|(_, pod)| pod).collect::<BTreeSet<_>>().len();
    pods(outcome).iter().map(distinct).collect()
}

#[test]
fn a_session_stays_at_its_pod() {
    let insert = [ENI, HTTP, ON, INSERT, ("cookie-timeout", "60")];
    let server = [ENI, HTTP, ON, SERVER, ("cookie", "user")];
    let alb = [(ATTRIBUTES, "stickiness.enabled=true")];
    let app = "stickiness.enabled=true,stickiness.type=app_cookie,stickiness.app_cookie.cookie_name=user";
    let app = [(ATTRIBUTES, app)];
    let clb = Case::default().balancer;
    for (balancer, annotations, more) in
        [(clb, &insert[..], ""), (clb, &server[..], SETS_COOKIE), (ALB, &alb[..], ""), (ALB, &app[..], SETS_COOKIE)]
    {
        let case =
            Case { balancer, annotations, more, rate: "16/s", duration: "10s", clients: KEEPING, ..Case::default() };
        let outcome = ran(&case);
        assert_eq!(lost(&outcome), BTreeMap::new());
        assert_eq!(counts(&outcome), [1; CLIENTS], "{annotations:?}");
        // Eight clients came in turn to four pods.
        let mut requests = BTreeMap::new();
        outcome.run.requests.iter().for_each(|row| *requests.entry(&row.pod).or_insert(0) += 1);
        assert!(requests.len() == 4 && requests.values().all(|count| *count == 40), "{annotations:?}: {requests:?}");
        // Who keeps no cookies is sent on in turn. Of eight clients each would meet the same of four pods again, of seven it does not.
        let seven = Case { clients: "connections: 7, reuse: lru", ..case };
        let outcome = ran(&seven);
        let by_connection = by_connection(&outcome);
        assert!(by_connection.values().all(|pods| pods.len() == 4), "{annotations:?}: {by_connection:?}");
    }
    // Where the gateway sets no such cookie there is nothing to rewrite, or to stand beside.
    for (balancer, annotations) in [(clb, &server[..]), (ALB, &app[..])] {
        let clients = "connections: 7, reuse: lru, cookies: true";
        let outcome = ran(&Case { balancer, annotations, rate: "14/s", duration: "10s", clients, ..Case::default() });
        assert!(by_connection(&outcome).values().all(|pods| pods.len() == 4), "{annotations:?}");
    }
}

/// The pods that each connection's requests met.
fn by_connection(outcome: &Outcome) -> BTreeMap<Option<u64>, BTreeSet<Option<String>>> {
    let mut found = BTreeMap::new();
    for row in &outcome.run.requests {
        found.entry(row.connection).or_insert_with(BTreeSet::new).insert(row.pod.clone());
    }
    found
}

#[test]
fn a_session_lasts_for_its_time_from_one_answer_to_the_next_request() {
    // A request every 4 s.
    let met = |balancer, annotations: &[(&str, &str)]| {
        let clients = "connections: 1, cookies: true";
        let case = Case { balancer, annotations, rate: "0.25/s", duration: "24s", clients, ..Case::default() };
        let outcome = ran(&case);
        assert_eq!((lost(&outcome), outcome.run.results.totals.sent), (BTreeMap::new(), 6));
        outcome.run.requests.iter().map(|row| row.pod.clone()).collect::<BTreeSet<_>>().len()
    };
    for (seconds, expected) in [("4", 1), ("3", 4)] {
        let annotations = [ENI, HTTP, ON, INSERT, ("cookie-timeout", seconds)];
        assert_eq!(met(Case::default().balancer, &annotations), expected, "CLB {seconds} s");
        let attributes = format!("stickiness.enabled=true,stickiness.lb_cookie.duration_seconds={seconds}");
        assert_eq!(met(ALB, &[(ATTRIBUTES, &attributes)]), expected, "ALB {seconds} s");
    }
}

#[test]
fn sessions_leave_with_their_pod_and_stay_where_they_come_to() {
    let insert = [ENI, HTTP, ON, INSERT, ("cookie-timeout", "600")];
    let alb = [(ATTRIBUTES, "stickiness.enabled=true")];
    for (balancer, annotations) in [("{ controller: each, controllerLatency: 1s }", &insert[..]), (ALB, &alb[..])] {
        let case = Case {
            balancer,
            annotations,
            timeline: "{ at: 2s, restart: {} }",
            pause_s: 6,
            rate: "16/s",
            duration: "62s",
            clients: KEEPING,
            ..Case::default()
        };
        let outcome = ran(&case);
        assert_eq!(lost(&outcome), BTreeMap::new());
        assert!(outcome.run.results.rollouts[0].complete);
        let left: BTreeMap<String, f64> = outcome
            .log
            .events()
            .iter()
            .filter(|event| event.kind == "target_deregistered")
            .map(|event| {
                let pod = event.data.iter().find_map(|(key, value)| match value {
                    Datum::Text(pod) if *key == "pod" => Some(pod.clone()),
                    _ => None,
                });
                (pod.expect("targets are pods"), seconds(event.at.as_nanos()))
            })
            .collect();
        assert_eq!(left.len(), 4, "{left:?}");
        for met in pods(&outcome) {
            for pair in met.windows(2).filter(|pair| pair[0].1 != pair[1].1) {
                let (from, to) = (&pair[0], &pair[1]);
                let gone = left.get(&from.1).unwrap_or_else(|| panic!("{} has not left", from.1));
                // Not before its pod has left, and with the first request after that.
                assert!(to.0 >= *gone - 0.05 && from.0 <= *gone, "left at {gone}: {from:?} {to:?}");
            }
        }
        // The pod that came last had nobody to come to it: so much for an even share.
        let last = |outcome: &Outcome| -> BTreeMap<String, usize> {
            let mut found = BTreeMap::new();
            for row in outcome.run.requests.iter().filter(|row| row.t_intended_s > 55.0) {
                *found.entry(row.pod.clone().unwrap_or_default()).or_default() += 1;
            }
            found
        };
        let (kept, spread) = (last(&outcome), last(&ran(&Case { clients: FORGETTING, ..case })));
        let range = |shares: &BTreeMap<String, usize>| {
            let most = shares.values().max().copied().unwrap_or(0);
            most - if shares.len() < 4 { 0 } else { shares.values().min().copied().unwrap_or(0) }
        };
        assert!(range(&spread) <= 1, "{spread:?}");
        assert!(range(&kept) >= 20, "{kept:?}");
    }
}

#[test]
fn a_session_whose_target_takes_no_connection_goes_to_another_and_stays_there() {
    // A CLB waits for 5 s and asks the next: a session does that once, and who has none does it each time it is the dead node's turn.
    let annotations = [ENI, HTTP, ON, INSERT, ("cookie-timeout", "600")];
    let slow = |clients| {
        let outcome = ran(&Case {
            annotations: &annotations,
            clients,
            timeline: "{ at: 5s, killNode: { node: edge-1 } }",
            rate: "1/s",
            duration: "40s",
            ..Case::default()
        });
        outcome.run.requests.iter().filter(|row| row.cause.is_none() && row.latency_us > 4_900_000).count()
    };
    assert_eq!(slow("connections: 4, reuse: lru, cookies: true"), 1);
    assert!(slow("connections: 4, reuse: lru") >= 6);
}

#[test]
fn sessions_stay_at_a_pod_that_terminates_gracefully_and_die_with_it() {
    // Its weight is 0 from when the controller has seen that it terminates: that keeps others away, and not who has its cookie. When its process has ended it is a
    // target for the controller's second more, and refuses: two sessions of two requests a second.
    let late = |clients, sticky: &[(&'static str, &'static str)]| {
        let mut annotations = vec![ENI, HTTP, ("scheduler", "wrr"), ("graceful-shutdown", "true")];
        annotations.extend_from_slice(sticky);
        let outcome = ran(&Case {
            balancer: "{ controller: each, controllerLatency: 1s }",
            annotations: &annotations,
            timeline: "{ at: 2s, scale: { replicas: 3 } }",
            pause_s: 10,
            rate: "16/s",
            duration: "20s",
            clients,
            ..Case::default()
        });
        let event = outcome.log.events().iter().find(|event| event.kind == "pod_terminating").expect("one goes");
        let pod = event.object.strip_prefix("Pod/").expect("it is a pod").to_owned();
        let since = seconds(event.at.as_nanos()) + 2.0;
        let rows = outcome.run.requests.iter().filter(|row| row.pod.as_ref() == Some(&pod));
        let lost: Vec<_> = lost(&outcome).into_iter().map(|(code, count)| (code.to_owned(), count)).collect();
        (rows.filter(|row| row.t_intended_s > since).count(), lost)
    };
    let sticky = [ON, INSERT, ("cookie-timeout", "600")];
    let (kept, lost) = late(KEEPING, &sticky[..]);
    assert!(matches!(&lost[..], [(code, 3..=5)] if code == "GD4101") && kept >= 20, "{kept} {lost:?}");
    for (clients, annotations) in [(FORGETTING, &sticky[..]), (KEEPING, &[])] {
        assert_eq!(late(clients, annotations), (0, Vec::new()), "{clients}");
    }
}
