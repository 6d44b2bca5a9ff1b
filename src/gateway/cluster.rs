//! The settings of a cluster and of its endpoints. Plain data.
//!
//! Limits are those of one gateway process. Sources: istio pilot/pkg/networking/core/cluster_traffic_policy.go,
//! pilot/pkg/model/destination_rule.go; envoy api envoy/config/cluster/v3/cluster.proto.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::balance::{BalanceConfig, LocalityWeight, Policy};
use super::limits::{Limits, RetryBudget};
use super::outlier::OutlierConfig;

/// The settings of a cluster.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClusterConfig {
    /// How it balances.
    pub balance: BalanceConfig,
    /// Its circuit breakers.
    pub limits: Limits,
    /// Takes the place of the limit of retries.
    pub retry_budget: Option<RetryBudget>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// A connection without requests is closed after this time. None: never.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed after so many requests. None: any number.
    pub max_requests_per_connection: Option<u32>,
    /// Which endpoints are taken out of rotation. None: none ever.
    pub outlier: Option<OutlierConfig>,
    /// In a priority with fewer healthy endpoints than this, percent, all are used. 0: never.
    pub panic_threshold_percent: u32,
}

impl ClusterConfig {
    /// What Istio sets where no rule says anything. There is no panic: unready endpoints are known, and not used.
    pub const ISTIO: Self = Self {
        balance: BalanceConfig::ISTIO,
        limits: Limits::ISTIO,
        retry_budget: None,
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_requests_per_connection: None,
        outlier: None,
        panic_threshold_percent: 0,
    };

    /// The same, balanced like this.
    #[must_use]
    pub const fn balanced(policy: Policy) -> Self {
        Self { balance: BalanceConfig::new(policy), ..Self::ISTIO }
    }
}

/// An endpoint of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its weight among the endpoints of its priority, 1 or more.
    pub weight: u32,
    /// Its priority; 0 is served first. Priorities have no gaps.
    pub priority: u32,
    /// Its locality, where the cluster chooses one by weight.
    pub locality: Option<LocalityWeight>,
    /// Whether it is ready.
    pub is_healthy: bool,
    /// What consistent hashing hashes in place of its address.
    pub hash_key: Option<Arc<str>>,
}

impl EndpointConfig {
    /// A ready endpoint like any other.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, priority: 0, locality: None, is_healthy: true, hash_key: None }
    }
}
