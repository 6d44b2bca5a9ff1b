//! Disruption budgets.
//!
//! Validation follows Kubernetes v1.28.7 pkg/apis/policy/validation/validation.go. An empty selector means all pods of the namespace in policy/v1 and none
//! in policy/v1beta1 (pkg/apis/policy/v1beta1/conversion.go), and no selector means none. Whether a cluster has a version is said in [`super::api_versions`]. A budget with neither limit is accepted there, and allows no eviction at all.

use std::rc::Rc;

use super::object::Object;
use super::read::{Field, Sink};
use super::rolling_update::int_or_percent;
use super::selector::label_selector;
use crate::cluster::disruption::{Budget, DisruptionBudget, UnhealthyPods};
use crate::cluster::int_or_percent::IntOrPercent;

/// Reads a budget.
pub fn read(object: &Object, sink: &Sink) -> Option<DisruptionBudget> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let version = fields.look("apiVersion");
    let is_beta = version.is_some_and(|field| field.scalar() == Some("policy/v1beta1"));
    let spec = fields.look("spec");
    fields.finish();
    let Some(spec) = spec.and_then(|spec| spec.fields()) else {
        fields.missing("spec", "a PodDisruptionBudget has a spec: write selector, and minAvailable or maxUnavailable");
        return None;
    };
    let selector_field = spec.look("selector");
    let selector = selector_field.as_ref().map(label_selector);
    let (minimum, maximum) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    let unhealthy = spec.get("unhealthyPodEvictionPolicy").map_or(Some(UnhealthyPods::IfHealthyBudget), |field| {
        field
            .choice(&[("IfHealthyBudget", UnhealthyPods::IfHealthyBudget), ("AlwaysAllow", UnhealthyPods::AlwaysAllow)])
    });
    spec.finish();
    let budget = match (&minimum, &maximum) {
        (Some(_), Some(field)) => {
            field.refuse("minAvailable and maxUnavailable are both set", "keep one of them");
            return None;
        }
        (Some(field), None) => Some(Budget::MinAvailable(limit(field)?)),
        (None, Some(field)) => Some(Budget::MaxUnavailable(limit(field)?)),
        (None, None) => None,
    };
    let selector = match selector {
        Some(read) => Some(read?).filter(|selector| !is_beta || !selector.is_empty()),
        None => None,
    };
    Some(DisruptionBudget { key: Rc::from(object.key()), selector, budget, unhealthy: unhealthy? })
}

/// A number of pods, or a share of them up to all.
fn limit(field: &Field<'_>) -> Option<IntOrPercent> {
    let limit = int_or_percent(field)?;
    if matches!(limit, IntOrPercent::Percent(percent) if percent > 100) {
        field.refuse("more than 100% of the pods are not there", "write 100% or less");
        return None;
    }
    Some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{object, yaml};

    /// What a budget with this spec comes to, or the problems' texts.
    fn read_spec(version: &str, spec: &str) -> Result<DisruptionBudget, Vec<String>> {
        let text =
            format!("apiVersion: {version}\nkind: PodDisruptionBudget\nmetadata: {{ name: web }}\nspec: {spec}\n");
        let sink = Sink::default();
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let objects = object::objects(documents, &sink);
        assert_eq!(objects.len(), 1, "{text}");
        let found = read(&objects[0], &sink);
        let problems: Vec<String> = sink.take_problems().into_iter().map(|problem| problem.text).collect();
        if problems.is_empty() { Ok(found.expect("a budget without problems")) } else { Err(problems) }
    }

    #[test]
    fn limits_and_selectors_are_read() {
        let read = read_spec(
            "policy/v1",
            "{ maxUnavailable: 25%, selector: { matchExpressions: [ { key: app, operator: In, values: [a, b] } ] } }",
        );
        let budget = read.expect("a budget");
        assert_eq!(&*budget.key, "default/web");
        assert_eq!(budget.budget, Some(Budget::MaxUnavailable(IntOrPercent::Percent(25))));
        assert!(budget.selector.is_some_and(|selector| selector.match_expressions.len() == 1));
        let all =
            read_spec("policy/v1", "{ selector: {}, unhealthyPodEvictionPolicy: AlwaysAllow }").expect("a budget");
        assert_eq!((all.budget, all.unhealthy), (None, UnhealthyPods::AlwaysAllow));
        assert!(all.selector.is_some_and(|selector| selector.is_empty()));
        assert_eq!(read_spec("policy/v1", "{ minAvailable: 0 }").expect("a budget").selector, None);
    }

    #[test]
    fn what_the_api_server_refuses_is_refused() {
        for (spec, expected) in [
            ("{ minAvailable: 1, maxUnavailable: 1 }", "minAvailable and maxUnavailable are both set"),
            ("{ minAvailable: 101% }", "more than 100% of the pods are not there"),
            ("{ maxUnavailable: -1 }", "-1"),
            ("{ maxUnavailable: \"1\" }", "1"),
            ("{ maxUnavailable: half }", "neither a number nor a percentage"),
            ("{ unhealthyPodEvictionPolicy: Never }", "Never"),
            ("{ selector: { matchExpressions: [ { key: a, operator: In } ] } }", "missing"),
            ("{ selector: { matchExpressions: [ { key: a, operator: Exists, values: [b] } ] } }", "takes no values"),
            ("{ minAvailble: 1 }", "`minAvailble` is not a field here"),
        ] {
            let problems = read_spec("policy/v1", spec).expect_err(spec);
            assert!(problems.iter().any(|text| text.contains(expected)), "{spec}: {problems:?}");
        }
    }

    #[test]
    fn an_empty_selector_of_the_beta_means_none() {
        let selector = |version: &str, written: &str| {
            let read = read_spec(version, &format!("{{ minAvailable: 1, selector: {written} }}"));
            read.expect("a budget").selector.map(|selector| selector.is_empty())
        };
        assert_eq!((selector("policy/v1", "{}"), selector("policy/v1beta1", "{}")), (Some(true), None));
        let labels = "{ matchLabels: { app: web } }";
        assert_eq!((selector("policy/v1", labels), selector("policy/v1beta1", labels)), (Some(false), Some(false)));
    }
}
