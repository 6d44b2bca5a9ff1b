//! An ALB's targets that are new get their share little by little.

use gatedrill::drill::Outcome;

use super::{Case, only_last, ran, refusals};
use crate::shop::lost;

const NAME: &str = "alb.ingress.kubernetes.io/target-group-attributes";

/// A fifth pod comes: requests to it within so many seconds from when it is healthy, and in the ten seconds after them.
fn to_the_new(attributes: &str, seconds: f64) -> (usize, usize) {
    let annotations = [(NAME, attributes)];
    let outcome: Outcome = ran(&Case {
        balancer: "{ profile: aws-alb, controllerLatency: 1s }",
        annotations: &annotations,
        timeline: "{ at: 1s, scale: { replicas: 5 } }",
        rate: "15/s",
        duration: "62s",
        ..Case::default()
    });
    assert!(lost(&outcome).is_empty());
    let healthy_s = only_last(&outcome, "target_healthy");
    let old = outcome.run.requests.iter().filter(|row| row.t_intended_s < healthy_s);
    let old: std::collections::BTreeSet<_> = old.map(|row| row.pod.clone()).collect();
    assert_eq!(old.len(), 4);
    let within = |from: f64, to: f64| {
        let rows = outcome.run.requests.iter().filter(|row| !old.contains(&row.pod));
        rows.filter(|row| (from..to).contains(&(row.t_intended_s - healthy_s))).count()
    };
    assert_eq!(outcome.run.results.totals.sent, outcome.run.requests.len() as u64, "all rows are kept");
    (within(0.0, seconds), within(seconds, seconds + 10.0))
}

#[test]
fn a_new_target_gets_what_its_age_allows() {
    // With the part f of its turns its share of all is f of 4 + f: over its time 1 − 4·ln(5/4) of what all get, 0.107, in place of a fifth.
    let (new, after) = to_the_new("slow_start.duration_seconds=30", 30.0);
    assert!(new.abs_diff(48) <= 3, "{new} of 450");
    assert!(after.abs_diff(30) <= 1, "{after} of 150");
    let (new, _) = to_the_new("slow_start.duration_seconds=40", 40.0);
    assert!(new.abs_diff(64) <= 3, "{new} of 600");
    for attributes in ["", "slow_start.duration_seconds=0"] {
        let (at_once, _) = to_the_new(attributes, 30.0);
        assert!(at_once.abs_diff(90) <= 1, "{at_once} of 450");
    }
}

#[test]
fn what_aws_refuses_together_is_refused() {
    let told = |attributes: &'static str| {
        refusals(&Case { balancer: "{ profile: aws-alb }", annotations: &[(NAME, attributes)], ..Case::default() })
    };
    for (attributes, expected) in [
        ("slow_start.duration_seconds=29", "AWS refuses a number below 30 that is not 0"),
        ("slow_start.duration_seconds=901", "`901` is no number from 0 to 900"),
        (
            "slow_start.duration_seconds=30,load_balancing.algorithm.type=least_outstanding_requests",
            "AWS refuses slow start with the algorithm least_outstanding_requests",
        ),
        (
            "slow_start.duration_seconds=30,load_balancing.algorithm.type=weighted_random",
            "AWS refuses slow start with the algorithm weighted_random",
        ),
        (
            "stickiness.enabled=true,load_balancing.algorithm.type=weighted_random",
            "AWS refuses stickiness with the algorithm weighted_random",
        ),
        ("stickiness.enabled=yes", "AWS's controller refuses it"),
        ("stickiness.enabled=true,stickiness.type=source_ip", "`source_ip`: AWS's controller refuses it"),
        ("stickiness.lb_cookie.duration_seconds=0", "`0` is no number from 1 to 604800"),
        ("stickiness.lb_cookie.duration_seconds=604801", "`604801` is no number from 1 to 604800"),
        ("stickiness.enabled=true,stickiness.type=app_cookie", "without stickiness.app_cookie.cookie_name"),
        (
            "stickiness.enabled=true,stickiness.type=app_cookie,stickiness.app_cookie.cookie_name=AWSALBX",
            "AWS refuses `AWSALBX` as the name",
        ),
        ("preserve_client_ip.enabled=true", "AWS knows no attribute `preserve_client_ip.enabled`"),
    ] {
        let found = told(attributes);
        assert!(found.iter().any(|it| it.starts_with("29: ") && it.contains(expected)), "{attributes}: {found:?}");
    }
    for attributes in [
        "slow_start.duration_seconds=30",
        "slow_start.duration_seconds=900,stickiness.enabled=true,stickiness.type=lb_cookie",
        "slow_start.duration_seconds=0,load_balancing.algorithm.type=least_outstanding_requests",
        "stickiness.enabled=true,load_balancing.algorithm.type=least_outstanding_requests",
        "load_balancing.algorithm.type=weighted_random,load_balancing.algorithm.anomaly_mitigation=on",
        "stickiness.enabled=false,load_balancing.algorithm.type=weighted_random",
    ] {
        assert_eq!(told(attributes), [""; 0], "{attributes}");
    }
}
