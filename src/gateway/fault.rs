//! Trouble that a route makes on purpose, before a request is forwarded: it is never retried, and no endpoint sees it.
//!
//! Delay and abort are drawn each for itself, the delay first. A request that draws both waits and is then aborted.
//! Source: envoy source/extensions/filters/http/fault/fault_filter.cc; istio pilot/pkg/networking/core/route/route.go (`TranslateFault`).

use std::time::Duration;

use http::StatusCode;

use super::routes::{Abort, Fault};

/// The body of an aborted request's answer.
pub const BODY: &str = "fault filter abort";
/// Envoy's text for it.
pub const DETAILS: &str = "fault_filter_abort";

/// What a request has drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected {
    /// It waits so long first.
    pub delay: Option<Duration>,
    /// It is answered by the gateway.
    pub abort: Option<Abort>,
}

impl Fault {
    /// What a request draws. `random` gives 64 uniform bits, once for each part that the fault has.
    #[must_use]
    pub fn draw(&self, mut random: impl FnMut() -> u64) -> Injected {
        let delay = self.delay.and_then(|(delay, share)| share.holds(random()).then_some(delay));
        let abort = self.abort.and_then(|(abort, share)| share.holds(random()).then_some(abort));
        Injected { delay, abort }
    }
}

impl Abort {
    /// The status of the answer, to a request that is not gRPC.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Http(status) => status,
            Self::Grpc(_) => StatusCode::OK,
        }
    }

    /// The `grpc-status` of the answer to a gRPC request.
    #[must_use]
    pub fn grpc_status(self) -> u32 {
        match self {
            Self::Http(status) => super::grpc::status_of(status, false),
            Self::Grpc(status) => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::routes::Millionths;

    /// The least draw of 64 bits that lies at or above so many millionths.
    fn at(millionths: u64) -> u64 {
        u64::try_from((u128::from(millionths) << 64).div_ceil(1_000_000)).unwrap()
    }

    #[test]
    fn delay_and_abort_are_drawn_each_for_itself() {
        let delay = Duration::from_secs(3);
        let abort = Abort::Http(StatusCode::IM_A_TEAPOT);
        let fault = Fault { delay: Some((delay, Millionths(250_000))), abort: Some((abort, Millionths(1))) };
        for (first, second, expected) in [
            (at(250_000) - 1, at(1), (Some(delay), None)),
            (at(250_000), at(1) - 1, (None, Some(abort))),
            (0, 0, (Some(delay), Some(abort))),
            (u64::MAX, u64::MAX, (None, None)),
        ] {
            let mut draws = [first, second].into_iter();
            let injected = fault.draw(|| draws.next().unwrap());
            assert_eq!((injected.delay, injected.abort), expected);
        }
    }

    #[test]
    fn all_and_none_are_certain() {
        let abort = Abort::Grpc(14);
        for (share, expected) in [(Millionths::ALL, Some(abort)), (Millionths(0), None)] {
            let fault = Fault { delay: None, abort: Some((abort, share)) };
            for random in [0, u64::MAX] {
                assert_eq!(fault.draw(|| random), Injected { delay: None, abort: expected });
            }
        }
        assert_eq!((abort.status(), abort.grpc_status()), (StatusCode::OK, 14));
        let abort = Abort::Http(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((abort.status().as_u16(), abort.grpc_status()), (503, 14));
    }
}
