//! Route configurations with the field names of Envoy's v3 API, as far as the vectors use them, as our route tables. What Envoy refuses is
//! refused, and so is a field that this does not know.
//!
//! Source: envoy api envoy/config/route/v3/{route,route_components}.proto, source/common/router/config_impl.cc.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use gatedrill::gateway::RetryPolicy;
use gatedrill::gateway::routes::{
    Action, AddMode, Destination, DirectResponse, Forward, HeaderAdd, HeaderMatch, HeaderOps, HostRewrite, Millionths,
    Mirror, PathMatch, PathRewrite, PortRoutes, QueryMatch, Redirect, RedirectPort, RegexRewrite, RequireTls, Route,
    RouteMatch, Target, ValueMatch, VirtualHost, anchored,
};
use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::reading::{Fields, list};

/// Why a configuration is refused.
pub(super) type Refused = String;

/// Envoy's default time-out of a route.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default limit of a direct response's body.
const BODY_BYTES_MAX: usize = 4096;

/// A table, and the headers that only internal clients may send.
pub(super) struct RouteConfig {
    /// The table.
    pub(super) table: PortRoutes,
    /// The headers.
    pub(super) internal_only: Vec<HeaderName>,
}

/// Translates a route configuration. Where clusters are given, no other may be named.
pub(super) fn translate(config: Value, clusters: Option<&[String]>) -> Result<RouteConfig, Refused> {
    let mut fields = Fields::of("config", config);
    let mut table = PortRoutes::default();
    table.request_headers = changes(&mut fields, "request")?;
    table.response_headers = changes(&mut fields, "response")?;
    table.most_specific_last = fields.optional_flag("most_specific_header_mutations_wins").unwrap_or(false);
    table.port_counts = !fields.optional_flag("ignore_port_in_host_matching").unwrap_or(false);
    table.ignores_path_parameters = fields.optional_flag("ignore_path_parameters_in_path_matching").unwrap_or(false);
    fields.optional_text("name");
    let limit = fields.optional("max_direct_response_body_size_bytes").and_then(|limit| limit.as_u64());
    let context = Context {
        clusters,
        body_bytes_max: limit.map_or(BODY_BYTES_MAX, |limit| usize::try_from(limit).expect("a limit")),
    };
    let names = fields.texts("internal_only_headers");
    let internal_only = names.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?;
    let mut domains = BTreeSet::new();
    for host in fields.objects("virtual_hosts") {
        let host = context.virtual_host(host)?;
        for domain in &host.domains {
            if !domains.insert(domain.to_ascii_lowercase()) {
                return Err(format!("{domain} twice"));
            }
        }
        table.add(host);
    }
    fields.left_over()?;
    Ok(RouteConfig { table, internal_only })
}

/// What translating needs beside the fields at hand.
struct Context<'a> {
    clusters: Option<&'a [String]>,
    body_bytes_max: usize,
}

