//! `HTTPFaultInjection`: delays and aborts made on purpose.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go,
//! pkg/util/grpc (names of gRPC's statuses).

use std::time::Duration;

use super::values;
use crate::manifest::read::{Field, Fields};

/// Delay and abort, with their shares in millionths of all requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How long requests wait.
    pub delay: Option<(Duration, u32)>,
    /// How requests end.
    pub abort: Option<(Abort, u32)>,
}

/// How a request is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// With an HTTP status.
    Http(u16),
    /// With gRPC's status.
    Grpc(u32),
}

/// Source: grpc doc/statuscodes.md.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Reads `fault`.
pub(super) fn read(fields: &Fields<'_>) -> Option<Fault> {
    let field = fields.look("fault")?;
    let inner = field.fields()?;
    let (delay_field, abort_field) = (inner.look("delay"), inner.look("abort"));
    inner.finish();
    if delay_field.is_none() && abort_field.is_none() {
        field.refuse("a fault without a delay or an abort", "write one of them");
    }
    let delay = delay_field.as_ref().and_then(read_delay);
    let abort = abort_field.as_ref().and_then(read_abort);
    Some(Fault { delay, abort })
}

fn read_delay(field: &Field<'_>) -> Option<(Duration, u32)> {
    let fields = field.fields()?;
    let share = fields.look("percentage").map(|field| values::fault_millionths(&field));
    let old_share = fields.get("percent").map(|field| {
        values::warn(&field, "`percentage` has taken the place of `percent`");
        field.whole::<u32>(0, 100).map(|percent| percent * 10_000)
    });
    let fixed = fields.get("fixedDelay").map(|field| values::span(&field));
    if let Some(exponential) = fields.look("exponentialDelay") {
        exponential.refuse("Istio has no exponential delay yet", "write fixedDelay");
    }
    fields.finish();
    let Some(fixed) = fixed else {
        values::warn(field, "a delay without fixedDelay delays nothing");
        return None;
    };
    Some((fixed?, share.or(old_share).unwrap_or(Some(0))?))
}

fn read_abort(field: &Field<'_>) -> Option<(Abort, u32)> {
    let fields = field.fields()?;
    let share = fields.look("percentage").map_or(Some(0), |field| values::fault_millionths(&field));
    let http = fields.get("httpStatus").map(|field| values::status(&field).map(Abort::Http));
    let grpc = fields.get("grpcStatus").map(|field| read_grpc_status(&field).map(Abort::Grpc));
    if let Some(http2) = fields.look("http2Error") {
        http2.refuse("Istio has no abort of HTTP/2 streams yet", "write httpStatus or grpcStatus");
    }
    fields.finish();
    let kind = match (http, grpc) {
        (Some(_), Some(_)) => {
            field.refuse("more than one kind of abort", "write httpStatus or grpcStatus");
            None
        }
        (Some(kind), None) | (None, Some(kind)) => kind,
        (None, None) => {
            values::warn(field, "an abort without httpStatus or grpcStatus aborts nothing");
            None
        }
    };
    Some((kind?, share?))
}

fn read_grpc_status(field: &Field<'_>) -> Option<u32> {
    let text = field.text()?;
    let index = GRPC_STATUSES.iter().position(|known| *known == text);
    if index.is_none() {
        let problem = field.problem(format!("`{text}` is no status of gRPC"));
        field.sink().report(problem.did_you_mean(text, GRPC_STATUSES));
    }
    u32::try_from(index?).ok()
}
