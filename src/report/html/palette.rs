//! The colours of drawings, each with its counterpart on a dark page.
//!
//! A drawing is made in the colours of the light page, so that it is whole on its own. On a dark page a style rule per
//! colour replaces them: the drawing itself is the same bytes.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// Colours by what they mean.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
pub(super) const MUTED: RGBColor = RGBColor(0x52, 0x60, 0x6d);
pub(super) const GRID: RGBColor = RGBColor(0xd5, 0xdb, 0xe1);
pub(super) const BAND: RGBColor = RGBColor(0xf2, 0xf4, 0xf7);
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(super) const READY: RGBColor = RGBColor(0x2a, 0x67, 0xa8);
pub(super) const WAITING: RGBColor = RGBColor(0x6b, 0x7d, 0x90);
pub(super) const DRAINING: RGBColor = RGBColor(0xb3, 0x5c, 0x12);
pub(super) const UNWELL: RGBColor = RGBColor(0x7a, 0x4f, 0xb5);
pub(super) const SENDING: RGBColor = RGBColor(0x2f, 0x7d, 0x4f);
pub(super) const LOST: RGBColor = RGBColor(0xc0, 0x26, 0x26);

/// Each colour as it is on a light and on a dark page.
const PAIRS: [(RGBColor, RGBColor); 11] = [
    (INK, RGBColor(0xe6, 0xea, 0xee)),
    (MUTED, RGBColor(0xa9, 0xb4, 0xbf)),
    (GRID, RGBColor(0x36, 0x40, 0x4b)),
    (BAND, RGBColor(0x1b, 0x23, 0x2c)),
    (PAPER, RGBColor(0x11, 0x17, 0x1e)),
    (READY, RGBColor(0x6c, 0xab, 0xe8)),
    (WAITING, RGBColor(0x93, 0xa5, 0xb8)),
    (DRAINING, RGBColor(0xf0, 0x9a, 0x50)),
    (UNWELL, RGBColor(0xb4, 0x97, 0xee)),
    (SENDING, RGBColor(0x67, 0xc0, 0x8b)),
    (LOST, RGBColor(0xff, 0x70, 0x68)),
];

/// The style rules that bring drawings onto a dark page.
pub(super) fn dark_rules() -> String {
    let mut rules = String::new();
    for (light, dark) in PAIRS {
        let (light, dark) = (hex(light), hex(dark));
        write!(rules, "svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
            .expect("writing to memory succeeds");
    }
    rules
}

/// As the SVG backend writes it.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast of two colours as WCAG 2.1 defines it, 1 to 21.
    fn contrast(one: RGBColor, other: RGBColor) -> f64 {
        let luminance = |RGBColor(red, green, blue): RGBColor| {
            let part = |byte: u8| {
                let part = f64::from(byte) / 255.0;
                if part <= 0.039_28 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue)
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn text_and_bars_stand_out_on_both_pages() {
        let paper = PAIRS.iter().find(|(light, _)| *light == PAPER).unwrap();
        for (light, dark) in PAIRS.iter().filter(|(light, _)| ![GRID, BAND, PAPER].contains(light)) {
            let least = if [INK, MUTED, LOST].contains(light) { 4.5 } else { 3.0 };
            assert!(contrast(*light, paper.0) >= least, "{} on light", hex(*light));
            assert!(contrast(*dark, paper.1) >= least, "{} on dark", hex(*dark));
        }
    }

    #[test]
    fn every_colour_has_one_counterpart() {
        let mut lights: Vec<_> = PAIRS.iter().map(|(light, _)| hex(*light)).collect();
        lights.sort();
        lights.dedup();
        assert_eq!(lights.len(), PAIRS.len());
    }
}
