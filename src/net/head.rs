//! The head of an HTTP/1.1 message as the simulated ends of a connection read it: clients and backends.
//!
//! By hand: they look for half a dozen headers in what the gateway wrote, whose own reading of what comes from outside is hyper's. To check
//! every byte of every value at these ends as well would be a twelfth of a run. Lines must be complete and have a name; what stands in a
//! value is left to who wants it.

use std::fmt;

use memchr::memchr;

/// The bytes are no head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an HTTP/1.1 message")
    }
}

impl std::error::Error for Malformed {}

/// The first line, and the number of bytes up to the body.
pub type Start<'a> = (&'a [u8], usize);

/// Reads the head at the start of `bytes`: none while it is not complete. `field` is told each header's name, as it is written, and its value
/// without the spaces around it; of a head that is not complete it is told what there is.
///
/// # Errors
///
/// [`Malformed`] if a line has no name, or a name no line of its own; what `field` finds wrong.
pub fn read_head<'a>(
    bytes: &'a [u8],
    mut field: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Malformed>,
) -> Result<Option<Start<'a>>, Malformed> {
    let Some((start, mut rest)) = line(bytes) else { return Ok(None) };
    while let Some((text, after)) = line(rest) {
        rest = after;
        if text.is_empty() {
            return Ok(Some((start, bytes.len() - rest.len())));
        }
        let colon = memchr(b':', text).ok_or(Malformed)?;
        let name = &text[..colon];
        if name.is_empty() || name[0].is_ascii_whitespace() || name[colon - 1].is_ascii_whitespace() {
            return Err(Malformed);
        }
        field(name, text[colon + 1..].trim_ascii())?;
    }
    Ok(None)
}

/// A number in decimal digits, as `content-length` has it.
///
/// # Errors
///
/// [`Malformed`] if it is none, or too large.
pub fn number(value: &[u8]) -> Result<usize, Malformed> {
    value
        .iter()
        .try_fold(0_usize, |number, byte| {
            let digit = usize::from(byte.wrapping_sub(b'0'));
            let grown = number.checked_mul(10).and_then(|tens| tens.checked_add(digit));
            grown.filter(|_| digit < 10).ok_or(Malformed)
        })
        .and_then(|number| if value.is_empty() { Err(Malformed) } else { Ok(number) })
}

/// The next line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    let text = &bytes[..end];
    Some((text.strip_suffix(b"\r").unwrap_or(text), &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(String, usize, Vec<String>)>, Malformed> {
        let mut fields = Vec::new();
        let start = read_head(text.as_bytes(), |name, value| {
            fields.push(String::from_utf8_lossy(&[name, b"=", value].concat()).into_owned());
            Ok(())
        })?;
        Ok(start.map(|(line, length)| (String::from_utf8_lossy(line).into_owned(), length, fields)))
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let text = "GET / HTTP/1.1\r\nHost: a:80\r\nx:\t\r\n\r\nbody";
        let fields = vec!["Host=a:80".to_owned(), "x=".to_owned()];
        assert_eq!(read(text), Ok(Some(("GET / HTTP/1.1".to_owned(), text.len() - 4, fields))));
        for cut in 0..text.len() - 4 {
            assert_eq!(read(&text[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_line_must_have_a_name() {
        for line in ["no colon", ": no name", " folded: 1", "spaced : 1"] {
            assert_eq!(read(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")), Err(Malformed), "{line}");
        }
    }
}
