//! A rule of a VirtualService into routes.
//!
//! - Each `match` block is one route. Conditions on port, gateways and the gateway's pods are settled here; blocks that fail them make none.
//! - Routes behind one that takes all requests are left out.
//! - A prefix is a plain text, or of whole segments in what Istio makes of the Gateway API.
//! - One destination ignores its weight; of several those with a weight of 0 are left out.
//!
//! Sources: istio pilot/pkg/networking/core/route/route.go.

use std::sync::Arc;

use http::{HeaderName, StatusCode};

use super::actions::{self, PortChoice};
use super::clusters::Clusters;
use super::cors::CorsPolicy;
use super::fault;
use super::headers::{self, HeaderChanges, Headers};
use super::http_route::HttpRoute;
use super::matches::{MatchRequest, jwt_claim};
use super::retry;
use super::string_match::StringMatch;
use super::virtual_service::VirtualService;
use crate::gateway::RetryPolicy;
use crate::gateway::retry::RetryOn;
use crate::gateway::routes::{
    Abort, Action, AddMode, Cors, Destination, DirectResponse, Fault, Forward, HeaderAdd, HeaderMatch, HeaderOps,
    HostRewrite, Millionths, Mirror, PathMatch, PathRewrite, QueryMatch, Redirect, RedirectPort, RegexRewrite, Route,
    RouteMatch, ValueMatch, anchored,
};
use crate::manifest::routes::{Options, Proxy};

/// For whom routes are made.
pub(super) struct Context<'c, 'a> {
    /// The gateway's pods.
    pub(super) proxy: Proxy<'c>,
    /// Their namespace.
    pub(super) namespace: &'c str,
    /// The Gateway object's key.
    pub(super) gateway: &'c str,
    /// The server's port.
    pub(super) port: u16,
    /// Settings of the mesh.
    pub(super) options: Options,
    /// Where destinations lead.
    pub(super) clusters: &'c Clusters<'a>,
}

/// The routes of a VirtualService on a server's port; none if all of its blocks are for others.
pub(super) fn routes(service: &VirtualService, context: &Context<'_, '_>) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for rule in &service.http {
        let any = [MatchRequest::default()];
        let blocks = if rule.matches.is_empty() { &any[..] } else { &rule.matches[..] };
        for block in blocks.iter().filter(|block| context.applies(block)) {
            let Some(condition) = condition(block, service.has_gateway_semantics) else { continue };
            let Some(action) = action(rule, block, service.has_gateway_semantics, context) else { continue };
            let is_catch_all = condition.is_catch_all();
            routes.push(Arc::new(route(rule, block, condition, action)));
            if is_catch_all {
                return routes;
            }
        }
    }
    routes
}

impl Context<'_, '_> {
    /// Whether the conditions of a block that do not depend on the request hold.
    fn applies(&self, block: &MatchRequest) -> bool {
        if block.port.is_some_and(|port| port != self.port) {
            return false;
        }
        if !block.gateways.is_empty() {
            return block.gateways.iter().any(|name| name == self.gateway);
        }
        let has_labels = match self.proxy {
            Proxy::Pods { labels, .. } => block.source_labels.iter().all(|(key, value)| labels.get(key) == Some(value)),
            Proxy::Named(_) => block.source_labels.is_empty(),
        };
        has_labels && block.source_namespace.as_ref().is_none_or(|namespace| namespace == self.namespace)
    }
}

fn route(rule: &HttpRoute, block: &MatchRequest, condition: RouteMatch, action: Action) -> Route {
    let name = if block.name.is_empty() { rule.name.clone() } else { format!("{}.{}", rule.name, block.name) };
    let changes = rule.headers.clone().unwrap_or_default();
    Route {
        request_headers: header_ops(&changes.request),
        response_headers: header_ops(&changes.response),
        fault: rule.fault.as_ref().map(fault_of),
        cors: rule.cors.as_ref().map(cors_of),
        ..Route::new(name, condition, action)
    }
}

