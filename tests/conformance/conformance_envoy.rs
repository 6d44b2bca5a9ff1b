//! The route table and the connection manager against the cases of Envoy's own tests.
//!
//! `tests/data/conformance/routing/README.md` says what the fields mean and where the cases come from. Every case of every family is run, and a
//! field that is not looked at fails it. Route configurations are translated by `route_config`. Cases that do not hold are listed with their
//! reasons in `EXCEPTIONS-envoy.md` beside the data.

mod edge;
mod reading;
mod route_config;

use std::borrow::Cow;
use std::net::SocketAddr;

use gatedrill::gateway::downstream::path::{EscapedSlashes, PathPolicy, PathVerdict, merge_slashes, unescape_slashes};
use gatedrill::gateway::downstream::{DownstreamConfig, Peer, Seen, StripPort, Verdict, port_of};
use gatedrill::gateway::parameters::{cookie, decoded, query_parameters};
use gatedrill::gateway::routes::rewrite::{https_location, split_path};
use gatedrill::gateway::routes::{
    Action, AddMode, FormatContext, Found, HeaderOps, HeaderText, PathMatch, RequestView, RouteMatch, Target,
};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Version};
use reading::{Fields, run, same, same_headers};
use route_config::{RouteConfig, header_matches, translate};
use serde_json::{Value, json};

/// A request of a case.
struct Request {
    method: Method,
    scheme: String,
    host: String,
    target: String,
    headers: HeaderMap,
    is_internal: bool,
}

impl Request {
    fn take(case: &mut Fields) -> Self {
        let mut fields = case.object("request");
        let mut request = Self {
            method: fields.text("method").parse().expect("a method"),
            scheme: fields.text("scheme"),
            host: fields.text("host"),
            target: fields.text("target"),
            headers: fields.headers("headers"),
            is_internal: fields.optional_flag("x_envoy_internal").unwrap_or(false),
        };
        fields.done();
        request.headers.insert(HOST, HeaderValue::from_str(&request.host).expect("a host"));
        request
    }

    /// Lets it pass through a connection manager that serves a configuration.
    fn prepare(&mut self, config: &RouteConfig) {
        let manager =
            DownstreamConfig { internal_only: config.internal_only.clone(), ..DownstreamConfig::ISTIO_GATEWAY };
        let peer =
            Peer::new("192.0.2.1".parse().ok(), SocketAddr::from(([192, 0, 2, 2], 8080)), self.scheme == "https");
        let seen = Seen::of(&self.headers);
        match manager.prepare_headers(&mut self.headers, seen, &peer, None, || 0) {
            Verdict::Continue(prepared) => assert_eq!(prepared.scheme.as_str(), self.scheme),
            Verdict::Reply(refusal) => panic!("{refusal:?}"),
        }
    }

    fn view(&self) -> RequestView<'_> {
        let (path, rest) = split_path(&self.target);
        let query = rest.strip_prefix('?').map(|query| query.split('#').next().unwrap_or_default());
        RequestView {
            method: &self.method,
            authority: &self.host,
            scheme: &self.scheme,
            path,
            query,
            headers: &self.headers,
        }
    }

    fn context<'a>(&'a self, request: Option<&'a HeaderMap>) -> FormatContext<'a> {
        FormatContext {
            request,
            method: &self.method,
            target: &self.target,
            scheme: &self.scheme,
            client: None,
            remote: SocketAddr::from(([192, 0, 2, 1], 5000)),
            local: SocketAddr::from(([192, 0, 2, 2], 8080)),
            protocol: Version::HTTP_11,
            route: "",
            status: None,
        }
    }
}

fn config_of(shared: &Fields) -> RouteConfig {
    let config = shared.clone().value("config");
    translate(config, None).expect("a configuration that Envoy takes")
}

