//! Clusters and their endpoints: who is in rotation, who is picked, what becomes of who fails.
//!
//! Endpoints that stay keep their connections, counts and ejections. One that is taken away closes its idle connections; busy
//! ones finish first. Settings that change make a new cluster of the old one, as a new one from xDS does: connections, counts and
//! ejections begin anew, and what is under way ends as it began.
//!
//! An ejection ends with a sweep: the only timer of outlier detection, and it runs while an endpoint is ejected.

mod bell;
mod pool;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::access::Observer;
use super::balance::{BalancedHost, HostSets, PickRequest, Picker};
use super::cluster::{ClusterConfig, EndpointConfig};
use super::host::{Host, random_below};
use super::limits::{Resources, RetryPermit};
use super::outlier::{Detector, Ejection, HostId, Outcome};
use super::retry::{REPICKS_MAX, RetryPolicy};
use crate::units::SimTime;

use pool::Pool;
pub(super) use pool::{Lent, PoolFailure};

/// A cluster: endpoints and how to choose one.
pub(super) struct Cluster {
    name: Arc<str>,
    observer: Rc<dyn Observer>,
    terms: RefCell<Rc<Terms>>,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    sets: RefCell<HostSets>,
    /// One for each worker.
    pickers: Vec<RefCell<Picker>>,
    is_sweeping: Cell<bool>,
}

/// The settings of a cluster, and what is counted under them.
struct Terms {
    config: ClusterConfig,
    resources: Rc<Resources>,
    detector: Option<RefCell<Detector>>,
    /// The clock of the process.
    now: Rc<dyn Fn() -> SimTime>,
}

/// An endpoint as this process sees it.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    terms: Rc<Terms>,
    config: RefCell<EndpointConfig>,
    outlier_id: Option<HostId>,
    in_rotation_since: Cell<Option<SimTime>>,
    /// Requests on its connections. Those that wait for one do not count.
    active: Cell<u32>,
    /// One for each worker that has asked for it: of thousands of endpoints a process may use few.
    pools: Box<[OnceCell<Rc<Pool>>]>,
    is_retired: Cell<bool>,
}

/// What an endpoint is picked for.
pub(super) struct PickContext<'a> {
    /// The hash of the request's key, for consistent hashing.
    pub(super) hash: Option<u64>,
    /// Where it was tried before, in order.
    pub(super) tried: &'a [SocketAddr],
    /// How it is retried.
    pub(super) retry: &'a RetryPolicy,
}

impl Terms {
    fn new<H: Host>(config: ClusterConfig, host: &H) -> Self {
        let clock = host.clone();
        Self {
            config,
            resources: Rc::new(Resources::new(config.limits, config.retry_budget)),
            detector: config.outlier.map(|outlier| RefCell::new(Detector::new(outlier, host.now()))),
            now: Rc::new(move || clock.now()),
        }
    }
}

impl Cluster {
    /// A cluster without endpoints, in a process with so many workers, of which `host` is one.
    pub(super) fn new<H: Host>(
        name: Arc<str>,
        config: ClusterConfig,
        workers: usize,
        observer: Rc<dyn Observer>,
        host: &H,
    ) -> Self {
        let sets = HostSets::new(config.balance, u64::from(config.panic_threshold_percent), Vec::new());
        Self {
            name,
            observer,
            terms: RefCell::new(Rc::new(Terms::new(config, host))),
            endpoints: RefCell::default(),
            sets: RefCell::new(sets),
            pickers: (0..workers).map(|_| RefCell::default()).collect(),
            is_sweeping: Cell::new(false),
        }
    }

    /// Makes these the settings. If they differ from those before, connections and counts begin anew.
    pub(super) fn set_config<H: Host>(&self, config: ClusterConfig, host: &H) {
        if self.terms.borrow().config == config {
            return;
        }
        let former = self.endpoints.take();
        let configs: Vec<EndpointConfig> = former.iter().map(|endpoint| endpoint.config.borrow().clone()).collect();
        former.iter().for_each(|endpoint| endpoint.retire());
        *self.terms.borrow_mut() = Rc::new(Terms::new(config, host));
        self.set_endpoints(&configs, host);
    }

