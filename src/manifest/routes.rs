//! What the routing objects of all APIs come to: the gateway's listeners, its routes, and the services behind.
//!
//! `istio` reads and translates Istio's objects, `gateway_api` those of the Gateway API; this room has what the translators share and what their callers ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::istio::clusters::Clusters;
use super::object::Object;
use super::problem::{Place, Problem};
use super::read::Sink;
use super::service::{ServiceManifest, TargetPort};
use super::{gateway_api, istio};
use crate::gateway::ClusterConfig;
use crate::gateway::locality::EndpointPolicy;
use crate::gateway::routes::{Routes, VirtualHost};
use crate::record::results::FidelityStatus;

/// What the gateway gets.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// Where it listens for plain HTTP: the port it binds, and the Service port by which its routes know it.
    pub listeners: Vec<(u16, u16)>,
    /// Its routes.
    pub routes: Routes,
    /// The virtual hosts of servers with TLS, by Istio's name of their table.
    pub secure: BTreeMap<String, Vec<VirtualHost>>,
    /// The services behind.
    pub upstreams: Vec<Upstream>,
    /// Where the first object with routes that takes part stands.
    pub first_route_at: Option<Place>,
    /// Where the first DestinationRule names its host.
    pub first_policy_at: Option<Place>,
    /// Clusters that routes lead to and that are not there, each with the first place that names it.
    pub nowhere: BTreeMap<Arc<str>, Place>,
    /// Gateways of Istio whose selector holds for no pod of the target, by `namespace/name`.
    pub unselected: BTreeSet<String>,
}

/// A service behind the gateway, or a subset of its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// `namespace/name` of the Service, or the host's name where it is none of Kubernetes.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// Labels that its endpoints have; empty: all endpoints of the Service.
    pub subset: BTreeMap<String, String>,
    /// How requests are spread, how many may be under way, which endpoints are put aside.
    pub config: ClusterConfig,
    /// Which endpoints come first.
    pub endpoints: EndpointPolicy,
    /// Where the route names it.
    pub at: Place,
}

/// What the objects are looked up in.
pub struct Around<'a> {
    /// The gateway.
    pub proxy: Proxy<'a>,
    /// All Services, by key.
    pub services: &'a BTreeMap<String, ServiceManifest>,
    /// Services that are there without a manifest, by key. They have all ports.
    pub declared: &'a [String],
    /// Hosts that are there and are no Services of Kubernetes. They have all ports.
    pub hosts: &'a [String],
    /// What becomes of a route to a service that is not there.
    pub missing: Missing,
    /// Services, by key, and the ports of them, that there are at some other time: a route to one that is not there now is no slip of the pen, and is answered.
    pub sometimes: &'a BTreeMap<String, BTreeSet<u16>>,
    /// Where versions and settings of the mesh differ.
    pub options: Options,
}

/// Which gateway it is.
#[derive(Clone, Copy, Debug)]
pub enum Proxy<'a> {
    /// The pods of a Deployment.
    Pods {
        /// Their labels.
        labels: &'a BTreeMap<String, String>,
        /// Their named ports.
        ports: &'a BTreeMap<String, u16>,
        /// The Service in front of them.
        front: &'a ServiceManifest,
    },
    /// Whichever the objects are for: those of these keys, or all if there are none.
    Named(&'a [String]),
}

/// What becomes of a route to something that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// It is a problem: whoever wrote it meant something else.
    Refused,
    /// It is told, and the gateway answers 503, as the real one does: nobody checks what is applied to a cluster that runs.
    Answered,
}

/// Where versions and settings of the mesh differ.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Istio's own conditions of retries.
    pub retries: istio::retry::Defaults,
    /// The first endpoint is ejected whatever `maxEjectionPercent` says. Source: envoy changelogs/1.28.0 (`check_mep_on_first_eject`), Istio 1.20.
    pub always_ejects_one: bool,
    /// Gateways are told of endpoints that are not ready. Source: istio pull 60690, Istio 1.31.
    pub tells_unready: bool,
    /// `x-forwarded-host` gets the former host where it is rewritten. Source: istio mesh configuration `proxyHeaders.xForwardedHost`.
    pub appends_forwarded_host: bool,
}

impl Options {
    /// Those of a version of Istio, such as `1.26`.
    #[must_use]
    pub fn of(version: &str) -> Self {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
        let number = (parts.next().unwrap_or(1), parts.next().unwrap_or(u32::MAX));
        Self {
            retries: istio::retry::Defaults::of(number),
            always_ejects_one: number < (1, 20),
            tells_unready: number >= (1, 31),
            appends_forwarded_host: false,
        }
    }
}

