//! The rules of a route as the gateway's routes.
//!
//! - A rule without a backend, or all of whose weights are 0, answers 500. A backend that cannot be used answers 500 for its share: it is no Service,
//!   there is none of that name or with that port, or it stands in another namespace that does not grant it.
//! - A backend of weight 0 gets nothing; one that stands alone gets all.
//! - A filter that Istio does not have makes the whole route void.
//!
//! Source: istio pilot/pkg/config/kube/gateway/conversion.go.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::filters::{BackendRef, Filters};
use super::http_route::{Backend, HttpRoute, Rule};
use super::reference::Grants;
use crate::gateway::RetryPolicy;
use crate::gateway::retry::RetryOn;
use crate::gateway::routes::{
    Action, Destination, DirectResponse, Forward, HashPolicy, HostRewrite, Mirror, Route, Target,
};
use crate::manifest::istio::clusters::{Clusters, DOMAIN};
use crate::manifest::istio::translate::retry_policy;
use crate::manifest::istio::{destination, retry};
use crate::manifest::object::ISTIO;
use crate::manifest::read::Sink;
use crate::manifest::routes::Around;
use crate::record::results::FidelityStatus;

/// What a route comes to.
#[derive(Default)]
pub(super) struct Built {
    /// One for each match, in the order of writing.
    pub(super) routes: Vec<Arc<Route>>,
    /// What is wrong with its references: reason and words.
    pub(super) unresolved: Option<(&'static str, String)>,
}

struct Located {
    cluster: Arc<str>,
    hash: Option<HashPolicy>,
}

/// Why a backend cannot be used.
struct Unusable {
    reason: &'static str,
    words: String,
    /// The whole route is void.
    is_fatal: bool,
}

struct Builder<'a, 'c> {
    route: &'a HttpRoute,
    around: &'a Around<'a>,
    grants: &'a Grants,
    clusters: Option<&'a Clusters<'c>>,
    sink: &'a Sink,
    built: Built,
    is_void: bool,
}

/// Builds the routes of all rules. Those that take no part need no clusters.
pub(super) fn build(
    route: &HttpRoute,
    around: &Around<'_>,
    grants: &Grants,
    clusters: Option<&Clusters<'_>>,
    sink: &Sink,
) -> Built {
    let mut builder = Builder { route, around, grants, clusters, sink, built: Built::default(), is_void: false };
    for (index, rule) in route.rules.iter().enumerate() {
        builder.add(index, rule);
    }
    let mut built = builder.built;
    if builder.is_void {
        built.routes.clear();
    }
    built
}

impl Builder<'_, '_> {
    fn add(&mut self, index: usize, rule: &Rule) {
        let this = &self.route.this;
        let name: Arc<str> = match &rule.name {
            Some(name) => Arc::from(name.as_str()),
            None => Arc::from(format!("{}.{}.{index}", this.namespace, this.name)),
        };
        self.refuse_unsupported(&rule.filters);
        let mirrors = self.mirrors(&rule.filters);
        let action = match &rule.filters.redirect {
            Some(redirect) => Action::Redirect(redirect.clone()),
            None => self.forward(rule, mirrors),
        };
        for condition in &rule.matches {
            let mut route = Route::new(Arc::clone(&name), condition.clone(), action.clone());
            route.request_headers = rule.filters.request_headers.clone();
            route.response_headers = rule.filters.response_headers.clone();
            route.cors = rule.filters.cors.clone();
            self.built.routes.push(Arc::new(route));
        }
    }

    fn forward(&mut self, rule: &Rule, mirrors: Vec<Mirror>) -> Action {
        let used: Vec<&Backend> = rule.backends.iter().filter(|backend| backend.weight > 0).collect();
        if used.is_empty() {
            return Action::Direct(DirectResponse { status: StatusCode::INTERNAL_SERVER_ERROR, body: Bytes::new() });
        }
        let is_single = used.len() == 1;
        let mut hash = Vec::new();
        let mut destinations = Vec::new();
        for backend in used {
            let (destination, policy) = self.destination(backend);
            destinations.push(destination);
            hash.extend(policy.filter(|policy| !hash.contains(policy)));
        }
        let options = self.around.options;
        let settings = retry::settings(rule.retries.as_ref(), is_single && !hash.is_empty(), options.retries);
        let mut retry = settings.as_ref().map_or(RetryPolicy::NONE, retry_policy);
        if retry.per_try_timeout.is_some() {
            retry.retry_on = retry.retry_on.and(RetryOn::PER_TRY_TIMEOUT);
        }
        Action::Forward(Forward {
            path: rule.filters.path.clone(),
            host: new_host(&rule.filters),
            append_forwarded_host: options.appends_forwarded_host,
            timeout: rule.timeout,
            retry,
            mirrors,
            hash,
            ..Forward::to(destinations)
        })
    }

