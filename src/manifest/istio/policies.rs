//! Which DestinationRules hold for a cluster, and what they come to.
//!
//! - Looked in: the gateway's namespace, unless it is the mesh's root; the Service's; the root. The first with a rule for the host ends the search.
//!   In it the host's own name comes before wildcards, and a longer wildcard before a shorter one.
//! - Several rules for one name: their subsets are joined, and the first definition of a subset counts, as does the first policy for the whole.
//! - A subset's groups of settings take the place of those for the whole. Settings of a port take the place of all of it: what they leave out
//!   has its default.
//!
//! Source: istio pilot/pkg/model/{destination_rule,push_context,config}.go; istio pilot/pkg/networking/util/util.go `MergeTrafficPolicy`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::clusters::full_name;
use super::destination_rule::{DestinationRule, Subset};
use super::host;
use super::traffic_policy::TrafficPolicy;
use super::values;
use crate::manifest::read::Sink;
use crate::record::results::FidelityStatus;

/// The namespace whose rules hold for the whole mesh. Source: istio mesh configuration `rootNamespace`.
const ROOT: &str = "istio-system";

/// All DestinationRules.
pub(super) struct Policies<'a> {
    rules: &'a [DestinationRule],
    used: RefCell<BTreeSet<(&'a str, &'a str)>>,
}

/// What holds for a cluster.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    /// Its policies.
    pub(super) policy: TrafficPolicy,
    /// The labels of its subset, if there is one of the name.
    pub(super) labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Policies<'a> {
    pub(super) fn new(rules: &'a [DestinationRule]) -> Self {
        Self { rules, used: RefCell::default() }
    }

    /// What holds for a host's port and subset, as a gateway in the namespace `proxy` sees it. An empty subset is the whole.
    pub(super) fn find(&self, host: &str, service: Option<&str>, proxy: &str, subset: &str, port: u16) -> Found<'a> {
        let own = Some(proxy).filter(|proxy| *proxy != ROOT);
        let places = [own, service, Some(ROOT)];
        let rules = places.into_iter().flatten().map(|namespace| self.within(namespace, host, proxy));
        let Some(rules) = rules.into_iter().find(|rules| !rules.is_empty()) else { return Found::default() };
        self.used.borrow_mut().extend(rules.iter().map(|rule| (rule.namespace.as_str(), rule.name.as_str())));
        let whole = rules.iter().find_map(|rule| rule.policy.as_ref());
        let subset: Option<&Subset> = rules.iter().flat_map(|rule| &rule.subsets).find(|known| known.name == subset);
        let mut policy = whole.map(|whole| layered(&TrafficPolicy::default(), whole, port)).unwrap_or_default();
        if let Some(own) = subset.and_then(|subset| subset.policy.as_ref()) {
            policy = layered(&policy, own, port);
        }
        Found { policy, labels: subset.map(|subset| &subset.labels) }
    }

    /// The rules of a namespace that are most specific for a host.
    fn within(&self, namespace: &str, host: &str, proxy: &str) -> Vec<&'a DestinationRule> {
        let is_seen = |rule: &DestinationRule| {
            rule.namespace == namespace && !rule.is_for_sidecars && values::is_visible(&rule.export_to, proxy)
        };
        let fitting =
            self.rules.iter().filter(|rule| is_seen(rule)).map(|rule| (full_name(&rule.host, namespace), rule));
        let fitting: Vec<(String, &DestinationRule)> =
            fitting.filter(|(name, _)| host::is_subset(host, name)).collect();
        let best = fitting.iter().map(|(name, _)| name.clone()).min_by(|a, b| host::by_specificity(a, b));
        fitting.into_iter().filter(|(name, _)| Some(name) == best.as_ref()).map(|(_, rule)| rule).collect()
    }

    /// Notes the rules that hold for no cluster.
    pub(super) fn note_unused(&self, sink: &Sink) {
        let used = self.used.borrow();
        for rule in self.rules.iter().filter(|rule| !used.contains(&(rule.namespace.as_str(), rule.name.as_str()))) {
            let path = format!("DestinationRule {}/{} spec.host", rule.namespace, rule.name);
            let note = "no route of the gateway leads to this host, or the rule is not seen by the gateway";
            sink.note(rule.at, path, FidelityStatus::Ignored, Some(note));
        }
    }
}

