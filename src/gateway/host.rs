//! All that the gateway needs of its world.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use http::HeaderValue;

use crate::units::SimTime;

/// Work that costs processor time. A world without a processor model charges nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// One request, head to head.
    Request,
    /// A new downstream connection.
    Connection,
}

/// One worker thread's view of its world: clock, tasks, randomness, sockets, processor. Clones are handles to the same worker.
pub trait Host: Clone + 'static {
    /// A connection.
    type Stream: hyper::rt::Read + hyper::rt::Write + Unpin + 'static;
    /// A listening socket; dropping it closes it.
    type Listener: 'static;

    /// The present.
    fn now(&self) -> SimTime;
    /// Ends at `deadline`.
    fn sleep_until(&self, deadline: SimTime) -> impl Future<Output = ()> + 'static;
    /// Starts a task of this worker.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static);
    /// 64 uniform bits.
    fn random(&self) -> u64;
    /// Listens on a port; workers of one gateway share it.
    ///
    /// # Errors
    ///
    /// If the port cannot be bound.
    fn listen(&self, port: u16) -> io::Result<Self::Listener>;
    /// The next connection and its client.
    fn accept(&self, listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;
    /// Connects to an upstream.
    fn dial(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + 'static;
    /// The present as the `date` header tells it; none in a world without a calendar.
    fn date(&self) -> Option<HeaderValue> {
        None
    }
    /// The worker's own end of a connection, for the access log; none if it keeps no account of it.
    fn local_address(&self, stream: &Self::Stream) -> Option<SocketAddr>;
    /// Ends when the worker has done the work, behind all that it was given before.
    fn charge(&self, work: Work) -> impl Future<Output = ()>;
}

/// A whole number uniform over `0..bound`, by multiplication; the bias of at most `bound`·2⁻⁶⁴ is far below what a run can show.
pub(super) fn random_below(bits: u64, bound: u64) -> u64 {
    let product = u128::from(bits) * u128::from(bound);
    u64::try_from(product >> 64).expect("the high half of 128 bits has 64")
}
