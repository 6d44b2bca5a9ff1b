//! The body of a request on its way to upstreams.
//!
//! A body that only passes is handed on as it comes. One that may be sent again, copied to mirrors or timed from its end is kept while it passes,
//! up to [`KEPT_MAX`]; beyond that only the present try goes on, and nothing is sent again.
//! Source: envoy source/common/router/router.cc `decodeData` (retry and shadow buffers; the limit is the connection's buffer limit).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// So many bytes of a request are kept. Source: envoy `per_connection_buffer_limit_bytes`, 1 MiB.
const KEPT_MAX: usize = 1 << 20;

/// What an upstream connection sends.
pub(in crate::gateway) enum RequestBody {
    /// Nothing.
    Empty,
    /// What the client sends, as it comes.
    Passing(Counted),
    /// What the client sends, kept as well.
    Kept(Reader),
}

/// What a client sends, with the number of its bytes for the access log.
pub(in crate::gateway) struct Counted {
    incoming: Incoming,
    received: Rc<Cell<u64>>,
}

impl RequestBody {
    /// A request as it arrives, and where the bytes of its body are counted, if it has one.
    pub(in crate::gateway) fn counted(request: Request<Incoming>) -> (Request<Self>, Option<Rc<Cell<u64>>>) {
        let received: Option<Rc<Cell<u64>>> = (!request.body().is_end_stream()).then(Rc::default);
        let request = request.map(|incoming| match &received {
            None => Self::Empty,
            Some(received) => Self::Passing(Counted { incoming, received: Rc::clone(received) }),
        });
        (request, received)
    }
}

impl Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.received.set(self.received.get() + data.len() as u64);
        }
        frame
    }
}

/// A body that is kept while it passes.
pub(super) struct Kept {
    state: RefCell<State>,
}

struct State {
    incoming: Counted,
    hint: SizeHint,
    /// What has come. Where it was too much, what the present try has read is empty.
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    is_too_large: bool,
    has_ended: bool,
    has_failed: bool,
    /// The reader of the present try.
    present: u64,
    waiting: Vec<Waker>,
}

/// One reading of a kept body, from its start.
pub(in crate::gateway) struct Reader {
    kept: Rc<Kept>,
    number: u64,
    position: usize,
    has_ended: bool,
}

/// Why a body could not be sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum BodyError {
    /// The client went away, or what it sent was no body.
    Client,
    /// It was given up: a later try took over, or it was too large to be kept.
    GivenUp,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "the client's body broke off",
            Self::GivenUp => "the body is not sent on",
        })
    }
}

impl std::error::Error for BodyError {}

impl Kept {
    pub(super) fn new(incoming: Counted) -> Rc<Self> {
        let hint = incoming.incoming.size_hint();
        let state = State {
            incoming,
            hint,
            frames: Vec::new(),
            trailers: None,
            size: 0,
            is_too_large: false,
            has_ended: false,
            has_failed: false,
            present: 0,
            waiting: Vec::new(),
        };
        Rc::new(Self { state: RefCell::new(state) })
    }

    /// Whether it can be read from its start.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.state.borrow();
        !state.is_too_large && !state.has_failed
    }

    /// The reading for a new try; that of an earlier one ends.
    pub(super) fn read(self: &Rc<Self>) -> Reader {
        let mut state = self.state.borrow_mut();
        state.present += 1;
        Reader { kept: Rc::clone(self), number: state.present, position: 0, has_ended: false }
    }

    /// A reading beside the present try: for a copy.
    pub(super) fn read_beside(self: &Rc<Self>) -> Reader {
        Reader { kept: Rc::clone(self), number: u64::MAX, position: 0, has_ended: false }
    }

    /// Ends when the client has sent all.
    pub(super) async fn ended(self: Rc<Self>) {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.has_ended || state.has_failed {
                return Poll::Ready(());
            }
            state.wait(cx);
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }

    fn wake_all(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }

    /// Takes in what the client sends next.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = match self.incoming.poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(next) => next,
        };
        self.wake_all();
        match next {
            None => self.has_ended = true,
            Some(Err(_)) => self.has_failed = true,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.size += data.len();
                    self.has_ended |= self.incoming.incoming.is_end_stream();
                    self.is_too_large |= self.size > KEPT_MAX;
                    self.frames.push(data);
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
        Poll::Ready(())
    }
}

impl Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut state = self.kept.state.borrow_mut();
        loop {
            let is_present = self.number == state.present;
            if state.has_failed {
                return Poll::Ready(Some(Err(BodyError::Client)));
            }
            // What was read is no longer kept: only the present try goes on, if it is the first.
            if !is_present && (self.number != u64::MAX || state.is_too_large) {
                return Poll::Ready(Some(Err(BodyError::GivenUp)));
            }
            let is_too_large = state.is_too_large;
            if let Some(data) = state.frames.get_mut(self.position) {
                self.position += 1;
                let data = if is_too_large { std::mem::take(data) } else { data.clone() };
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if state.has_ended {
                self.has_ended = true;
                let trailers = state.trailers.clone();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match state.poll_next(cx) {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    // Another reading may be the one that the client's connection wakes.
                    state.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.kept.state.borrow();
        let is_at_end = state.has_ended && state.trailers.is_none() && self.position >= state.frames.len();
        self.has_ended || is_at_end
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Passing(incoming) => {
                incoming.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| BodyError::Client)))
            }
            Self::Kept(reader) => reader.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Passing(counted) => counted.incoming.is_end_stream(),
            Self::Kept(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Passing(counted) => counted.incoming.size_hint(),
            Self::Kept(reader) => reader.kept.state.borrow().hint,
        }
    }
}
