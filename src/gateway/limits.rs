//! Circuit breakers: how much of each resource a cluster may have in use, counted over all workers of one gateway process.
//!
//! What is over a limit fails at once (503, flag `UO`) and is not retried. A retry that is over its limit does not happen: the
//! client gets the failure that would have been retried. A retry budget replaces the limit of retries: a share of the requests that are
//! active or pending, but never below a minimum.
//!
//! Sources: envoy source/common/upstream/resource_manager_impl.h; istio pilot/pkg/networking/core/cluster_traffic_policy.go.

use std::cell::Cell;
use std::rc::Rc;

/// The limits of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Upstream connections. An endpoint without any may still open one.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending_requests: u32,
    /// Requests in flight on connections.
    pub requests: u32,
    /// Retries in flight; unused where there is a budget.
    pub retries: u32,
}

impl Limits {
    /// Istio's default: none.
    pub const ISTIO: Self =
        Self { connections: u32::MAX, pending_requests: u32::MAX, requests: u32::MAX, retries: u32::MAX };
    /// Envoy's own default.
    pub const ENVOY: Self = Self { connections: 1024, pending_requests: 1024, requests: 1024, retries: 3 };
}

/// Retries as a share of the requests there are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryBudget {
    /// The share, percent of active and pending requests. Default 20.
    pub percent: f64,
    /// So many retries are possible whatever the share. Default 3.
    pub minimum_concurrency: u32,
}

impl RetryBudget {
    /// Envoy's and Istio's defaults for a budget that says nothing else.
    pub const DEFAULT: Self = Self { percent: 20.0, minimum_concurrency: 3 };

    /// Retries possible while so many requests are active or pending.
    #[must_use]
    pub fn retries(&self, requests: u64) -> u64 {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        whole(self.percent / 100.0 * f64::from(requests)).max(u64::from(self.minimum_concurrency))
    }
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion from float saturates at both ends, which is what is meant"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// What is in use of one resource, and how much may be.
#[derive(Debug)]
pub struct Resource {
    max: u64,
    in_use: Cell<u64>,
}

impl Resource {
    /// None in use of `max`.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, in_use: Cell::new(0) }
    }

    /// How much may be in use.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How much is in use. It may be more than allowed: some uses are never refused.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.in_use.get()
    }

    /// How much is left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.max.saturating_sub(self.in_use.get())
    }

    /// Whether one more may be used.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_use.get() < self.max
    }

    /// One more is in use, allowed or not.
    pub fn acquire(&self) {
        self.in_use.set(self.in_use.get() + 1);
    }

    /// One less is in use.
    ///
    /// # Panics
    ///
    /// If none is.
    pub fn release(&self) {
        self.in_use.set(self.in_use.get().checked_sub(1).expect("what is released was acquired"));
    }
}

/// The resources of a cluster.
#[derive(Debug)]
pub struct Resources {
    /// Upstream connections.
    pub connections: Resource,
    /// Requests that wait for a connection.
    pub pending_requests: Resource,
    /// Requests in flight on connections.
    pub requests: Resource,
    retries: Resource,
    retry_budget: Option<RetryBudget>,
}

impl Resources {
    /// Nothing in use.
    #[must_use]
    pub fn new(limits: Limits, retry_budget: Option<RetryBudget>) -> Self {
        let resource = |max: u32| Resource::new(u64::from(max));
        Self {
            connections: resource(limits.connections),
            pending_requests: resource(limits.pending_requests),
            requests: resource(limits.requests),
            retries: resource(limits.retries),
            retry_budget,
        }
    }

    /// Retries possible at present.
    #[must_use]
    pub fn retries_max(&self) -> u64 {
        let requests = self.requests.in_use() + self.pending_requests.in_use();
        self.retry_budget.map_or(self.retries.max(), |budget| budget.retries(requests))
    }

    /// Retries in flight.
    #[must_use]
    pub fn retries_in_use(&self) -> u64 {
        self.retries.in_use()
    }

    /// Whether one more retry is possible.
    #[must_use]
    pub fn has_room_for_retry(&self) -> bool {
        self.retries.in_use() < self.retries_max()
    }

    /// A retry begins; it is in flight until the permit is dropped. None if there is no room.
    #[must_use]
    pub fn begin_retry(self: &Rc<Self>) -> Option<RetryPermit> {
        self.has_room_for_retry().then(|| {
            self.retries.acquire();
            RetryPermit(Rc::clone(self))
        })
    }
}

/// A retry in flight.
#[derive(Debug)]
pub struct RetryPermit(Rc<Resources>);

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_room_below_its_maximum() {
        let resource = Resource::new(1);
        assert!(resource.has_room() && resource.remaining() == 1);
        resource.acquire();
        assert!(!resource.has_room() && resource.remaining() == 0);
        resource.acquire();
        assert_eq!((resource.in_use(), resource.remaining()), (2, 0), "some uses are never refused");
    }

    #[test]
    fn retries_are_in_flight_until_their_permit_is_gone() {
        let resources = Rc::new(Resources::new(Limits { retries: 1, ..Limits::ISTIO }, None));
        let permit = resources.begin_retry();
        assert!(permit.is_some() && resources.begin_retry().is_none());
        drop(permit);
        assert!(resources.begin_retry().is_some());
    }

    #[test]
    fn a_budget_is_a_share_of_the_requests_there_are() {
        let resources = Rc::new(Resources::new(Limits::ENVOY, Some(RetryBudget::DEFAULT)));
        assert_eq!(resources.retries_max(), 3);
        (0..19).for_each(|_| resources.requests.acquire());
        assert_eq!(resources.retries_max(), 3, "20 % of 19 is 3.8");
        resources.pending_requests.acquire();
        assert_eq!(resources.retries_max(), 4);
    }
}
