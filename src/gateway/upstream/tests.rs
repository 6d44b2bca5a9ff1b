use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::drill::pod_host::{Cpu, CpuCosts, PodHost};
use crate::engine::{Sim, Streams, TaskGroup};
use crate::gateway::access::AccessRecord;
use crate::gateway::balance::{BalanceConfig, Policy};
use crate::gateway::limits::Limits;
use crate::gateway::outlier::{Detection, OutlierConfig};
use crate::net::{LinkConfig, Net};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Where things go wrong, or not.
#[derive(Default)]
struct Log(RefCell<Vec<String>>);

impl Log {
    fn say(&self, now: SimTime, text: &str) {
        self.0.borrow_mut().push(format!("{} {text}", now.as_nanos() / 1_000_000));
    }
}

/// An observer with a clock.
struct Witness {
    log: Rc<Log>,
    sim: Sim,
}

impl Observer for Witness {
    fn finished(&self, _: &AccessRecord) {}

    fn host_ejected(&self, cluster: &str, endpoint: SocketAddr, by: Detection) {
        self.log.say(self.sim.now(), &format!("{cluster} {endpoint} ejected by {by:?}"));
    }

    fn host_returned(&self, cluster: &str, endpoint: SocketAddr) {
        self.log.say(self.sim.now(), &format!("{cluster} {endpoint} returned"));
    }
}

struct World {
    sim: Sim,
    net: Net,
    host: PodHost,
    log: Rc<Log>,
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn endpoint(last: u8) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(ip(last), 80))
}

fn link() -> LinkConfig {
    LinkConfig { latency: MS / 2, ..LinkConfig::default() }
}

/// A worker on 10.0.0.11, 1 ms away from everybody.
fn world() -> World {
    let (sim, streams) = (Sim::new(), Streams::new(1));
    let net = Net::new(&sim, streams);
    let pod = net.attach(ip(11), link());
    let cpu = Rc::new(Cpu::new(CpuCosts { request: Duration::ZERO, connection: Duration::ZERO }, 1, None));
    let host = PodHost::new(&sim, pod, TaskGroup::new(&sim), streams.stream("worker", "0"), cpu, 0);
    World { sim, net, host, log: Rc::default() }
}

impl World {
    fn cluster(&self, config: ClusterConfig, endpoints: &[EndpointConfig]) -> Rc<Cluster> {
        let witness = Witness { log: Rc::clone(&self.log), sim: self.sim.clone() };
        let cluster = Cluster::new(Arc::from("web"), config, 1, Rc::new(witness), &self.host);
        cluster.set_endpoints(&LoadAssignment::new(endpoints.to_vec()), &self.host);
        Rc::new(cluster)
    }

    /// A server that accepts, says nothing, and tells when a connection begins and ends.
    fn server(&self, last: u8) {
        let host = self.net.attach(ip(last), link());
        let listener = host.listen(80, 100).unwrap();
        let (sim, log) = (self.sim.clone(), Rc::clone(&self.log));
        self.sim.spawn("server", async move {
            loop {
                let mut stream = listener.accept().await;
                let (sim_now, log) = (sim.clone(), Rc::clone(&log));
                log.say(sim.now(), "accepted");
                sim.spawn("served", async move {
                    let _host_stays = &sim_now;
                    let _ = stream.read(&mut Vec::new()).await;
                    log.say(sim_now.now(), "closed");
                });
            }
        });
        // The host is attached for as long as it is held.
        let sim = self.sim.clone();
        self.sim.spawn("host", async move {
            sim.sleep_until(SimTime::MAX).await;
            drop(host);
        });
    }

    /// Takes a connection at a time, keeps it for a while, and gives it back.
    fn borrow_at(&self, cluster: &Rc<Cluster>, at: Duration, keep: Duration) {
        let (sim, host, log, cluster) = (self.sim.clone(), self.host.clone(), Rc::clone(&self.log), Rc::clone(cluster));
        self.sim.spawn("borrower", async move {
            sim.sleep_until(SimTime::ZERO.after(at)).await;
            let picked = pick(&cluster, &host, &[]).expect("an endpoint");
            match picked.lend(&host, 0).await {
                Ok(lent) => {
                    log.say(sim.now(), "lent");
                    sim.sleep(keep).await;
                    lent.give_back();
                }
                Err(failure) => log.say(sim.now(), &format!("{failure:?}")),
            }
        });
    }

    fn run_until(&self, end: Duration) -> Vec<String> {
        self.sim.run_until(SimTime::ZERO.after(end)).expect("the world goes on");
        self.log.0.take()
    }
}

