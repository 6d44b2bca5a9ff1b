//! One replica: a hyper server on the simulated network.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::turn::Places;
use crate::engine::{Delay, Signal, Sim, Sleep, Streams, TaskGroup};
use crate::net::{Host, Listener, TcpStream};

/// Connections that wait to be accepted before a SYN is dropped. Source: Linux `net.core.somaxconn` since 5.4.
const BACKLOG: usize = 4096;

/// How an answer leaves the replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyShape {
    /// Head and body together, after the service time.
    Whole,
    /// Head and half of the body at once, the rest after the service time: a streamed answer.
    HalfFirst,
}

/// How the replicas of one service behave.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// From a request's turn to its answer.
    pub service_time: Delay,
    /// Requests served at once by a replica; more wait.
    pub concurrency: usize,
    /// Answers that are a 500, in parts per million.
    pub error_ppm: u32,
    /// An idle connection is closed after this time; never if absent.
    pub keep_alive: Option<Duration>,
    /// How an answer leaves.
    pub body: BodyShape,
    /// Bytes of an answer's body.
    pub body_bytes: usize,
}

/// A running replica. Clones share it.
#[derive(Clone)]
pub struct Backend {
    replica: Rc<Replica>,
    tasks: TaskGroup,
}

struct Replica {
    sim: Sim,
    streams: Streams,
    config: BackendConfig,
    places: Places,
    body: Bytes,
    closing: Signal,
    ended: Signal,
    connection_count: Cell<usize>,
    request_count: Cell<u64>,
}

impl Backend {
    /// Starts a replica that listens on `port` of `host`.
    ///
    /// # Errors
    ///
    /// If the host has vanished.
    pub fn start(sim: &Sim, streams: Streams, host: &Host, port: u16, config: BackendConfig) -> std::io::Result<Self> {
        let listener = host.listen(port, BACKLOG)?;
        let replica = Rc::new(Replica {
            sim: sim.clone(),
            streams,
            places: Places::new(config.concurrency),
            body: Bytes::from(vec![b'.'; config.body_bytes]),
            config,
            closing: Signal::default(),
            ended: Signal::default(),
            connection_count: Cell::new(0),
            request_count: Cell::new(0),
        });
        let tasks = TaskGroup::new(sim);
        let backend = Self { replica: Rc::clone(&replica), tasks: tasks.clone() };
        let connections = tasks.clone();
        tasks.spawn("backend-accept", async move { accept(replica, listener, connections).await });
        Ok(backend)
    }

    /// SIGTERM: serves on for `delay`, then closes the listener and idle connections, finishes what is in flight and ends.
    pub fn shut_down(&self, delay: Duration) {
        let replica = Rc::clone(&self.replica);
        self.tasks.spawn("backend-shutdown", async move {
            replica.sim.sleep(delay).await;
            replica.closing.raise();
            if replica.connection_count.get() == 0 {
                replica.ended.raise();
            }
        });
    }

    /// SIGKILL: everything ends at once.
    pub fn kill(&self) {
        self.tasks.abort();
        self.replica.ended.raise();
    }

    /// Ends when the process has.
    pub fn ended(&self) -> impl Future<Output = ()> + 'static {
        self.replica.ended.raised()
    }

    /// Requests whose turn has come so far.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.replica.request_count.get()
    }
}

