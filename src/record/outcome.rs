//! How a request ended, as its client saw it: exactly one of ten ways.

use std::fmt;

/// How a request ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Answered, and not with a 5xx.
    Ok,
    /// A 5xx made by the backend: answered, so not dropped.
    BackendError,
    /// A 5xx made by the gateway itself.
    GatewayError,
    /// The connection was refused.
    Refused,
    /// The connection was reset before an answer began.
    Reset,
    /// The connection was closed in order before an answer began.
    Closed,
    /// The answer was cut off in the middle.
    Truncated,
    /// Nobody answered the attempt to connect.
    ConnectTimeout,
    /// The client stopped waiting for the answer.
    RequestTimeout,
    /// The TLS handshake failed.
    TlsFailed,
}

impl Outcome {
    /// Number of outcomes.
    pub const COUNT: usize = 10;

    /// All outcomes, in the order of reports.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Ok,
        Self::BackendError,
        Self::GatewayError,
        Self::Refused,
        Self::Reset,
        Self::Closed,
        Self::Truncated,
        Self::ConnectTimeout,
        Self::RequestTimeout,
        Self::TlsFailed,
    ];

    /// The name in files, such as `connect_timeout`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BackendError => "backend_error",
            Self::GatewayError => "gateway_error",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::ConnectTimeout => "connect_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::TlsFailed => "tls_failed",
        }
    }

    /// The outcome of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Whether the infrastructure lost the request: neither it nor the backend's own error reached the client.
    #[must_use]
    pub const fn is_dropped(self) -> bool {
        !matches!(self, Self::Ok | Self::BackendError)
    }

    /// Position in [`Outcome::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_names_agree() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
            assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
        }
        assert_eq!(Outcome::from_name("lost"), None);
    }

    #[test]
    fn a_served_error_is_not_a_drop() {
        assert!(!Outcome::BackendError.is_dropped());
        assert!(Outcome::GatewayError.is_dropped());
    }
}
