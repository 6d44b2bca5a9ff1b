//! The autoscaler and its metrics.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::Version;
use gatedrill::cluster::autoscaler::behavior::{Behavior, ScalingRules};
use gatedrill::cluster::autoscaler::groups::{ContainerRequests, PodView, ReadyCondition, Start};
use gatedrill::cluster::autoscaler::reconcile::{Action, Autoscaler, Scale, Selector, Sight, Verdict};
use gatedrill::cluster::autoscaler::replicas::Calculator;
use gatedrill::cluster::autoscaler::rules::{Rules, Tolerances};
use gatedrill::cluster::autoscaler::spec::{AutoscalerSpec, Metric, MetricId, ResourceName, ValueTarget};
use gatedrill::cluster::autoscaler::usage::{MetricError, MetricsSource, PodUsage, Sample};
use gatedrill::cluster::deployment::PodPhase;
use gatedrill::cluster::metrics::{MetricsServer, Point, Usage};
use gatedrill::units::SimTime;

use super::world::{at, seconds};

const VERSION: Version = Version::new(1, 28);

/// A pod that asks for one core, and has been there for long.
fn pod(number: usize) -> PodView {
    PodView {
        name: Rc::from(format!("pod-{number}")),
        phase: PodPhase::Running,
        is_deleting: false,
        start: Some(Start::LongAgo),
        ready: Some(ReadyCondition { is_ready: true, since: SimTime::ZERO }),
        containers: Rc::from([ContainerRequests {
            name: Rc::from("app"),
            cpu_milli: Some(1000),
            memory_milli: Some(1000),
        }]),
    }
}

/// What is proposed for `current` wanted pods at a target of 50 %; `use_milli` is what each uses, none if it has no sample.
fn proposed(current: i32, use_milli: &[Option<i64>], change: impl Fn(usize, &mut PodView)) -> i32 {
    let rules = Rules::of(VERSION);
    let mut pods: Vec<PodView> = (0..use_milli.len()).map(pod).collect();
    pods.iter_mut().enumerate().for_each(|(number, pod)| change(number, pod));
    let sample = |milli| Sample { milli, at: at(900), window: seconds(15) };
    let samples: BTreeMap<Rc<str>, Sample> =
        pods.iter().zip(use_milli).filter_map(|(pod, milli)| Some((Rc::clone(&pod.name), sample((*milli)?)))).collect();
    let tolerances = Tolerances { up: rules.tolerance, down: rules.tolerance };
    let calculator = Calculator { rules: &rules, tolerances, pods: &pods, now: at(900) };
    calculator.by_utilization(current, samples, ResourceName::Cpu, None, 50).expect("pods count").0
}

#[test]
fn utilization_is_a_whole_percent_and_multiplies_the_pods_that_count() {
    // 44.9 % is 44 %: beyond the tolerance. Of 45 % it is not, though 44.9 / 50 is as close to 0.9.
    assert_eq!(proposed(10, &[Some(449); 10], |_, _| ()), 9);
    assert_eq!(proposed(10, &[Some(450); 10], |_, _| ()), 10);
    // 57.9 % is 57 %: 1.14 times 50 pods, where 57.9 % would be 58.
    assert_eq!(proposed(50, &[Some(579); 50], |_, _| ()), 57);
    assert_eq!(proposed(50, &[Some(580); 50], |_, _| ()), 58);
    // Two of ten are going: double of the eight that count, not of the ten that are wanted.
    let two_go = |number: usize, pod: &mut PodView| pod.is_deleting = number < 2;
    assert_eq!(proposed(10, &[Some(1000); 10], two_go), 16);
}

