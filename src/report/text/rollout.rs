//! The rollout in the terminal: a line per pod, then targets and losses on the same axis.

use super::super::lane::{self, Lane, Picture, PodState};
use super::super::units;
use super::paint::Paint;
use crate::record::{Run, Second};

/// Columns of the axis of time.
const WIDTH: u64 = 48;
/// Columns of the names.
const NAMES: usize = 20;
/// Most lines for pods.
const LANES_MAX: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines of the picture; none if no pod was seen.
pub(super) fn lines(run: &Run, paint: Paint) -> Vec<String> {
    let picture = lane::picture(run, LANES_MAX);
    if picture.lanes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![paint.dim(&format!("  {:<NAMES$} {:<width$} {:>7}", "pod", "", "lost", width = width()))];
    lines.extend(picture.lanes.iter().map(|lane| lane_line(lane, &picture, paint)));
    if picture.hidden_count > 0 {
        lines.push(paint.dim(&format!("  … and {} more pods", picture.hidden_count)));
    }
    lines.extend(series_line(
        "balancer sends to",
        &picture,
        paint,
        |row| row.gauge.lb_targets_healthy.map(u64::from),
        Peak::Most,
    ));
    lines.extend(series_line(
        "autoscaler wants",
        &picture,
        paint,
        |row| row.gauge.hpa_desired.map(u64::from),
        Peak::Most,
    ));
    lines.extend(series_line("lost per second", &picture, paint, |row| Some(row.dropped), Peak::Sum));
    lines.push(axis(&picture, units::Clock::of(&run.results), paint));
    lines.push(legend(&picture, paint));
    lines
}

fn width() -> usize {
    usize::try_from(WIDTH).unwrap_or(0)
}

/// The span of a column.
fn column(picture: &Picture<'_>, index: u64) -> (u64, u64) {
    let span_ms = picture.to_ms - picture.from_ms;
    (picture.from_ms + span_ms * index / WIDTH, picture.from_ms + span_ms * (index + 1) / WIDTH)
}

fn lane_line(lane: &Lane<'_>, picture: &Picture<'_>, paint: Paint) -> String {
    let bar: String = (0..WIDTH).map(|index| lane_column(lane, column(picture, index), paint)).collect();
    let lost = format!("{:>7}", units::count(lane.pod.dropped));
    let lost = if lane.pod.dropped > 0 { paint.bad(&lost) } else { paint.dim(&lost) };
    format!("  {:<NAMES$} {bar} {lost}", units::tail_of(&lane.pod.name, NAMES))
}

/// The state that matters most within a column: a balancer that sends to nobody above all.
fn lane_column(lane: &Lane<'_>, (from_ms, to_ms): (u64, u64), paint: Paint) -> String {
    if lane.stale().any(|stretch| stretch.from_ms < to_ms && from_ms < stretch.to_ms) {
        return paint.bad("×");
    }
    match lane::within(&lane.life, from_ms, to_ms).map(|stretch| stretch.state).max() {
        Some(PodState::Ready) => paint.calm("█"),
        Some(PodState::Unready) => paint.warn("▄"),
        Some(PodState::Starting) => paint.calm("░"),
        Some(PodState::Draining) => paint.warn("▒"),
        None => " ".to_owned(),
    }
}

/// What the number at the end of a series is.
#[derive(Clone, Copy)]
enum Peak {
    /// The highest of its values.
    Most,
    /// All of them together.
    Sum,
}

/// A series as bars; none if it has no values.
fn series_line(
    name: &str,
    picture: &Picture<'_>,
    paint: Paint,
    value: impl Fn(&Second) -> Option<u64>,
    peak: Peak,
) -> Option<String> {
    let most_in = |(from_ms, to_ms): (u64, u64)| {
        let is_in = |row: &&&Second| row.t_s * 1_000 < to_ms && (row.t_s + 1) * 1_000 > from_ms;
        picture.seconds.iter().filter(is_in).filter_map(|row| value(row)).max()
    };
    let columns: Vec<_> = (0..WIDTH).map(|index| most_in(column(picture, index))).collect();
    let most = columns.iter().flatten().max().copied()?;
    let bar: String = columns
        .iter()
        .map(|column| match (*column, peak) {
            (Some(count @ 0..=9), Peak::Most) if most <= 9 => paint.dim(&count.to_string()),
            (Some(0), _) => paint.dim("·"),
            (Some(count), Peak::Sum) => paint.bad(&bar_of(count, most).to_string()),
            (Some(count), Peak::Most) => paint.dim(&bar_of(count, most).to_string()),
            (None, _) => " ".to_owned(),
        })
        .collect();
    let last = match peak {
        Peak::Most => format!("max {:>3}", units::count(most)),
        Peak::Sum => format!("{:>7}", units::count(picture.seconds.iter().filter_map(|row| value(row)).sum())),
    };
    Some(format!("  {name:<NAMES$} {bar} {last}"))
}

fn bar_of(count: u64, most: u64) -> char {
    let step = (count * 8).div_ceil(most.max(1)).clamp(1, 8);
    BARS[usize::try_from(step - 1).unwrap_or(0)]
}

/// Times at both ends and in the middle.
fn axis(picture: &Picture<'_>, clock: units::Clock, paint: Paint) -> String {
    let middle_ms = picture.from_ms.midpoint(picture.to_ms);
    let [from, middle, to] = [picture.from_ms, middle_ms, picture.to_ms].map(|t_ms| clock.tell_s(t_ms));
    let half = width() / 2;
    let text = format!("  {:<NAMES$} {from:<half$}{middle:<rest$}{to}", "", rest = half - to.len());
    paint.dim(&text)
}

fn legend(picture: &Picture<'_>, paint: Paint) -> String {
    let is_stale = picture.lanes.iter().any(|lane| lane.stale().next().is_some());
    let mut states = picture.lanes.iter().flat_map(|lane| &lane.life).map(|stretch| stretch.state);
    let is_unready = states.any(|state| state == PodState::Unready);
    let unready = if is_unready { "   ▄ not ready" } else { "" };
    let stale = match (is_stale, is_unready) {
        (false, _) => "",
        (true, false) => "   × gone, but the balancer still sends",
        (true, true) => "   × gone, but still sent to",
    };
    paint.dim(&format!("  ░ starting   █ ready{unready}   ▒ draining{stale}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_is_seen_beside_many() {
        assert_eq!((bar_of(1, 1_000), bar_of(1_000, 1_000)), ('▁', '█'));
    }
}
