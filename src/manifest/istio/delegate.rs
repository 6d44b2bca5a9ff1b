//! Delegation: a rule of one VirtualService that takes over the rules of another.
//!
//! - One level deep. A rule that is taken over holds where its own conditions and those of the delegating rule hold.
//! - A block of the delegate is merged with every block of the root that it does not contradict. If one fits none, its whole rule is dropped.
//! - What the delegate's rule does not say of time-outs, retries, faults, mirrors, CORS, rewrites and headers, the root's says.
//! - A delegate that is not there, or not exported to the root's namespace, contributes nothing.
//!
//! Source: istio pilot/pkg/model/virtualservice.go.

use std::collections::BTreeMap;

use super::http_route::HttpRoute;
use super::matches::MatchRequest;
use super::string_match::StringMatch;
use super::values;
use super::virtual_service::VirtualService;

/// Why a rule that delegates contributes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Nothing is called so.
    Unknown,
    /// It has hosts of its own.
    NoDelegate,
    /// It is not exported to the root's namespace.
    NotVisible,
}

/// VirtualServices with the rules of their delegates; the delegates themselves are left out. `lost` hears of rules without a delegate.
pub fn resolve(services: &[VirtualService], mut lost: impl FnMut(&HttpRoute, Lost)) -> Vec<VirtualService> {
    let roots = services.iter().filter(|service| !service.is_delegate());
    let resolved = roots.map(|root| {
        let mut http = Vec::new();
        for rule in &root.http {
            let Some(delegate) = &rule.delegate else {
                http.push(rule.clone());
                continue;
            };
            let found = services.iter().find(|known| format!("{}/{}", known.namespace, known.name) == delegate.key);
            match found {
                None => lost(rule, Lost::Unknown),
                Some(found) if !found.is_delegate() => lost(rule, Lost::NoDelegate),
                Some(found) if !values::is_visible(&found.export_to, &root.namespace) => lost(rule, Lost::NotVisible),
                Some(found) => http.extend(found.http.iter().filter_map(|inner| merge(rule, inner))),
            }
        }
        VirtualService { http, ..root.clone() }
    });
    resolved.collect()
}

/// A rule of a delegate under a rule of its root; none if they contradict each other.
#[must_use]
pub fn merge(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let matches = merge_matches(&root.matches, &delegate.matches)?;
    let root = root.clone();
    let own = delegate.clone();
    Some(HttpRoute {
        name: joined(&root.name, &own.name),
        matches,
        rewrite: own.rewrite.or(root.rewrite),
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.or(root.retries),
        fault: own.fault.or(root.fault),
        mirrors: if own.mirrors.is_empty() { root.mirrors } else { own.mirrors },
        cors: own.cors.or(root.cors),
        headers: own.headers.or(root.headers),
        is_whole: own.is_whole && root.is_whole,
        redirect: own.redirect,
        direct_response: own.direct_response,
        destinations: own.destinations,
        delegate: None,
        at: own.at,
    })
}

/// The blocks under which a delegate's rule holds; none if one of them contradicts every block of the root.
#[must_use]
pub fn merge_matches(root: &[MatchRequest], delegate: &[MatchRequest]) -> Option<Vec<MatchRequest>> {
    if root.is_empty() {
        return Some(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for own in delegate {
        let fitting = root.iter().filter(|root| !is_conflict(root, own));
        let before = merged.len();
        merged.extend(fitting.map(|root| merge_match(root, own)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        ("", own) => own.to_owned(),
        (root, "") => root.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

fn merge_match(root: &MatchRequest, own: &MatchRequest) -> MatchRequest {
    let both = |root: &BTreeMap<String, StringMatch>, own: &BTreeMap<String, StringMatch>| {
        let mut all = root.clone();
        all.extend(own.clone());
        all
    };
    let first = |own: &Option<StringMatch>, root: &Option<StringMatch>| own.clone().or_else(|| root.clone());
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(own.source_labels.clone());
    MatchRequest {
        name: joined(&root.name, &own.name),
        uri: first(&own.uri, &root.uri),
        scheme: first(&own.scheme, &root.scheme),
        method: first(&own.method, &root.method),
        authority: first(&own.authority, &root.authority),
        headers: both(&root.headers, &own.headers),
        without_headers: both(&root.without_headers, &own.without_headers),
        query_params: both(&root.query_params, &own.query_params),
        ignore_uri_case: own.ignore_uri_case,
        port: own.port.or(root.port),
        source_labels,
        source_namespace: own.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways.clone() },
    }
}

/// Whether what a delegate's block takes is not a part of what the root's takes.
#[must_use]
pub fn is_conflict(root: &MatchRequest, own: &MatchRequest) -> bool {
    let named = |root: &BTreeMap<String, StringMatch>, own: &BTreeMap<String, StringMatch>| {
        own.iter().any(|(name, own)| texts_conflict(root.get(name), Some(own)))
    };
    let differ = |root: &Option<String>, own: &Option<String>| root.is_some() && own.is_some() && root != own;
    texts_conflict(root.uri.as_ref(), own.uri.as_ref())
        || texts_conflict(root.scheme.as_ref(), own.scheme.as_ref())
        || texts_conflict(root.method.as_ref(), own.method.as_ref())
        || texts_conflict(root.authority.as_ref(), own.authority.as_ref())
        || named(&root.headers, &own.headers)
        || named(&root.without_headers, &own.without_headers)
        || named(&root.query_params, &own.query_params)
        || root.ignore_uri_case != own.ignore_uri_case
        || root.port.is_some() && own.port.is_some() && root.port != own.port
        || differ(&root.source_namespace, &own.source_namespace)
        || own.source_labels.iter().any(|(key, own)| root.source_labels.get(key).is_some_and(|root| root != own))
        || !root.gateways.is_empty() && own.gateways.iter().any(|name| !root.gateways.contains(name))
}

/// Whether the texts of `own` are not all of `root`. Regular expressions cannot be compared.
fn texts_conflict(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    let (Some(root), Some(own)) = (root, own) else { return false };
    match (root, own) {
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root != own,
        (StringMatch::Prefix(root), StringMatch::Exact(own) | StringMatch::Prefix(own)) => {
            !own.starts_with(root.as_str())
        }
        _ => true,
    }
}
