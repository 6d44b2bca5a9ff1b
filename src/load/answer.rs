//! Reading one HTTP/1.1 answer from bytes as they come.
//!
//! The body ends by length, by the last chunk, or by the end of the connection.

use crate::net::body::Body;
use crate::net::head::{Malformed, number, read_head};

/// Bytes of a head a client accepts. Envoy limits its own heads to 60 KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What matters of a complete answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The server says that it will close: `Connection: close`, HTTP/1.0, or a body that ends with the connection.
    pub says_close: bool,
    /// The answer carries `x-envoy-upstream-service-time`: it was made by a backend, not by the gateway itself.
    pub is_from_backend: bool,
}

/// Who is told of a `Set-Cookie`.
type Tell<'a> = dyn FnMut(&[u8]) + 'a;
/// A parsed head: the answer, and how its body ends.
type Head = (Answer, Body);

/// The state of one answer. Use a new one for each request; bytes after the answer stay in the buffer.
#[derive(Default, Debug)]
pub struct AnswerParser {
    head: Option<Head>,
}

impl AnswerParser {
    /// Whether the head is complete: what is missing from here on is body.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Takes what it understands out of `buffer`; the answer once it is complete.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes cannot become an answer.
    pub fn push(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Answer>, Malformed> {
        self.push_telling(buffer, None)
    }

    /// The same; each `Set-Cookie` of the answer is told once, when its head is complete.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes cannot become an answer.
    pub fn push_telling(
        &mut self,
        buffer: &mut Vec<u8>,
        cookie: Option<&mut Tell<'_>>,
    ) -> Result<Option<Answer>, Malformed> {
        if buffer.is_empty() {
            return Ok(None);
        }
        let mut used = 0;
        let answer = self.advance(buffer, &mut used, cookie);
        buffer.drain(..used);
        answer
    }

    /// The connection has ended: the answer if that was its end.
    #[must_use]
    pub fn end(&self) -> Option<Answer> {
        self.head.filter(|(_, body)| *body == Body::UntilEnd).map(|(answer, _)| answer)
    }

    fn advance(
        &mut self,
        buffer: &[u8],
        used: &mut usize,
        mut cookie: Option<&mut Tell<'_>>,
    ) -> Result<Option<Answer>, Malformed> {
        loop {
            let rest = &buffer[*used..];
            let Some((answer, body)) = &mut self.head else {
                let Some((head, length)) = parse_head(rest)? else { return Ok(None) };
                *used += length;
                // An informational answer (100 to 199) only precedes the real one.
                if head.0.status >= 200 {
                    self.head = Some(head);
                    if let Some(tell) = &mut cookie {
                        tell_cookies(&rest[..length], tell);
                    }
                }
                continue;
            };
            let (taken, is_complete) = body.take(rest)?;
            *used += taken;
            return Ok(is_complete.then_some(*answer));
        }
    }
}

/// The head of an answer and its length in bytes, once it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut answer = Answer { status: 0, says_close: false, is_from_backend: false };
    let mut body = None;
    let start = read_head(bytes, |name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name[0].to_ascii_lowercase() {
            b'c' if is("content-length") && body.is_none() => {
                let bytes = number(value)?;
                body = Some(Body::Length(u64::try_from(bytes).map_err(|_| Malformed)?));
            }
            b't' if is("transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => body = Some(Body::ChunkSize),
            b'c' if is("connection") && value.eq_ignore_ascii_case(b"close") => answer.says_close = true,
            b'x' if is("x-envoy-upstream-service-time") => answer.is_from_backend = true,
            _ => {}
        }
        Ok(())
    })?;
    let Some((line, length)) = start else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let status = status(line).ok_or(Malformed)?;
    answer.status = status;
    answer.says_close |= line.starts_with(b"HTTP/1.0");
    let has_no_body = status < 200 || status == 204 || status == 304;
    let body = if has_no_body { Body::Length(0) } else { body.unwrap_or(Body::UntilEnd) };
    answer.says_close |= body == Body::UntilEnd;
    Ok(Some(((answer, body), length)))
}

/// Tells each `Set-Cookie` of a head that has been read: nobody else needs them.
fn tell_cookies(head: &[u8], tell: &mut Tell<'_>) {
    let read = read_head(head, |name, value| {
        if name.eq_ignore_ascii_case(b"set-cookie") {
            tell(value);
        }
        Ok(())
    });
    debug_assert!(matches!(read, Ok(Some(_))), "the head has been read");
}

/// The code of a status line.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, reason) = rest.split_at_checked(3)?;
    let is_code = code.iter().all(u8::is_ascii_digit) && code[0] != b'0' && matches!(reason.first(), None | Some(b' '));
    let digit = |index: usize| u16::from(code[index] - b'0');
    is_code.then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of every size; the answer and what is left must not depend on the cut.
    #[track_caller]
    fn check(text: &str, expected: Option<(u16, bool, bool)>, left: &str) {
        for size in 1..=text.len() {
            let mut parser = AnswerParser::default();
            let (mut buffer, mut answer) = (Vec::new(), None);
            for piece in text.as_bytes().chunks(size) {
                buffer.extend_from_slice(piece);
                if answer.is_none() {
                    answer = parser.push(&mut buffer).unwrap();
                }
            }
            let got = answer.map(|answer| (answer.status, answer.says_close, answer.is_from_backend));
            assert_eq!(got, expected, "in pieces of {size}");
            assert_eq!(String::from_utf8(buffer).unwrap(), left, "left in pieces of {size}");
        }
    }

    #[test]
    fn answers_end_where_they_say() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP", Some((200, false, false)), "HTTP");
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, false, false)), "");
        check(
            "HTTP/1.1 503 no\r\nConnection: close\r\nx-envoy-upstream-service-time: 4\r\ncontent-length: 0\r\n\r\n",
            Some((503, true, true)),
            "",
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\nrest",
            Some((200, false, false)),
            "rest",
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some((200, false, false)),
            "",
        );
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", None, "");
    }

    #[test]
    fn cookies_are_told_once_and_only_of_the_answer_itself() {
        let text = "HTTP/1.1 103 Early Hints\r\nset-cookie: early=1\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\n\
                    content-length: 2\r\nset-cookie: b=2\r\n\r\nok";
        for size in [1, 7, text.len()] {
            let (mut parser, mut buffer, mut told) = (AnswerParser::default(), Vec::new(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                buffer.extend_from_slice(piece);
                let mut tell = |value: &[u8]| told.push(String::from_utf8_lossy(value).into_owned());
                parser.push_telling(&mut buffer, Some(&mut tell)).unwrap();
            }
            assert_eq!(told, ["a=1; Path=/", "b=2"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let mut parser = AnswerParser::default();
        assert_eq!(parser.end(), None);
        let mut buffer = b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec();
        assert_eq!(parser.push(&mut buffer), Ok(None));
        assert!(parser.has_head());
        assert_eq!(parser.end().map(|answer| (answer.status, answer.says_close)), Some((200, true)));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert_eq!(AnswerParser::default().push(&mut b"SSH-2.0-x\r\n\r\n".to_vec()), Err(Malformed));
        let mut endless = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        endless.resize(HEAD_BYTES_MAX + 1, b'a');
        assert_eq!(AnswerParser::default().push(&mut endless), Err(Malformed));
    }
}
