//! Where a redirect leads, and what the upstream gets to see of path and host.
//!
//! - A rewrite of the path takes what the route's condition matched: a prefix, or the whole path where the condition is none. The query stays.
//! - A redirect keeps what it does not change: scheme, host with its port, path, query. The port of the `Host` header is left out where the
//!   redirect names a port, or where it is the default of a scheme that changes. A path that has a query of its own keeps that one.
//!   A port that is the default of the scheme counts as none (Istio leaves it out of its configuration).
//! - Path and host are rewritten after the changes to headers: the header a host is taken from may be one that a route has just added.
//!
//! Sources: envoy source/common/router/config_impl.cc (`newUri`, `finalizePathHeader`), source/common/http/utility.cc (`updateAuthority`),
//! source/common/router/router.cc (`shadow`);
//! istio pilot/pkg/networking/core/route/route.go (`ApplyRedirect`); gateway-api apis/v1/httproute_types.go (`HTTPPathModifier`).

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use regex::{Captures, Regex};

use super::action::{Destination, Forward, HostRewrite, PathRewrite, Redirect, RedirectPort, RegexRewrite};
use super::matching::{PathMatch, RequestView};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Why a rewrite by regular expression is none.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRewrite {
    /// The pattern is no regular expression.
    #[error(transparent)]
    Pattern(#[from] regex::Error),
    /// The substitution names a group that the pattern does not have.
    #[error("`\\{group}` in the substitution, but the pattern has {groups} groups")]
    Group {
        /// The group.
        group: usize,
        /// How many the pattern has.
        groups: usize,
    },
    /// A backslash is followed by neither a digit nor a backslash.
    #[error("a backslash in the substitution must be followed by a digit or a backslash")]
    Escape,
}

impl RegexRewrite {
    /// Replaces matches of a pattern.
    ///
    /// # Errors
    ///
    /// If the pattern is no regular expression, or the substitution does not go with it.
    pub fn new(pattern: &str, substitution: impl Into<String>) -> Result<Self, InvalidRewrite> {
        let pattern = super::matching::expression(pattern)?;
        let substitution = substitution.into();
        let mut characters = substitution.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                continue;
            }
            let groups = pattern.captures_len() - 1;
            match characters.next() {
                Some('\\') => {}
                Some(other) => match group_number(other) {
                    None => return Err(InvalidRewrite::Escape),
                    Some(group) if group > groups => return Err(InvalidRewrite::Group { group, groups }),
                    Some(_) => {}
                },
                None => return Err(InvalidRewrite::Escape),
            }
        }
        Ok(Self { pattern, substitution })
    }

    /// The text with each match replaced.
    #[must_use]
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        replace_all(&self.pattern, text, &self.substitution)
    }
}

fn replace_all<'t>(pattern: &Regex, text: &'t str, substitution: &str) -> Cow<'t, str> {
    if !substitution.contains('\\') {
        return pattern.replace_all(text, regex::NoExpand(substitution));
    }
    pattern.replace_all(text, |found: &Captures<'_>| {
        let mut replaced = String::new();
        let mut characters = substitution.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                replaced.push(character);
            } else if let Some(escaped) = characters.next() {
                match group_number(escaped) {
                    Some(group) => replaced.push_str(found.get(group).map_or("", |group| group.as_str())),
                    None => replaced.push(escaped),
                }
            }
        }
        replaced
    })
}

fn group_number(digit: char) -> Option<usize> {
    digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok())
}

impl PathRewrite {
    /// The new path and query for a request that a route's condition matched.
    #[must_use]
    pub fn apply(&self, path_and_query: &str, matched: &PathMatch) -> String {
        let (path, rest) = split_path(path_and_query);
        let matched_length = match matched {
            PathMatch::Prefix(prefix) | PathMatch::Segments(prefix) => prefix.len().min(path.len()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => path.len(),
        };
        match self {
            Self::Full(new) => with_query(new, rest),
            Self::Prefix(new) => [new, &path[matched_length..], rest].concat(),
            Self::Segments(new) if matched_length == path.len() => {
                let new = if new.is_empty() { "/" } else { new };
                with_query(new, rest)
            }
            Self::Segments(new) => {
                let tail = &path[matched_length..];
                [new.trim_end_matches('/'), "/", tail.strip_prefix('/').unwrap_or(tail), rest].concat()
            }
            Self::Regex(rewrite) => [&rewrite.apply(path), rest].concat(),
        }
    }
}

/// A path that has its own query keeps it, and the request's is dropped.
fn with_query(path: &str, rest: &str) -> String {
    if path.contains('?') { path.to_owned() } else { [path, rest].concat() }
}

/// The path, and what follows it: query and fragment.
#[must_use]
pub fn split_path(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find(['?', '#']).unwrap_or(path_and_query.len()))
}

