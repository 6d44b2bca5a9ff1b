//! Consistent hashing: ring hash and Maglev. A key keeps its host while hosts come and go; a host that leaves moves only its own keys.
//!
//! Ring: each host has positions, xxHash64 of `key_0`, `key_1`, …, as many as its weight's share of the ring; a hash belongs to the
//! first position not below it. Maglev: a table of prime size that hosts fill in turns, each along its own permutation. A pick that
//! is rejected moves on: on the ring to the next position, in the table to the place of a changed hash.
//!
//! Sources: envoy source/extensions/load_balancing_policies/{ring_hash,maglev,common}; Eisenbud et al., "Maglev: A Fast
//! and Reliable Software Network Load Balancer", NSDI 2016.

use std::fmt::Write;

use twox_hash::XxHash64;

/// xxHash64 of these bytes: the hash of a request's key, and of a host's.
#[must_use]
pub fn xx_hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// A host's key and its share of all.
#[derive(Clone, PartialEq, Debug)]
pub struct HashedHost {
    /// What is hashed: the address, unless the host has a key of its own.
    pub key: String,
    /// Its number among the hosts.
    pub host: usize,
    /// Its share; all shares together are 1.
    pub share: f64,
}

/// Hosts of one locality by weight: number and weight of each.
pub type WeightedHosts<'a> = &'a [(usize, u32)];

/// The share of each host, from the weights of localities and of the hosts in them. A locality of weight 0 has none.
#[must_use]
pub fn shares(localities: &[(u32, WeightedHosts<'_>)]) -> Vec<(usize, f64)> {
    let total: u64 = localities.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let used = localities.iter().filter(|(weight, _)| *weight > 0);
    used.flat_map(|(weight, hosts)| {
        let share = f64::from(*weight) / float(total);
        let sum = float(hosts.iter().map(|(_, weight)| u64::from(*weight)).sum());
        hosts.iter().map(move |(host, weight)| (*host, f64::from(*weight) * share / sum))
    })
    .collect()
}

/// A ring of positions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ring {
    positions: Vec<(u64, usize)>,
}

impl Ring {
    /// A ring in which the host of least weight has a whole number of positions, `minimum` or more in all, `maximum` at most.
    #[must_use]
    pub fn new(hosts: &[HashedHost], minimum: u64, maximum: u64) -> Self {
        let least = hosts.iter().map(|host| host.share).fold(1.0, f64::min);
        let scale = ((least * float(minimum)).ceil() / least).min(float(maximum));
        let mut positions = Vec::new();
        let mut text = String::new();
        // Shares need not be whole: the sum so far says how many positions the next host gets.
        let (mut made, mut due) = (0.0, 0.0);
        for host in hosts {
            due += scale * host.share;
            let mut number = 0_u64;
            while made < due {
                text.clear();
                write!(text, "{}_{number}", host.key).expect("text takes everything");
                positions.push((xx_hash(text.as_bytes()), host.host));
                number += 1;
                made += 1.0;
            }
        }
        positions.sort_by_key(|(hash, _)| *hash);
        Self { positions }
    }

    /// The host of a hash, at the given attempt to pick one.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let first = self.positions.partition_point(|(position, _)| *position < hash);
        let skip = usize::try_from(attempt).unwrap_or(usize::MAX);
        let index = first.checked_rem(self.positions.len())?.wrapping_add(skip) % self.positions.len();
        Some(self.positions[index].1)
    }

    /// All positions and whose they are, in order.
    #[must_use]
    pub fn positions(&self) -> &[(u64, usize)] {
        &self.positions
    }
}

/// A Maglev table.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Maglev {
    table: Vec<usize>,
}

/// The way of one host through the table.
struct Permutation {
    host: usize,
    share: f64,
    /// The host's turn comes once rounds · share reaches this.
    due: f64,
    place: u64,
    skip: u64,
}

impl Maglev {
    /// A table of `size` places, a prime number.
    #[must_use]
    pub fn new(hosts: &[HashedHost], size: u64) -> Self {
        let mut sorted: Vec<&HashedHost> = hosts.iter().collect();
        // The order in which hosts take turns is part of the result, so it must not depend on the order they are given in.
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        let way = |host: &HashedHost| Permutation {
            host: host.host,
            share: host.share,
            due: 0.0,
            place: xx_hash(host.key.as_bytes()) % size,
            skip: XxHash64::oneshot(1, host.key.as_bytes()) % (size - 1) + 1,
        };
        let mut ways: Vec<Permutation> = sorted.into_iter().map(way).collect();
        let largest = hosts.iter().map(|host| host.share).fold(0.0, f64::max);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let mut table: Vec<Option<usize>> = vec![None; if ways.is_empty() { 0 } else { length }];
        let mut free = table.len();
        let mut round = 0.0;
        while free > 0 {
            round += 1.0;
            for way in ways.iter_mut().filter(|way| round * way.share >= way.due) {
                if free == 0 {
                    break;
                }
                way.due += largest;
                way.take_free(&mut table, size);
                free -= 1;
            }
        }
        Self { table: table.into_iter().flatten().collect() }
    }

