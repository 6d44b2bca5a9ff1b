//! The first picture: a lane per pod, the load balancer's view of it directly beneath, and the requests lost, on one axis
//! of time. A lane in which the balancer still sends to a pod that is gone is the loss one can see coming.

mod bars;

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::super::lane::{self, Lane, NodeLane, Picture, PodState, TargetState};
use super::super::units;
use super::axis::Clock;
use super::svg::{self, Area, Bar, Caption, Drawn, Fill};
use super::{actions, palette};
use crate::record::Run;

/// Width of the drawing and of what stands left and right of its lanes, in pixels.
const WIDTH: i32 = 1_000;
const LEFT: i32 = 172;
const RIGHT: i32 = 80;
/// Most lanes for pods, and as many for nodes.
const LANES_MAX: usize = 32;
/// With more lanes than this they are thin and have no text.
const ROOMY_MAX: usize = 12;
/// Height of a line of text.
const ROW: i32 = 18;
/// Height of the bars of lost requests.
const LOSSES: i32 = 96;

/// The picture of a run; without pods it is that of its losses alone.
pub(super) fn draw(run: &Run, actions: &[actions::Action<'_>], clock: Clock) -> super::Picture {
    let picture = lane::picture(run, LANES_MAX);
    let scene = Scene::new(run, &picture, actions, clock);
    let caption = Caption {
        id: "rollout",
        title: if picture.lanes.is_empty() { "Lost requests per second" } else { "The rollout and its lost requests" },
        description: &scene.description(),
    };
    let size = (WIDTH.unsigned_abs(), scene.height().unsigned_abs());
    super::Picture { svg: svg::draw(&caption, size, |area| scene.draw(area)), notes: scene.notes() }
}

/// Everything the drawing needs, and where it stands.
struct Scene<'a> {
    run: &'a Run,
    picture: &'a Picture<'a>,
    actions: Vec<&'a actions::Action<'a>>,
    clock: Clock,
    legend: Vec<LegendLine>,
    is_roomy: bool,
}