    fn destination(&mut self, backend: &Backend) -> (Destination, Option<HashPolicy>) {
        let filters = &backend.filters;
        self.refuse_unsupported(filters);
        if !filters.mirrors.is_empty() || filters.cors.is_some() {
            self.void("InvalidFilter", "a backend has a filter that only rules have".to_owned());
        }
        let located = self.cluster(&backend.target);
        let hash = located.as_ref().and_then(|located| located.hash.clone());
        let target = match (located, &filters.redirect) {
            (Some(_), Some(redirect)) => Target::Redirect(Box::new(redirect.clone())),
            (Some(located), None) => Target::Cluster(located.cluster),
            (None, _) => Target::Unavailable(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let destination = Destination {
            target,
            weight: backend.weight,
            request_headers: filters.request_headers.clone(),
            response_headers: filters.response_headers.clone(),
            path: filters.path.clone(),
            host: new_host(filters),
        };
        (destination, hash)
    }

    fn mirrors(&mut self, filters: &Filters) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for (backend, share) in &filters.mirrors {
            mirrors.extend(self.cluster(backend).map(|located| Mirror { cluster: located.cluster, share: *share }));
        }
        mirrors
    }

    fn refuse_unsupported(&mut self, filters: &Filters) {
        if let Some(kind) = filters.unsupported {
            self.void("InvalidFilter", format!("Istio has no filter {kind}"));
        }
    }

    fn void(&mut self, reason: &'static str, words: String) {
        self.is_void = true;
        self.built.unresolved.get_or_insert((reason, words));
    }

    /// The cluster of a backend, and what binds its requests to endpoints; none if it cannot be used.
    fn cluster(&mut self, backend: &BackendRef) -> Option<Located> {
        match self.resolve(backend) {
            Ok((service, port)) => {
                let (namespace, name) = service.split_once('/')?;
                let host = format!("{name}.{namespace}{DOMAIN}");
                let Some(clusters) = self.clusters else {
                    return Some(Located { cluster: Arc::from(format!("outbound|{port}||{host}")), hash: None });
                };
                let proxy = self.around.proxy.namespace().unwrap_or(&self.route.this.namespace);
                let destination = destination::Destination {
                    host,
                    subset: None,
                    port: Some(port),
                    namespace: namespace.to_owned(),
                    at: backend.at,
                    port_at: backend.at,
                    path: "backendRefs".to_owned(),
                };
                let located = clusters.resolve(&destination, proxy, port)?;
                Some(Located { cluster: located.cluster, hash: located.hash })
            }
            Err(Unusable { reason, words, is_fatal }) => {
                let path = format!("{} backendRefs", self.route.this);
                let condition =
                    if reason.is_empty() { String::new() } else { format!(" (ResolvedRefs: False, {reason})") };
                let text = format!("{words}{condition}: requests for it are answered with 500");
                self.sink.note(backend.at, path, FidelityStatus::Warning, Some(&text));
                if is_fatal {
                    self.void(reason, words);
                } else if !reason.is_empty() {
                    self.built.unresolved.get_or_insert((reason, words));
                }
                None
            }
        }
    }

    /// Service and port of a backend.
    fn resolve(&self, backend: &BackendRef) -> Result<(String, u16), Unusable> {
        let unusable = |reason, words: String| Err(Unusable { reason, words, is_fatal: false });
        let to = &backend.to;
        if !self.grants.allow(&self.route.this, to) {
            let words = format!("no ReferenceGrant in {} lets {} name {to}", to.namespace, self.route.this);
            return unusable("RefNotPermitted", words);
        }
        let key = if to.is("", "Service") || to.is("multicluster.x-k8s.io", "ServiceImport") {
            if to.name.contains('.') {
                let words = format!("`{}` is a host name, not the name of a Service", to.name);
                return Err(Unusable { reason: "InvalidDestination", words, is_fatal: true });
            }
            to.key()
        } else if to.is(ISTIO, "Hostname") {
            match to.name.strip_suffix(".svc.cluster.local").and_then(|name| name.split_once('.')) {
                Some((name, namespace)) => format!("{namespace}/{name}"),
                None => return unusable("BackendNotFound", format!("no Service has the host name `{}`", to.name)),
            }
        } else {
            return unusable("InvalidKind", format!("a backend of kind {} cannot be used", to.kind));
        };
        let service = self.around.services.get(&key);
        if service.is_none() && !self.around.declared.contains(&key) {
            return unusable("BackendNotFound", format!("no Service is called `{key}`"));
        }
        let Some(port) = backend.port else {
            let words = format!("the backend `{key}` has no port");
            return Err(Unusable { reason: "InvalidDestination", words, is_fatal: true });
        };
        if service.is_some_and(|service| !service.ports.iter().any(|known| known.port == port)) {
            // The controller does not look at ports; the cluster is just not there.
            return unusable("", format!("Service `{key}` has no port {port}"));
        }
        Ok((key, port))
    }
}

/// The `Host` header for the upstream: of the rewrite, or else of a change to the header.
fn new_host(filters: &Filters) -> Option<HostRewrite> {
    filters.host.clone().or_else(|| filters.authority.clone()).map(HostRewrite::Literal)
}
