//! A CLB's listeners for HTTP and HTTPS: a cluster of Tengine behind the layer-4 one.
//!
//! - A client's connection that is silent for 15 s is closed (`idle-timeout`, 1 to 60 s), and so is one with its hundredth request.
//! - A target has 5 s to take a connection; then the next one is asked. It has 60 s for its answer (`request-timeout`, 1 to 180 s), then the client gets 504.
//! - With targets and none of them healthy the answer is 502; over the specification's queries per second it is 503.
//! - HTTP/1.1 is spoken to targets.
//!
//! Assumed, since no document says it: each request has a connection of its own to its target, as in Tengine where no `keepalive` is written
//! (`loadBalancer.targetKeepAlive`); a target that refuses is not followed by another, since documents have 502 for that; a group without any target answers
//! 503; requests under way to a target that is removed are finished, as those of a listener that is changed are.
//!
//! Sources: Alibaba Cloud documents "HTTPS and HTTP listener FAQs" (idle time, 100 requests, 5 s and the next server, 60 s, HTTP version), "Add an HTTP listener",
//! API `CreateLoadBalancerHTTPListener` (ranges, defaults, headers), "How do I troubleshoot HTTP 5xx errors?" (502 after failed checks, 504).

use std::time::Duration;

use super::{Forwarded, HttpRules};

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
    }
}
