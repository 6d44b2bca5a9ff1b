//! Clusters and their endpoints: who is in rotation, who is picked, what becomes of who fails.
//!
//! Endpoints that stay keep their connections, counts and ejections. One that is taken away closes its idle connections; busy
//! ones finish first. An assignment of endpoints is shared with other gateways; what a process knows of an endpoint it keeps from the endpoint's first use
//! on, and a cluster that nobody has asked for an endpoint only remembers what it was told. Settings that change make a new cluster of the old one, as a new one from xDS does: connections, counts and
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
use super::assignment::{LoadAssignment, balanced};
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
    hosts: RefCell<Hosts>,
    /// What it was told before anybody asked it for an endpoint: of hundreds of clusters a process may use few.
    unread: RefCell<Vec<LoadAssignment>>,
    /// It has been asked for an endpoint.
    is_used: Cell<bool>,
    /// One for each worker.
    pickers: Vec<RefCell<Picker>>,
    is_sweeping: Cell<bool>,
}

/// So many assignments are kept unread at most.
const UNREAD_MAX: usize = 64;

/// The endpoints of a cluster.
#[derive(Default)]
struct Hosts {
    assigned: LoadAssignment,
    /// What this process knows of each of them; nothing of those that it has not used, unless they are counted.
    endpoints: Vec<OnceCell<Rc<Endpoint>>>,
    /// None before the first assignment.
    sets: Option<Rc<HostSets>>,
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

    /// Whether hosts are young for a time, from when they are first in rotation.
    fn has_slow_start(&self) -> bool {
        self.config.balance.slow_start.is_some()
    }

    /// Whether each host is known from when it is first assigned: its age counts, or its number among all.
    fn knows_all(&self) -> bool {
        self.has_slow_start() || self.detector.is_some()
    }

    /// Whether the hosts in rotation are those that are ready, and all of the same age.
    fn has_all_in_rotation(&self) -> bool {
        !self.has_slow_start() && self.detector.as_ref().is_none_or(|detector| !detector.borrow().has_ejected())
    }
}

impl Hosts {
    /// What this process knows of an endpoint, from now on.
    fn endpoint(&self, index: usize, terms: &Rc<Terms>, workers: usize) -> &Rc<Endpoint> {
        let address = self.assigned.endpoints()[index].address;
        self.endpoints[index].get_or_init(|| Rc::new(Endpoint::new(address, terms, workers)))
    }

    /// Requests in flight to an endpoint.
    fn active(&self, index: usize) -> u32 {
        self.endpoints[index].get().map_or(0, |endpoint| endpoint.active.get())
    }

    /// Those that this process knows anything of.
    fn known(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        self.endpoints.iter().filter_map(OnceCell::get)
    }

    /// Sorted for balancing.
    fn sorted(&self, terms: &Terms, now: SimTime) -> Rc<HostSets> {
        if terms.has_all_in_rotation() {
            return self.assigned.sorted(&terms.config);
        }
        let host = |(config, endpoint): (&EndpointConfig, &OnceCell<Rc<Endpoint>>)| {
            let host = balanced(config, &terms.config);
            match endpoint.get() {
                Some(endpoint) => endpoint.in_rotation(host, now),
                None => host,
            }
        };
        let hosts = self.assigned.endpoints().iter().zip(&self.endpoints).map(host).collect();
        Rc::new(HostSets::new(terms.config.balance, u64::from(terms.config.panic_threshold_percent), hosts))
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
        Self {
            name,
            observer,
            terms: RefCell::new(Rc::new(Terms::new(config, host))),
            hosts: RefCell::default(),
            unread: RefCell::default(),
            is_used: Cell::new(false),
            pickers: (0..workers).map(|_| RefCell::default()).collect(),
            is_sweeping: Cell::new(false),
        }
    }

    /// Makes these the settings. If they differ from those before, connections and counts begin anew.
    pub(super) fn set_config<H: Host>(&self, config: ClusterConfig, host: &H) {
        if self.terms.borrow().config == config {
            return;
        }
        let former = self.hosts.take();
        former.known().for_each(|endpoint| endpoint.retire());
        *self.terms.borrow_mut() = Rc::new(Terms::new(config, host));
        let last = self.unread.take().pop().unwrap_or(former.assigned);
        self.set_endpoints(&last, host);
    }

    /// Makes these the endpoints. Those that stay keep their connections, counts and ejections.
    pub(super) fn set_endpoints<H: Host>(&self, assignment: &LoadAssignment, host: &H) {
        let terms = Rc::clone(&self.terms.borrow());
        let unread_count = {
            let mut unread = self.unread.borrow_mut();
            // Where hosts are numbered it matters who came before whom.
            if !terms.knows_all() {
                unread.clear();
            }
            unread.push(assignment.clone());
            unread.len()
        };
        if self.is_used.get() || terms.has_slow_start() || unread_count > UNREAD_MAX {
            self.read(host);
        } else if assignment.takes_seed(&terms.config) {
            let draw = |bound| random_below(host.random(), bound);
            self.pickers.iter().for_each(|picker| picker.borrow_mut().take_seed(draw));
        }
    }

