//! Istio's `Gateway`, `VirtualService` and `DestinationRule`: read as Istio's webhook reads them.
//!
//! One pass over an object makes its model and reports every problem: what the webhook would refuse is a problem, what it would warn of is a note.
//! - [`gateway`], [`virtual_service`], [`destination_rule`]: the objects; the other rooms are their parts, by the names of the API.
//! - [`host`]: names with wildcards; [`delegate`]: VirtualServices that take over the rules of others.
//! - `table`: all of them into the gateway's tables; `translate`: rules into routes; `clusters` and `policies`: where destinations lead, and
//!   what holds there.
//!
//! Sources: istio api networking/v1alpha3; istio pkg/config/validation.

pub mod actions;
pub mod cluster_config;
pub(super) mod clusters;
pub mod cors;
pub mod delegate;
pub mod destination;
pub mod destination_rule;
pub mod fault;
pub mod gateway;
pub mod headers;
pub mod host;
pub mod http_route;
mod layer4;
pub mod load_balancer;
pub mod locality;
pub mod matches;
mod policies;
mod reach;
pub mod retry;
pub mod string_match;
pub(super) mod table;
pub mod tls;
pub mod traffic_policy;
pub(super) mod translate;
mod values;
pub mod virtual_service;

use destination_rule::DestinationRule;
use gateway::Gateway;
use virtual_service::VirtualService;

use super::object::{ISTIO, Object};
use super::read::Sink;

/// All routing objects, each kind in order of name and namespace, since manifests carry no creation time.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Gateways.
    pub gateways: Vec<Gateway>,
    /// VirtualServices, delegates among them.
    pub virtual_services: Vec<VirtualService>,
    /// DestinationRules.
    pub destination_rules: Vec<DestinationRule>,
}

impl Config {
    /// Reads all routing objects and reports what Istio's webhook would.
    #[must_use]
    pub fn read(objects: &[Object], sink: &Sink) -> Self {
        let of_kind = |kind: &str| {
            let mut found: Vec<&Object> = objects.iter().filter(|object| object.is(kind, ISTIO)).collect();
            found.sort_by(|a, b| (&a.id.name, &a.id.namespace).cmp(&(&b.id.name, &b.id.namespace)));
            found
        };
        Self {
            gateways: of_kind("Gateway").into_iter().filter_map(|object| gateway::read(object, sink)).collect(),
            virtual_services: of_kind("VirtualService")
                .into_iter()
                .filter_map(|object| virtual_service::read(object, sink))
                .collect(),
            destination_rules: of_kind("DestinationRule")
                .into_iter()
                .filter_map(|object| destination_rule::read(object, sink))
                .collect(),
        }
    }
}

/// Reports what Istio's webhook would say to these objects, each by itself.
pub fn check(objects: &[Object], sink: &Sink) {
    drop(Config::read(objects, sink));
}

#[cfg(test)]
mod tests;
