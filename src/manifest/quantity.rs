//! Durations, sizes, rates, shares and Kubernetes quantities, as people write them. A unit is never guessed.
//!
//! Sources: Go `time.ParseDuration`; Kubernetes apimachinery/pkg/api/resource (suffixes; CPU rounds up to thousandths).

use std::time::Duration;

/// What is wrong with a text, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub text: String,
    /// What to write instead.
    pub help: String,
}

fn wrong<T>(text: String, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { text, help: help.into() })
}

/// Whether YAML 1.1 takes a bare word for a boolean.
#[must_use]
pub fn is_bool_word(text: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_usual_case = text.chars().all(|letter| letter.is_ascii_lowercase())
        || text.chars().all(|letter| letter.is_ascii_uppercase())
        || text.chars().skip(1).all(|letter| letter.is_ascii_lowercase());
    is_usual_case && words.contains(&text.to_ascii_lowercase().as_str())
}

/// A whole number.
///
/// # Errors
///
/// If it is none.
pub fn integer(text: &str) -> Result<i64, Wrong> {
    let parsed = text.parse();
    parsed.or_else(|_| wrong(format!("`{text}` is not a whole number"), "write a number without a unit or a fraction"))
}

/// A number.
///
/// # Errors
///
/// If it is none.
pub fn float(text: &str) -> Result<f64, Wrong> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => wrong(format!("`{text}` is not a number"), "write a number such as 1.5"),
    }
}

/// Nanoseconds per unit. The order matters: `ms` before `m`.
const DURATION_UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as Go writes it: `5s`, `1m30s`, `1.5ms`. A bare 0 needs no unit.
///
/// # Errors
///
/// If it is none, has no unit, or is longer than a virtual run can be (about 292 years).
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.parse::<f64>().is_ok_and(|number| number >= 0.0) {
        return wrong(format!("`{text}` has no unit"), format!("try `{trimmed}s`"));
    }
    let not_one = || Wrong {
        text: format!("`{text}` is not a duration"),
        help: "write a number with ns, us, ms, s, m or h, such as 30s or 1m30s".to_owned(),
    };
    if trimmed.is_empty() {
        return Err(not_one());
    }
    let (mut rest, mut nanos) = (trimmed, 0_u128);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(not_one)?;
        let (number, unit_and_rest) = rest.split_at(digits);
        let known = DURATION_UNITS.iter().find(|(unit, _)| {
            unit_and_rest
                .strip_prefix(unit)
                .is_some_and(|after| !after.starts_with(|letter: char| letter.is_alphabetic()))
        });
        let (unit, scale) = known.ok_or_else(not_one)?;
        nanos = nanos.saturating_add(scaled(number, *scale).ok_or_else(not_one)?);
        rest = &unit_and_rest[unit.len()..];
    }
    match u64::try_from(nanos) {
        Ok(nanos) if nanos <= i64::MAX.unsigned_abs() => Ok(Duration::from_nanos(nanos)),
        _ => wrong(format!("`{text}` is too long"), "write at most 292 years"),
    }
}

/// A decimal number times a scale, rounded up, in exact arithmetic.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 || whole.len() > 18 {
        return None;
    }
    // Only digits: a sign inside a number is none.
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = digits(whole)?.checked_mul(parts)?.checked_add(digits(fraction)?)?;
    Some(value.checked_mul(scale)?.div_ceil(parts))
}

const SIZE_UNITS: [(&str, u128); 11] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
    ("bytes", 1),
];

/// A size: `2KiB`, `10MB`, `512B`. A bare 0 needs no unit.
///
/// # Errors
///
/// If it is none or has no unit.
pub fn bytes(text: &str) -> Result<u64, Wrong> {
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(0);
    }
    if trimmed.parse::<f64>().is_ok_and(|number| number >= 0.0) {
        return wrong(format!("`{text}` has no unit"), format!("try `{trimmed}B`, `{trimmed}MiB` or `{trimmed}GiB`"));
    }
    let found = SIZE_UNITS.iter().find_map(|(unit, scale)| scaled(trimmed.strip_suffix(unit)?.trim_end(), *scale));
    match found.map(u64::try_from) {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(_)) => wrong(format!("`{text}` is too large"), "write at most 16 million TiB"),
        None => Err(hint(
            trimmed,
            "a size",
            "a number with B, KiB, MiB, GiB, kB, MB or GB, such as 512MiB",
            |letter, has_i| match (letter.to_ascii_lowercase(), has_i) {
                ('b', _) => Some("B".to_owned()),
                ('k', false) => Some("kB".to_owned()),
                (letter @ ('k' | 'm' | 'g' | 't'), true) => Some(format!("{}iB", letter.to_ascii_uppercase())),
                (letter @ ('m' | 'g' | 't'), false) => Some(format!("{}B", letter.to_ascii_uppercase())),
                _ => None,
            },
        )),
    }
}

