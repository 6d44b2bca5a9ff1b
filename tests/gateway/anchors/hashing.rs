//! Ring hash and Maglev by a header, through the gateway: how evenly keys are spread, and whose keys move when one of the hosts is taken away.
//!
//! Ring: a host has k positions, and its share is a sum of k gaps, so shares vary by 1/√k of their mean; to that comes the sample of keys. A ring
//! of fewer hosts has other positions only if the number for each host changes, since it is the least that makes the ring as large as it
//! must be: 21 for fifty hosts and for forty-nine (1024 positions at least), but 103 for ten and 114 for nine, and the new ones take
//! keys from neighbours. Maglev: shares differ by one place in 65,537; of the places of hosts that stay, some change.
//!
//! Bounds are those that ten normal deviates keep with 99.9 %: 3.72 for the largest, and χ² of nine degrees of freedom for all together.
//! Sources: Karger et al., "Consistent Hashing and Random Trees", STOC 1997; Eisenbud et al., "Maglev", NSDI 2016, §3.4 and §5.3.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;

use gatedrill::engine::Delay;
use gatedrill::gateway::balance::hashing::{HashedHost, Maglev, Ring};
use gatedrill::gateway::routes::{Forward, HashPolicy};
use gatedrill::gateway::{ClusterConfig, Destination, Policy, RetryPolicy};

use super::world::{WEB, World, endpoint};

const KEYS: u32 = 10_000;
/// Of the 99.9 % interval.
const DEVIATES: f64 = 3.72;

/// Where each key goes, with all hosts and without the last one, and then with it again.
struct Homes {
    all: Vec<SocketAddr>,
    fewer: Vec<SocketAddr>,
    again: Vec<SocketAddr>,
}

fn homes(policy: Policy, hosts: u16) -> Homes {
    let by_user = vec![HashPolicy::Header(HeaderName::from_static("x-user"))];
    let forward =
        Forward { hash: by_user, retry: RetryPolicy::NONE, ..Forward::to(vec![Destination::cluster(WEB, 1)]) };
    let world = World::new(1, forward, ClusterConfig::balanced(policy), &[]);
    (0..hosts).for_each(|number| world.serve(number, Delay::ZERO));
    let ask = |hosts| {
        world.set_endpoints(WEB, 0..hosts);
        let pause = Delay::Constant(Duration::from_micros(10));
        let sent = world.send(KEYS, &pause, |number| format!("x-user: user-{number}\r\n"));
        assert!(sent.iter().all(|sent| sent.answer.starts_with("HTTP/1.1 200")));
        world.log().iter().map(|record| record.upstream.expect("an endpoint")).collect::<Vec<_>>()
    };
    Homes { all: ask(hosts), fewer: ask(hosts - 1), again: ask(hosts) }
}

fn share(count: usize, of: usize) -> f64 {
    let number = |count| f64::from(u32::try_from(count).expect("no more than there are keys"));
    number(count) / number(of)
}

/// Keys per host, relative to the mean.
fn relative(homes: &[SocketAddr], hosts: u16) -> Vec<f64> {
    let of = |number| homes.iter().filter(|home| **home == endpoint(number)).count();
    (0..hosts).map(|number| share(of(number), homes.len()) * f64::from(hosts)).collect()
}

/// Holds the keys per host of ten hosts against a relative standard deviation. A line about it.
#[track_caller]
fn check_balance(what: &str, homes: &[SocketAddr], deviation: f64) -> String {
    let relative = relative(homes, 10);
    let largest = relative.iter().copied().fold(0.0, f64::max);
    let squares: f64 = relative.iter().map(|keys| ((keys - 1.0) / deviation).powi(2)).sum();
    assert!(largest <= 1.0 + DEVIATES * deviation, "{relative:?}");
    assert!((0.97..=29.67).contains(&squares), "{squares} of nine degrees of freedom: {relative:?}");
    format!("{what}: max/mean {largest:.4} of at most {:.4}, χ² {squares:.2}", 1.0 + DEVIATES * deviation)
}

