//! Requests that are sent more than once: again, or as a copy. And those that go to the same place.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::gateway::retry::RetryOn;
use gatedrill::gateway::routes::{HashPolicy, Millionths, Mirror};
use gatedrill::gateway::{ClusterConfig, Policy, RetryPolicy};

use super::world::{Act, COPY, MS, NOW, SECOND, Seen, Setup, WEB, World, pattern};

const MIB: usize = 1 << 20;

fn post(bytes: usize) -> String {
    format!("POST /cart HTTP/1.1\r\nhost: shop:8080\r\ncontent-length: {bytes}\r\n\r\n")
}

/// A world of one pod that answers the first request like this and all others with 200.
fn failing_first(first: Act) -> (World, Rc<RefCell<Vec<Seen>>>) {
    let mut setup = Setup::default();
    setup.forward.retry = RetryPolicy { retry_on: RetryOn::FIVE_XX, ..RetryPolicy::ISTIO };
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..22);
    let seen = world.pod(21, move |_, number| if number == 0 { first } else { Act::Status(200) });
    (world, seen)
}

#[test]
fn a_body_is_kept_and_sent_again_as_a_whole() {
    for (first, bytes) in [(Act::Status(503), 100_000), (Act::Reset, 100_000), (Act::Status(503), MIB)] {
        let (world, seen) = failing_first(first);
        let half = bytes / 2;
        // In two parts, of which each is a pattern from its start.
        world.send_at(NOW, &post(bytes), &[(NOW, half), (10 * MS, bytes - half)]);
        world.run_until(SECOND);
        assert_eq!(world.log(), ["200 - via_upstream 2"]);
        let whole = [pattern(half), pattern(bytes - half)].concat();
        assert!(seen.borrow().len() == 2 && seen.borrow().iter().all(|seen| seen.body == whole));
    }
}

#[test]
fn an_answer_before_the_end_of_the_body_is_retried_with_all_of_it() {
    let (world, seen) = failing_first(Act::Early(503));
    world.send_at(NOW, &post(200), &[(NOW, 100), (500 * MS, 100)]);
    let lines = world.lines_until(SECOND);
    assert_eq!(world.log(), ["200 - via_upstream 2"]);
    assert_eq!(lines, ["506 200 10"], "as soon as the body has come through");
    let (first, second) = (&seen.borrow()[0], &seen.borrow()[1]);
    assert!(first.body.len() <= 100 && second.body == [pattern(100), pattern(100)].concat());
}

#[test]
fn a_body_above_the_limit_is_sent_once() {
    let (world, seen) = failing_first(Act::Status(503));
    world.send_at(NOW, &post(MIB + 1), &[(NOW, MIB + 1)]);
    world.run_until(SECOND);
    assert_eq!(world.log(), ["503 - via_upstream 1"]);
    assert!(seen.borrow().len() == 1 && seen.borrow()[0].body == pattern(MIB + 1), "whole all the same");
}

#[test]
fn a_route_timeout_counts_from_the_end_of_the_request() {
    // The body is at the gateway 100 ms after the head; to the pod and back it takes 2 ms.
    for (service_ms, remark) in [(47, "200 - via_upstream 1"), (49, "504 UT upstream_response_timeout 1")] {
        let mut setup = Setup::default();
        setup.forward.timeout = Some(50 * MS);
        let world = World::new(setup);
        world.set_endpoints(WEB, 21..22);
        world.pod(21, move |_, _| Act::After(service_ms * MS));
        world.send_at(NOW, &post(20), &[(50 * MS, 10), (50 * MS, 10)]);
        let lines = world.lines_until(SECOND);
        assert_eq!((world.log(), lines.len()), (vec![remark.to_owned()], 1), "{service_ms} ms");
        if service_ms == 49 {
            assert_eq!(lines, ["154 504 24"]);
        }
    }
}

