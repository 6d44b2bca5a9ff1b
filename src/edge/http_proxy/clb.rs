//! A CLB's listeners for HTTP and HTTPS: a cluster of Tengine behind the layer-4 one.
//!
//! - A client's connection that is silent for 15 s is closed (`idle-timeout`, 1 to 60 s), and so is one with its hundredth request.
//! - A target has 5 s to take a connection; then the next one is asked. It has 60 s for its answer (`request-timeout`, 1 to 180 s), then the client gets 504.
//! - With targets and none of them healthy the answer is 502; over the specification's queries per second it is 503.
//! - HTTP/1.1 is spoken to targets.
//! - `sticky-session` keeps sessions at targets by a cookie: its own (`insert`: `SERVERID`, for `cookie-timeout` from one answer to the next request) or the target's
//!   (`server`: the value of the cookie that `cookie` names is replaced).
//! - `forward-port` makes a listener for HTTP redirect to one for HTTPS: 302, whatever is asked.
//!
//! Assumed, since no document says it: each request has a connection of its own to its target, as in Tengine where no `keepalive` is written
//! (`loadBalancer.targetKeepAlive`); a target that refuses is not followed by another, since documents have 502 for that; a group without any target answers
//! 503; a cookie outweighs weight 0, and answers of 400 and more have none, as in Tengine; requests under way to a target that is removed are finished, as those of a listener that is changed are.
//!
//! Sources: Alibaba Cloud documents "HTTPS and HTTP listener FAQs" (idle time, 100 requests, 5 s and the next server, 60 s, HTTP version), "Add an HTTP listener",
//! API `CreateLoadBalancerHTTPListener` (ranges, defaults, headers), "How do I troubleshoot HTTP 5xx errors?" (502 after failed checks, 504), "FAQ about
//! session persistence" (both ways), "Use CLB to redirect requests from HTTP to HTTPS" (302 in all regions but one); a `Set-Cookie` of such a listener as published by users,
//! which is that of Tengine's `session_sticky` with `maxidle`.

use std::time::Duration;

use super::{Forwarded, HttpRules, Sticky};

/// How it behaves where no annotation says otherwise.
#[must_use]
pub fn rules() -> HttpRules {
    HttpRules {
        client_idle: Duration::from_secs(15),
        client_requests: Some(100),
        client_life: None,
        connect_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(60),
        target_idle: None,
        tries_next: true,
        cuts_requests: false,
        no_healthy_status: 502,
        forwarded: Forwarded::default(),
        sticky: None,
        redirect: None,
    }
}

/// `sticky-session-type: insert`.
#[must_use]
pub fn inserted(timeout: Duration) -> Sticky {
    Sticky::Own { name: "SERVERID", attributes: ";Path=/", idle: timeout, spares_errors: true }
}

/// `sticky-session-type: server`.
#[must_use]
pub fn rewritten(cookie: &str) -> Sticky {
    Sticky::Rewritten { name: cookie.into() }
}
