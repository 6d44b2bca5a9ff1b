//! Headers that concern one connection only, and others that are judged by what they say.
//!
//! - `Connection` may name other headers that end here. It may not name pseudo-headers or those that say who the client is, nor ten or more.
//! - Of `TE` nothing but `trailers` goes on.
//! - An upgrade (`Connection: upgrade` and `Upgrade`) keeps both.
//! - A `Referer` with a fragment or a user's name, or more than one, goes.
//!
//! Source: envoy source/common/http/utility.cc (`sanitizeConnectionHeader`, `isUpgrade`, `isValidRefererValue`).

use http::header::{CONNECTION, REFERER, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// As many headers named by `Connection` are refused.
const NOMINATED_MAX: usize = 10;
/// A `TE` of as many bytes is refused.
const TE_BYTES_MAX: usize = 256;

/// Says that a request's `Connection` header asks for what it must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadConnection;

/// Removes the headers that `Connection` names, and their names from it.
///
/// # Errors
///
/// If the request has to be refused.
pub fn sanitize_connection(headers: &mut HeaderMap) -> Result<(), BadConnection> {
    let Some(value) = super::address::joined(headers, &CONNECTION) else { return Ok(()) };
    let Ok(list) = value.to_str() else { return Err(BadConnection) };
    let tokens: Vec<&str> = list.split(',').map(str::trim).filter(|token| !token.is_empty()).collect();
    if tokens.len() >= NOMINATED_MAX {
        return Err(BadConnection);
    }
    let mut kept = Vec::new();
    for token in tokens.iter().copied() {
        let is = |name: &str| token.eq_ignore_ascii_case(name);
        if ["close", "http2-settings", "keep-alive", "upgrade"].into_iter().any(is) {
            kept.push(token);
        } else if is("connection") {
            // It stays; that it names itself does not.
        } else if token.starts_with(':')
            || ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].into_iter().any(is)
        {
            return Err(BadConnection);
        } else if is("te") {
            if headers.get(TE).is_some_and(|value| value.len() >= TE_BYTES_MAX) {
                return Err(BadConnection);
            }
            if sanitize_te(headers) {
                kept.push(token);
            }
        } else if let Ok(name) = HeaderName::from_bytes(token.as_bytes()) {
            headers.remove(name);
        }
    }
    if kept.len() < tokens.len() {
        if kept.is_empty() {
            headers.remove(CONNECTION);
        } else {
            let list = HeaderValue::from_str(&kept.join(",")).map_err(|_| BadConnection)?;
            headers.insert(CONNECTION, list);
        }
    }
    Ok(())
}

/// Leaves `trailers` of a `TE` header, or nothing. Whether something is left.
pub(super) fn sanitize_te(headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get(TE) else { return false };
    let mut codings = value.to_str().unwrap_or_default().split(',');
    let keeps = codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    if keeps {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
    keeps
}

/// Whether a head asks for, or grants, another protocol on its connection.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers.get_all(CONNECTION).iter().any(|value| value.to_str().is_ok_and(|list| has_token(list, "upgrade")))
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Removes a `Referer` that says more than a place.
pub(super) fn sanitize_referer(headers: &mut HeaderMap) {
    let mut values = headers.get_all(REFERER).iter();
    let Some(first) = values.next() else { return };
    let is_valid = first.to_str().is_ok_and(is_valid_referer) && values.next().is_none();
    if !is_valid {
        headers.remove(REFERER);
    }
}

/// Whether a `Referer` is a place without fragment and user.
#[must_use]
pub fn is_valid_referer(value: &str) -> bool {
    if value.contains('#') {
        return false;
    }
    let absolute = value.split_once("://").filter(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    match absolute {
        Some((_, rest)) => {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            !authority.is_empty() && !authority.contains('@')
        }
        None => value.find(':').is_none_or(|colon| value[..colon].contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitized(connection: &str, te: Option<&str>) -> Option<(String, Option<String>)> {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        let mut headers = HeaderMap::from_iter([(CONNECTION, value(connection))]);
        headers.extend(te.map(|te| (TE, value(te))));
        sanitize_connection(&mut headers).ok()?;
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Some((text(&CONNECTION).unwrap_or_default(), text(&TE)))
    }

    #[test]
    fn ten_nominated_headers_are_too_many_and_256_bytes_of_te_too_long() {
        let nominated = |count: usize| vec!["x"; count].join(", ");
        assert_eq!(sanitized(&nominated(9), None), Some((String::new(), None)));
        assert_eq!(sanitized(&nominated(10), None), None);
        let te = |bytes: usize| format!("trailers{}", ",".repeat(bytes - 8));
        assert_eq!(sanitized("te", Some(&te(255))), Some(("te".to_owned(), Some("trailers".to_owned()))));
        assert_eq!(sanitized("te", Some(&te(256))), None);
    }

    #[test]
    fn the_tokens_of_an_upgrade_stay() {
        assert_eq!(sanitized("Upgrade, x-secret", None), Some(("Upgrade".to_owned(), None)));
        assert_eq!(
            sanitized("keep-alive, close", Some("gzip")),
            Some(("keep-alive, close".to_owned(), Some("gzip".to_owned())))
        );
    }
}
