//! The lower part of the first picture: lost requests as bars, actions of the timeline as pointers, and all of it in words.

use plotters::style::text_anchor::HPos;

use super::super::super::units;
use super::super::svg::{self, Area, Bar, Drawn, Fill};
use super::super::{axis, palette};
use super::{LEFT, LOSSES, RIGHT, ROW, Scene, WIDTH};

/// Most bars; a longer span has several seconds in each.
const BARS_MAX: u64 = 250;

impl Scene<'_> {
    /// Seconds in each bar.
    fn bar_s(&self) -> u64 {
        ((self.picture.to_ms - self.picture.from_ms) / 1_000).div_ceil(BARS_MAX).max(1)
    }

    /// Start of each bar, and the most requests lost in a second of it.
    fn bars(&self) -> Vec<(u64, u64)> {
        let step = usize::try_from(self.bar_s()).unwrap_or(1);
        let bar = |rows: &[&crate::record::Second]| {
            (rows[0].t_s * 1_000, rows.iter().map(|row| row.dropped).max().unwrap_or(0))
        };
        self.picture.seconds.chunks(step).map(bar).collect()
    }

    pub(super) fn draw_losses(&self, area: &Area<'_>) -> Drawn {
        let (top, bottom) = (self.losses_top(), self.losses_bottom());
        let bars = self.bars();
        let most = bars.iter().map(|(_, dropped)| *dropped).max().unwrap_or(0);
        let marks = axis::count_marks(most);
        let full = marks.last().copied().unwrap_or(1).max(1);
        let room = u64::from(LOSSES.unsigned_abs()) - 8;
        let y = |count: u64| bottom - i32::try_from(count * room / full).unwrap_or(0);
        for &mark in &marks {
            svg::line(area, (LEFT, y(mark)), (WIDTH - RIGHT, y(mark)), palette::GRID)?;
            svg::write(area, (LEFT - 8, y(mark)), &units::count(mark), palette::MUTED, HPos::Right)?;
        }
        let middle = top.midpoint(bottom);
        svg::write(area, (0, middle), "requests lost", palette::INK, HPos::Left)?;
        let per = if self.bar_s() == 1 { "per second".to_owned() } else { "per second (peak)".to_owned() };
        svg::write(area, (0, middle + ROW - 4), &per, palette::INK, HPos::Left)?;
        for (t_ms, dropped) in bars.into_iter().filter(|(_, dropped)| *dropped > 0) {
            let (left, right) = (self.x(t_ms), self.x(t_ms + self.bar_s() * 1_000));
            // One lost request is seen beside a thousand.
            let bar = Bar { left, right: (right - 1).max(left + 1), top: y(dropped).min(bottom - 2), bottom };
            bar.draw(area, palette::LOST, Fill::Solid, None)?;
        }
        svg::line(area, (LEFT, bottom), (WIDTH - RIGHT, bottom), palette::MUTED)?;
        let sum: u64 = self.picture.seconds.iter().map(|row| row.dropped).sum();
        let color = if sum > 0 { palette::LOST } else { palette::MUTED };
        svg::write(area, (WIDTH, middle), &format!("{} lost", units::count(sum)), color, HPos::Right)
    }

    /// A pointer and a line for each action; its text where it does not run into the one before.
    pub(super) fn draw_actions(&self, area: &Area<'_>) -> Drawn {
        if self.actions.is_empty() {
            return Ok(());
        }
        let top = self.phases_top() + ROW;
        svg::write(area, (LEFT - 8, top + ROW / 2), "timeline", palette::MUTED, HPos::Right)?;
        let mut free = LEFT;
        for action in &self.actions {
            let x = self.x(action.t_ms);
            svg::line(area, (x, top + ROW - 4), (x, self.losses_bottom()), palette::INK)?;
            svg::pointer(area, (x, top + ROW - 4), palette::INK)?;
            let text = svg::clip(action.text, 200);
            let is_free = x + 8 >= free && x + 8 + svg::text_width(&text) <= WIDTH;
            if is_free {
                svg::write(area, (x + 8, top + ROW / 2), &text, palette::INK, HPos::Left)?;
                free = x + 8 + svg::text_width(&text) + 10;
            }
        }
        Ok(())
    }

    /// The picture in words, for those who do not see it.
    pub(super) fn description(&self) -> String {
        let clock = self.clock;
        let (lanes, picture) = (&self.picture.lanes, self.picture);
        let mut text = format!(
            "From {} to {}. {} pods are shown.",
            clock.tell_s(picture.from_ms),
            clock.tell_s(picture.to_ms),
            lanes.len()
        );
        for lane in lanes {
            for stretch in lane.stale() {
                text += &format!(
                    " {} is gone at {}, but the load balancer sends new connections to it until {}.",
                    units::tail_of(&lane.pod.name, 26),
                    clock.tell(stretch.from_ms),
                    clock.tell(stretch.to_ms)
                );
            }
        }
        let most = picture.seconds.iter().max_by_key(|row| (row.dropped, std::cmp::Reverse(row.t_s)));
        text += &match most.filter(|row| row.dropped > 0) {
            Some(row) => {
                format!(
                    " Most requests in a second, {}, are lost at {}.",
                    units::count(row.dropped),
                    clock.tell_s(row.t_s * 1_000)
                )
            }
            None => " No request is lost.".to_owned(),
        };
        text
    }

    /// What the picture leaves out.
    pub(super) fn notes(&self) -> Vec<String> {
        let picture = self.picture;
        let mut notes = Vec::new();
        if !picture.lanes.is_empty() {
            notes.push("Upper bar of a lane: the pod. Lower bar: what the load balancer does with it.".to_owned());
        }
        let measured = self.run.results.measured;
        if (picture.from_ms, picture.to_ms) != (measured.start_ms, measured.end_ms) {
            notes.push(format!(
                "The picture shows {} to {} of {} measured: the time in which something changed.",
                self.clock.tell_s(picture.from_ms),
                self.clock.tell_s(picture.to_ms),
                units::span(measured.end_ms - measured.start_ms)
            ));
        }
        if picture.hidden_count > 0 {
            notes.push(format!(
                "{} of {} pods are shown, those in which something happened first. The {} others are not; {} requests were lost with them.",
                units::count(picture.lanes.len() as u64),
                units::count((picture.lanes.len() + picture.hidden_count) as u64),
                units::count(picture.hidden_count as u64),
                if picture.hidden_lost == 0 { "no".to_owned() } else { units::count(picture.hidden_lost) }
            ));
        }
        if picture.hidden_node_count > 0 {
            notes.push(format!("{} further nodes are not shown.", units::count(picture.hidden_node_count as u64)));
        }
        if self.bar_s() > 1 {
            notes.push(format!("Each bar of lost requests is the worst of its {} seconds.", self.bar_s()));
        }
        if picture.lanes.is_empty() {
            notes.push("No gateway pod was seen in this time.".to_owned());
        }
        notes
    }
}
