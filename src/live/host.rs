//! A worker's world: tokio's event loop and timers, sockets of the system, entropy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as BoundListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::clock::Clock;
use crate::engine::random;
use crate::gateway::{Host, Work};
use crate::units::SimTime;

/// The pause after a connection could not be accepted for want of descriptors or memory: without one the loop would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Small pieces are put together before they are sent: `send` costs the kernel less than `writev`, and copying them costs less than that.
const GATHERED_MAX: usize = 2048;

/// One worker thread. Clones are handles to it.
#[derive(Clone)]
pub(super) struct LiveHost {
    inner: Rc<Inner>,
}

struct Inner {
    clock: Clock,
    random: RefCell<random::Stream>,
    /// The `date` header, and the second for which it was made.
    date: RefCell<(u64, Option<HeaderValue>)>,
    /// Sockets that were bound for this worker and are not yet listened on, by the number that stands for a port here.
    bound: RefCell<BTreeMap<u16, BoundListener>>,
    /// Open downstream connections, of all workers.
    open: Arc<AtomicUsize>,
}

impl LiveHost {
    /// A worker that draws from `random` and whose clients are counted in `open`.
    pub(super) fn new(clock: Clock, random: random::Stream, open: Arc<AtomicUsize>) -> Self {
        let (random, date) = (RefCell::new(random), RefCell::new((u64::MAX, None)));
        Self { inner: Rc::new(Inner { clock, random, date, bound: RefCell::default(), open }) }
    }

    /// Gives the worker a socket to listen on. Ports are numbers that the control gives out: an address has more to it than a port, and two
    /// listeners may have the same one.
    pub(super) fn give(&self, number: u16, socket: BoundListener) {
        self.inner.bound.borrow_mut().insert(number, socket);
    }
}

/// A listening socket.
pub(super) struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

impl Host for LiveHost {
    type Stream = Stream;
    type Listener = Listener;

    fn now(&self) -> SimTime {
        self.inner.clock.now()
    }

    fn sleep_until(&self, deadline: SimTime) -> impl Future<Output = ()> + 'static {
        let instant = self.inner.clock.instant(deadline);
        async move {
            match instant {
                Some(instant) => tokio::time::sleep_until(instant).await,
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&self, _: &'static str, task: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    fn random(&self) -> u64 {
        self.inner.random.borrow_mut().bits()
    }

    fn listen(&self, number: u16) -> io::Result<Listener> {
        let bound = self.inner.bound.borrow_mut().remove(&number).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = bound.local_addr()?;
        Ok(Listener { socket: TcpListener::from_std(bound)?, local })
    }

    async fn accept(&self, listener: &Listener) -> io::Result<(Stream, SocketAddr)> {
        match listener.socket.accept().await {
            Ok((socket, client)) => {
                socket.set_nodelay(true)?;
                let local = if listener.local.ip().is_unspecified() { socket.local_addr()? } else { listener.local };
                Ok((Stream { io: TokioIo::new(socket), local, _open: Some(Open::new(&self.inner.open)) }, client))
            }
            Err(error) => {
                if !is_of_one_client(&error) {
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(error)
            }
        }
    }

    fn dial(&self, to: SocketAddr) -> impl Future<Output = io::Result<Stream>> + 'static {
        dial(to)
    }

    fn date(&self) -> Option<HeaderValue> {
        let now = self.now();
        let second = self.inner.clock.since_epoch(now).as_secs();
        let mut date = self.inner.date.borrow_mut();
        if date.0 != second {
            *date = (second, self.inner.clock.date(now));
        }
        date.1.clone()
    }

    fn local_address(&self, stream: &Stream) -> Option<SocketAddr> {
        Some(stream.local)
    }

    async fn charge(&self, _: Work) {}
}

async fn dial(to: SocketAddr) -> io::Result<Stream> {
    let socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    let local = socket.local_addr()?;
    Ok(Stream { io: TokioIo::new(socket), local, _open: None })
}

/// Whether a failure to accept concerns the client at the head of the queue and no other.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Counts a downstream connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection. Small writes go out at once (`TCP_NODELAY`), as Envoy's do.
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    local: SocketAddr,
    _open: Option<Open>,
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if let [part] = parts {
            return Pin::new(&mut self.io).poll_write(cx, part);
        }
        if length > GATHERED_MAX {
            return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        }
        let (mut gathered, mut end) = ([0; GATHERED_MAX], 0);
        for part in parts {
            gathered[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Pin::new(&mut self.io).poll_write(cx, &gathered[..length])
    }
}
