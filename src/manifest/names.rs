//! Names and addresses as the API server takes them: what is wrong with one, in its words.
//!
//! Source: Kubernetes v1.33 staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go (`IsDNS1123Label`, `IsDNS1035Label`, `IsValidPortName`,
//! `IsQualifiedName`, `IsEnvVarName`, `IsRelaxedEnvVarName`, `IsValidIP`, `IsValidCIDR`), pkg/api/validation/path/name.go (`IsValidPathSegmentName`),
//! pkg/apis/core/validation/validation.go (`ValidateNonSpecialIP`).

use std::net::{IpAddr, Ipv4Addr};

const LABEL_MAX: usize = 63;
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                     alphanumeric character";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
                          with an alphanumeric character";
const VARIABLE: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with \
                        a digit";
const RELAXED_VARIABLE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What is wrong with a part of a domain's name.
pub(super) fn wrong_label(text: &str) -> Option<&'static str> {
    match (text.len() > LABEL_MAX, is_label(text)) {
        (true, _) => Some("must be no more than 63 characters"),
        (false, false) => Some(LABEL),
        (false, true) => None,
    }
}

/// What is wrong with such a part that may not begin with a digit.
pub(super) fn wrong_label_1035(text: &str) -> Option<&'static str> {
    match text.len() > LABEL_MAX {
        true => Some("must be no more than 63 characters"),
        false if !is_label(text) || text.starts_with(|letter: char| letter.is_ascii_digit()) => Some(LABEL_1035),
        false => None,
    }
}

/// What is wrong with the name of a container's port.
pub(super) fn wrong_port(text: &str) -> Option<&'static str> {
    let has_letter = || text.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() > 15 {
        Some("must be no more than 15 characters")
    } else if text.is_empty() || !text.bytes().all(is_inner) {
        Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    } else if !has_letter() {
        Some("must contain at least one letter (a-z)")
    } else if text.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

/// A name of at most 63 letters, digits, `-`, `_` and `.`, letters or digits at both ends; before it perhaps a DNS name and a slash.
pub(super) fn is_qualified(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_name = |text: &str| {
        let is_end = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= LABEL_MAX
            && is_end(text.bytes().next())
            && is_end(text.bytes().last())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    is_name(name) && prefix.is_none_or(is_subdomain)
}

/// Whether it is a domain's name.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What is wrong with the name of a variable of the environment, in a cluster that takes all that can be printed or not.
pub(super) fn wrong_variable(text: &str, is_relaxed: bool) -> Option<&'static str> {
    if is_relaxed {
        let is_inner = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
        return (!text.bytes().all(is_inner)).then_some(RELAXED_VARIABLE);
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match text {
        _ if !text.bytes().all(is_inner) || text.starts_with(|letter: char| letter.is_ascii_digit()) => Some(VARIABLE),
        "." => Some("must not be '.'"),
        ".." => Some("must not be '..'"),
        _ if text.starts_with("..") => Some("must not start with '..'"),
        _ => None,
    }
}

/// What is wrong with a name that becomes a part of a path.
pub(super) fn wrong_segment(text: &str) -> Option<&'static str> {
    match text {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if text.contains('/') => Some("may not contain '/'"),
        _ if text.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// An address. Zeros may stand before the numbers of an IPv4 address, as they may for the API server.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let part = |part: &str| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { part.parse::<u8>().ok() } else { None }
    };
    let parts: Option<Vec<u8>> = text.split('.').map(part).collect();
    let parts: [u8; 4] = parts?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(parts)))
}

