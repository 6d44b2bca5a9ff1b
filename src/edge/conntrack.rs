//! A node's connection table: what it holds for connections that the node passes on, and when it has no room for another.
//!
//! Each connection has an entry from its first packet until a while after its end ([`LINGER`]), so a client that opens a connection per request fills the
//! table faster than its open connections tell. When the table is full, the packet that needs an entry is dropped.
//!
//! Where the node puts its own address in place of the client's, it needs a source port for the connection that no other entry to the same endpoint has;
//! without one, the packet is dropped, too.
//!
//! Not modelled: entries of other traffic; that a kernel under pressure gives up entries of ended connections early (from 95 % on, minutes apart); that
//! its search for a free port gives up a little before the last one; the shorter time of a connection that ended with RST.
//!
//! Sources: Linux net/netfilter/nf_conntrack_core.c ("table full, dropping packet"), nf_conntrack_proto_tcp.c (`TIME_WAIT` 2 min, `SYN_SENT` 2 min),
//! nf_nat_core.c (`nf_nat_l4proto_unique_tuple`: ports from 1024 on); Kubernetes v1.28.7 cmd/kube-proxy/app/server.go `getConntrackMax`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::units::SimTime;

/// How long an entry outlives its connection.
pub const LINGER: Duration = Duration::from_secs(120);
/// Source ports that a node has for connections to one endpoint: 1024 to 65535.
pub const SOURCE_PORTS: u64 = 65_536 - 1024;

/// How long kube-proxy makes the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSize {
    /// Entries per processor; 0: the node's own limit stays, which is not known.
    pub per_core: u64,
    /// Entries at least, if there is a figure per processor.
    pub least: u64,
}

impl TableSize {
    /// What kube-proxy does by default. Source: pkg/proxy/apis/config/v1alpha1/defaults.go.
    pub const USUAL: Self = Self { per_core: 32_768, least: 131_072 };

    /// Entries of a node with so many processors; none: no limit is known.
    #[must_use]
    pub fn entries(self, cores: u64) -> Option<u64> {
        (self.per_core > 0).then(|| self.least.max(self.per_core.saturating_mul(cores)))
    }
}

/// Why a connection gets no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The table is full.
    Table,
    /// No source port to that endpoint is free.
    SourcePorts,
}

/// Open connections, and those that ended less than [`LINGER`] ago.
#[derive(Clone, Default, Debug)]
struct Count {
    open: u64,
    /// When each ended, oldest first.
    ended: VecDeque<SimTime>,
}

impl Count {
    fn held(&mut self, now: SimTime) -> u64 {
        while self.ended.front().is_some_and(|at| now.since(*at) >= LINGER) {
            self.ended.pop_front();
        }
        self.open + u64::try_from(self.ended.len()).unwrap_or(u64::MAX)
    }

    fn close(&mut self, now: SimTime) {
        self.open -= 1;
        self.ended.push_back(now);
    }

    /// An entry that lingered is used again: a SYN came once more.
    fn reopen(&mut self) {
        self.open += 1;
        self.ended.pop_back();
    }
}

/// The connection table of one node, as far as one Service's connections fill it.
#[derive(Clone, Debug)]
pub struct ConnectionTable {
    max: Option<u64>,
    all: Count,
    /// By endpoint, those that needed a source port.
    masqueraded: BTreeMap<SocketAddrV4, Count>,
}

impl ConnectionTable {
    /// An empty table with room for `max` entries.
    #[must_use]
    pub const fn new(max: Option<u64>) -> Self {
        Self { max, all: Count { open: 0, ended: VecDeque::new() }, masqueraded: BTreeMap::new() }
    }

    /// A new connection needs an entry; `masqueraded_to` is its endpoint, if it needs a source port, too.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn open(&mut self, now: SimTime, masqueraded_to: Option<SocketAddrV4>) -> Result<(), Full> {
        if self.max.is_some_and(|max| self.all.held(now) >= max) {
            return Err(Full::Table);
        }
        if let Some(endpoint) = masqueraded_to {
            let ports = self.masqueraded.entry(endpoint).or_default();
            if ports.held(now) >= SOURCE_PORTS {
                return Err(Full::SourcePorts);
            }
            ports.open += 1;
        }
        self.all.open += 1;
        Ok(())
    }

    /// A connection that was opened like this has ended.
    pub fn close(&mut self, now: SimTime, masqueraded_to: Option<SocketAddrV4>) {
        self.all.close(now);
        if let Some(ports) = masqueraded_to.and_then(|endpoint| self.masqueraded.get_mut(&endpoint)) {
            ports.close(now);
        }
    }

    /// A connection that seemed to have ended has sent its SYN again: its entry is still there.
    pub fn reopen(&mut self, masqueraded_to: Option<SocketAddrV4>) {
        self.all.reopen();
        if let Some(ports) = masqueraded_to.and_then(|endpoint| self.masqueraded.get_mut(&endpoint)) {
            ports.reopen();
        }
    }

    /// Entries now.
    pub fn held(&mut self, now: SimTime) -> u64 {
        self.all.held(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn endpoint(last: u8) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80))
    }

    #[test]
    fn entries_outlive_their_connections_by_two_minutes() {
        let mut table = ConnectionTable::new(Some(2));
        assert_eq!((table.open(at(0), None), table.open(at(0), None)), (Ok(()), Ok(())));
        assert_eq!(table.open(at(0), None), Err(Full::Table));
        table.close(at(10), None);
        let just_before = at(130).as_nanos() - 1;
        assert_eq!(table.open(SimTime::from_nanos(just_before), None), Err(Full::Table));
        assert_eq!(table.open(at(130), None), Ok(()));
        assert_eq!(table.held(at(130)), 2);
    }

    #[test]
    fn a_syn_that_comes_again_finds_its_entry() {
        let mut table = ConnectionTable::new(Some(1));
        assert_eq!(table.open(at(0), endpoint(1)), Ok(()));
        table.close(at(0), endpoint(1));
        table.reopen(endpoint(1));
        assert_eq!(table.held(at(1)), 1);
        table.close(at(1), endpoint(1));
        assert_eq!((table.held(at(120)), table.held(at(121))), (1, 0));
    }

    #[test]
    fn source_ports_are_counted_by_endpoint() {
        let mut table = ConnectionTable::new(None);
        assert!((0..SOURCE_PORTS).all(|_| table.open(at(0), endpoint(1)) == Ok(())));
        assert_eq!(table.open(at(0), endpoint(1)), Err(Full::SourcePorts));
        // Another endpoint has ports of its own, and who keeps its address needs none.
        assert_eq!((table.open(at(0), endpoint(2)), table.open(at(0), None)), (Ok(()), Ok(())));
        table.close(at(0), endpoint(1));
        assert_eq!(table.open(at(119), endpoint(1)), Err(Full::SourcePorts));
        assert_eq!(table.open(at(120), endpoint(1)), Ok(()));
        assert_eq!(table.held(at(120)), SOURCE_PORTS + 2);
    }

    #[test]
    fn the_table_grows_with_processors_from_a_least_size() {
        assert_eq!(
            [1, 4, 5].map(|cores| TableSize::USUAL.entries(cores)),
            [Some(131_072), Some(131_072), Some(163_840)]
        );
        assert_eq!(TableSize { per_core: 0, least: 131_072 }.entries(64), None);
    }
}
