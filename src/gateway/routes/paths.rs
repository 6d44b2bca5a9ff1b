//! The paths of all routes of a table, side by side in memory.
//!
//! A table of ten thousand hosts does not fit the processor's nearest caches, and a route is large. So the last bytes of each route's path are
//! kept apart, host after host: most routes are ruled out, and a route whose condition is a short path alone is found, without a look at the
//! route itself.

use super::Route;
use super::matching::{PathMatch, RequestView};

/// So many bytes of a path are kept: the last ones, which differ where the first ones are all alike.
const KEPT_BYTES: usize = 20;

/// What a route asks of the path, as far as it is kept here.
#[derive(Clone, Copy, Debug)]
struct Key {
    kind: Kind,
    /// Whether the route asks for nothing else.
    is_all: bool,
    /// The length of the whole text.
    length: u16,
    /// The text's last bytes.
    tail: [u8; KEPT_BYTES],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Exact,
    Prefix,
    Segments,
    /// Something that is not kept.
    Other,
}

/// The keys of all routes of a table, and where those of each host begin.
#[derive(Clone, Default, Debug)]
pub(super) struct Paths {
    keys: Vec<Key>,
    ends: Vec<u32>,
}

impl Key {
    fn of(route: &Route) -> Self {
        let condition = &route.condition;
        let (kind, text) = match &condition.path {
            PathMatch::Exact(text) => (Kind::Exact, text.as_str()),
            PathMatch::Prefix(text) => (Kind::Prefix, text.as_str()),
            PathMatch::Segments(text) => (Kind::Segments, text.as_str()),
            PathMatch::Regex(_) => (Kind::Other, ""),
        };
        let (kind, length) = match u16::try_from(text.len()) {
            Ok(length) if !condition.ignore_path_case => (kind, length),
            _ => (Kind::Other, 0),
        };
        let mut kept = [0; KEPT_BYTES];
        for (to, from) in kept.iter_mut().zip(text.bytes().skip(text.len().saturating_sub(KEPT_BYTES))) {
            *to = from;
        }
        let is_all = kind != Kind::Other && text.len() <= KEPT_BYTES && condition.asks_for_path_alone();
        Self { kind, is_all, length, tail: kept }
    }

    /// Whether the kept bytes speak for a path.
    fn allows(&self, path: &[u8]) -> bool {
        let length = usize::from(self.length);
        let kept = length.min(KEPT_BYTES);
        let starts = || path.len() >= length && path[length - kept..length] == self.tail[..kept];
        match self.kind {
            Kind::Other => true,
            Kind::Prefix => starts(),
            Kind::Exact => path.len() == length && starts(),
            Kind::Segments => starts() && matches!(path.get(length), None | Some(b'/')),
        }
    }
}

impl Paths {
    /// Adds the routes of the next host.
    pub(super) fn add<'r>(&mut self, routes: impl IntoIterator<Item = &'r Route>) {
        self.keys.extend(routes.into_iter().map(Key::of));
        self.ends.push(u32::try_from(self.keys.len()).expect("a table of routes is no larger"));
    }

    /// The number of the first route of a host that takes a request, counted over all hosts. `holds` says so of those that the path does not
    /// decide.
    pub(super) fn find(&self, host: usize, request: &RequestView<'_>, holds: impl Fn(usize) -> bool) -> Option<usize> {
        let end = |host: usize| usize::try_from(self.ends[host]).expect("an index has 32 bits at least");
        let start = host.checked_sub(1).map_or(0, end);
        let mut keys = self.keys[start..end(host)].iter().zip(start..);
        let path = request.path.as_bytes();
        keys.find(|(key, number)| key.allows(path) && (key.is_all || holds(*number))).map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::routes::{Action, DirectResponse, RouteMatch, anchored};

    fn path() -> impl Strategy<Value = PathMatch> {
        let text = "/[ab/]{0,3}|/a{18,22}";
        prop_oneof![
            text.prop_map(PathMatch::Exact),
            text.prop_map(PathMatch::Prefix),
            text.prop_map(|text| PathMatch::segments(&text).unwrap()),
            Just(PathMatch::Regex(anchored("/a.*").unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn the_keys_find_what_the_conditions_find(
            hosts in prop::collection::vec(prop::collection::vec((path(), any::<bool>(), any::<bool>()), 0..6), 1..4),
            target in "/[aAb/]{0,4}|/b?a{17,24}",
        ) {
            let hosts: Vec<Vec<Route>> = hosts.into_iter().map(|routes| routes.into_iter().map(|(path, ignore, post)| {
                let mut condition = RouteMatch::path(path);
                condition.ignore_path_case = ignore;
                condition.method = post.then(|| crate::gateway::ValueMatch::Exact("POST".to_owned()));
                let direct = DirectResponse { status: http::StatusCode::OK, body: bytes::Bytes::new() };
                Route::new("", condition, Action::Direct(direct))
            }).collect()).collect();
            let mut paths = Paths::default();
            for routes in &hosts {
                paths.add(routes);
            }
            let headers = HeaderMap::new();
            let view = RequestView {
                method: &Method::GET, authority: "h", scheme: "http", path: &target, query: None, headers: &headers,
            };
            let all: Vec<&Route> = hosts.iter().flatten().collect();
            let mut start = 0;
            for (host, routes) in hosts.iter().enumerate() {
                let naive = routes.iter().position(|route| route.condition.holds(&view)).map(|index| start + index);
                prop_assert_eq!(paths.find(host, &view, |number| all[number].condition.holds(&view)), naive);
                start += routes.len();
            }
        }
    }
}
