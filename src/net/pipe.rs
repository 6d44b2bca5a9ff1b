//! One direction of a connection: segments on their way, and how the direction ends.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use super::{BUFFER_BYTES, ConnectionId, LinkConfig};
use crate::engine::{EventId, Sim, Stream, Streams, TimerKey, Wakeup};
use crate::units::SimTime;

/// Memory that an empty direction keeps for the next segment.
const KEPT_BYTES_MAX: usize = 2048;

/// How a connection ended for the one who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndingKind {
    /// The far end, or a hop, closed it in order.
    Fin,
    /// It was reset.
    Reset,
}

/// The end of a connection and who is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// How it ended.
    pub kind: EndingKind,
    /// The event that made a hop end it; none if the far end did.
    pub why: Option<EventId>,
}

/// What becomes of what is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passage {
    /// It arrives.
    Open,
    /// It is lost, and the writer hears nothing.
    Lost,
    /// It is lost, and the writer gets RST.
    Refused,
}

/// The jitters of a connection. Their stream is made when the first is drawn: most links have none, and a stream is larger than all else about a connection.
#[derive(Debug)]
pub(super) struct Jitter {
    streams: Streams,
    id: ConnectionId,
    stream: Option<Box<Stream>>,
}

impl Jitter {
    pub(super) fn new(streams: Streams, id: ConnectionId) -> Self {
        Self { streams, id, stream: None }
    }

    /// One that is `most` at most.
    fn draw(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return Duration::ZERO;
        }
        let new = || Box::new(self.streams.stream("connection-jitter", &self.id.number().to_string()));
        self.stream.get_or_insert_with(new).uniform(Duration::ZERO, most)
    }
}

#[derive(Debug)]
pub(super) struct Pipe {
    link: LinkConfig,
    pub(super) passage: Passage,
    /// When each segment that nobody has read arrives, and its length.
    segments: VecDeque<(SimTime, usize)>,
    /// The bytes of all `segments`, arrived or not, one after the other: a segment needs no memory of its own.
    bytes: Vec<u8>,
    /// How many of `bytes` have been read; they are let go of together.
    read_count: usize,
    /// No segment arrives before the one sent earlier.
    last_at: SimTime,
    /// When the link can take the next byte, if it has a bandwidth.
    link_free_at: SimTime,
    /// FIN, as it arrives.
    fin: Option<(SimTime, Option<EventId>)>,
    /// RST, as it arrives.
    reset: Option<(SimTime, Option<EventId>)>,
    /// The reading socket is closed.
    pub(super) reader_is_closed: bool,
    /// The writing side has sent FIN.
    pub(super) writer_is_done: bool,
    reader: Option<Wakeup>,
    reader_timer: Option<TimerKey>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(link: LinkConfig, now: SimTime) -> Self {
        Self {
            link,
            passage: Passage::Open,
            segments: VecDeque::new(),
            bytes: Vec::new(),
            read_count: 0,
            last_at: now,
            link_free_at: now,
            fin: None,
            reset: None,
            reader_is_closed: false,
            writer_is_done: false,
            reader: None,
            reader_timer: None,
            writer: None,
        }
    }

    /// When the last thing that was sent arrives.
    pub(super) fn last_at(&self) -> SimTime {
        self.last_at
    }

    pub(super) fn latency(&self) -> Duration {
        self.link.latency
    }

    /// When something of `length` bytes sent now arrives, behind all that was sent before.
    fn arrival(&mut self, now: SimTime, length: usize, jitter: &mut Jitter) -> SimTime {
        let mut leaves_at = now;
        if let Some(bytes_per_s) = self.link.bytes_per_s {
            let nanos = u128::try_from(length).unwrap_or(0) * 1_000_000_000 / u128::from(bytes_per_s.max(1));
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            leaves_at = self.link_free_at.max(now).after(Duration::from_nanos(nanos));
            self.link_free_at = leaves_at;
        }
        let at = leaves_at.after(self.link.latency).after(jitter.draw(self.link.jitter));
        self.last_at = self.last_at.max(at);
        self.last_at
    }

    /// Room for more bytes.
    pub(super) fn room(&self) -> usize {
        (BUFFER_BYTES + self.read_count).saturating_sub(self.bytes.len())
    }

    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    /// Sends `bytes` as one segment.
    pub(super) fn send(&mut self, sim: &Sim, bytes: &[u8], jitter: &mut Jitter) {
        let at = self.arrival(sim.now(), bytes.len(), jitter);
        self.bytes.extend_from_slice(bytes);
        self.segments.push_back((at, bytes.len()));
        self.announce(sim, at);
    }

