//! The parts of `Cookie` and `Set-Cookie`, as clients and proxies read them.
//!
//! Source: RFC 6265, sections 4.2 and 5.2: parts end at a semicolon, a name at its first equals sign, and spaces around both do not belong to them.

/// A part: its name, and its value if it has an equals sign.
pub type Part<'a> = (&'a [u8], Option<&'a [u8]>);

/// The parts of a value in their order. Of `Cookie` each is a cookie, of `Set-Cookie` the first is, and the others say how it is kept.
pub fn parts(value: &[u8]) -> impl Iterator<Item = Part<'_>> {
    value.split(|byte| *byte == b';').map(|part| match memchr::memchr(b'=', part) {
        Some(equals) => (part[..equals].trim_ascii(), Some(part[equals + 1..].trim_ascii())),
        None => (part.trim_ascii(), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_at_semicolons_and_names_at_the_first_equals_sign() {
        let texts = |value: &str| -> Vec<(String, Option<String>)> {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            parts(value.as_bytes()).map(|(name, value)| (text(name), value.map(text))).collect()
        };
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        for (value, expected) in [
            ("a=1", vec![pair("a", Some("1"))]),
            (
                " a = \"1=2\" ;b=; HttpOnly",
                vec![pair("a", Some("\"1=2\"")), pair("b", Some("")), pair("HttpOnly", None)],
            ),
            ("", vec![pair("", None)]),
            ("=1;", vec![pair("", Some("1")), pair("", None)]),
        ] {
            assert_eq!(texts(value), expected, "{value}");
        }
    }
}
