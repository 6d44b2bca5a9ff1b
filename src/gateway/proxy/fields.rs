//! What the fields in header values are taken from, kept for a route that changes headers. Most change none, and nothing is kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::gateway::downstream::Prepared;
use crate::gateway::routes::FormatContext;
use crate::gateway::routes::{HeaderOps, Route};
use crate::gateway::server::ConnectionState;

/// What is known of a request when its headers, or those of its response, are changed.
pub(super) struct Fields {
    request: Option<HeaderMap>,
    method: Method,
    target: String,
    scheme: &'static str,
    client: Option<IpAddr>,
    remote: SocketAddr,
    local: SocketAddr,
    protocol: Version,
    route: Arc<str>,
}

impl Fields {
    fn of<B>(request: &Request<B>, prepared: &Prepared, connection: &ConnectionState, route: &Route) -> Self {
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), connection.port());
        Self {
            request: None,
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
            scheme: prepared.scheme.as_str(),
            client: prepared.client,
            remote: connection.client,
            local: connection.local.unwrap_or(unknown),
            protocol: request.version(),
            route: Arc::clone(&route.name),
        }
    }

    fn context(&self, status: Option<StatusCode>) -> FormatContext<'_> {
        FormatContext {
            request: self.request.as_ref(),
            method: &self.method,
            target: &self.target,
            scheme: self.scheme,
            client: self.client,
            remote: self.remote,
            local: self.local,
            protocol: self.protocol,
            route: &self.route,
            status,
        }
    }
}

/// Makes these changes to a request.
pub(super) fn change_request<B>(
    changes: &[&HeaderOps],
    request: &mut Request<B>,
    prepared: &Prepared,
    connection: &ConnectionState,
    route: &Route,
) {
    if changes.is_empty() {
        return;
    }
    let fields = Fields::of(request, prepared, connection, route);
    for list in changes {
        list.apply(request.headers_mut(), &fields.context(None));
    }
}

/// Changes to a response, with what is needed of its request.
pub(super) struct ResponseChanges<'a> {
    changes: Vec<&'a HeaderOps>,
    /// In a box: most requests have none.
    fields: Option<Box<Fields>>,
}

impl<'a> ResponseChanges<'a> {
    pub(super) fn new<B>(
        changes: Vec<&'a HeaderOps>,
        request: &Request<B>,
        prepared: &Prepared,
        connection: &ConnectionState,
        route: &Route,
    ) -> Self {
        let mut fields = (!changes.is_empty()).then(|| Box::new(Fields::of(request, prepared, connection, route)));
        if let Some(fields) = &mut fields
            && changes.iter().any(|list| list.has_fields())
        {
            fields.request = Some(request.headers().clone());
        }
        Self { changes, fields }
    }

    pub(super) fn make(&self, status: StatusCode, headers: &mut HeaderMap) {
        let Some(fields) = &self.fields else { return };
        for list in &self.changes {
            list.apply(headers, &fields.context(Some(status)));
        }
    }
}