fn mirrored() -> World {
    let mut setup = Setup::default();
    setup.forward.mirrors = vec![Mirror { cluster: COPY.into(), share: Millionths::ALL }];
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..22);
    world.set_endpoints(COPY, 41..42);
    world
}

#[test]
fn a_mirror_gets_a_copy_with_the_host_of_a_shadow() {
    let world = mirrored();
    let (seen, copies) = (world.pod(21, |_, _| Act::Status(200)), world.pod(41, |_, _| Act::Status(200)));
    world.send_at(NOW, &post(1000), &[(NOW, 400), (5 * MS, 600)]);
    world.run_until(SECOND);
    let (seen, copies) = (seen.borrow(), copies.borrow());
    assert_eq!((seen.len(), copies.len(), world.log()), (1, 1, vec!["200 - via_upstream 1".to_owned()]));
    assert_eq!(seen[0].body, copies[0].body);
    assert!(
        seen[0].head.contains("\r\nhost: shop:8080\r\n") && copies[0].head.contains("\r\nhost: shop-shadow:8080\r\n")
    );
    assert!(copies[0].head.starts_with("post /cart http/1.1\r\n"), "{}", copies[0].head);
}

#[test]
fn a_mirror_that_fails_changes_nothing() {
    let answers = |mirror: Option<Act>| {
        let world = mirrored();
        world.pod(21, |_, _| Act::After(20 * MS));
        match mirror {
            Some(act) => drop(world.pod(41, move |_, _| act)),
            None => world.refuse(41),
        }
        world.get_at(NOW);
        world.send_at(500 * MS, &post(1000), &[(NOW, 1000)]);
        (world.lines_until(10 * SECOND), world.log())
    };
    let well = answers(Some(Act::Status(200)));
    assert_eq!(well.1, ["200 - via_upstream 1"; 2]);
    for failing in [None, Some(Act::Reset), Some(Act::Status(500)), Some(Act::After(100 * SECOND))] {
        assert_eq!(answers(failing), well);
    }
}

#[test]
fn a_cookie_is_set_once_and_leads_to_the_same_pod() {
    let mut setup = Setup { config: ClusterConfig::balanced(Policy::RING_HASH), ..Setup::default() };
    let ttl = Some(Duration::from_secs(60));
    setup.forward.hash = vec![HashPolicy::Cookie { name: "shop".to_owned(), path: Some("/".to_owned()), ttl }];
    let world = World::new(setup);
    world.set_endpoints(WEB, 21..31);
    let pods: Vec<_> = (21..31).map(|last| world.pod(last, |_, _| Act::Status(200))).collect();
    let counts = || pods.iter().map(|seen| seen.borrow().len()).collect::<Vec<_>>();
    // Ten clients without a cookie, each on a connection of its own: each gets one.
    (0..10).for_each(|number| world.get_at(number * 10 * MS));
    let answers = world.run_until(SECOND);
    let cookies: Vec<_> = answers
        .iter()
        .map(|answer| {
            let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
            assert!(line.ends_with("; max-age=60; path=/; httponly"), "{line}");
            line.split(';').next().unwrap_or_default().to_owned()
        })
        .collect();
    let first = counts();
    assert!(first.iter().filter(|count| **count > 0).count() > 3, "they are spread: {first:?}");
    // With it each goes where it was, from whatever connection, and gets no other.
    let mut at = SECOND;
    for _ in 0..5 {
        for cookie in &cookies {
            world.send_at(at, &format!("GET / HTTP/1.1\r\nhost: shop\r\ncookie: a=b; {cookie}\r\n\r\n"), &[]);
            at += 10 * MS;
        }
    }
    let answers = world.run_until(10 * SECOND);
    assert!(answers.iter().all(|answer| answer.head.contains(" 200 ") && !answer.head.contains("set-cookie")));
    assert_eq!(counts(), first.iter().map(|count| 6 * count).collect::<Vec<_>>());
}
