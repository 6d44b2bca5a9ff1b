//! What a balancer can take: open connections, and new ones per second.
//!
//! Over a limit a new connection is dropped: its SYN gets no answer, so the client sends it again after 1, 3 and 7 s. What is open stays. The documents say
//! so much and not how the product counts; here a second is one of the run's clock, whatever came within it has opened a connection or has not, and only
//! what did counts.
//!
//! Sources: CLB documents, "Specifications" and its FAQ; NLB documents, "Limits"; cloud-provider-alibaba-cloud, annotation `cps`.

use std::collections::BTreeMap;

use crate::units::SimTime;

/// What a balancer can take at most; nothing: as much as comes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: Option<u64>,
    /// New connections within a second.
    pub connections_per_s: Option<u64>,
    /// The same for each front port by itself.
    pub listener_connections_per_s: Option<u64>,
}

/// A limit that was reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Limit {
    /// Open connections.
    Connections,
    /// New connections of a second.
    ConnectionsPerSecond,
    /// New connections of a second on one front port.
    ListenerConnectionsPerSecond,
}

impl Limit {
    /// As events tell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerSecond => "connections_per_s",
            Self::ListenerConnectionsPerSecond => "listener_connections_per_s",
        }
    }
}

/// Counts what came within the second.
#[derive(Debug, Default)]
pub struct Meter {
    second: u64,
    opened: u64,
    opened_by_port: BTreeMap<u16, u64>,
}

impl Meter {
    /// Whether one more connection may be opened, with so many open. Does not count it: see [`Self::handle_open`].
    ///
    /// # Errors
    ///
    /// The limit that it would go over, with its value.
    pub fn check(&mut self, limits: &Limits, now: SimTime, port: u16, open: u64) -> Result<(), (Limit, u64)> {
        self.turn_to(now);
        let of_port = self.opened_by_port.get(&port).copied().unwrap_or(0);
        let counted = [
            (Limit::Connections, limits.connections, open),
            (Limit::ConnectionsPerSecond, limits.connections_per_s, self.opened),
            (Limit::ListenerConnectionsPerSecond, limits.listener_connections_per_s, of_port),
        ];
        let reached =
            counted.into_iter().find_map(|(limit, most, count)| Some((limit, most.filter(|it| count >= *it)?)));
        reached.map_or(Ok(()), Err)
    }

    /// A connection was opened.
    pub fn handle_open(&mut self, now: SimTime, port: u16) {
        self.turn_to(now);
        self.opened += 1;
        *self.opened_by_port.entry(port).or_default() += 1;
    }

    fn turn_to(&mut self, now: SimTime) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            *self = Self { second, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_millis(ms))
    }

    /// Asks for connections at these times; how each went.
    fn asked(limits: &Limits, times: &[(u64, u16, u64)]) -> Vec<Option<(Limit, u64)>> {
        let mut meter = Meter::default();
        let mut answers = Vec::new();
        for (ms, port, open) in times {
            let answer = meter.check(limits, at(*ms), *port, *open);
            if answer.is_ok() {
                meter.handle_open(at(*ms), *port);
            }
            answers.push(answer.err());
        }
        answers
    }

    #[test]
    fn limits_hold_exactly() {
        let (none, all) = (Limits::default(), |count: u64, per_s: u64, listener: u64| Limits {
            connections: Some(count),
            connections_per_s: Some(per_s),
            listener_connections_per_s: Some(listener),
        });
        let open = |count: u64| Some((Limit::Connections, count));
        let per_s = |count: u64| Some((Limit::ConnectionsPerSecond, count));
        let listener = |count: u64| Some((Limit::ListenerConnectionsPerSecond, count));
        /// What it is about, the limits, each connection's time, port and open ones, and what it meets.
        type Row<'a> = (&'a str, Limits, &'a [(u64, u16, u64)], &'a [Option<(Limit, u64)>]);
        let table: [Row<'_>; 6] = [
            ("none", none, &[(0, 80, 1_000_000); 4], &[None; 4]),
            ("open connections", all(5, 9, 9), &[(0, 80, 4), (0, 80, 5), (1500, 80, 5)], &[None, open(5), open(5)]),
            ("within a second", all(9, 2, 9), &[(0, 80, 0), (999, 80, 1), (999, 80, 2)], &[None, None, per_s(2)]),
            (
                "the next second begins anew, and what was dropped does not count",
                all(9, 1, 9),
                &[(999, 80, 0), (999, 80, 0), (1000, 80, 0), (1999, 80, 0), (2000, 80, 0)],
                &[None, per_s(1), None, per_s(1), None],
            ),
            ("ports by themselves", all(9, 9, 1), &[(0, 80, 0), (0, 443, 0), (0, 80, 0)], &[None, None, listener(1)]),
            ("nothing at all", all(9, 0, 9), &[(0, 80, 0)], &[per_s(0)]),
        ];
        for (name, limits, times, answers) in table {
            assert_eq!(asked(&limits, times), answers, "{name}");
        }
    }
}
