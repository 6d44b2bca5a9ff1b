//! What must hold: `dropped_ratio{phase="rollout"} <= 0.01%`.
//!
//! An expression is a metric, labels, a comparison and a limit. The limit's unit follows from the metric: a share for ratios, a duration for times,
//! a number for counts. A metric that had nothing to measure (no answered request, no rollout) has no value, and then the SLO is missed:
//! what was not seen was not met. Counts are 0 instead.

use std::time::Duration;

use crate::cluster::Rollout;
use crate::manifest::quantity::{self, Wrong};
use crate::manifest::read::did_you_mean;
use crate::record::results::Slo;
use crate::record::{CauseCode, Recorder};

use super::settings::{Over, SloSettings};

/// A metric, where it is taken, and the limit.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    /// What is measured.
    pub metric: Metric,
    /// Only in this phase.
    pub phase: Option<String>,
    /// Only of this load.
    pub load: Option<String>,
    /// Only losses with this cause.
    pub cause: Option<CauseCode>,
    /// How the value compares.
    pub comparison: Comparison,
    /// The limit, in the metric's unit.
    pub limit: f64,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "the words of the expression language")]
pub enum Metric {
    DroppedRatio,
    DroppedCount,
    DroppedPerSecondMax,
    ErrorRatio,
    /// A quantile, 0 to 1.
    Latency(f64),
    LatencyMax,
    ReadyPodsMin,
    ReadyPodsMax,
    RolloutDuration,
    RecoveryTime,
    ConnectionsReset,
    RetriesRatio,
}

/// How a value compares with a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the signs of the expression language")]
pub enum Comparison {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

/// Names and metrics. `ready_pods` stands inside `min()` or `max()`.
const METRICS: [(&str, Metric); 18] = [
    ("dropped_ratio", Metric::DroppedRatio),
    ("dropped_count", Metric::DroppedCount),
    ("dropped_per_s_max", Metric::DroppedPerSecondMax),
    ("error_ratio", Metric::ErrorRatio),
    ("latency_p50", Metric::Latency(0.5)),
    ("latency_p75", Metric::Latency(0.75)),
    ("latency_p90", Metric::Latency(0.9)),
    ("latency_p95", Metric::Latency(0.95)),
    ("latency_p99", Metric::Latency(0.99)),
    ("latency_p99.9", Metric::Latency(0.999)),
    ("latency_p99_9", Metric::Latency(0.999)),
    ("latency_max", Metric::LatencyMax),
    ("min(ready_pods)", Metric::ReadyPodsMin),
    ("max(ready_pods)", Metric::ReadyPodsMax),
    ("rollout_duration", Metric::RolloutDuration),
    ("recovery_time", Metric::RecoveryTime),
    ("connections_reset", Metric::ConnectionsReset),
    ("retries_ratio", Metric::RetriesRatio),
];

impl Metric {
    /// The unit of values and limits.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::DroppedRatio | Self::ErrorRatio | Self::RetriesRatio => "ratio",
            Self::DroppedCount | Self::ReadyPodsMin | Self::ReadyPodsMax | Self::ConnectionsReset => "count",
            Self::DroppedPerSecondMax => "per_s",
            Self::Latency(_) | Self::LatencyMax => "us",
            Self::RolloutDuration | Self::RecoveryTime => "ms",
        }
    }

    fn has_requests(self) -> bool {
        // What is taken from the seconds of a run is not kept per load.
        let by_second = [
            Self::ReadyPodsMin,
            Self::ReadyPodsMax,
            Self::DroppedPerSecondMax,
            Self::RecoveryTime,
            Self::RolloutDuration,
        ];
        !by_second.contains(&self)
    }
}

fn wrong(text: String, help: impl Into<String>) -> Wrong {
    Wrong { text, help: help.into() }
}

