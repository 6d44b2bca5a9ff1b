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

use super::Around;
use super::filters::{BackendRef, Filters};
use super::http_route::{Backend, HttpRoute, Rule};
use super::reference::Grants;
use crate::gateway::Policy;
use crate::gateway::routes::{Action, Destination, DirectResponse, Forward, HostRewrite, Mirror, Route, Target};
use crate::manifest::object::ISTIO;
use crate::manifest::read::Sink;
use crate::manifest::routes::Upstream;
use crate::record::results::FidelityStatus;

/// What a route comes to.
#[derive(Default)]
pub(super) struct Built {
    /// One for each match, in the order of writing.
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) upstreams: Vec<Upstream>,
    /// What is wrong with its references: reason and words.
    pub(super) unresolved: Option<(&'static str, String)>,
}

/// What a backend cannot be used for.
struct Unusable {
    reason: &'static str,
    words: String,
    /// The whole route is void.
    is_fatal: bool,
}

struct Builder<'a> {
    route: &'a HttpRoute,
    around: &'a Around<'a>,
    grants: &'a Grants,
    sink: &'a Sink,
    built: Built,
    is_void: bool,
}

/// Builds the routes of all rules.
pub(super) fn build(route: &HttpRoute, around: &Around<'_>, grants: &Grants, sink: &Sink) -> Built {
    let mut builder = Builder { route, around, grants, sink, built: Built::default(), is_void: false };
    for (index, rule) in route.rules.iter().enumerate() {
        builder.add(index, rule);
    }
    let mut built = builder.built;
    if builder.is_void {
        built.routes.clear();
        built.upstreams.clear();
    }
    built
}

impl Builder<'_> {
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
        let destinations = used.into_iter().map(|backend| self.destination(backend)).collect();
        Action::Forward(Forward {
            path: rule.filters.path.clone(),
            host: new_host(&rule.filters),
            timeout: rule.timeout,
            retry: rule.retry.clone(),
            mirrors,
            ..Forward::to(destinations)
        })
    }

    fn destination(&mut self, backend: &Backend) -> Destination {
        let filters = &backend.filters;
        self.refuse_unsupported(filters);
        if !filters.mirrors.is_empty() || filters.cors.is_some() {
            self.void("InvalidFilter", "a backend has a filter that only rules have".to_owned());
        }
        let target = match (self.cluster(&backend.target), &filters.redirect) {
            (Some(_), Some(redirect)) => Target::Redirect(Box::new(redirect.clone())),
            (Some(cluster), None) => Target::Cluster(cluster),
            (None, _) => Target::Unavailable(StatusCode::INTERNAL_SERVER_ERROR),
        };
        Destination {
            target,
            weight: backend.weight,
            request_headers: filters.request_headers.clone(),
            response_headers: filters.response_headers.clone(),
            path: filters.path.clone(),
            host: new_host(filters),
        }
    }

    fn mirrors(&mut self, filters: &Filters) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for (backend, share) in &filters.mirrors {
            mirrors.extend(self.cluster(backend).map(|cluster| Mirror { cluster, share: *share }));
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

    /// The cluster of a backend; none if it cannot be used.
    fn cluster(&mut self, backend: &BackendRef) -> Option<Arc<str>> {
        match self.resolve(backend) {
            Ok((service, port)) => {
                let (namespace, name) = service.split_once('/')?;
                let cluster: Arc<str> = Arc::from(format!("outbound|{port}||{name}.{namespace}.svc.cluster.local"));
                if !self.built.upstreams.iter().any(|known| known.cluster == cluster) {
                    let policy = Policy::LeastRequest;
                    let (cluster, at) = (Arc::clone(&cluster), backend.at);
                    self.built.upstreams.push(Upstream { cluster, service, port, policy, at });
                }
                Some(cluster)
            }
            Err(Unusable { reason, words, is_fatal }) => {
                let path = format!("{} backendRefs", self.route.this);
                let text = format!("{words}: requests for it are answered with 500");
                self.sink.note(backend.at, path, FidelityStatus::Modelled, Some(&text));
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
        let ports = service.map(|service| service.ports.as_slice()).unwrap_or_default();
        if !ports.is_empty() && !ports.iter().any(|known| known.port == port) {
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