impl Redirect {
    /// The `location` for a request that a route's condition matched.
    #[must_use]
    pub fn location(&self, request: &RequestView<'_>, matched: &PathMatch, listener_port: u16) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let port = match self.port {
            RedirectPort::Keep | RedirectPort::OfScheme => None,
            RedirectPort::Number(port) => Some(port),
            RedirectPort::OfListener => Some(listener_port),
        };
        let port = port.filter(|port| default_port(scheme) != Some(*port));
        let host = match &self.host {
            Some(host) => host,
            None if port.is_some() || self.port == RedirectPort::OfScheme => split_port(request.authority).0,
            None => kept_host(request, scheme),
        };
        let kept = match request.query {
            Some(query) if !self.strip_query => Cow::Owned([request.path, "?", query].concat()),
            _ => Cow::Borrowed(request.path),
        };
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(&kept, matched),
            None => kept.into_owned(),
        };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        [scheme, "://", host, &port, &path].concat()
    }
}

/// Where a request to a virtual host that requires TLS is sent, with 301.
#[must_use]
pub fn https_location(request: &RequestView<'_>) -> String {
    let (mark, query) = request.query.map_or(("", ""), |query| ("?", query));
    ["https://", request.authority, request.path, mark, query].concat()
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The request's host with its port, unless that is the default of a scheme that changes.
fn kept_host<'r>(request: &RequestView<'r>, scheme: &str) -> &'r str {
    let (name, port) = split_port(request.authority);
    let forwarded = request.headers.get(&FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    let earlier = forwarded.unwrap_or(request.scheme);
    let is_dropped = earlier != scheme && matches!((earlier, port), ("http", Some("80")) | ("https", Some("443")));
    if is_dropped { name } else { request.authority }
}

/// Name and port of a `Host` header; an IPv6 address keeps its brackets.
#[must_use]
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    let Some(colon) = memchr::memrchr(b':', authority.as_bytes()) else { return (authority, None) };
    let (name, port) = (&authority[..colon], &authority[colon + 1..]);
    if name.starts_with('[') && !name.ends_with(']') { (authority, None) } else { (name, Some(port)) }
}

impl Forward {
    /// Whether anything is rewritten for the upstream.
    #[must_use]
    pub fn rewrites(&self, destination: &Destination) -> bool {
        [&destination.path, &self.path].into_iter().any(Option::is_some)
            || [&destination.host, &self.host].into_iter().any(Option::is_some)
    }

    /// Rewrites host and path for the upstream: the host in `headers`, together with `x-forwarded-host` and `x-envoy-original-path`; the new
    /// path and query are returned where they change. To be called once for a request, after the changes to headers.
    #[must_use]
    pub fn rewrite(
        &self,
        destination: &Destination,
        matched: &PathMatch,
        path_and_query: &str,
        headers: &mut HeaderMap,
    ) -> Option<String> {
        let rewrite = destination.host.as_ref().or(self.host.as_ref());
        if let Some(host) = rewrite.and_then(|rewrite| rewrite.host(path_and_query, headers)) {
            rewrite_host(headers, host, self.append_forwarded_host);
        }
        let rewrite = destination.path.as_ref().or(self.path.as_ref())?;
        if let Ok(original) = HeaderValue::from_str(path_and_query) {
            headers.insert(ORIGINAL_PATH, original);
        }
        Some(rewrite.apply(path_and_query, matched))
    }
}

impl HostRewrite {
    /// The new host; none leaves it as it is.
    fn host(&self, path_and_query: &str, headers: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Self::Literal(host) => HeaderValue::from_str(host).ok(),
            Self::Header(name) => headers.get(name).filter(|value| !value.is_empty()).cloned(),
            Self::Path(rewrite) => HeaderValue::from_str(&rewrite.apply(split_path(path_and_query).0)).ok(),
        }
    }
}

/// Gives a request another host. The one before is appended to `x-forwarded-host` if asked for, unless it is the last there already.
pub fn rewrite_host(headers: &mut HeaderMap, host: HeaderValue, append_forwarded_host: bool) {
    let earlier = headers.insert(HOST, host).filter(|earlier| append_forwarded_host && !earlier.is_empty());
    let Some(earlier) = earlier else { return };
    let forwarded = headers.get(&FORWARDED_HOST).filter(|value| !value.is_empty()).map(HeaderValue::as_bytes);
    let appended = match forwarded {
        None => Ok(earlier),
        Some(list) if list.rsplit(|byte| *byte == b',').next() == Some(earlier.as_bytes()) => return,
        Some(list) => HeaderValue::from_bytes(&[list, b",", earlier.as_bytes()].concat()),
    };
    if let Ok(appended) = appended {
        headers.insert(FORWARDED_HOST, appended);
    }
}

