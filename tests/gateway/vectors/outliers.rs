//! Who is in rotation: endpoints that answer 503 are taken out, young ones get less, and when few are left all may be used, or none.

use std::time::Duration;

use gatedrill::gateway::balance::{BalanceConfig, SlowStart};
use gatedrill::gateway::outlier::OutlierConfig;
use gatedrill::gateway::{ClusterConfig, EndpointConfig, Policy};
use gatedrill::units::SimTime;

use super::world::{Act, MS, SECOND, Setup, WEB, World, endpoint};

/// A world of pods from 21 on that take turns, watched like this.
fn watched(outlier: OutlierConfig, pods: u8) -> World {
    let config = ClusterConfig { outlier: Some(outlier), ..ClusterConfig::balanced(Policy::RoundRobin) };
    let world = World::new(Setup { config, ..Setup::default() });
    world.set_endpoints(WEB, 21..21 + pods);
    world
}

/// Requests at this pace until then.
fn ask_every(world: &World, pace: Duration, end: Duration) {
    let count = u32::try_from(end.as_nanos() / pace.as_nanos()).expect("a small number");
    (0..count).for_each(|number| world.get_at(pace * number));
    world.run_until(end);
}

fn after(at: SimTime) -> Duration {
    at.since(SimTime::ZERO)
}

/// How long the first endpoint was out, each time.
fn times_out(world: &World) -> Vec<Duration> {
    let told = world.ejections();
    assert!(told.iter().all(|(_, what)| what.starts_with("10.0.0.21:80")), "{told:?}");
    let pairs = told.chunks(2).map(|pair| {
        assert!(pair[0].1.ends_with("out") && pair[1].1.ends_with("back"), "{told:?}");
        pair[1].0.since(pair[0].0)
    });
    pairs.collect()
}

#[test]
fn five_failures_eject_and_the_cap_protects_the_second() {
    let world = watched(OutlierConfig::ISTIO, 10);
    let first = world.pod(21, |_, number| Act::Status(if number < 5 { 503 } else { 200 }));
    // Fails only while the first one is out.
    let second = world.pod(22, |at, _| {
        let is_failing = (5 * SECOND..25 * SECOND).contains(&after(at));
        Act::Status(if is_failing { 503 } else { 200 })
    });
    (23..31).for_each(|last| drop(world.pod(last, |_, _| Act::Status(200))));
    ask_every(&world, 50 * MS, 60 * SECOND);
    let out = times_out(&world);
    assert_eq!(out.len(), 1);
    assert!((30 * SECOND..40 * SECOND).contains(&out[0]), "{out:?}");
    // Its fifth answer was its last until it came back, and clients saw exactly those five and those of the second.
    let gap = first.borrow()[5].at.since(first.borrow()[4].at);
    assert!((30 * SECOND..41 * SECOND).contains(&gap), "{gap:?}");
    let failing = second.borrow().iter().filter(|seen| (5 * SECOND..25 * SECOND).contains(&after(seen.at))).count();
    assert!(failing > 40, "it stays in rotation: {failing}");
    assert_eq!(world.log().iter().filter(|line| line.starts_with("503 - via_upstream 1")).count(), 5 + failing);
}

#[test]
fn of_nine_none_may_be_ejected() {
    let world = watched(OutlierConfig::ISTIO, 9);
    let first = world.pod(21, |_, _| Act::Status(503));
    (22..30).for_each(|last| drop(world.pod(last, |_, _| Act::Status(200))));
    ask_every(&world, 50 * MS, 20 * SECOND);
    assert!(world.ejections().is_empty());
    assert!(first.borrow().len() >= 40, "{}", first.borrow().len());
}

#[test]
fn failures_count_only_in_a_row() {
    // Four, a success, four more, a success; and then five.
    for (is_failing, ejections) in [
        ((|number| number != 4 && number < 9) as fn(usize) -> bool, 0),
        ((|number| number != 4 && number < 10) as fn(usize) -> bool, 1),
    ] {
        let world = watched(OutlierConfig::ISTIO, 10);
        world.pod(21, move |_, number| Act::Status(if is_failing(number) { 503 } else { 200 }));
        (22..31).for_each(|last| drop(world.pod(last, |_, _| Act::Status(200))));
        ask_every(&world, 50 * MS, 30 * SECOND);
        assert_eq!(world.ejections().len(), ejections);
    }
}

#[test]
fn a_second_ejection_at_once_lasts_twice_as_long_and_one_after_a_sweep_does_not() {
    for (recovery, second) in [(Duration::ZERO, 60 * SECOND..70 * SECOND), (11 * SECOND, 30 * SECOND..40 * SECOND)] {
        let world = watched(OutlierConfig::ISTIO, 10);
        // Back at 40 s, as it is ejected before 10 s; it fails again until it is out again.
        let is_well = move |at: Duration| (40 * SECOND..40 * SECOND + recovery).contains(&at) || at > 70 * SECOND;
        world.pod(21, move |at, _| Act::Status(if is_well(after(at)) { 200 } else { 503 }));
        (22..31).for_each(|last| drop(world.pod(last, |_, _| Act::Status(200))));
        ask_every(&world, 20 * MS, 120 * SECOND);
        let out = times_out(&world);
        assert_eq!(out.len(), 2);
        assert!((30 * SECOND..40 * SECOND).contains(&out[0]) && second.contains(&out[1]), "{out:?}");
    }
}