impl Context<'_> {
    fn virtual_host(&self, mut fields: Fields) -> Result<VirtualHost, Refused> {
        let require_tls = match fields.optional_text("require_tls").as_deref() {
            None => RequireTls::No,
            Some("all") => RequireTls::All,
            Some("external_only") => RequireTls::External,
            Some(other) => return Err(format!("require_tls {other}")),
        };
        let routes = fields.objects("routes").into_iter().map(|route| self.route(route).map(Arc::new));
        let routes = routes.collect::<Result<_, _>>()?;
        let host = VirtualHost {
            domains: fields.texts("domains"),
            require_tls,
            request_headers: changes(&mut fields, "request")?,
            response_headers: changes(&mut fields, "response")?,
            ..VirtualHost::new(fields.text("name"), routes)
        };
        fields.left_over()?;
        Ok(host)
    }

    fn route(&self, mut fields: Fields) -> Result<Route, Refused> {
        let condition = condition(fields.optional_object("match").ok_or("no match")?)?;
        let name = fields.optional_text("name").unwrap_or_default();
        let actions = [
            fields.optional_object("route"),
            fields.optional_object("redirect"),
            fields.optional_object("direct_response"),
        ];
        let action = match actions {
            [Some(route), None, None] => Action::Forward(self.forward(route)?),
            [None, Some(redirect), None] => Action::Redirect(self::redirect(redirect)?),
            [None, None, Some(direct)] => Action::Direct(self.direct_response(direct)?),
            _ => return Err("not one action".to_owned()),
        };
        let route = Route {
            request_headers: changes(&mut fields, "request")?,
            response_headers: changes(&mut fields, "response")?,
            ..Route::new(name, condition, action)
        };
        fields.left_over()?;
        Ok(route)
    }

    fn forward(&self, mut fields: Fields) -> Result<Forward, Refused> {
        let forward = Forward {
            path: path_rewrite(&mut fields, None)?,
            host: host_rewrite(&mut fields)?,
            append_forwarded_host: fields.optional_flag("append_x_forwarded_host").unwrap_or(false),
            timeout: match fields.optional_text("timeout") {
                None => Some(TIMEOUT),
                Some(text) => {
                    let seconds =
                        text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).ok_or("no duration")?;
                    Some(Duration::from_secs(seconds)).filter(|timeout| !timeout.is_zero())
                }
            },
            retry: RetryPolicy::NONE,
            mirrors: fields
                .objects("request_mirror_policies")
                .into_iter()
                .map(|one| self.mirror(one))
                .collect::<Result<_, _>>()?,
            ..Forward::to(self.destinations(&mut fields)?)
        };
        for upgrade in fields.objects("upgrade_configs") {
            self::upgrade(upgrade)?;
        }
        fields.left_over()?;
        Ok(forward)
    }

    fn destinations(&self, fields: &mut Fields) -> Result<Vec<Destination>, Refused> {
        let weighted = fields.optional_object("weighted_clusters");
        let single = self.target(fields, "cluster")?;
        let mut weighted = match (single, weighted) {
            (Some(target), None) => return Ok(vec![destination(target, 1)]),
            (None, Some(weighted)) => weighted,
            _ => return Err("not one of cluster, cluster_header and weighted_clusters".to_owned()),
        };
        weighted.optional_text("runtime_key_prefix");
        let mut destinations = Vec::new();
        for mut one in weighted.objects("clusters") {
            let target = self.target(&mut one, "name")?.ok_or("neither name nor cluster_header")?;
            let weight = u32::try_from(one.number("weight")).map_err(|error| error.to_string())?;
            destinations.push(destination(target, weight));
            one.left_over()?;
        }
        weighted.left_over()?;
        let sum: u64 = destinations.iter().map(|one| u64::from(one.weight)).sum();
        if sum == 0 || sum > u64::from(u32::MAX) { Err(format!("weights sum up to {sum}")) } else { Ok(destinations) }
    }

    /// A cluster by its name, or by a header that tells it.
    fn target(&self, fields: &mut Fields, key: &str) -> Result<Option<Target>, Refused> {
        match (fields.optional_text(key), fields.optional_text("cluster_header")) {
            (None, None) => Ok(None),
            (Some(name), None) => self.known(&name).map(|()| Some(Target::Cluster(name.into()))),
            (None, Some(header)) => {
                let header = if header == ":authority" { "host" } else { &header };
                header_name(header).map(|name| Some(Target::ClusterHeader(name)))
            }
            (Some(_), Some(_)) => Err(format!("{key} and cluster_header")),
        }
    }

    fn known(&self, cluster: &str) -> Result<(), Refused> {
        match self.clusters {
            Some(known) if !known.iter().any(|name| name == cluster) => Err(format!("no cluster {cluster}")),
            _ => Ok(()),
        }
    }

    fn mirror(&self, mut fields: Fields) -> Result<Mirror, Refused> {
        let share = fields.optional_object("runtime_fraction").map_or(Ok(Millionths::ALL), |mut fraction| {
            fraction.optional_text("runtime_key");
            let mut value = fraction.object("default_value");
            let numerator = u32::try_from(value.number("numerator")).expect("a share");
            let share = match value.text("denominator").as_str() {
                "HUNDRED" => Millionths(numerator * 10_000),
                other => return Err(format!("denominator {other}")),
            };
            value.left_over().and_then(|()| fraction.left_over()).map(|()| share)
        })?;
        let cluster = match self.target(&mut fields, "cluster")? {
            Some(Target::Cluster(name)) => name,
            None => return Err("neither cluster nor cluster_header".to_owned()),
            Some(other) => return Err(format!("a mirror cannot go to {other:?}")),
        };
        fields.left_over()?;
        Ok(Mirror { cluster, share })
    }

    fn direct_response(&self, mut fields: Fields) -> Result<DirectResponse, Refused> {
        let status = status(fields.number("status"))?;
        let body = fields.optional_object("body").map_or(Ok(Bytes::new()), body)?;
        fields.left_over()?;
        if body.len() > self.body_bytes_max {
            return Err(format!("a body of {} bytes", body.len()));
        }
        Ok(DirectResponse { status, body })
    }
}

fn destination(target: Target, weight: u32) -> Destination {
    Destination { target, ..Destination::cluster("", weight) }
}

