//! Figures as people read them.

use crate::record::Results;

/// A count with its thousands apart, as in `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun, as in `1 sync` or `12 syncs`.
pub(crate) fn count_of(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A ratio as a percentage with three digits that count, as in `0.0123%`.
///
/// Nothing but nothing is `0%`, and only the whole is `100%`: one request lost in a million must not be rounded away.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let text = if percent >= 10.0 {
        format!("{percent:.1}")
    } else if percent >= 1.0 {
        format!("{percent:.2}")
    } else if percent >= 0.01 {
        format!("{percent:.3}")
    } else {
        significant(percent, 2)
    };
    let text = trim(&text);
    match text {
        "100" if ratio < 1.0 => ">99.9%".to_owned(),
        text => format!("{text}%"),
    }
}

/// A small number with that many digits that count, without an exponent.
fn significant(number: f64, digits: i32) -> String {
    if number <= 0.0 {
        return "0".to_owned();
    }
    let mut places = digits;
    let mut scaled = number;
    while scaled < 1.0 && places < 12 {
        scaled *= 10.0;
        places += 1;
    }
    format!("{number:.*}", usize::try_from(places - 1).unwrap_or(0))
}

/// A span of microseconds, as in `850µs`, `12.3ms`, `1.50s`.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..9_995 => fixed(micros, 1_000, 2, "ms"),
        9_995..99_950 => fixed(micros, 1_000, 1, "ms"),
        99_950..999_500 => fixed(micros, 1_000, 0, "ms"),
        999_500..9_995_000 => fixed(micros, 1_000_000, 2, "s"),
        9_995_000..60_000_000 => fixed(micros, 1_000_000, 1, "s"),
        _ => span(micros / 1_000),
    }
}

/// `number / unit`, rounded to that many places.
fn fixed(number: u64, unit: u64, places: u32, name: &str) -> String {
    let scale = 10_u64.pow(places);
    let rounded = (number * scale + unit / 2) / unit;
    if places == 0 {
        return format!("{rounded}{name}");
    }
    let width = usize::try_from(places).unwrap_or(0);
    format!("{}.{:0width$}{name}", rounded / scale, rounded % scale)
}

/// A span of milliseconds, as in `350ms`, `4.2s`, `1m 12s`, `2h 05m`.
pub(crate) fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => trim_unit(&fixed(millis, 1_000, 1, "s")),
        60_000..3_600_000 => {
            let seconds = (millis + 500) / 1_000;
            if seconds.is_multiple_of(60) {
                format!("{}m", seconds / 60)
            } else {
                format!("{}m {:02}s", seconds / 60, seconds % 60)
            }
        }
        _ => {
            let minutes = (millis + 30_000) / 60_000;
            if minutes.is_multiple_of(60) {
                format!("{}h", minutes / 60)
            } else {
                format!("{}h {:02}m", minutes / 60, minutes % 60)
            }
        }
    }
}

fn trim_unit(text: &str) -> String {
    text.replace(".0s", "s")
}

/// Times as people read them: from the start of the measured time, as a scenario's `at:` counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The start of the measured time, on the clock of the run.
    pub origin_ms: u64,
}

impl Clock {
    /// The clock of these results.
    pub(crate) fn of(results: &Results) -> Self {
        Self { origin_ms: results.measured.start_ms }
    }

    /// An instant of the run, as in `1:07.5`; before the measured time it is negative.
    pub(crate) fn tell(self, t_ms: u64) -> String {
        self.signed(t_ms, clock)
    }

    /// The same in whole seconds, as in `1:07`.
    pub(crate) fn tell_s(self, t_ms: u64) -> String {
        self.signed(t_ms, |millis| clock_s(millis / 1_000))
    }

    fn signed(self, t_ms: u64, tell: impl Fn(u64) -> String) -> String {
        match t_ms.checked_sub(self.origin_ms) {
            Some(millis) => tell(millis),
            None => format!("−{}", tell(self.origin_ms - t_ms)),
        }
    }
}

