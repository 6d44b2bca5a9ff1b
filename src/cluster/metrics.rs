//! From what processes use to the samples an autoscaler sees: the kubelet reads counters, the metrics server scrapes the kubelets, and a rate
//! takes two points. A new pod has no sample, neither of processor time nor of memory, until both are there.
//!
//! Together with the autoscaler's own period that makes a load visible 15 to 60 s after it came.
//!
//! Approximated: the kubelet reads every container at exactly its period (its own loop adds jitter and may slow down to 15 s).
//! Source: kubernetes-sigs/metrics-server pkg/storage/pod.go (`Store`, `GetMetrics`), pkg/storage/types.go (`resourceUsage`); Kubernetes
//! pkg/kubelet/cadvisor/cadvisor_linux.go (reads every 10 s).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::autoscaler::Start;
use super::selector::Labels;
use crate::units::SimTime;

/// A container at least so old, and younger than a scrape's period, counts from its start. Source: metrics-server
/// `freshContainerMinMetricsResolution`.
const FRESH_MIN: Duration = Duration::from_secs(10);
const NANOS: u128 = 1_000_000_000;

/// What a process has used so far. None: not modelled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Processor time since its start.
    pub cpu: Option<Duration>,
    /// Memory now.
    pub memory_bytes: Option<u64>,
    /// Requests since its start.
    pub requests: Option<u64>,
}

/// What the kubelet read of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// When.
    pub at: SimTime,
    /// When the container had started.
    pub start: Start,
    /// What it read.
    pub usage: Usage,
}

/// What a pod used between its last two points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// The later point.
    pub at: SimTime,
    /// From the earlier to the later.
    pub window: Duration,
    /// Thousandths of a core, rounded up.
    pub cpu_milli: Option<i64>,
    /// Memory at the later.
    pub memory_bytes: Option<u64>,
    /// Requests per second, in thousandths.
    pub requests_milli: Option<i64>,
}

/// The metrics server and the kubelets it scrapes; pods by their numbers.
#[derive(Clone, Debug)]
pub struct MetricsServer {
    resolution: Duration,
    kubelets: BTreeMap<u64, Point>,
    last: BTreeMap<u64, Point>,
    previous: BTreeMap<u64, Point>,
}

impl MetricsServer {
    /// One that scrapes every `resolution`.
    #[must_use]
    pub fn new(resolution: Duration) -> Self {
        Self { resolution, kubelets: BTreeMap::new(), last: BTreeMap::new(), previous: BTreeMap::new() }
    }

    /// A kubelet reads a pod's counters.
    pub fn read(&mut self, pod: u64, point: Point) {
        self.kubelets.insert(pod, point);
    }

    /// A pod that was scraped before the run.
    pub fn find(&mut self, pod: u64, point: Point) {
        self.kubelets.insert(pod, point);
        self.last.insert(pod, point);
    }

    /// A pod has left its node; the next scrape does not find it.
    pub fn forget(&mut self, pod: u64) {
        self.kubelets.remove(&pod);
    }

    /// Scrapes all kubelets.
    pub fn scrape(&mut self) {
        let earlier = |pod: &u64, new: &Point| -> Option<Point> {
            if let Start::At(start) = new.start
                && (FRESH_MIN..self.resolution).contains(&new.at.since(start))
            {
                let none_yet = Usage {
                    cpu: new.usage.cpu.map(|_| Duration::ZERO),
                    requests: new.usage.requests.map(|_| 0),
                    ..new.usage
                };
                return Some(Point { at: start, start: new.start, usage: none_yet });
            }
            let last = self.last.get(pod)?;
            let is_same_run = match new.start {
                Start::LongAgo => true,
                Start::At(start) => start < last.at,
            };
            if !is_same_run {
                return None;
            }
            if new.at > last.at {
                return Some(*last);
            }
            self.previous.get(pod).filter(|previous| previous.at < new.at).copied()
        };
        let previous = self.kubelets.iter().filter_map(|(pod, new)| Some((*pod, earlier(pod, new)?))).collect();
        self.previous = previous;
        self.last = self.kubelets.clone();
    }

    /// What a pod uses; none while there are not two points of it.
    #[must_use]
    pub fn rates(&self, pod: u64) -> Option<Rates> {
        let (last, previous) = (self.last.get(&pod)?, self.previous.get(&pod)?);
        let window = last.at.since(previous.at);
        let window_ns = window.as_nanos();
        let cpu = match (last.usage.cpu, previous.usage.cpu) {
            (Some(last), Some(previous)) => Some(last.checked_sub(previous)?),
            _ => None,
        };
        let nanocores = cpu.map(|spent| spent.as_nanos() * NANOS / window_ns);
        let requests = match (last.usage.requests, previous.usage.requests) {
            (Some(last), Some(previous)) => Some(u128::from(last.checked_sub(previous)?) * 1000 * NANOS / window_ns),
            _ => None,
        };
        let small = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        Some(Rates {
            at: last.at,
            window,
            cpu_milli: nanocores.map(|nanocores| small(nanocores.div_ceil(1_000_000))),
            memory_bytes: last.usage.memory_bytes,
            requests_milli: requests.map(small),
        })
    }
}

