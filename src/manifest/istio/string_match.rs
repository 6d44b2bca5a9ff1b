//! `StringMatch`: one of exact, prefix and regex.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go.

use super::values;
use crate::manifest::read::Field;

/// A condition on a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StringMatch {
    /// Any text, if there is one.
    Present,
    /// The whole text.
    Exact(String),
    /// Its first characters.
    Prefix(String),
    /// The whole text by regular expression.
    Regex(String),
}

/// What a field takes beside the usual.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// An empty prefix.
    EmptyPrefix,
    /// The regular expression `*`, which stands for any value.
    Star,
    /// Neither.
    Neither,
}

/// Reads one; without a kind it is [`StringMatch::Present`].
pub(super) fn read(field: &Field<'_>, takes: Takes) -> Option<StringMatch> {
    let fields = field.fields()?;
    let (exact, prefix, regex) = (fields.get("exact"), fields.get("prefix"), fields.get("regex"));
    fields.finish();
    match (exact, prefix, regex) {
        (None, None, None) => Some(StringMatch::Present),
        (Some(exact), None, None) => Some(StringMatch::Exact(exact.text()?.to_owned())),
        (None, Some(prefix), None) => {
            let text = prefix.text()?;
            if text.is_empty() && takes != Takes::EmptyPrefix {
                prefix.refuse("an empty prefix", "write the first characters, or leave the condition out");
                return None;
            }
            Some(StringMatch::Prefix(text.to_owned()))
        }
        (None, None, Some(regex)) if takes == Takes::Star && regex.node().text() == Some("*") => {
            Some(StringMatch::Present)
        }
        (None, None, Some(regex)) => values::expression(&regex).map(StringMatch::Regex),
        _ => {
            field.refuse("more than one kind of match", "write one of exact, prefix and regex");
            None
        }
    }
}
