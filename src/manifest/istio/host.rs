//! Host names in routing objects: full names, `*`, and names that begin with a wildcard.
//!
//! A wildcard stands for at least one character and may span labels: `*.foo.com` covers `a.b.foo.com`, and not `foo.com`.
//! Names are compared letter by letter; they are made lower case only where the table of virtual hosts is built.
//! Source: istio pkg/config/host/{name,names}.go.

use std::cmp::{Ordering, Reverse};

/// Whether some host has both names.
#[must_use]
pub fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
    }
}

/// Whether every host of `narrow` is one of `wide`.
#[must_use]
pub fn is_subset(narrow: &str, wide: &str) -> bool {
    match (narrow.strip_prefix('*'), wide.strip_prefix('*')) {
        (inner, Some(suffix)) => inner.unwrap_or(narrow).ends_with(suffix),
        (None, None) => narrow == wide,
        (Some(_), None) => false,
    }
}

/// Of each pair of names of which one covers the other, the narrower; each once, in the order of `a` and within it of `b`.
#[must_use]
pub fn intersection<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    let mut common: Vec<&str> = Vec::new();
    for one in a {
        for other in b {
            let narrower = if is_subset(one, other) {
                one
            } else if is_subset(other, one) {
                other
            } else {
                continue;
            };
            if !common.contains(narrower) {
                common.push(narrower);
            }
        }
    }
    common
}

/// Of the hosts of a Gateway's server, `namespace/name` or `name`, the names that objects of a namespace may use.
#[must_use]
pub fn names_for<'a>(hosts: &[&'a str], namespace: &str) -> Vec<&'a str> {
    let name = |host: &&'a str| match host.split_once('/') {
        None => Some(*host),
        Some((within, name)) => (within == "*" || within == namespace).then_some(name),
    };
    hosts.iter().filter_map(name).collect()
}

/// The most specific first: names without a wildcard before those with one, then the longer, then by letters.
#[must_use]
pub fn by_specificity(a: &str, b: &str) -> Ordering {
    let rank = |name: &str| (name.starts_with('*'), Reverse(name.len()));
    rank(a).cmp(&rank(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_name_of_each_pair_is_kept_once() {
        let common = intersection(&["*.foo.com", "a.foo.com", "b.org"], &["a.foo.com", "*.com"]);
        assert_eq!(common, ["a.foo.com", "*.foo.com"]);
    }

    #[test]
    fn a_wildcard_covers_no_shorter_name() {
        for (narrow, wide, expected) in [
            ("*.foo.com", "*.com", true),
            ("*.com", "*.foo.com", false),
            ("foo.com", "*.foo.com", false),
            ("*", "*", true),
        ] {
            assert_eq!(is_subset(narrow, wide), expected, "{narrow} {wide}");
        }
    }
}