fn status(number: i64) -> Result<StatusCode, Refused> {
    let number = u16::try_from(number).map_err(|error| error.to_string())?;
    StatusCode::from_u16(number).map_err(|error| error.to_string())
}

fn header_name(name: &str) -> Result<HeaderName, Refused> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())
}

/// A body; the vectors give the text of a file in place of its name.
fn body(mut fields: Fields) -> Result<Bytes, Refused> {
    let body = if let Some(bytes) = fields.optional_text("inline_bytes") {
        base64::engine::general_purpose::STANDARD.decode(bytes).expect("base64").into()
    } else if let Some(mut repeated) = fields.optional_object("inline_string_repeat") {
        let count = usize::try_from(repeated.number("count")).expect("a count");
        repeated.text("character").repeat(count).into()
    } else {
        let text = fields.optional_text("inline_string").or_else(|| fields.optional_text("filename"));
        text.ok_or("an unknown kind of body")?.into()
    };
    fields.left_over().map(|()| body)
}

/// An upgrade of a route; the vectors have only such as are refused.
fn upgrade(mut fields: Fields) -> Result<(), Refused> {
    let kind = fields.text("upgrade_type");
    fields.optional_flag("enabled");
    if fields.optional_object("connect_config").is_some() && !kind.eq_ignore_ascii_case("CONNECT") {
        return Err(format!("connect_config on {kind}"));
    }
    fields.left_over()
}

fn redirect(mut fields: Fields) -> Result<Redirect, Refused> {
    let https = fields.optional_flag("https_redirect").unwrap_or(false).then(|| "https".to_owned());
    let whole = fields.optional_text("path_redirect").map(|path| PathRewrite::full(&path)).transpose();
    let status = match fields.optional_text("response_code").as_deref() {
        None | Some("MOVED_PERMANENTLY") => StatusCode::MOVED_PERMANENTLY,
        Some("TEMPORARY_REDIRECT") => StatusCode::TEMPORARY_REDIRECT,
        Some(other) => return Err(format!("response_code {other}")),
    };
    let port = fields.optional("port_redirect").and_then(|port| port.as_u64()).map(u16::try_from);
    let port = port.transpose().map_err(|error| error.to_string())?;
    let redirect = Redirect {
        scheme: fields.optional_text("scheme_redirect").or(https),
        host: fields.optional_text("host_redirect"),
        port: port.map_or(RedirectPort::Keep, RedirectPort::Number),
        path: path_rewrite(&mut fields, whole.map_err(|error| error.to_string())?)?,
        strip_query: fields.optional_flag("strip_query").unwrap_or(false),
        status,
    };
    fields.left_over()?;
    Ok(redirect)
}

/// One rewrite of the path at most: the whole path, a prefix, or matches of an expression.
fn path_rewrite(fields: &mut Fields, whole: Option<PathRewrite>) -> Result<Option<PathRewrite>, Refused> {
    let prefix = fields.optional_text("prefix_rewrite").map(PathRewrite::Prefix);
    let regex = fields.optional_object("regex_rewrite").map(regex_rewrite).transpose()?.map(PathRewrite::Regex);
    only_one([whole, prefix, regex].into_iter().flatten().collect())
}

fn host_rewrite(fields: &mut Fields) -> Result<Option<HostRewrite>, Refused> {
    let literal = fields.optional_text("host_rewrite_literal").map(|host| HostRewrite::literal(&host));
    let header = fields.optional_text("host_rewrite_header").map(|name| HostRewrite::header(&name));
    let named =
        [literal, header].into_iter().flatten().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let path = fields.optional_object("host_rewrite_path_regex").map(regex_rewrite).transpose()?.map(HostRewrite::Path);
    only_one(named.into_iter().chain(path).collect())
}

fn only_one<T>(mut found: Vec<T>) -> Result<Option<T>, Refused> {
    if found.len() > 1 { Err("two rewrites".to_owned()) } else { Ok(found.pop()) }
}

fn regex_rewrite(mut fields: Fields) -> Result<RegexRewrite, Refused> {
    let pattern = regex(fields.object("pattern"))?;
    let rewrite = RegexRewrite::new(&pattern, fields.text("substitution")).map_err(|error| error.to_string());
    fields.left_over().and(rewrite)
}

fn regex(mut fields: Fields) -> Result<String, Refused> {
    let regex = fields.text("regex");
    fields.left_over().map(|()| regex)
}

