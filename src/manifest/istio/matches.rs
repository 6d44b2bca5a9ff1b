//! `HTTPMatchRequest`: the conditions of one `match` block, all of which must hold.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/virtualservice.go;
//! pkg/jwt/routing.go (claims of a token as header names).

use std::collections::BTreeMap;

use super::string_match::{self, StringMatch, Takes};
use super::values;
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// A `match` block.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MatchRequest {
    /// Its name, part of the route's.
    pub name: String,
    /// On the path.
    pub uri: Option<StringMatch>,
    /// On the scheme.
    pub scheme: Option<StringMatch>,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the `Host` header.
    pub authority: Option<StringMatch>,
    /// On headers, by their names.
    pub headers: BTreeMap<String, StringMatch>,
    /// What headers must not be.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// On query parameters.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Exact and prefix conditions on the path disregard case.
    pub ignore_uri_case: bool,
    /// The server's port.
    pub port: Option<u16>,
    /// Labels that the gateway's pods have.
    pub source_labels: BTreeMap<String, String>,
    /// The namespace that they are in.
    pub source_namespace: Option<String>,
    /// Gateways, as [`super::virtual_service::gateway_key`] names them; empty: those of the VirtualService.
    pub gateways: Vec<String>,
}

/// The path of a token's claim that a header's name stands for: `@request.auth.claims.sub` or `@request.auth.claims[group][name]`.
#[must_use]
pub fn jwt_claim(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix("@request.auth.claims")?;
    if let Some(path) = rest.strip_prefix('.') {
        return (!path.is_empty()).then(|| path.split('.').map(str::to_owned).collect());
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split("][").map(str::to_owned).collect())
}

/// Reads a block of a VirtualService in a namespace.
pub(super) fn read(block: &Field<'_>, namespace: &str) -> Option<MatchRequest> {
    let fields = block.fields()?;
    let mut is_whole = true;
    let mut condition = |key: &str, takes: Takes| {
        let field = fields.look(key)?;
        let found = string_match::read(&field, takes);
        is_whole &= found.is_some();
        found.filter(|found| *found != StringMatch::Present)
    };
    let mut found = MatchRequest {
        uri: condition("uri", Takes::EmptyPrefix),
        scheme: condition("scheme", Takes::Neither),
        method: condition("method", Takes::Neither),
        authority: condition("authority", Takes::Neither),
        name: values::quiet_text(&fields, "name").unwrap_or_default().to_owned(),
        ..MatchRequest::default()
    };
    for (key, is_header) in [("headers", true), ("withoutHeaders", true), ("queryParams", false)] {
        let (conditions, all_read) = named(&fields, key, is_header);
        is_whole &= all_read;
        match key {
            "headers" => found.headers = conditions,
            "withoutHeaders" => found.without_headers = conditions,
            _ => found.query_params = conditions,
        }
    }
    found.ignore_uri_case = values::flag(&fields, "ignoreUriCase");
    if let Some(port) = fields.get("port") {
        found.port = values::optional_port(&port);
        is_whole &= found.port.is_some() || port.node().text() == Some("0");
    }
    if let Some(labels) = fields.get("sourceLabels") {
        found.source_labels = values::labels(&labels);
        labels.note(FidelityStatus::Modelled, None);
    }
    if let Some(field) = fields.get("sourceNamespace") {
        let text = field.text().filter(|text| !text.is_empty());
        if text.is_some_and(|text| !values::is_label(text)) {
            field.refuse("this is no namespace", "write its name");
        }
        found.source_namespace = text.map(str::to_owned);
    }
    for item in fields.get("gateways").map(|field| field.items()).unwrap_or_default() {
        found.gateways.extend(super::virtual_service::read_gateway_name(&item, namespace));
    }
    fields.allow(&["statPrefix"]);
    fields.finish();
    is_whole.then_some(found)
}

/// Conditions by name, and whether all of them could be read.
fn named(fields: &Fields<'_>, key: &str, is_header: bool) -> (BTreeMap<String, StringMatch>, bool) {
    let mut conditions = BTreeMap::new();
    let Some(field) = fields.look(key) else { return (conditions, true) };
    let mut all_read = true;
    for (name, value) in field.map() {
        let is_claim = jwt_claim(name).is_some();
        if is_header && !is_claim && !values::is_token(name.strip_prefix(':').unwrap_or(name)) {
            value.refuse(format!("`{name}` is no header name"), "write letters, digits and dashes");
            all_read = false;
            continue;
        }
        if key == "headers" && matches!(value.node().value, crate::manifest::yaml::Value::Null) {
            value.refuse("a header's condition cannot be null", "write {} for a header that must only be there");
            all_read = false;
            continue;
        }
        if is_claim {
            let note = "tokens are not validated, so that no request has a claim";
            value.note(FidelityStatus::Approximated, Some(note));
        }
        match string_match::read(&value, Takes::Star) {
            Some(condition) => {
                if condition == StringMatch::Present && !is_claim {
                    value.note(FidelityStatus::Modelled, None);
                }
                conditions.insert(name.to_owned(), condition);
            }
            None => all_read = false,
        }
    }
    (conditions, all_read)
}

#[cfg(test)]
mod tests {
    use super::jwt_claim;

    #[test]
    fn claims_are_told_from_headers() {
        for (name, claim) in [
            ("@request.auth.claims.a.b", Some(vec!["a", "b"])),
            ("@request.auth.claims[a][b.c]", Some(vec!["a", "b.c"])),
            ("@request.auth.claims[a", None),
            ("@request.auth.claims", None),
            ("x-claims", None),
        ] {
            let claim = claim.map(|path| path.into_iter().map(str::to_owned).collect());
            assert_eq!(jwt_claim(name), claim, "{name}");
        }
    }
}