/// What is wrong with a number that has a unit, or should have: with what to write where that can be guessed. `unit` names the unit that begins with a letter,
/// in powers of 1024 if it is written with an `i`.
fn hint(text: &str, what: &str, usual: &str, unit: impl Fn(char, bool) -> Option<String>) -> Wrong {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, written) = text.split_at(end);
    let written = written.trim();
    let told = |help: String| Wrong { text: format!("`{text}` is not {what}"), help };
    if let Some(positive) =
        text.strip_prefix('-').filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    {
        return told(format!("it is negative: write `{positive}`, or another that is not below 0"));
    }
    if number.matches('.').count() > 1 || number.ends_with('.') && !written.is_empty() {
        return told(format!("`{number}` is no number: write {usual}"));
    }
    let power = written
        .strip_prefix(['e', 'E'])
        .filter(|rest| rest.starts_with(|it: char| it.is_ascii_digit() || "+-".contains(it)));
    if power.is_some() {
        return told(format!("an exponent and a unit do not go together: write {usual}"));
    }
    let first = written.chars().next();
    let has_i = written.chars().nth(1).is_some_and(|letter| letter.eq_ignore_ascii_case(&'i'));
    match first.filter(|_| !number.is_empty()).and_then(|letter| unit(letter, has_i)) {
        Some(unit) => told(format!("try `{number}{unit}`, or write {usual}")),
        None => told(format!("write {usual}")),
    }
}

/// A Kubernetes quantity in thousandths, rounded up: `200m` is 200, `2` is 2000, `4G` is 4·10¹². What is larger than an `i64` holds counts as its largest value.
///
/// # Errors
///
/// If it is none, or negative.
pub fn kubernetes_millis(text: &str) -> Result<u64, Wrong> {
    Ok(capped(quantity(text)?))
}

/// The same in whole units: `500m` is 1, `4G` is 4·10⁹, `8E` is an `i64`'s largest value.
///
/// # Errors
///
/// If it is none, or negative.
pub fn kubernetes_units(text: &str) -> Result<u64, Wrong> {
    Ok(capped(quantity(text)?.div_ceil(1_000)))
}

fn capped(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

/// A quantity in thousandths.
fn quantity(text: &str) -> Result<u128, Wrong> {
    let units: [(&str, u128); 15] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("m", 0),
        ("u", 0),
        ("n", 0),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
    ];
    let value = match units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *unit, *scale))) {
        Some((number, "m", _)) => scaled(number, 1),
        Some((number, "u", _)) => scaled(number, 1).map(|micros| micros.div_ceil(1_000)),
        Some((number, "n", _)) => scaled(number, 1).map(|nanos| nanos.div_ceil(1_000_000)),
        Some((number, _, scale)) => scaled(number, scale * 1_000),
        None => exponent(text).or_else(|| scaled(text, 1_000)),
    };
    match value {
        Some(millis) => Ok(millis),
        None => Err(hint(text, "a quantity", "a number such as 2, 200m, 512Mi or 5Gi", |letter, has_i| {
            match (letter, has_i) {
                // `m` is a thousandth, which is what `mm` is nearest to; `mb` and `mib` are sizes.
                ('m', false) if !text.ends_with(['b', 'B']) => Some("m".to_owned()),
                ('c' | 'C', _) => Some(String::new()),
                (letter, _) if "kmgtp".contains(letter.to_ascii_lowercase()) => {
                    Some(format!("{}i", letter.to_ascii_uppercase()))
                }
                _ => None,
            }
        })),
    }
}

