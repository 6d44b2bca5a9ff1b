//! Label selectors as they are written: `matchLabels` and `matchExpressions`.
//!
//! Validation follows Kubernetes v1.28.7 staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go
//! (`ValidateLabelSelector`).

use super::placement::{check_label_name, check_label_value, labels};
use super::read::{Field, Fields};
use super::yaml::Value;
use crate::cluster::selector::{LabelOperator, LabelRequirement, LabelSelector, Labels};

const OPERATORS: [(&str, LabelOperator); 4] = [
    ("In", LabelOperator::In),
    ("NotIn", LabelOperator::NotIn),
    ("Exists", LabelOperator::Exists),
    ("DoesNotExist", LabelOperator::DoesNotExist),
];

/// Reads a selector. An empty one means everything; what no selector means is the caller's business.
pub(super) fn label_selector(field: &Field<'_>) -> Option<LabelSelector> {
    let fields = field.fields()?;
    let match_labels = fields.get("matchLabels").map(|field| labels(&field)).unwrap_or_default();
    let expressions = fields.get("matchExpressions").map(|field| field.items()).unwrap_or_default();
    let expressions: Vec<_> = expressions.iter().map(requirement).collect();
    fields.finish();
    Some(LabelSelector { match_labels, match_expressions: expressions.into_iter().collect::<Option<_>>()? })
}

/// Reads the selector of who makes pods; without one, or with an empty one, the API server refuses it.
pub(super) fn of_maker(spec: &Fields<'_>, kind: &str) -> Option<LabelSelector> {
    let field = spec.look("selector");
    let Some(field) = field else {
        spec.missing("selector.matchLabels", &format!("a {kind} selects its pods: write the labels of its template"));
        return None;
    };
    let selector = label_selector(&field)?;
    if selector.is_empty() {
        field.refuse("an empty selector selects no pods of its own", "write matchLabels: the labels of its template");
        return None;
    }
    Some(selector)
}

/// Reports the selector of who makes pods if it does not mean pods with these labels.
pub(super) fn check_own(spec: &Fields<'_>, selector: &LabelSelector, labels: &Labels, kind: &str) {
    let Some(field) = spec.look("selector") else { return };
    let help = format!("a {kind} must select its own pods: write the same labels in both");
    if let Some((key, value)) = selector.match_labels.iter().find(|(key, value)| labels.get(*key) != Some(value)) {
        field.refuse(format!("`{key}: {value}` is not among the labels of its own template"), &help);
    } else if let Some(unmet) = selector.match_expressions.iter().find(|requirement| !requirement.matches(labels)) {
        let name = OPERATORS.iter().find(|(_, known)| *known == unmet.operator).map_or("", |(name, _)| *name);
        let values = unmet.values.join(", ");
        let text = format!("`{} {name} [{values}]` does not hold for the labels of its own template", unmet.key);
        field.refuse(text, &help);
    }
}

fn requirement(field: &Field<'_>) -> Option<LabelRequirement> {
    let before = field.sink().problem_count();
    let fields = field.fields()?;
    let key_field = fields.require("key", "write the label's name");
    let key = key_field.and_then(|field| {
        let text = field.text()?;
        check_label_name(&field, text);
        Some(text.to_owned())
    });
    let operator = fields.require("operator", "write In, NotIn, Exists or DoesNotExist");
    let operator = operator.and_then(|field| field.choice(&OPERATORS));
    let values_field = fields.get("values");
    let values = values_field.as_ref().map(|field| field.texts()).unwrap_or_default();
    for item in values_field.as_ref().map(|field| field.items()).unwrap_or_default() {
        if let Value::Scalar { text, .. } = &item.node().value {
            check_label_value(&item, text);
        }
    }
    fields.finish();
    let operator = operator?;
    let wants_values = matches!(operator, LabelOperator::In | LabelOperator::NotIn);
    let name = OPERATORS.iter().find(|(_, known)| *known == operator).map_or("", |(name, _)| *name);
    if wants_values && values.is_empty() {
        fields.missing("values", &format!("`{name}` needs one value or more"));
        return None;
    }
    if let Some(field) = values_field.filter(|_| !wants_values && !values.is_empty()) {
        field.refuse(format!("`{name}` takes no values"), "leave them out");
        return None;
    }
    let requirement = LabelRequirement { key: key?, operator, values };
    (field.sink().problem_count() == before).then_some(requirement)
}