/// What becomes of a request, with the names that cases use.
fn outcome(config: &RouteConfig, request: &mut Request, random: u64) -> Value {
    request.prepare(config);
    let Some((host, found)) = config.table.host(&request.host).zip(config.table.find(&request.view())) else {
        return json!({ "route": null, "status": 404 });
    };
    if host.require_tls.redirects(&request.scheme, request.is_internal) {
        return json!({ "location": https_location(&request.view()), "status": 301 });
    }
    let Some(route) = found.route else { return json!({ "route": null, "status": 404 }) };
    let matched = &route.condition.path;
    match &route.action {
        Action::Redirect(redirect) => {
            json!({ "location": redirect.location(&request.view(), matched, 80), "status": redirect.status.as_u16() })
        }
        Action::Direct(direct) => {
            let body = std::str::from_utf8(&direct.body).expect("text");
            json!({ "body": body, "status": direct.status.as_u16() })
        }
        Action::Forward(forward) => {
            let destination = forward.destination(|| random).expect("a destination");
            let cluster = destination.target.cluster(&request.headers).expect("a cluster").to_owned();
            let mut headers = request.headers.clone();
            for changes in found.request_changes(Some(destination)) {
                changes.apply(&mut headers, &request.context(None));
            }
            let target = forward.rewrite(destination, matched, &request.target, &mut headers);
            request.headers = headers;
            let header = |name: &str| request.headers.get(name).map(|value| value.to_str().expect("text"));
            let timeout_ms = forward.timeout.map(|timeout| u64::try_from(timeout.as_millis()).expect("a time-out"));
            json!({
                "cluster": cluster,
                "redirect": null,
                "route_name": &*route.name,
                "timeout_ms": timeout_ms,
                "upstream": {
                    "target": target.as_ref().unwrap_or(&request.target),
                    "host": header("host"),
                    "x-envoy-original-path": header("x-envoy-original-path"),
                    "x-forwarded-host": header("x-forwarded-host"),
                },
            })
        }
    }
}

/// Whether all that is expected is so; what is not told is not compared.
fn covers(outcome: &Value, expected: &Value) -> Result<(), String> {
    let Value::Object(fields) = expected else { return same("it", outcome, expected) };
    for (key, value) in fields {
        match outcome.get(key) {
            None => return Err(format!("{outcome} has no `{key}`")),
            Some(given) => covers(given, value).map_err(|reason| format!("{key}: {reason}"))?,
        }
    }
    Ok(())
}

fn check_routing(shared: &Fields, case: &mut Fields) -> Result<(), String> {
    let config = config_of(shared);
    let mut request = Request::take(case);
    covers(&outcome(&config, &mut request, 0), &case.value("expect"))
}

#[test]
fn conformance_envoy_route_match() {
    run("envoy-route-match", check_routing);
}

#[test]
fn conformance_envoy_redirect() {
    run("envoy-redirect", check_routing);
}

/// Envoy takes the remainder of a random number by the sum of weights; we take a share of 64 bits. The draw is moved to the same place.
#[test]
fn conformance_envoy_weighted_cluster() {
    run("envoy-weighted-cluster", |shared, case| {
        let config = config_of(shared);
        let mut request = Request::take(case);
        let place = u64::try_from(case.number("random")).expect("a random number");
        let sum: u64 = match config.table.find(&request.view()).and_then(|found| found.route).map(|route| &route.action)
        {
            Some(Action::Forward(forward)) => forward.destinations.iter().map(|one| u64::from(one.weight)).sum(),
            other => panic!("{other:?}"),
        };
        let draw = (u128::from(place % sum) << 64).div_ceil(u128::from(sum));
        covers(&outcome(&config, &mut request, u64::try_from(draw).unwrap()), &case.value("expect"))
    });
}

#[test]
fn conformance_envoy_header_match() {
    run("envoy-header-match", |shared, case| {
        let matchers = shared.clone().value("matchers");
        let headers = header_matches(Some(matchers))?;
        let condition = RouteMatch { headers, ..RouteMatch::path(PathMatch::Prefix("/".to_owned())) };
        let headers = case.headers("headers");
        let view = RequestView {
            method: &Method::GET,
            authority: "host",
            scheme: "http",
            path: "/",
            query: None,
            headers: &headers,
        };
        same("the match", condition.holds(&view), case.flag("match"))
    });
}

#[test]
fn conformance_envoy_header_mutation() {
    run("envoy-header-mutation", |shared, case| {
        let config = config_of(shared);
        let mut request = Request::take(case);
        request.prepare(&config);
        let found = config.table.find(&request.view()).expect("a virtual host");
        let is_request = shared.clone().text("direction") == "request";
        let (changes, mut headers, direction) = if is_request {
            (changes_of(&found, true), request.headers.clone(), "request_headers")
        } else {
            (changes_of(&found, false), case.headers("upstream_response_headers"), "response_headers")
        };
        let context = request.context((!is_request).then_some(&request.headers));
        for changes in &changes {
            changes.apply(&mut headers, &context);
        }
        let mut expected = case.object("expect");
        same_headers(&headers, expected.object(direction).all(), &expected.texts("absent"))?;
        expected.left_over()?;
        match case.optional_object("ops_in_order") {
            None => Ok(()),
            Some(mut told) => {
                same_changes(&changes, &mut told)?;
                told.left_over()
            }
        }
    });
}

