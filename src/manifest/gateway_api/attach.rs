//! Which routes belong to which listeners, under which host names, and what becomes of listeners that are not as they should be.
//!
//! - A route asks by `parentRefs` for all listeners of a Gateway or a ListenerSet, or for those of one name or port; a listener takes it if its
//!   host names meet, and if it takes routes of this namespace and kind.
//! - The host names of both give, of each pair that meets, the narrower. A name that a more exact listener of the same port has is not served by the
//!   less exact one: listeners are isolated.
//! - Listeners of one Gateway that cannot be told apart, or whose protocols exclude each other on a port: the first stays. The Gateway's own
//!   come first, then those of ListenerSets by age.
//!
//! Source: gateway-api apis/v1/gateway_types.go; istio pilot/pkg/config/kube/gateway/{conversion,conditions}.go.

use super::gateway::{Gateway, ListenerSet};
use super::http_route::HttpRoute;
use super::listener::Listener;
use super::namespaces::Namespaces;
use super::reference::{Grants, ParentRef, Reference};
use crate::manifest::istio::host::is_subset;
use crate::manifest::object::GATEWAY_API;

/// A listener, where it stands, and what is wrong with it.
pub(super) struct Listening {
    /// The Gateway or the ListenerSet.
    pub(super) owner: Reference,
    /// The Gateway's index.
    pub(super) gateway: usize,
    pub(super) listener: Listener,
    pub(super) kinds: Vec<&'static str>,
    /// Why it is not accepted: reason and words.
    pub(super) refused: Option<(&'static str, String)>,
    /// Why it is in conflict with an earlier one.
    pub(super) conflict: Option<&'static str>,
    /// Which of its references lead nowhere.
    pub(super) unresolved: Option<(&'static str, String)>,
    /// TLS cannot begin.
    pub(super) is_bad_tls: bool,
    pub(super) attached: usize,
}

impl Listening {
    /// Whether it serves plain HTTP.
    pub(super) fn serves_http(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none() && self.listener.protocol.eq_ignore_ascii_case("HTTP")
    }

    pub(super) fn is_valid(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }
}

/// Why a listener does not take a route. The first that is met is told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Denied {
    NotAllowed(String),
    NoHostname(String),
    NoMatchingParent(String),
}

impl Denied {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "NotAllowedByListeners",
            Self::NoHostname(_) => "NoMatchingListenerHostname",
            Self::NoMatchingParent(_) => "NoMatchingParent",
        }
    }

    pub(super) fn words(&self) -> &str {
        let (Self::NotAllowed(text) | Self::NoHostname(text) | Self::NoMatchingParent(text)) = self;
        text
    }
}

/// A route on a listener.
pub(super) struct Attachment {
    pub(super) listening: usize,
    pub(super) route: usize,
    /// The host names that it has there.
    pub(super) hosts: Vec<String>,
}

/// What became of one of a route's parents.
pub(super) struct Outcome<'a> {
    pub(super) parent: &'a ParentRef,
    pub(super) denied: Option<Denied>,
}

/// All listeners of these Gateways: their own, then those of the ListenerSets that they take.
pub(super) fn listeners(
    gateways: &[Gateway],
    sets: &[ListenerSet],
    grants: &Grants,
    namespaces: &Namespaces,
) -> Vec<Listening> {
    let mut all: Vec<Listening> = Vec::new();
    for (index, gateway) in gateways.iter().enumerate() {
        let own = gateway.listeners.iter().map(|listener| (&gateway.this, listener));
        let taken = sets.iter().filter(|set| set.parent == gateway.this && takes(gateway, set, namespaces));
        let theirs = taken.flat_map(|set| set.listeners.iter().map(move |listener| (&set.this, listener)));
        let begin = all.len();
        for (owner, listener) in own.chain(theirs) {
            let conflict = conflict(&all[begin..], listener);
            all.push(judge(owner, index, listener, conflict, grants));
        }
    }
    all
}

/// Whether a Gateway takes the listeners of a ListenerSet.
pub(super) fn takes(gateway: &Gateway, set: &ListenerSet, namespaces: &Namespaces) -> bool {
    namespaces.accepts(&gateway.sets_from, &gateway.this.namespace, &set.this.namespace)
}

fn conflict(earlier: &[Listening], listener: &Listener) -> Option<&'static str> {
    let protocol = |listener: &Listener| listener.protocol.to_ascii_uppercase();
    let has_tls = |listener: &Listener| matches!(protocol(listener).as_str(), "HTTPS" | "TLS");
    let is_layer_4 = |listener: &Listener| protocol(listener) == "TCP";
    let mut on_port = earlier.iter().filter(|known| known.is_valid() && known.listener.port == listener.port);
    on_port.find_map(|known| {
        let known = &known.listener;
        let is_same = known.hostname == listener.hostname;
        if has_tls(known) != has_tls(listener) || is_layer_4(known) != is_layer_4(listener) {
            Some("ProtocolConflict")
        } else if is_layer_4(known) || is_same {
            Some("HostnameConflict")
        } else {
            None
        }
    })
}

