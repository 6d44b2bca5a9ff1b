//! Copies of requests for other clusters: sent beside the request itself, never tried again, their answers thrown away.
//!
//! A copy's `Host` header gets `-shadow` behind its name, before its port. Copies use their cluster's connections and counts like any request.
//! Source: envoy source/common/router/{router,shadow_writer_impl}.cc.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body;

use super::request_body::{Kept, RequestBody};
use crate::gateway::host::Host;
use crate::gateway::retry::RetryPolicy;
use crate::gateway::routes::rewrite::shadow_host;
use crate::gateway::upstream::{Cluster, PickContext, within};

/// Sends a copy; `timeout` is the route's.
pub(super) fn send<H: Host>(
    worker: usize,
    host: &H,
    cluster: Rc<Cluster>,
    mut head: Parts,
    kept: Option<&Rc<Kept>>,
    timeout: Option<Duration>,
) {
    let shadow = head.headers.get(HOST).and_then(|host| HeaderValue::from_str(&shadow_host(host.to_str().ok()?)).ok());
    if let Some(shadow) = shadow {
        head.headers.insert(HOST, shadow);
    }
    let body = kept.map_or(RequestBody::Empty, |kept| RequestBody::Kept(kept.read_beside()));
    let (own, request) = (host.clone(), Request::from_parts(head, body));
    host.spawn("gateway-mirror", async move {
        let mut copy = pin!(copy(worker, &own, &cluster, request));
        match timeout {
            None => copy.await,
            Some(timeout) => {
                // A copy that takes too long is broken off, and nobody hears of it.
                let _ = within(&own, timeout, copy.as_mut()).await;
            }
        }
    });
}

async fn copy<H: Host>(worker: usize, host: &H, cluster: &Rc<Cluster>, request: Request<RequestBody>) {
    let context = PickContext { hash: None, tried: &[], retry: &RetryPolicy::NONE };
    let Some(endpoint) = cluster.pick(worker, host, &context) else { return };
    let Ok(mut lent) = endpoint.lend(host, worker).await else { return };
    let Ok(answer) = lent.requests().try_send_request(request).await else { return };
    let mut body = answer.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if frame.is_err() {
            return;
        }
    }
    if body.is_end_stream() {
        lent.give_back();
    }
}
