//! Metrics as `autoscaling/v2beta1` writes them, which clusters had up to 1.24: each figure has a key of its own in place of a `target`.
//!
//! `behavior` came with `v2beta2`. Of an object's `targetValue` and `averageValue` the latter counts where both are written.
//! Source: Kubernetes v1.24 staging/src/k8s.io/api/autoscaling/v2beta1/types.go, pkg/apis/autoscaling/v2beta1/conversion.go,
//! pkg/apis/autoscaling/validation/validation.go.

use std::rc::Rc;

use super::{metric_id, reference, resource, source_of};
use crate::cluster::autoscaler::{Metric, MetricId, ResourceTarget, ValueTarget};
use crate::manifest::read::{Field, Fields};

/// Reads one metric.
pub(super) fn metric(field: &Field<'_>) -> Option<Metric> {
    let (kind, source) = source_of(field)?;
    let metric = match kind {
        "Resource" | "ContainerResource" => {
            let resource = resource(&source);
            let container = if kind == "Resource" { Some(None) } else { container(&source).map(Some) };
            let target = resource_target(&source);
            Metric::Resource { resource: resource?, container: container?, target: target? }
        }
        "Pods" => {
            let (metric, average) = (name(&source, "selector"), quantity(&source, "targetAverageValue"));
            if source.look("targetAverageValue").is_none() {
                source.missing("targetAverageValue", "say how much each pod should have");
            }
            Metric::Pods { metric: metric?, average_milli: average? }
        }
        "Object" => {
            let object = source.look("target");
            if object.is_none() {
                source.missing("target", "name the object: { apiVersion: …, kind: …, name: … }");
            }
            let object = object.and_then(|object| reference(&object));
            let (metric, value) = (name(&source, "selector"), quantity(&source, "targetValue"));
            let target = match quantity(&source, "averageValue") {
                Some(average) => ValueTarget::AverageMilli(average),
                None if source.look("targetValue").is_none() => {
                    source.missing("targetValue", "say what it should come to, or averageValue for each pod");
                    return None;
                }
                None => ValueTarget::ValueMilli(value?),
            };
            Metric::Object { metric: metric?, object: object?, target }
        }
        _ => {
            let metric = name(&source, "metricSelector");
            let (value, average) = (quantity(&source, "targetValue"), quantity(&source, "targetAverageValue"));
            let target = match (value, average) {
                (Some(milli), None) => Some(ValueTarget::ValueMilli(milli)),
                (None, Some(milli)) => Some(ValueTarget::AverageMilli(milli)),
                _ => one_of_two(&source, ["targetValue", "targetAverageValue"]),
            };
            Metric::External { metric: metric?, target: target? }
        }
    };
    source.finish();
    Some(metric)
}

fn container(source: &Fields<'_>) -> Option<Rc<str>> {
    let found = source.get("container");
    if found.is_none() {
        source.missing("container", "name the container");
    }
    Some(Rc::from(found?.text()?))
}

/// A share of what is requested, or an amount per pod.
fn resource_target(source: &Fields<'_>) -> Option<ResourceTarget> {
    let percent = source.get("targetAverageUtilization");
    let percent = percent.and_then(|field| field.whole::<i32>(1, i64::from(i32::MAX)));
    match (percent, quantity(source, "targetAverageValue")) {
        (Some(percent), None) => Some(ResourceTarget::Utilization(percent)),
        (None, Some(milli)) => Some(ResourceTarget::AverageMilli(milli)),
        _ => one_of_two(source, ["targetAverageUtilization", "targetAverageValue"]),
    }
}

/// Neither or both of two figures are written; one that cannot be read has been told.
fn one_of_two<T>(source: &Fields<'_>, [one, other]: [&str; 2]) -> Option<T> {
    match (source.look(one), source.look(other)) {
        (None, None) => source.missing(one, &format!("write {one} or {other}")),
        (Some(field), Some(_)) => {
            field.refuse(format!("may not set both {one} and {other}"), "take one of them out");
        }
        _ => {}
    }
    None
}

/// A quantity above 0, in thousandths.
fn quantity(source: &Fields<'_>, key: &str) -> Option<i64> {
    let field = source.get(key)?;
    let milli = field.millis()?;
    if milli == 0 {
        field.refuse("it must be above 0", "write a quantity such as 500m");
        return None;
    }
    Some(i64::try_from(milli).unwrap_or(i64::MAX))
}

/// `metricName`, and the labels of the series that are meant.
fn name(source: &Fields<'_>, selector: &str) -> Option<MetricId> {
    let selector = source.get(selector);
    let Some(name) = source.get("metricName") else {
        source.missing("metricName", "name the metric");
        return None;
    };
    metric_id(&name, selector.as_ref())
}
