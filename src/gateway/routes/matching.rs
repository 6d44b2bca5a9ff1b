//! The conditions of a route.
//!
//! - Path: without the query. A prefix is a plain string prefix (`/foo` matches `/foobar`); a segment prefix ends at a slash (`/foo` matches
//!   `/foo` and `/foo/…` only); a regular expression must match the whole path.
//! - Headers: several values of one header count as one text, joined by commas.
//!
//! Sources: envoy api envoy/config/route/v3/route_components.proto; istio pilot/pkg/networking/core/route/route.go.

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

/// What routes ask of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The `Host` header, as it came.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// All conditions of a route; each must hold.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// On the path.
    pub path: PathMatch,
    /// Whether exact and prefix conditions on the path disregard case.
    pub ignore_path_case: bool,
    /// On the method.
    pub method: Option<ValueMatch>,
    /// On the `Host` header.
    pub authority: Option<ValueMatch>,
    /// On the scheme.
    pub scheme: Option<ValueMatch>,
    /// On headers.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// The path's first characters.
    Prefix(String),
    /// Whole segments at the path's start; written without a slash at its end.
    Segments(String),
    /// The whole path by regular expression; anchor it with [`anchored`].
    Regex(Regex),
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Any value.
    Present,
    /// The whole value.
    Exact(String),
    /// Its first characters.
    Prefix(String),
    /// Its last characters.
    Suffix(String),
    /// Some of its characters.
    Contains(String),
    /// The whole value by regular expression; anchor it with [`anchored`].
    Regex(Regex),
    /// A whole number, from the first to below the second.
    Range(i64, i64),
}

/// A condition on a header.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// The header.
    pub name: HeaderName,
    /// The condition on its value.
    pub value: ValueMatch,
    /// Case makes no difference.
    pub ignore_case: bool,
    /// The condition must not hold.
    pub inverted: bool,
    /// A missing header counts as an empty one. Else a missing header fails every condition but that of its absence.
    pub missing_is_empty: bool,
}

/// A condition on the first value of a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// The parameter.
    pub name: String,
    /// The condition on its value.
    pub value: ValueMatch,
    /// Case makes no difference.
    pub ignore_case: bool,
}

/// A prefix of whole segments that holds a question mark or a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a path has neither `?` nor `#`")]
pub struct NotAPath;

/// A regular expression that must match a whole text.
///
/// # Errors
///
/// If the expression is not one.
pub fn anchored(expression: &str) -> Result<Regex, regex::Error> {
    self::expression(expression)?;
    Regex::new(&format!("^(?:{})$", as_re2(expression)))
}

/// A regular expression that may match anywhere in a text.
///
/// # Errors
///
/// If the expression is not one.
pub fn expression(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&as_re2(expression))
}

/// What RE2 reads otherwise than the crate `regex`, in the latter's words: `\Q…\E` quotes, a brace that begins no repetition is plain, and so
/// are brackets and doubled signs inside a class.
fn as_re2(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    let mut in_class = false;
    while let Some(character) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(quoted));
            rest = after;
            continue;
        }
        let mut length = character.len_utf8();
        match character {
            '\\' => length += rest[1..].chars().next().map_or(0, char::len_utf8),
            '[' if !in_class => {
                in_class = true;
                // A bracket in the first place of a class is a member of it.
                length += if rest[length..].starts_with('^') { 1 } else { 0 };
                if rest[length..].starts_with(']') {
                    out.push_str(&rest[..length]);
                    out.push_str("\\]");
                    rest = &rest[length + 1..];
                    continue;
                }
            }
            '[' => match rest.strip_prefix("[:").and_then(|name| name.find(":]")) {
                Some(name_length) => length = name_length + 4,
                None => out.push('\\'),
            },
            ']' => in_class = false,
            '&' | '~' if in_class => out.push('\\'),
            '{' if !in_class && !is_repetition(rest) => out.push('\\'),
            _ => {}
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// Whether a text begins with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    !least.is_empty() && least.bytes().chain(most.bytes()).all(|byte| byte.is_ascii_digit())
}