/// The share of keys that moved though their host stayed.
fn moved_in_vain(homes: &Homes, removed: u16) -> f64 {
    let moved = |(before, after): &(&SocketAddr, &SocketAddr)| before != after && **before != endpoint(removed);
    share(homes.all.iter().zip(&homes.fewer).filter(moved).count(), homes.all.len())
}

fn moved(homes: &Homes) -> f64 {
    share(homes.all.iter().zip(&homes.fewer).filter(|(before, after)| before != after).count(), homes.all.len())
}

/// The standard deviation of a share of so many keys.
fn deviation(of: f64) -> f64 {
    (of * (1.0 - of) / f64::from(KEYS)).sqrt()
}

fn hashed(hosts: u16) -> Vec<HashedHost> {
    let host = |number| HashedHost {
        key: endpoint(number).to_string(),
        host: usize::from(number),
        share: 1.0 / f64::from(hosts),
    };
    (0..hosts).map(host).collect()
}

#[test]
fn ring_hash_spreads_keys_as_even_as_gaps_are_and_a_ring_that_grows_moves_what_its_new_positions_take() {
    let homes = homes(Policy::RING_HASH, 10);
    let of_keys = deviation(0.1) / 0.1;
    println!("{}", check_balance("ring hash", &homes.all, (1.0 / 103.0 + of_keys * of_keys).sqrt()));
    assert_eq!(homes.all, homes.again, "who comes back gets its own keys back");
    let positions = |hosts| Ring::new(&hashed(hosts), 1024, 8 << 20).positions().len();
    assert_eq!([10, 9].map(positions), [1030, 1026]);
    // Eleven of 114 positions of each host are new; what they take was some other host's in eight of nine cases.
    let grown = 0.9 * 11.0 / 114.0 * 8.0 / 9.0;
    let bound = DEVIATES * (grown * grown / 99.0 + deviation(grown).powi(2)).sqrt();
    let in_vain = moved_in_vain(&homes, 9);
    println!("ring hash that grows: {:.4} of the keys moved, {in_vain:.4} in vain of {grown:.4}", moved(&homes));
    assert!((in_vain - grown).abs() <= bound, "{in_vain} instead of {grown} ± {bound}");
}

#[test]
fn ring_hash_moves_only_the_keys_of_the_host_that_went() {
    let positions = |hosts| Ring::new(&hashed(hosts), 1024, 8 << 20).positions().len();
    assert_eq!([50, 49].map(positions), [50 * 21, 49 * 21]);
    let homes = homes(Policy::RING_HASH, 50);
    // Shares vary by 1/√21 of a fiftieth.
    let bound = DEVIATES * (0.02 * 0.02 / 21.0 + deviation(0.02).powi(2)).sqrt();
    println!("ring hash: {:.4} of the keys moved, {:.4} in vain", moved(&homes), moved_in_vain(&homes, 49));
    assert!((moved(&homes) - 0.02).abs() <= bound, "{}", moved(&homes));
    assert!(moved_in_vain(&homes, 49) <= 0.0, "none");
}

#[test]
fn maglev_spreads_keys_as_even_as_a_sample_is_and_moves_a_little_more_than_those_of_the_host_that_went() {
    let homes = homes(Policy::MAGLEV, 10);
    println!("{}", check_balance("maglev", &homes.all, deviation(0.1) / 0.1));
    assert_eq!(homes.all, homes.again);
    let [before, after] = [10, 9].map(|hosts| Maglev::new(&hashed(hosts), 65_537));
    let places = before.table().iter().zip(after.table());
    let changed = share(places.filter(|(before, after)| before != after).count(), 65_537);
    let (moved, in_vain) = (moved(&homes), moved_in_vain(&homes, 9));
    println!("maglev: {moved:.4} of the keys moved and {changed:.4} of the places, {in_vain:.4} in vain");
    assert!((moved - changed).abs() <= DEVIATES * deviation(changed), "keys move as places do");
    assert!((0.1..=0.11).contains(&changed), "a tenth, and not a tenth of that more");
    assert!(in_vain > 0.0);
}
