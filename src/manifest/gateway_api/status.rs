//! What the controller writes into the status of objects: conditions with their reasons, and how many routes a listener has.
//!
//! Source: gateway-api apis/v1/{gateway,listenerset,shared}_types.go; istio pilot/pkg/config/kube/gateway/conditions.go.

/// The status of all objects that Istio's controller takes care of.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// Of Gateways, by `namespace/name`, in the order in which they count.
    pub gateways: Vec<ParentStatus>,
    /// Of ListenerSets.
    pub listener_sets: Vec<ParentStatus>,
    /// Of HTTPRoutes.
    pub routes: Vec<RouteStatus>,
}

/// The status of a Gateway or a ListenerSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentStatus {
    /// `namespace/name`.
    pub key: String,
    /// Of the object as a whole.
    pub conditions: Vec<Condition>,
    /// Of its listeners, in the order of writing.
    pub listeners: Vec<ListenerStatus>,
}

/// The status of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Kinds of routes that it takes, of those that Istio has.
    pub supported_kinds: Vec<String>,
    /// Routes that are attached to it.
    pub attached_routes: usize,
}

/// The status of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteStatus {
    /// `namespace/name`.
    pub key: String,
    /// One for each parent that there is.
    pub parents: Vec<RouteParentStatus>,
}

/// The status of a route with one of its parents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteParentStatus {
    /// The parent's kind.
    pub kind: String,
    /// The parent, as `namespace/name`.
    pub key: String,
    /// Its part, if the route names one.
    pub section: Option<String>,
    /// Its port, if the route names one.
    pub port: Option<u16>,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What it is about, such as `Accepted`.
    pub about: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: &'static str,
    /// Why, in words.
    pub message: String,
}

impl Condition {
    /// It holds, as it should.
    pub(super) fn good(about: &'static str, reason: &'static str) -> Self {
        Self { about, holds: true, reason, message: String::new() }
    }

    /// It does not hold.
    pub(super) fn bad(about: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about, holds: false, reason, message: message.into() }
    }
}
