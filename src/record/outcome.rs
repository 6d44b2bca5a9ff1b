//! What became of a request, from the client's side: exactly one of ten.

/// The one outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// An answer below 500.
    Ok,
    /// A 5xx that the backend made.
    BackendError,
    /// A 5xx that the gateway made.
    GatewayError,
    /// The connection was refused.
    Refused,
    /// The connection was reset before any byte of an answer.
    Reset,
    /// The connection ended in order before any byte of an answer.
    Closed,
    /// The connection ended within the answer.
    Truncated,
    /// The client gave up while it was still connecting.
    ConnectTimeout,
    /// The client gave up on a connected server.
    RequestTimeout,
    /// The TLS handshake failed.
    TlsFailed,
}

impl Outcome {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 10] = [
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

    /// The name used in every file.
    #[must_use]
    pub fn name(self) -> &'static str {
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

    /// The request was lost by the infrastructure, not answered by the service.
    #[must_use]
    pub fn is_dropped(self) -> bool {
        !matches!(self, Self::Ok | Self::BackendError)
    }
}
