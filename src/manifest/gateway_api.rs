//! The Gateway API: `GatewayClass`, `Gateway`, `ListenerSet`, `HTTPRoute`, `ReferenceGrant` into the gateway's listeners, routes and clusters,
//! as Istio's controller does it.
//!
//! - Objects are checked as the API server does: types, patterns, and the rules of the CRDs (experimental channel, version 1.5).
//! - A Gateway is ours if its pods are the target's: those behind the Service that Istio makes for it (`<gateway>-<class>`), or behind the one that
//!   its address of type `Hostname` names.
//! - On each port the routes of a host are those of all its listeners; within a listener by the order of `matches`, then by age, namespace and
//!   name, then as they are written. Those that match everything come last.
//!
//! Not simulated: TLS, TCP and UDP listeners; other kinds of routes; session persistence.
//! Sources: gateway-api apis/v1; istio pilot/pkg/config/kube/gateway/{conversion,conditions,gateway_collection}.go.

mod attach;
mod filters;
mod gateway;
mod http_route;
mod listener;
pub mod made;
mod matches;
mod namespaces;
mod reference;
mod report;
mod rules;
pub mod status;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::attach::{Attachment, Listening, Outcome};
use self::gateway::{Gateway, ListenerSet, age};
use self::http_route::HttpRoute;
use self::namespaces::Namespaces;
use self::reference::Grants;
use self::rules::Built;
use self::status::Status;
use super::istio::clusters::Clusters;
use super::object::{GATEWAY_API, GATEWAY_API_EXPERIMENTS, Object};
use super::problem::{Place, Problem};
use super::read::{Fields, Sink};
use super::routes::{Around, Missing, Proxy, Routing};
use super::service::ServiceManifest;
use crate::gateway::routes::{Route, VirtualHost};
use crate::record::results::FidelityStatus;

/// Classes that Istio has without an object and that are no gateways of ours.
const FOREIGN_CLASSES: [&str; 2] = ["istio-remote", "istio-waypoint"];

/// What comes of the objects.
pub struct Translated {
    /// Listeners and routes; the services behind are with the clusters.
    pub routing: Routing,
    /// What their status says.
    pub status: Status,
    /// Whether some Gateway is for this proxy.
    pub has_gateway: bool,
    /// Gateways for others: where each stands, and the Services in front of its pods.
    foreign: Vec<(Place, Vec<String>)>,
}

impl Translated {
    /// Says of each Gateway that it is for other pods.
    pub(super) fn tell_services(&self, front: &ServiceManifest, missing: Missing, sink: &Sink) {
        for (place, services) in &self.foreign {
            let text = format!("its pods are those behind the Service {}, not the target's", services.join(", "));
            if missing == Missing::Answered {
                sink.note(*place, "spec.addresses".to_owned(), FidelityStatus::Warning, Some(&text));
                continue;
            }
            let name = front.service.key.split('/').next_back().unwrap_or_default();
            let help = format!("write addresses: [{{ type: Hostname, value: {name} }}]");
            sink.report(Problem::at(*place, "spec.addresses", text).help(help));
        }
    }
}

/// All objects, read.
struct Objects {
    gateways: Vec<Gateway>,
    sets: Vec<ListenerSet>,
    routes: Vec<HttpRoute>,
    grants: Grants,
    namespaces: Namespaces,
}

/// Reads and translates all objects of the Gateway API.
pub(super) fn translate(objects: &[Object], around: &Around<'_>, clusters: &Clusters<'_>, sink: &Sink) -> Translated {
    let found = Objects::read(objects, sink);
    let mut listeners = attach::listeners(&found.gateways, &found.sets, &found.grants, &found.namespaces);
    let mut attachments = Vec::new();
    let mut outcomes: Vec<Vec<Outcome<'_>>> = Vec::new();
    for (index, route) in found.routes.iter().enumerate() {
        outcomes.push(attach::attach(route, index, &mut listeners, &found.namespaces, &mut attachments));
    }
    let is_ours: Vec<bool> = found.gateways.iter().map(|gateway| is_ours(gateway, around)).collect();
    let mut built = Vec::new();
    for (index, route) in found.routes.iter().enumerate() {
        let mut mine = attachments.iter().filter(|attachment| attachment.route == index);
        let takes_part = mine.any(|attachment| is_ours[listeners[attachment.listening].gateway]);
        built.push(rules::build(route, around, &found.grants, takes_part.then_some(clusters), sink));
    }
    report::note(&found, &listeners, &attachments, &outcomes, &is_ours, around, sink);
    let foreign = found.gateways.iter().zip(&is_ours).filter(|(_, is_ours)| !**is_ours);
    Translated {
        routing: routing(&found, &listeners, &attachments, &built, &is_ours, around, sink),
        status: report::status(&found, &listeners, &outcomes, &built),
        has_gateway: is_ours.contains(&true),
        foreign: foreign.map(|(gateway, _)| (gateway.at, gateway.services.clone())).collect(),
    }
}

/// Reports what the API server would refuse of each object by itself.
pub fn check(objects: &[Object], sink: &Sink) {
    drop(Objects::read(objects, sink));
}

/// What the status of all objects says, whoever they are for.
#[must_use]
pub fn status(objects: &[Object], around: &Around<'_>, sink: &Sink) -> Status {
    translate(objects, around, &Clusters::new(around, &[], sink), sink).status
}

