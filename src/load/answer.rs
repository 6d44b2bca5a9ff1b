//! Reading one HTTP/1.1 answer from bytes as they come.
//!
//! The head is parsed by `httparse`; the body ends by length, by the last chunk, or by the end of the connection.

use std::fmt;
use std::mem::MaybeUninit;

/// Header lines a client accepts.
const HEADERS_MAX: usize = 64;
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

/// The bytes are not an HTTP/1.1 answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an HTTP/1.1 answer")
    }
}

impl std::error::Error for Malformed {}

/// A parsed head: the answer, and how its body ends.
type Head = (Answer, Body);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunked; the next thing is a size line.
    ChunkSize,
    /// Chunked; this many bytes of the chunk and its line end are still to come.
    Chunk(u64),
    /// Chunked; after the last chunk, up to an empty line.
    Trailers,
    /// Until the connection ends.
    UntilEnd,
}

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
        if buffer.is_empty() {
            return Ok(None);
        }
        let mut used = 0;
        let answer = self.advance(buffer, &mut used);
        buffer.drain(..used);
        answer
    }

    /// The connection has ended: the answer if that was its end.
    #[must_use]
    pub fn end(&self) -> Option<Answer> {
        self.head.filter(|(_, body)| *body == Body::UntilEnd).map(|(answer, _)| answer)
    }

    fn advance(&mut self, buffer: &[u8], used: &mut usize) -> Result<Option<Answer>, Malformed> {
        loop {
            let rest = &buffer[*used..];
            let Some((answer, body)) = &mut self.head else {
                let Some((head, length)) = parse_head(rest)? else { return Ok(None) };
                *used += length;
                // An informational answer (100 to 199) only precedes the real one.
                if head.0.status >= 200 {
                    self.head = Some(head);
                }
                continue;
            };
            let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            match *body {
                Body::Length(missing) | Body::Chunk(missing) => {
                    let taken = missing.min(available);
                    *used += usize::try_from(taken).expect("no more is taken than is in the buffer");
                    if taken < missing {
                        *body = if matches!(body, Body::Length(_)) {
                            Body::Length(missing - taken)
                        } else {
                            Body::Chunk(missing - taken)
                        };
                        return Ok(None);
                    }
                    if matches!(body, Body::Length(_)) {
                        return Ok(Some(*answer));
                    }
                    *body = Body::ChunkSize;
                }
                Body::ChunkSize => match httparse::parse_chunk_size(rest).map_err(|_| Malformed)? {
                    httparse::Status::Partial => return Ok(None),
                    httparse::Status::Complete((length, size)) => {
                        *used += length;
                        *body = if size == 0 { Body::Trailers } else { Body::Chunk(size.saturating_add(2)) };
                    }
                },
                Body::Trailers => {
                    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
                    *used += end + 2;
                    if end == 0 {
                        return Ok(Some(*answer));
                    }
                }
                Body::UntilEnd => {
                    *used = buffer.len();
                    return Ok(None);
                }
            }
        }
    }
}

/// The head of an answer and its length in bytes, once it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    // Not initialised: filling all places for a handful of headers would cost more than parsing them.
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed.map_err(|_| Malformed)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => return Err(Malformed),
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.ok_or(Malformed)?;
    let mut answer = Answer { status, says_close: response.version == Some(0), is_from_backend: false };
    let mut body = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && body.is_none() {
            let text = std::str::from_utf8(header.value).map_err(|_| Malformed)?;
            body = Some(Body::Length(text.trim().parse().map_err(|_| Malformed)?));
        } else if is("transfer-encoding") && header.value.eq_ignore_ascii_case(b"chunked") {
            body = Some(Body::ChunkSize);
        } else if is("connection") && header.value.eq_ignore_ascii_case(b"close") {
            answer.says_close = true;
        } else if is("x-envoy-upstream-service-time") {
            answer.is_from_backend = true;
        }
    }
    let has_no_body = status < 200 || status == 204 || status == 304;
    let body = if has_no_body { Body::Length(0) } else { body.unwrap_or(Body::UntilEnd) };
    answer.says_close |= body == Body::UntilEnd;
    Ok(Some(((answer, body), length)))
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
