//! The autoscalers' syncs that are worth a line: each change of a size, and each change of what holds it where it is.

use crate::record::Results;
use crate::record::results::{AutoscalerMetric, AutoscalerStep};

/// What one autoscaler did.
pub(crate) struct Story<'a> {
    /// The autoscaler.
    pub(crate) object: &'a str,
    /// Its syncs.
    pub(crate) sync_count: usize,
    /// Those that changed the size.
    pub(crate) change_count: usize,
    /// Those that are worth a line.
    pub(crate) lines: Vec<Line<'a>>,
}

/// A sync that is worth a line.
pub(crate) struct Line<'a> {
    /// The sync.
    pub(crate) step: &'a AutoscalerStep,
    /// Why the size is what it is, in the controller's own word.
    pub(crate) why: &'a str,
    /// What it looked at, as in `cpu 87%/80%`.
    pub(crate) metrics: String,
}

/// The stories of all autoscalers, in the order of their first syncs.
pub(crate) fn stories(results: &Results) -> Vec<Story<'_>> {
    let mut stories: Vec<Story<'_>> = Vec::new();
    for step in &results.autoscaler {
        let index = stories.iter().position(|story| story.object == step.object).unwrap_or_else(|| {
            stories.push(Story { object: &step.object, sync_count: 0, change_count: 0, lines: Vec::new() });
            stories.len() - 1
        });
        let story = &mut stories[index];
        story.sync_count += 1;
        let is_change = step.current != step.desired;
        story.change_count += usize::from(is_change);
        let why = why(step);
        if is_change || story.lines.last().is_none_or(|last| last.why != why) {
            let metrics: Vec<String> = step.metrics.iter().map(metric).collect();
            story.lines.push(Line { step, why, metrics: metrics.join(", ") });
        }
    }
    stories
}

/// The condition that says most: a failure, then a limit, then what holds the size back. Who was given another size has not failed: what is said of the
/// metrics then is of an earlier sync, since this one did not look at them.
fn why(step: &AutoscalerStep) -> &str {
    let of = |kind: &str| step.conditions.get(kind).and_then(|text| text.split_once('/'));
    let is_written = step.current != step.desired;
    let kinds = if is_written { &["AbleToScale"][..] } else { &["AbleToScale", "ScalingActive"] };
    let failed = kinds.iter().find_map(|kind| of(kind).filter(|(holds, _)| *holds == "False"));
    let limited = of("ScalingLimited").filter(|(holds, _)| *holds == "True");
    // Without a look at the metrics there are no limits, and what stands there is of an earlier sync.
    let limited = limited.filter(|_| !step.metrics.iter().all(|metric| metric.value.is_none()));
    failed.or(limited).or(of("AbleToScale")).map_or("", |(_, reason)| reason)
}

fn metric(metric: &AutoscalerMetric) -> String {
    let figure = |value: f64| match metric.unit.as_str() {
        "percent" => format!("{value}%"),
        _ if value.abs() >= 1e6 => format!("{:.1}M", value / 1e6),
        _ => format!("{value}"),
    };
    let seen = metric.value.map_or("?".to_owned(), figure);
    format!("{} {seen}/{}", metric.name, figure(metric.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{LOSING, scaled};

    #[test]
    fn a_line_stands_for_a_change_of_size_or_of_reason() {
        let mut run = LOSING.tell().0;
        run.results.autoscaler = scaled();
        let stories = stories(&run.results);
        assert_eq!(stories.len(), 1);
        let told: Vec<_> = stories[0].lines.iter().map(|line| (line.step.desired, line.why, &*line.metrics)).collect();
        assert_eq!(
            told,
            [
                (4, "FailedGetResourceMetric", "cpu ?/60%"),
                (4, "ReadyForNewScale", "cpu 55%/60%"),
                (8, "ScaleUpLimit", "cpu 200%/60%"),
                (9, "SucceededRescale", "cpu 70%/60%"),
            ]
        );
        assert_eq!((stories[0].sync_count, stories[0].change_count), (5, 2));
    }

    #[test]
    fn a_size_that_is_written_without_a_look_at_the_metrics_is_not_a_failure_of_theirs() {
        let conditions = |able: &str| {
            let all = [
                ("AbleToScale", able),
                ("ScalingActive", "False/ScalingDisabled"),
                ("ScalingLimited", "True/TooFewReplicas"),
            ];
            all.map(|(kind, text)| (kind.to_owned(), text.to_owned())).into()
        };
        let step = |current, desired, able: &str| AutoscalerStep {
            current,
            desired,
            metrics: Vec::new(),
            conditions: conditions(able),
            ..scaled().remove(0)
        };
        for (step, expected) in [
            (step(1, 2, "True/SucceededRescale"), "SucceededRescale"),
            (step(0, 0, "True/SucceededGetScale"), "ScalingDisabled"),
            (step(1, 2, "False/FailedUpdateScale"), "FailedUpdateScale"),
        ] {
            assert_eq!(why(&step), expected);
        }
    }
}