/// The conditions of a block; none if no request meets them.
fn condition(block: &MatchRequest, has_segments: bool) -> Option<RouteMatch> {
    let path = match &block.uri {
        None | Some(StringMatch::Present) => PathMatch::Prefix("/".to_owned()),
        Some(StringMatch::Exact(text)) => PathMatch::Exact(text.clone()),
        Some(StringMatch::Prefix(text)) if has_segments && text != "/" => {
            PathMatch::Segments(text.strip_suffix('/').unwrap_or(text).to_owned())
        }
        Some(StringMatch::Prefix(text)) => PathMatch::Prefix(text.clone()),
        Some(StringMatch::Regex(text)) => PathMatch::Regex(anchored(text).ok()?),
    };
    let mut found = RouteMatch {
        ignore_path_case: block.ignore_uri_case,
        method: optional(&block.method)?,
        authority: optional(&block.authority)?,
        scheme: optional(&block.scheme)?,
        ..RouteMatch::path(path)
    };
    for (name, value) in &block.headers {
        // Tokens are not validated, so no request has a claim.
        if jwt_claim(name).is_some() {
            return None;
        }
        let value = value_match(value)?;
        match name.as_str() {
            ":method" => found.method = Some(value),
            ":authority" => found.authority = Some(value),
            ":scheme" => found.scheme = Some(value),
            name => found.headers.push(HeaderMatch::new(HeaderName::try_from(name).ok()?, value)),
        }
    }
    for (name, value) in block.without_headers.iter().filter(|(name, _)| jwt_claim(name).is_none()) {
        let condition = HeaderMatch::new(HeaderName::try_from(name).ok()?, value_match(value)?);
        let missing_is_empty = *value != StringMatch::Present;
        found.headers.push(HeaderMatch { inverted: true, missing_is_empty, ..condition });
    }
    for (name, value) in &block.query_params {
        found.query.push(QueryMatch { name: name.clone(), value: value_match(value)?, ignore_case: false });
    }
    Some(found)
}

fn optional(condition: &Option<StringMatch>) -> Option<Option<ValueMatch>> {
    match condition {
        None => Some(None),
        Some(condition) => Some(Some(value_match(condition)?)),
    }
}

fn value_match(condition: &StringMatch) -> Option<ValueMatch> {
    Some(match condition {
        StringMatch::Present => ValueMatch::Present,
        StringMatch::Exact(text) => ValueMatch::Exact(text.clone()),
        StringMatch::Prefix(text) => ValueMatch::Prefix(text.clone()),
        StringMatch::Regex(text) => ValueMatch::Regex(anchored(text).ok()?),
    })
}

/// What becomes of a request; none if all of its destinations are refused.
fn action(rule: &HttpRoute, block: &MatchRequest, has_segments: bool, context: &Context<'_, '_>) -> Option<Action> {
    if let Some(redirect) = &rule.redirect {
        return redirect_of(redirect, has_segments).map(Action::Redirect);
    }
    if let Some(direct) = &rule.direct_response {
        let status = StatusCode::from_u16(direct.status).ok()?;
        return Some(Action::Direct(DirectResponse { status, body: direct.body.clone().into() }));
    }
    let is_single = rule.destinations.len() == 1;
    let kept = rule.destinations.iter().filter(|one| is_single || one.weight > 0);
    let mut destinations = Vec::new();
    let mut hash = Vec::new();
    let own_host = rule.rewrite.as_ref().and_then(|rewrite| rewrite.authority.clone());
    let changed_host = rule.headers.as_ref().and_then(|changes| changes.request.authority().map(str::to_owned));
    let host = own_host.or(changed_host).map(HostRewrite::Literal);
    for one in kept {
        let located = context.clusters.resolve(&one.destination, context.namespace, context.port)?;
        hash.extend(located.hash.filter(|policy| !hash.contains(policy)));
        let empty = Headers::default();
        let changes = one.headers.as_ref().unwrap_or(&empty);
        let destination = Destination::cluster(located.cluster, if is_single { 1 } else { one.weight });
        destinations.push(Destination {
            request_headers: header_ops(&changes.request),
            response_headers: header_ops(&changes.response),
            // What the route says of the host comes first.
            host: changes
                .request
                .authority()
                .filter(|_| host.is_none())
                .map(|host| HostRewrite::Literal(host.to_owned())),
            ..destination
        });
    }
    if destinations.is_empty() {
        return None;
    }
    let settings = retry::settings(rule.retries.as_ref(), is_single && !hash.is_empty(), context.options.retries);
    Some(Action::Forward(Forward {
        path: rule.rewrite.as_ref().and_then(|rewrite| path_rewrite(rewrite, block, has_segments)),
        host,
        append_forwarded_host: context.options.appends_forwarded_host,
        timeout: rule.timeout.filter(|timeout| !timeout.is_zero()),
        retry: settings.as_ref().map_or(RetryPolicy::NONE, retry_policy),
        mirrors: mirrors(rule, context),
        hash,
        ..Forward::to(destinations)
    }))
}

