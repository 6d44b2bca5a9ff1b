//! Instants of the process, and the calendar for its log.

#![expect(clippy::disallowed_types, reason = "the one place where real time enters")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::units::SimTime;

/// The clock of the process. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    /// From 1970 to the begin, in UTC.
    began_since_epoch: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        let began_since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_since_epoch }
    }

    /// The present.
    pub(super) fn now(&self) -> SimTime {
        SimTime::ZERO.after(self.began.elapsed())
    }

    /// An instant as tokio counts; none if it is too far away.
    pub(super) fn instant(&self, at: SimTime) -> Option<tokio::time::Instant> {
        self.began.checked_add(at.since(SimTime::ZERO)).map(tokio::time::Instant::from_std)
    }

    /// An instant as the `date` header tells it.
    pub(super) fn date(&self, at: SimTime) -> Option<HeaderValue> {
        let text = httpdate::fmt_http_date(UNIX_EPOCH.checked_add(self.since_epoch(at))?);
        HeaderValue::from_str(&text).ok()
    }

    /// From 1970 to an instant, in UTC. Steps of the system's clock after the begin are not followed, so that times never run backwards.
    pub(super) fn since_epoch(&self, at: SimTime) -> Duration {
        self.began_since_epoch.saturating_add(at.since(SimTime::ZERO))
    }
}