impl Around<'_> {
    /// Whether a Service is there at some other time, with this port if it is told.
    #[must_use]
    pub fn is_there_sometimes(&self, key: &str, port: Option<u16>) -> bool {
        self.sometimes.get(key).is_some_and(|ports| port.is_none_or(|port| ports.contains(&port)))
    }
}

impl Proxy<'_> {
    /// The port that is bound for a Service's port, and whether the Service in front has that port.
    #[must_use]
    pub fn bound(&self, number: u16) -> (u16, bool) {
        let Self::Pods { ports, front, .. } = self else { return (number, true) };
        match front.ports.iter().find(|port| port.port == number).map(|port| &port.target) {
            Some(TargetPort::Number(target)) => (*target, true),
            Some(TargetPort::Name(name)) => (ports.get(name).copied().unwrap_or(number), true),
            None => (number, false),
        }
    }

    /// Its namespace; none where it has that of its Gateway object.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Pods { front, .. } => front.service.key.split('/').next(),
            Self::Named(_) => None,
        }
    }
}

impl Routing {
    /// Takes in another. Of two virtual hosts with one name on a port the other's stays: this may have one that answers 404 to all.
    fn add(&mut self, other: Self) {
        let mut routes = other.routes;
        for port in self.routes.ports() {
            let table = routes.port_mut(port);
            self.routes.port(port).iter().flat_map(|own| own.hosts()).for_each(|host| table.add(host.clone()));
        }
        self.routes = routes;
        for listener in other.listeners {
            if !self.listeners.contains(&listener) {
                self.listeners.push(listener);
            }
        }
        self.secure.extend(other.secure);
        self.upstreams.extend(other.upstreams);
        self.first_route_at = self.first_route_at.or(other.first_route_at);
    }
}

/// Reads all routing objects, of both APIs.
pub fn read(objects: &[Object], around: &Around<'_>, sink: &Sink) -> Routing {
    let before = sink.problem_count();
    let config = istio::Config::read(objects, sink);
    let is_istio_whole = sink.problem_count() == before;
    let clusters = Clusters::new(around, &config.destination_rules, sink);
    let found = gateway_api::translate(objects, around, &clusters, sink);
    let mut routing = istio::table::build(&config, is_istio_whole && !found.has_gateway, around, &clusters, sink);
    if let (true, false, Proxy::Pods { front, .. }) = (config.gateways.is_empty(), found.has_gateway, around.proxy) {
        found.tell_services(front, around.missing, sink);
        if !objects.iter().any(|object| object.id.kind == "Gateway") {
            tell_no_gateway(front, around.missing, sink);
        }
    }
    routing.add(found.routing);
    (routing.upstreams, routing.nowhere) = clusters.into_upstreams();
    routing.first_policy_at = config.destination_rules.first().map(|rule| rule.at);
    routing
}

/// Reports what is wrong with each routing object by itself.
pub fn check_each(objects: &[Object], sink: &Sink) {
    istio::check(objects, sink);
    gateway_api::check(objects, sink);
}

/// Nothing configures the pods behind a Service.
fn tell_no_gateway(front: &ServiceManifest, missing: Missing, sink: &Sink) {
    if missing == Missing::Answered {
        let (path, text) =
            (format!("Service {}", front.service.key), "no Gateway configures its pods then: they listen nowhere");
        sink.note(front.annotations_at, path, FidelityStatus::Warning, Some(text));
        return;
    }
    let text = "no Gateway configures the target, so it would listen nowhere";
    let problem = Problem::at(front.annotations_at, "", text);
    sink.report(problem.help("add an Istio Gateway whose selector matches its pods"));
}

#[cfg(test)]
mod tests {
    use super::Options;
    use super::istio::retry::Defaults;

    #[test]
    fn versions_differ_where_istio_changed() {
        let found = |version| {
            let options = Options::of(version);
            (options.always_ejects_one, options.retries, options.tells_unready)
        };
        assert_eq!(found("1.19"), (true, Defaults::With503, false));
        assert_eq!(found("1.20"), (false, Defaults::With503, false));
        assert_eq!(found("1.23"), (false, Defaults::With503, false));
        assert_eq!(found("1.24"), (false, Defaults::Now, false));
        assert_eq!(found("1.30"), (false, Defaults::Now, false));
        assert_eq!(found("1.31"), (false, Defaults::Now, true));
    }
}
