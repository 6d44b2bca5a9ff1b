//! Values of headers that depend on the request at hand.
//!
//! A value may hold fields in percent signs, such as `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%` or `%REQ(x-user?:authority):8%`; `%%` is one percent
//! sign. Values are read once, when the configuration is; one without fields stays a plain one.
//!
//! Source: envoy source/common/formatter/{substitution_format_utility,stream_info_formatter,http_specific_formatter}.cc.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::headers::InvalidHeader;

/// The value of a header to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderText {
    /// Always this one.
    Plain(HeaderValue),
    /// Texts and fields that follow one another.
    Format(Arc<[Part]>),
}

/// A part of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// This text.
    Text(String),
    /// What a field has for the request at hand, cut to so many bytes.
    Field(Field, Option<usize>),
}

/// Something that is known of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field {
    /// A header of the request, or a pseudo-header; else the second.
    Request(String, Option<String>),
    /// A header of the response; else the second.
    Response(String, Option<String>),
    /// The client, with its port.
    RemoteAddress,
    /// The client.
    RemoteAddressWithoutPort,
    /// The peer of the connection, with its port.
    DirectRemoteAddress,
    /// The peer of the connection.
    DirectRemoteAddressWithoutPort,
    /// The address that the request came to, with its port.
    LocalAddress,
    /// The address that the request came to.
    LocalAddressWithoutPort,
    /// The port that the request came to.
    LocalPort,
    /// The protocol of the request.
    Protocol,
    /// The name of the route.
    RouteName,
    /// The status of the response.
    ResponseCode,
    /// Something that Envoy knows and we do not: always empty.
    NotModelled,
}

/// Fields that are read and left empty.
const NOT_MODELLED: [&str; 18] = [
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_VERSION",
    "DYNAMIC_METADATA",
    "ENVIRONMENT",
    "HOSTNAME",
    "REQUESTED_SERVER_NAME",
    "START_TIME",
    "UPSTREAM_METADATA",
    "UPSTREAM_REMOTE_ADDRESS",
];

/// What the fields of values are taken from.
#[derive(Clone, Copy, Debug)]
pub struct FormatContext<'a> {
    /// The headers of the request, where the headers that change are those of the response.
    pub request: Option<&'a HeaderMap>,
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The client.
    pub client: Option<IpAddr>,
    /// The peer of the connection.
    pub remote: SocketAddr,
    /// The gateway's end of the connection.
    pub local: SocketAddr,
    /// The protocol of the request.
    pub protocol: Version,
    /// The name of the route.
    pub route: &'a str,
    /// The status of the response.
    pub status: Option<StatusCode>,
}

impl HeaderText {
    /// The value for a request, or for the response with these headers; none if it is empty.
    pub(super) fn of(&self, headers: &HeaderMap, context: &FormatContext<'_>) -> Option<HeaderValue> {
        let value = match self {
            Self::Plain(value) => value.clone(),
            Self::Format(parts) => HeaderValue::from_str(&format_parts(parts, headers, context)).ok()?,
        };
        Some(value).filter(|value| !value.is_empty())
    }

    /// Reads a value with its fields.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidHeader> {
        let plain = |text: &str| {
            HeaderValue::from_str(text).map(Self::Plain).map_err(|_| InvalidHeader::Value(text.to_owned()))
        };
        if !text.contains('%') {
            return plain(text);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let written = Written::split(after).ok_or_else(|| InvalidHeader::Unbalanced(text.to_owned()))?;
            let length = written.length()?;
            let field = Field::named(written.name, written.argument)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field, length));
            rest = written.rest;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return plain(&literal);
        }
        plain(&literal)?;
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self::Format(parts.into()))
    }
}

impl From<HeaderValue> for HeaderText {
    /// Always this value, percent signs included.
    fn from(value: HeaderValue) -> Self {
        Self::Plain(value)
    }
}

/// A field as it is written: `NAME%`, `NAME(argument)%` or `NAME(argument):length%`, and what follows.
struct Written<'t> {
    name: &'t str,
    argument: &'t str,
    modifier: &'t str,
    rest: &'t str,
}

impl<'t> Written<'t> {
    /// None if it does not end.
    fn split(text: &'t str) -> Option<Self> {
        let (name, rest) = text.split_at(text.find(['%', '('])?);
        let (argument, rest) = match rest.strip_prefix('(') {
            None => ("", rest),
            Some(rest) => rest.split_once(')')?,
        };
        let (modifier, rest) = rest.split_once('%')?;
        Some(Self { name, argument, modifier, rest })
    }

    fn length(&self) -> Result<Option<usize>, InvalidHeader> {
        let length = match self.modifier.strip_prefix(':') {
            None if self.modifier.is_empty() => return Ok(None),
            None => None,
            Some(length) => length.parse().ok(),
        };
        length
            .map(Some)
            .ok_or_else(|| InvalidHeader::Field(format!("{}({}){}", self.name, self.argument, self.modifier)))
    }
}

impl Field {
    fn named(name: &str, argument: &str) -> Result<Self, InvalidHeader> {
        let pair = || match argument.split_once('?') {
            Some((first, second)) => (first.to_owned(), Some(second.to_owned())),
            None => (argument.to_owned(), None),
        };
        let field = match name {
            "REQ" if !argument.is_empty() => {
                let (first, second) = pair();
                return Ok(Self::Request(first, second));
            }
            "RESP" if !argument.is_empty() => {
                let (first, second) = pair();
                return Ok(Self::Response(first, second));
            }
            known if NOT_MODELLED.contains(&known) => return Ok(Self::NotModelled),
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::RemoteAddress,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::RemoteAddressWithoutPort,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Self::DirectRemoteAddress,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DirectRemoteAddressWithoutPort,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::LocalAddress,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::LocalAddressWithoutPort,
            "DOWNSTREAM_LOCAL_PORT" => Self::LocalPort,
            "PROTOCOL" => Self::Protocol,
            "ROUTE_NAME" => Self::RouteName,
            "RESPONSE_CODE" => Self::ResponseCode,
            unknown => return Err(InvalidHeader::Field(unknown.to_owned())),
        };
        if argument.is_empty() { Ok(field) } else { Err(InvalidHeader::Field(format!("{name}({argument})"))) }
    }
}

