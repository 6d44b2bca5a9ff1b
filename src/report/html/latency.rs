//! The two charts of latency: percentiles over time, and the curve of all percentiles on an axis that gives every further
//! nine the same room. Both count from the intended send time; latency is on a logarithmic axis.

use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::element::{Circle, Cross, PathElement, Rectangle, TriangleMarker};
use plotters::series::LineSeries;
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, RGBColor};

use super::super::units::{self, float};
use super::axis::{self, Clock};
use super::svg::{self, Area, Caption, Drawn};
use super::{Picture, palette};
use crate::record::results::{LatencyUs, Results};
use crate::record::{Latencies, Run, Second};

/// Size of both charts, in pixels.
const SIZE: (u32, u32) = (1_000, 300);
const LEFT: u32 = 62;
const RIGHT: u32 = 130;
const TOP: u32 = 24;
const BOTTOM: u32 = 40;
/// Most points of a line over time; a longer run has several seconds in each.
const POINTS_MAX: usize = 500;
/// Most phases with a curve of their own.
const CURVES_MAX: usize = 5;
/// Steps of a curve per halving of what is left above a percentile.
const STEPS_PER_HALF: u32 = 8;

/// Median and 99th percentile of every second; none if nothing was answered.
pub(super) fn over_time(run: &Run, clock: Clock) -> Option<Picture> {
    let seconds_each = run.seconds.len().div_ceil(POINTS_MAX).max(1);
    let worst = |of: fn(&Second) -> Option<u64>| -> Vec<(u64, Option<u64>)> {
        run.seconds.chunks(seconds_each).map(|rows| (rows[0].t_s * 1_000, rows.iter().filter_map(of).max())).collect()
    };
    let (p50, p99) = (worst(|row| row.latency_p50_us), worst(|row| row.latency_p99_us));
    let values = || p50.iter().chain(&p99).filter_map(|(_, value)| *value);
    let (least, most) = (values().min()?, values().max()?);
    let description = format!(
        "Median and 99th percentile of the latency of requests due in each second. The median is between {} and {}, \
         the 99th percentile at most {}.",
        units::micros(least),
        units::micros(p50.iter().filter_map(|(_, value)| *value).max().unwrap_or(least)),
        units::micros(most)
    );
    let caption = Caption { id: "latency-time", title: "Latency over time", description: &description };
    let lines = [
        Line { name: "p99".to_owned(), points: p99, color: palette::DRAINING },
        Line { name: "p50 (median)".to_owned(), points: p50, color: palette::READY },
    ];
    let svg = svg::draw(&caption, SIZE, |area| draw_over_time(area, &run.results, &lines, (least, most), clock));
    let notes = match seconds_each {
        1 => Vec::new(),
        several => vec![format!("Each point is the worst of {several} seconds.")],
    };
    Some(Picture { svg, notes })
}

struct Line {
    name: String,
    points: Vec<(u64, Option<u64>)>,
    color: RGBColor,
}

fn draw_over_time(
    area: &Area<'_>,
    results: &Results,
    lines: &[Line],
    (least, most): (u64, u64),
    clock: Clock,
) -> Drawn {
    let (from_ms, to_ms) = (results.measured.start_ms, results.measured.end_ms);
    let marks = clock.marks(from_ms, to_ms, 12).into_iter().map(float).collect();
    let x_axis = Axis { range: float(from_ms)..float(to_ms.max(from_ms + 1)), marks };
    let mut chart = axes(area, x_axis, latency_axis(least, most), &|x| clock.tell_s(units::whole(*x)))?;
    let Range { start: bottom, end: top } = chart.y_range();
    let mut free = 0;
    for phase in &results.phases {
        let x = float(phase.start_ms);
        chart.draw_series([PathElement::new(vec![(x, bottom), (x, top)], palette::MUTED)])?;
        let pixel = chart.backend_coord(&(x, top)).0;
        let room = 12 + svg::text_width(&phase.name);
        if pixel >= free && pixel + room <= i32::try_from(SIZE.0).unwrap_or(i32::MAX) {
            svg::write(area, (pixel + 4, 12), &phase.name, palette::MUTED, HPos::Left)?;
            free = pixel + room;
        }
    }
    let mut above = None;
    for line in lines {
        // A second without answers leaves a gap: a line across it would be made up.
        for run in line.points.split(|(_, value)| value.is_none()) {
            let points = run.iter().filter_map(|&(t_ms, value)| Some((float(t_ms), log(float(value?)))));
            match run {
                [_] => chart.draw_series(points.map(|point| Circle::new(point, 2, line.color.filled())))?,
                _ => chart.draw_series(LineSeries::new(points, line.color.stroke_width(2)))?,
            };
        }
        let Some((t_ms, value)) = line.points.iter().rev().find_map(|&(t_ms, value)| Some((t_ms, value?))) else {
            continue;
        };
        let y = chart.backend_coord(&(float(t_ms), log(float(value)))).1;
        // The upper line comes first: what would run into its name moves down.
        let y = above.map_or(y, |above: i32| y.max(above + svg::TEXT + 3));
        above = Some(y);
        let x = i32::try_from(SIZE.0 - RIGHT).unwrap_or(0) + 8;
        svg::write(area, (x, y), &line.name, line.color, HPos::Left)?;
    }
    foot(area, "time from the start of the measured time")
}

