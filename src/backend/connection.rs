//! One connection of a replica: requests one after the other, until somebody has enough.
//!
//! HTTP/1.1 as a plain server speaks it, by hand: behind the gateway, whose bytes are real, the replica need not be; with hyper here,
//! too, a quarter of a run would be spent on it. It answers as hyper does, byte for byte and segment for segment: head and body in
//! one write, `connection: close` in the last answer of a replica that shuts down, an end at once if the peer leaves while it waits.
//!
//! Not modelled: chunked request bodies, upgrades; a request that is not understood ends the connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::Write as _;

use super::request::{Head, parse};
use super::server::{BodyShape, Replica};
use super::turn::Place;
use crate::engine::{Delay, Sleep, Stream};
use crate::net::TcpStream;
use crate::units::SimTime;

const STATUS: [&str; 2] = ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 500 Internal Server Error\r\n"];

/// Serves a connection until the peer ends it, it has been idle for the keep-alive time, or the process shuts down.
pub(super) async fn serve_connection(replica: &Rc<Replica>, stream: TcpStream) {
    let mut connection = Connection {
        replica: Rc::clone(replica),
        stream,
        buffer: Vec::new(),
        closing: replica.closing.raised(),
        is_closing: false,
        has_served: false,
        idle_since: replica.sim.now(),
        idle: None,
    };
    while let Some(request) = connection.next().await
        && connection.answer(request).await.is_some()
    {}
    // The stream is dropped with the connection, which closes it.
}

struct Connection<C> {
    replica: Rc<Replica>,
    stream: TcpStream,
    /// What has been read and not yet understood.
    buffer: Vec<u8>,
    /// Ends when the process shuts down.
    closing: C,
    /// No request after the present one.
    is_closing: bool,
    /// At least one request has come.
    has_served: bool,
    /// When the last answer was complete, or the connection was accepted.
    idle_since: SimTime,
    /// The timer of the keep-alive time.
    idle: Option<Sleep>,
}

/// What is left to know of a request when its head has been read.
struct Request {
    body_bytes: usize,
    wants_no_body: bool,
    expects_continue: bool,
    says_close: bool,
    /// The draws of its service, unless there is nothing to draw. Boxed: a generator is large, and this is moved.
    stream: Option<Box<Stream>>,
}

