//! The filters of a rule or of a backend.
//!
//! Source: gateway-api apis/v1/httproute_types.go; istio pilot/pkg/config/kube/gateway/conversion.go.

use std::time::Duration;

use http::StatusCode;
use regex::Regex;

use super::reference::{Reference, read_reference};
use super::values;
use crate::gateway::routes::{
    AddMode, Cors, HeaderAdd, HeaderOps, HeaderText, Millionths, PathRewrite, Redirect, RedirectPort, ValueMatch,
};
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// All filters of one list.
#[derive(Clone, Default, Debug)]
pub(super) struct Filters {
    pub(super) request_headers: HeaderOps,
    /// The `Host` header that the changes to the request ask for.
    pub(super) authority: Option<String>,
    pub(super) response_headers: HeaderOps,
    pub(super) mirrors: Vec<(BackendRef, Millionths)>,
    pub(super) redirect: Option<Redirect>,
    pub(super) path: Option<PathRewrite>,
    pub(super) host: Option<String>,
    pub(super) cors: Option<Cors>,
    /// The first filter that Istio does not have.
    pub(super) unsupported: Option<&'static str>,
}

/// Where requests are sent.
#[derive(Clone, Debug)]
pub(super) struct BackendRef {
    pub(super) to: Reference,
    pub(super) port: Option<u16>,
    pub(super) at: Place,
}

/// Reads what every reference to a backend has.
pub(super) fn read_backend(field: &Field<'_>, fields: &Fields<'_>, namespace: &str) -> Option<BackendRef> {
    let to = read_reference(fields, "", "Service", namespace);
    let port = fields.get("port").map(|field| values::port(&field));
    let to = to?;
    if port.is_none() && to.is("", "Service") {
        fields.missing("port", "write a port of the Service");
        return None;
    }
    Some(BackendRef { to, port: port.map_or(Some(None), |port| port.map(Some))?, at: field.place() })
}

/// The words of `type`, each with the key that it needs.
const TYPES: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// Reads `filters`. `has_one_prefix` says whether the rule has exactly one match, and that by prefix.
pub(super) fn read_filters(owner: &Fields<'_>, has_one_prefix: bool, namespace: &str) -> Filters {
    let items = values::items(owner, "filters", 16);
    let mut filters = Filters::default();
    let mut kinds: Vec<Option<&str>> = Vec::new();
    for item in &items {
        let kind = read_filter(item, has_one_prefix, namespace, &mut filters);
        kinds.push(kind.filter(|kind| !matches!(*kind, "RequestMirror" | "ExtensionRef" | "ExternalAuth")));
    }
    values::refuse_twice(&items, &kinds, |kind| format!("{kind} stands twice"));
    let has = |word: &str| kinds.iter().flatten().any(|kind| *kind == word);
    if has("RequestRedirect") && has("URLRewrite") {
        let field = owner.look("filters");
        let help = "a redirected request goes to no backend: leave one of them out";
        field.iter().for_each(|field| field.refuse("RequestRedirect and URLRewrite exclude each other", help));
    }
    filters
}

fn read_filter<'a>(
    item: &Field<'a>,
    has_one_prefix: bool,
    namespace: &str,
    filters: &mut Filters,
) -> Option<&'static str> {
    let fields = item.fields()?;
    let words = TYPES.map(|(word, key)| (word, (word, key)));
    let found =
        fields.require("type", "write one such as RequestHeaderModifier").and_then(|field| field.choice(&words));
    let settings = TYPES.map(|(_, key)| (key, fields.look(key)));
    fields.finish();
    let (word, wanted) = found?;
    let mut setting = None;
    for (key, field) in settings {
        match field {
            Some(field) if key == wanted => setting = Some(field),
            Some(field) => field.refuse(format!("this is no setting of {word}"), format!("write {wanted}")),
            None => {}
        }
    }
    let Some(setting) = setting else {
        fields.missing(wanted, &format!("{word} needs it"));
        return Some(word);
    };
    match word {
        "RequestHeaderModifier" => {
            let (changes, authority) = read_headers(&setting, true).unwrap_or_default();
            (filters.request_headers, filters.authority) = (changes, authority);
        }
        "ResponseHeaderModifier" => {
            filters.response_headers = read_headers(&setting, false).unwrap_or_default().0;
        }
        "RequestMirror" => filters.mirrors.extend(read_mirror(&setting, namespace)),
        "RequestRedirect" => filters.redirect = read_redirect(&setting, has_one_prefix),
        "URLRewrite" => {
            if let Some(fields) = setting.fields() {
                filters.host = read_hostname(&fields);
                filters.path = fields.look("path").and_then(|field| read_path(&field, has_one_prefix));
                fields.finish();
            }
        }
        "CORS" => filters.cors = read_cors(&setting),
        _ => {
            let text = "Istio refuses this filter, and with it the whole route";
            setting.note(FidelityStatus::Approximated, Some(text));
            filters.unsupported = filters.unsupported.or(Some(word));
        }
    }
    Some(word)
}