/// Reads an expression.
///
/// # Errors
///
/// If it is none; what is wrong, and what to write instead.
pub fn parse(expr: &str) -> Result<Condition, Wrong> {
    let shape = "write: metric{phase=\"…\"} <= limit";
    let mut signs = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("<", Comparison::Below),
        (">", Comparison::Above),
    ]
    .into_iter();
    let found = signs.find_map(|(sign, comparison)| Some((expr.split_once(sign)?, comparison)));
    let Some(((left, limit), comparison)) = found else {
        return Err(wrong(format!("`{expr}` compares nothing"), shape));
    };
    // `min(ready_pods{phase="x"})` and `min(ready_pods){phase="x"}` mean the same.
    let (outside, labels) = match (left.find('{'), left.find('}')) {
        (Some(open), Some(close)) if open < close => {
            (format!("{}{}", &left[..open], &left[close + 1..]), &left[open + 1..close])
        }
        (None, None) => (left.to_owned(), ""),
        _ => return Err(wrong(format!("`{left}`: the braces do not match"), shape)),
    };
    let name: String = outside.chars().filter(|letter| !letter.is_whitespace()).collect();
    let Some((_, metric)) = METRICS.iter().find(|(known, _)| *known == name) else {
        let near = if name == "ready_pods" {
            Some("min(ready_pods)")
        } else {
            did_you_mean(&name, METRICS.iter().map(|(known, _)| *known))
        };
        let all: Vec<&str> = METRICS.iter().map(|(known, _)| *known).collect();
        let help =
            near.map_or_else(|| format!("metrics: {}", all.join(", ")), |near| format!("did you mean `{near}`?"));
        return Err(wrong(format!("`{name}` is not a metric"), help));
    };
    let mut condition = Condition {
        metric: *metric,
        phase: None,
        load: None,
        cause: None,
        comparison,
        limit: read_limit(*metric, limit.trim())?,
    };
    for label in labels.split(',').filter(|label| !label.trim().is_empty()) {
        read_label(label, &mut condition)?;
    }
    Ok(condition)
}

