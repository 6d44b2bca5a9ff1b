//! The rules of a balancer that is a proxy for HTTP/1.1: when it closes which connection, how long it waits for whom, and what it answers itself.
//!
//! Clients' connections end at it. It chooses a target for each request, not for each connection, and has connections of its own to targets: a new one for each
//! request, or some that it keeps. What a target says of its connection (`Connection: close`) it heeds, and does not pass on.
//!
//! ```text
//! request ─→ over the limit ─→ 503
//!        └─→ the listener redirects ─→ 302
//!        └─→ no target ─→ 503, 502
//!        └─→ connection: kept, or new ─→ refused ─→ 502
//!                               │    └─→ not taken in time ─→ the next target, or 504
//!                               └─→ sent ─→ closed or reset before an answer ─→ 502
//!                                      └─→ silent for too long ─→ 504
//!                                      └─→ answer ─→ passed on as it comes; cut off in the middle, so is the client
//! ```
//!
//! [`message`] reads and writes heads, [`pool`] keeps connections; who does it all on the simulated network is [`super::load_balancer`]. What products differ in is
//! [`HttpRules`]: plain numbers, with their sources where they are written ([`super::product::aws_alb`], and for Alibaba's CLB [`clb`]).
//!
//! A session may stay at its target, [`sticky`]; a listener may only redirect, and then has no use for targets.
//!
//! Not modelled: HTTP/2 from clients, upgrades, compression, rules by host or path. A request's body is read to its end before a target is chosen.
//!
//! Sources: those of the products; nginx `ngx_http_proxy_module` (on which Tengine and so the CLB's proxy rests) for how timeouts are counted: from one
//! reading to the next.

pub mod clb;
pub mod message;
pub mod pool;
pub mod sticky;

use std::time::Duration;

pub use self::sticky::Sticky;
use crate::units::SimTime;

/// How a proxy for HTTP behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRules {
    /// A client's connection on which nothing is said for so long between requests is closed.
    pub client_idle: Duration,
    /// With this many requests a client's connection is over, and the last answer says so; never if absent.
    pub client_requests: Option<u64>,
    /// A client's connection that is so old is over with its next answer; never if absent.
    pub client_life: Option<Duration>,
    /// A target that has not taken a connection by then has failed.
    pub connect_timeout: Duration,
    /// A target that takes and says nothing for so long has failed.
    pub answer_timeout: Duration,
    /// How long a connection to a target is kept for other requests; none: each request has its own.
    pub target_idle: Option<Duration>,
    /// A target that did not take the connection in time is followed by the next.
    pub tries_next: bool,
    /// When a removed target's time is over, its requests are cut; else they are finished.
    pub cuts_requests: bool,
    /// The answer where targets are registered and none is healthy.
    pub no_healthy_status: u16,
    /// What it tells targets of the client, beside its address.
    pub forwarded: Forwarded,
    /// How sessions stay at targets, if they do.
    pub sticky: Option<Sticky>,
    /// It answers that all is to be asked over TLS at this port, and sends nothing to targets.
    pub redirect: Option<u16>,
}

/// Headers about the client's connection, beside `X-Forwarded-For`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Forwarded {
    /// `X-Forwarded-Proto`: what the listener speaks.
    pub proto: Option<&'static str>,
    /// `X-Forwarded-Port`: the listener's port.
    pub port: bool,
    /// `X-Forwarded-Client-srcport`: the client's port.
    pub client_port: bool,
}

impl HttpRules {
    /// Whether a client's connection is over with its `number`th request, counted from 1.
    #[must_use]
    pub fn is_last(&self, number: u64, opened_at: SimTime, now: SimTime) -> bool {
        let is_old = self.client_life.is_some_and(|life| now.since(opened_at) >= life);
        is_old || self.client_requests.is_some_and(|most| number >= most)
    }

    /// Whether a request that failed so is sent to another target.
    #[must_use]
    pub fn goes_on_after(&self, ending: Ending) -> bool {
        self.tries_next && ending == Ending::ConnectTimedOut
    }

    /// The status of the balancer's own answer.
    #[must_use]
    pub fn status(&self, ending: Ending) -> u16 {
        match ending {
            Ending::NoTarget | Ending::OverLimit => 503,
            Ending::NoHealthyTarget => self.no_healthy_status,
            Ending::Refused | Ending::Reset | Ending::Closed => 502,
            Ending::ConnectTimedOut | Ending::TimedOut => 504,
        }
    }
}

/// Why a request was not answered by a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// No target is registered.
    NoTarget,
    /// Some are, and none may be chosen.
    NoHealthyTarget,
    /// It was one too many in its second.
    OverLimit,
    /// The target refused the connection.
    Refused,
    /// It did not take it in time.
    ConnectTimedOut,
    /// The connection was reset before the answer was complete.
    Reset,
    /// It was closed before that.
    Closed,
    /// The target said nothing for too long.
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::product::aws_alb;

    fn at(s: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(s))
    }

    #[test]
    fn the_last_request_of_a_connection_is_known_by_number_and_age() {
        let (clb, alb) = (clb::rules(), aws_alb::rules());
        for (name, rules, number, age_s, expected) in [
            ("CLB, the first", &clb, 1, 0, false),
            ("CLB, the 99th", &clb, 99, 3600, false),
            ("CLB, the 100th", &clb, 100, 0, true),
            ("ALB, the 1000th", &alb, 1000, 3599, false),
            ("ALB, an old one", &alb, 1, 3600, true),
        ] {
            assert_eq!(rules.is_last(number, SimTime::ZERO, at(age_s)), expected, "{name}");
        }
    }

    #[test]
    fn own_answers_are_those_of_the_documents() {
        let (clb, alb) = (clb::rules(), aws_alb::rules());
        for (ending, of_clb, of_alb) in [
            (Ending::NoTarget, 503, 503),
            (Ending::NoHealthyTarget, 502, 503),
            (Ending::OverLimit, 503, 503),
            (Ending::Refused, 502, 502),
            (Ending::ConnectTimedOut, 504, 504),
            (Ending::Reset, 502, 502),
            (Ending::Closed, 502, 502),
            (Ending::TimedOut, 504, 504),
        ] {
            assert_eq!((clb.status(ending), alb.status(ending)), (of_clb, of_alb), "{ending:?}");
            assert_eq!(clb.goes_on_after(ending), ending == Ending::ConnectTimedOut, "{ending:?}");
            assert!(!alb.goes_on_after(ending), "{ending:?}");
        }
    }
}
