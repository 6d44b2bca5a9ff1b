//! Connections that fail and answers that come late.

use http::StatusCode;

use gatedrill::gateway::RetryPolicy;
use gatedrill::gateway::retry::RetryOn;
use gatedrill::gateway::routes::{Abort, Fault, Millionths};

use super::world::{Act, MS, NOW, SECOND, Setup, WEB, World};

const TERMINATED: &str = "upstream_reset_before_response_started{connection_termination}";

/// A world of one pod with this retry policy.
fn with_retries(retry: RetryPolicy) -> World {
    let mut setup = Setup::default();
    setup.forward.retry = retry;
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..22);
    world
}

fn retry_on(retry_on: RetryOn) -> RetryPolicy {
    RetryPolicy { retry_on, ..RetryPolicy::ISTIO }
}

#[test]
fn a_reset_before_the_answer_is_retried_only_if_resets_are() {
    for (retry, status, tries) in [
        (RetryPolicy::ISTIO, 503, 1),
        (retry_on(RetryOn::RESET_BEFORE_REQUEST), 503, 1),
        (retry_on(RetryOn::RESET), 200, 2),
        (retry_on(RetryOn::FIVE_XX), 200, 2),
    ] {
        let world = with_retries(retry);
        let seen = world.pod(21, |_, number| if number == 0 { Act::Reset } else { Act::Status(200) });
        world.get_at(NOW);
        world.run_until(SECOND);
        let expected =
            if status == 503 { format!("503 UC {TERMINATED} {tries}") } else { format!("200 - via_upstream {tries}") };
        assert_eq!((world.log(), seen.borrow().len()), (vec![expected], tries));
    }
}

#[test]
fn an_endpoint_that_always_resets_uses_up_the_retries() {
    let world = with_retries(retry_on(RetryOn::RESET));
    let seen = world.pod(21, |_, _| Act::Reset);
    world.get_at(NOW);
    world.run_until(SECOND);
    assert_eq!((world.log(), seen.borrow().len()), (vec![format!("503 UC,URX {TERMINATED} 3")], 3));
    let counts = ["1", "2", "3"].map(|number| format!("x-envoy-attempt-count: {number}"));
    assert!(seen.borrow().iter().zip(counts).all(|(seen, count)| seen.head.contains(&count)));
}

/// Of so many requests to two endpoints of which one refuses: how many were saved by the first, second and third try, and how many were lost.
fn saved_and_lost(avoids_previous_hosts: bool, requests: u32) -> [f64; 4] {
    let mut setup = Setup::default();
    setup.forward.retry.avoids_previous_hosts = avoids_previous_hosts;
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..23);
    world.refuse(21);
    world.pod(22, |_, _| Act::Status(200));
    (0..requests).for_each(|number| world.get_at(number * SECOND));
    world.run_until((requests + 1) * SECOND);
    let log = world.log();
    let count = |line| log.iter().filter(|known| known.starts_with(line)).count();
    let lines = ["200 - via_upstream 1", "200 - via_upstream 2", "200 - via_upstream 3", "503 UF,URX"];
    lines.map(count).map(|count| f64::from(u32::try_from(count).expect("no more than were sent")))
}

#[test]
fn hosts_tried_before_are_avoided_as_far_as_six_picks_allow_and_only_if_the_policy_says_so() {
    const REQUESTS: u32 = 16_384;
    for (avoids, repeats) in [(false, 1.0 / 2.0), (true, 1.0 / 64.0)] {
        let shares: [f64; 4] = [0.5, 0.5 * (1.0 - repeats), 0.5 * repeats * (1.0 - repeats), 0.5 * repeats * repeats];
        let counts = saved_and_lost(avoids, REQUESTS);
        println!("avoided {avoids}: {counts:?} of {REQUESTS}");
        assert!((counts.iter().sum::<f64>() - f64::from(REQUESTS)).abs() < 0.5);
        for (count, share) in counts.into_iter().zip(shares) {
            // Four deviations, and room for one where hardly any is expected.
            let bound = 4.0 * (f64::from(REQUESTS) * share * (1.0 - share)).sqrt() + 1.0;
            assert!((count - share * f64::from(REQUESTS)).abs() <= bound, "{avoids}: {counts:?} instead of {shares:?}");
        }
    }
}

#[test]
fn a_fault_is_answered_without_a_try() {
    let mut setup = Setup::default();
    setup.forward.retry = retry_on(RetryOn::FIVE_XX);
    setup.fault = Some(Fault { delay: None, abort: Some((Abort::Http(StatusCode::BAD_GATEWAY), Millionths::ALL)) });
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..22);
    let seen = world.pod(21, |_, _| Act::Status(200));
    world.get_at(NOW);
    assert_eq!(world.lines_until(SECOND), ["4 502 18"]);
    assert_eq!((world.log(), seen.borrow().len()), (vec!["502 FI fault_filter_abort 0".to_owned()], 0));
}

