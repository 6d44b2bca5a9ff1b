//! Changes to headers that a route asks for.
//!
//! Removals come after additions within one list. Lists are applied one after another: destination, route, virtual host, whole table
//! ("most specific first"), or the other way round.
//! Source: envoy source/common/router/{header_parser,config_impl}.cc.

use http::{HeaderMap, HeaderName, HeaderValue};

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
    pub value: HeaderValue,
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

impl HeaderOps {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for HeaderAdd { name, value, mode } in &self.add {
            match (mode, headers.contains_key(name)) {
                (AddMode::Append, _) => {
                    headers.append(name, value.clone());
                }
                (AddMode::Overwrite, _) | (AddMode::KeepExisting, false) | (AddMode::OverwriteOnly, true) => {
                    headers.insert(name, value.clone());
                }
                (AddMode::KeepExisting, true) | (AddMode::OverwriteOnly, false) => {}
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}