/// `1e3` or `5e-1` in thousandths.
fn exponent(text: &str) -> Option<u128> {
    const FINE: u128 = 1_000_000_000;
    let (number, power) = text.split_once(['e', 'E'])?;
    if let Some(power) = power.strip_prefix('-') {
        let power: u32 = power.bytes().all(|byte| byte.is_ascii_digit()).then(|| power.parse().ok())??;
        return Some(scaled(number, FINE * 1_000)?.div_ceil(FINE.checked_mul(10_u128.checked_pow(power)?)?));
    }
    let power = power.strip_prefix('+').unwrap_or(power);
    let power: u32 = power.bytes().all(|byte| byte.is_ascii_digit()).then(|| power.parse().ok())??;
    scaled(number, 10_u128.checked_pow(power)?.checked_mul(1_000)?)
}

/// Requests per second: `600/s`, `90/m`, `0.5/s`.
///
/// # Errors
///
/// If it is none or has no unit.
pub fn rate(text: &str) -> Result<f64, Wrong> {
    let per = [("/s", 1.0), ("/m", 60.0), ("/h", 3600.0)];
    let trimmed = text.trim();
    for (unit, seconds) in per {
        if let Some(number) = trimmed.strip_suffix(unit) {
            match number.trim_end().parse::<f64>() {
                Ok(count) if count.is_finite() && count >= 0.0 => return Ok(count / seconds),
                _ => break,
            }
        }
    }
    if trimmed.parse::<f64>().is_ok() {
        return wrong(format!("`{text}` has no unit"), format!("try `{trimmed}/s`"));
    }
    wrong(format!("`{text}` is not a rate"), "write a number per second, minute or hour, such as 600/s")
}