fn pick(cluster: &Cluster, host: &PodHost, tried: &[SocketAddr]) -> Option<Rc<Endpoint>> {
    let retry = RetryPolicy::ISTIO;
    cluster.pick(0, host, &PickContext { hash: None, tried, retry: &retry })
}

fn endpoints(lasts: std::ops::Range<u8>) -> Vec<EndpointConfig> {
    lasts.map(endpoint).map(EndpointConfig::new).collect()
}

fn limited(limits: Limits) -> ClusterConfig {
    ClusterConfig { limits, ..ClusterConfig::ISTIO }
}

#[test]
fn a_request_that_waits_for_its_own_connection_occupies_the_pending_slot() {
    let world = world();
    world.server(21);
    let limits = Limits { connections: 1, pending_requests: 1, ..Limits::ISTIO };
    let cluster = world.cluster(limited(limits), &endpoints(21..22));
    for _ in 0..3 {
        world.borrow_at(&cluster, Duration::ZERO, 10 * MS);
    }
    // The connection is up and busy until 12 ms: one more may wait, a third may not.
    world.borrow_at(&cluster, 5 * MS, MS);
    world.borrow_at(&cluster, 6 * MS, MS);
    let said = world.run_until(SECOND);
    assert_eq!(said, ["0 Overflow", "0 Overflow", "2 lent", "3 accepted", "6 Overflow", "12 lent"]);
}

#[test]
fn a_failed_connect_fails_all_that_wait_at_once() {
    let world = world();
    let _host = world.net.attach(ip(21), link());
    let cluster = world.cluster(ClusterConfig::ISTIO, &endpoints(21..22));
    for _ in 0..10 {
        world.borrow_at(&cluster, Duration::ZERO, MS);
    }
    assert_eq!(world.run_until(SECOND), vec!["2 Refused"; 10]);
}

#[test]
fn an_endpoint_without_a_connection_may_have_one_over_the_limit() {
    let world = world();
    world.server(21);
    world.server(22);
    let limits = Limits { connections: 1, ..Limits::ISTIO };
    let config = ClusterConfig { balance: BalanceConfig::new(Policy::RoundRobin), ..limited(limits) };
    let cluster = world.cluster(config, &endpoints(21..23));
    // In turn: two for each of two endpoints, all at once.
    for _ in 0..4 {
        world.borrow_at(&cluster, Duration::ZERO, 10 * MS);
    }
    let said = world.run_until(SECOND);
    assert_eq!(said, ["2 lent", "2 lent", "3 accepted", "3 accepted", "12 lent", "12 lent"]);
}

#[test]
fn the_limit_of_requests_holds_even_with_a_connection_at_hand() {
    for (requests, expected) in [(1, "20 Overflow"), (2, "20 lent")] {
        let world = world();
        world.server(21);
        world.server(22);
        let config = ClusterConfig {
            balance: BalanceConfig::new(Policy::RoundRobin),
            ..limited(Limits { requests, ..Limits::ISTIO })
        };
        let cluster = world.cluster(config, &endpoints(21..23));
        // In turn: each endpoint gets a connection; then one is busy, and the other is wanted.
        for (at, keep) in [(0, 1), (5, 1), (10, 20), (20, 1)] {
            world.borrow_at(&cluster, at * MS, keep * MS);
        }
        let said = world.run_until(SECOND);
        assert_eq!(said.last().map(String::as_str), Some(expected), "{said:?}");
    }
}

#[test]
fn a_connection_has_its_share_of_requests() {
    let world = world();
    world.server(21);
    let config = ClusterConfig { max_requests_per_connection: Some(2), ..ClusterConfig::ISTIO };
    let cluster = world.cluster(config, &endpoints(21..22));
    for at in [0, 10, 20] {
        world.borrow_at(&cluster, at * MS, MS);
    }
    let said = world.run_until(SECOND);
    assert_eq!(said, ["2 lent", "3 accepted", "10 lent", "12 closed", "22 lent", "23 accepted"]);
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    let world = world();
    world.server(21);
    let config = ClusterConfig { idle_timeout: Some(5 * SECOND), ..ClusterConfig::ISTIO };
    let cluster = world.cluster(config, &endpoints(21..22));
    // Free from 3 ms on, then from 3001 ms on; and once more, on a new connection that is busy for longer than the time-out.
    world.borrow_at(&cluster, Duration::ZERO, MS);
    world.borrow_at(&cluster, 3 * SECOND, MS);
    world.borrow_at(&cluster, 20 * SECOND, 30 * SECOND);
    let said = world.run_until(100 * SECOND);
    let expected = ["2 lent", "3 accepted", "3000 lent", "8002 closed", "20002 lent", "20003 accepted", "55003 closed"];
    assert_eq!(said, expected);
}

