//! Label selectors: which objects are meant.
//!
//! A selector asks for labels by value and by expression, and all of it must hold. An empty selector means everything; where no selector
//! at all means nothing, the caller has an `Option`.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/apimachinery/pkg/labels/selector.go, pkg/apis/meta/v1/types.go.

use std::collections::BTreeMap;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// What a selector asks of one label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LabelOperator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// An expression about one label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: LabelOperator,
    /// The values of `In` and `NotIn`.
    pub values: Vec<String>,
}

/// Which labels an object must have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct LabelSelector {
    /// Labels with their values.
    pub match_labels: Labels,
    /// Expressions.
    pub match_expressions: Vec<LabelRequirement>,
}

impl LabelRequirement {
    /// Whether it holds for these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let is_listed = || value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => is_listed(),
            LabelOperator::NotIn => !is_listed(),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl LabelSelector {
    /// The selector of these labels.
    #[must_use]
    pub fn of_labels(labels: Labels) -> Self {
        Self { match_labels: labels, match_expressions: Vec::new() }
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it means an object with these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_operator_holds_where_it_should() {
        use LabelOperator::{DoesNotExist, Exists, In, NotIn};
        let of = [labels(&[]), labels(&[("tier", "edge")]), labels(&[("tier", "core")])];
        for (operator, values, expected) in [
            (In, vec!["edge", "rim"], [false, true, false]),
            (NotIn, vec!["edge", "rim"], [true, false, true]),
            (Exists, vec![], [false, true, true]),
            (DoesNotExist, vec![], [true, false, false]),
        ] {
            let values = values.into_iter().map(str::to_owned).collect();
            let requirement = LabelRequirement { key: "tier".to_owned(), operator, values };
            assert_eq!([0, 1, 2].map(|index| requirement.matches(&of[index])), expected, "{operator:?}");
        }
    }

    #[test]
    fn an_empty_selector_means_everything_and_two_demands_are_both_made() {
        assert!(LabelSelector::default().matches(&labels(&[])));
        let mut selector = LabelSelector::of_labels(labels(&[("app", "web")]));
        let key = "tier".to_owned();
        let requirement = LabelRequirement { key, operator: LabelOperator::Exists, values: Vec::new() };
        selector.match_expressions.push(requirement);
        assert!(!selector.is_empty());
        assert!(selector.matches(&labels(&[("app", "web"), ("tier", "")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("tier", "edge")])));
    }
}
