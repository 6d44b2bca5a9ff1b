//! `CorsPolicy`: who else may read answers in a browser.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go.

use std::time::Duration;

use super::string_match::{self, StringMatch, Takes};
use super::values;
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// A CORS policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorsPolicy {
    /// Origins that may.
    pub origins: Vec<StringMatch>,
    /// Methods they may use.
    pub methods: Vec<String>,
    /// Headers they may send.
    pub headers: Vec<String>,
    /// Headers they may read.
    pub expose: Vec<String>,
    /// How long a browser may remember it.
    pub max_age: Option<Duration>,
    /// Whether cookies may be sent along; unset: nothing is said about it.
    pub credentials: Option<bool>,
    /// Whether preflights of other origins are forwarded.
    pub forwards_unmatched: bool,
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

/// Reads `corsPolicy`.
pub(super) fn read(fields: &Fields<'_>) -> Option<CorsPolicy> {
    let field = fields.look("corsPolicy")?;
    let inner = field.fields()?;
    let mut origins = Vec::new();
    for item in inner.look("allowOrigins").map(|field| field.items()).unwrap_or_default() {
        origins.extend(read_origin(&item));
    }
    for item in inner.look("allowOrigin").map(|field| field.items()).unwrap_or_default() {
        values::warn(&item, "`allowOrigins` has taken the place of `allowOrigin`");
        origins.extend(item.text().map(|text| StringMatch::Exact(text.to_owned())));
    }
    let methods =
        list(&inner, "allowMethods", |text| METHODS.contains(&text), "this is no method", "write one such as GET");
    let is_name = |text: &str| text == "*" || is_strict_name(text);
    let help = "write letters, digits, dashes and underscores, or *";
    let headers = list(&inner, "allowHeaders", is_name, "this is no header name", help);
    let expose = list(&inner, "exposeHeaders", is_name, "this is no header name", help);
    let max_age = inner.get("maxAge").and_then(|field| {
        let age = values::span(&field)?;
        if age.subsec_nanos() > 0 {
            field.refuse("browsers count whole seconds", "write a duration such as 24h");
        }
        Some(age)
    });
    let credentials = inner.get("allowCredentials").and_then(|field| field.boolean());
    let unmatched = inner.get("unmatchedPreflights");
    let forwards_unmatched = unmatched
        .and_then(|field| field.choice(&[("UNSPECIFIED", true), ("FORWARD", true), ("IGNORE", false)]))
        .unwrap_or(true);
    inner.finish();
    Some(CorsPolicy { origins, methods, headers, expose, max_age, credentials, forwards_unmatched })
}

fn read_origin(item: &Field<'_>) -> Option<StringMatch> {
    let found = string_match::read(item, Takes::EmptyPrefix)?;
    let is_empty = match &found {
        StringMatch::Present => true,
        StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text) => text.is_empty(),
    };
    if is_empty {
        item.refuse("this is no origin", "write exact, prefix or regex with a text");
        return None;
    }
    Some(found)
}

fn list(fields: &Fields<'_>, key: &str, is_right: impl Fn(&str) -> bool, wrong: &str, help: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in fields.look(key).map(|field| field.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if is_right(text) {
            item.note(FidelityStatus::Modelled, None);
            found.push(text.to_owned());
        } else {
            item.refuse(wrong, help);
        }
    }
    found
}

/// Header names are stricter here than elsewhere. Source: istio pkg/config/validation/validation.go `ValidateCORSHTTPHeaderName`.
fn is_strict_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
}