fn judge(
    owner: &Reference,
    gateway: usize,
    listener: &Listener,
    conflict: Option<&'static str>,
    grants: &Grants,
) -> Listening {
    let protocol = listener.protocol.to_ascii_uppercase();
    let possible: &[&str] = match protocol.as_str() {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TLS" if listener.is_passthrough => &["TLSRoute"],
        "TLS" | "TCP" => &["TCPRoute"],
        _ => &[],
    };
    let refused = possible
        .is_empty()
        .then(|| ("UnsupportedProtocol", format!("Istio has no protocol {} here", listener.protocol)));
    let is_taken = |kind: &&str| {
        listener.kinds.is_empty() || listener.kinds.iter().any(|(group, known)| group == GATEWAY_API && known == kind)
    };
    let kinds: Vec<&'static str> = possible.iter().copied().filter(is_taken).collect();
    let certificates = bad_certificate(owner, listener, grants);
    let is_bad_tls = certificates.is_some();
    let wrong_kinds = (!listener.kinds.is_empty() && kinds.len() < listener.kinds.len())
        .then(|| ("InvalidRouteKinds", "not all kinds of routes that it names are ones it can take".to_owned()));
    Listening {
        owner: owner.clone(),
        gateway,
        listener: listener.clone(),
        kinds,
        refused,
        conflict,
        unresolved: wrong_kinds.or(certificates),
        is_bad_tls,
        attached: 0,
    }
}

/// What is wrong with the certificates if none of them can be used. Secrets are seldom among manifests: those in reach are taken to be there.
fn bad_certificate(owner: &Reference, listener: &Listener, grants: &Grants) -> Option<(&'static str, String)> {
    let mut wrong = None;
    for secret in &listener.certificates {
        let found = if !secret.is("", "Secret") {
            Some(("InvalidCertificateRef", format!("{secret} is no Secret")))
        } else if !grants.allow(owner, secret) {
            let text = format!("no ReferenceGrant in {} lets {owner} name {secret}", secret.namespace);
            Some(("RefNotPermitted", text))
        } else {
            None
        };
        found.as_ref()?;
        wrong = wrong.or(found);
    }
    wrong
}

/// Attaches a route; its parents that there are, with what became of them.
pub(super) fn attach<'a>(
    route: &'a HttpRoute,
    index: usize,
    listeners: &mut [Listening],
    namespaces: &Namespaces,
    attachments: &mut Vec<Attachment>,
) -> Vec<Outcome<'a>> {
    let mut outcomes = Vec::new();
    for parent in &route.parents {
        let mine: Vec<usize> = (0..listeners.len()).filter(|at| listeners[*at].owner == parent.to).collect();
        let mut denied: Option<Denied> = None;
        let mut is_taken = false;
        for at in &mine {
            match deny(route, parent, &listeners[*at], namespaces) {
                Some(reason) => denied = Some(denied.map_or(reason.clone(), |known| known.min(reason))),
                None => {
                    is_taken = true;
                    listeners[*at].attached += 1;
                    let hosts = hosts(route, *at, listeners);
                    attachments.push(Attachment { listening: *at, route: index, hosts });
                }
            }
        }
        if !mine.is_empty() {
            outcomes.push(Outcome { parent, denied: denied.filter(|_| !is_taken) });
        }
    }
    outcomes
}

fn deny(route: &HttpRoute, parent: &ParentRef, listening: &Listening, namespaces: &Namespaces) -> Option<Denied> {
    let listener = &listening.listener;
    if let Some(port) = parent.port.filter(|port| *port != listener.port) {
        return Some(Denied::NoMatchingParent(format!("no listener has port {port}")));
    }
    if let Some(section) = parent.section.as_ref().filter(|section| **section != listener.name) {
        return Some(Denied::NoMatchingParent(format!("no listener is called `{section}`")));
    }
    let own = listener.hostname.as_deref().unwrap_or("*");
    if !route.hostnames.is_empty() && !route.hostnames.iter().any(|name| meet(own, name).is_some()) {
        return Some(Denied::NoHostname(format!("no host name of the route meets `{own}`")));
    }
    let namespace = &route.this.namespace;
    if !namespaces.accepts(&listener.routes_from, &listening.owner.namespace, namespace) {
        let unknown = if namespaces.has(namespace) { "" } else { ", whose labels the manifests do not hold" };
        return Some(Denied::NotAllowed(format!(
            "listener `{}` takes no routes of {namespace}{unknown}",
            listener.name
        )));
    }
    if !listening.kinds.contains(&"HTTPRoute") {
        return Some(Denied::NotAllowed(format!("listener `{}` takes no HTTPRoutes", listener.name)));
    }
    None
}

/// The host names of a route on a listener.
fn hosts(route: &HttpRoute, at: usize, listeners: &[Listening]) -> Vec<String> {
    let listening = &listeners[at];
    let own = listening.listener.hostname.as_deref().unwrap_or("*");
    let others: Vec<&str> = listeners
        .iter()
        .enumerate()
        .filter(|(index, other)| {
            *index != at
                && other.gateway == listening.gateway
                && other.listener.port == listening.listener.port
                && other.listener.protocol.eq_ignore_ascii_case(&listening.listener.protocol)
        })
        .filter_map(|(_, other)| other.listener.hostname.as_deref())
        .collect();
    let any = ["*".to_owned()];
    let names = if route.hostnames.is_empty() { &any } else { &route.hostnames[..] };
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let is_exact = !own.starts_with('*');
        let is_others = others.iter().any(|other| other.len() >= own.len() && *other != own && is_subset(name, other));
        if let Some(host) = meet(own, name).filter(|_| is_exact || !is_others)
            && !found.iter().any(|known| known == host)
        {
            found.push(host.to_owned());
        }
    }
    found
}

/// The narrower of two names of which one covers the other.
fn meet<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if is_subset(a, b) {
        Some(a)
    } else if is_subset(b, a) {
        Some(b)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_of_two_names() {
        for (a, b, narrower) in [
            ("*", "a.com", Some("a.com")),
            ("*", "*", Some("*")),
            ("*.a.com", "b.a.com", Some("b.a.com")),
            ("*.a.com", "*.b.a.com", Some("*.b.a.com")),
            ("b.a.com", "*.a.com", Some("b.a.com")),
            ("*.a.com", "a.com", None),
            ("a.com", "b.com", None),
        ] {
            assert_eq!(meet(a, b), narrower, "{a} {b}");
        }
    }
}