/// A policy over what lies below it, for one port.
fn layered(below: &TrafficPolicy, above: &TrafficPolicy, port: u16) -> TrafficPolicy {
    let of_port = above.ports.iter().find(|(number, _)| *number == port).map(|(_, policy)| policy);
    let (above, below) = (above.clone(), below.clone());
    let retry_budget = above.retry_budget.or(below.retry_budget);
    match of_port {
        Some(own) => TrafficPolicy { retry_budget, ports: Vec::new(), ..own.clone() },
        None => TrafficPolicy {
            load_balancer: above.load_balancer.or(below.load_balancer),
            connection_pool: above.connection_pool.or(below.connection_pool),
            outlier_detection: above.outlier_detection.or(below.outlier_detection),
            retry_budget,
            ports: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_balancer::{LoadBalancer, Simple};
    use super::super::traffic_policy::{ConnectionPool, OutlierDetection};
    use super::*;
    use crate::manifest::problem::Place;

    fn balanced(simple: Simple) -> TrafficPolicy {
        let load_balancer = Some(LoadBalancer { simple: Some(simple), ..LoadBalancer::default() });
        TrafficPolicy { load_balancer, ..TrafficPolicy::default() }
    }

    fn rule(namespace: &str, host: &str, policy: TrafficPolicy) -> DestinationRule {
        DestinationRule {
            namespace: namespace.to_owned(),
            name: host.to_owned(),
            host: host.to_owned(),
            policy: Some(policy),
            subsets: Vec::new(),
            export_to: Vec::new(),
            is_for_sidecars: false,
            at: Place::NOWHERE,
        }
    }

    #[test]
    fn a_ports_settings_replace_all_and_a_subsets_only_what_they_name() {
        let pool = Some(ConnectionPool { max_connections: Some(7), ..ConnectionPool::default() });
        let whole = TrafficPolicy { connection_pool: pool.clone(), ..balanced(Simple::RoundRobin) };
        let outlier_detection = Some(OutlierDetection::default());
        let own = TrafficPolicy { outlier_detection: outlier_detection.clone(), ..TrafficPolicy::default() };
        let joined = layered(&whole, &own, 80);
        assert_eq!((joined.load_balancer, joined.connection_pool), (whole.load_balancer.clone(), pool));
        assert_eq!(joined.outlier_detection, outlier_detection);
        let with_port = TrafficPolicy { ports: vec![(80, balanced(Simple::Random))], ..whole };
        let of_port = layered(&TrafficPolicy::default(), &with_port, 80);
        assert_eq!((of_port.load_balancer, of_port.connection_pool), (balanced(Simple::Random).load_balancer, None));
        assert!(layered(&TrafficPolicy::default(), &with_port, 81).connection_pool.is_some());
    }

    #[test]
    fn the_nearest_namespace_with_a_rule_ends_the_search() {
        let mut rules = vec![
            rule("istio-system", "*.shop.svc.cluster.local", balanced(Simple::Random)),
            rule("shop", "*.svc.cluster.local", balanced(Simple::LeastRequest)),
            rule("shop", "web", balanced(Simple::RoundRobin)),
            rule("elsewhere", "web.shop.svc.cluster.local", balanced(Simple::Passthrough)),
        ];
        let simple = |rules: &[DestinationRule], host: &str, proxy: &str| {
            let found = Policies::new(rules).find(host, Some("shop"), proxy, "", 80);
            found.policy.load_balancer.and_then(|balancer| balancer.simple)
        };
        let web = "web.shop.svc.cluster.local";
        assert_eq!(simple(&rules, web, "istio-system"), Some(Simple::RoundRobin));
        assert_eq!(simple(&rules, web, "elsewhere"), Some(Simple::Passthrough));
        assert_eq!(simple(&rules, "api.shop.svc.cluster.local", "edge"), Some(Simple::LeastRequest));
        rules[2].export_to = vec!["shop".to_owned()];
        assert_eq!(simple(&rules, web, "edge"), Some(Simple::LeastRequest));
        rules.retain(|rule| rule.namespace == "istio-system");
        assert_eq!(simple(&rules, web, "edge"), Some(Simple::Random));
    }
}
