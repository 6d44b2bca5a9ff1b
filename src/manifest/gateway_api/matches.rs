//! The matches of a rule, and which of several comes first.
//!
//! - A prefix is one of whole segments; a slash at its end makes no difference, and `/` is every path.
//! - Of several entries of one header or query parameter the first counts.
//! - Among all matches of a host: exact paths first, then prefixes, the longest first; then those by method; then those with the most headers; then
//!   those with the most query parameters. Expressions come below prefixes, the longest first, as in Istio.
//!
//! Source: gateway-api apis/v1/httproute_types.go; istio pilot/pkg/config/kube/gateway/conversion.go `sortHTTPRoutes`.

use std::cmp::Reverse;

use super::values;
use crate::gateway::routes::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch, anchored};
use crate::manifest::read::{Field, Fields};

/// The order of a match among others; the least comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank(Reverse<u8>, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

/// The order of a condition among others.
pub(super) fn rank(condition: &RouteMatch) -> Rank {
    let (kind, length) = match &condition.path {
        PathMatch::Exact(text) => (3, text.len()),
        PathMatch::Prefix(text) | PathMatch::Segments(text) => (2, text.len().max(1)),
        PathMatch::Regex(regex) => (1, regex.as_str().len()),
    };
    let has_method = condition.method.is_some();
    Rank(
        Reverse(kind),
        Reverse(length),
        Reverse(has_method),
        Reverse(condition.headers.len()),
        Reverse(condition.query.len()),
    )
}

/// Every request.
pub(super) fn catch_all() -> RouteMatch {
    RouteMatch::path(PathMatch::Segments(String::new()))
}

/// Reads `matches`; without any, every request matches. An item that is wrong is left out.
pub(super) fn read_matches(rule: &Fields<'_>) -> Vec<RouteMatch> {
    let items = values::items(rule, "matches", 64);
    if items.is_empty() { vec![catch_all()] } else { items.iter().filter_map(read_match).collect() }
}

fn read_match(item: &Field<'_>) -> Option<RouteMatch> {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let fields = item.fields()?;
    let path = fields.look("path").map(|field| read_path(&field));
    let method = fields.get("method").map(|field| field.choice(&METHODS.map(|word| (word, word))));
    let headers = read_pairs(&fields, "headers", 4096);
    let query = read_pairs(&fields, "queryParams", 1024);
    fields.finish();
    let mut condition = path.map_or_else(|| Some(catch_all()), |path| path.map(RouteMatch::path))?;
    condition.method = match method {
        None => None,
        Some(method) => Some(ValueMatch::Exact(method?.to_owned())),
    };
    for (name, value) in headers? {
        let Ok(name) = http::HeaderName::try_from(name) else { continue };
        if !condition.headers.iter().any(|known| known.name == name) {
            condition.headers.push(HeaderMatch::new(name, value));
        }
    }
    for (name, value) in query? {
        condition.query.push(QueryMatch { name, value, ignore_case: false });
    }
    Some(condition)
}

fn read_path(field: &Field<'_>) -> Option<PathMatch> {
    let fields = field.fields()?;
    let words = [("Exact", 0), ("PathPrefix", 1), ("RegularExpression", 2)];
    let kind = fields.get("type").map_or(Some(1), |field| field.choice(&words));
    let value_field = fields.get("value");
    fields.finish();
    let kind = kind?;
    let Some(value_field) = value_field else {
        return Some(match kind {
            0 => PathMatch::Exact("/".to_owned()),
            1 => PathMatch::Segments(String::new()),
            _ => PathMatch::Regex(anchored("/").ok()?),
        });
    };
    let text = value_field.text()?;
    let is_short = text.chars().count() <= 1024;
    values::refuse_unless(&value_field, is_short, "the path is too long", "write at most 1024 characters")?;
    if kind == 2 {
        return regex(&value_field, text).map(PathMatch::Regex);
    }
    check_path(&value_field, text)?;
    Some(if kind == 0 {
        PathMatch::Exact(text.to_owned())
    } else {
        PathMatch::Segments(text.strip_suffix('/').unwrap_or(text).to_owned())
    })
}

