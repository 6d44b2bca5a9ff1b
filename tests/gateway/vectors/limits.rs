//! Circuit breakers: who waits, who is refused, and who falls with a connection that fails.

use gatedrill::gateway::limits::Limits;
use gatedrill::gateway::retry::RetryOn;
use gatedrill::gateway::{ClusterConfig, RetryPolicy};

use super::world::{Act, Answer, MS, NOW, SECOND, Setup, WEB, World};

fn limited(limits: Limits) -> World {
    let mut setup = Setup { config: ClusterConfig { limits, ..ClusterConfig::ISTIO }, ..Setup::default() };
    setup.forward.retry = RetryPolicy::NONE;
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..22);
    world
}

fn is_overloaded(answer: &Answer) -> bool {
    answer.head.contains("x-envoy-overloaded: true")
}

const ONE: Limits = Limits { connections: 1, pending_requests: 1, ..Limits::ISTIO };
const OVERFLOW: &str = "503 UO upstream_reset_before_response_started{overflow} 1";
const WELL: &str = "200 - via_upstream 1";

#[test]
fn a_request_that_waits_for_its_own_connection_occupies_the_pending_slot() {
    let world = limited(ONE);
    let seen = world.pod(21, |_, _| Act::After(10 * MS));
    (0..3).for_each(|_| world.get_at(NOW));
    let answers = world.run_until(SECOND);
    let lines: Vec<_> = answers.iter().map(Answer::line).collect();
    assert_eq!(lines, ["18 200 10", "4 503 81", "4 503 81"]);
    assert_eq!(answers.iter().map(is_overloaded).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(
        (world.log(), seen.borrow().len()),
        (vec![OVERFLOW.to_owned(), OVERFLOW.to_owned(), WELL.to_owned()], 1)
    );
}

#[test]
fn two_may_wait_where_two_are_allowed_to() {
    let world = limited(Limits { pending_requests: 2, ..ONE });
    world.pod(21, |_, _| Act::After(10 * MS));
    (0..3).for_each(|_| world.get_at(NOW));
    assert_eq!(world.lines_until(SECOND), ["18 200 10", "30 200 10", "4 503 81"]);
}

#[test]
fn behind_a_busy_connection_one_waits_and_the_next_is_refused() {
    let world = limited(ONE);
    let seen = world.pod(21, |_, _| Act::After(100 * MS));
    // The first is at the pod from 6 ms to 106 ms, and its answer at the gateway at 107 ms; the second follows at once.
    [0, 20, 30, 110].into_iter().for_each(|at| world.get_at(at * MS));
    let answers = world.run_until(SECOND);
    let lines: Vec<_> = answers.iter().map(Answer::line).collect();
    assert_eq!(lines, ["108 200 10", "210 200 10", "34 503 81", "312 200 10"]);
    assert_eq!(answers.iter().map(is_overloaded).collect::<Vec<_>>(), [false, false, true, false]);
    assert_eq!((world.log(), seen.borrow().len()), ([OVERFLOW, WELL, WELL, WELL].map(str::to_owned).to_vec(), 3));
}

#[test]
fn a_failed_connect_fails_all_that_wait_at_one_instant() {
    let world = limited(Limits { connections: 1, ..Limits::ISTIO });
    world.refuse(21);
    // The first reaches the gateway at 3 ms, the last just before the refusal does at 5 ms.
    (0..10).for_each(|number| world.get_at(number * MS / 5));
    let answers = world.run_until(SECOND);
    let instants: Vec<_> = answers.iter().map(|answer| answer.at.as_nanos()).collect();
    assert_eq!(instants, [6_000_000; 10]);
    let failure = "503 UF upstream_reset_before_response_started{remote_connection_failure} 1";
    assert_eq!(world.log(), vec![failure; 10]);
}

#[test]
fn who_comes_after_a_failed_connect_has_one_of_its_own() {
    let world = limited(Limits { connections: 1, ..Limits::ISTIO });
    world.refuse(21);
    world.get_at(NOW);
    world.get_at(3 * MS);
    assert_eq!(world.lines_until(SECOND), ["6 503 98", "9 503 98"]);
}

#[test]
fn a_retry_over_its_limit_does_not_happen_and_the_log_says_so() {
    let refused = "upstream_reset_before_response_started{remote_connection_failure}";
    let [over, exhausted] = [format!("503 UF,UO {refused} 1"), format!("503 UF,URX {refused} 3")];
    for (retries, expected) in [
        (0, [&over, &over]),
        // The first to fail takes the only place, and keeps it to the end of its try.
        (1, [&over, &exhausted]),
        (2, [&exhausted, &exhausted]),
    ] {
        let limits = Limits { retries, ..Limits::ISTIO };
        let world = World::new(Setup { config: ClusterConfig { limits, ..ClusterConfig::ISTIO }, ..Setup::default() });
        world.set_endpoints(WEB, 21..22);
        world.refuse(21);
        (0..2).for_each(|_| world.get_at(NOW));
        let answers = world.run_until(SECOND);
        assert_eq!(world.log().iter().collect::<Vec<_>>(), expected, "{retries}");
        assert!(!answers.iter().any(is_overloaded), "they got the failure that would have been retried");
    }
}

#[test]
fn an_answer_whose_retry_is_over_the_limit_goes_to_the_client() {
    for (retries, remark) in [(0, "503 UO via_upstream 1"), (1, "200 - via_upstream 2")] {
        let limits = Limits { retries, ..Limits::ISTIO };
        let config = ClusterConfig { limits, ..ClusterConfig::ISTIO };
        let mut setup = Setup { config, ..Setup::default() };
        setup.forward.retry = RetryPolicy { retry_on: RetryOn::FIVE_XX, ..RetryPolicy::ISTIO };
        let world = World::new(setup);
        world.set_endpoints(WEB, 21..22);
        world.pod(21, |_, number| Act::Status(if number == 0 { 503 } else { 200 }));
        world.get_at(NOW);
        world.run_until(SECOND);
        assert_eq!(world.log(), [remark]);
    }
}