/// An entry of the legend.
type Key = (RGBColor, Fill, &'static str);
/// Whose states, and what they look like.
type LegendLine = (&'static str, Vec<Key>);

impl<'a> Scene<'a> {
    fn new(run: &'a Run, picture: &'a Picture<'a>, actions: &'a [actions::Action<'a>], clock: Clock) -> Self {
        let is_shown = |action: &&actions::Action<'_>| (picture.from_ms..=picture.to_ms).contains(&action.t_ms);
        Self {
            run,
            picture,
            actions: actions.iter().filter(is_shown).collect(),
            clock,
            legend: legend(picture),
            is_roomy: picture.lanes.len() + picture.nodes.len() <= ROOMY_MAX,
        }
    }

    fn lane_height(&self) -> i32 {
        if self.is_roomy { 38 } else { 19 }
    }

    fn bar_height(&self) -> i32 {
        if self.is_roomy { 14 } else { 6 }
    }

    /// Where the names of phases stand.
    fn phases_top(&self) -> i32 {
        ROW * i32::try_from(self.legend.len()).unwrap_or(0) + 6
    }

    fn lanes_top(&self) -> i32 {
        self.phases_top() + ROW + if self.actions.is_empty() { 2 } else { ROW }
    }

    fn lane_top(&self, index: usize) -> i32 {
        self.lanes_top() + 6 + self.lane_height() * i32::try_from(index).unwrap_or(0)
    }

    fn losses_top(&self) -> i32 {
        self.lane_top(self.picture.lanes.len() + self.picture.nodes.len()) + 8
    }

    fn losses_bottom(&self) -> i32 {
        self.losses_top() + LOSSES
    }

    fn height(&self) -> i32 {
        self.losses_bottom() + 2 * ROW + 2
    }

    fn x(&self, t_ms: u64) -> i32 {
        let (from_ms, to_ms) = (self.picture.from_ms, self.picture.to_ms);
        let width = u64::from((WIDTH - LEFT - RIGHT).unsigned_abs());
        let t_ms = t_ms.clamp(from_ms, to_ms);
        LEFT + i32::try_from((t_ms - from_ms) * width / (to_ms - from_ms).max(1)).unwrap_or(0)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        for (row, line) in (0..).zip(&self.legend) {
            draw_legend(area, ROW * row + ROW / 2, line)?;
        }
        self.draw_time(area)?;
        for (index, lane) in self.picture.lanes.iter().enumerate() {
            self.draw_lane(area, self.lane_top(index), lane)?;
        }
        for (index, node) in self.picture.nodes.iter().enumerate() {
            self.draw_node(area, self.lane_top(self.picture.lanes.len() + index), node)?;
        }
        self.draw_losses(area)?;
        self.draw_actions(area)
    }

    /// Phases as bands, and the axis of time.
    fn draw_time(&self, area: &Area<'_>) -> Drawn {
        let (top, bottom) = (self.phases_top(), self.losses_bottom());
        let phases = self.run.results.phases.iter();
        let is_shown = |start_ms, end_ms| start_ms < self.picture.to_ms && end_ms > self.picture.from_ms;
        for (index, phase) in phases.filter(|phase| is_shown(phase.start_ms, phase.end_ms)).enumerate() {
            let band = Bar { left: self.x(phase.start_ms), right: self.x(phase.end_ms), top, bottom };
            if index.is_multiple_of(2) {
                band.draw(area, palette::BAND, Fill::Solid, None)?;
            }
            svg::line(area, (band.left, top), (band.left, bottom), palette::GRID)?;
            if band.right - band.left > 24 {
                let name = svg::clip(&phase.name, band.right - band.left - 8);
                svg::write(area, (band.left + 5, top + ROW / 2), &name, palette::MUTED, HPos::Left)?;
            }
        }
        svg::write(area, (LEFT - 8, top + ROW / 2), "phase", palette::MUTED, HPos::Right)?;
        for t_ms in self.clock.marks(self.picture.from_ms, self.picture.to_ms, 14) {
            let x = self.x(t_ms);
            svg::line(area, (x, self.lanes_top()), (x, bottom + 4), palette::GRID)?;
            svg::write(area, (x, bottom + ROW / 2 + 4), &self.clock.tell_s(t_ms), palette::MUTED, HPos::Center)?;
        }
        let middle = LEFT.midpoint(WIDTH - RIGHT);
        let unit = if self.picture.to_ms - self.clock.origin_ms >= 3_600_000 {
            "hours:minutes:seconds"
        } else {
            "minutes:seconds"
        };
        let what = format!("{unit} from the start of the measured time");
        svg::write(area, (middle, bottom + ROW + ROW / 2 + 4), &what, palette::MUTED, HPos::Center)
    }

    fn draw_lane(&self, area: &Area<'_>, top: i32, lane: &Lane<'_>) -> Drawn {
        let height = self.bar_height();
        let (pod_middle, view_top) = (top + height / 2, top + height + 1);
        let name = units::tail_of(&lane.pod.name, 26);
        svg::write(area, (0, pod_middle), &svg::clip(name, LEFT - 8), palette::INK, HPos::Left)?;
        if self.is_roomy {
            svg::write(area, (LEFT - 8, view_top + height / 2), "load balancer", palette::MUTED, HPos::Right)?;
        }
        for stretch in lane::within(&lane.life, self.picture.from_ms, self.picture.to_ms) {
            let (color, fill, label) = pod_key(stretch.state);
            self.bar(top, stretch.from_ms, stretch.to_ms).draw(area, color, fill, Some(label))?;
        }
        self.draw_view(area, view_top, &lane.view, lane.ended_ms())?;
        for &t_s in lane.lost_at_s.keys() {
            let (left, right) = (self.x(t_s * 1_000), self.x(t_s * 1_000 + 1_000));
            let tick = Bar {
                left,
                right: (right - 1).max(left + 1),
                top: view_top + height + 1,
                bottom: view_top + height + 4,
            };
            if (self.picture.from_ms..self.picture.to_ms).contains(&(t_s * 1_000)) {
                tick.draw(area, palette::LOST, Fill::Solid, None)?;
            }
        }
        let color = if lane.pod.dropped > 0 { palette::LOST } else { palette::MUTED };
        let lost = format!("{} lost", units::count(lane.pod.dropped));
        svg::write(area, (WIDTH, top + height), &lost, color, HPos::Right)
    }

    fn draw_node(&self, area: &Area<'_>, top: i32, node: &NodeLane<'_>) -> Drawn {
        let middle = top + self.bar_height() / 2;
        let name = format!("node {}", node.target.name);
        svg::write(area, (0, middle), &svg::clip(&name, LEFT - 8), palette::INK, HPos::Left)?;
        self.draw_view(area, top, &node.view, None)
    }

    /// The balancer's view; from `ended_ms` on there is nobody behind the target.
    fn draw_view(
        &self,
        area: &Area<'_>,
        top: i32,
        view: &[lane::Stretch<TargetState>],
        ended_ms: Option<u64>,
    ) -> Drawn {
        for stretch in lane::within(view, self.picture.from_ms, self.picture.to_ms) {
            let ended_ms = ended_ms.unwrap_or(u64::MAX).clamp(stretch.from_ms, stretch.to_ms);
            for (from_ms, to_ms, is_gone) in [(stretch.from_ms, ended_ms, false), (ended_ms, stretch.to_ms, true)] {
                if from_ms < to_ms {
                    let (color, fill, label) = target_key(stretch.state, is_gone);
                    self.bar(top, from_ms, to_ms).draw(area, color, fill, Some(label))?;
                }
            }
        }
        Ok(())
    }

    /// A bar over that time; the shortest is still seen.
    fn bar(&self, top: i32, from_ms: u64, to_ms: u64) -> Bar {
        let left = self.x(from_ms);
        Bar { left, right: self.x(to_ms).max(left + 1), top, bottom: top + self.bar_height() }
    }
}

fn pod_key(state: PodState) -> Key {
    match state {
        PodState::Starting => (palette::WAITING, Fill::Hollow, "starting"),
        PodState::Ready => (palette::READY, Fill::Solid, "ready"),
        PodState::Unready => (palette::UNWELL, Fill::Half, "not ready"),
        PodState::Draining => (palette::DRAINING, Fill::Zigzag, "draining"),
    }
}

fn target_key(state: TargetState, is_gone: bool) -> Key {
    match state {
        TargetState::Registered => (palette::WAITING, Fill::Hollow, "registered"),
        TargetState::Sending if is_gone => (palette::LOST, Fill::Cut, "gone"),
        TargetState::Sending => (palette::SENDING, Fill::Solid, "healthy"),
        TargetState::Unhealthy => (palette::UNWELL, Fill::Half, "unhealthy"),
        TargetState::Removed => (palette::WAITING, Fill::Zigzag, "deregistered"),
    }
}

/// What the bars mean, as far as they appear: lines for pods, then lines for the balancer, each as wide as the lanes.
fn legend(picture: &Picture<'_>) -> Vec<LegendLine> {
    let lives = || picture.lanes.iter().flat_map(|lane| &lane.life).map(|stretch| stretch.state);
    let views = || {
        let of_pods = picture.lanes.iter().flat_map(|lane| &lane.view);
        of_pods.chain(picture.nodes.iter().flat_map(|node| &node.view)).map(|stretch| stretch.state)
    };
    let pod_states = [PodState::Starting, PodState::Ready, PodState::Unready, PodState::Draining];
    let mut pods: Vec<_> =
        pod_states.into_iter().filter(|state| lives().any(|other| other == *state)).map(pod_key).collect();
    if picture.lanes.iter().any(|lane| !lane.lost_at_s.is_empty()) {
        pods.push((palette::LOST, Fill::Thin, "requests lost in that second"));
    }
    let words = |state| match state {
        TargetState::Registered => "registered, no traffic yet",
        TargetState::Sending => "healthy: new connections",
        TargetState::Unhealthy => "unhealthy",
        TargetState::Removed => "deregistered: kept connections only",
    };
    let target_states = [TargetState::Registered, TargetState::Sending, TargetState::Unhealthy, TargetState::Removed];
    let seen = target_states.into_iter().filter(|state| views().any(|other| other == *state));
    let mut targets: Vec<_> = seen
        .map(|state| {
            let (color, fill, _) = target_key(state, false);
            (color, fill, words(state))
        })
        .collect();
    if picture.lanes.iter().any(|lane| lane.stale().next().is_some()) {
        let (color, fill, _) = target_key(TargetState::Sending, true);
        targets.push((color, fill, "pod gone, but still sent to"));
    }
    [("pod", pods), ("load balancer", targets)].into_iter().flat_map(|(who, keys)| wrap(who, keys)).collect()
}

fn wrap(who: &'static str, keys: Vec<Key>) -> Vec<LegendLine> {
    let mut lines: Vec<LegendLine> = Vec::new();
    let mut left = WIDTH;
    for key in keys {
        let width = key_width(key.2);
        if left + width > WIDTH {
            lines.push((if lines.is_empty() { who } else { "" }, Vec::new()));
            left = LEFT;
        }
        lines.last_mut().expect("the first key opens a line").1.push(key);
        left += width;
    }
    lines
}

fn key_width(words: &str) -> i32 {
    27 + svg::text_width(words) + 8
}

fn draw_legend(area: &Area<'_>, middle: i32, (who, keys): &LegendLine) -> Drawn {
    svg::write(area, (LEFT - 8, middle), who, palette::MUTED, HPos::Right)?;
    let mut left = LEFT;
    for &(color, fill, words) in keys {
        Bar { left, right: left + 22, top: middle - 5, bottom: middle + 5 }.draw(area, color, fill, None)?;
        svg::write(area, (left + 27, middle), words, palette::INK, HPos::Left)?;
        left += key_width(words);
    }
    Ok(())
}