fn changes_of<'a>(found: &Found<'a>, is_request: bool) -> Vec<&'a HeaderOps> {
    let destination = found.route.and_then(|route| match &route.action {
        Action::Forward(forward) => forward.destination(|| 0),
        Action::Redirect(_) | Action::Direct(_) => None,
    });
    if is_request { found.request_changes(destination) } else { found.response_changes(destination) }
}

/// Compares additions and removals over all lists, in order.
fn same_changes(changes: &[&HeaderOps], told: &mut Fields) -> Result<(), String> {
    for (key, mode) in [("append", AddMode::Append), ("overwrite", AddMode::Overwrite)] {
        let additions = changes.iter().flat_map(|changes| &changes.add).filter(|add| add.mode == mode);
        let given: Vec<(String, String)> = additions
            .map(|add| match &add.value {
                HeaderText::Plain(value) => (add.name.to_string(), value.to_str().expect("text").to_owned()),
                HeaderText::Format(parts) => panic!("{parts:?}"),
            })
            .collect();
        same(key, given, told.pairs(key))?;
    }
    let removals = changes.iter().flat_map(|changes| &changes.remove).map(ToString::to_string);
    same("remove", removals.collect::<Vec<_>>(), told.texts("remove"))
}

#[test]
fn conformance_envoy_invalid_config() {
    run("envoy-invalid-config", |_, case| {
        let validates = case.optional_flag("validate_clusters").unwrap_or(false);
        let known = case.texts("known_clusters");
        let translated = translate(case.value("config"), validates.then_some(&known[..]));
        let reason = case.text("reason");
        match (translated, case.flag("reject")) {
            (Ok(_), false) | (Err(_), true) => Ok(()),
            (Ok(_), true) => Err(format!("it is taken: {reason}")),
            (Err(given), false) => Err(format!("it is refused ({given}): {reason}")),
        }
    });
}

#[test]
fn conformance_envoy_path_normalization() {
    run("envoy-path-normalization", |shared, case| {
        let path = case.text("path");
        let result = case.optional_text("result");
        let given = match shared.clone().text("operation").as_str() {
            "normalize_path" => {
                let verdict = PathPolicy { normalizes: true, ..PathPolicy::NONE };
                let verdict = verdict.apply(&path);
                same("the refusal", verdict == PathVerdict::Reject, case.optional_flag("reject").unwrap_or(false))?;
                match verdict {
                    PathVerdict::Continue(path) => Some(path.into_owned()),
                    PathVerdict::Reject | PathVerdict::Redirect(_) => None,
                }
            }
            "merge_slashes" => Some(merge_slashes(&path)),
            "remove_query_and_fragment" => Some(split_path(&path).0.to_owned()),
            "unescape_slashes" => {
                let unescaped = unescape_slashes(&path);
                same("what was found", unescaped.is_some(), case.flag("found"))?;
                unescaped.or(Some(path))
            }
            other => panic!("an unknown operation: {other}"),
        };
        same("the path", given, result)
    });
}

/// The settings of a connection manager that concern paths and hosts.
fn path_config(mut fields: Fields) -> DownstreamConfig {
    let escaped_slashes = match fields.optional_text("path_with_escaped_slashes_action").as_deref() {
        None => EscapedSlashes::Keep,
        Some("REJECT_REQUEST") => EscapedSlashes::Reject,
        Some("UNESCAPE_AND_REDIRECT") => EscapedSlashes::UnescapeAndRedirect,
        Some("UNESCAPE_AND_FORWARD") => EscapedSlashes::UnescapeAndForward,
        Some(other) => panic!("{other}"),
    };
    let config = DownstreamConfig {
        path: PathPolicy {
            normalizes: fields.optional_flag("normalize_path").unwrap_or(false),
            merges_slashes: fields.optional_flag("merge_slashes").unwrap_or(false),
            escaped_slashes,
        },
        strip_port: match fields.optional_text("strip_port").as_deref() {
            None | Some("none") => StripPort::Keep,
            Some("matching") => StripPort::Matching,
            Some("any") => StripPort::Any,
            Some(other) => panic!("{other}"),
        },
        strips_trailing_dot: fields.optional_flag("strip_trailing_host_dot").unwrap_or(false),
        ..DownstreamConfig::ENVOY
    };
    fields.done();
    config
}

#[test]
fn conformance_envoy_path_policy() {
    run("envoy-path-policy", |_, case| {
        let config = path_config(case.object("config"));
        let result = case.optional_text("result");
        let Some(path) = case.optional_text("path") else {
            let port = u16::try_from(case.number("listener_port")).expect("a port");
            return same("the host", Some(config.host(&case.text("host"), port).into_owned()), result);
        };
        let (action, given) = match config.path.apply(&path) {
            PathVerdict::Continue(path) => ("continue", Some(path.into_owned())),
            PathVerdict::Reject => ("reject", None),
            PathVerdict::Redirect(path) => ("redirect", Some(path)),
        };
        same("the action", action.to_owned(), case.text("action"))?;
        same("the path", given, result)
    });
}