impl RouteMatch {
    /// Holds for the paths of `path`, whatever else a request has.
    #[must_use]
    pub fn path(path: PathMatch) -> Self {
        Self {
            path,
            ignore_path_case: false,
            method: None,
            authority: None,
            scheme: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }

    /// Whether all conditions hold.
    #[must_use]
    pub fn holds(&self, request: &RequestView<'_>) -> bool {
        let optional = |condition: &Option<ValueMatch>, value: &str| {
            condition.as_ref().is_none_or(|condition| condition.holds(value, false))
        };
        self.path.holds(request.path, self.ignore_path_case)
            && optional(&self.method, request.method.as_str())
            && optional(&self.authority, request.authority)
            && optional(&self.scheme, request.scheme)
            && self.headers.iter().all(|condition| condition.holds(request.headers))
            && self.query.iter().all(|condition| condition.holds(request.query))
    }

    /// Whether every request matches.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Prefix(text) => text == "/",
            PathMatch::Segments(text) => text.is_empty(),
            PathMatch::Regex(regex) => matches!(regex.as_str(), "^(?:.*)$" | "^(?:*)$"),
            PathMatch::Exact(_) => false,
        };
        any_path && self.asks_for_path_alone()
    }

    /// Whether there is no condition but that on the path.
    pub(super) fn asks_for_path_alone(&self) -> bool {
        self.method.is_none()
            && self.authority.is_none()
            && self.scheme.is_none()
            && self.headers.is_empty()
            && self.query.is_empty()
    }
}

impl PathMatch {
    /// Whole segments at the path's start; a slash at the end makes no difference.
    ///
    /// # Errors
    ///
    /// If the text goes beyond the path: it holds a question mark or a hash.
    pub fn segments(prefix: &str) -> Result<Self, NotAPath> {
        if prefix.contains(['?', '#']) {
            return Err(NotAPath);
        }
        Ok(Self::Segments(prefix.trim_end_matches('/').to_owned()))
    }

    fn holds(&self, path: &str, ignore_case: bool) -> bool {
        let starts = |text: &str| match (ignore_case, path.as_bytes().get(..text.len())) {
            (_, None) => false,
            (false, Some(start)) => start == text.as_bytes(),
            (true, Some(start)) => start.eq_ignore_ascii_case(text.as_bytes()),
        };
        match self {
            Self::Exact(text) => path.len() == text.len() && starts(text),
            Self::Prefix(text) => starts(text),
            Self::Segments(text) => starts(text) && matches!(path.as_bytes().get(text.len()), None | Some(b'/')),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl ValueMatch {
    /// Whether the condition holds for a value.
    #[must_use]
    pub fn holds(&self, value: &str, ignore_case: bool) -> bool {
        if ignore_case {
            let value = value.to_ascii_lowercase();
            return match self {
                Self::Exact(text) => value == text.to_ascii_lowercase(),
                Self::Prefix(text) => value.starts_with(&text.to_ascii_lowercase()),
                Self::Suffix(text) => value.ends_with(&text.to_ascii_lowercase()),
                Self::Contains(text) => value.contains(&text.to_ascii_lowercase()),
                Self::Present | Self::Regex(_) | Self::Range(..) => self.holds(&value, false),
            };
        }
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Contains(text) => value.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(value),
            Self::Range(start, end) => value.parse().is_ok_and(|number: i64| (*start..*end).contains(&number)),
        }
    }
}

impl HeaderMatch {
    /// The condition that the header is there.
    #[must_use]
    pub fn new(name: HeaderName, value: ValueMatch) -> Self {
        Self { name, value, ignore_case: false, inverted: false, missing_is_empty: false }
    }

    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut values =
            headers.get_all(&self.name).iter().map(|value| std::str::from_utf8(value.as_bytes()).unwrap_or_default());
        let first = values.next();
        if let ValueMatch::Present = self.value {
            return (first.is_some() || self.missing_is_empty) != self.inverted;
        }
        let Some(first) = first.or(self.missing_is_empty.then_some("")) else { return false };
        let holds = match values.next() {
            None => self.value.holds(first, self.ignore_case),
            Some(second) => {
                let joined: Vec<&str> = [first, second].into_iter().chain(values).collect();
                self.value.holds(&joined.join(","), self.ignore_case)
            }
        };
        holds != self.inverted
    }
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|query| crate::gateway::parameters::query_parameter(query, &self.name));
        value.is_some_and(|value| self.value.holds(value, self.ignore_case))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_re2() {
        for (expression, text, matches) in [
            ("/v1/{id}", "/v1/{id}", true),
            ("/v[0-9]{1,2}", "/v12", true),
            ("/v[0-9]{1,2}", "/v123", false),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b\E", "axb", false),
            ("[[]x", "[x", true),
            ("[[:alpha:]&&]+", "a&", true),
            ("[]a]+", "]a", true),
            (r"\{x}", "{x}", true),
        ] {
            assert_eq!(anchored(expression).unwrap().is_match(text), matches, "{expression} on {text}");
        }
        for expression in ["/(+invalid)", "a)(b", "(a"] {
            assert!(anchored(expression).is_err(), "{expression}");
        }
    }
}
