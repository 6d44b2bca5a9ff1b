//! Values that several objects share, and what Istio's webhook asks of them.
//!
//! Source: istio pkg/config/validation/agent/validation.go, pkg/config/labels/instance.go.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// Something that Istio accepts with a warning; it is simulated as Istio does it.
pub(super) fn warn(field: &Field<'_>, text: &str) {
    field.note(FidelityStatus::Modelled, Some(text));
}

/// A duration in whole milliseconds, at least one.
pub(super) fn span(field: &Field<'_>) -> Option<Duration> {
    let span = span_or_zero(field)?;
    if span.is_zero() {
        field.refuse("it must be at least 1ms", "write a duration such as 10s");
        return None;
    }
    Some(span)
}

/// A duration in whole milliseconds; zero turns off what it limits.
pub(super) fn span_or_zero(field: &Field<'_>) -> Option<Duration> {
    let span = field.duration()?;
    if span.subsec_nanos() % 1_000_000 != 0 {
        field.refuse("only whole milliseconds count here", "write a duration such as 250ms");
        return None;
    }
    Some(span)
}

/// A port.
pub(super) fn port(field: &Field<'_>) -> Option<u16> {
    let number = field.integer(i64::MIN, i64::MAX)?;
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            field.refuse(format!("{number} is no port number"), "write 1 to 65535");
            None
        }
    }
}

/// A port, where 0 stands for none.
pub(super) fn optional_port(field: &Field<'_>) -> Option<u16> {
    if field.node().text() == Some("0") { None } else { port(field) }
}

/// An HTTP status that a gateway may answer with.
pub(super) fn status(field: &Field<'_>) -> Option<u16> {
    let number = field.integer(i64::MIN, i64::MAX)?;
    if !(200..=600).contains(&number) {
        field.refuse(format!("HTTP status {number} is out of range"), "write 200 to 599");
        return None;
    }
    u16::try_from(number).ok()
}

/// `value` of a percentage, in millionths of the whole. Envoy counts no finer.
/// Source: istio pilot/pkg/networking/core/route/route.go `translatePercentToFractionalPercent`.
pub(super) fn millionths(field: &Field<'_>) -> Option<u32> {
    let fields = field.fields()?;
    let value = fields.get("value");
    fields.finish();
    let Some(value) = value else { return Some(0) };
    let percent = value.float()?;
    if !(0.0..=100.0).contains(&percent) {
        value.refuse(format!("{percent} is no percentage"), "write 0 to 100");
        return None;
    }
    format!("{:.0}", (percent * 10_000.0).floor()).parse().ok()
}

/// The same; the webhook also refuses shares too small to be counted.
pub(super) fn fault_millionths(field: &Field<'_>) -> Option<u32> {
    let share = millionths(field)?;
    let value = field.node().find(&["value"]).and_then(|node| node.text()).and_then(|text| text.parse::<f64>().ok());
    if share == 0 && value.is_some_and(|value| value > 0.0) {
        field.refuse("this percentage is too small to be counted", "write 0, or 0.0001 to 100");
        return None;
    }
    Some(share)
}

/// A text; an empty one counts as none.
pub(super) fn text<'a>(fields: &Fields<'a>, key: &str) -> Option<&'a str> {
    fields.get(key)?.text().filter(|text| !text.is_empty())
}

/// A text that is read and not noted; an empty one counts as none.
pub(super) fn quiet_text<'a>(fields: &Fields<'a>, key: &str) -> Option<&'a str> {
    fields.look(key)?.text().filter(|text| !text.is_empty())
}

/// A flag; absent is false.
pub(super) fn flag(fields: &Fields<'_>, key: &str) -> bool {
    fields.get(key).and_then(|field| field.boolean()).unwrap_or(false)
}

/// A regular expression as Istio accepts it: not empty, at most 1,024 characters.
pub(super) fn expression(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.is_empty() {
        field.refuse("an empty regular expression", "write one, such as .*");
        return None;
    }
    if text.len() > 1_024 {
        field.refuse("a regular expression has at most 1024 characters here", "make it shorter");
        return None;
    }
    if let Err(error) = crate::gateway::routes::anchored(text) {
        let why = error.to_string();
        field.refuse("this is no regular expression", why.lines().last().unwrap_or_default().to_owned());
        return None;
    }
    Some(text.to_owned())
}

/// A label of a DNS name.
pub(super) fn is_label(text: &str) -> bool {
    let is_edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
        && is_edge(text.chars().next())
        && is_edge(text.chars().last())
}

/// Which names a field takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcard {
    /// Full names only.
    No,
    /// Also `*`, `*.foo.com`, `*foo.com`.
    Yes,
    /// The same, and names of clusters as SNI: their labels may have underscores.
    YesAndSni,
}