/// The latency at every percentile, for each phase; none if nothing was answered.
pub(super) fn curve(results: &Results) -> Option<Picture> {
    let all = Curve::of("all", &results.latency_us, palette::INK)?;
    let colors = [palette::READY, palette::DRAINING, palette::SENDING, palette::UNWELL, palette::LOST];
    let phases = results.phases.iter().take(CURVES_MAX).zip(colors);
    let mut curves: Vec<_> =
        phases.filter_map(|(phase, color)| Curve::of(&phase.name, &phase.latency_us, color)).collect();
    let notes = match results.phases.len().checked_sub(CURVES_MAX) {
        None | Some(0) => Vec::new(),
        Some(more) => vec![format!("The first {CURVES_MAX} phases have a curve; {more} more are in “all”.")],
    };
    if curves.len() != 1 {
        curves.push(all);
    }
    let mut description = "Latency at every percentile.".to_owned();
    for curve in &curves {
        description += &format!(" {}: longest {}.", curve.name, units::micros(curve.most()));
    }
    let caption = Caption { id: "latency-curve", title: "Latency by percentile", description: &description };
    Some(Picture { svg: svg::draw(&caption, SIZE, |area| draw_curves(area, &curves)), notes })
}

struct Curve {
    name: String,
    /// What is left above a percentile, as `1 / (1 - q)`, and the latency there.
    points: Vec<(f64, u64)>,
    color: RGBColor,
}

impl Curve {
    fn of(name: &str, latency: &LatencyUs, color: RGBColor) -> Option<Self> {
        let latencies = Latencies::from_base64(&latency.hdr_v2_base64)?;
        let longest = latencies.max_us()?;
        let count = float(latencies.count());
        let steps = latencies.histogram().iter_quantiles(STEPS_PER_HALF);
        let step = |quantile: f64, value| (1.0 / (1.0 - quantile), value);
        let mut points: Vec<_> = steps
            .take_while(|step| step.quantile_iterated_to() < 1.0)
            .map(|at| step(at.quantile_iterated_to(), at.value_iterated_to().min(longest)))
            .take_while(|(left, _)| *left < count)
            .collect();
        // The longest of n stands where one of n is left: further right would be a promise.
        points.push((count.max(1.0), longest));
        Some(Self { name: name.to_owned(), points, color })
    }

    fn most(&self) -> u64 {
        self.points.last().map_or(0, |(_, value)| *value)
    }
}

fn draw_curves(area: &Area<'_>, curves: &[Curve]) -> Drawn {
    let values = || curves.iter().flat_map(|curve| &curve.points);
    let least = values().map(|(_, value)| *value).min().unwrap_or(1);
    let most = values().map(|(_, value)| *value).max().unwrap_or(1);
    let right = values().map(|(left, _)| *left).fold(10.0, f64::max);
    let right = log(right);
    let nines: Vec<_> = (0..16).map(f64::from).take_while(|nines| *nines <= right).collect();
    let x_axis = Axis { range: 0.0..right, marks: nines.clone() };
    let mut chart = axes(area, x_axis, latency_axis(least, most), &|x| percentile(units::whole(*x)))?;
    let mut ends = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let points: Vec<_> = curve.points.iter().map(|&(left, value)| (log(left), log(float(value)))).collect();
        let width = if curve.name == "all" && curves.len() > 1 { 1 } else { 2 };
        chart.draw_series(LineSeries::new(points.iter().copied(), curve.color.stroke_width(width)))?;
        // A mark at every nine tells curves apart without colour.
        for mark in nines.iter().skip(1) {
            if let Some(point) = points.iter().find(|(x, _)| x >= mark) {
                draw_marker(area, chart.backend_coord(point), index, curve.color)?;
            }
        }
        if let Some(end) = points.last() {
            ends.push((chart.backend_coord(end), index));
        }
    }
    // Names stand in the margin, in the order of the ends, each with its mark.
    ends.sort_by_key(|((_, y), index)| (*y, *index));
    let x = i32::try_from(SIZE.0 - RIGHT).unwrap_or(0) + 14;
    let lowest = i32::try_from(SIZE.1 - BOTTOM).unwrap_or(0);
    let spacing = svg::TEXT + 4;
    let names = i32::try_from(ends.len()).unwrap_or(0);
    let mut free = 0;
    for (rank, ((_, y), index)) in (0..).zip(ends) {
        let y = y.max(free).min(lowest - spacing * (names - 1 - rank));
        free = y + spacing;
        let curve = &curves[index];
        draw_marker(area, (x, y), index, curve.color)?;
        let name = svg::clip(&curve.name, i32::try_from(RIGHT).unwrap_or(0) - 26);
        svg::write(area, (x + 10, y), &name, curve.color, HPos::Left)?;
    }
    foot(area, "part of requests answered at least this fast; each step to the right is ten times rarer")
}

