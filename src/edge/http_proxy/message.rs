//! Heads of HTTP/1.1 as a proxy reads them, and as it passes them on.
//!
//! Headers about one connection (`Connection`, `Keep-Alive`, `Proxy-Connection`) are not passed on: each connection has its own. All others stay as they are and
//! where they are, but for a cookie that keeps a session. Source: RFC 9110, section 7.6.1.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Forwarded;
use super::sticky::{Mark, is_cookie};
use crate::net::body::Body;
use crate::net::head::{Malformed, number, read_head};

/// Bytes of a head that a proxy takes. Source: nginx `large_client_header_buffers`, four of 8 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What a proxy needs to know of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    /// Its bytes.
    pub length: usize,
    /// The body that follows.
    pub body: Body,
    /// The client will send no more on this connection.
    pub says_close: bool,
    /// `HEAD`: the answer has no body.
    pub wants_no_body: bool,
    /// `x-request-id`; empty if there is none.
    pub id: Box<str>,
}

/// What a proxy needs to know of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerHead {
    /// Its bytes.
    pub length: usize,
    /// The status code.
    pub status: u16,
    /// The body that follows.
    pub body: Body,
    /// The target closes the connection after it.
    pub says_close: bool,
}

/// The head of a request at the start of `bytes`, once it is complete.
///
/// # Errors
///
/// [`Malformed`] if the bytes cannot become one.
pub fn read_request(bytes: &[u8]) -> Result<Option<RequestHead>, Malformed> {
    let (mut body, mut says_close, mut id) = (Body::Length(0), false, &b""[..]);
    let start = read_head(bytes, |name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name[0].to_ascii_lowercase() {
            b'c' if is("content-length") && body != Body::ChunkSize => body = length(value)?,
            b't' if is("transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => body = Body::ChunkSize,
            b'c' if is("connection") => says_close |= value.eq_ignore_ascii_case(b"close"),
            b'x' if is("x-request-id") => id = value,
            _ => {}
        }
        Ok(())
    })?;
    let Some((line, length)) = start else { return incomplete(bytes) };
    if !line.ends_with(b" HTTP/1.1") && !line.ends_with(b" HTTP/1.0") {
        return Err(Malformed);
    }
    Ok(Some(RequestHead {
        length,
        body,
        says_close: says_close || line.ends_with(b"0"),
        wants_no_body: line.starts_with(b"HEAD "),
        id: str::from_utf8(id).unwrap_or_default().into(),
    }))
}

/// The head of an answer at the start of `bytes`, once it is complete.
///
/// # Errors
///
/// [`Malformed`] if the bytes cannot become one.
pub fn read_answer(bytes: &[u8], has_no_body: bool) -> Result<Option<AnswerHead>, Malformed> {
    let (mut body, mut says_close) = (None, false);
    let start = read_head(bytes, |name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name[0].to_ascii_lowercase() {
            b'c' if is("content-length") && body.is_none() => body = Some(length(value)?),
            b't' if is("transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => body = Some(Body::ChunkSize),
            b'c' if is("connection") => says_close |= value.eq_ignore_ascii_case(b"close"),
            _ => {}
        }
        Ok(())
    })?;
    let Some((line, length)) = start else { return incomplete(bytes) };
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 ")).ok_or(Malformed)?;
    let status = rest.get(..3).ok_or(Malformed).and_then(number)?;
    let status = u16::try_from(status).ok().filter(|status| *status >= 100).ok_or(Malformed)?;
    let is_bare = has_no_body || status < 200 || status == 204 || status == 304;
    let body = if is_bare { Body::Length(0) } else { body.unwrap_or(Body::UntilEnd) };
    let says_close = says_close || line.starts_with(b"HTTP/1.0") || body == Body::UntilEnd;
    Ok(Some(AnswerHead { length, status, body, says_close }))
}

fn length(value: &[u8]) -> Result<Body, Malformed> {
    number(value).and_then(|bytes| u64::try_from(bytes).map(Body::Length).map_err(|_| Malformed))
}

fn incomplete<T>(bytes: &[u8]) -> Result<Option<T>, Malformed> {
    if bytes.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) }
}

