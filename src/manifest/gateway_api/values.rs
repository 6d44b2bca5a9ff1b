//! Values as the types of the API have them: names, host names, durations. What their patterns forbid is refused in words.
//!
//! Source: gateway-api apis/v1/shared_types.go.

use std::time::Duration;

use http::HeaderName;

use crate::manifest::read::{Field, Fields};

const LABEL_HELP: &str = "write small letters, digits and dashes";

/// The name of an object.
pub(super) fn object_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    refuse_unless(field, (1..=253).contains(&text.len()), "a name has 1 to 253 characters", "write the object's name")?;
    Some(text)
}

/// The name of a namespace.
pub(super) fn namespace<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 63 && is_label(text);
    refuse_unless(field, is_right, &format!("`{text}` is not the name of a namespace"), LABEL_HELP)?;
    Some(text)
}

/// The name of a part of an object: a listener, a rule.
pub(super) fn section_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 253 && is_subdomain(text);
    refuse_unless(field, is_right, &format!("`{text}` is not a name"), "write small letters, digits, dashes and dots")?;
    Some(text)
}

/// An API group; empty for the core.
pub(super) fn group<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 253 && (text.is_empty() || is_subdomain(text));
    refuse_unless(field, is_right, &format!("`{text}` is not an API group"), "write it without a version")?;
    Some(text)
}

/// A kind of objects.
pub(super) fn kind<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let is_right = text.len() <= 63
        && text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && !text.ends_with('-')
        && text.chars().all(inner);
    refuse_unless(field, is_right, &format!("`{text}` is not a kind"), "write one such as Service")?;
    Some(text)
}

/// A host name; its first label may be `*`.
pub(super) fn hostname<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 253 && is_subdomain(text.strip_prefix("*.").unwrap_or(text));
    let help = "write small letters, digits, dashes and dots, without a port; only the first label may be *";
    refuse_unless(field, is_right, &format!("`{text}` is not a host name"), help)?;
    Some(text)
}

/// A host name without a `*`.
pub(super) fn precise_hostname<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 253 && is_subdomain(text);
    let help = "write small letters, digits, dashes and dots, without a port";
    refuse_unless(field, is_right, &format!("`{text}` is not a host name"), help)?;
    Some(text)
}

/// A port.
pub(super) fn port(field: &Field<'_>) -> Option<u16> {
    field.whole(1, 65535)
}

/// The name of a header or of a query parameter, as it is written.
pub(super) fn header_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    let is_right = text.len() <= 256 && !text.is_empty() && text.chars().all(is_token);
    refuse_unless(field, is_right, &format!("`{text}` is not a header name"), "write letters, digits and dashes")?;
    Some(text)
}

/// The name of a header.
pub(super) fn header(field: &Field<'_>) -> Option<HeaderName> {
    HeaderName::try_from(header_name(field)?).ok()
}

/// A text of 1 to `length_max` characters.
pub(super) fn text<'a>(field: &Field<'a>, length_max: usize) -> Option<&'a str> {
    let text = field.text()?;
    let count = text.chars().count();
    refuse_unless(
        field,
        (1..=length_max).contains(&count),
        &format!("it has {count} characters"),
        &format!("write 1 to {length_max}"),
    )?;
    Some(text)
}

/// A span: up to four whole numbers of at most five digits, each with h, m, s or ms. Source: GEP-2257.
pub(super) fn duration(field: &Field<'_>) -> Option<Duration> {
    let text = field.text()?;
    let parsed = parse_duration(text);
    let help = "write whole numbers with h, m, s or ms, such as 1m30s";
    refuse_unless(field, parsed.is_some(), &format!("`{text}` is not a duration here"), help)?;
    parsed
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) || parts == 4 {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, milliseconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += Duration::from_millis(number * milliseconds);
        parts += 1;
    }
    (parts > 0).then_some(total)
}

/// The items under a key, of which there may be so many.
pub(super) fn items<'a>(fields: &Fields<'a>, key: &str, count_max: usize) -> Vec<Field<'a>> {
    let Some(field) = fields.look(key) else { return Vec::new() };
    let items = field.items();
    if items.len() > count_max {
        field.refuse(format!("{} are too many", items.len()), format!("write at most {count_max}"));
    }
    items
}

/// None, and a problem, unless the value is right.
pub(super) fn refuse_unless(field: &Field<'_>, is_right: bool, text: &str, help: &str) -> Option<()> {
    if !is_right {
        field.refuse(text, help);
    }
    is_right.then_some(())
}

/// Refuses items that have a key in common with an earlier one. Keys of items that are wrong in themselves are none.
pub(super) fn refuse_twice<K: PartialEq>(items: &[Field<'_>], keys: &[Option<K>], text: impl Fn(&K) -> String) {
    for (index, (item, key)) in items.iter().zip(keys).enumerate() {
        if let Some(key) = key
            && keys[..index].iter().flatten().any(|known| known == key)
        {
            item.refuse(text(key), "write it once");
        }
    }
}

fn is_label(text: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_strict_subset_of_gos() {
        let millis = |text| parse_duration(text).map(|span| span.as_millis());
        for (text, expected) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("99999h", Some(359_996_400_000)),
            ("", None),
            ("1.5s", None),
            ("10", None),
            ("-1s", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("1us", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_made_of_labels() {
        for (text, is_right) in
            [("a.b-c", true), ("a..b", false), ("-a", false), ("A", false), ("", false), ("1", true)]
        {
            assert_eq!(is_subdomain(text), is_right, "{text}");
        }
    }
}
