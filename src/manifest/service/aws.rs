//! The annotations that the AWS Load Balancer Controller reads of a Service: of which balancer, what they may say, and whether that matters here.
//!
//! Those of an NLB begin with `service.beta.kubernetes.io/aws-load-balancer-`, those of an ALB with `alb.ingress.kubernetes.io/`: the controller reads some of
//! the latter from the Service that an Ingress leads to, and there they win over the Ingress'. An Ingress itself is not simulated.
//!
//! Source: kubernetes-sigs/aws-load-balancer-controller docs/guide/service/annotations.md, docs/guide/ingress/annotations.md; AWS Elastic Load Balancing API,
//! `CreateTargetGroup` and `TargetGroupAttribute` (ranges).

use super::annotations::Effect::{self, Approximated, Ignored, Modelled};
use super::annotations::Values::{self, Any, Number, Word};

/// How an NLB's annotations begin.
pub const NLB_PREFIX: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// How an ALB's begin.
pub const ALB_PREFIX: &str = "alb.ingress.kubernetes.io/";
/// How the annotation of a listener's attributes begins, after the NLB's prefix; protocol and port follow.
pub const LISTENER: &str = "listener-attributes.TCP-";

/// One annotation.
#[derive(Clone, Copy, Debug)]
pub struct AwsRow {
    /// Its last part.
    pub suffix: &'static str,
    /// What it may say.
    pub values: Values,
    /// What it does.
    pub effect: Effect,
}

const fn row(suffix: &'static str, values: Values, effect: Effect) -> AwsRow {
    AwsRow { suffix, values, effect }
}

const PLAIN: Effect = Ignored("nothing is decrypted at the balancer");
const LEGACY: Effect = Ignored("only the former controller within Kubernetes reads it, for a Classic Load Balancer");
const ZONES: Effect = Ignored("one address stands for those of all zones");
const OF_INGRESS: Effect = Ignored("it counts on an Ingress only, which is not simulated");
const PROTOCOLS: Values = Word(&["tcp", "http", "https", "TCP", "HTTP", "HTTPS"]);

/// An NLB's.
pub const NLB_ROWS: [AwsRow; 38] = [
    row("type", Word(&["external", "nlb-ip"]), Effect::None),
    row("nlb-target-type", Word(&["ip"]), Modelled),
    row("healthcheck-protocol", PROTOCOLS, Modelled),
    row("healthcheck-port", Any, Modelled),
    row("healthcheck-path", Any, Modelled),
    row("healthcheck-interval", Number(5, 300), Modelled),
    row("healthcheck-timeout", Number(2, 120), Approximated("older versions of the controller ignore it")),
    row("healthcheck-healthy-threshold", Number(2, 10), Modelled),
    row("healthcheck-unhealthy-threshold", Number(2, 10), Modelled),
    row("healthcheck-success-codes", Any, Modelled),
    row("target-group-attributes", Any, Modelled),
    row("attributes", Any, ZONES),
    row("cross-zone-load-balancing-enabled", Any, ZONES),
    row("proxy-protocol", Any, Ignored("gateways are sent no PROXY header")),
    row("scheme", Word(&["internal", "internet-facing"]), Effect::None),
    row("internal", Any, Effect::None),
    row("name", Any, Effect::None),
    row("ip-address-type", Any, Effect::None),
    row("additional-resource-tags", Any, Effect::None),
    row("subnets", Any, Effect::None),
    row("eip-allocations", Any, Effect::None),
    row("private-ipv4-addresses", Any, Effect::None),
    row("ipv6-addresses", Any, Effect::None),
    row("access-log-enabled", Any, Effect::None),
    row("access-log-s3-bucket-name", Any, Effect::None),
    row("access-log-s3-bucket-prefix", Any, Effect::None),
    row("ssl-cert", Any, PLAIN),
    row("ssl-ports", Any, PLAIN),
    row("ssl-negotiation-policy", Any, PLAIN),
    row("backend-protocol", Any, PLAIN),
    row("alpn-policy", Any, PLAIN),
    row("target-node-labels", Any, Ignored("it counts for instance targets only")),
    row("security-groups", Any, Ignored("security groups are not simulated")),
    row("manage-backend-security-group-rules", Any, Ignored("security groups are not simulated")),
    row("connection-draining-enabled", Any, LEGACY),
    row("connection-draining-timeout", Any, LEGACY),
    row("connection-idle-timeout", Any, LEGACY),
    row("inbound-sg-rules-on-private-link-traffic", Any, Effect::None),
];