fn read_label(label: &str, condition: &mut Condition) -> Result<(), Wrong> {
    let (key, value) =
        label.split_once('=').ok_or_else(|| wrong(format!("`{label}` is no label"), "write phase=\"rollout\""))?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = value
        .ok_or_else(|| wrong(format!("`{label}`: the value is not in quotes"), "write phase=\"rollout\""))?
        .to_owned();
    let key = key.trim();
    if key != "phase" && !condition.metric.has_requests() {
        return Err(wrong(format!("`{key}` has no meaning for this metric"), "only phase can be named here"));
    }
    match key {
        "phase" if condition.metric == Metric::RolloutDuration => {
            return Err(wrong("rollouts have no phase".to_owned(), "write rollout_duration alone"));
        }
        "phase" => condition.phase = Some(value),
        "load" => condition.load = Some(value),
        "cause" => {
            let known = || CauseCode::ALL.iter().flat_map(|cause| [cause.code(), cause.name()]);
            let found = CauseCode::find(&value).ok_or_else(|| {
                let near =
                    did_you_mean(&value, known()).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
                wrong(format!("`{value}` is not a cause"), near)
            })?;
            if condition.metric != Metric::DroppedCount {
                return Err(wrong("causes are counted, nothing else".to_owned(), "write dropped_count{cause=\"…\"}"));
            }
            condition.cause = Some(found);
        }
        "route" | "backend" => {
            return Err(wrong(format!("the label `{key}` is not simulated yet"), "use phase or load"));
        }
        _ => {
            let near = did_you_mean(key, ["phase", "load", "cause"]);
            let help =
                near.map_or_else(|| "labels: phase, load, cause".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(wrong(format!("`{key}` is not a label"), help));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53 units")]
fn read_limit(metric: Metric, text: &str) -> Result<f64, Wrong> {
    let duration = |per: u128| quantity::duration(text).map(|span| span.as_nanos() as f64 / per as f64);
    match metric.unit() {
        "ratio" => quantity::ratio(text),
        "us" => duration(1_000),
        "ms" => duration(1_000_000),
        "per_s" => quantity::rate(text).or_else(|_| quantity::float(text)),
        _ => quantity::integer(text).map(|count| count as f64),
    }
}

impl Condition {
    fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::AtMost => value <= self.limit,
            Comparison::Below => value < self.limit,
            Comparison::AtLeast => value >= self.limit,
            Comparison::Above => value > self.limit,
            Comparison::Equal => (value - self.limit).abs() < f64::EPSILON,
        }
    }

    /// The value, in the metric's unit; none if there was nothing to measure.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts and times are far below 2^53")]
    pub fn value(&self, recorder: &Recorder, rollouts: &[Rollout]) -> Option<f64> {
        let tally = || recorder.figures(self.phase.as_deref(), self.load.as_deref());
        let seconds =
            || recorder.seconds().filter(|(phase, _)| self.phase.as_deref().is_none_or(|name| name == *phase));
        let ready = || seconds().filter_map(|(_, second)| second.gauge.pods_ready);
        match self.metric {
            Metric::DroppedRatio => tally().dropped_ratio(),
            Metric::DroppedCount => Some(match self.cause {
                Some(cause) => tally().causes.get(&cause).copied().unwrap_or(0) as f64,
                None => tally().dropped() as f64,
            }),
            Metric::DroppedPerSecondMax => seconds().map(|(_, second)| second.dropped).max().map(|count| count as f64),
            Metric::ErrorRatio => tally().error_ratio(),
            Metric::Latency(quantile) => tally().latencies.quantile_us(quantile).map(|us| us as f64),
            Metric::LatencyMax => tally().latencies.max_us().map(|us| us as f64),
            Metric::ReadyPodsMin => ready().min().map(f64::from),
            Metric::ReadyPodsMax => ready().max().map(f64::from),
            Metric::RolloutDuration => {
                let spans = rollouts.iter().map(|rollout| Some(rollout.ended_at?.since(rollout.started_at)));
                // One that never ends has no duration, and then there is no greatest one.
                spans.collect::<Option<Vec<Duration>>>()?.into_iter().max().map(|span| span.as_secs_f64() * 1000.0)
            }
            Metric::RecoveryTime => {
                let lost = || seconds().filter(|(_, second)| second.dropped > 0).map(|(_, second)| second.t_s);
                Some(lost().max().zip(lost().min()).map_or(0.0, |(last, first)| (last + 1 - first) as f64 * 1000.0))
            }
            Metric::ConnectionsReset => Some(tally().connections_reset as f64),
            Metric::RetriesRatio => {
                let tally = tally();
                crate::record::tally::ratio(tally.retries, tally.sent)
            }
        }
    }
}

/// What became of the SLOs.
#[must_use]
pub fn evaluate(slos: &[SloSettings], recorder: &Recorder, rollouts: &[Rollout]) -> Vec<Slo> {
    let judge = |slo: &SloSettings| {
        let value = slo.condition.value(recorder, rollouts);
        let limit = slo.condition.limit;
        let room = value.map(|value| match slo.condition.comparison {
            Comparison::AtLeast | Comparison::Above => value - limit,
            Comparison::AtMost | Comparison::Below | Comparison::Equal => limit - value,
        });
        Slo {
            name: slo.name.clone(),
            expr: slo.expr.clone(),
            level: slo.level,
            limit,
            value,
            unit: slo.condition.metric.unit().to_owned(),
            ok: value.is_some_and(|value| slo.condition.holds(value)),
            // A share of nothing says nothing.
            margin_ratio: room.filter(|_| limit > 0.0).map(|room| room / limit),
        }
    };
    slos.iter().map(judge).collect()
}

/// Whether an SLO holds over the runs of several seeds, each judged by its row.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seeds are few")]
pub fn holds_over(slo: &SloSettings, rows: &[&Slo]) -> bool {
    if rows.len() < 2 || slo.over == Over::Worst {
        return rows.iter().all(|row| row.ok);
    }
    // A seed without a value misses the SLO, as it does alone.
    let Some(mut values) = rows.iter().map(|row| row.value).collect::<Option<Vec<f64>>>() else { return false };
    values.sort_by(f64::total_cmp);
    let value = match slo.over {
        Over::Mean => values.iter().sum::<f64>() / values.len() as f64,
        Over::Worst | Over::P95 => {
            // The nearest rank: of 20 values the 19th. For limits from below it is the 5th percentile that counts.
            let rank = (values.len() * 95).div_ceil(100);
            match slo.condition.comparison {
                Comparison::AtLeast | Comparison::Above => values[values.len() - rank],
                Comparison::AtMost | Comparison::Below | Comparison::Equal => values[rank - 1],
            }
        }
    };
    slo.condition.holds(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let found = parse("dropped_ratio{phase=\"rollout\", load=\"shop\"} <= 0.01%").unwrap();
        assert_eq!(found.metric, Metric::DroppedRatio);
        assert_eq!((found.phase.as_deref(), found.load.as_deref()), (Some("rollout"), Some("shop")));
        assert!((found.limit - 0.0001).abs() < 1e-12);
        for (expr, metric, limit) in [
            ("latency_p99 <= 250ms", Metric::Latency(0.99), 250_000.0),
            ("latency_p99.9<1s", Metric::Latency(0.999), 1_000_000.0),
            ("rollout_duration <= 3m", Metric::RolloutDuration, 180_000.0),
            ("min(ready_pods) >= 4", Metric::ReadyPodsMin, 4.0),
            ("min(ready_pods{phase=\"rollout\"}) >= 4", Metric::ReadyPodsMin, 4.0),
            ("dropped_per_s_max < 10", Metric::DroppedPerSecondMax, 10.0),
            ("dropped_count{cause=\"GD4101\"} == 0", Metric::DroppedCount, 0.0),
        ] {
            let found = parse(expr).unwrap();
            assert_eq!(found.metric, metric, "{expr}");
            assert!((found.limit - limit).abs() < 1e-9, "{expr}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (expr, part) in [
            ("dropped_ration <= 1%", "did you mean `dropped_ratio`?"),
            ("dropped_ratio 1%", "write: metric"),
            ("latency_p99 <= 250", "try `250s`"),
            ("dropped_ratio <= 2", "0% to 100%"),
            ("ready_pods >= 2", "min(ready_pods)"),
            ("dropped_count{phase=rollout} <= 0", "phase=\"rollout\""),
            ("dropped_count{phse=\"x\"} <= 0", "did you mean `phase`?"),
            ("dropped_count{cause=\"GD9\"} <= 0", ""),
            ("rollout_duration{phase=\"x\"} <= 3m", "alone"),
            ("dropped_count{route=\"x\"} <= 0", "use phase or load"),
            ("dropped_per_s_max{load=\"x\"} <= 1", "only phase"),
        ] {
            let wrong = parse(expr).unwrap_err();
            assert!(wrong.help.contains(part), "{expr}: {wrong:?}");
        }
    }

    #[test]
    fn limits_hold_on_their_side() {
        let holds = |expr: &str, value: f64| parse(expr).unwrap().holds(value);
        assert!(holds("dropped_count <= 2", 2.0) && !holds("dropped_count <= 2", 3.0));
        assert!(holds("dropped_count < 2", 1.0) && !holds("dropped_count < 2", 2.0));
        assert!(holds("dropped_count >= 2", 2.0) && !holds("dropped_count >= 2", 1.0));
        assert!(holds("dropped_count > 2", 3.0) && !holds("dropped_count > 2", 2.0));
        assert!(holds("dropped_count == 2", 2.0) && !holds("dropped_count == 2", 1.0));
    }
}
