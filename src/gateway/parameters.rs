//! Query parameters and cookies.
//!
//! Source: envoy source/common/http/utility.cc (`parseQueryString`, `PercentEncoding::decode`, `forEachCookie`).

use std::borrow::Cow;

use http::HeaderMap;
use http::header::COOKIE;

/// Names and values of a query, as they stand. A name without a value has an empty one.
pub fn query_parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The first value of a query parameter, as it stands.
#[must_use]
pub fn query_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query_parameters(query).find(|(given, _)| *given == name).map(|(_, value)| value)
}

/// A text with its escapes decoded; what is no escape stays.
#[must_use]
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let digits = bytes.get(index + 1..index + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| *byte == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                index += 3;
            }
            None => {
                out.push(*byte);
                index += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The value of the first cookie of a name. Quotes around it do not belong to it.
#[must_use]
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(given, _)| given.trim_start_matches(' ') == name)?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}
