//! Queues behind a balancer, on the engine: Poisson arrivals, a real [`Picker`], and servers that each serve one request at a time in an
//! exponential time of mean 1 s. Hosts are idle at first; what comes in the warm-up is served and not counted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use gatedrill::engine::{Sim, Streams};
use gatedrill::gateway::balance::{BalanceConfig, BalancedHost, HostSets, PickRequest, Picker, Policy};
use gatedrill::units::SimTime;

/// The mean time of service, the unit of all results.
pub(crate) const SERVICE: Duration = Duration::from_secs(1);

/// Hosts and what comes to them.
#[derive(Clone, Copy)]
pub(crate) struct Queues {
    /// How requests are spread.
    pub(crate) policy: Policy,
    /// Hosts.
    pub(crate) hosts: u32,
    /// Arrivals at each host in a time of service, below 1.
    pub(crate) load: f64,
    /// Arrivals that count.
    pub(crate) arrivals: u32,
    /// Arrivals before those, in times of service.
    pub(crate) warm_up: u32,
}

/// Means over all arrivals that count, in times of service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// From the arrival to the start of the service.
    pub(crate) wait: f64,
    /// From the arrival to the end of it.
    pub(crate) sojourn: f64,
}

impl Queues {
    /// Runs to the last arrival.
    pub(crate) fn run(self, seed: u64) -> Means {
        let (sim, streams) = (Sim::new(), Streams::new(seed));
        let result: Rc<Cell<Option<Means>>> = Rc::default();
        let (clock, told) = (sim.clone(), Rc::clone(&result));
        sim.spawn("arrivals", async move { told.set(Some(self.arrive(&clock, streams).await)) });
        sim.run_until(SimTime::MAX).expect("the world goes on");
        result.get().expect("the last request has come")
    }

    async fn arrive(self, sim: &Sim, streams: Streams) -> Means {
        let stream = |purpose| streams.stream(purpose, "queues");
        let (mut gaps, mut services, picks) = (stream("gaps"), stream("services"), RefCell::new(stream("picks")));
        let host = |number: u32| BalancedHost {
            weight: 1,
            priority: 0,
            locality: None,
            is_healthy: true,
            hash_key: Some(format!("host-{number}").into()),
            slow_start_since: None,
        };
        let sets = HostSets::new(BalanceConfig::new(self.policy), 0, (0..self.hosts).map(host).collect());
        let active: Rc<Vec<Cell<u32>>> = Rc::new((0..self.hosts).map(|_| Cell::new(0)).collect());
        let mut free_at = vec![SimTime::ZERO; active.len()];
        let draw = |bound| picks.borrow_mut().below(bound);
        let mut picker = Picker::default();
        picker.refresh(&sets, SimTime::ZERO, |_| 0, draw);
        let gap = SERVICE.div_f64(self.load * f64::from(self.hosts));
        let counts_from = SimTime::ZERO.after(SERVICE * self.warm_up);
        let (mut counted, mut wait, mut sojourn) = (0, 0.0, 0.0);
        while counted < self.arrivals {
            sim.sleep(gaps.exponential(gap)).await;
            let now = sim.now();
            let picked = picker.pick(&sets, &PickRequest::default(), |_| false, |at| active[at].get(), now, draw);
            let picked = picked.expect("all hosts are healthy");
            let begins_at = free_at[picked].max(now);
            let ends_at = begins_at.after(services.exponential(SERVICE));
            free_at[picked] = ends_at;
            active[picked].set(active[picked].get() + 1);
            let (end, active) = (sim.sleep_until(ends_at), Rc::clone(&active));
            sim.spawn("service", async move {
                end.await;
                active[picked].set(active[picked].get() - 1);
            });
            if now >= counts_from {
                counted += 1;
                wait += begins_at.since(now).as_secs_f64();
                sojourn += ends_at.since(now).as_secs_f64();
            }
        }
        let mean = |sum: f64| sum / f64::from(counted) / SERVICE.as_secs_f64();
        Means { wait: mean(wait), sojourn: mean(sojourn) }
    }
}