async fn accept(replica: Rc<Replica>, listener: Listener, connections: TaskGroup) {
    let mut closing = pin!(replica.closing.raised());
    loop {
        let next = {
            let mut accepted = pin!(listener.accept());
            std::future::poll_fn(|cx| match closing.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accepted.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let Some(stream) = next else { return };
        replica.connection_count.set(replica.connection_count.get() + 1);
        let replica = Rc::clone(&replica);
        connections.spawn("backend-connection", async move {
            serve_connection(&replica, stream).await;
            replica.connection_count.set(replica.connection_count.get() - 1);
            if replica.closing.is_raised() && replica.connection_count.get() == 0 {
                replica.ended.raise();
            }
        });
    }
}

/// Serves a connection until the peer ends it, it has been idle for the keep-alive time, or the process shuts down.
async fn serve_connection(replica: &Rc<Replica>, stream: TcpStream) {
    let activity = Rc::new(Activity { open_count: Cell::new(0), idle_since: Cell::new(replica.sim.now()) });
    let service = service_fn(|request| answer(Rc::clone(replica), Rc::clone(&activity), request));
    let mut server = http1::Builder::new();
    server.auto_date_header(false).header_read_timeout(None);
    let mut connection = pin!(server.serve_connection(stream, service));
    let mut closing = pin!(replica.closing.raised());
    let mut idle: Pin<Box<Option<Sleep>>> = Box::pin(None);
    let mut is_closing = false;
    std::future::poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if is_closing {
                return Poll::Pending;
            }
            let is_idle_too_long = replica.config.keep_alive.is_some_and(|keep_alive| {
                activity.open_count.get() == 0
                    && poll_idle(&replica.sim, &mut idle, activity.idle_since.get().after(keep_alive), cx)
            });
            if !is_idle_too_long && closing.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Whether `deadline` has come; arms the timer for it otherwise. The timer is armed again only when the old one has rung,
/// so that a busy connection does not pay for a timer per request.
fn poll_idle(
    sim: &Sim,
    timer: &mut Pin<Box<Option<Sleep>>>,
    deadline: crate::units::SimTime,
    cx: &mut Context<'_>,
) -> bool {
    loop {
        if deadline <= sim.now() {
            return true;
        }
        if timer.is_none() {
            timer.set(Some(sim.sleep_until(deadline)));
        }
        let sleep = timer.as_mut().as_pin_mut().expect("the timer has just been armed");
        if sleep.poll(cx).is_pending() {
            return false;
        }
        timer.set(None);
    }
}

/// What a connection is doing.
struct Activity {
    open_count: Cell<usize>,
    idle_since: Cell<crate::units::SimTime>,
}

async fn answer(
    replica: Rc<Replica>,
    activity: Rc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let open = Open::new(&replica, activity);
    let (parts, body) = request.into_parts();
    // A body that breaks off ends the connection, and hyper drops this future with it.
    let _ = body.collect().await;
    let place = replica.places.take().await;
    replica.request_count.set(replica.request_count.get() + 1);
    let id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let mut stream = replica.streams.stream("service", id);
    let service_time = replica.config.service_time.draw(&mut stream);
    let is_error = replica.config.error_ppm > 0 && stream.chance_ppm(replica.config.error_ppm);
    let (first, rest) = match replica.config.body {
        BodyShape::Whole => {
            replica.sim.sleep(service_time).await;
            drop(place);
            (replica.body.clone(), None)
        }
        BodyShape::HalfFirst => {
            let half = replica.body.len() / 2;
            let later = Later { timer: Box::pin(replica.sim.sleep(service_time)), rest: replica.body.slice(half..) };
            (replica.body.slice(..half), Some((later, place)))
        }
    };
    let mut response = Response::new(Body { length: replica.body.len(), first: Some(first), rest, _open: open });
    if is_error {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Marks a request as open from its head to the end of its answer.
struct Open {
    sim: Sim,
    activity: Rc<Activity>,
}

impl Open {
    fn new(replica: &Replica, activity: Rc<Activity>) -> Self {
        activity.open_count.set(activity.open_count.get() + 1);
        Self { sim: replica.sim.clone(), activity }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.open_count.set(self.activity.open_count.get() - 1);
        self.activity.idle_since.set(self.sim.now());
    }
}

/// The second part of a streamed body and the moment it leaves.
struct Later {
    timer: Pin<Box<Sleep>>,
    rest: Bytes,
}

struct Body {
    length: usize,
    first: Option<Bytes>,
    rest: Option<(Later, super::turn::Place)>,
    _open: Open,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some((later, _)) = &mut self.rest else { return Poll::Ready(None) };
        if later.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let rest = std::mem::take(&mut later.rest);
        self.rest = None;
        Poll::Ready(Some(Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.as_ref().is_none_or(Bytes::is_empty) && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length as u64)
    }
}