#[test]
fn what_waits_for_a_connection_is_not_active() {
    let world = world();
    world.net.attach(ip(21), link()).vanish();
    world.server(22);
    let cluster = world.cluster(ClusterConfig::ISTIO, &endpoints(21..23));
    for _ in 0..40 {
        world.borrow_at(&cluster, Duration::ZERO, 50 * SECOND);
    }
    world.run_until(SECOND);
    let active: Vec<u32> =
        (0..cluster.hosts.borrow().endpoints.len()).map(|index| cluster.hosts.borrow().active(index)).collect();
    assert_eq!(active[0], 0, "it swallows what it is sent and looks idle all the while");
    assert!(active[1] > 10);
}

#[test]
fn a_retry_avoids_where_it_was_tried_as_far_as_it_can() {
    let world = world();
    let one = world.cluster(ClusterConfig::ISTIO, &endpoints(21..22));
    assert_eq!(pick(&one, &world.host, &[endpoint(21)]).unwrap().address, endpoint(21), "there is no other");
    let two = world.cluster(ClusterConfig::ISTIO, &endpoints(21..23));
    let repeats = (0..10_000).filter(|_| pick(&two, &world.host, &[endpoint(21)]).unwrap().address == endpoint(21));
    let count = repeats.count();
    assert!((100..220).contains(&count), "all of six picks hit it in 1 of 64: {count} of 10000");
}

#[test]
fn a_retry_leaves_priorities_that_were_tried_twice() {
    let world = world();
    let mut configs = endpoints(21..24);
    configs[2].priority = 1;
    let cluster = world.cluster(ClusterConfig::ISTIO, &configs);
    let share = |tried: &[SocketAddr], retry_remote_localities| {
        let retry = RetryPolicy { retry_remote_localities, avoids_previous_hosts: false, ..RetryPolicy::ISTIO };
        let context = PickContext { hash: None, tried, retry: &retry };
        let picked = |_: &i32| cluster.pick(0, &world.host, &context).unwrap().address == endpoint(23);
        (0..100).filter(picked).count()
    };
    assert_eq!(share(&[endpoint(21)], true), 0);
    assert_eq!(share(&[endpoint(21), endpoint(22)], true), 100);
    assert_eq!(share(&[endpoint(21), endpoint(22)], false), 0);
}

/// A cluster with outlier detection, of ten endpoints from 10.0.0.21 on.
fn watched(world: &World, outlier: OutlierConfig, panic_threshold_percent: u32) -> Rc<Cluster> {
    let config = ClusterConfig { outlier: Some(outlier), panic_threshold_percent, ..ClusterConfig::ISTIO };
    world.cluster(config, &endpoints(21..31))
}

fn fail(cluster: &Rc<Cluster>, world: &World, last: u8) {
    cluster.read(&world.host);
    let found = cluster.hosts.borrow().known().find(|found| found.address == endpoint(last)).cloned().unwrap();
    for _ in 0..5 {
        cluster.report(&world.host, &found, Outcome::Status(503));
    }
}

fn is_picked(cluster: &Cluster, world: &World, last: u8) -> bool {
    (0..500).any(|_| pick(cluster, &world.host, &[]).unwrap().address == endpoint(last))
}

#[test]
fn an_ejected_endpoint_is_out_of_rotation_until_the_sweep_that_returns_it() {
    let world = world();
    let cluster = watched(&world, OutlierConfig::ISTIO, 0);
    world.run_until(SECOND);
    fail(&cluster, &world, 21);
    fail(&cluster, &world, 22);
    assert!(!is_picked(&cluster, &world, 21) && is_picked(&cluster, &world, 22), "a second one would be 20 %");
    assert_eq!(world.run_until(39 * SECOND), ["1000 web 10.0.0.21:80 ejected by Consecutive5xx"]);
    assert!(!is_picked(&cluster, &world, 21));
    assert_eq!(world.run_until(41 * SECOND), ["40000 web 10.0.0.21:80 returned"]);
    assert!(is_picked(&cluster, &world, 21));
    assert_eq!(world.sim.timer_count(), 0, "no endpoint is out: nothing to sweep for");
}

