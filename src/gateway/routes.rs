//! From port, host and path to a route.
//!
//! - The host of a request is lower-cased and its port cut off (Istio's `ignore_port_in_host_matching`). Look-up order: exact name, then `*.suffix` longest first, then `prefix.*`
//!   longest first, then `*`. A wildcard stands for at least one character, and may span several labels. Once a virtual host is chosen there
//!   is no falling back to a less specific one.
//! - Inside it the first route whose conditions all hold wins.
//!
//! One table serves all sources of configuration: Istio's objects and those of the Gateway API are translated into it.
//! Sources: envoy api envoy/config/route/v3/route_components.proto; istio pilot/pkg/networking/core/route/route.go.

pub mod action;
pub mod format;
pub mod headers;
mod hosts;
pub mod matching;
mod paths;
pub mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use action::{
    Abort, Action, Cors, Destination, DirectResponse, Fault, Forward, HashPolicy, HostRewrite, Millionths, Mirror,
    PathRewrite, Redirect, RedirectPort, RegexRewrite, Target,
};
pub use format::{FormatContext, HeaderText};
pub use headers::{AddMode, HeaderAdd, HeaderOps, InvalidHeader};
use hosts::HostIndex;
pub use matching::{HeaderMatch, PathMatch, QueryMatch, RequestView, RouteMatch, ValueMatch, anchored};
use paths::Paths;

/// All routes of a gateway: for each port its table.
#[derive(Clone, Default, Debug)]
pub struct Routes {
    ports: BTreeMap<u16, PortRoutes>,
}

/// The routes of one port.
#[derive(Clone, Default, Debug)]
pub struct PortRoutes {
    /// Changes to all requests.
    pub request_headers: HeaderOps,
    /// Changes to all responses.
    pub response_headers: HeaderOps,
    /// The changes of the whole table are made first and those of the route last, so that the route's win. Istio leaves it off.
    pub most_specific_last: bool,
    /// The port of a `Host` header belongs to the name that is looked up. Istio leaves it off.
    pub port_counts: bool,
    /// What follows a semicolon in the path is not looked at. Istio leaves it off.
    pub ignores_path_parameters: bool,
    hosts: Vec<VirtualHost>,
    index: HostIndex,
    /// The routes of all hosts, in the hosts' order.
    routes: Vec<Arc<Route>>,
    paths: Paths,
}

/// Names and the routes for them.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Its name in the configuration.
    pub name: String,
    /// `a.example.com`, `*.example.com`, `www.*` or `*`.
    pub domains: Vec<String>,
    /// Its routes; the first that matches wins.
    pub routes: Vec<Arc<Route>>,
    /// Who is sent to HTTPS instead.
    pub require_tls: RequireTls,
    /// Changes to all its requests.
    pub request_headers: HeaderOps,
    /// Changes to all its responses.
    pub response_headers: HeaderOps,
}

/// Whether plain HTTP is answered with a redirect to HTTPS.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RequireTls {
    /// It is served.
    #[default]
    No,
    /// It is redirected.
    All,
    /// It is redirected for clients from outside.
    External,
}

/// Conditions and what is done if they hold.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route's name in the access log.
    pub name: Arc<str>,
    /// Its conditions.
    pub condition: RouteMatch,
    /// What is done.
    pub action: Action,
    /// Changes to the request.
    pub request_headers: HeaderOps,
    /// Changes to the response.
    pub response_headers: HeaderOps,
    /// Trouble made on purpose.
    pub fault: Option<Fault>,
    /// Who else may read answers in a browser.
    pub cors: Option<Cors>,
}

/// Where a request has come to.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The table of its port.
    pub table: &'a PortRoutes,
    /// Its virtual host.
    pub host: &'a VirtualHost,
    /// Its route; none if no condition holds.
    pub route: Option<&'a Arc<Route>>,
}

impl VirtualHost {
    /// The host of one name.
    #[must_use]
    pub fn new(name: impl Into<String>, routes: Vec<Arc<Route>>) -> Self {
        let name = name.into();
        Self {
            domains: vec![name.clone()],
            name,
            routes,
            require_tls: RequireTls::No,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        }
    }
}

