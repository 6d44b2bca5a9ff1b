//! Changes to headers that a route asks for.
//!
//! - Within one list removals come before additions. A value that turns out empty is not added.
//! - Lists are applied one after another: those of the destination, the route, the virtual host and the whole table, so that the table's win;
//!   or the destination, the table, the virtual host and the route, where the most specific one is to win.
//!
//! Source: envoy source/common/router/{header_parser,config_impl}.cc.

use http::{HeaderMap, HeaderName};

use super::format::{FormatContext, HeaderText};
use super::{Destination, Found};

/// A list of changes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderOps {
    /// Headers to add, in this order.
    pub add: Vec<HeaderAdd>,
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
}

/// A header to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderAdd {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderText,
    /// What happens to a header of that name.
    pub mode: AddMode,
}

/// What adding does to a header that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddMode {
    /// The value is appended.
    Append,
    /// The value replaces what is there.
    Overwrite,
    /// What is there stays.
    KeepExisting,
    /// The value replaces what is there; nothing is added where nothing is.
    OverwriteOnly,
}

/// Why a header cannot be added or removed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is none.
    #[error("`{0}` is not a header name")]
    Name(String),
    /// The name is that of the host or of a pseudo-header.
    #[error("`{0}` may not be added or removed; there are rewrites for host and path")]
    Protected(String),
    /// The value has characters that no header may have.
    #[error("`{0}` is not a header value")]
    Value(String),
    /// A percent sign has no counterpart.
    #[error("`{0}` has a single %; write %% for a percent sign")]
    Unbalanced(String),
    /// The field is unknown.
    #[error("`%{0}%` is not a field")]
    Field(String),
}

impl HeaderAdd {
    /// A header to add, with what fields its value has.
    ///
    /// # Errors
    ///
    /// If name or value are none, or the name may not be changed.
    pub fn new(name: &str, value: &str, mode: AddMode) -> Result<Self, InvalidHeader> {
        Ok(Self { name: changeable(name)?, value: HeaderText::parse(value)?, mode })
    }
}

impl HeaderOps {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Whether a value depends on the request or the response at hand.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.add.iter().any(|add| matches!(add.value, HeaderText::Format(_)))
    }

    /// Also removes a header.
    ///
    /// # Errors
    ///
    /// If the name is none, or may not be changed.
    pub fn also_remove(&mut self, name: &str) -> Result<(), InvalidHeader> {
        self.remove.push(changeable(name)?);
        Ok(())
    }

    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap, context: &FormatContext<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        for HeaderAdd { name, value, mode } in &self.add {
            let Some(value) = value.of(headers, context) else { continue };
            match mode {
                AddMode::Append => {
                    headers.append(name, value);
                }
                AddMode::Overwrite => {
                    headers.insert(name, value);
                }
                AddMode::KeepExisting | AddMode::OverwriteOnly => {
                    if headers.contains_key(name) == (*mode == AddMode::OverwriteOnly) {
                        headers.insert(name, value);
                    }
                }
            }
        }
    }
}

fn changeable(name: &str) -> Result<HeaderName, InvalidHeader> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(InvalidHeader::Protected(name.to_owned()));
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader::Name(name.to_owned()))
}

/// In which order the lists of a request or response are applied.
fn in_order<'a>(
    found: &Found<'a>,
    destination: Option<&'a HeaderOps>,
    own: [Option<&'a HeaderOps>; 3],
) -> Vec<&'a HeaderOps> {
    let [route, host, table] = own;
    let others = if found.table.most_specific_last { [table, host, route] } else { [route, host, table] };
    destination.into_iter().chain(others.into_iter().flatten()).filter(|changes| !changes.is_empty()).collect()
}

impl<'a> Found<'a> {
    /// The changes to a request on its way to a destination, in order.
    #[must_use]
    pub fn request_changes(&self, destination: Option<&'a Destination>) -> Vec<&'a HeaderOps> {
        let own = [self.route.map(|route| &route.request_headers), Some(&self.host.request_headers)];
        in_order(self, destination.map(|to| &to.request_headers), [own[0], own[1], Some(&self.table.request_headers)])
    }

    /// The changes to a response, in order.
    #[must_use]
    pub fn response_changes(&self, destination: Option<&'a Destination>) -> Vec<&'a HeaderOps> {
        let own = [self.route.map(|route| &route.response_headers), Some(&self.host.response_headers)];
        in_order(self, destination.map(|to| &to.response_headers), [own[0], own[1], Some(&self.table.response_headers)])
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::gateway::routes::format::tests::context;

    fn add(name: &str, value: &str, mode: AddMode) -> HeaderOps {
        HeaderOps { add: vec![HeaderAdd::new(name, value, mode).unwrap()], remove: Vec::new() }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |name: &str, value: &str| HeaderAdd::new(name, value, AddMode::Append).unwrap_err();
        assert!(matches!(refused(":path", "a"), InvalidHeader::Protected(_)));
        assert!(matches!(refused("Host", "a"), InvalidHeader::Protected(_)));
        assert!(matches!(refused("a b", "a"), InvalidHeader::Name(_)));
        assert!(matches!(refused("a", "a\nb"), InvalidHeader::Value(_)));
        for single in ["50%", "%REQ(a", "%REQ(a)", "%PROTOCOL"] {
            assert!(matches!(refused("a", single), InvalidHeader::Unbalanced(_)), "{single}");
        }
        for unknown in ["%NONE%", "%REQ%", "%PROTOCOL(a)%", "%REQ(a):b%", "%% %"] {
            let refused = refused("a", unknown);
            assert!(matches!(refused, InvalidHeader::Field(_) | InvalidHeader::Unbalanced(_)), "{unknown}");
        }
        assert!(HeaderOps::default().also_remove("host").is_err());
    }

    #[test]
    fn removals_come_first_and_modes_differ() {
        let start = HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static("old"))]);
        let values = |changes: &HeaderOps, name: &str| {
            let mut headers = start.clone();
            changes.apply(&mut headers, &context(None));
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for (name, mode, expected) in [
            ("a", AddMode::Append, &["old", "new"][..]),
            ("a", AddMode::Overwrite, &["new"]),
            ("a", AddMode::KeepExisting, &["old"]),
            ("a", AddMode::OverwriteOnly, &["new"]),
            ("b", AddMode::KeepExisting, &["new"]),
            ("b", AddMode::OverwriteOnly, &[]),
        ] {
            assert_eq!(values(&add(name, "new", mode), name), expected, "{mode:?}");
        }
        let mut both = add("a", "new", AddMode::Append);
        both.also_remove("a").unwrap();
        assert_eq!(values(&both, "a"), ["new"]);
    }
}