/// What is wrong with an address that nodes take traffic for.
pub(super) fn wrong_external(text: &str) -> Option<&'static str> {
    let Some(address) = address(text) else {
        return Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    };
    let (is_link_local, is_link_multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if address.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if is_link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if is_link_multicast {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

/// Whether it is a range of addresses, such as `10.0.0.0/8`.
pub(super) fn is_range(text: &str) -> bool {
    let Some((start, bits)) = text.split_once('/') else { return false };
    let most = match address(start) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && bits.parse::<u16>().is_ok_and(|bits| bits <= most)
}

/// Whether the kubelet refuses to look for an image of this name. Source: distribution/reference regexp.go; pkg/util/parsers.
pub(super) fn is_bad_image(name: &str) -> bool {
    let repository = name.split('@').next().unwrap_or_default();
    let (domain, path) = match repository.split_once('/') {
        Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => (Some(domain), path),
        _ => (None, repository),
    };
    let (path, tag) = path.rsplit_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    let is_part = |part: &str| {
        let is_end = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        is_end(part.bytes().next()) && is_end(part.bytes().last()) && part.bytes().all(is_inner)
    };
    let is_tag = |tag: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.bytes().all(is_inner)
    };
    name.contains(char::is_whitespace)
        || domain.is_some_and(str::is_empty)
        || !path.split('/').all(is_part)
        || !tag.is_none_or(is_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_their_bounds() {
        let (most, more) = ("a".repeat(63), "a".repeat(64));
        for text in ["a", "edge-1", "1edge", "9", most.as_str()] {
            assert_eq!(wrong_label(text), None, "{text}");
        }
        for text in ["", "Edge", "a_b", "a.b", "-a", "a-", "a b", more.as_str()] {
            assert!(wrong_label(text).is_some(), "{text}");
            assert!(wrong_label_1035(text).is_some(), "{text}");
        }
        assert_eq!(wrong_label_1035(&most), None);
        assert_eq!(wrong_label_1035("1edge"), Some(LABEL_1035));
        assert_eq!(wrong_label_1035("e1"), None);
    }

    #[test]
    fn names_of_ports_have_their_bounds() {
        for text in ["http", "a", "1a", "http-envoy-prom", "x2-3"] {
            assert_eq!(wrong_port(text), None, "{text}");
        }
        for (text, word) in [
            ("http-envoy-prome", "15"),
            ("", "only"),
            ("Http", "only"),
            ("a_b", "only"),
            ("80", "one letter"),
            ("a--b", "consecutive"),
            ("-a", "begin or end"),
            ("a-", "begin or end"),
        ] {
            assert!(wrong_port(text).is_some_and(|told| told.contains(word)), "{text}: {:?}", wrong_port(text));
        }
    }

    #[test]
    fn qualified_names_have_their_bounds() {
        let (most, more) = ("a".repeat(63), "a".repeat(64));
        for name in ["ready", "a.b/ready", "service.readiness.alibabacloud.com/edge", "a/B_c.d-e", most.as_str()] {
            assert!(is_qualified(name), "{name}");
        }
        for name in ["", "/ready", "a/", "A.b/ready", "a..b/ready", "a/b/c", "-a", "a-", "a b", more.as_str()] {
            assert!(!is_qualified(name), "{name}");
        }
    }

    #[test]
    fn variables_are_named_more_freely_where_the_cluster_is_relaxed() {
        for (text, strict, relaxed) in [
            ("A_1", true, true),
            ("a.b-c", true, true),
            ("1A", false, true),
            ("A B", false, true),
            ("~", false, true),
            ("A=B", false, false),
            ("ä", false, false),
            (".", false, true),
            ("..a", false, true),
            ("a\tb", false, false),
        ] {
            assert_eq!(wrong_variable(text, false).is_none(), strict, "{text}");
            assert_eq!(wrong_variable(text, true).is_none(), relaxed, "{text}");
        }
    }

    #[test]
    fn addresses_and_ranges() {
        for text in ["1.2.3.4", "010.0.0.1", "2001:db8::1"] {
            assert_eq!(wrong_external(text), None, "{text}");
        }
        for text in ["1.2.3.400", "1.2.3", "", "1.2.3.4.5", "a", "+1.2.3.4", "0.0.0.0", "127.0.0.1", "::1", "fe80::1"] {
            assert!(wrong_external(text).is_some(), "{text}");
        }
        for text in ["169.254.0.1", "224.0.0.5", "ff02::1", "::"] {
            assert!(wrong_external(text).is_some_and(|told| told.starts_with("may not be")), "{text}");
        }
        assert_eq!(wrong_external("224.0.1.1"), None);
        for text in ["10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/64", "::/128"] {
            assert!(is_range(text), "{text}");
        }
        for text in ["10.0.0.0/40", "10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "a/8", "1.2.3.4/-1"] {
            assert!(!is_range(text), "{text}");
        }
    }

    #[test]
    fn segments_of_paths() {
        for text in ["Deployment", "a.b", "..."] {
            assert_eq!(wrong_segment(text), None, "{text}");
        }
        for text in [".", "..", "a/b", "50%"] {
            assert!(wrong_segment(text).is_some(), "{text}");
        }
    }

    #[test]
    fn names_of_images() {
        for name in [
            "a",
            "a:1",
            "a/b_c:V1.2",
            "auto",
            "registry.example.com:5000/Mesh".to_lowercase().as_str(),
            "LOCAL.example/a:1",
            "localhost/a@sha256:0a",
        ] {
            assert!(!is_bad_image(name), "{name}");
        }
        for name in
            ["Proxy:1", "a/B:1", "web :1", "web: 1", "a:", "a//b", "a/-b", "a:1 2", "registry.example.com/Mesh/a"]
        {
            assert!(is_bad_image(name), "{name}");
        }
    }
}
