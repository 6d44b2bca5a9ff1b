//! The path of a request as it is routed and forwarded.
//!
//! In this order: a fragment is refused; escaped slashes are dealt with; dot segments (`%2e` too) go, backslashes become slashes, escaped letters,
//! digits, `-`, `.`, `_` and `~` are decoded, what may not stand in a path is escaped, an escaped zero is refused; runs of slashes are merged.
//! The query is left alone, and so is the case of what stays escaped.
//!
//! Source: envoy source/common/http/{path_utility,conn_manager_utility}.cc, whose normalisation is that of Chromium (googleurl).

use std::borrow::Cow;

/// What is done with paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathPolicy {
    /// Dot segments, backslashes and needless escapes go.
    pub normalizes: bool,
    /// Runs of slashes become one.
    pub merges_slashes: bool,
    /// What is done with `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// What is done with a path that has `%2F` or `%5C` in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EscapedSlashes {
    /// They stay.
    Keep,
    /// The request is refused.
    Reject,
    /// They are decoded, and the client is told to ask for that path.
    UnescapeAndRedirect,
    /// They are decoded.
    UnescapeAndForward,
}

/// What becomes of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathVerdict<'a> {
    /// This one is routed.
    Continue(Cow<'a, str>),
    /// 400.
    Reject,
    /// 307 to this one.
    Redirect(String),
}

impl PathPolicy {
    /// As requests come.
    pub const NONE: Self = Self { normalizes: false, merges_slashes: false, escaped_slashes: EscapedSlashes::Keep };

    /// The path and query to go on with.
    #[must_use]
    pub fn apply<'a>(&self, target: &'a str) -> PathVerdict<'a> {
        if is_plain(target) {
            return PathVerdict::Continue(Cow::Borrowed(target));
        }
        if target.contains('#') {
            return PathVerdict::Reject;
        }
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let mut path = Cow::Borrowed(path);
        let mut redirects = false;
        if self.escaped_slashes != EscapedSlashes::Keep
            && let Some(unescaped) = unescape_slashes(&path)
        {
            match self.escaped_slashes {
                EscapedSlashes::Reject => return PathVerdict::Reject,
                EscapedSlashes::UnescapeAndRedirect => redirects = true,
                EscapedSlashes::Keep | EscapedSlashes::UnescapeAndForward => {}
            }
            path = Cow::Owned(unescaped);
        }
        if self.normalizes {
            match normalize(&path) {
                None => return PathVerdict::Reject,
                Some(normal) => path = Cow::Owned(normal),
            }
        }
        if self.merges_slashes {
            path = Cow::Owned(merge_slashes(&path));
        }
        match (redirects, path) {
            (true, path) => PathVerdict::Redirect([&path, query].concat()),
            (false, Cow::Borrowed(_)) => PathVerdict::Continue(Cow::Borrowed(target)),
            (false, Cow::Owned(path)) => PathVerdict::Continue(Cow::Owned([&path, query].concat())),
        }
    }
}

/// Whether no policy changes anything: one look at each byte, for nearly all requests.
fn is_plain(target: &str) -> bool {
    let bytes = target.as_bytes();
    let mut after_slash = false;
    for (index, byte) in bytes.iter().enumerate() {
        match KINDS[usize::from(*byte)] {
            Kind::Plain => after_slash = false,
            Kind::Slash if !after_slash => after_slash = true,
            Kind::Dot if !after_slash => {}
            Kind::Query => return bytes[0] == b'/' && !bytes[index..].contains(&b'#'),
            Kind::Slash | Kind::Dot | Kind::Other => return false,
        }
    }
    bytes.first() == Some(&b'/')
}

/// What a byte means for a look at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Slash,
    Dot,
    Query,
    Other,
}

static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'/' => Kind::Slash,
            b'.' => Kind::Dot,
            b'?' => Kind::Query,
            b'%' | b'\\' | b'#' => Kind::Other,
            byte if passes(byte) => Kind::Plain,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
};

/// Whether a byte may stand in a path as it is.
const fn passes(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'{' | b'}')
}

/// A path without dot segments and the like; none if it holds an escaped zero.
#[must_use]
pub fn normalize(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(bytes.len() + 1);
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let escaped = if *byte == b'%' { unescaped(&bytes[index..]) } else { None };
        match (byte, escaped) {
            (_, Some(0)) => return None,
            (_, Some(plain)) if plain.is_ascii_alphanumeric() || matches!(plain, b'-' | b'.' | b'_' | b'~') => {
                text.push(char::from(plain));
            }
            (_, Some(_)) => text.push_str(&path[index..index + 3]),
            (b'\\', None) => text.push('/'),
            (byte, None) if passes(*byte) => text.push(char::from(*byte)),
            (byte, None) => text.push_str(&format!("%{byte:02X}")),
        }
        index += if escaped.is_some() { 3 } else { 1 };
    }
    Some(without_dot_segments(&text))
}

fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// The byte that `%xx` at the start stands for.
fn unescaped(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.get(1..3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Runs of slashes become one; the query is left alone.
#[must_use]
pub fn merge_slashes(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut merged = String::with_capacity(target.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged + query
}

/// A path with its escaped slashes and backslashes decoded; none if there are none. The query is left alone.
#[must_use]
pub fn unescape_slashes(target: &str) -> Option<String> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut unescaped = String::with_capacity(target.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        unescaped.push_str(&rest[..at]);
        let (decoded, length) = match rest.as_bytes().get(at + 1..at + 3) {
            Some(b"2f" | b"2F") => ("/", 3),
            Some(b"5c" | b"5C") => ("\\", 3),
            _ => ("%", 1),
        };
        unescaped.push_str(decoded);
        rest = &rest[at + length..];
    }
    unescaped.push_str(rest);
    (unescaped.len() != path.len()).then(|| unescaped + query)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: PathPolicy =
        PathPolicy { normalizes: true, merges_slashes: true, escaped_slashes: EscapedSlashes::UnescapeAndForward };

    #[test]
    fn dot_segments_go() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/../", "/a/"),
            ("/../../a", "/a"),
            ("/a/...", "/a/..."),
            ("/a//../b", "/a/b"),
            ("/a/%2e/b", "/a/b"),
            ("/%41%7e%2F%zz%", "/A~%2F%zz%"),
            ("/{id} ü", "/%7Bid%7D%20%C3%BC"),
        ] {
            assert_eq!(normalize(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(normalize("/%00"), None);
    }

    #[test]
    fn a_plain_path_is_not_copied_and_the_query_is_left_alone() {
        for plain in ["/", "/a.b/c-d~e:f@g", "/a?q=//..%2F"] {
            assert_eq!(ALL.apply(plain), PathVerdict::Continue(Cow::Borrowed(plain)));
            assert!(is_plain(plain));
        }
        assert_eq!(ALL.apply("//a/../b?q=//"), PathVerdict::Continue("/b?q=//".into()));
        assert_eq!(PathPolicy::NONE.apply("//a/../b?q"), PathVerdict::Continue("//a/../b?q".into()));
        assert_eq!(ALL.apply("/a#b"), PathVerdict::Reject);
    }

    proptest! {
        /// What the short cut lets through no step would change.
        #[test]
        fn plain_paths_are_normal(target in r"/?[a./\\%2eE5F{?]{0,8}") {
            let (path, _) = target.split_at(target.find('?').unwrap_or(target.len()));
            if is_plain(&target) {
                prop_assert_eq!(normalize(path), Some(path.to_owned()));
                prop_assert_eq!(merge_slashes(path), path);
                prop_assert_eq!(unescape_slashes(path), None);
            }
        }
    }
}