#[test]
fn conformance_envoy_host_header() {
    run("envoy-host-header", |shared, case| {
        let mut shared = shared.clone();
        let host = case.text("host");
        let result = case.value("result");
        let listener_port = shared.optional("listener_port").and_then(|port| port.as_u64()).unwrap_or(0);
        let listener_port = u16::try_from(listener_port).expect("a port");
        let stripped = |strip_port, strips_trailing_dot| {
            let config = DownstreamConfig { strip_port, strips_trailing_dot, ..DownstreamConfig::ENVOY };
            Value::from(config.host(&host, listener_port).into_owned())
        };
        let given = match shared.text("operation").as_str() {
            "has_port" => Value::from(port_of(&host).is_some()),
            "strip_matching_port" => stripped(StripPort::Matching, false),
            "strip_any_port" => stripped(StripPort::Any, false),
            "strip_trailing_dot" => stripped(StripPort::Keep, true),
            other => panic!("an unknown operation: {other}"),
        };
        shared.optional("test");
        shared.left_over()?;
        same("the result", given, result)
    });
}

#[test]
fn conformance_envoy_query_cookie() {
    run("envoy-query-cookie", |_, case| match case.text("operation").as_str() {
        "query_parameters" => {
            let path = case.text("path");
            let query = split_path(&path).1.strip_prefix('?').unwrap_or_default();
            let pairs = |read: fn(&str) -> Cow<'_, str>| -> Vec<(String, String)> {
                query_parameters(query)
                    .map(|(name, value)| (read(name).into_owned(), read(value).into_owned()))
                    .collect()
            };
            same("raw", pairs(|text| Cow::Borrowed(text)), case.pairs("raw"))?;
            same("decoded", pairs(decoded), case.pairs("decoded"))
        }
        "strip_query" => {
            let path = case.text("path");
            same("the path", split_path(&path).0.to_owned(), case.text("result"))
        }
        "cookie" => {
            let values = case.texts("cookie_headers").into_iter().map(|value| ("cookie".to_owned(), value));
            let headers = reading::header_map(&values.collect::<Vec<_>>());
            let value = cookie(&headers, &case.text("name")).map(str::to_owned);
            same("the value", value, case.optional_text("value"))
        }
        other => panic!("an unknown operation: {other}"),
    });
}

/// Vector: hosts and the plain prefix of a VirtualService beside the segments of the Gateway API.
#[test]
fn prefixes_are_plain_or_end_at_a_slash() {
    let headers = HeaderMap::new();
    let holds = |path: PathMatch, target: &str| {
        let (path_text, rest) = split_path(target);
        let view = RequestView {
            method: &Method::GET,
            authority: "h",
            scheme: "http",
            path: path_text,
            query: rest.strip_prefix('?'),
            headers: &headers,
        };
        RouteMatch::path(path).holds(&view)
    };
    let plain = || PathMatch::Prefix("/foo".to_owned());
    let segments = || PathMatch::segments("/foo/").unwrap();
    for (target, is_plain, is_segments) in [
        ("/foo", true, true),
        ("/foo/", true, true),
        ("/foo?x", true, true),
        ("/foobar", true, false),
        ("/fo", false, false),
    ] {
        assert_eq!(holds(plain(), target), is_plain, "{target}");
        assert_eq!(holds(segments(), target), is_segments, "{target}");
    }
}

/// Vector: weights 0/1/3 are 0 %, 25 %, 75 %; a single destination of weight 0 gets all.
#[test]
fn weights_are_shares_of_their_sum() {
    let config = |clusters: Value| {
        let config = json!({ "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "route": { "weighted_clusters": { "clusters": clusters } } },
        ] }] });
        translate(config, None).unwrap()
    };
    let three =
        config(json!([{ "name": "a", "weight": 0 }, { "name": "b", "weight": 1 }, { "name": "c", "weight": 3 }]));
    let Action::Forward(forward) = &three.table.hosts()[0].routes[0].action else { panic!() };
    for (draw, expected) in [(0, "b"), ((1 << 62) - 1, "b"), (1 << 62, "c"), (u64::MAX, "c")] {
        let Target::Cluster(name) = &forward.destination(|| draw).unwrap().target else { panic!() };
        assert_eq!(&**name, expected);
    }
}