#[test]
fn a_route_timeout_cuts_an_answer_in_the_middle() {
    // The request is complete at 3 ms, the first half of the answer is there at 7 ms and the second at 7 ms and the time it takes.
    for (rest, line, remark) in
        [(45, "53 200 10", "200 - via_upstream 1"), (47, "54 200 5", "200 UT upstream_response_timeout 1")]
    {
        let mut setup = Setup::default();
        setup.forward.timeout = Some(50 * MS);
        let world = World::new(setup);
        world.set_endpoints(WEB, 21..22);
        world.pod(21, move |_, _| Act::HalfThen(rest * MS));
        world.get_at(NOW);
        assert_eq!((world.lines_until(SECOND), world.log()), (vec![line.to_owned()], vec![remark.to_owned()]));
    }
}

#[test]
fn an_answer_that_breaks_off_is_cut_and_never_retried() {
    let world = with_retries(retry_on(RetryOn::FIVE_XX));
    let seen = world.pod(21, |_, _| Act::HalfThenReset(20 * MS));
    world.get_at(NOW);
    assert_eq!(world.lines_until(SECOND), ["28 200 5"]);
    let remark = "200 UC upstream_reset_after_response_started{connection_termination} 1";
    assert_eq!((world.log(), seen.borrow().len()), (vec![remark.to_owned()], 1));
}

#[test]
fn a_try_that_takes_too_long_is_retried_only_if_resets_are() {
    for (retry_on, first_ms, remark) in [
        (RetryOn::RESET, 47, "200 - via_upstream 1"),
        (RetryOn::RESET, 49, "200 - via_upstream 2"),
        (RetryOn::GATEWAY_ERROR, 49, "200 - via_upstream 2"),
        (RetryOn::ISTIO, 49, "504 UT upstream_per_try_timeout 1"),
    ] {
        let world = with_retries(RetryPolicy { per_try_timeout: Some(50 * MS), retry_on, ..RetryPolicy::ISTIO });
        // To the pod and back it takes 2 ms.
        world.pod(21, move |_, number| if number == 0 { Act::After(first_ms * MS) } else { Act::Status(200) });
        world.get_at(NOW);
        world.run_until(SECOND);
        assert_eq!(world.log(), [remark], "{first_ms} ms");
    }
}

#[test]
fn a_try_counts_from_the_end_of_the_request() {
    for (first_ms, remark) in [(47, "200 - via_upstream 1"), (49, "200 - via_upstream 2")] {
        let world = with_retries(RetryPolicy { per_try_timeout: Some(50 * MS), ..retry_on(RetryOn::RESET) });
        world.pod(21, move |_, number| if number == 0 { Act::After(first_ms * MS) } else { Act::Status(200) });
        let head = "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 20\r\n\r\n";
        world.send_at(NOW, head, &[(50 * MS, 10), (50 * MS, 10)]);
        world.run_until(SECOND);
        assert_eq!(world.log(), [remark], "{first_ms} ms");
    }
}

#[test]
fn tries_that_all_take_too_long_use_up_the_retries() {
    let retry = RetryPolicy { per_try_timeout: Some(50 * MS), ..retry_on(RetryOn::RESET) };
    let world = with_retries(retry);
    let seen = world.pod(21, |_, _| Act::After(SECOND));
    world.get_at(NOW);
    let lines = world.lines_until(10 * SECOND);
    assert_eq!((world.log(), seen.borrow().len()), (vec!["504 UT,URX upstream_per_try_timeout 3".to_owned()], 3));
    // Three connects of 2 ms and three tries of 50 ms, 4 ms from the client and back, and waits below 25 and 50 ms.
    let at_ms: u64 = lines[0].split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    assert!((160..160 + 75).contains(&at_ms), "{lines:?}");
}

#[test]
fn a_route_timeout_covers_connects_and_waits() {
    let mut setup = Setup::default();
    setup.forward.timeout = Some(50 * MS);
    setup.forward.retry.backoff_base = 1000 * SECOND;
    setup.forward.retry.backoff_max = 1000 * SECOND;
    let (silent, refusing) =
        (World::new(Setup { forward: setup.forward.clone(), ..Setup::default() }), World::new(setup));
    refusing.refuse(21);
    for world in [silent, refusing] {
        world.set_endpoints(WEB, 21..22);
        world.get_at(NOW);
        assert_eq!(world.lines_until(20 * SECOND), ["54 504 24"]);
        assert_eq!(world.log(), ["504 UT upstream_response_timeout 1"]);
    }
}
