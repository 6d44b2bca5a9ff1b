//! Circuit breakers: resources in use and left, retry budgets.

use std::rc::Rc;

use gatedrill::gateway::limits::{Limits, Resource, Resources, RetryBudget, RetryPermit};
use serde::Deserialize;

use super::family;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    limits: Option<LimitsSpec>,
    retry_budget: Option<BudgetSpec>,
    resource: String,
    #[serde(default)]
    steps: Vec<Step>,
    max: Option<u32>,
    in_use: Option<usize>,
    active_requests: Option<usize>,
    pending_requests: Option<usize>,
    can_create: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSpec {
    connections: Option<u32>,
    pending_requests: Option<u32>,
    requests: Option<u32>,
    retries: Option<u32>,
    connection_pools: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetSpec {
    budget_percent: f64,
    min_retry_concurrency: u32,
}

impl BudgetSpec {
    pub(crate) fn budget(&self) -> RetryBudget {
        RetryBudget { percent: self.budget_percent, minimum_concurrency: self.min_retry_concurrency }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    op: String,
    in_use: u64,
    remaining: u64,
    can_create: bool,
}

/// One resource of a cluster, by its name.
struct Subject {
    name: String,
    resources: Rc<Resources>,
    /// Istio sets no limit on pools, so that a cluster has none; a limit is a limit.
    connection_pools: Resource,
    retries: Vec<RetryPermit>,
}

impl Subject {
    fn plain(&self) -> Option<&Resource> {
        match self.name.as_str() {
            "connections" => Some(&self.resources.connections),
            "pending_requests" => Some(&self.resources.pending_requests),
            "requests" => Some(&self.resources.requests),
            "connection_pools" => Some(&self.connection_pools),
            "retries" => None,
            other => panic!("no resource {other}"),
        }
    }

    fn acquire(&mut self) {
        match self.plain() {
            Some(resource) => resource.acquire(),
            None => self.retries.push(self.resources.begin_retry().expect("room for a retry")),
        }
    }

    fn release(&mut self) {
        match self.plain() {
            Some(resource) => resource.release(),
            None => drop(self.retries.pop()),
        }
    }

    /// Most, in use, left, and whether there is room.
    fn state(&self) -> (u64, u64, u64, bool) {
        let retries = (self.resources.retries_max(), self.resources.retries_in_use());
        match self.plain() {
            Some(resource) => (resource.max(), resource.in_use(), resource.remaining(), resource.has_room()),
            None => (retries.0, retries.1, retries.0 - retries.1, self.resources.has_room_for_retry()),
        }
    }
}

#[test]
fn conformance_circuit_breaker() {
    for case in family::<Case>("envoy-circuit-breaker").cases {
        let label = format!("{} {} {}", case.id, case.test, case.note);
        let limits = case.limits.as_ref();
        // Where no limits are given the most is what is set, otherwise what follows.
        let set = |given: Option<Option<u32>>, name: &str| {
            given.flatten().or(case.max.filter(|_| limits.is_none() && case.resource == name)).unwrap_or(u32::MAX)
        };
        let limit = Limits {
            connections: set(limits.map(|limits| limits.connections), "connections"),
            pending_requests: set(limits.map(|limits| limits.pending_requests), "pending_requests"),
            requests: set(limits.map(|limits| limits.requests), "requests"),
            retries: set(limits.map(|limits| limits.retries), "retries"),
        };
        let pools = set(limits.map(|limits| limits.connection_pools), "connection_pools");
        let budget = case.retry_budget.as_ref().map(BudgetSpec::budget);
        let resources = Rc::new(Resources::new(limit, budget));
        (0..case.active_requests.unwrap_or(0)).for_each(|_| resources.requests.acquire());
        (0..case.pending_requests.unwrap_or(0)).for_each(|_| resources.pending_requests.acquire());
        let connection_pools = Resource::new(u64::from(pools));
        let mut subject = Subject { name: case.resource, resources, connection_pools, retries: Vec::new() };
        (0..case.in_use.unwrap_or(0)).for_each(|_| subject.acquire());
        for step in case.steps {
            match step.op.as_str() {
                "acquire" => subject.acquire(),
                "release" => subject.release(),
                other => panic!("{label}: no operation {other}"),
            }
            let (_, in_use, remaining, has_room) = subject.state();
            assert_eq!((in_use, remaining, has_room), (step.in_use, step.remaining, step.can_create), "{label}");
        }
        let (max, _, _, has_room) = subject.state();
        if let Some(expected) = case.max {
            assert_eq!(max, u64::from(expected), "{label}");
        }
        if let Some(expected) = case.can_create {
            assert_eq!(has_room, expected, "{label}");
        }
    }
}
