//! Autoscalers as `kubectl get hpa` shows them.
//!
//! The column TARGETS holds the first two metrics, each as what it comes to and what it should come to; a metric that could not be had is
//! `<unknown>`. From 1.30 on resources are named there.
//!
//! Quantities are written as the API writes those that a controller computes, in powers of a thousand. Of a target the written form is not kept: whole
//! mebibytes of memory are written as such.
//!
//! Source: Kubernetes pkg/printers/internalversion/printers.go `printHorizontalPodAutoscaler`, `formatHPAMetrics`; pull request 122804 (names, in
//! 1.30); apimachinery pkg/api/resource/quantity.go (`CanonicalizeBytes`).

use super::{age, plain};
use crate::cluster::autoscaler::reconcile::{Autoscaler, Reading};
use crate::cluster::autoscaler::{Metric, ResourceName, ResourceTarget, ValueTarget};
use crate::cluster::version::Version;
use crate::units::SimTime;

/// The columns.
pub(super) const HEAD: [&str; 7] = ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"];

/// Metrics that are shown.
const SHOWN_MAX: usize = 2;

/// An autoscaler's row.
pub(super) fn row(autoscaler: &Autoscaler, created_at: SimTime, version: Version, now: SimTime) -> Vec<String> {
    let (spec, status) = (&autoscaler.spec, &autoscaler.status);
    vec![
        plain(&spec.key),
        format!("Deployment/{}", plain(&spec.target)),
        targets(&spec.metrics, &status.metrics, version >= Version::new(1, 30)),
        spec.min_replicas.to_string(),
        spec.max_replicas.to_string(),
        status.current.to_string(),
        age(created_at, now),
    ]
}

fn targets(metrics: &[Metric], readings: &[Option<Reading>], has_names: bool) -> String {
    let texts: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| target(metric, readings.get(index).copied().flatten(), has_names))
        .collect();
    match texts.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        Some(more) => format!("{} + {more} more...", texts[..SHOWN_MAX].join(", ")),
        None => texts.join(", "),
    }
}

fn target(metric: &Metric, reading: Option<Reading>, has_names: bool) -> String {
    let seen = match reading {
        None => "<unknown>".to_owned(),
        Some(Reading::Utilization { percent, .. }) => format!("{percent}%"),
        Some(Reading::Average(milli) | Reading::Value(milli)) => quantity(milli),
    };
    match metric {
        Metric::Resource { resource, target, .. } => {
            let wanted = match target {
                ResourceTarget::Utilization(percent) => format!("{percent}%"),
                ResourceTarget::AverageMilli(milli) => amount(*resource, *milli),
            };
            let name = if has_names { format!("{}: ", resource.name()) } else { String::new() };
            format!("{name}{seen}/{wanted}")
        }
        Metric::Pods { average_milli, .. } => format!("{seen}/{}", quantity(*average_milli)),
        Metric::Object { target, .. } | Metric::External { target, .. } => match target {
            ValueTarget::ValueMilli(milli) => format!("{seen}/{}", quantity(*milli)),
            ValueTarget::AverageMilli(milli) => format!("{seen}/{} (avg)", quantity(*milli)),
        },
        Metric::Unknown { .. } => "<unknown type>".to_owned(),
    }
}

/// Thousandths in the shortest exact form, such as `1500m`, `30`, `2k`.
fn quantity(milli: i64) -> String {
    if milli % 1000 != 0 {
        return format!("{milli}m");
    }
    let (mut value, mut suffix) = (milli / 1000, "");
    for larger in ["k", "M", "G", "T", "P"] {
        if value == 0 || value % 1000 != 0 {
            break;
        }
        (value, suffix) = (value / 1000, larger);
    }
    format!("{value}{suffix}")
}

/// A target of a resource: memory in mebibytes, as people write it, where it comes to whole ones and not to whole megabytes.
fn amount(resource: ResourceName, milli: i64) -> String {
    const MEBI_MILLI: i64 = 1000 << 20;
    const MEGA_MILLI: i64 = 1_000_000_000;
    if resource == ResourceName::Memory && milli % MEBI_MILLI == 0 && milli % MEGA_MILLI != 0 {
        format!("{}Mi", milli / MEBI_MILLI)
    } else {
        quantity(milli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(percent: i32) -> Metric {
        Metric::Resource { resource: ResourceName::Cpu, container: None, target: ResourceTarget::Utilization(percent) }
    }

    #[test]
    fn quantities_are_as_short_as_they_can_be() {
        for (milli, text) in [
            (0, "0"),
            (1, "1m"),
            (1500, "1500m"),
            (30_000, "30"),
            (2_000_000, "2k"),
            (2_500_000, "2500"),
            (72_000_000_000, "72M"),
            (71_598_080_000, "71598080"),
        ] {
            assert_eq!(quantity(milli), text);
        }
        assert_eq!(amount(ResourceName::Memory, (100 << 20) * 1000), "100Mi");
        assert_eq!(amount(ResourceName::Memory, 100_000_000_000), "100M");
        assert_eq!(amount(ResourceName::Cpu, 500), "500m");
    }

    #[test]
    fn two_metrics_are_shown_and_the_others_counted() {
        let seen = Some(Reading::Utilization { percent: 105, average_milli: 210 });
        assert_eq!(targets(&[cpu(75)], &[seen], true), "cpu: 105%/75%");
        assert_eq!(targets(&[cpu(75)], &[seen], false), "105%/75%");
        assert_eq!(targets(&[cpu(75)], &[], true), "cpu: <unknown>/75%");
        let average = |milli| Metric::External { metric: "lag".into(), target: ValueTarget::AverageMilli(milli) };
        let pods = Metric::Pods { metric: "rps".into(), average_milli: 1000 };
        let metrics = [cpu(80), average(30_000), pods, average(1)];
        let readings = [None, Some(Reading::Average(7500)), Some(Reading::Average(1)), None];
        assert_eq!(targets(&metrics, &readings, true), "cpu: <unknown>/80%, 7500m/30 (avg) + 2 more...");
        assert_eq!(targets(&metrics[2..3], &readings[2..3], true), "1m/1");
    }
}
