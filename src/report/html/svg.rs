//! A drawing within the page: made by plotters in memory, told to screen readers by a title and a description.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{EmptyElement, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, RGBColor, TextStyle};

/// Where is drawn; coordinates are pixels.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Whether drawing went well; it does, in memory.
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Height of text, in pixels.
pub(super) const TEXT: i32 = 11;
/// Width of a letter, in tenths of a pixel; a little more than most fonts need.
const LETTER_TENTHS: i32 = 61;
/// What the backend divides sizes by, to come from the height of a line to that of letters.
const LINE_PER_LETTER: f64 = 1.24;

/// What a drawing is, in words.
#[derive(Debug)]
pub(super) struct Caption<'a> {
    /// Its name on the page, unique.
    pub id: &'a str,
    pub title: &'a str,
    pub description: &'a str,
}

/// A drawing of that size, as an element of the page.
pub(super) fn draw(
    caption: &Caption<'_>,
    (width, height): (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        paint(&area).and_then(|()| area.present()).expect("drawing to memory succeeds");
    }
    let body = text.split_once(">\n").map_or("", |(_, body)| body);
    // The page sets the font, and full opacity is the default: both would only make the file larger.
    let body = body.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
    let Caption { id, title, description } = caption;
    format!(
        "<svg id=\"{id}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
         <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n{body}",
        escape(title),
        escape(description)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How a bar is filled, so that states differ without colour, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fill {
    Solid,
    /// An outline.
    Hollow,
    /// The lower half.
    Half,
    /// A line in the middle.
    Thin,
    /// A zigzag on a pale ground.
    Zigzag,
    /// A zigzag cut out of a solid bar.
    Cut,
}

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
}

impl Bar {
    /// Draws it; a label stands in it if it has the room.
    pub(super) fn draw(self, area: &Area<'_>, color: RGBColor, fill: Fill, label: Option<&str>) -> Drawn {
        let corners = [(self.left, self.top), (self.right, self.bottom)];
        let label = label.filter(|label| {
            !matches!(fill, Fill::Half | Fill::Thin)
                && self.bottom - self.top >= TEXT
                && text_width(label) + 8 <= self.right - self.left
        });
        let free_left = self.left + label.map_or(0, |label| text_width(label) + 8);
        match fill {
            Fill::Solid => area.draw(&Rectangle::new(corners, color.filled()))?,
            Fill::Hollow => area.draw(&Rectangle::new(corners, color))?,
            Fill::Half => {
                area.draw(&Rectangle::new(corners, color.mix(0.25).filled()))?;
                let middle = self.top.midpoint(self.bottom);
                area.draw(&Rectangle::new([(self.left, middle), corners[1]], color.filled()))?;
            }
            Fill::Thin => {
                let middle = self.top.midpoint(self.bottom);
                area.draw(&Rectangle::new([(self.left, middle - 1), (self.right, middle + 2)], color.filled()))?;
            }
            Fill::Zigzag => {
                area.draw(&Rectangle::new(corners, color.mix(0.25).filled()))?;
                self.zigzag(area, free_left, color)?;
            }
            Fill::Cut => {
                area.draw(&Rectangle::new(corners, color.filled()))?;
                self.zigzag(area, free_left, super::palette::PAPER)?;
            }
        }
        let Some(label) = label else { return Ok(()) };
        let on = match fill {
            Fill::Solid | Fill::Cut => super::palette::PAPER,
            _ => super::palette::INK,
        };
        write(area, (self.left + 4, self.top.midpoint(self.bottom)), label, on, HPos::Left)
    }

    fn zigzag(self, area: &Area<'_>, from: i32, color: RGBColor) -> Drawn {
        let step = 4;
        let points: Vec<_> = (from..=self.right)
            .step_by(4)
            .enumerate()
            .map(|(index, x)| (x, if index.is_multiple_of(2) { self.bottom - 1 } else { self.top + 1 }))
            .collect();
        if self.right - from < 3 * step { Ok(()) } else { area.draw(&PathElement::new(points, color)) }
    }
}

/// A straight line.
pub(super) fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Drawn {
    area.draw(&PathElement::new(vec![from, to], color))
}

/// A triangle that points down to `tip`.
pub(super) fn pointer(area: &Area<'_>, (x, y): (i32, i32), color: RGBColor) -> Drawn {
    area.draw(&Polygon::new(vec![(x - 4, y - 7), (x + 4, y - 7), (x, y)], color.filled()))
}

/// Text whose middle is at the height of `at`.
pub(super) fn write(area: &Area<'_>, at: (i32, i32), text: &str, color: RGBColor, anchor: HPos) -> Drawn {
    area.draw(&(EmptyElement::at(at) + Text::new(text.to_owned(), (0, 0), style(color, anchor))))
}

/// The style of all text.
pub(super) fn style(color: RGBColor, anchor: HPos) -> TextStyle<'static> {
    let size = f64::from(TEXT) * LINE_PER_LETTER;
    TextStyle {
        color: color.to_backend_color(),
        pos: Pos::new(anchor, VPos::Center),
        ..TextStyle::from(("sans-serif", size))
    }
}

/// About the width of a text, in pixels.
pub(super) fn text_width(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / LETTER_TENTHS).saturating_mul(LETTER_TENTHS) / 10
}

/// At most `width` pixels of a text, with an ellipsis if some had to go.
pub(super) fn clip(text: &str, width: i32) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let letters = usize::try_from((width * 10 / LETTER_TENTHS - 1).max(0)).unwrap_or(0);
    text.chars().take(letters).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_drawing_is_escaped_everywhere() {
        let caption = Caption { id: "x", title: "<script>&", description: "</desc><b>" };
        let text =
            draw(&caption, (10, 10), |area| write(area, (0, 0), "<script>", super::super::palette::INK, HPos::Left));
        assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        assert!(text.contains("<title id=\"x-title\">&lt;script&gt;&amp;</title>"), "{text}");
    }

    #[test]
    fn long_names_end_in_an_ellipsis() {
        assert_eq!(clip("short", 100), "short");
        let clipped = clip("a-rather-long-name-of-a-phase", 60);
        assert!(clipped.ends_with('…') && text_width(&clipped) <= 60, "{clipped}");
    }
}