#[test]
fn endpoints_that_come_and_go_leave_ejections_as_they_are() {
    let world = world();
    let cluster = watched(&world, OutlierConfig::ISTIO, 0);
    fail(&cluster, &world, 21);
    cluster.set_endpoints(&LoadAssignment::new(endpoints(21..33)), &world.host);
    assert!(!is_picked(&cluster, &world, 21) && is_picked(&cluster, &world, 32));
    cluster.set_endpoints(&LoadAssignment::new(endpoints(22..32)), &world.host);
    fail(&cluster, &world, 22);
    assert!(!is_picked(&cluster, &world, 22), "the one that went made room");
    cluster.set_endpoints(&LoadAssignment::new(endpoints(21..32)), &world.host);
    assert!(is_picked(&cluster, &world, 21), "one that comes back is new");
}

#[test]
fn with_all_endpoints_out_there_is_none_unless_panic_is_on() {
    for (threshold, panics) in [(0, false), (50, true)] {
        let world = world();
        let cluster = watched(&world, OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::ISTIO }, threshold);
        (21..31).for_each(|last| fail(&cluster, &world, last));
        assert_eq!(pick(&cluster, &world.host, &[]).is_some(), panics, "threshold {threshold}");
    }
}

#[test]
fn unready_endpoints_count_but_are_not_used() {
    let world = world();
    let mut configs = endpoints(21..23);
    configs[0].is_healthy = false;
    let cluster = world.cluster(ClusterConfig::ISTIO, &configs);
    assert!(!is_picked(&cluster, &world, 21) && is_picked(&cluster, &world, 22));
    configs[0].is_healthy = true;
    cluster.set_endpoints(&LoadAssignment::new(configs), &world.host);
    assert!(is_picked(&cluster, &world, 21));
}

#[test]
fn changed_settings_begin_anew_and_unchanged_ones_do_nothing() {
    let world = world();
    world.server(21);
    let cluster = world.cluster(ClusterConfig::ISTIO, &endpoints(21..22));
    world.borrow_at(&cluster, Duration::ZERO, MS);
    assert_eq!(world.run_until(SECOND), ["2 lent", "3 accepted"]);
    cluster.set_config(ClusterConfig::ISTIO, &world.host);
    assert_eq!(world.run_until(2 * SECOND), [""; 0]);
    cluster.set_config(limited(Limits::ENVOY), &world.host);
    world.borrow_at(&cluster, 3 * SECOND, MS);
    assert_eq!(world.run_until(4 * SECOND), ["2001 closed", "3002 lent", "3003 accepted"]);
}

#[test]
fn retries_in_flight_are_limited_by_cluster() {
    let world = world();
    let cluster = world.cluster(limited(Limits { retries: 2, ..Limits::ISTIO }), &[]);
    let permits = [cluster.begin_retry(), cluster.begin_retry()];
    assert!(permits.iter().all(Option::is_some) && cluster.begin_retry().is_none());
    drop(permits);
    assert!(cluster.begin_retry().is_some());
}

#[test]
fn gateways_share_an_assignment_and_know_only_what_they_use() {
    let world = world();
    let assignment = LoadAssignment::new(endpoints(21..41));
    let cluster = |config| {
        let cluster = world.cluster(config, &[]);
        cluster.set_endpoints(&LoadAssignment::new(endpoints(1..20)), &world.host);
        cluster.set_endpoints(&assignment, &world.host);
        cluster
    };
    let known = |cluster: &Cluster| cluster.hosts.borrow().known().count();
    let sets = |cluster: &Cluster| cluster.hosts.borrow().sets.clone().expect("it has been asked");
    let [first, second] = [cluster(ClusterConfig::ISTIO), cluster(ClusterConfig::ISTIO)];
    assert_eq!((known(&first), first.unread.borrow().len()), (0, 1), "only the last assignment matters");
    let picked = [pick(&first, &world.host, &[]), pick(&second, &world.host, &[])];
    assert!(picked.into_iter().flatten().all(|picked| assignment.index_of(picked.address).is_some()));
    assert_eq!((known(&first), known(&second)), (1, 1));
    assert!(Rc::ptr_eq(&sets(&first), &sets(&second)));
    // Where failures are counted all hosts are known, in the order in which they came; an ejection is a process's own.
    let outlier = Some(OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::ISTIO });
    let counting = cluster(ClusterConfig { outlier, ..ClusterConfig::ISTIO });
    assert_eq!((known(&counting), counting.unread.borrow().len()), (0, 3));
    assert!(pick(&counting, &world.host, &[]).is_some());
    assert_eq!(known(&counting), 20);
    assert!(Rc::ptr_eq(&sets(&first), &sets(&counting)));
    fail(&counting, &world, 30);
    assert!(!Rc::ptr_eq(&sets(&first), &sets(&counting)));
    assert!(!is_picked(&counting, &world, 30) && is_picked(&first, &world, 30));
}
