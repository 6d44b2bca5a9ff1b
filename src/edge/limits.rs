//! What a balancer can take: open connections, new ones per second, and requests per second where it is a proxy for HTTP.
//!
//! Over a limit a new connection is dropped: its SYN gets no answer, so the client sends it again after 1, 3 and 7 s. What is open stays. The documents say
//! so much and not how the product counts; here a second is one of the run's clock, whatever came within it has opened a connection or has not, and only
//! what did counts. A request over its limit is answered with 503 by the balancer, second by second: a few busy ones are enough, whatever the minute's mean is.
//!
//! Sources: CLB documents, "Specifications" and its FAQ; Alibaba Cloud developer community, article 764109 (503 over the limit of a second), and Performance Testing's "Why do errors or timeouts
//! occur when backend load is low"; NLB documents, "Limits"; NLB API, CreateListener (`Cps`: of the listener in each zone); cloud-provider-alibaba-cloud,
//! annotation `cps`.

use std::collections::BTreeMap;

use crate::units::SimTime;

/// What a balancer can take at most, at each of its addresses; nothing: as much as comes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: Option<u64>,
    /// New connections within a second.
    pub connections_per_s: Option<u64>,
    /// The same for each front port by itself.
    pub listener_connections_per_s: Option<u64>,
    /// Requests within a second, of all listeners for HTTP together.
    pub queries_per_s: Option<u64>,
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
    /// Requests of a second.
    QueriesPerSecond,
}

impl Limit {
    /// As events tell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerSecond => "connections_per_s",
            Self::ListenerConnectionsPerSecond => "listener_connections_per_s",
            Self::QueriesPerSecond => "queries_per_s",
        }
    }
}

/// Counts what came within the second.
#[derive(Debug, Default)]
pub struct Meter {
    second: u64,
    opened: u64,
    opened_by_port: BTreeMap<u16, u64>,
    queries: u64,
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

    /// Counts a request, if one more may come.
    ///
    /// # Errors
    ///
    /// The limit that it would go over, with its value; then it does not count.
    pub fn count_query(&mut self, limits: &Limits, now: SimTime) -> Result<(), (Limit, u64)> {
        self.turn_to(now);
        match limits.queries_per_s.filter(|most| self.queries >= *most) {
            Some(most) => Err((Limit::QueriesPerSecond, most)),
            None => {
                self.queries += 1;
                Ok(())
            }
        }
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
            queries_per_s: Some(0),
        });
        let open = |count: u64| Some((Limit::Connections, count));
        let per_s = |count: u64| Some((Limit::ConnectionsPerSecond, count));
        let listener = |count: u64| Some((Limit::ListenerConnectionsPerSecond, count));
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

    #[test]
    fn requests_count_by_the_second() {
        let limits = Limits { queries_per_s: Some(2), ..Limits::default() };
        let mut meter = Meter::default();
        let mut ask = |ms: u64| meter.count_query(&limits, at(ms)).err();
        let over = Some((Limit::QueriesPerSecond, 2));
        let times = [0, 500, 500, 999, 1000, 1999, 1999, 2000];
        assert_eq!(times.map(&mut ask), [None, None, over, over, None, None, over, None]);
        let free = (0..10_000).filter(|_| Meter::default().count_query(&Limits::default(), at(0)).is_err());
        assert_eq!(free.count(), 0);
    }
}