/// A metric whose values are given, or are the requests of the pods themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedMetric {
    /// Its name, as autoscalers ask for it.
    pub name: Rc<str>,
    /// The labels of this series of it, which autoscalers may select by.
    pub labels: Labels,
    /// Whose it is, and what it comes to.
    pub of: MetricOf,
}

/// Whose a metric is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetricOf {
    /// Each pod's requests per second, between its last two points.
    Requests,
    /// Each running pod has this value.
    Pods(Curve),
    /// The object (`Kind/name`) has this value.
    Object(Rc<str>, Curve),
    /// Something outside of the cluster has this value.
    External(Curve),
}

/// A value over time. Before its begin it has the first value, after its end the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Curve {
    /// When the first stretch begins.
    pub begins_at: SimTime,
    /// One or more.
    pub stretches: Vec<Stretch>,
}

/// A stretch of a curve: straight from one value to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// How long.
    pub length: Duration,
    /// At its begin, in thousandths.
    pub from_milli: i64,
    /// At its end, in thousandths.
    pub to_milli: i64,
}

impl Curve {
    /// The value at a moment, in thousandths.
    #[must_use]
    pub fn at(&self, now: SimTime) -> i64 {
        let mut begins_at = self.begins_at;
        for stretch in &self.stretches {
            let ends_at = begins_at.after(stretch.length);
            if now < ends_at {
                let passed = i128::from(now.as_nanos().saturating_sub(begins_at.as_nanos()));
                let length = i128::from(ends_at.as_nanos() - begins_at.as_nanos());
                let rise = i128::from(stretch.to_milli) - i128::from(stretch.from_milli);
                let value = i128::from(stretch.from_milli) + rise * passed / length;
                return i64::try_from(value).unwrap_or(i64::MAX);
            }
            begins_at = ends_at;
        }
        self.stretches.last().map_or(0, |stretch| stretch.to_milli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn read(server: &mut MetricsServer, seconds: u64, start: Start, cpu_ms: u64) {
        let usage = Usage { cpu: Some(Duration::from_millis(cpu_ms)), memory_bytes: Some(50), requests: Some(cpu_ms) };
        server.read(1, Point { at: at(seconds), start, usage });
    }

    /// Seconds of the later point and of the window, and thousandths of a core.
    fn told(server: &MetricsServer) -> Option<(u64, u64, i64)> {
        let rates = server.rates(1)?;
        Some((rates.at.as_nanos() / 1_000_000_000, rates.window.as_secs(), rates.cpu_milli?))
    }

    #[test]
    fn a_pod_has_a_sample_from_its_second_point_on() {
        let mut server = MetricsServer::new(Duration::from_secs(15));
        let start = Start::At(at(100));
        read(&mut server, 105, start, 500);
        server.scrape();
        assert_eq!(told(&server), None);
        // The same point again is no second one.
        server.scrape();
        assert_eq!(told(&server), None);
        read(&mut server, 125, start, 2500);
        server.scrape();
        assert_eq!(told(&server), Some((125, 20, 100)));
        assert_eq!(server.rates(1).and_then(|it| it.requests_milli), Some(100_000));
        // A scrape without a new point keeps the pair.
        server.scrape();
        assert_eq!(told(&server), Some((125, 20, 100)));
    }

    #[test]
    fn a_container_of_ten_seconds_counts_from_its_start() {
        let mut server = MetricsServer::new(Duration::from_secs(15));
        read(&mut server, 112, Start::At(at(100)), 3001);
        server.scrape();
        assert_eq!(told(&server), Some((112, 12, 251)), "rounded up");
        read(&mut server, 109, Start::At(at(100)), 900);
        let mut early = MetricsServer::new(Duration::from_secs(15));
        read(&mut early, 109, Start::At(at(100)), 900);
        early.scrape();
        assert_eq!(told(&early), None);
    }

    #[test]
    fn a_restart_takes_the_sample_away() {
        let mut server = MetricsServer::new(Duration::from_secs(15));
        for (seconds, cpu_ms) in [(10, 0), (20, 1000)] {
            read(&mut server, seconds, Start::LongAgo, cpu_ms);
            server.scrape();
        }
        assert_eq!(told(&server), Some((20, 10, 100)));
        read(&mut server, 33, Start::At(at(31)), 10);
        server.scrape();
        assert_eq!(told(&server), None);
        server.forget(1);
        server.scrape();
        assert_eq!(told(&server), None);
    }

    #[test]
    fn a_curve_is_straight_between_its_values() {
        let stretch =
            |seconds, from_milli, to_milli| Stretch { length: Duration::from_secs(seconds), from_milli, to_milli };
        let curve = Curve { begins_at: at(5), stretches: vec![stretch(10, 1000, 2000), stretch(10, 500, 500)] };
        let values = [0, 5, 10, 14, 15, 24, 25, 100].map(|seconds| curve.at(at(seconds)));
        assert_eq!(values, [1000, 1000, 1500, 1900, 500, 500, 500, 500]);
    }
}
