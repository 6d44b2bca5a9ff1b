//! The head of a request, read from bytes.

use crate::net::head::{Malformed, number, read_head};

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
    pub(super) id: &'a [u8],
}

/// The head at the start of `bytes`, once it is complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head<'_>>, Malformed> {
    let mut head =
        Head { length: 0, body_bytes: 0, wants_no_body: false, says_close: false, expects_continue: false, id: b"" };
    let start = read_head(bytes, |name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let says = |wanted: &str| value.eq_ignore_ascii_case(wanted.as_bytes());
        match name[0].to_ascii_lowercase() {
            b'c' if is("content-length") => head.body_bytes = number(value)?,
            b'c' if is("connection") => head.says_close |= says("close"),
            b'e' if is("expect") => head.expects_continue |= says("100-continue"),
            b't' if is("transfer-encoding") => return Err(Malformed),
            b'x' if is("x-request-id") => head.id = value,
            _ => {}
        }
        Ok(())
    })?;
    let Some((line, length)) = start else { return Ok(None) };
    head.length = length;
    head.wants_no_body = line.starts_with(b"HEAD ");
    match line.strip_suffix(b"1").or_else(|| line.strip_suffix(b"0")) {
        Some(version) if version.ends_with(b" HTTP/1.") => head.says_close |= line.ends_with(b"0"),
        _ => return Err(Malformed),
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with only the facts named.
    fn head(body_bytes: usize, id: &str) -> Head<'_> {
        Head {
            length: 0,
            body_bytes,
            wants_no_body: false,
            says_close: false,
            expects_continue: false,
            id: id.as_bytes(),
        }
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