/// What is wrong with a host's name, if anything.
pub(super) fn wrong_domain(name: &str, wildcard: Wildcard) -> Option<String> {
    if name.is_empty() || name.len() > 255 {
        return Some("a domain name has 1 to 255 characters".to_owned());
    }
    let is_sni = wildcard == Wildcard::YesAndSni && name.starts_with("outbound_");
    let is_right = |label: &str| {
        is_label(label) || is_sni && label.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
    };
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let first_is_right = match first.strip_prefix('*').filter(|_| wildcard != Wildcard::No) {
        Some(inner) => inner.is_empty() || is_label(inner.strip_prefix('-').unwrap_or(inner)),
        None => is_right(first),
    };
    let rest = rest.map(|rest| rest.strip_suffix('.').unwrap_or(rest));
    let wrong = match rest {
        _ if !first_is_right => first,
        Some(rest) => rest.split('.').find(|label| !is_right(label)).unwrap_or_default(),
        None => "",
    };
    let last = rest.and_then(|rest| rest.rsplit('.').next()).unwrap_or_default();
    if !first_is_right || !wrong.is_empty() || rest.is_some_and(|rest| rest.split('.').any(str::is_empty)) {
        return Some(format!("`{name}` is no domain name: `{wrong}` is no label of one"));
    }
    (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| format!("`{name}` is no domain name: it ends in a number"))
}

/// Refuses a host's name if something is wrong with it.
pub(super) fn check_domain(field: &Field<'_>, name: &str, wildcard: Wildcard) -> bool {
    let wrong = wrong_domain(name, wildcard);
    if let Some(text) = &wrong {
        let help = match wildcard {
            Wildcard::No => "write labels of letters, digits and dashes, joined by dots",
            _ => "write labels of letters, digits and dashes, joined by dots; only the first may begin with *",
        };
        field.refuse(text.clone(), help);
    }
    wrong.is_none()
}

/// Whether a text is a token, as header names are. Source: RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter))
}

/// Labels; keys and values are checked.
pub(super) fn labels(field: &Field<'_>) -> BTreeMap<String, String> {
    let is_value = |text: &str| {
        let is_edge = |letter: Option<char>| letter.is_none_or(|letter| letter.is_ascii_alphanumeric());
        text.len() <= 63
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
            && is_edge(text.chars().next())
            && is_edge(text.chars().last())
    };
    for (key, value) in field.map() {
        let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let is_key = !name.is_empty()
            && is_value(name)
            && prefix.is_none_or(|prefix| wrong_domain(prefix, Wildcard::No).is_none());
        if !is_key || value.node().text().is_some_and(|text| !is_value(text)) {
            value.refuse(
                format!("`{key}` is no label, or its value is none"),
                "write letters, digits, `-`, `_` and `.`",
            );
        }
    }
    field.text_map()
}

/// The namespaces of `exportTo`, with `.` replaced by the object's own.
pub(super) fn export_to(fields: &Fields<'_>, namespace: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for item in fields.get("exportTo").map(|field| field.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let name = if text == "." { namespace } else { text };
        if name != "*" && !is_label(name) {
            item.refuse(format!("`{text}` is no namespace"), "write `*`, `.` or a namespace");
            continue;
        }
        if found.iter().any(|known| known == name) {
            item.refuse(format!("`{text}` stands here twice"), "write each namespace once");
            continue;
        }
        item.note(FidelityStatus::Modelled, None);
        found.push(name.to_owned());
    }
    if found.len() > 1 && found.iter().any(|name| name == "*") {
        let field = fields.look("exportTo");
        if let Some(field) = field {
            field.refuse("`*` is all namespaces, and others stand beside it", "write `*` alone, or the others");
        }
    }
    found
}

/// Whether an object with these `exportTo` is seen from a namespace. Without any it is seen from all.
pub(super) fn is_visible(export_to: &[String], from: &str) -> bool {
    export_to.is_empty() || export_to.iter().any(|name| name == "*" || name == from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_told_from_what_looks_like_one() {
        for (name, wildcard, is_right) in [
            ("foo.bar", Wildcard::No, true),
            ("foo", Wildcard::No, true),
            ("foo.bar.", Wildcard::No, true),
            ("*.bar", Wildcard::No, false),
            ("*.bar", Wildcard::Yes, true),
            ("*foo.bar", Wildcard::Yes, true),
            ("*", Wildcard::Yes, true),
            ("foo.*", Wildcard::Yes, false),
            ("foo..bar", Wildcard::Yes, false),
            ("default/baz", Wildcard::Yes, false),
            ("1.1.1.1", Wildcard::Yes, false),
            ("outbound_.80_._.web.shop", Wildcard::Yes, false),
            ("outbound_.80_._.web.shop", Wildcard::YesAndSni, true),
        ] {
            assert_eq!(wrong_domain(name, wildcard).is_none(), is_right, "{name}");
        }
    }
}