/// The head of a request as its target gets it. `client` is the client's end, `port` the listener's.
#[must_use]
pub fn onward(head: &[u8], client: SocketAddrV4, port: u16, forwarded: Forwarded, closes: bool) -> Vec<u8> {
    let mut known = None;
    let mut out = passed(head, |_, name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("x-forwarded-for") {
            known = Some(value);
        }
        is("x-forwarded-for")
            || (forwarded.proto.is_some() && is("x-forwarded-proto"))
            || (forwarded.port && is("x-forwarded-port"))
    });
    let address: Ipv4Addr = *client.ip();
    out.extend_from_slice(b"X-Forwarded-For: ");
    if let Some(known) = known {
        out.extend_from_slice(known);
        out.extend_from_slice(b", ");
    }
    let mut lines = format!("{address}\r\n");
    if let Some(proto) = forwarded.proto {
        lines.push_str(&format!("X-Forwarded-Proto: {proto}\r\n"));
    }
    if forwarded.port {
        lines.push_str(&format!("X-Forwarded-Port: {port}\r\n"));
    }
    if forwarded.client_port {
        lines.push_str(&format!("X-Forwarded-Client-srcport: {}\r\n", client.port()));
    }
    lines.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
    out.extend_from_slice(lines.as_bytes());
    out
}