impl Objects {
    fn read(objects: &[Object], sink: &Sink) -> Self {
        let of_kind =
            |kind: &'static str, group: &'static str| objects.iter().filter(move |object| object.is(kind, group));
        let mut found = Self {
            gateways: Vec::new(),
            sets: Vec::new(),
            routes: of_kind("HTTPRoute", GATEWAY_API).filter_map(|object| http_route::read(object, sink)).collect(),
            grants: Grants::default(),
            namespaces: Namespaces::default(),
        };
        of_kind("Namespace", "").for_each(|object| found.namespaces.read(object, sink));
        of_kind("ReferenceGrant", GATEWAY_API).for_each(|object| found.grants.read(object, sink));
        let mut foreign: BTreeSet<String> = FOREIGN_CLASSES.map(str::to_owned).into();
        for object in of_kind("GatewayClass", GATEWAY_API) {
            if gateway::read_class(object, sink).is_none() {
                foreign.insert(object.id.name.clone());
            }
        }
        for object in of_kind("Gateway", GATEWAY_API) {
            let Some(gateway) = gateway::read_gateway(object, sink) else { continue };
            if foreign.contains(&gateway.class) {
                let text = format!("Istio makes no gateway of class `{}`", gateway.class);
                sink.note(gateway.at, gateway.this.to_string(), FidelityStatus::Ignored, Some(&text));
            } else {
                found.gateways.push(gateway);
            }
        }
        let sets = of_kind("ListenerSet", GATEWAY_API).chain(of_kind("XListenerSet", GATEWAY_API_EXPERIMENTS));
        found.sets.extend(sets.filter_map(|object| gateway::read_listener_set(object, sink)));
        found.gateways.sort_by(|a, b| age(&a.created, &a.this).cmp(&age(&b.created, &b.this)));
        found.sets.sort_by(|a, b| age(&a.created, &a.this).cmp(&age(&b.created, &b.this)));
        found.routes.sort_by(|a, b| age(&a.created, &a.this).cmp(&age(&b.created, &b.this)));
        found
    }
}

/// Opens an object, which must be of one of these versions.
fn open<'a>(object: &'a Object, prefix: &'a str, versions: &[&str], sink: &'a Sink) -> Option<Fields<'a>> {
    let fields = object.open(sink, prefix)?;
    let version = fields.look("apiVersion")?;
    let text = version.text()?;
    let (group, number) = text.split_once('/')?;
    if !versions.contains(&number) {
        let known: Vec<String> = versions.iter().map(|version| format!("{group}/{version}")).collect();
        let problem = Problem::at(version.place(), "apiVersion", format!("`{text}` has no {}", object.id.kind));
        sink.report(problem.help(format!("write {}", known.join(" or "))));
    }
    Some(fields)
}

/// Whether a Gateway is for this proxy.
fn is_ours(gateway: &Gateway, around: &Around<'_>) -> bool {
    let (labels, front) = match around.proxy {
        Proxy::Named(names) => return names.is_empty() || names.contains(&gateway.this.key()),
        Proxy::Pods { labels, front, .. } => (labels, front),
    };
    let namespace = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    let selects = |service: &ServiceManifest| {
        let selector = &service.service.selector;
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    gateway.services.iter().any(|key| {
        *key == *front.service.key
            || namespace(key) == namespace(&front.service.key) && around.services.get(key).is_some_and(selects)
    })
}

fn routing(
    found: &Objects,
    listeners: &[Listening],
    attachments: &[Attachment],
    built: &[Built],
    is_ours: &[bool],
    around: &Around<'_>,
    sink: &Sink,
) -> Routing {
    let mut routing = Routing::default();
    let mut hosts: BTreeMap<(u16, &str), Vec<Arc<Route>>> = BTreeMap::new();
    for (index, listening) in listeners.iter().enumerate() {
        if !is_ours[listening.gateway] || !listening.serves_http() {
            continue;
        }
        let port = listening.listener.port;
        let bound = bound(listening, around, sink);
        if !routing.listeners.contains(&(bound, port)) {
            routing.listeners.push((bound, port));
        }
        routing.routes.port_mut(port);
        let mut own: BTreeMap<&str, Vec<&Arc<Route>>> = BTreeMap::new();
        for attachment in attachments.iter().filter(|attachment| attachment.listening == index) {
            routing.first_route_at.get_or_insert(found.routes[attachment.route].at);
            for host in &attachment.hosts {
                own.entry(host).or_default().extend(&built[attachment.route].routes);
            }
        }
        for (host, mut routes) in own {
            // Stable: of equals the older route comes first.
            routes.sort_by_key(|route| matches::rank(&route.condition));
            hosts.entry((port, host)).or_default().extend(routes.into_iter().cloned());
        }
    }
    for ((port, name), mut routes) in hosts {
        routes.sort_by_key(|route| route.condition.is_catch_all());
        routing.routes.add(port, VirtualHost::new(name, routes));
    }
    routing
}

/// The port that a listener binds.
fn bound(listening: &Listening, around: &Around<'_>, sink: &Sink) -> u16 {
    let (bound, is_reached) = around.proxy.bound(listening.listener.port);
    if !is_reached {
        let text = "the Service in front has no such port, so no client reaches it";
        let path = format!("{} {}", listening.owner, listening.listener.name);
        sink.note(listening.listener.at, path, FidelityStatus::Approximated, Some(text));
    }
    bound
}

#[cfg(test)]
mod tests;