impl Routes {
    /// Adds a virtual host to a port. Of two with one domain the first keeps it.
    pub fn add(&mut self, port: u16, host: VirtualHost) {
        self.port_mut(port).add(host);
    }

    /// The table of a port, made empty if there is none yet: it answers 404 to all.
    pub fn port_mut(&mut self, port: u16) -> &mut PortRoutes {
        self.ports.entry(port).or_default()
    }

    /// The table of a port.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&PortRoutes> {
        self.ports.get(&port)
    }

    /// The ports with routes.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.keys().copied()
    }

    /// How many routes there are, over all ports and hosts.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.ports.values().flat_map(|table| &table.hosts).map(|host| host.routes.len()).sum()
    }

    /// Where a request to a port comes to; none if no virtual host has its name.
    #[must_use]
    pub fn find(&self, port: u16, request: &RequestView<'_>) -> Option<Found<'_>> {
        self.ports.get(&port)?.find(request)
    }
}

impl PortRoutes {
    /// Adds a virtual host. Of two with one domain the first keeps it.
    pub fn add(&mut self, host: VirtualHost) {
        let index = self.hosts.len();
        for domain in &host.domains {
            self.index.add(&domain.to_ascii_lowercase(), index);
        }
        self.paths.add(host.routes.iter().map(|route| &**route));
        self.routes.extend(host.routes.iter().map(Arc::clone));
        self.hosts.push(host);
    }

    /// Its virtual hosts, in the order in which they were added.
    #[must_use]
    pub fn hosts(&self) -> &[VirtualHost] {
        &self.hosts
    }

    /// Where a request comes to; none if no virtual host has its name.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Option<Found<'_>> {
        let index = self.host_index(request.authority)?;
        let path = match self.ignores_path_parameters {
            true => request.path.split(';').next().unwrap_or_default(),
            false => request.path,
        };
        let request = RequestView { path, ..*request };
        let number = self.paths.find(index, &request, |number| self.routes[number].condition.holds(&request));
        Some(Found { table: self, host: &self.hosts[index], route: number.map(|number| &self.routes[number]) })
    }

    /// The virtual host for the value of a `Host` header.
    #[must_use]
    pub fn host(&self, authority: &str) -> Option<&VirtualHost> {
        self.host_index(authority).map(|index| &self.hosts[index])
    }

    fn host_index(&self, authority: &str) -> Option<usize> {
        let name = if self.port_counts { authority } else { rewrite::split_port(authority).0 };
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.index.find(&name.to_ascii_lowercase());
        }
        self.index.find(name)
    }
}

impl RequireTls {
    /// Whether a request is sent to HTTPS instead: with 301, to [`rewrite::https_location`].
    #[must_use]
    pub fn redirects(self, scheme: &str, is_internal: bool) -> bool {
        let concerns = match self {
            Self::No => false,
            Self::All => true,
            Self::External => !is_internal,
        };
        concerns && scheme != "https"
    }
}

impl Forward {
    /// To these destinations, with Istio's retries and nothing else.
    #[must_use]
    pub fn to(destinations: Vec<Destination>) -> Self {
        Self {
            destinations,
            path: None,
            host: None,
            append_forwarded_host: false,
            timeout: None,
            retry: crate::gateway::RetryPolicy::ISTIO,
            mirrors: Vec::new(),
            hash: Vec::new(),
        }
    }

    /// The destination for a draw of 64 uniform bits; drawn once per request and kept over its retries.
    #[must_use]
    pub fn destination(&self, random: impl FnOnce() -> u64) -> Option<&Destination> {
        if let [only] = &self.destinations[..] {
            return Some(only);
        }
        let total: u64 = self.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = super::host::random_below(random(), total);
        for destination in &self.destinations {
            match drawn.checked_sub(u64::from(destination.weight)) {
                None => return Some(destination),
                Some(rest) => drawn = rest,
            }
        }
        None
    }
}

impl Destination {
    /// A cluster and its share.
    #[must_use]
    pub fn cluster(name: impl Into<Arc<str>>, weight: u32) -> Self {
        Self {
            target: Target::Cluster(name.into()),
            weight,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            path: None,
            host: None,
        }
    }
}