/// The head of an answer as its client gets it, with what it says of the session.
#[must_use]
pub fn back(head: &[u8], closes: bool, mark: Option<&Mark<'_>>) -> Vec<u8> {
    let mut cookie = match mark {
        Some(Mark::Value(name, new)) => Some((*name, new)),
        _ => None,
    };
    let mut out = passed(head, |out, name, value| {
        let is_it = |wanted: &str| name.eq_ignore_ascii_case(b"set-cookie") && is_cookie(value, wanted);
        let Some((of, new)) = cookie.take_if(|(wanted, _)| is_it(wanted)) else { return false };
        let behind = memchr::memchr(b';', value).map_or(&b""[..], |end| &value[end..]);
        for part in [name, b": ", of.as_bytes(), b"=", new.as_bytes(), behind, b"\r\n"] {
            out.extend_from_slice(part);
        }
        true
    });
    if let Some(Mark::Line(line)) = mark {
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
    out
}

/// The answer that the same is to be asked over TLS at `port`; without a host it is a bad request.
#[must_use]
pub fn redirect(head: &[u8], port: u16, closes: bool) -> Vec<u8> {
    let mut host = &b""[..];
    let start = read_head(head, |name, value| {
        if name.eq_ignore_ascii_case(b"host") {
            host = value;
        }
        Ok(())
    });
    let line = start.ok().flatten().map_or(&b""[..], |(line, _)| line);
    let target = str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
    let host = str::from_utf8(host).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if name.is_empty() {
        return own(400, closes);
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let close = if closes { "Connection: close\r\n" } else { "" };
    let location = format!("https://{name}{port}{target}");
    format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n{close}\r\n").into_bytes()
}

/// An answer of the balancer's own.
#[must_use]
pub fn own(status: u16, closes: bool) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        _ => "Gateway Time-out",
    };
    let close = if closes { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\n{close}\r\n").into_bytes()
}

/// A head without its end and without what is not passed on: headers of the connection, and those that `heeds` drops, or writes otherwise.
fn passed<'a>(head: &'a [u8], mut heeds: impl FnMut(&mut Vec<u8>, &'a [u8], &'a [u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 128);
    let line_end = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    out.extend_from_slice(&head[..line_end]);
    let of_connection = ["connection", "keep-alive", "proxy-connection"];
    let read = read_head(head, |name, value| {
        let is_of_connection = of_connection.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if !is_of_connection && !heeds(&mut out, name, value) {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        Ok(())
    });
    debug_assert!(matches!(read, Ok(Some(_))), "what is passed on has been read");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 40_000);

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("heads are text")
    }

    #[test]
    fn requests_say_what_follows_them() {
        for (line, headers, body, says_close, wants_no_body) in [
            ("GET / HTTP/1.1", "host: a\r\n", Body::Length(0), false, false),
            ("POST / HTTP/1.1", "Content-Length: 12\r\n", Body::Length(12), false, false),
            ("POST / HTTP/1.1", "transfer-encoding: chunked\r\ncontent-length: 3\r\n", Body::ChunkSize, false, false),
            ("HEAD / HTTP/1.1", "Connection: Close\r\n", Body::Length(0), true, true),
            ("GET / HTTP/1.0", "", Body::Length(0), true, false),
        ] {
            let head = format!("{line}\r\n{headers}x-request-id: a-r7\r\n\r\n");
            let expected = RequestHead { length: head.len(), body, says_close, wants_no_body, id: "a-r7".into() };
            assert_eq!(read_request(format!("{head}rest").as_bytes()), Ok(Some(expected)), "{head}");
            assert_eq!(read_request(&head.as_bytes()[..head.len() - 1]), Ok(None), "{head}");
        }
        assert_eq!(read_request(b"SSH-2.0-x\r\n\r\n"), Err(Malformed));
        assert_eq!(read_request(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"), Err(Malformed));
        assert_eq!(read_request(&[b'a'; HEAD_BYTES_MAX + 1]), Err(Malformed));
    }

    #[test]
    fn answers_say_what_follows_them() {
        for (line, headers, to_head, expected) in [
            ("HTTP/1.1 200 OK", "content-length: 3\r\n", false, (200, Body::Length(3), false)),
            ("HTTP/1.1 200 OK", "content-length: 3\r\n", true, (200, Body::Length(0), false)),
            ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", false, (200, Body::ChunkSize, false)),
            ("HTTP/1.1 204", "", false, (204, Body::Length(0), false)),
            ("HTTP/1.1 503 no", "connection: close\r\ncontent-length: 0\r\n", false, (503, Body::Length(0), true)),
            ("HTTP/1.0 200 OK", "content-length: 1\r\n", false, (200, Body::Length(1), true)),
            ("HTTP/1.1 200 OK", "", false, (200, Body::UntilEnd, true)),
        ] {
            let head = format!("{line}\r\n{headers}\r\n");
            let read = read_answer(head.as_bytes(), to_head).expect("it is an answer").expect("it is complete");
            assert_eq!((read.status, read.body, read.says_close), expected, "{head}");
            assert_eq!(read.length, head.len(), "{head}");
        }
        for text in
            ["HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 099 a\r\n\r\n"]
        {
            assert_eq!(read_answer(text.as_bytes(), false), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn headers_of_a_connection_are_not_passed_on() {
        let head = b"GET /a HTTP/1.1\r\nHost: b\r\nconnection: close\r\nKeep-Alive: 3\r\nx-a: 1\r\n\r\n";
        let plain = onward(head, CLIENT, 80, Forwarded::default(), true);
        assert_eq!(
            text(plain),
            "GET /a HTTP/1.1\r\nHost: b\r\nx-a: 1\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"
        );
        let forwarded = Forwarded { proto: Some("https"), port: true, client_port: true };
        let behind = b"GET / HTTP/1.1\r\nx-forwarded-for: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n";
        assert_eq!(
            text(onward(behind, CLIENT, 443, forwarded, false)),
            "GET / HTTP/1.1\r\nX-Forwarded-For: 10.0.0.1, 198.51.100.1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Port: 443\r\nX-Forwarded-Client-srcport: 40000\r\n\r\n"
        );
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: close\r\n\r\n";
        assert_eq!(text(back(answer, false, None)), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(text(back(answer, true, None)), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn an_answer_says_where_its_session_stays() {
        let answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: App = x; Max-Age=5\r\nset-cookie: app=y\r\nx-a: 1\r\n\r\n";
        let marked = |mark: &Mark<'_>| text(back(answer, false, Some(mark)));
        let (start, end) = ("HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\n", "set-cookie: app=y\r\nx-a: 1\r\n");
        assert_eq!(
            marked(&Mark::Line("Set-Cookie: S=1;Path=/\r\n".to_owned())),
            format!("{start}set-cookie: App = x; Max-Age=5\r\n{end}Set-Cookie: S=1;Path=/\r\n\r\n")
        );
        assert_eq!(
            marked(&Mark::Value("app", "7f".to_owned())),
            format!("{start}set-cookie: app=7f; Max-Age=5\r\n{end}\r\n")
        );
    }

    #[test]
    fn a_redirect_names_the_same_over_tls() {
        for (start, port, location) in [
            ("GET /a?b=c HTTP/1.1\r\nhost: shop.example.com\r\n", 443, Some("https://shop.example.com/a?b=c")),
            ("POST / HTTP/1.1\r\nHost: shop.example.com:80\r\n", 8443, Some("https://shop.example.com:8443/")),
            ("GET / HTTP/1.1\r\nx: y\r\n", 443, None),
        ] {
            for closes in [false, true] {
                let answer = redirect(format!("{start}\r\n").as_bytes(), port, closes);
                let read = read_answer(&answer, false).expect("it is an answer").expect("it is complete");
                let status = if location.is_some() { 302 } else { 400 };
                assert_eq!((read.status, read.body, read.says_close), (status, Body::Length(0), closes), "{start}");
                let line = location.map(|location| format!("\r\nLocation: {location}\r\n"));
                assert!(line.is_none_or(|line| text(answer).contains(&line)), "{start}");
            }
        }
    }

    #[test]
    fn own_answers_are_complete() {
        for status in [400, 502, 503, 504] {
            let read = read_answer(&own(status, true), false).expect("it is an answer").expect("it is complete");
            assert_eq!((read.status, read.body, read.says_close), (status, Body::Length(0), true));
            assert!(!read_answer(&own(status, false), false).expect("it is one").expect("it is complete").says_close);
        }
    }
}
