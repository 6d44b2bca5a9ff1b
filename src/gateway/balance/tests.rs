use super::*;
use crate::engine::Streams;
use crate::gateway::host::random_below;

const NOW: SimTime = SimTime::ZERO;

fn host(weight: u32) -> BalancedHost {
    BalancedHost { weight, priority: 0, locality: None, is_healthy: true, hash_key: None, slow_start_since: None }
}

fn sets(config: BalanceConfig, hosts: Vec<BalancedHost>) -> HostSets {
    HostSets::new(config, 50, hosts)
}

/// Picks one after another, with the given draws as 64 uniform bits.
fn pick(picker: &mut Picker, sets: &HostSets, active: &[u32], mut bits: impl FnMut() -> u64) -> Option<usize> {
    let draw = |bound| random_below(bits(), bound);
    picker.pick(sets, &PickRequest::default(), |_| false, |host| active[host], NOW, draw)
}

fn fresh(sets: &HostSets) -> Picker {
    let mut picker = Picker::default();
    picker.refresh(sets, NOW, |_| 0, |_| 0);
    picker
}

#[test]
fn least_request_keeps_the_first_of_equals() {
    let sets = sets(BalanceConfig::ISTIO, vec![host(1), host(1)]);
    let pick = |bits: [u64; 2], active: [u32; 2]| {
        let mut bits = bits.into_iter();
        pick(&mut fresh(&sets), &sets, &active, || bits.next().unwrap()).unwrap()
    };
    let (low, high) = (0, u64::MAX);
    assert_eq!(pick([low, high], [1, 1]), 0);
    assert_eq!(pick([low, high], [1, 0]), 1);
    assert_eq!(pick([low, low], [9, 0]), 0, "the same endpoint may be drawn twice");
}

#[test]
fn an_endpoint_that_never_has_requests_gets_its_draws_and_no_more() {
    // One idle endpoint among four busy ones: it wins whenever it is drawn, 1 − (3/4)² = 43.75 %.
    let mut stream = Streams::new(5).stream("pick", "");
    let sets = sets(BalanceConfig::ISTIO, vec![host(1); 4]);
    let mut picker = fresh(&sets);
    let picks = (0..40_000).filter(|_| pick(&mut picker, &sets, &[0, 1, 1, 1], || stream.bits()) == Some(0));
    let share = picks.count();
    assert!((17_100..17_900).contains(&share), "{share} of 40000");
}

#[test]
fn round_robin_takes_turns_from_a_random_start() {
    let sets = HostSets::new(BalanceConfig::new(Policy::RoundRobin), 50, vec![host(1); 3]);
    let mut picker = fresh(&sets);
    let start = (SEED_BOUND - 1) % 3;
    let picks: Vec<_> = (0..4).map(|_| pick(&mut picker, &sets, &[0; 3], || u64::MAX).unwrap() as u64).collect();
    assert_eq!(picks, [start, (start + 1) % 3, (start + 2) % 3, start]);
    let none = HostSets::new(BalanceConfig::new(Policy::RoundRobin), 50, Vec::new());
    assert_eq!(pick(&mut fresh(&none), &none, &[], || 0), None);
}

#[test]
fn slow_start_grows_from_its_minimum_to_the_whole_weight() {
    let slow_start = SlowStart { window: Duration::from_secs(60), ..SlowStart::OFF };
    let at = |seconds: u64, slow_start: SlowStart| slow_start.factor(Duration::from_secs(seconds));
    let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(close(at(3, slow_start), 0.10) && close(at(6, slow_start), 0.10));
    assert!(close(at(30, slow_start), 0.5) && close(at(60, slow_start), 1.0));
    assert!(close(at(15, SlowStart { aggression: 2.0, ..slow_start }), 0.5));
    assert!(close(at(0, SlowStart::OFF), 1.0));
}

