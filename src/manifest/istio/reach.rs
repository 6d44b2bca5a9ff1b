//! Rules and blocks of a VirtualService that no request reaches. Istio accepts them with a warning.
//!
//! Source: istio pkg/config/validation/validation.go `analyzeUnreachableHTTPRules`.

use super::http_route::HttpRoute;
use super::matches::MatchRequest;
use super::string_match::StringMatch;
use super::values;
use crate::manifest::read::Field;

/// Warns of rules that come too late.
pub(super) fn warn_unreachable(fields: &[Field<'_>], rules: &[HttpRoute]) {
    let mut before: Vec<&MatchRequest> = Vec::new();
    let mut catch_all_seen = false;
    for (field, rule) in fields.iter().zip(rules) {
        if rule.matches.is_empty() {
            if catch_all_seen {
                values::warn(field, "no request reaches this rule: one before takes all of them");
            }
            catch_all_seen = true;
            continue;
        }
        let mut dead_count = 0;
        for block in &rule.matches {
            if before.iter().any(|known| covers(known, block)) {
                dead_count += 1;
            } else {
                before.push(block);
            }
        }
        if dead_count == rule.matches.len() {
            values::warn(field, "no request reaches this rule: what it matches is taken by those before");
        } else if dead_count > 0 {
            values::warn(field, "some of its matches are without effect: those before take what they match");
        }
    }
}

/// Whether every request that `later` takes is taken by `earlier`: a shorter prefix of the path, and the same other conditions or fewer.
fn covers(earlier: &MatchRequest, later: &MatchRequest) -> bool {
    let plain = |block: &MatchRequest| MatchRequest { name: String::new(), ..block.clone() };
    let (earlier, later) = (plain(earlier), plain(later));
    if earlier == later {
        return true;
    }
    let uri_covered = match (&earlier.uri, &later.uri) {
        (Some(StringMatch::Prefix(wide)), Some(StringMatch::Prefix(narrow) | StringMatch::Exact(narrow))) => {
            narrow.starts_with(wide.as_str())
        }
        (wide, narrow) => wide == narrow || wide.is_none(),
    };
    let fewer = |wide: &Option<StringMatch>, narrow: &Option<StringMatch>| wide.is_none() || wide == narrow;
    uri_covered
        && earlier.ignore_uri_case == later.ignore_uri_case
        && (earlier.port.is_none() || earlier.port == later.port)
        && fewer(&earlier.method, &later.method)
        && fewer(&earlier.scheme, &later.scheme)
        && fewer(&earlier.authority, &later.authority)
        && earlier.headers.iter().all(|(name, value)| later.headers.get(name) == Some(value))
        && earlier.query_params.iter().all(|(name, value)| later.query_params.get(name) == Some(value))
        && earlier.without_headers.iter().all(|(name, value)| later.without_headers.get(name) == Some(value))
        && earlier.source_labels == later.source_labels
        && earlier.source_namespace == later.source_namespace
        && earlier.gateways == later.gateways
}
