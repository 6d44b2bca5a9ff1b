//! `Headers`: what a route or a destination changes in requests and responses.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/{validation,header_value_validator}.go.

use super::values;
use crate::gateway::routes::{AddMode, HeaderAdd};
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// Changes to requests and to responses.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Headers {
    /// To requests.
    pub request: HeaderChanges,
    /// To responses.
    pub response: HeaderChanges,
}

/// Changes to the headers of a message.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderChanges {
    /// Headers that get this value, whatever they had.
    pub set: Vec<(String, String)>,
    /// Headers that get one value more.
    pub add: Vec<(String, String)>,
    /// Headers that go.
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// The value for the `Host` header, that of `set` first.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        let mut all = self.set.iter().chain(&self.add);
        all.find(|(name, _)| is_authority(name)).map(|(_, value)| value.as_str())
    }
}

/// Whether a name stands for the `Host` header.
#[must_use]
pub fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Reads `headers` of a rule or a destination.
pub(super) fn read(fields: &Fields<'_>) -> Option<Headers> {
    let field = fields.look("headers")?;
    let inner = field.fields()?;
    let part = |key: &str| inner.look(key).and_then(|field| read_changes(&field, key == "request")).unwrap_or_default();
    let found = Headers { request: part("request"), response: part("response") };
    inner.finish();
    Some(found)
}

fn read_changes(field: &Field<'_>, is_request: bool) -> Option<HeaderChanges> {
    let fields = field.fields()?;
    let mut found = HeaderChanges::default();
    for key in ["set", "add"] {
        let mut pairs = Vec::new();
        for (name, value) in fields.look(key).map(|field| field.map()).unwrap_or_default() {
            let may_be_host = is_request && is_authority(name);
            if check_name(&value, name, may_be_host)
                && let Some(text) = value.text()
                && check_value(&value, text)
            {
                note_value(&value, name, text);
                pairs.push((name.to_owned(), text.to_owned()));
            }
        }
        if key == "set" { found.set = pairs } else { found.add = pairs }
    }
    for item in fields.look("remove").map(|field| field.items()).unwrap_or_default() {
        if let Some(name) = item.text()
            && check_name(&item, name, false)
        {
            item.note(FidelityStatus::Modelled, None);
            found.remove.push(name.to_owned());
        }
    }
    fields.finish();
    Some(found)
}

fn note_value(field: &Field<'_>, name: &str, text: &str) {
    if is_authority(name) || HeaderAdd::new(name, text, AddMode::Append).is_ok() {
        field.note(FidelityStatus::Modelled, None);
    } else {
        field.note(FidelityStatus::Ignored, Some("not all of its fields are known, so the header is left out"));
    }
}

fn check_name(field: &Field<'_>, name: &str, may_be_host: bool) -> bool {
    let wrong = if may_be_host {
        None
    } else if name.is_empty() {
        Some("a header has a name")
    } else if name.eq_ignore_ascii_case("host") || name.starts_with(':') {
        Some("this header cannot be changed here")
    } else if !values::is_token(name) {
        Some("this is no header name")
    } else {
        None
    };
    if let Some(text) = wrong {
        field.refuse(text, "write letters, digits and dashes");
    }
    wrong.is_none()
}

fn check_value(field: &Field<'_>, text: &str) -> bool {
    if let Err(wrong) = commands(text) {
        field
            .refuse(wrong, "write %% for a percent sign, and %NAME% or %NAME(arguments)% for a value that Envoy knows");
        return false;
    }
    let is_text = text.chars().all(|letter| letter == '\t' || !letter.is_control());
    if !is_text {
        field.refuse("control characters cannot stand in a header", "take them out");
    }
    is_text
}

/// The commands of a header's value, `%NAME%` or `%NAME(arguments)%`; `%%` is a percent sign.
///
/// # Errors
///
/// If a percent sign begins no command.
pub fn commands(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name_end =
            after.find(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'));
        let name_end = name_end.filter(|end| *end > 0).ok_or("a percent sign that begins no command")?;
        let mut end = name_end;
        if after[end..].starts_with('(') {
            end += after[end..].find(')').ok_or("a command whose arguments have no end")? + 1;
        }
        // A limit of its length may follow: %REQ(x):10%.
        if let Some(limit) = after[end..].strip_prefix(':') {
            end += 1 + limit.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(limit.len());
        }
        rest = after[end..].strip_prefix('%').ok_or("a command without its second percent sign")?;
        found.push(&after[..end]);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn percent_signs_begin_commands_or_stand_twice() {
        for (text, expected) in [
            ("foo", Some(vec![])),
            ("100%%", Some(vec![])),
            ("a %HOSTNAME% b %REQ(x-y):10%", Some(vec!["HOSTNAME", "REQ(x-y):10"])),
            ("%START_TIME%%", None),
            ("abc%123", None),
            ("%", None),
            ("%a%", None),
        ] {
            assert_eq!(commands(text).ok(), expected, "{text}");
        }
    }
}
