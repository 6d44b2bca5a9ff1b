//! Which of the headers that the gateway looks for a request has.
//!
//! One look at each name costs less than a look-up for each of them, most of which would find nothing.

use http::{HeaderMap, HeaderName};

/// Some of the headers that the gateway looks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Seen(u8);

impl Seen {
    /// One that may have to be changed or removed: it concerns one connection, or steers Envoy, or tells of a certificate.
    pub const SPECIAL: Self = Self(1);
    /// `x-forwarded-for`.
    pub const FORWARDED_FOR: Self = Self(1 << 1);
    /// `x-forwarded-proto`.
    pub const FORWARDED_PROTO: Self = Self(1 << 2);
    /// `x-request-id`.
    pub const REQUEST_ID: Self = Self(1 << 3);
    /// `expect`.
    pub const EXPECT: Self = Self(1 << 4);
    /// `content-type`.
    pub const CONTENT_TYPE: Self = Self(1 << 5);
    /// `host`.
    pub const HOST: Self = Self(1 << 6);

    /// Those that are among these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |seen, name| Self(seen.0 | Self::of_name(name).0))
    }

    /// Whether one is there.
    #[must_use]
    pub const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    fn of_name(name: &HeaderName) -> Self {
        let text = name.as_str();
        // The first letter rules most names out.
        match text.as_bytes() {
            [b'x', ..] => match text {
                "x-forwarded-for" => Self::FORWARDED_FOR,
                "x-forwarded-proto" => Self::FORWARDED_PROTO,
                "x-request-id" => Self::REQUEST_ID,
                "x-forwarded-client-cert" => Self::SPECIAL,
                other if other.starts_with("x-envoy-") => Self::SPECIAL,
                _ => Self::default(),
            },
            [b'c', ..] => match text {
                "connection" => Self::SPECIAL,
                "content-type" => Self::CONTENT_TYPE,
                _ => Self::default(),
            },
            [b'e', ..] if text == "expect" => Self::EXPECT,
            [b'h', ..] if text == "host" => Self::HOST,
            [b'k' | b'p' | b'r' | b't' | b'u', ..] => match text {
                "keep-alive" | "proxy-connection" | "referer" | "te" | "transfer-encoding" | "upgrade" => Self::SPECIAL,
                _ => Self::default(),
            },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_name_is_seen_for_itself() {
        for (name, seen) in [
            ("x-forwarded-for", Seen::FORWARDED_FOR),
            ("x-forwarded-proto", Seen::FORWARDED_PROTO),
            ("x-request-id", Seen::REQUEST_ID),
            ("expect", Seen::EXPECT),
            ("content-type", Seen::CONTENT_TYPE),
            ("x-envoy-max-retries", Seen::SPECIAL),
            ("x-forwarded-client-cert", Seen::SPECIAL),
            ("connection", Seen::SPECIAL),
            ("te", Seen::SPECIAL),
            ("upgrade", Seen::SPECIAL),
            ("host", Seen::HOST),
            ("http2-settings", Seen::default()),
            ("x-envoy", Seen::default()),
            ("content-length", Seen::default()),
            ("user-agent", Seen::default()),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
            assert_eq!(Seen::of(&headers), seen, "{name}");
        }
    }
}
