//! The head of a request, read from bytes.

use std::mem::MaybeUninit;

/// Header lines a replica accepts.
const HEADERS_MAX: usize = 100;

/// What a replica needs to know of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head<'a> {
    /// Its bytes.
    pub(super) length: usize,
    /// Bytes of body that follow.
    pub(super) body_bytes: usize,
    /// `HEAD`: the answer has no body.
    pub(super) wants_no_body: bool,
    /// `Connection: close`, or HTTP/1.0.
    pub(super) says_close: bool,
    /// `Expect: 100-continue`.
    pub(super) expects_continue: bool,
    /// `x-request-id`; empty if there is none.
    pub(super) id: &'a str,
}

/// The bytes are not a request that a replica understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// The head at the start of `bytes`, once it is complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head<'_>>, Malformed> {
    // Not initialised: filling a hundred places for four headers would cost more than parsing them.
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers).map_err(|_| Malformed)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let mut head = Head {
        length,
        body_bytes: 0,
        wants_no_body: request.method == Some("HEAD"),
        says_close: request.version == Some(0),
        expects_continue: false,
        id: "",
    };
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let says = |value: &str| header.value.eq_ignore_ascii_case(value.as_bytes());
        if is("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| Malformed)?;
            head.body_bytes = text.trim().parse().map_err(|_| Malformed)?;
        } else if is("transfer-encoding") {
            return Err(Malformed);
        } else if is("connection") {
            head.says_close |= says("close");
        } else if is("expect") {
            head.expects_continue |= says("100-continue");
        } else if is("x-request-id") {
            head.id = std::str::from_utf8(header.value).unwrap_or_default();
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with only the facts named.
    fn head(body_bytes: usize, id: &str) -> Head<'_> {
        Head { length: 0, body_bytes, wants_no_body: false, says_close: false, expects_continue: false, id }
    }

    #[track_caller]
    fn check(text: &str, expected: Head<'_>) {
        let parsed = parse(text.as_bytes()).map(|head| head.map(|head| Head { length: 0, ..head }));
        assert_eq!(parsed, Ok(Some(expected)), "{text}");
    }

    #[test]
    fn heads_say_what_follows_them() {
        check("GET / HTTP/1.1\r\nhost: a\r\nX-Request-Id: c-r7\r\n\r\nrest", head(0, "c-r7"));
        check("POST / HTTP/1.1\r\ncontent-length: 12\r\n\r\n", head(12, ""));
        let gone = Head { wants_no_body: true, says_close: true, ..head(0, "") };
        check("HEAD / HTTP/1.1\r\nConnection: Close\r\n\r\n", gone);
        let old = Head { says_close: true, expects_continue: true, ..head(0, "") };
        check("PUT / HTTP/1.0\r\nexpect: 100-Continue\r\n\r\n", old);
    }

    #[test]
    fn what_is_no_request_is_refused_and_a_part_of_one_waited_for() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nhost: a\r\n"), Ok(None));
        assert_eq!(parse(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").map(|head| head.map(|head| head.length)), Ok(Some(27)));
        assert_eq!(parse(b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), Err(Malformed));
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), Err(Malformed));
    }
}