/// Changes to headers, and the new `Host` header. Of several entries of one header the first counts.
fn read_headers(field: &Field<'_>, is_request: bool) -> Option<(HeaderOps, Option<String>)> {
    let fields = field.fields()?;
    let mut changes = HeaderOps::default();
    let mut authority = None;
    for (key, mode) in [("set", AddMode::Overwrite), ("add", AddMode::Append)] {
        let items = values::items(&fields, key, 16);
        let mut names = Vec::new();
        for item in &items {
            let Some(inner) = item.fields() else {
                names.push(None);
                continue;
            };
            let name_field = inner.require("name", "write the header's name");
            let value = inner.require("value", "write the header's value");
            inner.finish();
            names.push(name_field.as_ref().and_then(|field| values::header_name(field)));
            let name = name_field.and_then(|field| values::header(&field));
            let value = value.and_then(|field| Some((values::text(&field, 4096)?, field)));
            let (Some(name), Some((text, value))) = (name, value) else { continue };
            // Istio hands it on as it is: Envoy's fields between percent signs work here too.
            let parsed = match HeaderText::parse(text) {
                Ok(parsed) => parsed,
                Err(error) => {
                    value.refuse(error.to_string(), "write %% for a percent sign, and fields such as %PROTOCOL%");
                    continue;
                }
            };
            if name == http::header::HOST {
                authority = authority.or_else(|| is_request.then(|| text.to_owned()));
            } else if !changes.add.iter().any(|known| known.mode == mode && known.name == name) {
                changes.add.push(HeaderAdd { name, value: parsed, mode });
            }
        }
        values::refuse_twice(&items, &names, |name| format!("`{name}` stands twice"));
    }
    let removed = values::items(&fields, "remove", 16);
    let names: Vec<Option<&str>> = removed.iter().map(|item| item.text()).collect();
    values::refuse_twice(&removed, &names, |name| format!("`{name}` stands twice"));
    for item in &removed {
        match values::header(item) {
            Some(name) if name == http::header::HOST => {}
            name => changes.remove.extend(name),
        }
    }
    fields.finish();
    Some((changes, authority))
}

fn read_hostname(fields: &Fields<'_>) -> Option<String> {
    fields.get("hostname").and_then(|field| values::precise_hostname(&field).map(str::to_owned))
}