    /// The host of a hash, at the given attempt to pick one.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        // Most bits change with the first retry: a small step might stay on one host.
        let changed = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) };
        let size = u64::try_from(self.table.len()).ok()?;
        let place = usize::try_from(changed.checked_rem(size)?).ok()?;
        self.table.get(place).copied()
    }

    /// Whose each place is.
    #[must_use]
    pub fn table(&self) -> &[usize] {
        &self.table
    }
}

impl Permutation {
    fn take_free(&mut self, table: &mut [Option<usize>], size: u64) {
        loop {
            let place = usize::try_from(self.place).expect("a place of the table");
            self.place = (self.place + self.skip) % size;
            if table[place].is_none() {
                table[place] = Some(self.host);
                return;
            }
        }
    }
}

/// Whether a number has no divisor but 1 and itself, as a table's size must.
#[must_use]
pub fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

/// Exact for what weights and sizes add up to.
#[expect(clippy::cast_precision_loss, reason = "sums of 32-bit weights and ring sizes lie below 2⁵³")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn hosts(numbers: impl Iterator<Item = usize>) -> Vec<HashedHost> {
        let mut hosts: Vec<_> =
            numbers.map(|host| HashedHost { key: format!("10.0.0.{host}:80"), host, share: 0.0 }).collect();
        let share = 1.0 / f64::from(u32::try_from(hosts.len()).unwrap());
        hosts.iter_mut().for_each(|host| host.share = share);
        hosts
    }

    /// The host of each of many keys, before and after host 3 of 10 leaves.
    fn before_and_after(pick: impl Fn(&[HashedHost], u64) -> usize) -> Vec<(usize, usize)> {
        let (all, fewer) = (hosts(0..10), hosts((0..10).filter(|host| *host != 3)));
        (0..KEYS).map(|key| xx_hash(&key.to_le_bytes())).map(|hash| (pick(&all, hash), pick(&fewer, hash))).collect()
    }

    #[track_caller]
    fn check_balance(pairs: &[(usize, usize)], least_percent: u64, most_percent: u64) {
        for host in 0..10 {
            let count = pairs.iter().filter(|(before, _)| *before == host).count();
            let percent = u64::try_from(count).unwrap() * 100 / KEYS;
            assert!((least_percent..=most_percent).contains(&percent), "host {host} has {percent} %");
        }
    }

    #[test]
    fn a_ring_moves_only_the_keys_of_the_host_that_left() {
        let rings: Vec<Ring> = [hosts(0..10), hosts((0..10).filter(|host| *host != 3))]
            .iter()
            .map(|hosts| Ring::new(hosts, 1024, 8 << 20))
            .collect();
        let pairs = before_and_after(|hosts, hash| rings[usize::from(hosts.len() < 10)].pick(hash, 0).unwrap());
        check_balance(&pairs, 6, 14);
        let moved = pairs.iter().filter(|(before, after)| before != after).count();
        let own = pairs.iter().filter(|(before, _)| *before == 3).count();
        // 9 hosts have 114 positions each where 10 had 103: a few keys move to positions that are new.
        assert!(moved < own * 2, "{moved} moved, {own} had to");
    }

    #[test]
    fn a_maglev_table_is_even_and_moves_little_else() {
        let tables: Vec<Maglev> = [hosts(0..10), hosts((0..10).filter(|host| *host != 3))]
            .iter()
            .map(|hosts| Maglev::new(hosts, 65_537))
            .collect();
        let counts = |host| tables[0].table().iter().filter(|other| **other == host).count();
        for host in 0..10 {
            assert!((6_553..=6_554).contains(&counts(host)), "host {host} has {}", counts(host));
        }
        let pairs = before_and_after(|hosts, hash| tables[usize::from(hosts.len() < 10)].pick(hash, 0).unwrap());
        check_balance(&pairs, 9, 11);
        let moved = pairs.iter().filter(|(before, after)| before != after).count();
        let all = usize::try_from(KEYS).unwrap();
        assert!(moved > all / 11 && moved < all / 6, "{moved} of {all} moved; a tenth had to");
    }

    #[test]
    fn a_rejected_pick_moves_on() {
        let ring = Ring::new(&hosts(0..3), 12, 1 << 20);
        let picked: Vec<_> = (0..12).map(|attempt| ring.pick(0, attempt).unwrap()).collect();
        assert_eq!(picked, ring.positions().iter().map(|(_, host)| *host).collect::<Vec<_>>());
        let table = Maglev::new(&hosts(0..10), 65_537);
        let hash = xx_hash(b"key");
        assert!((1..5).any(|attempt| table.pick(hash, attempt) != table.pick(hash, 0)));
    }

    #[test]
    fn no_host_no_pick() {
        assert_eq!(Ring::new(&[], 1024, 4096).pick(1, 0), None);
        assert_eq!(Maglev::new(&[], 65_537).pick(1, 1), None);
    }

    #[test]
    fn primes() {
        let primes: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && !is_prime(65_536));
    }
}