fn condition(mut fields: Fields) -> Result<RouteMatch, Refused> {
    let whole = fields.optional_object("safe_regex").map(regex).transpose()?;
    let paths = [
        fields.optional_text("prefix").map(|prefix| Ok(PathMatch::Prefix(prefix))),
        fields.optional_text("path").map(|path| Ok(PathMatch::Exact(path))),
        whole.map(|regex| anchored(&regex).map(PathMatch::Regex).map_err(|error| error.to_string())),
        fields
            .optional_text("path_separated_prefix")
            .map(|prefix| PathMatch::segments(&prefix).map_err(|error| error.to_string())),
    ];
    let mut paths = paths.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
    let path = paths.pop().filter(|_| paths.is_empty()).ok_or("not one condition on the path")?;
    let condition = RouteMatch {
        ignore_path_case: !fields.optional_flag("case_sensitive").unwrap_or(true),
        headers: header_matches(fields.optional("headers"))?,
        query: fields.objects("query_parameters").into_iter().map(query_match).collect::<Result<_, _>>()?,
        ..RouteMatch::path(path)
    };
    fields.left_over()?;
    Ok(condition)
}

/// Conditions on headers.
pub(super) fn header_matches(matchers: Option<Value>) -> Result<Vec<HeaderMatch>, Refused> {
    let matchers = matchers.map(list).unwrap_or_default();
    matchers.into_iter().map(|one| header_match(Fields::of("headers", one))).collect()
}

fn header_match(mut fields: Fields) -> Result<HeaderMatch, Refused> {
    let name = header_name(&fields.text("name"))?;
    let inverted = fields.optional_flag("invert_match").unwrap_or(false);
    let present = fields.optional_flag("present_match").unwrap_or(true);
    let (text, ignore_case) = fields.optional_object("string_match").map_or(Ok((None, false)), string_match)?;
    let range = fields.optional_object("range_match").map(|mut range| {
        let value = ValueMatch::Range(range.number("start"), range.number("end"));
        range.left_over().map(|()| value)
    });
    let condition = HeaderMatch {
        ignore_case,
        inverted: inverted == present,
        missing_is_empty: fields.optional_flag("treat_missing_header_as_empty").unwrap_or(false),
        ..HeaderMatch::new(name, text.or(range.transpose()?).unwrap_or(ValueMatch::Present))
    };
    fields.left_over()?;
    Ok(condition)
}

fn query_match(mut fields: Fields) -> Result<QueryMatch, Refused> {
    fields.optional_flag("present_match");
    let (value, ignore_case) = fields.optional_object("string_match").map_or(Ok((None, false)), string_match)?;
    let name = fields.text("name");
    fields.left_over()?;
    Ok(QueryMatch { name, value: value.unwrap_or(ValueMatch::Present), ignore_case })
}

fn string_match(mut fields: Fields) -> Result<(Option<ValueMatch>, bool), Refused> {
    let regex = fields.optional_object("safe_regex").map(regex).transpose()?;
    let regex =
        regex.map(|regex| anchored(&regex).map(ValueMatch::Regex)).transpose().map_err(|error| error.to_string())?;
    let texts = [
        fields.optional_text("exact").map(ValueMatch::Exact),
        fields.optional_text("prefix").map(ValueMatch::Prefix),
        fields.optional_text("suffix").map(ValueMatch::Suffix),
        fields.optional_text("contains").map(ValueMatch::Contains),
        regex,
    ];
    let ignore_case = fields.optional_flag("ignore_case").unwrap_or(false);
    fields.left_over()?;
    Ok((texts.into_iter().flatten().next(), ignore_case))
}

fn changes(fields: &mut Fields, direction: &str) -> Result<HeaderOps, Refused> {
    let mut changes = HeaderOps::default();
    for mut one in fields.objects(&format!("{direction}_headers_to_add")) {
        let mode = match one.optional_text("append_action").as_deref() {
            None | Some("APPEND_IF_EXISTS_OR_ADD") => AddMode::Append,
            Some("OVERWRITE_IF_EXISTS_OR_ADD") => AddMode::Overwrite,
            Some("ADD_IF_ABSENT") => AddMode::KeepExisting,
            Some("OVERWRITE_IF_EXISTS") => AddMode::OverwriteOnly,
            Some(other) => return Err(format!("append_action {other}")),
        };
        let mut header = one.object("header");
        let add =
            HeaderAdd::new(&header.text("key"), &header.text("value"), mode).map_err(|error| error.to_string())?;
        header.left_over().and_then(|()| one.left_over())?;
        changes.add.push(add);
    }
    for name in fields.texts(&format!("{direction}_headers_to_remove")) {
        changes.also_remove(&name).map_err(|error| error.to_string())?;
    }
    Ok(changes)
}