fn redirect_of(redirect: &actions::Redirect, has_segments: bool) -> Option<Redirect> {
    let prefix = redirect.prefix_rewrite.clone();
    let prefix = prefix.map(|text| if has_segments { PathRewrite::Segments(text) } else { PathRewrite::Prefix(text) });
    Some(Redirect {
        scheme: redirect.scheme.clone(),
        host: redirect.authority.clone(),
        port: match redirect.port {
            // Deriving from the protocol is what Envoy does without any setting.
            None | Some(PortChoice::OfProtocol) => RedirectPort::Keep,
            Some(PortChoice::Number(port)) => RedirectPort::Number(port),
            Some(PortChoice::OfRequest) => RedirectPort::OfListener,
        },
        path: redirect.uri.clone().map(PathRewrite::Full).or(prefix),
        strip_query: false,
        status: StatusCode::from_u16(redirect.code).ok()?,
    })
}

fn path_rewrite(rewrite: &actions::Rewrite, block: &MatchRequest, has_segments: bool) -> Option<PathRewrite> {
    if let Some((pattern, substitution)) = &rewrite.regex {
        return RegexRewrite::new(pattern, substitution.clone()).ok().map(PathRewrite::Regex);
    }
    let uri = rewrite.uri.clone()?;
    Some(match &block.uri {
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => PathRewrite::Full(uri),
        _ if has_segments => PathRewrite::Segments(uri),
        _ => PathRewrite::Prefix(uri),
    })
}

fn mirrors(rule: &HttpRoute, context: &Context<'_, '_>) -> Vec<Mirror> {
    let located = rule.mirrors.iter().filter_map(|mirror| {
        let located = context.clusters.resolve(&mirror.destination, context.namespace, context.port)?;
        Some(Mirror { cluster: located.cluster, share: mirror.share.map_or(Millionths::ALL, Millionths) })
    });
    located.collect()
}

/// The longest interval is ten times the base. Source: envoy source/common/router/retry_policy_impl.cc.
pub(in crate::manifest) fn retry_policy(settings: &retry::RetrySettings) -> RetryPolicy {
    let list = settings.conditions.join(",");
    let base = settings.backoff.unwrap_or(RetryPolicy::ISTIO.backoff_base);
    RetryPolicy {
        attempts: settings.attempts,
        per_try_timeout: settings.per_try_timeout,
        retry_on: RetryOn::parse(&list).0.and(RetryOn::parse_grpc(&list).0),
        retriable_status_codes: settings.codes.clone().into(),
        backoff_base: base,
        backoff_max: base.saturating_mul(10),
        avoids_previous_hosts: settings.avoids_previous_hosts,
        retry_remote_localities: settings.tries_other_priorities,
        ..RetryPolicy::NONE
    }
}

/// Changes of headers, in the order of their names. Internal ones are left out.
fn header_ops(changes: &HeaderChanges) -> HeaderOps {
    let is_internal = |name: &str| name.starts_with(':') || headers::is_authority(name);
    let mut ops = HeaderOps::default();
    for (pairs, mode) in [(&changes.set, AddMode::Overwrite), (&changes.add, AddMode::Append)] {
        let mut pairs: Vec<&(String, String)> = pairs.iter().filter(|(name, _)| !is_internal(name)).collect();
        pairs.sort();
        for (name, value) in pairs {
            if let Ok(add) = HeaderAdd::new(name, value, mode) {
                ops.add.push(add);
            }
        }
    }
    let removed = changes.remove.iter().filter(|name| !is_internal(name));
    ops.remove = removed.filter_map(|name| HeaderName::try_from(name).ok()).collect();
    ops
}

fn fault_of(fault: &fault::Fault) -> Fault {
    let abort = fault.abort.and_then(|(abort, share)| {
        let abort = match abort {
            fault::Abort::Http(status) => Abort::Http(StatusCode::from_u16(status).ok()?),
            fault::Abort::Grpc(status) => Abort::Grpc(status),
        };
        Some((abort, Millionths(share)))
    });
    Fault { delay: fault.delay.map(|(delay, share)| (delay, Millionths(share))), abort }
}

fn cors_of(policy: &CorsPolicy) -> Cors {
    Cors {
        origins: policy.origins.iter().filter_map(value_match).collect(),
        methods: policy.methods.clone(),
        headers: policy.headers.clone(),
        expose: policy.expose.clone(),
        max_age: policy.max_age,
        credentials: policy.credentials.unwrap_or(false),
        forwards_unmatched: policy.forwards_unmatched,
    }
}
