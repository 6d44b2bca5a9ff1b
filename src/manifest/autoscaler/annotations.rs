//! What an autoscaler of `autoscaling/v1` says in annotations: metrics beside processor time, and `behavior`.
//!
//! The API server keeps them there when it shows a newer object in the old version, and reads them when it is given one. They are JSON: metrics in the words of
//! that version, `behavior` in any case of letters. Text that is no such JSON is dropped without a word, as are keys that nobody knows.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/autoscaling/annotations.go, pkg/apis/autoscaling/v1/conversion.go
//! (`Convert_v1_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler`), staging/src/k8s.io/api/autoscaling/v1/types.go (`MetricSpec`).

use serde_json::Value;

use crate::manifest::problem::Place;
use crate::manifest::read::Field;
use crate::manifest::yaml::Node;
use crate::record::results::FidelityStatus;

/// Metrics beside `targetCPUUtilizationPercentage`.
pub(super) const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
/// `behavior`.
pub(super) const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The keys of `behavior`, and all of its words' keys.
const BEHAVIOR_KEYS: [&str; 9] = [
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "type",
    "value",
    "periodSeconds",
    "tolerance",
];

/// The metrics of such an annotation as `autoscaling/v2` writes them.
pub(super) fn metrics(field: &Field<'_>) -> Option<Node> {
    let Some(Value::Array(items)) = parsed(field, |value| value.is_array()) else { return None };
    let at = field.place();
    Some(Node::list(at, items.iter().map(|item| metric(item, at)).collect()))
}

/// The behavior of such an annotation as `autoscaling/v2` writes it.
pub(super) fn behavior(field: &Field<'_>) -> Option<Node> {
    let value = parsed(field, Value::is_object)?;
    Some(behavior_node(&value, field.place()))
}

/// The JSON of an annotation, if it has the right form.
fn parsed(field: &Field<'_>, has_form: impl Fn(&Value) -> bool) -> Option<Value> {
    let text = field.text()?;
    let value = serde_json::from_str::<Value>(text).ok().filter(has_form);
    if value.is_none() {
        let note = "this is no JSON of the right form, and the API server drops it: write autoscaling/v2 with spec.metrics and spec.behavior";
        field.note(FidelityStatus::Warning, Some(note));
    }
    value
}

fn metric(item: &Value, at: Place) -> Node {
    let kind = item["type"].as_str().unwrap_or_default();
    let mut entries = vec![("type", Node::string(at, kind))];
    let (resource, container) = (&item["resource"], &item["containerResource"]);
    let (pods, object, external) = (&item["pods"], &item["object"], &item["external"]);
    for (key, source) in [("resource", resource), ("containerResource", container)] {
        if source.is_object() {
            let target = target(source, [("averageUtilization", "targetAverageUtilization"), AVERAGE], at);
            let mut inner = copied(source, &[("name", "name"), ("container", "container")], at);
            inner.push(("target", target));
            entries.push((key, Node::map(at, inner)));
        }
    }
    if pods.is_object() {
        let target = target(pods, [AVERAGE, AVERAGE], at);
        entries.push(("pods", Node::map(at, vec![("metric", identifier(pods, "selector", at)), ("target", target)])));
    }
    if object.is_object() {
        let target = target(object, [("value", "targetValue"), ("averageValue", "averageValue")], at);
        let reference = [("apiVersion", "apiVersion"), ("kind", "kind"), ("name", "name")];
        let described = Node::map(at, copied(&object["target"], &reference, at));
        let inner =
            vec![("describedObject", described), ("metric", identifier(object, "selector", at)), ("target", target)];
        entries.push(("object", Node::map(at, inner)));
    }
    if external.is_object() {
        let target = target(external, [("value", "targetValue"), AVERAGE], at);
        let inner = vec![("metric", identifier(external, "metricSelector", at)), ("target", target)];
        entries.push(("external", Node::map(at, inner)));
    }
    Node::map(at, entries)
}

/// An average, as both versions call it.
const AVERAGE: (&str, &str) = ("averageValue", "targetAverageValue");

/// What a metric should come to, of two figures: each by its name in `autoscaling/v2` and in the annotation.
fn target(source: &Value, figures: [(&'static str, &str); 2], at: Place) -> Node {
    let is_zero = |value: &Value| matches!(value.as_str(), Some("0")) || value.as_i64() == Some(0);
    let mut entries: Vec<(&str, Node)> = Vec::new();
    for (key, old) in figures {
        // A value that is not written is 0 in the old version, and an average beside it counts alone.
        let value = &source[old];
        let is_known = entries.iter().any(|(known, _)| *known == key);
        let is_absent = value.is_null() || (key == "value" && is_zero(value));
        if !is_absent && !is_known {
            entries.push((key, node(value, at)));
        }
    }
    let kind = match entries.first() {
        Some(("averageUtilization", _)) => "Utilization",
        Some(("value", _)) => "Value",
        _ => "AverageValue",
    };
    entries.insert(0, ("type", Node::string(at, kind)));
    Node::map(at, entries)
}

fn identifier(source: &Value, selector: &str, at: Place) -> Node {
    Node::map(at, copied(source, &[("name", "metricName"), ("selector", selector)], at))
}

fn copied<'a>(source: &Value, keys: &[(&'a str, &str)], at: Place) -> Vec<(&'a str, Node)> {
    let written = keys.iter().filter(|(_, old)| !source[*old].is_null());
    written.map(|(key, old)| (*key, node(&source[*old], at))).collect()
}

/// A value as a node that stands where the annotation does.
fn node(value: &Value, at: Place) -> Node {
    match value {
        Value::Null => Node::map(at, Vec::new()),
        Value::Bool(is_true) => Node::boolean(at, *is_true),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Node::string(at, &number.to_string()), |number| Node::number(at, number))
        }
        Value::String(text) => Node::string(at, text),
        Value::Array(items) => Node::list(at, items.iter().map(|item| node(item, at)).collect()),
        Value::Object(entries) => {
            Node::map(at, entries.iter().map(|(key, value)| (key.as_str(), node(value, at))).collect())
        }
    }
}

fn behavior_node(value: &Value, at: Place) -> Node {
    match value {
        Value::Object(entries) => {
            let known = |key: &str| BEHAVIOR_KEYS.iter().find(|known| known.eq_ignore_ascii_case(key)).copied();
            let written = entries.iter().filter(|(_, value)| !value.is_null());
            Node::map(at, written.filter_map(|(key, value)| Some((known(key)?, behavior_node(value, at)))).collect())
        }
        Value::Array(items) => Node::list(at, items.iter().map(|item| behavior_node(item, at)).collect()),
        _ => node(value, at),
    }
}
