//! Where the body of an HTTP/1.1 message ends, as its bytes come in: by length, by the last chunk, or with the connection.

use super::head::Malformed;

/// What is still to come of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunked; the next thing is a size line.
    ChunkSize,
    /// Chunked; this many bytes of the chunk and its line end.
    Chunk(u64),
    /// Chunked; after the last chunk, up to an empty line.
    Trailers,
    /// All until the connection ends.
    UntilEnd,
}

impl Body {
    /// Takes what belongs to the body from the start of `bytes`: how many bytes that is, and whether the body is complete with them. What is not taken of a
    /// body that is not complete has to be shown again with what follows.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes cannot become a chunk.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            match *self {
                Self::Length(missing) | Self::Chunk(missing) => {
                    let taken = missing.min(available);
                    used += usize::try_from(taken).unwrap_or(rest.len());
                    let is_chunk = matches!(self, Self::Chunk(_));
                    if taken < missing {
                        *self = if is_chunk { Self::Chunk(missing - taken) } else { Self::Length(missing - taken) };
                        return Ok((used, false));
                    }
                    if !is_chunk {
                        return Ok((used, true));
                    }
                    *self = Self::ChunkSize;
                }
                Self::ChunkSize => match httparse::parse_chunk_size(rest).map_err(|_| Malformed)? {
                    httparse::Status::Partial => return Ok((used, false)),
                    httparse::Status::Complete((length, size)) => {
                        used += length;
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(size.saturating_add(2)) };
                    }
                },
                Self::Trailers => {
                    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok((used, false)) };
                    used += end + 2;
                    if end == 0 {
                        return Ok((used, true));
                    }
                }
                Self::UntilEnd => return Ok((bytes.len(), false)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of every size; how many bytes are the body's, none if it does not end, must not depend on the cut.
    #[track_caller]
    fn check(body: Body, text: &str, expected: Option<usize>) {
        for size in 1..=text.len() {
            let (mut body, mut shown, mut used, mut is_complete) = (body, 0, 0, false);
            while !is_complete && shown < text.len() {
                shown = (shown + size).min(text.len());
                let taken;
                (taken, is_complete) = body.take(&text.as_bytes()[used..shown]).expect("it is well-formed");
                used += taken;
            }
            assert_eq!(is_complete.then_some(used), expected, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        check(Body::Length(3), "abcd", Some(3));
        check(Body::Length(5), "abcd", None);
        check(Body::UntilEnd, "abcd", None);
        check(Body::ChunkSize, "3\r\nabc\r\n0\r\n\r\nrest", Some(13));
        check(Body::ChunkSize, "3\r\nabc\r\n0\r\nx-t: 1\r\n\r\nrest", Some(21));
        check(Body::ChunkSize, "3\r\nabc\r\n", None);
        assert_eq!(Body::ChunkSize.take(b"zz\r\n"), Err(Malformed));
        assert_eq!(Body::Length(0).take(b""), Ok((0, true)));
    }
}
