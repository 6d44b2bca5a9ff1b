//! The body of an answer on its way to the client, and the record of its request, told when it ends.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::gateway::access::{AccessRecord, Flags};
use crate::gateway::server::OpenRequest;
use crate::gateway::upstream::Lent;
use crate::units::SimTime;

/// A time that runs out.
pub(super) type Limit = Pin<Box<dyn Future<Output = ()>>>;

/// The upstream half of a request under way.
pub(super) struct Exchange {
    pub(super) incoming: Option<Incoming>,
    /// Active on its endpoint to the end of the answer.
    pub(super) lent: Option<Lent>,
    pub(super) sent_at: SimTime,
    /// The route's timeout, if it has one: it holds to the end of the answer.
    pub(super) limit: Option<Limit>,
}

/// An upstream's answer, and what it comes on.
pub(super) struct Done {
    pub(super) response: Response<Incoming>,
    pub(super) exchange: Exchange,
}

/// Who is told of finished requests.
pub(in crate::gateway) trait Audience {
    fn now(&self) -> SimTime;
    fn tell(&self, record: &AccessRecord);
}

/// The record of a request; it is told when it is dropped, at the end of the stream.
pub(super) struct Journal {
    audience: Rc<dyn Audience>,
    pub(super) record: AccessRecord,
    /// Bytes of the request's body so far; none: it has no body.
    received: Option<Rc<Cell<u64>>>,
    is_complete: bool,
    _open: OpenRequest,
}

impl Journal {
    pub(super) fn new(
        audience: Rc<dyn Audience>,
        record: AccessRecord,
        received: Option<Rc<Cell<u64>>>,
        open: OpenRequest,
    ) -> Box<Self> {
        Box::new(Self { audience, record, received, is_complete: false, _open: open })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.record.ended_at = self.audience.now();
        if !self.is_complete && !self.record.flags.has(Flags::UC) && !self.record.flags.has(Flags::UT) {
            self.record.flags = self.record.flags.and(Flags::DC);
            self.record.details = "downstream_remote_disconnect";
        }
        if let Some(received) = &self.received {
            self.record.bytes_received = received.get();
        }
        self.audience.tell(&self.record);
    }
}

/// The body of an answer: the gateway's own, or the upstream's as it comes.
pub(in crate::gateway) struct ResponseBody {
    local: Option<Bytes>,
    upstream: Option<Exchange>,
    /// In a box: the record is large, and an answer is moved a few times on its way out.
    journal: Box<Journal>,
}

/// Why an answer was cut.
#[derive(Debug)]
pub(in crate::gateway) enum ResponseError {
    /// The upstream broke off.
    Upstream(hyper::Error),
    /// The route's timeout was over.
    TimedOut,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => write!(f, "the upstream's answer broke off: {error}"),
            Self::TimedOut => f.write_str("the answer took longer than the route allows"),
        }
    }
}

impl std::error::Error for ResponseError {}

impl ResponseBody {
    pub(super) fn local(body: Bytes, journal: Box<Journal>) -> Self {
        Self { local: Some(body), upstream: None, journal }
    }

    pub(super) fn upstream(exchange: Exchange, journal: Box<Journal>) -> Self {
        Self { local: None, upstream: Some(exchange), journal }
    }

    pub(super) fn record(&mut self) -> &mut AccessRecord {
        &mut self.journal.record
    }

    /// The upstream's body is complete: its connection is free.
    fn complete(&mut self) {
        self.journal.is_complete = true;
        if let Some(lent) = self.upstream.take().and_then(|mut exchange| exchange.lent.take()) {
            lent.give_back();
        }
    }

    /// The answer was cut. The status that the client saw stays.
    fn remark(&mut self, flags: Flags, details: &'static str) {
        self.journal.record.flags = self.journal.record.flags.and(flags);
        self.journal.record.details = details;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if let Some(local) = self.local.take() {
            self.journal.is_complete = true;
            self.record().bytes_sent += local.len() as u64;
            return Poll::Ready((!local.is_empty()).then(|| Ok(Frame::data(local))));
        }
        let Some(exchange) = self.upstream.as_mut() else { return Poll::Ready(None) };
        let Exchange { incoming: Some(incoming), lent: Some(lent), .. } = exchange else { return Poll::Ready(None) };
        lent.begin_taking();
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        let is_last = matches!(frame, Poll::Ready(Some(Ok(_)))) && incoming.is_end_stream();
        lent.end_taking(is_last);
        match &frame {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Err(_))) => {
                self.remark(Flags::UC, "upstream_reset_after_response_started{connection_termination}");
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.record().bytes_sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if is_last {
                    self.complete();
                }
            }
            Poll::Pending => {
                let is_over = exchange.limit.as_mut().is_some_and(|limit| limit.as_mut().poll(cx).is_ready());
                if is_over {
                    self.upstream = None;
                    self.remark(Flags::UT, "upstream_response_timeout");
                    return Poll::Ready(Some(Err(ResponseError::TimedOut)));
                }
            }
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(ResponseError::Upstream)))
    }

    fn is_end_stream(&self) -> bool {
        match (&self.local, &self.upstream) {
            (Some(local), _) => local.is_empty(),
            (None, Some(exchange)) => exchange.incoming.as_ref().is_none_or(Body::is_end_stream),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.local, &self.upstream) {
            (Some(local), _) => SizeHint::with_exact(local.len() as u64),
            (None, Some(exchange)) => {
                exchange.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not poll a body that says it is at its end: an empty answer is complete without a frame.
        if self.is_end_stream() {
            self.complete();
        }
    }
}