/// A new path. A prefix is replaced segment by segment, so a slash at its end makes no difference.
fn read_path(field: &Field<'_>, has_one_prefix: bool) -> Option<PathRewrite> {
    let fields = field.fields()?;
    let words = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
    let kind = fields.require("type", "write ReplaceFullPath or ReplacePrefixMatch");
    let is_full = kind.and_then(|field| field.choice(&words));
    let keys = [(true, "replaceFullPath"), (false, "replacePrefixMatch")];
    let values = keys.map(|(_, key)| fields.get(key).map(|field| (read_new_path(&field), field)));
    fields.finish();
    let is_full = is_full?;
    let mut found = None;
    for ((is_for_full, key), value) in keys.into_iter().zip(values) {
        match value {
            Some((text, _)) if is_for_full == is_full => found = text,
            Some((_, field)) => {
                let word = if is_for_full { "ReplaceFullPath" } else { "ReplacePrefixMatch" };
                field.refuse(format!("`{key}` belongs to type {word}"), format!("write type: {word}, or take it out"));
            }
            None if is_for_full == is_full => fields.missing(key, "write the new path"),
            None => {}
        }
    }
    if !is_full && !has_one_prefix {
        let help = "write one match with a path of type PathPrefix, or ReplaceFullPath";
        field.refuse("only of a rule with exactly one match, by prefix, can the prefix be replaced", help);
    }
    let text = found?;
    Some(if is_full {
        PathRewrite::Full(text)
    } else {
        let trimmed = text.strip_suffix('/').unwrap_or(&text);
        PathRewrite::Segments(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
    })
}

fn read_new_path(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let is_right = text.len() <= 1024;
    values::refuse_unless(field, is_right, "it is too long", "write at most 1024 characters")?;
    Some(text.to_owned())
}

fn read_redirect(field: &Field<'_>, has_one_prefix: bool) -> Option<Redirect> {
    let fields = field.fields()?;
    let scheme = fields.get("scheme").map(|field| field.choice(&[("http", "http"), ("https", "https")]));
    let host = read_hostname(&fields);
    let path = fields.look("path").map(|field| read_path(&field, has_one_prefix));
    let port = fields.get("port").map(|field| values::port(&field));
    let status = fields.get("statusCode").map(|field| {
        let code = field.whole::<u16>(301, 308)?;
        let is_known = matches!(code, 301 | 302 | 303 | 307 | 308);
        values::refuse_unless(&field, is_known, "this is no redirect", "write 301, 302, 303, 307 or 308")?;
        StatusCode::from_u16(code).ok()
    });
    fields.finish();
    let scheme = scheme.map_or(Some(None), |scheme| scheme.map(Some))?;
    let port = match (port, scheme) {
        (Some(port), _) => RedirectPort::Number(port?),
        (None, Some(_)) => RedirectPort::OfScheme,
        (None, None) => RedirectPort::OfListener,
    };
    Some(Redirect {
        scheme: scheme.map(str::to_owned),
        host,
        port,
        path: path.map_or(Some(None), |path| path.map(Some))?,
        strip_query: false,
        status: status.unwrap_or(Some(StatusCode::FOUND))?,
    })
}

fn read_mirror(field: &Field<'_>, namespace: &str) -> Option<(BackendRef, Millionths)> {
    let fields = field.fields()?;
    let backend_field = fields.look("backendRef");
    let percent = fields.get("percent").map(|field| field.whole::<u32>(0, 100));
    let fraction_field = fields.look("fraction");
    let fraction = fraction_field.as_ref().map(read_fraction);
    fields.finish();
    if let (Some(field), Some(_)) = (&fraction_field, &percent) {
        field.refuse("percent and fraction exclude each other", "write one of them");
    }
    let Some(backend_field) = backend_field else {
        fields.missing("backendRef", "say who gets the copies");
        return None;
    };
    let inner = backend_field.fields()?;
    let backend = read_backend(&backend_field, &inner, namespace);
    inner.finish();
    let share = match (percent, fraction) {
        (Some(percent), _) => Millionths(percent? * 10_000),
        (None, Some(fraction)) => fraction?,
        (None, None) => Millionths::ALL,
    };
    Some((backend?, share))
}

fn read_fraction(field: &Field<'_>) -> Option<Millionths> {
    let fields = field.fields()?;
    let numerator =
        fields.require("numerator", "write how many").and_then(|field| field.whole::<u64>(0, i64::from(i32::MAX)));
    let denominator = fields.get("denominator").map_or(Some(100), |field| field.whole::<u64>(1, i64::from(i32::MAX)));
    fields.finish();
    let (numerator, denominator) = (numerator?, denominator?);
    let help = "write a numerator up to the denominator, which is 100 where none is written";
    values::refuse_unless(field, numerator <= denominator, "a share cannot be more than all", help)?;
    u32::try_from(numerator * 1_000_000 / denominator).ok().map(Millionths)
}

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];

