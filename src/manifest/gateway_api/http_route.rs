//! `HTTPRoute`.
//!
//! - Without rules there is one that matches everything and has no backend.
//! - `timeouts.request` limits the whole request. `timeouts.backendRequest` limits each try where there are retries, and else the whole request.
//!   Zero is no limit.
//! - `retry` is on failures to connect, refused streams and the listed codes. Without it Istio's default holds.
//!
//! Source: gateway-api apis/v1/httproute_types.go; istio pilot/pkg/config/kube/gateway/conversion.go.

use std::time::Duration;

use super::filters::{BackendRef, Filters, read_backend, read_filters};
use super::gateway::created;
use super::matches::{catch_all, read_matches};
use super::reference::{ParentRef, Reference, read_parents};
use super::values;
use crate::gateway::routes::{PathMatch, RouteMatch};
use crate::manifest::istio::retry::Retries;
use crate::manifest::object::Object;
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields, Sink};

/// An `HTTPRoute`.
#[derive(Debug)]
pub(super) struct HttpRoute {
    pub(super) this: Reference,
    pub(super) created: Option<String>,
    pub(super) parents: Vec<ParentRef>,
    /// Empty: any.
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) at: Place,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) matches: Vec<RouteMatch>,
    pub(super) filters: Filters,
    pub(super) backends: Vec<Backend>,
    pub(super) timeout: Option<Duration>,
    /// None: Istio's default.
    pub(super) retries: Option<Retries>,
}

/// A backend and its share.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) target: BackendRef,
    pub(super) weight: u32,
    pub(super) filters: Filters,
}

/// Matches of all rules together.
const MATCHES_MAX: usize = 128;

/// Reads an `HTTPRoute`.
pub(super) fn read(object: &Object, sink: &Sink) -> Option<HttpRoute> {
    let prefix = object.prefix();
    let fields = super::open(object, &prefix, &["v1", "v1beta1"], sink)?;
    let spec_field = fields.look("spec");
    fields.finish();
    let Some(spec) = spec_field.and_then(|field| field.fields()) else {
        fields.missing("spec", "an HTTPRoute names its Gateways and has rules");
        return None;
    };
    let namespace = &object.id.namespace;
    let parents = read_parents(&spec, namespace);
    let hostnames = values::items(&spec, "hostnames", 16);
    let hostnames = hostnames.iter().filter_map(|item| values::hostname(item).map(str::to_owned)).collect();
    let items = values::items(&spec, "rules", 16);
    let rules: Vec<Option<Rule>> = items.iter().map(|item| read_rule(item, namespace)).collect();
    let names: Vec<Option<&str>> = rules.iter().map(|rule| rule.as_ref()?.name.as_deref()).collect();
    values::refuse_twice(&items, &names, |name| format!("`{name}` is the name of another rule too"));
    if let Some(field) = spec.look("rules") {
        let count: usize = rules.iter().flatten().map(|rule| rule.matches.len()).sum();
        let help = format!("an HTTPRoute has at most {MATCHES_MAX}: make two of it");
        values::refuse_unless(&field, count <= MATCHES_MAX, &format!("its rules have {count} matches"), &help);
        values::refuse_unless(&field, !items.is_empty(), "the list is empty", "write a rule, or take `rules` out");
    }
    spec.ignore_unless("useDefaultGateways", "None", "routes are attached by their parentRefs only");
    spec.finish();
    let rules = if spec.look("rules").is_some() { rules.into_iter().flatten().collect() } else { vec![empty_rule()] };
    Some(HttpRoute {
        this: Reference::of(object),
        created: created(object),
        parents,
        hostnames,
        rules,
        at: object.place(),
    })
}

fn empty_rule() -> Rule {
    Rule {
        name: None,
        matches: vec![catch_all()],
        filters: Filters::default(),
        backends: Vec::new(),
        timeout: None,
        retries: None,
    }
}