    /// Takes in what it was told.
    fn read<H: Host>(&self, host: &H) {
        let unread = self.unread.take();
        if unread.is_empty() {
            return;
        }
        unread.into_iter().for_each(|assignment| self.take_in(assignment));
        self.refresh(host);
    }

    fn take_in(&self, assigned: LoadAssignment) {
        let terms = Rc::clone(&self.terms.borrow());
        let former = self.hosts.take();
        let next = Hosts { endpoints: vec![OnceCell::new(); assigned.endpoints().len()], assigned, sets: former.sets };
        let mut gone = BTreeMap::new();
        for endpoint in former.endpoints.into_iter().filter_map(OnceCell::into_inner) {
            let index = next.assigned.index_of(endpoint.address);
            let place = index.map(|index| &next.endpoints[index]).filter(|place| place.get().is_none());
            match place {
                Some(place) => place.set(endpoint).unwrap_or_else(|_| unreachable!("the place is free")),
                None => drop(gone.insert(endpoint.address, endpoint)),
            }
        }
        if terms.knows_all() {
            (0..next.endpoints.len()).for_each(|index| {
                next.endpoint(index, &terms, self.pickers.len());
            });
        }
        gone.values().for_each(|endpoint| endpoint.retire());
        *self.hosts.borrow_mut() = next;
    }

    /// Sorts the endpoints anew, after a change of them or of their health.
    fn refresh<H: Host>(&self, host: &H) {
        let now = host.now();
        let hosts = self.hosts.borrow();
        let sets = hosts.sorted(&self.terms.borrow(), now);
        for picker in &self.pickers {
            let draw = |bound| random_below(host.random(), bound);
            picker.borrow_mut().refresh(&sets, now, |index| hosts.active(index), draw);
        }
        drop(hosts);
        self.hosts.borrow_mut().sets = Some(sets);
    }

    /// An endpoint for the next try.
    pub(super) fn pick<H: Host>(&self, worker: usize, host: &H, context: &PickContext<'_>) -> Option<Rc<Endpoint>> {
        if !self.is_used.replace(true) {
            self.read(host);
        }
        let hosts = self.hosts.borrow();
        let sets = hosts.sets.as_ref()?;
        let assigned = hosts.assigned.endpoints();
        let is_avoiding = context.retry.avoids_previous_hosts && !context.tried.is_empty();
        let is_leaving_priorities = context.retry.retry_remote_localities && context.tried.len() > 1;
        let load = is_leaving_priorities.then(|| sets.load().without(&tried_priorities(assigned, context.tried)));
        let request =
            PickRequest { hash: context.hash, repicks: if is_avoiding { REPICKS_MAX } else { 0 }, load: load.as_ref() };
        let chosen = self.pickers[worker].borrow_mut().pick(
            sets,
            &request,
            |index| context.tried.contains(&assigned[index].address),
            |index| hosts.active(index),
            host.now(),
            |bound| random_below(host.random(), bound),
        );
        chosen.map(|index| Rc::clone(hosts.endpoint(index, &self.terms.borrow(), self.pickers.len())))
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
        let hosts = self.hosts.borrow();
        let address = |id| hosts.known().find(|endpoint| endpoint.outlier_id == Some(id)).map(|found| found.address);
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
        self.hosts.take().known().for_each(|endpoint| endpoint.retire());
    }
}

/// The priorities that a retry leaves out: those tried before, as of every second try.
fn tried_priorities(endpoints: &[EndpointConfig], tried: &[SocketAddr]) -> Vec<bool> {
    let counted = &tried[..tried.len() - tried.len() % 2];
    let mut priorities = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| counted.contains(&endpoint.address)) {
        let priority = usize::try_from(endpoint.priority).expect("a priority is a small number");
        priorities.resize(priorities.len().max(priority + 1), false);
        priorities[priority] = true;
    }
    priorities
}

impl Endpoint {
    fn new(address: SocketAddr, terms: &Rc<Terms>, workers: usize) -> Self {
        Self {
            address,
            terms: Rc::clone(terms),
            outlier_id: terms.detector.as_ref().map(|detector| detector.borrow_mut().add()),
            in_rotation_since: Cell::new(None),
            active: Cell::new(0),
            pools: (0..workers).map(|_| OnceCell::new()).collect(),
            is_retired: Cell::new(false),
        }
    }

    /// As a balancer sees it, by whether it is ejected and since when it is in rotation.
    fn in_rotation(&self, host: BalancedHost, now: SimTime) -> BalancedHost {
        let detector = self.terms.detector.as_ref().zip(self.outlier_id);
        let is_ejected = detector.is_some_and(|(detector, id)| detector.borrow().is_ejected(id));
        let is_healthy = host.is_healthy && !is_ejected;
        if is_healthy && self.in_rotation_since.get().is_none() {
            self.in_rotation_since.set(Some(now));
        }
        BalancedHost { is_healthy, slow_start_since: self.in_rotation_since.get(), ..host }
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