fn read_cors(field: &Field<'_>) -> Option<Cors> {
    let fields = field.fields()?;
    let origins = read_set(&fields, "allowOrigins", 64, |field| {
        let text = values::text(field, 253)?;
        let found = origin(text);
        let help = "write a scheme and a host, with a port if need be: https://*.example.com; or * alone";
        values::refuse_unless(field, found.is_some(), &format!("`{text}` is not an origin"), help)?;
        Some((text.to_owned(), found?))
    });
    let methods = read_set(&fields, "allowMethods", 9, |field| {
        let method = field.choice(&METHODS.map(|word| (word, word)))?;
        Some((method.to_owned(), method.to_owned()))
    });
    let header = |field: &Field<'_>| values::header_name(field).map(|name| (name.to_owned(), name.to_owned()));
    let headers = read_set(&fields, "allowHeaders", 64, header);
    let expose = read_set(&fields, "exposeHeaders", 64, header);
    for key in ["allowOrigins", "allowMethods", "allowHeaders"] {
        let Some(field) = fields.look(key) else { continue };
        let items = field.node().items();
        if items.len() > 1 && items.iter().any(|item| item.text() == Some("*")) {
            field.refuse("`*` stands beside others", "write [\"*\"] alone, or the others");
        }
    }
    let credentials = fields.get("allowCredentials").and_then(|field| field.boolean()).unwrap_or(false);
    let max_age = fields.get("maxAge").map_or(Some(5), |field| field.whole::<u64>(1, i64::from(i32::MAX)));
    fields.finish();
    Some(Cors {
        origins,
        methods,
        headers,
        expose,
        max_age: Some(Duration::from_secs(max_age?)),
        credentials,
        forwards_unmatched: false,
    })
}

/// A list in which nothing may stand twice.
fn read_set<T>(
    fields: &Fields<'_>,
    key: &str,
    count_max: usize,
    read: impl Fn(&Field<'_>) -> Option<(String, T)>,
) -> Vec<T> {
    let items = values::items(fields, key, count_max);
    let mut found = Vec::new();
    let mut texts = Vec::new();
    for item in &items {
        let value = read(item);
        if value.is_some() {
            item.note(FidelityStatus::Modelled, None);
        }
        let (text, value) = value.unzip();
        texts.push(text);
        found.extend(value);
    }
    values::refuse_twice(&items, &texts, |text| format!("`{text}` stands twice"));
    found
}

/// `*` alone is any origin; in a host it stands for one character or more, dots too.
fn origin(text: &str) -> Option<ValueMatch> {
    if text == "*" {
        return Some(ValueMatch::Present);
    }
    let (scheme, rest) = text.split_once("://")?;
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let is_scheme =
        !scheme.is_empty() && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    let is_host = !host.is_empty() && !host.contains([':', '/', '?', '#', ' ']);
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !is_scheme || !is_host || !is_port {
        return None;
    }
    if !host.contains('*') {
        return Some(ValueMatch::Exact(text.to_owned()));
    }
    let pattern = regex::escape(text).replace("\\*", "[^/:]+");
    Regex::new(&format!("^(?:{pattern})$")).ok().map(ValueMatch::Regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_may_have_a_wildcard() {
        let holds = |pattern: &str, origin_text: &str| match origin(pattern) {
            Some(ValueMatch::Present) => true,
            Some(ValueMatch::Exact(text)) => text == origin_text,
            Some(ValueMatch::Regex(regex)) => regex.is_match(origin_text),
            other => panic!("{pattern}: {other:?}"),
        };
        for (pattern, text, expected) in [
            ("*", "https://any.org:1", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://xpto.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*.bar.com", "http://www.bar.com", false),
            ("https://*.bar.com", "https://www.bar.com:8443", false),
            ("https://*.bar.com:8443", "https://www.bar.com:8443", true),
            ("https://*", "https://a.b", true),
            ("https://a.b", "https://a.b", true),
        ] {
            assert_eq!(holds(pattern, text), expected, "{pattern} {text}");
        }
        for wrong in ["a.com", "https://", "https://a/b", "https://a:0", "https://a:99999", "://a"] {
            assert!(origin(wrong).is_none(), "{wrong}");
        }
    }
}