#[test]
fn with_all_endpoints_out_there_is_no_healthy_upstream() {
    let outlier = OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::ISTIO };
    let world = watched(outlier, 2);
    let pods = [21, 22].map(|last| world.pod(last, |_, _| Act::Status(503)));
    ask_every(&world, 100 * MS, 2 * SECOND);
    let log = world.log();
    assert_eq!(log[..10], vec!["503 - via_upstream 1"; 10]);
    assert_eq!(log[10..], vec!["503 UH no_healthy_upstream 1"; 10]);
    assert_eq!(pods.map(|seen| seen.borrow().len()), [5, 5]);
}

/// Which of eight pods were used, where so many of them are ready.
fn used(ready: u8, panic_threshold_percent: u32) -> usize {
    let config = ClusterConfig { panic_threshold_percent, ..ClusterConfig::balanced(Policy::RoundRobin) };
    let world = World::new(Setup { config, ..Setup::default() });
    let pods: Vec<_> = (21..29).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
    let config = |last| EndpointConfig { is_healthy: last < 21 + ready, ..EndpointConfig::new(endpoint(last)) };
    world.configure_endpoints(WEB, &(21..29).map(config).collect::<Vec<_>>());
    ask_every(&world, 10 * MS, SECOND);
    pods.iter().filter(|seen| !seen.borrow().is_empty()).count()
}

#[test]
fn panic_uses_all_endpoints_below_its_threshold_and_not_at_it() {
    assert_eq!([used(4, 50), used(3, 50), used(3, 0), used(0, 50), used(0, 0)], [4, 8, 3, 8, 0]);
}

/// The share of a thousand requests that the first priority got, percent, where so many of its hundred pods are ready, and so many of the second.
fn first_share(ready: [u8; 2]) -> usize {
    let world = World::new(Setup { config: ClusterConfig::balanced(Policy::RoundRobin), ..Setup::default() });
    let of = |priority: u8| {
        (0..100).map(move |number| EndpointConfig {
            priority: priority.into(),
            is_healthy: number < ready[usize::from(priority)],
            ..EndpointConfig::new(endpoint(21 + 100 * priority + number))
        })
    };
    world.configure_endpoints(WEB, &of(0).chain(of(1)).collect::<Vec<_>>());
    let start = |last| world.pod(last, |_, _| Act::Status(200));
    let pods: Vec<_> = (21..121).map(start).collect();
    (121..221).for_each(|last| drop(start(last)));
    ask_every(&world, MS, SECOND);
    world.run_until(2 * SECOND);
    assert_eq!(world.log().iter().filter(|line| line.starts_with("200 - via_upstream 1")).count(), 1000);
    pods.iter().map(|seen| seen.borrow().len()).sum()
}

#[test]
fn a_priority_spills_over_below_the_health_it_was_provisioned_for() {
    // Of a thousand draws, within four deviations.
    for (ready, percent) in [([72, 100], 100), ([71, 100], 99), ([50, 100], 70), ([25, 100], 35), ([25, 25], 50)] {
        let share = f64::from(percent) / 100.0;
        let bound = 4.0 * (1000.0 * share * (1.0 - share)).sqrt();
        let count = f64::from(u32::try_from(first_share(ready)).expect("no more than were sent"));
        assert!((count - 1000.0 * share).abs() <= bound, "{ready:?}: {count} instead of {percent} % ± {bound}");
        assert!(percent == 100 || count < 1000.0, "{ready:?}: {count}");
    }
}

/// Of a thousand requests about this time after the second of two pods came, how many it gets.
fn share_of_the_young(aggression: f64, age_s: u32) -> usize {
    let slow_start = Some(SlowStart { window: 60 * SECOND, aggression, ..SlowStart::OFF });
    let balance = BalanceConfig { slow_start, ..BalanceConfig::new(Policy::RoundRobin) };
    let world = World::new(Setup { config: ClusterConfig { balance, ..ClusterConfig::ISTIO }, ..Setup::default() });
    let [_, young] = [21, 22].map(|last| world.pod(last, |_, _| Act::Status(200)));
    world.set_endpoints(WEB, 21..22);
    world.run_until(100 * SECOND);
    world.set_endpoints(WEB, 21..23);
    let first = (100 + age_s) * SECOND - SECOND / 2;
    (0..1000).for_each(|number| world.get_at(first + number * MS));
    world.run_until(200 * SECOND);
    assert_eq!(world.log().len(), 1000);
    young.borrow().len()
}

#[test]
fn a_young_endpoint_has_a_weight_that_grows() {
    // The weight beside 1: a tenth until 6 s, a sixtieth for each second from then on, all from 60 s on; with aggression 2 the root of it.
    for (aggression, age_s, weight) in
        [(1.0, 3, 0.1), (1.0, 5, 0.1), (1.0, 9, 0.15), (1.0, 30, 0.5), (1.0, 61, 1.0), (2.0, 15, 0.5)]
    {
        let count = f64::from(u32::try_from(share_of_the_young(aggression, age_s)).expect("no more than were sent"));
        let expected = 1000.0 * weight / (1.0 + weight);
        assert!((count - expected).abs() <= 3.0, "{aggression} {age_s} s: {count} instead of {expected}");
    }
}
