//! A gateway worker's world inside a simulated pod: virtual time, the simulated network, a modelled processor.
//!
//! Code takes no virtual time, so work is charged. Each worker is an event loop that does one thing after another; a CPU limit
//! adds the kernel's quota: limit × 100 ms in each period of 100 ms, shared by the workers; once it is spent, all stop until
//! the next period. Source: Linux CFS bandwidth control; kubelet pkg/kubelet/cm/helpers_linux.go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::memory::Memory;
use crate::engine::{Sim, Stream, TaskGroup};
use crate::gateway::{Host, Work};
use crate::net;
use crate::units::SimTime;

/// Length of a quota period. Source: Kubernetes `cpuCFSQuotaPeriod`.
const PERIOD_NS: u64 = 100_000_000;
/// Connections that wait to be accepted. Source: Linux `net.core.somaxconn`.
const BACKLOG: usize = 4096;

/// What work costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuCosts {
    /// One request.
    pub request: Duration,
    /// One new downstream connection.
    pub connection: Duration,
}

/// The processors of one pod.
#[derive(Debug)]
pub struct Cpu {
    costs: CpuCosts,
    /// Nanoseconds per period; none: no limit, or one that its workers cannot reach.
    quota_ns: Option<u64>,
    /// When each worker is done with what it was given.
    busy_until: RefCell<Vec<SimTime>>,
    /// Use of the quota in the present period and later ones.
    used_ns: RefCell<BTreeMap<u64, u64>>,
    total_ns: Cell<u64>,
}

impl Cpu {
    /// The processors of a pod with `workers` workers under a limit in thousandths of a core.
    #[must_use]
    pub fn new(costs: CpuCosts, workers: usize, limit_millicores: Option<u64>) -> Self {
        let quota_ns = limit_millicores.map(|limit| limit * (PERIOD_NS / 1000));
        let reach_ns = u64::try_from(workers).unwrap_or(u64::MAX).saturating_mul(PERIOD_NS);
        Self {
            costs,
            quota_ns: quota_ns.filter(|quota| *quota < reach_ns),
            busy_until: RefCell::new(vec![SimTime::ZERO; workers]),
            used_ns: RefCell::default(),
            total_ns: Cell::new(0),
        }
    }

    /// Processor time spent or promised so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns.get())
    }

    /// Processor time spent by now: what waits for its turn is not. The use of a quota is taken to come first in its period, by the workers that
    /// are still busy.
    #[must_use]
    pub fn spent(&self, now: SimTime) -> Duration {
        let busy_until = self.busy_until.borrow();
        let waits_ns = |until_ns: u64| until_ns.saturating_sub(now.as_nanos());
        let outstanding_ns: u64 = match self.quota_ns {
            None => busy_until.iter().map(|until| waits_ns(until.as_nanos())).sum(),
            Some(_) => {
                let period = now.as_nanos() / PERIOD_NS;
                let used_ns = self.used_ns.borrow();
                let later_ns: u64 = used_ns.range(period + 1..).map(|(_, used)| used).sum();
                let passed_ns = now.as_nanos() % PERIOD_NS;
                let period_end_ns = (period + 1) * PERIOD_NS;
                let waiting: Vec<u64> = busy_until
                    .iter()
                    .map(|until| waits_ns(until.as_nanos().min(period_end_ns)))
                    .filter(|waits_ns| *waits_ns > 0)
                    .collect();
                let done_ns = passed_ns * u64::try_from(waiting.len()).unwrap_or(u64::MAX);
                let used_now_ns = used_ns.get(&period).copied().unwrap_or(0);
                later_ns + waiting.iter().sum::<u64>().min(used_now_ns.saturating_sub(done_ns))
            }
        };
        Duration::from_nanos(self.total_ns.get().saturating_sub(outstanding_ns))
    }

    /// When `worker` is done with work given to it `now`.
    fn schedule(&self, worker: usize, now: SimTime, cost: Duration) -> SimTime {
        let mut busy_until = self.busy_until.borrow_mut();
        let start = busy_until[worker].max(now);
        let cost_ns = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.total_ns.set(self.total_ns.get() + cost_ns);
        let end = match self.quota_ns {
            None => start.after(cost),
            Some(quota_ns) => self.spend(quota_ns, now, start, cost_ns),
        };
        busy_until[worker] = end;
        end
    }

    fn spend(&self, quota_ns: u64, now: SimTime, start: SimTime, mut cost_ns: u64) -> SimTime {
        let mut used_ns = self.used_ns.borrow_mut();
        let current = now.as_nanos() / PERIOD_NS;
        while used_ns.first_key_value().is_some_and(|(period, _)| *period < current) {
            used_ns.pop_first();
        }
        let mut at_ns = start.as_nanos();
        loop {
            let period = at_ns / PERIOD_NS;
            let used = used_ns.entry(period).or_default();
            let period_end_ns = (period + 1) * PERIOD_NS;
            let slice_ns = cost_ns.min(quota_ns.saturating_sub(*used)).min(period_end_ns - at_ns);
            *used += slice_ns;
            cost_ns -= slice_ns;
            if cost_ns == 0 {
                return SimTime::from_nanos(at_ns + slice_ns);
            }
            at_ns = period_end_ns;
        }
    }
}