#[test]
fn pods_without_use_of_their_own_damp_the_change_in_either_direction() {
    let cold = |number: usize, pod: &mut PodView| {
        if number == 0 {
            pod.phase = PodPhase::Pending;
        }
    };
    // Up: three at 100 % and one that has not started: 300 % over four pods, so 1.5 times four, not 2 times four.
    assert_eq!(proposed(4, &[Some(1000); 4], cold), 6);
    // Down: it is left out, and counts neither as idle nor as busy: 0.4 times three.
    assert_eq!(proposed(4, &[Some(200); 4], cold), 2);
    // Down: one without a sample is thought to use all it asks for: 0.8 times four, not 0.4 times three.
    let use_milli = [Some(200), Some(200), Some(200), None];
    assert_eq!(proposed(4, &use_milli, |_, _| ()), 4);
    // Up: it is thought to use nothing: 1.5 times four, not 2 times three or four.
    assert_eq!(proposed(4, &[Some(1000), Some(1000), Some(1000), None], |_, _| ()), 6);
    // What is filled in must not turn the change round: 40 % asks for fewer, 70 % with the filled-in pod for more.
    assert_eq!(proposed(2, &[Some(400), None], |_, _| ()), 2);
}

/// Metrics by name, in thousandths; one that is absent cannot be had.
struct Known(BTreeMap<&'static str, i64>);

impl MetricsSource for Known {
    fn pod_usage(&self) -> Result<Vec<PodUsage>, MetricError> {
        unreachable!("no resource is asked for")
    }

    fn pods_metric(&self, _: &MetricId) -> Result<BTreeMap<Rc<str>, Sample>, MetricError> {
        unreachable!("no pods' metric is asked for")
    }

    fn object_metric(&self, _: &MetricId, _: &str) -> Result<i64, MetricError> {
        unreachable!("no object's metric is asked for")
    }

    fn external_metric(&self, metric: &MetricId) -> Result<Vec<i64>, MetricError> {
        let missing = MetricError::NoMetrics { api: Rc::from("external metrics API") };
        self.0.get(&*metric.name).map(|value| vec![*value]).ok_or(missing)
    }
}

/// An autoscaler that wants as many pods as its metrics say, and the Deployment that follows it.
struct Scaled {
    autoscaler: Autoscaler,
    replicas: i32,
}

impl Scaled {
    fn new(replicas: i32, bounds: (i32, i32), behavior: Option<Behavior>, metrics: &[&str]) -> Self {
        let metric =
            |name: &&str| Metric::External { metric: MetricId::from(*name), target: ValueTarget::AverageMilli(1000) };
        let spec = AutoscalerSpec {
            key: Rc::from("ns/edge"),
            target: Rc::from("ns/edge"),
            min_replicas: bounds.0,
            max_replicas: bounds.1,
            metrics: metrics.iter().map(metric).collect(),
            behavior,
        };
        Self { autoscaler: Autoscaler::new(spec), replicas }
    }

    /// One sync; each metric asks for so many pods.
    fn sync(&mut self, second: u64, wanted: &[(&'static str, i32)]) -> Verdict {
        let source = Known(wanted.iter().map(|(name, pods)| (*name, i64::from(*pods) * 1000)).collect());
        let scale = Scale { spec_replicas: self.replicas, status_replicas: self.replicas, selector: Selector::Clear };
        let sight = Sight { scale: Some(scale), pods: &[], metrics: &source };
        let replicas = &mut self.replicas;
        self.autoscaler.reconcile(&Rules::of(VERSION), &sight, at(second), |size| {
            *replicas = size;
            true
        })
    }

    /// The size after a sync with one metric.
    fn size(&mut self, second: u64, wanted: i32) -> i32 {
        self.sync(second, &[("load", wanted)]);
        self.replicas
    }
}

fn with_defaults() -> Option<Behavior> {
    Some(Behavior { up: ScalingRules::default_up(), down: ScalingRules::default_down() })
}

#[test]
fn nothing_shrinks_in_the_first_five_minutes_and_an_old_peak_can_still_grow() {
    // The size that is found counts as a recommendation, to the very end of its five minutes.
    let mut fresh = Scaled::new(10, (1, 100), None, &["load"]);
    assert_eq!(fresh.size(0, 2), 10);
    assert_eq!(fresh.size(300, 2), 10);
    assert_eq!(fresh.size(301, 2), 2);
    // Twenty were wanted, eight allowed. A quarter of a minute later five would do, and the old wish brings sixteen.
    let after_a_peak = |behavior| {
        let mut peak = Scaled::new(4, (1, 100), behavior, &["load"]);
        [peak.size(400, 20), peak.size(415, 5)]
    };
    assert_eq!(after_a_peak(None), [8, 16]);
    // With `behavior` the past only holds back.
    assert_eq!(after_a_peak(with_defaults()), [8, 8]);
}

#[test]
fn a_size_outside_of_the_bounds_jumps_to_the_bound_whatever_the_limits() {
    for behavior in [None, with_defaults()] {
        let size = |replicas| Scaled::new(replicas, (30, 50), behavior.clone(), &["load"]).size(0, 40);
        assert_eq!((size(1), size(29), size(51), size(400)), (30, 30, 50, 50));
        // Within them a step up is limited: the same ten more in one step, from ten.
        let mut inside = Scaled::new(10, (10, 500), behavior.clone(), &["load"]);
        assert_eq!(inside.size(0, 400), 20);
    }
}

#[test]
fn a_limit_counts_what_changed_in_its_period_and_one_lost_metric_only_keeps_from_shrinking() {
    // From 5 to 10 at 0 s: within the 15 s of the policy it is 5 that may double, or grow by 4. At 15 s that is forgotten.
    let mut limited = Scaled::new(5, (1, 100), with_defaults(), &["load"]);
    assert_eq!((limited.size(0, 60), limited.size(14, 60), limited.size(15, 60)), (10, 10, 20));
    // Without `behavior`: twice the size or four pods, which ever is more.
    let step = |replicas, behavior| Scaled::new(replicas, (1, 100), behavior, &["load"]).size(0, 60);
    assert_eq!([1, 2, 3, 5].map(|size| step(size, None)), [4, 4, 6, 10]);
    assert_eq!([1, 2, 3, 5].map(|size| step(size, with_defaults())), [5, 6, 7, 10]);
    // One of two metrics cannot be had: the other may ask for more, and for less it is not believed.
    let half_blind = |wanted| {
        let mut scaled = Scaled::new(6, (1, 100), None, &["load", "lost"]);
        let verdict = scaled.sync(1000, &[("load", wanted)]);
        (scaled.replicas, verdict.action, verdict.error.is_some())
    };
    assert_eq!(half_blind(9), (9, Action::Up, true));
    assert_eq!(half_blind(2), (6, Action::None, true));
    // With both there it shrinks, once the size that it found is five minutes old.
    let mut seeing = Scaled::new(6, (1, 100), None, &["load", "lost"]);
    seeing.sync(0, &[("load", 2), ("lost", 3)]);
    seeing.sync(301, &[("load", 2), ("lost", 3)]);
    assert_eq!(seeing.replicas, 3);
}

#[test]
fn a_pod_has_no_use_before_the_second_scrape_and_a_step_is_seen_late() {
    let point = |second: u64, spent_ms: u64| Point {
        at: at(second),
        start: Start::At(at(0)),
        usage: Usage { cpu: Some(Duration::from_millis(spent_ms)), memory_bytes: Some(1 << 20), requests: None },
    };
    // A pod of two seconds: nothing after the first scrape, not even its memory, and the use between both after the second.
    let mut server = MetricsServer::new(seconds(15));
    server.read(1, point(2, 2000));
    server.scrape();
    assert_eq!(server.rates(1), None);
    server.read(1, point(17, 2000 + 7500));
    server.scrape();
    let rates = server.rates(1).expect("two points");
    assert_eq!((rates.cpu_milli, rates.window, rates.at), (Some(500), seconds(15), at(17)));
    // One that is between ten seconds and a scrape old counts from its start.
    let mut younger = MetricsServer::new(seconds(15));
    younger.read(1, point(10, 5000));
    younger.scrape();
    assert_eq!(younger.rates(1).map(|rates| rates.cpu_milli), Some(Some(500)));
    // Idle to 60 s, then a whole core. Counters are read every 15 s, 5 s before each scrape; who asks at 64 s hears nothing of it, at 79 s two
    // thirds, and the whole at 94 s: half a minute late.
    let mut step = MetricsServer::new(seconds(15));
    let mut seen = Vec::new();
    for scrape in [49, 64, 79, 94] {
        let read = scrape - 9;
        step.read(1, point(read, 1000 * u64::saturating_sub(read, 60)));
        step.scrape();
        seen.push(step.rates(1).and_then(|rates| rates.cpu_milli));
    }
    assert_eq!(seen, [None, Some(0), Some(667), Some(1000)]);
}