#[test]
fn a_new_host_gets_little_until_it_is_warm() {
    let slow_start = SlowStart { window: Duration::from_secs(60), ..SlowStart::OFF };
    let config = BalanceConfig { slow_start: Some(slow_start), ..BalanceConfig::new(Policy::RoundRobin) };
    let young = BalancedHost { slow_start_since: Some(SimTime::ZERO), ..host(1) };
    let sets = sets(config, vec![host(1), young]);
    let share = |seconds: u64| {
        let now = SimTime::ZERO.after(Duration::from_secs(seconds));
        let mut picker = Picker::with_seed(0);
        picker.refresh(&sets, now, |_| 0, |_| 0);
        let request = PickRequest::default();
        let picks = (0..1100).filter(|_| picker.pick(&sets, &request, |_| false, |_| 0, now, |_| 0) == Some(1));
        picks.count()
    };
    assert!((99..=101).contains(&share(3)), "a tenth of its weight: {}", share(3));
    assert!((366..=367).contains(&share(30)), "half of its weight: {}", share(30));
    assert_eq!(share(61), 550, "its whole weight");
}

#[test]
fn panic_uses_all_hosts_below_the_threshold_and_none_are_left_where_it_is_off() {
    let unhealthy = || BalancedHost { is_healthy: false, ..host(1) };
    let used = |healthy: usize, threshold| {
        let hosts = (0..8).map(|index| if index < healthy { host(1) } else { unhealthy() }).collect();
        let sets = HostSets::new(BalanceConfig::new(Policy::RoundRobin), threshold, hosts);
        let mut picker = fresh(&sets);
        let mut picks: Vec<_> = (0..8).filter_map(|_| pick(&mut picker, &sets, &[0; 8], || 0)).collect();
        picks.sort_unstable();
        picks.dedup();
        picks.len()
    };
    // 4 of 8 are 70 % health with the over-provisioning factor, below 100: the threshold counts.
    assert_eq!(used(4, 50), 4, "50 % is not below 50 %");
    assert_eq!(used(3, 50), 8);
    assert_eq!(used(1, 0), 1);
    assert_eq!(used(0, 0), 0);
}

#[test]
fn a_priority_that_fails_passes_its_load_on() {
    let lower = BalancedHost { priority: 1, ..host(1) };
    let hosts = vec![host(1), BalancedHost { is_healthy: false, ..host(1) }, lower];
    let sets = sets(BalanceConfig::ISTIO, hosts);
    assert_eq!(sets.load().healthy, [70, 30]);
    let mut stream = Streams::new(7).stream("pick", "");
    let mut picker = fresh(&sets);
    let count = (0..10_000).filter(|_| pick(&mut picker, &sets, &[0; 3], || stream.bits()) == Some(2)).count();
    assert!((2_850..3_150).contains(&count), "{count} of 10000");
}

#[test]
fn a_rejected_pick_is_made_anew_so_often_and_no_more() {
    let sets = HostSets::new(BalanceConfig::new(Policy::RoundRobin), 50, vec![host(1); 2]);
    let again = |repicks, rejected: fn(usize) -> bool| {
        let mut picker = Picker::with_seed(0);
        picker.refresh(&sets, NOW, |_| 0, |_| 0);
        let request = PickRequest { repicks, ..PickRequest::default() };
        picker.pick(&sets, &request, rejected, |_| 0, NOW, |_| 0)
    };
    assert_eq!(again(5, |host| host == 0), Some(1));
    assert_eq!(again(0, |host| host == 0), Some(0));
    assert_eq!(again(5, |_| true), Some(1), "five more picks: the sixth stands");
}

#[test]
fn a_key_keeps_its_host_and_no_key_means_any() {
    for policy in [Policy::RING_HASH, Policy::MAGLEV] {
        policy.check().unwrap();
        let hosts = (0..4).map(|number| BalancedHost { hash_key: Some(Arc::from(format!("h{number}"))), ..host(1) });
        let sets = sets(BalanceConfig::new(policy), hosts.collect());
        let mut picker = fresh(&sets);
        let mut stream = Streams::new(7).stream("pick", "");
        let mut pick = |hash| {
            let request = PickRequest { hash, ..PickRequest::default() };
            picker.pick(&sets, &request, |_| false, |_| 0, NOW, |bound| random_below(stream.bits(), bound))
        };
        let first = pick(Some(77));
        assert!((0..10).all(|_| pick(Some(77)) == first));
        let mut counts = [0; 4];
        for _ in 0..4_000 {
            counts[pick(None).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (600..1500).contains(count)), "{counts:?}");
    }
}