/// One worker of a gateway in a simulated pod. Clones are handles to the same worker.
#[derive(Clone)]
pub struct PodHost {
    sim: Sim,
    host: net::Host,
    tasks: TaskGroup,
    random: Rc<RefCell<Stream>>,
    cpu: Rc<Cpu>,
    memory: Rc<Memory>,
    worker: usize,
}

impl PodHost {
    /// Worker number `worker` of the pod on `host`. Its tasks belong to `tasks` and die with it.
    #[must_use]
    pub fn new(sim: &Sim, host: net::Host, tasks: TaskGroup, random: Stream, cpu: Rc<Cpu>, worker: usize) -> Self {
        let (random, memory) = (Rc::new(RefCell::new(random)), Rc::default());
        Self { sim: sim.clone(), host, tasks, random, cpu, memory, worker }
    }

    /// The same worker, in a process with this memory.
    #[must_use]
    pub fn with_memory(self, memory: Rc<Memory>) -> Self {
        Self { memory, ..self }
    }
}

impl Host for PodHost {
    type Stream = net::TcpStream;
    type Listener = net::Listener;

    fn now(&self) -> SimTime {
        self.sim.now()
    }

    fn sleep_until(&self, deadline: SimTime) -> impl Future<Output = ()> + 'static {
        self.sim.sleep_until(deadline)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(name, task);
    }

    fn random(&self) -> u64 {
        self.random.borrow_mut().bits()
    }

    fn listen(&self, port: u16) -> io::Result<net::Listener> {
        self.host.listen(port, BACKLOG)
    }

    async fn accept(&self, listener: &net::Listener) -> io::Result<(net::TcpStream, SocketAddr)> {
        let stream = listener.accept().await;
        let client = SocketAddr::V4(stream.peer_addr());
        Ok((stream, client))
    }

    fn dial(&self, to: SocketAddr) -> impl Future<Output = io::Result<net::TcpStream>> + 'static {
        let host = self.host.clone();
        async move {
            let SocketAddr::V4(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
            Ok(host.connect(to).await?)
        }
    }

    fn local_address(&self, stream: &net::TcpStream) -> Option<SocketAddr> {
        Some(SocketAddr::V4(stream.local_addr()))
    }

    async fn charge(&self, work: Work) {
        let cost = match work {
            Work::Request => {
                self.memory.request_begun();
                self.cpu.costs.request
            }
            Work::Connection => {
                self.memory.connection_opened();
                self.cpu.costs.connection
            }
        };
        if !cost.is_zero() {
            let done_at = self.cpu.schedule(self.worker, self.sim.now(), cost);
            self.sim.sleep_until(done_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(workers: usize, limit_millicores: u64) -> Cpu {
        let costs = CpuCosts { request: Duration::from_millis(1), connection: Duration::ZERO };
        Cpu::new(costs, workers, Some(limit_millicores))
    }

    fn done_ms(cpu: &Cpu, worker: usize, at_ms: u64, cost_ms: u64) -> u64 {
        let at = SimTime::from_nanos(at_ms * 1_000_000);
        cpu.schedule(worker, at, Duration::from_millis(cost_ms)).as_nanos() / 1_000_000
    }

    #[test]
    fn a_worker_does_one_thing_after_another() {
        let cpu = cpu(2, 2000);
        assert_eq!([done_ms(&cpu, 0, 0, 10), done_ms(&cpu, 0, 5, 10), done_ms(&cpu, 1, 5, 10)], [10, 20, 15]);
        assert_eq!(done_ms(&cpu, 0, 50, 10), 60);
        assert_eq!(cpu.total(), Duration::from_millis(40));
    }

    #[test]
    fn work_that_waits_is_not_spent_yet() {
        // Two workers that their limit cannot stop: 30 ms of work given to the first, 10 to the second.
        let free = cpu(2, 2000);
        for worker in [0, 0, 0, 1] {
            done_ms(&free, worker, 0, 10);
        }
        let spent = |cpu: &Cpu, at_ms: u64| cpu.spent(SimTime::from_nanos(at_ms * 1_000_000)).as_millis();
        assert_eq!([0, 5, 10, 15, 30, 99].map(|at_ms| spent(&free, at_ms)), [0, 10, 20, 25, 40, 40]);
        // Half a core: of 120 ms, 50 are spent in each period.
        let limited = cpu(2, 500);
        done_ms(&limited, 0, 0, 120);
        assert_eq!([50, 100, 150, 199, 220, 250].map(|at_ms| spent(&limited, at_ms)), [50, 50, 100, 100, 120, 120]);
    }

    #[test]
    fn a_spent_quota_stops_all_workers_until_the_next_period() {
        // Half a core: 50 ms in each 100.
        let cpu = cpu(2, 500);
        assert_eq!(done_ms(&cpu, 0, 0, 50), 50);
        assert_eq!(done_ms(&cpu, 1, 10, 1), 101, "the other worker has nothing left");
        assert_eq!(done_ms(&cpu, 0, 60, 60), 211, "49 ms of this period, the rest in the next");
    }
}