fn draw_marker(area: &Area<'_>, at: (i32, i32), index: usize, color: RGBColor) -> Drawn {
    match index % 5 {
        0 => area.draw(&Circle::new(at, 4, color.filled())),
        1 => area.draw(&TriangleMarker::new(at, 5, color.filled())),
        2 => area.draw(&Rectangle::new([(at.0 - 3, at.1 - 3), (at.0 + 3, at.1 + 3)], color.filled())),
        3 => area.draw(&Cross::new(at, 4, color.stroke_width(2))),
        _ => area.draw(&Circle::new(at, 4, color.stroke_width(1))),
    }
}

/// A chart whose axes are drawn. Both are linear: what is logarithmic comes as its logarithm, taken by a library that
/// gives the same digits on every machine.
type Chart2d<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// An axis with marks where we want them.
#[derive(Clone)]
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let span = (self.range.end - self.range.start).max(f64::MIN_POSITIVE);
        let part = (value - self.range.start) / span;
        #[expect(clippy::cast_possible_truncation, reason = "a pixel; a cast saturates")]
        let offset = (part * f64::from(to - from)).round() as i32;
        from + offset
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

fn latency_axis(least: u64, most: u64) -> Axis {
    let marks: Vec<_> = axis::log_marks(least, most).into_iter().map(|mark| log(float(mark))).collect();
    Axis { range: marks.first().copied().unwrap_or(0.0)..marks.last().copied().unwrap_or(1.0), marks }
}

fn log(value: f64) -> f64 {
    libm::log10(value.max(1.0))
}

fn axes<'a, 'b>(
    area: &'a Area<'b>,
    x_axis: Axis,
    y_axis: Axis,
    tell_x: &dyn Fn(&f64) -> String,
) -> Result<Chart2d<'a, 'b>, DrawingAreaErrorKind<std::io::Error>> {
    let (x_marks, y_marks) = (x_axis.marks.len(), y_axis.marks.len());
    let mut chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(RIGHT)
        .y_label_area_size(LEFT)
        .x_label_area_size(BOTTOM)
        .build_cartesian_2d(x_axis, y_axis)?;
    chart
        .configure_mesh()
        .x_labels(x_marks)
        .y_labels(y_marks)
        .max_light_lines(0)
        .bold_line_style(palette::GRID)
        .axis_style(palette::MUTED)
        .set_all_tick_mark_size(4)
        .label_style(svg::style(palette::MUTED, HPos::Left))
        .x_label_formatter(tell_x)
        .y_label_formatter(&|y| round_micros(units::whole(libm::pow(10.0, *y))))
        .draw()?;
    Ok(chart)
}

/// A round span in its unit, as in `500µs`, `20ms`, `5s`.
fn round_micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}ms", micros / 1_000),
        _ => format!("{}s", micros / 1_000_000),
    }
}

/// What the horizontal axis shows, beneath it.
fn foot(area: &Area<'_>, text: &str) -> Drawn {
    let (width, height) = (i32::try_from(SIZE.0).unwrap_or(0), i32::try_from(SIZE.1).unwrap_or(0));
    let (left, right) = (i32::try_from(LEFT).unwrap_or(0), i32::try_from(RIGHT).unwrap_or(0));
    svg::write(area, (left.midpoint(width - right), height - 8), text, palette::MUTED, HPos::Center)
}

/// The percentile with that many nines: `0%`, `90%`, `99%`, `99.9%`.
fn percentile(nines: u64) -> String {
    match nines {
        0 => "0%".to_owned(),
        1 => "90%".to_owned(),
        2 => "99%".to_owned(),
        _ => format!("99.{}%", "9".repeat(usize::try_from(nines - 2).unwrap_or(0))),
    }
}
