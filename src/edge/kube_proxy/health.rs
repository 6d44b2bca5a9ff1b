//! What a kube-proxy answers when it is asked for its health.
//!
//! - A Service's `healthCheckNodePort`: 200 if a *ready* endpoint runs on the node and kube-proxy is healthy. Endpoints that
//!   terminate do not count, though traffic may still go to them: balancers are to leave while the node still serves.
//! - `/livez`: 503 while a change has waited for its rules longer than the limit, twice the sync period.
//! - `/healthz`: the same, and 503 too while the node is about to be deleted.
//!
//! Source: Kubernetes v1.28.7 pkg/proxy/healthcheck/{service_health,proxier_health}.go, KEP-3836; the rule of the oldest
//! change that waits is that of 1.29 and later, which agrees with the older one on all of upstream's cases.

use std::time::Duration;

use crate::units::SimTime;

/// The usual period of a whole sync. Source: pkg/proxy/apis/config/v1alpha1/defaults.go.
pub const SYNC_PERIOD: Duration = Duration::from_secs(30);
/// The taint of a node that the cluster autoscaler is about to delete.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// An HTTP status.
const OK: u16 = 200;
/// An HTTP status.
const UNAVAILABLE: u16 = 503;

/// The health of one kube-proxy.
#[derive(Clone, Debug)]
pub struct ProxyHealth {
    limit: Duration,
    /// Since when a change waits for its rules.
    waits_since: Option<SimTime>,
    is_node_leaving: bool,
}

impl ProxyHealth {
    /// A healthy one; `limit` is how long a change may wait.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit, waits_since: None, is_node_leaving: false }
    }

    /// A change has come that needs rules.
    pub fn handle_change(&mut self, now: SimTime) {
        let _ = self.waits_since.get_or_insert(now);
    }

    /// All rules are as they should be.
    pub fn handle_synced(&mut self) {
        self.waits_since = None;
    }

    /// The node as it is now: its taints, and whether its deletion has been asked for.
    pub fn handle_node<'a>(&mut self, mut taints: impl Iterator<Item = &'a str>, is_deleting: bool) {
        self.is_node_leaving = is_deleting || taints.any(|taint| taint == TO_BE_DELETED);
    }

    /// Whether its rules are as fresh as they should be.
    #[must_use]
    pub fn is_healthy(&self, now: SimTime) -> bool {
        self.waits_since.is_none_or(|since| now.since(since) < self.limit)
    }

    /// The status that `/livez` answers.
    #[must_use]
    pub fn livez(&self, now: SimTime) -> u16 {
        if self.is_healthy(now) { OK } else { UNAVAILABLE }
    }

    /// The status that `/healthz` answers.
    #[must_use]
    pub fn healthz(&self, now: SimTime) -> u16 {
        if self.is_node_leaving { UNAVAILABLE } else { self.livez(now) }
    }
}

/// The status that a Service's `healthCheckNodePort` answers on a node with so many local ready endpoints.
#[must_use]
pub const fn service_status(local_ready_count: usize, is_proxy_healthy: bool) -> u16 {
    if local_ready_count > 0 && is_proxy_healthy { OK } else { UNAVAILABLE }
}

/// What a Service's `healthCheckNodePort` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceHealth {
    /// Endpoints on the node that are ready.
    pub local_endpoints: usize,
    /// The rules are as fresh as they should be.
    pub is_proxy_healthy: bool,
}

impl ServiceHealth {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        service_status(self.local_endpoints, self.is_proxy_healthy)
    }

    /// The body of the answer for a Service `namespace/name`.
    #[must_use]
    pub fn body(self, service: &str) -> String {
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        let Self { local_endpoints, is_proxy_healthy } = self;
        format!(
            r#"{{"service":{{"namespace":"{namespace}","name":"{name}"}},"localEndpoints":{local_endpoints},"serviceProxyHealthy":{is_proxy_healthy}}}"#
        )
    }
}