impl Route {
    /// A route without extras.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, condition: RouteMatch, action: Action) -> Self {
        Self {
            name: name.into(),
            condition,
            action,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            fault: None,
            cors: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};

    use super::*;

    fn route(name: &str, path: PathMatch, headers: Vec<HeaderMatch>) -> Arc<Route> {
        let action = Action::Forward(Forward::to(vec![Destination::cluster(name, 1)]));
        Arc::new(Route::new(name, RouteMatch { headers, ..RouteMatch::path(path) }, action))
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.to_owned())
    }

    #[test]
    fn hosts_are_found_exact_then_longest_suffix_then_longest_prefix_then_any() {
        let mut routes = Routes::default();
        for name in ["a.foo.com", "*.foo.com", "*.com", "foo.*", "*"] {
            routes.add(80, VirtualHost::new(name, Vec::new()));
        }
        let found = |authority| routes.port(80).unwrap().host(authority).map(|host| host.name.as_str());
        for (authority, name) in [
            ("a.foo.com:8443", "a.foo.com"),
            ("A.Foo.COM", "a.foo.com"),
            ("x.a.foo.com", "*.foo.com"),
            ("foo.com", "*.com"),
            (".foo.com", "*.com"),
            (".com", "*"),
            ("FOO.org", "foo.*"),
            ("foo.", "*"),
            ("bar.org", "*"),
        ] {
            assert_eq!(found(authority), Some(name), "{authority}");
        }
        assert_eq!(found(""), None);
        assert!(routes.port(81).is_none());
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let gold = HeaderMatch::new(HeaderName::from_static("x-tier"), ValueMatch::Exact("gold".to_owned()));
        let not_gold = HeaderMatch { inverted: true, missing_is_empty: true, ..gold.clone() };
        let mut routes = Routes::default();
        let list = vec![
            route("gold", prefix("/foo"), vec![gold]),
            route("not-gold-regex", PathMatch::Regex(anchored("/v[0-9]+").unwrap()), vec![not_gold]),
            route("exact", PathMatch::Exact("/foo".to_owned()), Vec::new()),
            route("prefix", prefix("/foo"), Vec::new()),
            route("segments", PathMatch::Segments("/seg".to_owned()), Vec::new()),
        ];
        routes.add(80, VirtualHost::new("*", list));
        let mut headers = HeaderMap::new();
        let found = |path: &str, headers: &HeaderMap| {
            let view = RequestView { method: &Method::GET, authority: "h", scheme: "http", path, query: None, headers };
            routes.find(80, &view).and_then(|found| found.route).map(|route| route.name.to_string())
        };
        assert_eq!(found("/foo", &headers).as_deref(), Some("exact"));
        assert_eq!(found("/foobar", &headers).as_deref(), Some("prefix"));
        assert_eq!(found("/v12", &headers).as_deref(), Some("not-gold-regex"));
        assert_eq!(found("/v12/x", &headers), None);
        assert_eq!(found("/seg/x", &headers).as_deref(), Some("segments"));
        assert_eq!(found("/segment", &headers), None);
        headers.insert("x-tier", "gold".parse().unwrap());
        assert_eq!(found("/foobar", &headers).as_deref(), Some("gold"));
        assert_eq!(found("/v12", &headers), None);
    }

    #[test]
    fn weights_share_and_a_single_destination_ignores_its_own() {
        let destinations = [("a", 0), ("b", 1), ("c", 3)].map(|(name, weight)| Destination::cluster(name, weight));
        let mut shared = Forward::to(destinations.to_vec());
        let at = |shared: &Forward, quarter: u64| match &shared.destination(|| quarter << 62).unwrap().target {
            Target::Cluster(name) => name.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!([0, 1, 2, 3].map(|quarter| at(&shared, quarter)), ["b", "c", "c", "c"]);
        shared.destinations.truncate(1);
        assert_eq!(at(&shared, 0), "a");
        assert!(RouteMatch::path(prefix("/")).is_catch_all());
    }
}
