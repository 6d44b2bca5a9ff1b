//! What a rule does beside forwarding, or before it: redirects, answers of the gateway's own, rewrites.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::values;
use crate::gateway::routes::RegexRewrite;
use crate::manifest::read::{Field, Fields};

/// A client is sent elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The new path.
    pub uri: Option<String>,
    /// What replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// The new host.
    pub authority: Option<String>,
    /// The new port.
    pub port: Option<PortChoice>,
    /// The new scheme.
    pub scheme: Option<String>,
    /// Its status; 301 where none is written.
    pub code: u16,
}

/// The port of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortChoice {
    /// This one.
    Number(u16),
    /// 80 for http, 443 for https.
    OfProtocol,
    /// That of the listener.
    OfRequest,
}

/// An answer of the gateway's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectResponse {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// What changes on the way to the upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewrite {
    /// What replaces the path, or the prefix that matched.
    pub uri: Option<String>,
    /// The new `Host` header.
    pub authority: Option<String>,
    /// An expression and what replaces each of its matches in the path.
    pub regex: Option<(String, String)>,
}

/// The longest body of a direct response.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// From here on Istio warns.
const BODY_BYTES_WARNED: usize = 100 * 1024;

/// Reads `redirect`. `has_prefix` tells whether all blocks of the rule match by prefix, or not by path at all.
pub(super) fn read_redirect(field: &Field<'_>, has_prefix: bool) -> Option<Redirect> {
    let fields = field.fields()?;
    let text = |key: &str| values::text(&fields, key).map(str::to_owned);
    let (uri, prefix_rewrite, authority) = (text("uri"), text("prefixRewrite"), text("authority"));
    let scheme = fields.get("scheme").and_then(|field| {
        let scheme = field.text().filter(|text| !text.is_empty())?;
        let is_known = matches!(scheme, "http" | "https");
        if !is_known {
            field.refuse(format!("`{scheme}` is no scheme to redirect to"), "write http or https");
        }
        is_known.then(|| scheme.to_owned())
    });
    let number = fields.get("port").and_then(|field| values::optional_port(&field));
    let derived = fields.get("derivePort").and_then(|field| {
        field.choice(&[("FROM_PROTOCOL_DEFAULT", PortChoice::OfProtocol), ("FROM_REQUEST_PORT", PortChoice::OfRequest)])
    });
    let code_field = fields.get("redirectCode");
    let code = code_field.as_ref().map_or(Some(301), |field| read_code(field));
    fields.finish();
    if number.is_some() && derived.is_some() {
        field.refuse("`port` and `derivePort` exclude each other", "write one of them");
    }
    if uri.is_some() && prefix_rewrite.is_some() {
        field.refuse("`uri` and `prefixRewrite` exclude each other", "write one of them");
    }
    if prefix_rewrite.is_some() && !has_prefix {
        field.refuse("`prefixRewrite` needs a match by prefix", "match with uri: { prefix: … }, or write uri");
    }
    let port = number.map(PortChoice::Number).or(derived);
    if uri.is_none() && prefix_rewrite.is_none() && authority.is_none() && port.is_none() && scheme.is_none() {
        field.refuse("this redirects to where the request came from", "write uri, authority, port or scheme");
    }
    Some(Redirect { uri, prefix_rewrite, authority, port, scheme, code: code? })
}

fn read_code(field: &Field<'_>) -> Option<u16> {
    let code = field.integer(i64::MIN, i64::MAX)?;
    if code == 0 {
        return Some(301);
    }
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        field.refuse(format!("{code} is no status for a redirect"), "write 301, 302, 303, 307 or 308");
        return None;
    }
    u16::try_from(code).ok()
}

/// Reads `directResponse`.
pub(super) fn read_direct_response(field: &Field<'_>) -> Option<DirectResponse> {
    let fields = field.fields()?;
    let status = fields.require("status", "an answer has a status").and_then(|field| values::status(&field));
    let body = fields.look("body").map_or(Some(Vec::new()), |field| read_body(&field));
    fields.finish();
    Some(DirectResponse { status: status?, body: body? })
}

fn read_body(field: &Field<'_>) -> Option<Vec<u8>> {
    let fields = field.fields()?;
    let (string, bytes) = (fields.get("string"), fields.get("bytes"));
    fields.finish();
    let body = match (string, bytes) {
        (Some(string), None) => string.text()?.as_bytes().to_vec(),
        (None, Some(bytes)) => {
            let text = bytes.text()?;
            // As protobuf reads JSON, with or without the signs that fill the last group. What is no base64 is taken as it stands.
            let padded = format!("{text}{}", &"==="[..(4 - text.len() % 4) % 4]);
            STANDARD.decode(padded).unwrap_or_else(|_| text.as_bytes().to_vec())
        }
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => {
            field.refuse("more than one body", "write string or bytes");
            return None;
        }
    };
    if body.len() > BODY_BYTES_MAX {
        field.refuse("a body has at most 1 MiB", "serve it from a backend");
        return None;
    }
    if body.len() > BODY_BYTES_WARNED {
        values::warn(field, "a body this large burdens the control plane");
    }
    Some(body)
}

/// Reads `rewrite`.
pub(super) fn read_rewrite(fields: &Fields<'_>) -> Option<Rewrite> {
    let field = fields.look("rewrite")?;
    let inner = field.fields()?;
    let text = |key: &str| values::text(&inner, key).map(str::to_owned);
    let (uri, authority) = (text("uri"), text("authority"));
    let regex_field = inner.look("uriRegexRewrite");
    let regex = regex_field.as_ref().and_then(read_regex_rewrite);
    inner.finish();
    if uri.is_some() && regex_field.is_some() {
        field.refuse("`uri` and `uriRegexRewrite` exclude each other", "write one of them");
    }
    if uri.is_none() && authority.is_none() && regex_field.is_none() {
        field.refuse("this rewrites nothing", "write uri, uriRegexRewrite or authority");
        return None;
    }
    Some(Rewrite { uri, authority, regex })
}

fn read_regex_rewrite(field: &Field<'_>) -> Option<(String, String)> {
    let fields = field.fields()?;
    let pattern = fields.require("match", "write the expression whose matches are replaced");
    let substitution = fields.require("rewrite", "write what replaces each match, such as \\1");
    fields.finish();
    let substitution = substitution?;
    let text = substitution.text()?;
    if text.is_empty() {
        substitution.refuse("this is empty", "write what replaces each match, such as \\1");
        return None;
    }
    let pattern = values::expression(&pattern?)?;
    if let Err(error) = RegexRewrite::new(&pattern, text) {
        substitution.refuse(error.to_string(), "write \\1 for what the first group matched");
        return None;
    }
    Some((pattern, text.to_owned()))
}