/// The host of a mirrored request: `-shadow` is appended, before the port.
#[must_use]
pub fn shadow_host(authority: &str) -> String {
    match split_port(authority) {
        (name, Some(port)) => format!("{name}-shadow:{port}"),
        (name, None) => format!("{name}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[track_caller]
    fn check_path(rewrite: &PathRewrite, matched: &PathMatch, path: &str, expected: &str) {
        assert_eq!(rewrite.apply(path, matched), expected, "{rewrite:?} of {path}");
    }

    #[test]
    fn a_prefix_is_replaced_as_plain_text_and_segments_keep_one_slash() {
        let prefix = PathMatch::Prefix("/api".to_owned());
        let segments = PathMatch::Segments("/api".to_owned());
        check_path(&PathRewrite::Prefix("/".to_owned()), &prefix, "/api/v1?q=/api", "//v1?q=/api");
        check_path(&PathRewrite::Segments("/".to_owned()), &segments, "/api/v1?q", "/v1?q");
        let exact = PathMatch::Exact("/api".to_owned());
        check_path(&PathRewrite::Prefix("/new".to_owned()), &exact, "/api?q", "/new?q");
        check_path(&PathRewrite::Full("/new".to_owned()), &prefix, "/api/v1?q", "/new?q");
        check_path(&PathRewrite::Full("/new?own".to_owned()), &prefix, "/api/v1?q", "/new?own");
    }

    /// Source: the table in gateway-api apis/v1/httproute_types.go, `HTTPPathModifier.replacePrefixMatch`.
    #[test]
    fn segments_are_replaced_as_the_gateway_api_says() {
        let segments = PathMatch::Segments("/foo".to_owned());
        for (path, new, expected) in [
            ("/foo/bar", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/xyz/", "/xyz/bar"),
            ("/foo", "/xyz", "/xyz"),
            ("/foo/", "/xyz", "/xyz/"),
            ("/foo/bar", "", "/bar"),
            ("/foo/", "", "/"),
            ("/foo", "", "/"),
            ("/foo/", "/", "/"),
            ("/foo", "/", "/"),
        ] {
            check_path(&PathRewrite::Segments(new.to_owned()), &segments, path, expected);
        }
        check_path(&PathRewrite::Segments("/xyz".to_owned()), &PathMatch::Prefix("/".to_owned()), "/bar", "/xyz/bar");
        check_path(&PathRewrite::Segments("/xyz".to_owned()), &PathMatch::Segments(String::new()), "/bar", "/xyz/bar");
    }

    #[test]
    fn groups_are_put_in_and_checked_beforehand() {
        let rewrite = RegexRewrite::new("^/service/([^/]+)(/.*)$", r"\2/instance/\1\\").unwrap();
        assert_eq!(rewrite.apply("/service/foo/v1/api"), r"/v1/api/instance/foo\");
        assert!(matches!(RegexRewrite::new("(a)", r"\2"), Err(InvalidRewrite::Group { group: 2, groups: 1 })));
        assert!(matches!(RegexRewrite::new("(a)", r"\x"), Err(InvalidRewrite::Escape)));
        assert!(matches!(RegexRewrite::new("(a", ""), Err(InvalidRewrite::Pattern(_))));
    }

    #[test]
    fn mirrored_requests_have_another_host() {
        assert_eq!(shadow_host("a.com"), "a.com-shadow");
        assert_eq!(shadow_host("a.com:8080"), "a.com-shadow:8080");
        assert_eq!(shadow_host("[::1]:8080"), "[::1]-shadow:8080");
        assert_eq!(shadow_host("[::1]"), "[::1]-shadow");
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change() {
        let headers = HeaderMap::new();
        let location = |redirect: &Redirect, authority: &str, scheme: &str| {
            let method = Method::GET;
            let view =
                RequestView { method: &method, authority, scheme, path: "/a", query: Some("b=c"), headers: &headers };
            redirect.location(&view, &PathMatch::Prefix("/".to_owned()), 8080)
        };
        let keep = Redirect {
            scheme: None,
            host: None,
            port: RedirectPort::Keep,
            path: None,
            strip_query: false,
            status: http::StatusCode::FOUND,
        };
        let https = Redirect { scheme: Some("https".to_owned()), ..keep.clone() };
        let port = |port| Redirect { port, ..keep.clone() };
        for (redirect, authority, scheme, expected) in [
            (&keep, "h:8080", "http", "http://h:8080/a?b=c"),
            (&https, "h:80", "http", "https://h/a?b=c"),
            (&https, "h:81", "http", "https://h:81/a?b=c"),
            (&Redirect { port: RedirectPort::OfScheme, ..https.clone() }, "h:81", "http", "https://h/a?b=c"),
            (&port(RedirectPort::OfListener), "h", "http", "http://h:8080/a?b=c"),
            (&port(RedirectPort::Number(80)), "h", "http", "http://h/a?b=c"),
            (&port(RedirectPort::Number(80)), "h", "https", "https://h:80/a?b=c"),
            (&port(RedirectPort::Number(443)), "[::1]", "https", "https://[::1]/a?b=c"),
            (&Redirect { strip_query: true, ..keep.clone() }, "h", "http", "http://h/a"),
        ] {
            assert_eq!(location(redirect, authority, scheme), expected);
        }
    }
}
