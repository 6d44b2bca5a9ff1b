//! Five gateways' ways to end, in the world of the closed forms: one of four pods is deleted, each gets a request every 50 ms.
//!
//! Each setting is tried on both sides of where it begins to matter.

use std::time::Duration;

use gatedrill::gateway::shutdown::{Contour, Haproxy, IngressNginx, StopSignal, Traefik};
use gatedrill::gateway::{Move, ShutdownMode};
use serde_json::json;

use crate::closed_forms::{Shutdown, lost};
use crate::replayed;
use crate::world::world;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Refused, and lost in other ways, with a new connection for each request, a balancer's lag and requests of a length.
#[track_caller]
fn check(moves: Vec<Move>, lag_s: u32, service_ms: u64, expected: (u64, u64)) {
    // The drain that the case describes is replaced, but tells how long it runs.
    let case = Shutdown { lag_s, pre_stop_s: 0, drain_s: 12, grace_s: 30, service_ms }.case();
    let mut world = world(&case);
    for pods in world.members[0].gateways.values_mut() {
        pods.specs.values_mut().for_each(|spec| spec.agent.shutdown = moves.clone());
    }
    assert_eq!(lost(world), expected, "{moves:?}");
}

#[test]
fn shutdown_of_ingress_nginx_refuses_from_its_quit_on() {
    let nginx = |grace, worker| {
        let (shutdown_grace_period, worker_shutdown_timeout) = (s(grace), s(worker));
        IngressNginx { shutdown_grace_period, worker_shutdown_timeout, ..IngressNginx::DEFAULT }.moves()
    };
    for (grace, refused) in [(0, 80), (3, 20), (4, 0), (5, 0)] {
        check(nginx(grace, 240), 4, 2, (refused, 0));
    }
    // Requests of 3 s that the quit finds under way; those that are younger than a second are cut after 2 s.
    check(nginx(0, 2), 0, 3000, (0, 20));
    check(nginx(0, 4), 0, 3000, (0, 0));
}

#[test]
fn shutdown_of_contour_ends_at_the_first_look_that_finds_few() {
    let contour = |delay, min_open_connections| {
        Contour { check_delay: s(delay), min_open_connections, ..Contour::DEFAULT }.moves()
    };
    for (delay, refused) in [(0, 80), (3, 20), (4, 0), (5, 0)] {
        check(contour(delay, 0), 4, 2, (refused, 0));
    }
    // 60 requests are under way.
    check(contour(0, 60), 0, 3000, (0, 60));
    check(contour(0, 59), 0, 3000, (0, 0));
}

#[test]
fn shutdown_of_traefik_accepts_for_its_grace_and_then_waits_for_requests() {
    let traefik = |accept, grace| Traefik { request_accept_grace_timeout: s(accept), grace_time_out: s(grace) }.moves();
    for (accept, refused) in [(0, 80), (3, 20), (4, 0), (5, 0)] {
        check(traefik(accept, 10), 4, 2, (refused, 0));
    }
    check(traefik(0, 1), 0, 3000, (0, 40));
    check(traefik(0, 3), 0, 3000, (0, 0));
}

#[test]
fn shutdown_of_haproxy_depends_on_the_signal() {
    let soft = |grace, hard_stop: Option<u64>| {
        Haproxy { grace: s(grace), hard_stop_after: hard_stop.map(s), ..Haproxy::DEFAULT }.moves()
    };
    let hard = Haproxy { stop_signal: StopSignal::Term, ..Haproxy::DEFAULT }.moves();
    for (grace, refused) in [(0, 80), (3, 20), (4, 0), (5, 0)] {
        check(soft(grace, None), 4, 2, (refused, 0));
    }
    check(hard.clone(), 4, 2, (80, 0));
    check(hard, 0, 3000, (0, 60));
    check(soft(0, Some(2)), 0, 3000, (0, 20));
    check(soft(0, None), 0, 3000, (0, 0));
}

/// Ten of forty kept connections are on the pod, each used once in 4 s. Envoy tells them with an answer; who quits closes those that are idle.
#[test]
fn shutdown_closes_idle_connections_where_the_gateway_quits() {
    let drain = ShutdownMode::Drain { duration: s(12) }.moves();
    let contour = Contour { check_delay: s(12), ..Contour::DEFAULT }.moves();
    let quits = [IngressNginx::DEFAULT.moves(), Traefik::DEFAULT.moves(), Haproxy::DEFAULT.moves()];
    for (moves, blind_lose) in quits.into_iter().map(|moves| (moves, 10)).chain([(drain, 0), (contour, 0)]) {
        for (watches, expected) in [(true, 0), (false, blind_lose)] {
            let mut case = Shutdown { lag_s: 0, pre_stop_s: 0, drain_s: 12, grace_s: 30, service_ms: 2 }.case();
            case["inputs"]["rate_per_s"] = json!(10);
            let client = &mut case["inputs"]["client"];
            client["reuse"] = json!("lru");
            client["connections"] = json!(40);
            client["prewarm"] = json!(true);
            client["detect_idle_close"] = json!(watches);
            let mut world = world(&case);
            for pods in world.members[0].gateways.values_mut() {
                pods.specs.values_mut().for_each(|spec| spec.agent.shutdown = moves.clone());
            }
            let run = replayed(world);
            assert_eq!(run.results.totals.dropped, expected, "{moves:?}, watching: {watches}");
            assert!(
                run.results.causes.iter().all(|cause| cause.name == "exit-idle-connection"),
                "{:?}",
                run.results.causes
            );
        }
    }
}
