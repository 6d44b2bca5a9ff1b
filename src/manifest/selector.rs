//! Label selectors as they are written: `matchLabels` and `matchExpressions`.
//!
//! Validation follows Kubernetes v1.28.7 staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go
//! (`ValidateLabelSelector`).

use super::read::Field;
use crate::cluster::selector::{LabelOperator, LabelRequirement, LabelSelector};

const OPERATORS: [(&str, LabelOperator); 4] = [
    ("In", LabelOperator::In),
    ("NotIn", LabelOperator::NotIn),
    ("Exists", LabelOperator::Exists),
    ("DoesNotExist", LabelOperator::DoesNotExist),
];

/// Reads a selector. An empty one means everything; what no selector means is the caller's business.
pub(super) fn label_selector(field: &Field<'_>) -> Option<LabelSelector> {
    let fields = field.fields()?;
    let match_labels = fields.get("matchLabels").map(|labels| labels.text_map()).unwrap_or_default();
    let expressions = fields.get("matchExpressions").map(|field| field.items()).unwrap_or_default();
    let expressions: Vec<_> = expressions.iter().map(requirement).collect();
    fields.finish();
    Some(LabelSelector { match_labels, match_expressions: expressions.into_iter().collect::<Option<_>>()? })
}

fn requirement(field: &Field<'_>) -> Option<LabelRequirement> {
    let fields = field.fields()?;
    let key = fields.require("key", "write the label's name").and_then(|field| Some(field.text()?.to_owned()));
    let operator = fields.require("operator", "write In, NotIn, Exists or DoesNotExist");
    let operator = operator.and_then(|field| field.choice(&OPERATORS));
    let values_field = fields.get("values");
    let values = values_field.as_ref().map(|field| field.texts()).unwrap_or_default();
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
    Some(LabelRequirement { key: key?, operator, values })
}
