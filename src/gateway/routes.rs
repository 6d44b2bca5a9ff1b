//! From port, host and path to a route.
//!
//! - The host of a request is lower-cased and its port cut off. Look-up order: exact name, then `*.suffix` longest first, then `*`.
//!   A wildcard stands for at least one character, and may span several labels. Once a virtual host is chosen there is no falling back to a
//!   less specific one.
//! - Inside it the first route whose conditions all hold wins. A prefix is a plain string prefix (`/foo` matches `/foobar`); a
//!   regex must match the whole path; the query is not part of the path.
//!
//! Sources: envoy api envoy/config/route/v3/route_components.proto; istio pilot/pkg/networking/core/route/route.go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use super::retry::RetryPolicy;

/// All routes of a gateway: for each port, its virtual hosts.
#[derive(Clone, Default, Debug)]
pub struct Routes {
    ports: BTreeMap<u16, HostTable>,
}

/// A name and the routes for it.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `a.example.com`, `*.example.com` or `*`.
    pub name: String,
    /// Its routes; the first that matches wins.
    pub routes: Vec<Rc<Route>>,
}

/// Conditions and where to go if they hold.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route's name in the access log.
    pub name: Rc<str>,
    /// The condition on the path.
    pub path: PathMatch,
    /// The condition on the method, if any.
    pub method: Option<ValueMatch>,
    /// Conditions on headers; all must hold.
    pub headers: Vec<HeaderMatch>,
    /// Clusters by weight. Not empty; a weight of 0 gets nothing, unless the destination is the only one.
    pub destinations: Vec<Destination>,
    /// From the complete request to the end of the answer, retries included; unset: no limit.
    pub timeout: Option<Duration>,
    /// What is tried again.
    pub retry: RetryPolicy,
}

/// A cluster and its share.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The cluster's name.
    pub cluster: Rc<str>,
    /// Its share, relative to the sum of all.
    pub weight: u32,
}

/// A condition on the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// The path's first characters.
    Prefix(String),
    /// The whole path by regular expression; anchor it with [`anchored`].
    Regex(Regex),
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Any value.
    Present,
    /// The whole value.
    Exact(String),
    /// Its first characters.
    Prefix(String),
    /// The whole value by regular expression; anchor it with [`anchored`].
    Regex(Regex),
}

/// A condition on a header.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// The header.
    pub name: HeaderName,
    /// The condition on its first value.
    pub value: ValueMatch,
    /// The condition must not hold. A missing header then counts as the empty string.
    pub inverted: bool,
}

/// A regular expression that must match a whole text.
///
/// # Errors
///
/// If the expression is not one.
pub fn anchored(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{expression})$"))
}

#[derive(Clone, Default, Debug)]
struct HostTable {
    hosts: Vec<VirtualHost>,
    exact: BTreeMap<String, usize>,
    /// `.example.com` for `*.example.com`.
    suffixes: BTreeMap<String, usize>,
    any: Option<usize>,
}

impl Routes {
    /// Adds a virtual host to a port. Of two with one name the first stays.
    pub fn add(&mut self, port: u16, mut host: VirtualHost) {
        host.name.make_ascii_lowercase();
        let table = self.ports.entry(port).or_default();
        let index = table.hosts.len();
        if host.name == "*" {
            table.any.get_or_insert(index);
        } else if let Some(suffix) = host.name.strip_prefix('*') {
            table.suffixes.entry(suffix.to_owned()).or_insert(index);
        } else {
            table.exact.entry(host.name.clone()).or_insert(index);
        }
        table.hosts.push(host);
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

    /// The virtual host for a `Host` header's value on a port.
    #[must_use]
    pub fn host(&self, port: u16, authority: &str) -> Option<&VirtualHost> {
        let table = self.ports.get(&port)?;
        let name = without_port(authority);
        let lowered: String;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lowered = name.to_ascii_lowercase();
            &lowered
        } else {
            name
        };
        let index = table.exact.get(name).copied().or_else(|| {
            let dots = name.char_indices().filter(|(index, letter)| *letter == '.' && *index > 0);
            dots.into_iter().find_map(|(index, _)| table.suffixes.get(&name[index..]).copied())
        });
        Some(&table.hosts[index.or(table.any.filter(|_| !name.is_empty()))?])
    }