/// A span since some origin, as in `1:07.5` or `2:00:07.5`.
pub(crate) fn clock(millis: u64) -> String {
    let tenths = millis / 100;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths / 10 % 60);
    let start = if hours > 0 { format!("{hours}:{minutes:02}") } else { minutes.to_string() };
    format!("{start}:{seconds:02}.{}", tenths % 10)
}

/// An instant in whole seconds, as in `1:07`.
pub(crate) fn clock_s(seconds: u64) -> String {
    let text = clock(seconds * 1_000);
    text[..text.len() - 2].to_owned()
}

/// A figure of an SLO in its unit.
pub(crate) fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => percent(value),
        "us" => micros(whole(value)),
        "ms" => span(whole(value)),
        "per_s" => format!("{}/s", trim(&format!("{value:.1}"))),
        _ => trim(&format!("{value:.3}")).to_owned(),
    }
}

/// A number that is not negative, rounded.
pub(crate) fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just before")]
    let whole = value.round().clamp(0.0, 9e15) as u64;
    whole
}

/// A count as a float, for pictures.
pub(crate) fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a picture has less precision than 53 bits")]
    let float = count as f64;
    float
}

/// Without zeros at the end of its fraction.
fn trim(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Names without their namespace if all share it, as kubectl prints the pods of one namespace.
pub(crate) struct ShortNames {
    common: Option<String>,
}

impl ShortNames {
    /// For these names, each `namespace/name`.
    pub(crate) fn among<'a>(mut names: impl Iterator<Item = &'a str>) -> Self {
        let space_of = |name: &'a str| name.split_once('/').map(|(space, _)| space);
        let first = names.next().and_then(space_of);
        let common = first.filter(|first| names.all(|name| space_of(name) == Some(*first))).map(str::to_owned);
        Self { common }
    }

    /// The short form of a name.
    pub(crate) fn of<'a>(&self, name: &'a str) -> &'a str {
        match name.split_once('/') {
            Some((space, rest)) if self.common.as_deref() == Some(space) => rest,
            _ => name,
        }
    }
}

/// The last `width` characters of a pod's name, from a dash on if there is one: its end tells pods apart.
pub(crate) fn tail_of(name: &str, width: usize) -> &str {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    if name.len() <= width {
        return name;
    }
    let start = (name.len() - width..name.len()).find(|&index| name.is_char_boundary(index)).unwrap_or(0);
    let tail = &name[start..];
    match tail.split_once('-') {
        Some((_, rest)) if !rest.is_empty() => rest,
        _ => tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_loss_is_never_rounded_away() {
        let cases = [0.0, 0.000_000_2, 0.000_123, 0.012_34, 0.5, 0.999_999, 1.0];
        assert_eq!(cases.map(percent), ["0%", "0.00002%", "0.012%", "1.23%", "50%", ">99.9%", "100%"]);
    }

    #[test]
    fn spans_take_the_unit_that_fits() {
        assert_eq!(
            [850, 1_500, 12_340, 250_000, 999_600, 12_340_000].map(micros),
            ["850µs", "1.50ms", "12.3ms", "250ms", "1.00s", "12.3s"]
        );
        assert_eq!(
            [350, 4_200, 5_000, 72_000, 120_000, 7_500_000].map(span),
            ["350ms", "4.2s", "5s", "1m 12s", "2m", "2h 05m"]
        );
        assert_eq!([0, 67_540, 7_207_500].map(clock), ["0:00.0", "1:07.5", "2:00:07.5"]);
    }

    #[test]
    fn names_lose_a_namespace_only_if_all_share_it() {
        assert_eq!(ShortNames::among(["a/x", "a/y"].into_iter()).of("a/x"), "x");
        assert_eq!(ShortNames::among(["a/x", "b/y"].into_iter()).of("a/x"), "a/x");
    }

    #[test]
    fn the_end_of_a_name_tells_pods_apart() {
        assert_eq!(tail_of("istio-system/istio-edge-7f86c9d64-8x4m8", 20), "7f86c9d64-8x4m8");
        assert_eq!(tail_of("a/short", 20), "short");
        assert_eq!(tail_of("averyveryverylongname", 5), "gname");
    }
}