    /// Makes these the endpoints. Those that stay keep their connections, counts and ejections.
    pub(super) fn set_endpoints<H: Host>(&self, configs: &[EndpointConfig], host: &H) {
        let terms = Rc::clone(&self.terms.borrow());
        let former = self.endpoints.take().into_iter();
        let mut known: BTreeMap<SocketAddr, Rc<Endpoint>> =
            former.map(|endpoint| (endpoint.address, endpoint)).collect();
        let next = configs.iter().map(|config| match known.remove(&config.address) {
            Some(endpoint) => {
                *endpoint.config.borrow_mut() = config.clone();
                endpoint
            }
            None => Rc::new(Endpoint::new(config.clone(), &terms, self.pickers.len())),
        });
        let next: Vec<Rc<Endpoint>> = next.collect();
        known.values().for_each(|endpoint| endpoint.retire());
        *self.endpoints.borrow_mut() = next;
        self.refresh(host);
    }

    /// Sorts the endpoints anew, after a change of them or of their health.
    fn refresh<H: Host>(&self, host: &H) {
        let (endpoints, terms) = (self.endpoints.borrow(), self.terms.borrow());
        let now = host.now();
        let hosts = endpoints.iter().map(|endpoint| endpoint.balanced(now)).collect();
        let sets = HostSets::new(terms.config.balance, u64::from(terms.config.panic_threshold_percent), hosts);
        for picker in &self.pickers {
            let active = |index: usize| endpoints[index].active.get();
            picker.borrow_mut().refresh(&sets, now, active, |bound| random_below(host.random(), bound));
        }
        *self.sets.borrow_mut() = sets;
    }

    /// An endpoint for the next try.
    pub(super) fn pick<H: Host>(&self, worker: usize, host: &H, context: &PickContext<'_>) -> Option<Rc<Endpoint>> {
        let (endpoints, sets) = (self.endpoints.borrow(), self.sets.borrow());
        let is_avoiding = context.retry.avoids_previous_hosts && !context.tried.is_empty();
        let is_leaving_priorities = context.retry.retry_remote_localities && context.tried.len() > 1;
        let load = is_leaving_priorities.then(|| sets.load().without(&tried_priorities(&endpoints, context.tried)));
        let request =
            PickRequest { hash: context.hash, repicks: if is_avoiding { REPICKS_MAX } else { 0 }, load: load.as_ref() };
        let chosen = self.pickers[worker].borrow_mut().pick(
            &sets,
            &request,
            |index| context.tried.contains(&endpoints[index].address),
            |index| endpoints[index].active.get(),
            host.now(),
            |bound| random_below(host.random(), bound),
        );
        chosen.map(|index| Rc::clone(&endpoints[index]))
    }

    /// A retry begins, if the circuit breaker has room; it is in flight until the permit is dropped.
    pub(super) fn begin_retry(&self) -> Option<RetryPermit> {
        self.terms.borrow().resources.begin_retry()
    }

    /// Notes what became of a try at an endpoint; it may be ejected for it.
    pub(super) fn report<H: Host>(self: &Rc<Self>, host: &H, endpoint: &Endpoint, outcome: Outcome) {
        let (Some(detector), Some(id)) = (&endpoint.terms.detector, endpoint.outlier_id) else { return };
        if !Rc::ptr_eq(&endpoint.terms, &self.terms.borrow()) {
            return;
        }
        let draw = |bound| random_below(host.random(), bound);
        let (now, mut detector) = (host.now(), detector.borrow_mut());
        let mut told = detector.sweep(now, draw);
        told.extend(detector.report(id, outcome, now, draw));
        let has_sweeps = detector.next_sweep().is_some();
        drop(detector);
        self.heed(host, &told);
        if has_sweeps && !self.is_sweeping.replace(true) {
            let (cluster, worker) = (Rc::clone(self), host.clone());
            host.spawn("outlier-sweep", async move { cluster.sweep(worker).await });
        }
    }