fn check_path(field: &Field<'_>, text: &str) -> Option<()> {
    let help = "write a path such as /api";
    values::refuse_unless(field, text.starts_with('/'), "a path begins with a slash", &format!("write /{text}"))?;
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        values::refuse_unless(field, !text.contains(part), &format!("a path here has no `{part}`"), help)?;
    }
    for end in ["/.", "/.."] {
        values::refuse_unless(field, !text.ends_with(end), &format!("a path here does not end with `{end}`"), help)?;
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@".contains(letter);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let escape = rest.strip_prefix('%').and_then(|digits| digits.get(..2));
        let is_escape = escape.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let length = if is_escape { 3 } else { letter.len_utf8() };
        let is_right = is_escape || is_plain(letter);
        values::refuse_unless(field, is_right, &format!("`{letter}` cannot stand in a path"), "escape it: %20")?;
        rest = &rest[length..];
    }
    Some(())
}

/// Name and condition of each entry; none if one is wrong.
fn read_pairs(fields: &Fields<'_>, key: &str, length_max: usize) -> Option<Vec<(String, ValueMatch)>> {
    let items = values::items(fields, key, 16);
    let mut pairs = Vec::new();
    let mut names = Vec::new();
    for item in &items {
        let pair = read_pair(item, length_max);
        names.push(pair.as_ref().map(|(name, _)| name.clone()));
        pairs.push(pair);
    }
    values::refuse_twice(&items, &names, |name| format!("`{name}` stands twice"));
    pairs.into_iter().collect()
}

fn read_pair(item: &Field<'_>, length_max: usize) -> Option<(String, ValueMatch)> {
    let fields = item.fields()?;
    let words = [("Exact", false), ("RegularExpression", true)];
    let is_regex = fields.get("type").map_or(Some(false), |field| field.choice(&words));
    let name = fields.require("name", "write its name");
    let value_field = fields.require("value", "write the value that it must have");
    fields.finish();
    let name = name.and_then(|field| values::header_name(&field).map(str::to_owned));
    let text = value_field.as_ref().and_then(|field| values::text(field, length_max));
    let (is_regex, name, text, value_field) = (is_regex?, name?, text?, value_field?);
    let value = match (is_regex, text) {
        (false, text) => ValueMatch::Exact(text.to_owned()),
        // Istio's way to say that it must be there.
        (true, "*") => ValueMatch::Present,
        (true, text) => ValueMatch::Regex(regex(&value_field, text)?),
    };
    Some((name, value))
}

fn regex(field: &Field<'_>, text: &str) -> Option<regex::Regex> {
    match anchored(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let why = error.to_string();
            field.refuse("this is no regular expression", why.lines().last().unwrap_or_default().to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn the_order_of_matches() {
        let segments = |text: &str| RouteMatch::path(PathMatch::Segments(text.to_owned()));
        let header =
            |name: &'static str| HeaderMatch::new(HeaderName::from_static(name), ValueMatch::Exact("1".to_owned()));
        let query = QueryMatch { name: "a".to_owned(), value: ValueMatch::Present, ignore_case: false };
        let in_order = [
            RouteMatch::path(PathMatch::Exact("/a/b".to_owned())),
            RouteMatch::path(PathMatch::Exact("/a".to_owned())),
            segments("/longer"),
            RouteMatch { method: Some(ValueMatch::Exact("GET".to_owned())), ..segments("/a") },
            RouteMatch { headers: vec![header("x-a"), header("x-b")], ..segments("/a") },
            RouteMatch { headers: vec![header("x-a")], query: vec![query.clone()], ..segments("/a") },
            RouteMatch { headers: vec![header("x-a")], ..segments("/a") },
            RouteMatch { query: vec![query], ..segments("/a") },
            segments("/a"),
            RouteMatch { headers: vec![header("x-a")], ..catch_all() },
            catch_all(),
            RouteMatch::path(PathMatch::Regex(anchored("/longer.*").unwrap())),
            RouteMatch::path(PathMatch::Regex(anchored("/a").unwrap())),
        ];
        for pair in in_order.windows(2) {
            assert!(rank(&pair[0]) < rank(&pair[1]), "{pair:?}");
        }
    }
}