/// An ALB's, as far as the controller reads them from a Service, and the commonest that it does not.
pub const ALB_ROWS: [AwsRow; 16] = [
    row("target-type", Word(&["ip"]), Modelled),
    row("healthcheck-protocol", Word(&["HTTP", "HTTPS"]), Modelled),
    row("healthcheck-port", Any, Modelled),
    row("healthcheck-path", Any, Modelled),
    row("healthcheck-interval-seconds", Number(5, 300), Modelled),
    row("healthcheck-timeout-seconds", Number(2, 120), Modelled),
    row("healthy-threshold-count", Number(2, 10), Modelled),
    row("unhealthy-threshold-count", Number(2, 10), Modelled),
    row("success-codes", Any, Modelled),
    row("target-group-attributes", Any, Modelled),
    row("backend-protocol", Any, PLAIN),
    row("backend-protocol-version", Any, Ignored("requests are HTTP/1.1")),
    row("load-balancer-attributes", Any, OF_INGRESS),
    row("listen-ports", Any, OF_INGRESS),
    row("scheme", Any, OF_INGRESS),
    row("target-node-labels", Any, Ignored("it counts for instance targets only")),
];

/// An attribute of a target group.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Only an NLB has it.
    pub is_of_nlb: bool,
    /// What it may say.
    pub values: Values,
    /// What it does.
    pub effect: Effect,
}

const fn attribute(name: &'static str, is_of_nlb: bool, values: Values, effect: Effect) -> Attribute {
    Attribute { name, is_of_nlb, values, effect }
}

const FLAG: Values = Word(&["true", "false"]);
const STICKY: Effect = Ignored("clients keep no cookies, and an NLB's targets are chosen anew for each connection");
const ALGORITHMS: Values = Word(&["round_robin", "least_outstanding_requests", "weighted_random"]);

/// Those of target groups.
pub const ATTRIBUTES: [Attribute; 13] = [
    attribute("deregistration_delay.timeout_seconds", false, Number(0, 3600), Modelled),
    attribute("deregistration_delay.connection_termination.enabled", true, FLAG, Modelled),
    attribute("target_health_state.unhealthy.connection_termination.enabled", true, FLAG, Modelled),
    attribute(
        "target_health_state.unhealthy.draining_interval_seconds",
        true,
        Number(0, 360_000),
        Ignored("an unhealthy target has no draining state"),
    ),
    attribute("preserve_client_ip.enabled", true, FLAG, Effect::None),
    attribute("proxy_protocol_v2.enabled", true, FLAG, Ignored("gateways are sent no PROXY header")),
    attribute("stickiness.enabled", false, FLAG, STICKY),
    attribute("stickiness.type", false, Any, STICKY),
    attribute("stickiness.lb_cookie.duration_seconds", false, Any, STICKY),
    attribute("load_balancing.cross_zone.enabled", false, Any, ZONES),
    attribute("load_balancing.algorithm.type", false, ALGORITHMS, Modelled),
    attribute(
        "slow_start.duration_seconds",
        false,
        Number(0, 900),
        Ignored("a new target gets its full share at once"),
    ),
    attribute("target_group_health.dns_failover.minimum_healthy_targets.count", false, Any, ZONES),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_stands_once() {
        for rows in [&NLB_ROWS[..], &ALB_ROWS[..]] {
            let names: BTreeSet<&str> = rows.iter().map(|row| row.suffix).collect();
            assert_eq!(names.len(), rows.len());
        }
        let names: BTreeSet<&str> = ATTRIBUTES.iter().map(|attribute| attribute.name).collect();
        assert_eq!(names.len(), ATTRIBUTES.len());
    }
}