fn read_rule(item: &Field<'_>, namespace: &str) -> Option<Rule> {
    let fields = item.fields()?;
    let name = fields.look("name").and_then(|field| values::section_name(&field).map(str::to_owned));
    let matches = read_matches(&fields);
    let has_one_prefix = match &matches[..] {
        [only] => {
            matches!(only.path, PathMatch::Segments(_))
                && fields.look("matches").is_none_or(|field| field.node().items().len() <= 1)
        }
        _ => false,
    };
    let filters = read_filters(&fields, has_one_prefix, namespace);
    let items = values::items(&fields, "backendRefs", 16);
    let mut backends = Vec::new();
    for item in &items {
        backends.extend(read_weighted(item, has_one_prefix, namespace));
    }
    if filters.redirect.is_some() && !items.is_empty() {
        let field = fields.look("backendRefs");
        let help = "take the backends out, or the filter RequestRedirect";
        field.iter().for_each(|field| field.refuse("a redirected request goes to no backend", help));
    }
    let (request, backend) = fields.look("timeouts").map_or((None, None), |field| read_timeouts(&field));
    let retries = fields.look("retry").map(|field| read_retry(&field));
    fields.ignore(&["sessionPersistence"], "not simulated");
    fields.finish();
    let (timeout, retries) = match (retries, backend) {
        (None, Some(backend)) => (Some(backend), None),
        (None, None) => (request, None),
        (Some(retries), backend) => (request, Some(Retries { per_try_timeout: backend, ..retries? })),
    };
    Some(Rule { name, matches, filters, backends, timeout, retries })
}

fn read_weighted(item: &Field<'_>, has_one_prefix: bool, namespace: &str) -> Option<Backend> {
    let fields = item.fields()?;
    let target = read_backend(item, &fields, namespace);
    let weight = fields.get("weight").map_or(Some(1), |field| field.whole(0, 1_000_000));
    let filters = read_filters(&fields, has_one_prefix, namespace);
    fields.finish();
    Some(Backend { target: target?, weight: weight?, filters })
}

/// The limits of the whole request and of a try; zero is none.
fn read_timeouts(field: &Field<'_>) -> (Option<Duration>, Option<Duration>) {
    let Some(fields) = field.fields() else { return (None, None) };
    let span = |fields: &Fields<'_>, key: &str| {
        let span = fields.get(key).and_then(|field| values::duration(&field));
        span.filter(|span| !span.is_zero())
    };
    let (request, backend) = (span(&fields, "request"), span(&fields, "backendRequest"));
    fields.finish();
    if let (Some(request), Some(backend)) = (request, backend) {
        let help = "write a backendRequest up to the request";
        values::refuse_unless(field, backend <= request, "a try may take longer than the request", help);
    }
    (request, backend)
}

fn read_retry(field: &Field<'_>) -> Option<Retries> {
    let fields = field.fields()?;
    let attempts = fields.get("attempts").map_or(Some(2), |field| field.whole::<u32>(0, i64::from(i32::MAX)));
    let backoff = fields.get("backoff").map(|field| values::duration(&field));
    let items = values::items(&fields, "codes", usize::MAX);
    let codes: Vec<Option<u16>> = items.iter().map(|item| item.whole(400, 599)).collect();
    values::refuse_twice(&items, &codes, |code| format!("{code} stands twice"));
    fields.finish();
    let conditions = ["connect-failure", "refused-stream", "unavailable", "cancelled"];
    let codes = codes.iter().flatten().map(u16::to_string);
    Some(Retries {
        attempts: attempts?,
        per_try_timeout: None,
        backoff: backoff.map_or(Some(None), |backoff| backoff.map(Some))?.filter(|base| !base.is_zero()),
        retry_on: conditions.map(str::to_owned).into_iter().chain(codes).collect(),
        remote_localities: false,
        avoid_previous_hosts: None,
    })
}