    pub(super) fn send_fin(&mut self, sim: &Sim, jitter: &mut Jitter) {
        if self.fin.is_none() {
            let at = self.arrival(sim.now(), 0, jitter);
            self.fin = Some((at, None));
            self.announce(sim, at);
        }
    }

    /// FIN made by a hop: it arrives `at`, or behind what was sent.
    pub(super) fn end_with_fin(&mut self, sim: &Sim, at: SimTime, why: Option<EventId>) {
        if self.fin.is_none() {
            let at = at.max(self.last_at);
            self.fin = Some((at, why));
            self.announce(sim, at);
        }
    }

    /// RST arrives `at`, or behind what was sent.
    pub(super) fn end_with_reset(&mut self, sim: &Sim, at: SimTime, why: Option<EventId>) {
        if self.reset.is_none() {
            let at = at.max(self.last_at);
            self.reset = Some((at, why));
            self.announce(sim, at);
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
        }
    }

    /// Something will arrive `at`: whoever waits to read is woken then.
    fn announce(&mut self, sim: &Sim, at: SimTime) {
        if self.reader_timer.is_none()
            && let Some(reader) = &self.reader
        {
            if at <= sim.now() {
                sim.wake(reader.clone());
            } else {
                self.reader_timer = Some(sim.wake_at(at, reader.clone()));
            }
        }
    }

    /// The reader waits. It is woken when the next thing arrives.
    pub(super) fn wait_to_read(&mut self, sim: &Sim, waker: &Waker) {
        let reader = &*self.reader.insert(sim.wakeup(waker));
        if let Some(timer) = self.reader_timer.take() {
            sim.cancel(timer);
        }
        // Nothing is on its way: the usual case of a reader that looks once more.
        if self.segments.is_empty() && self.fin.is_none() && self.reset.is_none() {
            return;
        }
        let next = [self.segments.front().map(|(at, _)| *at), self.fin.map(|(at, _)| at), self.reset.map(|(at, _)| at)];
        let next = next.into_iter().flatten().filter(|at| *at > sim.now()).min();
        if let Some(at) = next {
            self.reader_timer = Some(sim.wake_at(at, reader.clone()));
        }
    }

    /// Hands the bytes of the segment that arrived first, at most `limit` of them, to `sink`. How many there were; none if
    /// nothing has arrived.
    pub(super) fn take(&mut self, now: SimTime, limit: usize, sink: impl FnOnce(&[u8])) -> Option<usize> {
        let (_, length) = self.segments.front_mut().filter(|(at, _)| *at <= now)?;
        let taken = limit.min(*length);
        if taken == *length {
            self.segments.pop_front();
        } else {
            *length -= taken;
        }
        let from = self.read_count;
        self.read_count += taken;
        sink(&self.bytes[from..self.read_count]);
        if self.read_count == self.bytes.len() {
            // A burst's memory is given back.
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.read_count = 0;
        } else if self.read_count >= BUFFER_BYTES {
            self.bytes.drain(..self.read_count);
            self.read_count = 0;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Some(taken)
    }

    /// How the direction has ended by now, seen from its reader. An RST outweighs a FIN.
    pub(super) fn ending(&self, now: SimTime) -> Option<Ending> {
        let has_come = |end: &Option<(SimTime, Option<EventId>)>| end.filter(|(at, _)| *at <= now);
        if let Some((_, why)) = has_come(&self.reset) {
            return Some(Ending { kind: EndingKind::Reset, why });
        }
        has_come(&self.fin).map(|(_, why)| Ending { kind: EndingKind::Fin, why })
    }

    /// FIN has come, and RST has not before it: a read at the end gives 0.
    pub(super) fn fin_has_come(&self, now: SimTime) -> bool {
        self.fin
            .is_some_and(|(at, _)| at <= now && self.reset.is_none_or(|(reset_at, _)| reset_at > now || at <= reset_at))
    }

    /// Data has arrived that nobody has read.
    pub(super) fn has_unread(&self, now: SimTime) -> bool {
        self.segments.front().is_some_and(|(at, _)| *at <= now)
    }

    /// When data that is still on its way will meet a closed socket.
    pub(super) fn next_arrival(&self, now: SimTime) -> Option<SimTime> {
        self.segments.iter().map(|(at, _)| *at).find(|at| *at > now)
    }

    /// The reading socket is gone, and all that was for it.
    pub(super) fn close_reader(&mut self, sim: &Sim) {
        self.reader_is_closed = true;
        self.segments = VecDeque::new();
        self.bytes = Vec::new();
        self.read_count = 0;
        self.reader = None;
        if let Some(timer) = self.reader_timer.take() {
            sim.cancel(timer);
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Nothing passes from now on.
    pub(super) fn block(&mut self, passage: Passage) {
        self.passage = passage;
    }
}