/// A share of one: `0.25` or `25%`.
///
/// # Errors
///
/// If it is none, or outside 0 to 1.
pub fn ratio(text: &str) -> Result<f64, Wrong> {
    let value = match text.trim().strip_suffix('%') {
        Some(number) => number.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    match value {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        Ok(_) => wrong(format!("`{text}` is out of range"), "write a share from 0 to 1, or from 0% to 100%"),
        Err(_) => {
            wrong(format!("`{text}` is not a share"), "write a share from 0 to 1, such as 0.25, or from 0% to 100%")
        }
    }
}

/// A duration in the shortest of our own spellings that is exact.
#[must_use]
pub fn duration_text(span: Duration) -> String {
    let nanos = span.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos.is_multiple_of(1_000_000_000) {
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let part = |value: u128, unit: &str| if value > 0 { format!("{value}{unit}") } else { String::new() };
        return part(hours, "h") + &part(minutes, "m") + &part(rest, "s");
    }
    let units = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let (unit, scale) = units.into_iter().find(|(_, scale)| nanos.is_multiple_of(*scale)).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("5s", ms(5000)),
            ("1m30s", ms(90_000)),
            ("1.5ms", Duration::from_micros(1500)),
            ("0", ms(0)),
            ("2h", ms(7_200_000)),
            ("150us", Duration::from_micros(150)),
            (".5s", ms(500)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
            assert_eq!(duration(&duration_text(expected)), Ok(expected));
        }
        for text in ["10", "5 sec", "s", "-5s", "5sm", "1d", "", "300000000000s", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("10").unwrap_err().help, "try `10s`");
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, millis) in [
            ("2", 2000),
            ("200m", 200),
            ("0.5", 500),
            ("4G", 4_000_000_000_000),
            ("256Mi", 268_435_456_000),
            ("1e3", 1_000_000),
            ("1.5Ki", 1_536_000),
            ("100u", 1),
            ("0", 0),
            ("5e-1", 500),
            ("1E-3", 1),
            ("1.5e-4", 1),
            ("9P", 9_000_000_000_000_000_000),
            ("10P", i64::MAX.unsigned_abs()),
            ("8Ei", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(kubernetes_millis(text), Ok(millis), "{text}");
        }
        for text in ["2 cores", "-1", "4GB", "", "m", "1i", "1.+5", "+", "1e", "1e-3e", "1e-", "1e--3", "1e++3"] {
            assert!(kubernetes_millis(text).is_err(), "{text}");
            assert!(kubernetes_units(text).is_err(), "{text}");
        }
        for (text, units) in [
            ("500m", 1),
            ("1001m", 2),
            ("4G", 4_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ei", 1 << 60),
            ("7Ei", 7 << 60),
            ("9.2E", 9_200_000_000_000_000_000),
            ("8Ei", i64::MAX.unsigned_abs()),
            ("10E", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(kubernetes_units(text), Ok(units), "{text}");
        }
    }

    #[test]
    fn rates_sizes_and_shares() {
        assert_eq!(rate("600/s"), Ok(600.0));
        assert_eq!(rate("90/m"), Ok(1.5));
        assert_eq!(rate("5").unwrap_err().help, "try `5/s`");
        assert!(rate("-1/s").is_err() && rate("fast").is_err());
        assert_eq!(bytes("2KiB"), Ok(2048));
        assert_eq!(bytes("1.5MB"), Ok(1_500_000));
        assert!(bytes("12").is_err() && bytes("2Ki").is_err());
        assert_eq!(ratio("25%"), Ok(0.25));
        assert_eq!(ratio("1"), Ok(1.0));
        assert!(ratio("1.01").is_err() && ratio("-0.1").is_err() && ratio("x").is_err());
    }

    #[test]
    fn what_is_no_size_is_told_with_what_may_be_meant() {
        for (text, told, help) in [
            ("5Gx", "`5Gx` is not a quantity", "try `5Gi`"),
            ("500mm", "`500mm` is not a quantity", "try `500m`"),
            ("512mib", "`512mib` is not a quantity", "try `512Mi`"),
            ("4GB", "`4GB` is not a quantity", "try `4Gi`"),
            ("512 Mi", "`512 Mi` is not a quantity", "try `512Mi`"),
            ("64M i", "`64M i` is not a quantity", "try `64Mi`"),
            ("2 cores", "`2 cores` is not a quantity", "try `2`"),
            ("12 %", "`12 %` is not a quantity", "write a number such as 2, 200m, 512Mi or 5Gi"),
            ("1.5.Gi", "`1.5.Gi` is not a quantity", "`1.5.` is no number"),
            ("-3", "`-3` is not a quantity", "it is negative: write `3`"),
            ("1e3Gi", "`1e3Gi` is not a quantity", "an exponent and a unit do not go together"),
            ("much", "`much` is not a quantity", "write a number such as 2, 200m, 512Mi or 5Gi"),
            ("", "`` is not a quantity", "5Gi"),
        ] {
            let wrong = kubernetes_units(text).unwrap_err();
            assert_eq!(wrong.text, told);
            assert!(wrong.help.contains(help), "{text}: {}", wrong.help);
        }
        for (text, told, help) in [
            ("5Gi", "`5Gi` is not a size", "try `5GiB`"),
            ("5G", "`5G` is not a size", "try `5GB`"),
            ("5Gx", "`5Gx` is not a size", "try `5GB`"),
            ("2k", "`2k` is not a size", "try `2kB`"),
            ("64mib", "`64mib` is not a size", "try `64MiB`"),
            ("1.5.GiB", "`1.5.GiB` is not a size", "GiB"),
            ("-3MiB", "`-3MiB` is not a size", "it is negative: write `3MiB`"),
            ("1e3GiB", "`1e3GiB` is not a size", "an exponent and a unit do not go together"),
            ("12 %", "`12 %` is not a size", "GiB"),
            ("99999999999TiB", "`99999999999TiB` is too large", "TiB"),
        ] {
            let wrong = bytes(text).unwrap_err();
            assert_eq!(wrong.text, told);
            assert!(wrong.help.contains(help), "{text}: {}", wrong.help);
        }
        assert_eq!((bytes("2TiB"), bytes("1TB")), (Ok(2 << 40), Ok(1_000_000_000_000)));
        assert_eq!(bytes("5").unwrap_err().help, "try `5B`, `5MiB` or `5GiB`");
        assert!(bytes("-3").unwrap_err().help.starts_with("it is negative"));
    }

    #[test]
    fn words_that_yaml_takes_for_booleans() {
        for text in ["on", "Off", "YES", "n", "true"] {
            assert!(is_bool_word(text), "{text}");
        }
        for text in ["oN", "yep", "", "none"] {
            assert!(!is_bool_word(text), "{text}");
        }
    }
}
