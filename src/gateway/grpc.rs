//! What an answer of the gateway's own says to a gRPC client: always 200, and the reason in `grpc-status`.
//!
//! Source: envoy source/common/grpc/{common,status}.cc; gRPC doc/http-grpc-status-mapping.md.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

/// Whether a request is gRPC, by its content type.
#[must_use]
pub fn is_request(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let rest = value.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The `grpc-status` of an answer. A request that is rate-limited is unavailable, or out of resources if asked for.
#[must_use]
pub fn status_of(status: StatusCode, rate_limited_is_exhausted: bool) -> u32 {
    const UNKNOWN: u32 = 2;
    const PERMISSION_DENIED: u32 = 7;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;
    const UNAUTHENTICATED: u32 = 16;
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 if rate_limited_is_exhausted => RESOURCE_EXHAUSTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_grpc_request_is_known_by_its_content_type() {
        for (value, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_request(&headers), is_grpc, "{value}");
        }
        assert!(!is_request(&HeaderMap::new()));
    }
}
