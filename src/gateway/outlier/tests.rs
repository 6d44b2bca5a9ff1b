use super::*;

fn at(seconds: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(seconds))
}

fn detecting(config: OutlierConfig, hosts: usize) -> (Detector, Vec<HostId>) {
    let mut detector = Detector::new(config, SimTime::ZERO);
    let hosts = (0..hosts).map(|_| detector.add()).collect();
    (detector, hosts)
}

/// So many answers with a status, at a time.
fn answers(detector: &mut Detector, host: HostId, status: u16, count: usize, now: SimTime) {
    for _ in 0..count {
        detector.report(host, Outcome::Status(status), now, |_| 0);
    }
}

/// When a host that is ejected now comes back, in seconds; sweeps are every 10 s.
fn returns_at(detector: &mut Detector, host: HostId) -> u64 {
    loop {
        let sweep_at = detector.next_sweep().expect("a host is ejected");
        detector.sweep(sweep_at, |_| 0);
        if !detector.is_ejected(host) {
            return sweep_at.as_nanos() / 1_000_000_000;
        }
    }
}

#[test]
fn the_fifth_failure_in_a_row_ejects_for_the_base_time_and_until_the_next_sweep() {
    for (failed_at, returns) in [(0, 30), (1, 40), (9, 40), (10, 40), (11, 50)] {
        let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 10);
        detector.sweep(at(failed_at), |_| 0);
        answers(&mut detector, hosts[0], 503, 4, at(failed_at));
        assert!(!detector.is_ejected(hosts[0]));
        answers(&mut detector, hosts[0], 503, 1, at(failed_at));
        assert!(detector.is_ejected(hosts[0]));
        assert_eq!(returns_at(&mut detector, hosts[0]), returns, "failed at {failed_at} s");
    }
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 10);
    answers(&mut detector, hosts[0], 503, 5, at(0));
    answers(&mut detector, hosts[1], 503, 5, at(0));
    assert_eq!([0, 1].map(|host| detector.is_ejected(hosts[host])), [true, false], "2 of 10 are 20 %");
    let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 9);
    answers(&mut detector, hosts[0], 503, 100, at(0));
    assert!(!detector.is_ejected(hosts[0]), "1 of 9 is 11 %");
    let always = OutlierConfig { always_eject_one_host: true, ..OutlierConfig::ISTIO };
    let (mut detector, hosts) = detecting(always, 9);
    answers(&mut detector, hosts[0], 503, 5, at(0));
    assert!(detector.is_ejected(hosts[0]), "older Envoys ejected one whatever the share");
}

#[test]
fn a_success_starts_the_count_again() {
    let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 10);
    answers(&mut detector, hosts[0], 500, 4, at(0));
    answers(&mut detector, hosts[0], 404, 1, at(0));
    answers(&mut detector, hosts[0], 500, 4, at(0));
    assert!(!detector.is_ejected(hosts[0]));
}

#[test]
fn ejections_that_follow_each_other_grow_and_clean_sweeps_shrink_them() {
    let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 10);
    answers(&mut detector, hosts[0], 503, 5, at(0));
    assert_eq!(returns_at(&mut detector, hosts[0]), 30);
    answers(&mut detector, hosts[0], 503, 5, at(31));
    assert_eq!(returns_at(&mut detector, hosts[0]), 100, "60 s from 31 s, at the sweep after it");
    detector.sweep(at(120), |_| 0);
    answers(&mut detector, hosts[0], 503, 5, at(120));
    assert_eq!(returns_at(&mut detector, hosts[0]), 150, "two clean sweeps: 30 s again");
}

#[test]
fn local_failures_count_as_gateway_errors_unless_they_are_split() {
    for (is_split, answer) in [(false, None), (true, Some(200))] {
        let config = OutlierConfig { split_external_local_origin_errors: is_split, ..OutlierConfig::ISTIO };
        let (mut detector, hosts) = detecting(config, 10);
        for outcome in [Outcome::ConnectFailed, Outcome::TimedOut].into_iter().cycle().take(5) {
            assert!(!detector.is_ejected(hosts[0]));
            // With split errors answers do not touch the local counter.
            if let Some(status) = answer {
                answers(&mut detector, hosts[0], status, 1, at(0));
            }
            detector.report(hosts[0], outcome, at(0), |_| 0);
        }
        assert!(detector.is_ejected(hosts[0]), "split: {is_split}");
    }
}

#[test]
fn a_host_far_below_the_others_is_ejected_at_the_sweep() {
    let config = OutlierConfig {
        enforcing: Enforcing { consecutive_5xx: 0, ..OutlierConfig::ENVOY.enforcing },
        ..OutlierConfig::ENVOY
    };
    let (mut detector, hosts) = detecting(OutlierConfig { max_ejection_percent: 100, ..config }, 10);
    for host in &hosts {
        answers(&mut detector, *host, 200, 95, at(1));
    }
    answers(&mut detector, hosts[3], 500, 100, at(1));
    for host in hosts.iter().filter(|host| **host != hosts[3]) {
        answers(&mut detector, *host, 500, 5, at(1));
    }
    let told = detector.sweep(at(10), |_| 0);
    assert_eq!(told, [Ejection::Ejected(hosts[3], Detection::SuccessRate)]);
    let told = detector.sweep(at(20), |_| 0);
    assert_eq!(told, [], "the next interval had no requests");
}

#[test]
fn a_host_that_is_taken_away_makes_room() {
    let (mut detector, hosts) = detecting(OutlierConfig::ISTIO, 11);
    answers(&mut detector, hosts[0], 503, 5, at(0));
    detector.remove(hosts[0]);
    assert_eq!(detector.next_sweep(), None);
    answers(&mut detector, hosts[1], 503, 5, at(0));
    assert!(detector.is_ejected(hosts[1]));
}