    /// Sweeps for as long as there is a reason to.
    async fn sweep<H: Host>(&self, host: H) {
        loop {
            let terms = Rc::clone(&self.terms.borrow());
            let Some(detector) = &terms.detector else { break };
            let Some(sweep_at) = detector.borrow().next_sweep() else { break };
            host.sleep_until(sweep_at).await;
            let told = detector.borrow_mut().sweep(host.now(), |bound| random_below(host.random(), bound));
            if Rc::ptr_eq(&terms, &self.terms.borrow()) {
                self.heed(&host, &told);
            }
        }
        self.is_sweeping.set(false);
    }

    fn heed<H: Host>(&self, host: &H, told: &[Ejection]) {
        if told.is_empty() {
            return;
        }
        self.refresh(host);
        let endpoints = self.endpoints.borrow();
        let address = |id| endpoints.iter().find(|endpoint| endpoint.outlier_id == Some(id)).map(|found| found.address);
        for ejection in told {
            match *ejection {
                Ejection::Ejected(id, detection) => {
                    if let Some(address) = address(id) {
                        self.observer.host_ejected(&self.name, address, detection);
                    }
                }
                Ejection::Returned(id) => {
                    if let Some(address) = address(id) {
                        self.observer.host_returned(&self.name, address);
                    }
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.endpoints.take().iter().for_each(|endpoint| endpoint.retire());
    }
}

/// The priorities that a retry leaves out: those tried before, as of every second try.
fn tried_priorities(endpoints: &[Rc<Endpoint>], tried: &[SocketAddr]) -> Vec<bool> {
    let counted = &tried[..tried.len() - tried.len() % 2];
    let mut priorities = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| counted.contains(&endpoint.address)) {
        let priority = endpoint.priority();
        priorities.resize(priorities.len().max(priority + 1), false);
        priorities[priority] = true;
    }
    priorities
}

impl Endpoint {
    fn new(config: EndpointConfig, terms: &Rc<Terms>, workers: usize) -> Self {
        let address = config.address;
        Self {
            address,
            terms: Rc::clone(terms),
            config: RefCell::new(config),
            outlier_id: terms.detector.as_ref().map(|detector| detector.borrow_mut().add()),
            in_rotation_since: Cell::new(None),
            active: Cell::new(0),
            pools: (0..workers).map(|_| OnceCell::new()).collect(),
            is_retired: Cell::new(false),
        }
    }

    fn priority(&self) -> usize {
        usize::try_from(self.config.borrow().priority).expect("a priority is a small number")
    }

    fn balanced(&self, now: SimTime) -> BalancedHost {
        let detector = self.terms.detector.as_ref().zip(self.outlier_id);
        let is_ejected = detector.is_some_and(|(detector, id)| detector.borrow().is_ejected(id));
        let is_healthy = self.config.borrow().is_healthy && !is_ejected;
        if is_healthy && self.in_rotation_since.get().is_none() {
            self.in_rotation_since.set(Some(now));
        }
        BalancedHost {
            weight: self.config.borrow().weight.max(1),
            priority: self.priority(),
            locality: self.config.borrow().locality.clone(),
            is_healthy,
            hash_key: self.terms.config.balance.policy.hashes().then(|| self.hash_key()),
            slow_start_since: self.in_rotation_since.get(),
        }
    }

    fn hash_key(&self) -> Arc<str> {
        self.config.borrow().hash_key.clone().unwrap_or_else(|| Arc::from(self.address.to_string()))
    }

    fn retire(&self) {
        self.is_retired.set(true);
        if let (Some(detector), Some(id)) = (&self.terms.detector, self.outlier_id) {
            detector.borrow_mut().remove(id);
        }
        self.pools.iter().filter_map(OnceCell::get).for_each(|pool| pool.retire());
    }

    /// A connection of this worker that can take a request.
    pub(super) async fn lend<H: Host>(self: &Rc<Self>, host: &H, worker: usize) -> Result<Lent, PoolFailure> {
        let pool = self.pools[worker].get_or_init(|| Rc::new(Pool::new(self.is_retired.get())));
        pool.lend(host, self).await
    }
}

/// The output of `future`, unless `timeout` passes first. It takes the future by reference: one taken by value would be held twice in
/// the caller's state, and copied.
pub(super) async fn within<H: Host, F: Future>(
    host: &H,
    timeout: Duration,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    let mut limit = pin!(host.sleep_until(host.now().after(timeout)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => limit.as_mut().poll(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests;
