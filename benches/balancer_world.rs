//! A balancer with many targets and open connections: what a request through it takes, on a kept connection and on a new one.
//!
//! Requests come one after the other. Those on kept connections take so many of them in turn, the same number in a small world and in a large one: the
//! others are open and say nothing, so that what differs is the balancer and not how many connections speak.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::{EndpointView, Identity};
use gatedrill::edge::load_balancer::{BackendMode, LoadBalancer, LoadBalancerConfig, Probe};
use gatedrill::edge::{BalancerConfig, IdleEnd, IdleRule, Limits, OnRemoval, Pace, Scheduler, TargetRules};
use gatedrill::engine::{Delay, EventLog, Sim, Streams};
use gatedrill::net::{Forward, Host, LinkConfig, Net};
use gatedrill::units::SimTime;

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// So many open connections through a balancer, and the means to use it.
pub(crate) struct Balanced {
    sim: Sim,
    client: Host,
    kept: Rc<RefCell<Vec<gatedrill::net::TcpStream>>>,
    balancer: LoadBalancer,
    targets: u32,
}

impl Balanced {
    /// Opens all connections.
    pub(crate) fn new(targets: u32, connections: usize) -> Self {
        let (sim, streams) = (Sim::new(), Streams::new(1));
        let net = Net::new(&sim, streams);
        let link = LinkConfig { latency: Duration::from_micros(50), ..LinkConfig::default() };
        for number in 0..targets {
            let host = net.attach(ip(number), link);
            let clock = sim.clone();
            sim.spawn("server", async move {
                let listener = host.listen(80, 4096).expect("the port is free");
                loop {
                    let mut stream = listener.accept().await;
                    clock.spawn("answer", async move {
                        let mut request = Vec::new();
                        while matches!(stream.read(&mut request).await, Ok(1..)) {
                            request.clear();
                            if stream.write_all(b"x").await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
        }
        let prober = net.attach(Ipv4Addr::new(100, 64, 0, 1), link);
        let log = Rc::new(RefCell::new(EventLog::default()));
        let balancer = LoadBalancer::new(&sim, &net, prober, streams, log, (config(), None));
        balancer.set_addresses([VIP]);
        let view = |number: u32| EndpointView {
            ip: ip(number),
            pod: Rc::from(format!("edge-{number}")),
            node: Rc::from("node"),
            ready: true,
            serving: true,
            terminating: false,
            because: None,
        };
        balancer.handle_endpoints(&(0..targets).map(view).collect::<Vec<_>>());
        let front: Rc<dyn Forward> = Rc::new(balancer.clone());
        net.forward(VIP, LinkConfig::default(), front);
        let client = net.attach(Ipv4Addr::new(198, 51, 100, 1), link);
        let kept = Rc::new(RefCell::new(Vec::new()));
        let (dialler, opened) = (client.clone(), Rc::clone(&kept));
        sim.spawn("open", async move {
            for _ in 0..connections {
                let stream = dialler.connect(SocketAddrV4::new(VIP, 80)).await.expect("there are targets");
                opened.borrow_mut().push(stream);
            }
        });
        let all = Self { sim, client, kept, balancer, targets };
        all.go_on(connections);
        assert_eq!((all.kept.borrow().len(), all.balancer.connection_count()), (connections, connections));
        all
    }

    /// Lets this many round trips pass.
    fn go_on(&self, trips: usize) {
        let each = Duration::from_micros(400);
        let until = self.sim.now().after(each * u32::try_from(trips + 10).expect("a small number"));
        self.sim.run_until(until).expect("the world moves");
    }

    /// Requests one after the other, on so many of the kept connections in turn: those that were opened first.
    pub(crate) fn on_kept(&self, requests: usize, speaking: usize) {
        let kept = Rc::clone(&self.kept);
        self.sim.spawn("requests", async move {
            let mut answer = Vec::new();
            let mut streams = kept.take();
            for number in 0..requests {
                let stream = &mut streams[number % speaking];
                stream.write_all(b"x").await.expect("it is open");
                assert!(matches!(stream.read(&mut answer).await, Ok(1)));
                answer.clear();
            }
            kept.replace(streams);
        });
        self.go_on(requests);
        assert!(!self.kept.borrow().is_empty(), "all requests are answered");
    }

    /// Requests one after the other, each on a connection of its own, through the balancer.
    pub(crate) fn on_new(&self, requests: usize) {
        self.dial_for_each(requests, |_| VIP);
    }

    /// The same past the balancer, to one target after the other: what a connection costs without it.
    pub(crate) fn past_it(&self, requests: usize) {
        let targets = self.targets;
        self.dial_for_each(requests, move |number| ip(number % targets));
    }

    fn dial_for_each(&self, requests: usize, to: impl Fn(u32) -> Ipv4Addr + 'static) {
        let client = self.client.clone();
        let done = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&done);
        self.sim.spawn("requests", async move {
            let mut answer = Vec::new();
            for number in (0..).take(requests) {
                let mut stream = client.connect(SocketAddrV4::new(to(number), 80)).await.expect("there are targets");
                stream.write_all(b"x").await.expect("it is open");
                assert!(matches!(stream.read(&mut answer).await, Ok(1)));
                answer.clear();
                *counted.borrow_mut() += 1;
            }
        });
        self.go_on(2 * requests);
        assert_eq!(*done.borrow(), requests);
    }
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.kept.take();
        self.sim.end();
    }
}

/// The address of a target.
fn ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number + 1)
}

fn config() -> LoadBalancerConfig {
    LoadBalancerConfig {
        identity: Identity::ALONE,
        service: "bench/edge".to_owned(),
        balancer: BalancerConfig {
            scheduler: Scheduler::WeightedRoundRobin,
            persistence: None,
            health_check: None,
            first_passes: None,
            on_deregister: OnRemoval::Keep,
            on_unhealthy: OnRemoval::Keep,
            slow_start: None,
            fail_open: false,
            groups: 1,
        },
        limits: Limits { connections: Some(5_000_000), connections_per_s: Some(200_000), ..Limits::default() },
        zones: Vec::new(),
        is_cross_zone: true,
        idle: Some(IdleRule { timeout: Duration::from_secs(900), end: IdleEnd::Forgotten }),
        targets: TargetRules::of(BackendMode::Pods, 100),
        pace: Pace::Each,
        probe: Probe::Tcp,
        ways: gatedrill::edge::Ways::at_once(String::new()),
        register_latency: Delay::ZERO,
        deregister_latency: Delay::ZERO,
        ports: BTreeMap::from([(80, 80)]),
        node_ports: BTreeMap::new(),
        http: BTreeMap::new(),
        first_probe: Some(SimTime::ZERO.since(SimTime::ZERO)),
        stands_at_zero: true,
    }
}
