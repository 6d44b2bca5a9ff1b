//! What the gateway draws for each request: the wait before a retry, and the destination.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::engine::{Delay, Sim};
use gatedrill::gateway::routes::Forward;
use gatedrill::gateway::{ClusterConfig, Destination, RetryPolicy};
use gatedrill::net::{self, ConnectionId, Syn, Verdict};
use gatedrill::units::SimTime;

use super::world::{WEB, World, endpoint, link};

const SECOND: Duration = Duration::from_secs(1);

/// Refuses every connection, and notes when it was asked for.
struct Refusing {
    sim: Sim,
    dialled: RefCell<Vec<SimTime>>,
}

impl net::Forward for Refusing {
    fn syn(&self, _: &Syn) -> Verdict {
        self.dialled.borrow_mut().push(self.sim.now());
        Verdict::Refuse { by: None, why: None }
    }

    fn ended(&self, _: ConnectionId) {}
}

/// The waits before retries 1, 2 and 3 of so many requests, one second apart.
fn waits(requests: u32) -> [Vec<Duration>; 3] {
    let retry = RetryPolicy { attempts: 3, ..RetryPolicy::ISTIO };
    let forward = Forward { retry, ..Forward::to(vec![Destination::cluster(WEB, 1)]) };
    let world = World::new(1, forward, ClusterConfig::ISTIO, &[]);
    let refusing = Rc::new(Refusing { sim: world.sim.clone(), dialled: RefCell::default() });
    let SocketAddr::V4(address) = endpoint(0) else { unreachable!("endpoints have IPv4 addresses") };
    world.net.forward(*address.ip(), link(), Rc::clone(&refusing) as Rc<dyn net::Forward>);
    world.set_endpoints(WEB, 0..1);
    let sent = world.send(requests, &Delay::Constant(SECOND), |_| String::new());
    assert!(sent.iter().all(|sent| sent.answer.starts_with("HTTP/1.1 503")));
    let expected = "503 UF,URX 4";
    for record in world.log() {
        let status = record.status.expect("an answer").as_u16();
        assert_eq!(format!("{status} {} {}", record.flags, record.attempts), expected);
    }
    let dialled = refusing.dialled.take();
    assert_eq!(dialled.len(), sent.len() * 4);
    // The refusal goes back, and the next SYN comes: each takes the latency of two links.
    let round_trip = 4 * link().latency;
    [0, 1, 2].map(|retry| {
        dialled.chunks(4).map(|tries| tries[retry + 1].since(tries[retry]).saturating_sub(round_trip)).collect()
    })
}

#[test]
fn waits_before_retries_are_uniform_below_an_interval_that_doubles() {
    const REQUESTS: u32 = 5000;
    let requests = f64::from(REQUESTS);
    for (mut waits, below_ms) in waits(REQUESTS).into_iter().zip([25.0, 50.0, 100.0]) {
        waits.sort();
        let parts: Vec<f64> = waits.iter().map(|wait| wait.as_secs_f64() * 1000.0 / below_ms).collect();
        let mean = parts.iter().sum::<f64>() / requests;
        let (least, most) = (parts[0], parts[parts.len() - 1]);
        // Kolmogorov and Smirnov: the largest distance between the sample's distribution and the uniform one.
        let rank = |index: usize| f64::from(u32::try_from(index).expect("no more than were sent")) / requests;
        let distance = parts.iter().enumerate().map(|(index, part)| (part - rank(index)).max(rank(index + 1) - part));
        let distance = distance.fold(0.0, f64::max);
        println!("below {below_ms} ms: mean {mean:.4}, {least:.6} to {most:.6}, D√n {:.3}", distance * requests.sqrt());
        // A uniform variate has a deviation of 1/√12; 99.9 % are within 3.29 of them, and D√n is below 1.95 with the same certainty.
        assert!((mean - 0.5).abs() <= 3.29 / (12.0 * requests).sqrt(), "mean {mean} of {below_ms} ms");
        assert!(most < 1.0, "the interval has an end");
        assert!(least < 7.0 / requests && most > 1.0 - 7.0 / requests, "all of it is used: {least} to {most}");
        assert!(distance * requests.sqrt() <= 1.95, "{distance} of {below_ms} ms");
    }
}

/// How many of so many requests each cluster got.
fn shares(weights: &[(&'static str, u32)], requests: u32) -> Vec<u32> {
    let destinations = weights.iter().map(|(name, weight)| Destination::cluster(*name, *weight)).collect();
    let names: Vec<&str> = weights.iter().map(|(name, _)| *name).collect();
    let world = World::new(1, Forward::to(destinations), ClusterConfig::ISTIO, &names);
    for (number, name) in (0..).zip(&names) {
        world.serve(number, Delay::ZERO);
        world.set_endpoints(name, number..number + 1);
    }
    let sent = world.send(requests, &Delay::Constant(Duration::from_micros(10)), |_| String::new());
    assert!(sent.iter().all(|sent| sent.answer.starts_with("HTTP/1.1 200")));
    let log = world.log();
    let of = |number| log.iter().filter(|record| record.upstream == Some(endpoint(number))).count();
    (0..).zip(&names).map(|(number, _)| u32::try_from(of(number)).expect("no more than were sent")).collect()
}

#[test]
fn weights_are_shares() {
    const REQUESTS: u32 = 20_000;
    let counts = shares(&[("none", 0), ("one", 1), ("three", 3)], REQUESTS);
    println!("weights 0, 1, 3: {counts:?} of {REQUESTS}");
    assert_eq!((counts[0], counts[1] + counts[2]), (0, REQUESTS));
    // 99.9 % of samples.
    let bound = 3.29 * (0.25 * 0.75 * f64::from(REQUESTS)).sqrt();
    assert!((f64::from(counts[1]) - 0.25 * f64::from(REQUESTS)).abs() <= bound, "{counts:?}");
}

#[test]
fn an_only_destination_gets_all_whatever_its_weight() {
    assert_eq!(shares(&[("only", 0)], 100), [100]);
}