    /// The route of a request.
    #[must_use]
    pub fn find(
        &self,
        port: u16,
        authority: &str,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<&Rc<Route>> {
        let host = self.host(port, authority)?;
        host.routes.iter().find(|route| route.matches(method, path, headers))
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

impl Route {
    fn matches(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let path_holds = match &self.path {
            PathMatch::Exact(text) => path == text,
            PathMatch::Prefix(text) => path.starts_with(text.as_str()),
            PathMatch::Regex(regex) => regex.is_match(path),
        };
        path_holds
            && self.method.as_ref().is_none_or(|wanted| wanted.holds(method.as_str()))
            && self.headers.iter().all(|condition| condition.holds(headers))
    }

    /// Whether every request to its virtual host matches.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Prefix(text) => text == "/",
            PathMatch::Regex(regex) => matches!(regex.as_str(), "^(?:.*)$" | "^(?:*)$"),
            PathMatch::Exact(_) => false,
        };
        any_path && self.method.is_none() && self.headers.is_empty()
    }

    /// The cluster for a draw of 64 uniform bits; drawn once per request and kept over its retries.
    #[must_use]
    pub fn destination(&self, random: impl FnOnce() -> u64) -> Option<&Rc<str>> {
        if let [only] = &self.destinations[..] {
            return Some(&only.cluster);
        }
        let total: u64 = self.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = super::host::random_below(random(), total);
        for destination in &self.destinations {
            match drawn.checked_sub(u64::from(destination.weight)) {
                None => return Some(&destination.cluster),
                Some(rest) => drawn = rest,
            }
        }
        None
    }
}

impl ValueMatch {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(&self.name).map(|value| value.to_str().unwrap_or_default());
        match (value, &self.value, self.inverted) {
            (value, ValueMatch::Present, inverted) => value.is_some() != inverted,
            (Some(value), condition, inverted) => condition.holds(value) != inverted,
            (None, condition, true) => !condition.holds(""),
            (None, _, false) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, path: PathMatch, headers: Vec<HeaderMatch>) -> Rc<Route> {
        let destinations = vec![Destination { cluster: Rc::from(name), weight: 1 }];
        let (method, timeout, retry) = (None, None, RetryPolicy::ISTIO);
        Rc::new(Route { name: Rc::from(name), path, method, headers, destinations, timeout, retry })
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.to_owned())
    }

    #[test]
    fn hosts_are_found_exact_then_longest_suffix_then_any() {
        let mut routes = Routes::default();
        for name in ["a.foo.com", "*.foo.com", "*.com", "*"] {
            routes.add(80, VirtualHost { name: name.to_owned(), routes: Vec::new() });
        }
        let found = |authority| routes.host(80, authority).map(|host| host.name.as_str());
        for (authority, name) in [
            ("a.foo.com:8443", "a.foo.com"),
            ("A.Foo.COM", "a.foo.com"),
            ("x.a.foo.com", "*.foo.com"),
            ("foo.com", "*.com"),
            (".foo.com", "*.com"),
            (".com", "*"),
            ("bar.org", "*"),
        ] {
            assert_eq!(found(authority), Some(name), "{authority}");
        }
        assert_eq!(found(""), None);
        assert!(routes.host(81, "a.foo.com").is_none());
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let gold = HeaderMatch {
            name: HeaderName::from_static("x-tier"),
            value: ValueMatch::Exact("gold".to_owned()),
            inverted: false,
        };
        let mut routes = Routes::default();
        let list = vec![
            route("gold", prefix("/foo"), vec![gold.clone()]),
            route(
                "not-gold-regex",
                PathMatch::Regex(anchored("/v[0-9]+").unwrap()),
                vec![HeaderMatch { inverted: true, ..gold }],
            ),
            route("exact", PathMatch::Exact("/foo".to_owned()), Vec::new()),
            route("prefix", prefix("/foo"), Vec::new()),
        ];
        routes.add(80, VirtualHost { name: "*".to_owned(), routes: list });
        let mut headers = HeaderMap::new();
        let found = |path: &str, headers: &HeaderMap| {
            routes.find(80, "h", &Method::GET, path, headers).map(|route| route.name.to_string())
        };
        assert_eq!(found("/foo", &headers).as_deref(), Some("exact"));
        assert_eq!(found("/foobar", &headers).as_deref(), Some("prefix"));
        assert_eq!(found("/v12", &headers).as_deref(), Some("not-gold-regex"));
        assert_eq!(found("/v12/x", &headers), None);
        headers.insert("x-tier", "gold".parse().unwrap());
        assert_eq!(found("/foobar", &headers).as_deref(), Some("gold"));
        assert_eq!(found("/v12", &headers), None);
    }

    #[test]
    fn weights_share_and_a_single_destination_ignores_its_own() {
        let mut shared = Route::clone(&route("a", prefix("/"), Vec::new()));
        shared.destinations = [("a", 0), ("b", 1), ("c", 3)]
            .map(|(name, weight)| Destination { cluster: Rc::from(name), weight })
            .to_vec();
        let at = |quarter: u64| shared.destination(|| quarter << 62).map(|cluster| cluster.to_string());
        assert_eq!([at(0), at(1), at(2), at(3)].map(Option::unwrap), ["b", "c", "c", "c"]);
        shared.destinations.truncate(1);
        assert_eq!(shared.destination(|| 0).map(|cluster| cluster.to_string()).as_deref(), Some("a"));
        assert!(shared.is_catch_all());
    }
}