fn format_parts(parts: &[Part], headers: &HeaderMap, context: &FormatContext<'_>) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Field(field, length) => {
                let start = text.len();
                field.write(&mut text, headers, context).expect("text takes everything");
                if let Some(length) = length {
                    let mut end = text.len().min(start + length);
                    while !text.is_char_boundary(end) {
                        end -= 1;
                    }
                    text.truncate(end);
                }
            }
        }
    }
    text
}

impl Field {
    fn write(&self, out: &mut String, headers: &HeaderMap, context: &FormatContext<'_>) -> std::fmt::Result {
        match self {
            Self::Request(first, second) => {
                let request = context.request.unwrap_or(headers);
                let found = [Some(first), second.as_ref()].into_iter().flatten();
                let mut found = found.filter_map(|name| context.request_header(request, name));
                out.write_str(found.next().unwrap_or_default())
            }
            Self::Response(first, second) => {
                let response = context.request.map(|_| headers);
                let value = |name: &String| response?.get(name.as_str())?.to_str().ok();
                out.write_str(value(first).or_else(|| value(second.as_ref()?)).unwrap_or_default())
            }
            Self::RemoteAddress => match context.client {
                Some(client) if client == context.remote.ip() => write!(out, "{}", context.remote),
                Some(client) => write!(out, "{}", SocketAddr::new(client, 0)),
                None => Ok(()),
            },
            Self::RemoteAddressWithoutPort => context.client.map_or(Ok(()), |client| write!(out, "{client}")),
            Self::DirectRemoteAddress => write!(out, "{}", context.remote),
            Self::DirectRemoteAddressWithoutPort => write!(out, "{}", context.remote.ip()),
            Self::LocalAddress => write!(out, "{}", context.local),
            Self::LocalAddressWithoutPort => write!(out, "{}", context.local.ip()),
            Self::LocalPort => write!(out, "{}", context.local.port()),
            Self::Protocol => write!(out, "{:?}", context.protocol),
            Self::RouteName => out.write_str(context.route),
            Self::ResponseCode => context.status.map_or(Ok(()), |status| write!(out, "{}", status.as_u16())),
            Self::NotModelled => Ok(()),
        }
    }
}

impl<'a> FormatContext<'a> {
    fn request_header(&self, request: &'a HeaderMap, name: &str) -> Option<&'a str> {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Some(self.method.as_str()),
            ":path" => Some(self.target),
            ":scheme" => Some(self.scheme),
            ":authority" => request.get(HOST)?.to_str().ok(),
            name => request.get(name)?.to_str().ok(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use http::HeaderName;

    use super::*;
    use crate::gateway::routes::{AddMode, HeaderAdd, HeaderOps};

    /// A request and the connection it came over.
    pub(in crate::gateway::routes) fn context<'a>(request: Option<&'a HeaderMap>) -> FormatContext<'a> {
        FormatContext {
            request,
            method: &Method::GET,
            target: "/a?b",
            scheme: "http",
            client: Some("1.2.3.4".parse().unwrap()),
            remote: "10.0.0.9:5000".parse().unwrap(),
            local: "10.0.0.1:8080".parse().unwrap(),
            protocol: Version::HTTP_11,
            route: "the-route",
            status: Some(StatusCode::NOT_FOUND),
        }
    }

    fn add(name: &str, value: &str, mode: AddMode) -> HeaderOps {
        HeaderOps { add: vec![HeaderAdd::new(name, value, mode).unwrap()], remove: Vec::new() }
    }

    #[test]
    fn fields_are_filled_in() {
        let headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("h:80")),
            (HeaderName::from_static("x-user"), HeaderValue::from_static("ann")),
        ]);
        for (value, expected) in [
            ("plain", "plain"),
            ("100%%", "100%"),
            ("%REQ(x-user)%", "ann"),
            ("a %REQ(X-None?:authority)% %% %PROTOCOL%", "a h:80 % HTTP/1.1"),
            ("%REQ(:path):3%|%REQ(:method)%|%REQ(:scheme)%", "/a?|GET|http"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "1.2.3.4:0"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "1.2.3.4"),
            ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.0.0.9:5000"),
            ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1:8080 8080"),
            ("%ROUTE_NAME% %RESPONSE_CODE%%START_TIME(%s)%", "the-route 404"),
        ] {
            let mut changed = headers.clone();
            add("x-new", value, AddMode::Overwrite).apply(&mut changed, &context(None));
            assert_eq!(changed["x-new"], expected, "{value}");
        }
        let mut changed = headers.clone();
        add("x-new", "%REQ(x-none)%", AddMode::Overwrite).apply(&mut changed, &context(None));
        assert_eq!(changed, headers);
        let mut response = HeaderMap::from_iter([(HeaderName::from_static("x-b"), HeaderValue::from_static("c"))]);
        add("x-new", "%REQ(x-user)% %RESP(x-a?x-b)%", AddMode::Append).apply(&mut response, &context(Some(&headers)));
        assert_eq!(response["x-new"], "ann c");
    }
}