impl<C: Future<Output = ()> + Unpin> Connection<C> {
    /// The next request; none when the connection is over.
    async fn next(&mut self) -> Option<Request> {
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_request(cx) {
                return Poll::Ready(next);
            }
            if self.is_closing || !(self.poll_idle(cx) || self.poll_closing(cx)) {
                return Poll::Pending;
            }
            self.is_closing = true;
            // A head that has begun to arrive on a fresh connection is waited for and answered.
            if self.buffer.is_empty() || self.has_served { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        loop {
            let head = if self.buffer.is_empty() { Ok(None) } else { parse(&self.buffer) };
            match head {
                Err(_) => return Poll::Ready(None),
                Ok(Some(head)) => {
                    let request = self.request(&head);
                    let length = head.length;
                    self.buffer.drain(..length);
                    self.has_served = true;
                    return Poll::Ready(Some(request));
                }
                Ok(None) => {}
            }
            if !ready!(self.poll_read(cx)) {
                return Poll::Ready(None);
            }
        }
    }

    fn request(&self, head: &Head<'_>) -> Request {
        let config = &self.replica.config;
        let is_drawn = config.error_ppm > 0 || !config.service_time.is_constant();
        Request {
            body_bytes: head.body_bytes,
            wants_no_body: head.wants_no_body,
            expects_continue: head.expects_continue,
            says_close: head.says_close,
            stream: is_drawn.then(|| {
                let id = str::from_utf8(head.id).unwrap_or_default();
                Box::new(self.replica.streams.stream("service", id))
            }),
        }
    }

    /// Answers a request; none if the connection is over with it.
    async fn answer(&mut self, mut request: Request) -> Option<()> {
        let _held = self.replica.hold();
        if request.expects_continue && request.body_bytes > 0 {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        self.read_body(request.body_bytes).await?;
        let replica = Rc::clone(&self.replica);
        let (is_error, streamed) = {
            let turn = pin!(take_turn(&replica, request.stream.take()));
            self.beside(turn).await?
        };
        let ends = self.is_closing || request.says_close;
        let length = replica.config.body_bytes;
        let mut bytes = Vec::with_capacity(128 + length);
        let close = if ends { "connection: close\r\n" } else { "" };
        for part in [STATUS[usize::from(is_error)], "content-type: text/plain\r\n", close, &replica.length_line] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let body_bytes = if request.wants_no_body { 0 } else { length };
        match streamed.filter(|_| body_bytes > 0) {
            None => bytes.resize(bytes.len() + body_bytes, b'.'),
            Some((mut timer, place)) => {
                let first = body_bytes / 2;
                bytes.resize(bytes.len() + first, b'.');
                // The timer is armed before the first half leaves; without a service time there is only one part.
                let is_over = poll_fn(|cx| Poll::Ready(Pin::new(&mut timer).poll(cx).is_ready())).await;
                if !is_over {
                    self.stream.write_all(&bytes).await.ok()?;
                    bytes.clear();
                    self.beside(Pin::new(&mut timer)).await?;
                }
                drop(place);
                bytes.resize(bytes.len() + body_bytes - first, b'.');
            }
        }
        self.idle_since = replica.sim.now();
        self.stream.write_all(&bytes).await.ok()?;
        if ends || self.is_closing {
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await.ok()?;
            return None;
        }
        Some(())
    }

    /// Reads and forgets a body; none if it breaks off.
    async fn read_body(&mut self, mut missing: usize) -> Option<()> {
        poll_fn(|cx| {
            loop {
                let taken = missing.min(self.buffer.len());
                self.buffer.drain(..taken);
                missing -= taken;
                if missing == 0 {
                    return Poll::Ready(Some(()));
                }
                match self.poll_read(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            self.poll_closing(cx);
            Poll::Pending
        })
        .await
    }

    /// The output of `future`; none if the peer leaves before. A shutdown meanwhile is noted.
    async fn beside<F: Future>(&mut self, mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| {
            // With the next request already here nobody looks whether the peer has left.
            if self.buffer.is_empty() && self.poll_read(cx) == Poll::Ready(false) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_closing(cx);
            Poll::Pending
        })
        .await
    }

    /// Reads more into the buffer; false at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.poll_read_into(cx, &mut self.buffer).map(|read| read.is_ok_and(|length| length > 0))
    }

    /// Whether the process shuts down.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_closing = self.is_closing || Pin::new(&mut self.closing).poll(cx).is_ready();
        self.is_closing
    }

    /// Whether the connection has been idle for too long. The timer is armed again only when the old one has rung, so that a
    /// busy connection does not pay for a timer per request.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(keep_alive) = self.replica.config.keep_alive else { return false };
        let deadline = self.idle_since.after(keep_alive);
        loop {
            if deadline <= self.replica.sim.now() {
                return true;
            }
            let sleep = self.idle.get_or_insert_with(|| self.replica.sim.sleep_until(deadline));
            if Pin::new(sleep).poll(cx).is_pending() {
                return false;
            }
            self.idle = None;
        }
    }
}

/// Waits for a place, and then for as long as the service takes. Whether the answer is an error, and what is to be waited for
/// between the halves of a streamed answer.
async fn take_turn(replica: &Replica, stream: Option<Box<Stream>>) -> (bool, Option<(Sleep, Place)>) {
    let place = replica.places.take().await;
    replica.request_count.set(replica.request_count.get() + 1);
    let config = &replica.config;
    let (service_time, is_error) = match (stream, &config.service_time) {
        (Some(mut stream), service_time) => {
            let service_time = service_time.draw(&mut stream);
            (service_time, config.error_ppm > 0 && stream.chance_ppm(config.error_ppm))
        }
        (None, Delay::Constant(service_time)) => (*service_time, false),
        (None, _) => unreachable!("what is drawn has a stream"),
    };
    let sleep = replica.sim.sleep(service_time);
    match config.body {
        BodyShape::Whole => {
            sleep.await;
            drop(place);
            (is_error, None)
        }
        BodyShape::HalfFirst => (is_error, Some((sleep, place))),
    }
}
