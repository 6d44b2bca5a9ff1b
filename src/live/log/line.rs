//! A request as a line: Istio's two formats.
//!
//! What is missing is `-` in text and `null` in JSON. Durations are in milliseconds. JSON keys are in alphabetical order; numbers are numbers,
//! but the upstream's service time, which Envoy takes from a header, is a string.
//!
//! Source: istio pilot/pkg/model/telemetry_logging.go (fields); envoy docs/root/configuration/observability/access_log/usage.rst (values).

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Version};
use serde::{Serialize, Serializer};

use crate::gateway::AccessRecord;

/// Appends a request as a line of Istio's text format. `started` counts from 1970 in UTC.
///
/// # Panics
///
/// Never: memory takes what is written to it.
pub fn text(record: &AccessRecord, started: Duration, line: &mut Vec<u8>) {
    let path = record.uri.path_and_query().map_or("/", |path| path.as_str());
    let status = record.status.map_or(0, |status| status.as_u16());
    let written = writeln!(
        line,
        "[{}] \"{} {path} {}\" {status} {} {} - \"-\" {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {} {} {} - {}",
        UtcTime(started),
        record.method,
        protocol(record.version),
        record.flags,
        record.details,
        record.bytes_received,
        record.bytes_sent,
        duration_ms(record),
        OrDash(record.service_time.map(|span| span.as_millis())),
        OrDash(header(record.forwarded_for.as_ref())),
        OrDash(header(record.user_agent.as_ref())),
        OrDash(header(record.request_id.as_ref())),
        OrDash(header(record.authority.as_ref())),
        OrDash(record.upstream),
        OrDash(record.cluster.as_ref()),
        OrDash(record.upstream_local),
        OrDash(record.downstream_local),
        record.client,
        OrDash(record.route.as_ref().filter(|name| !name.is_empty())),
    );
    written.expect("memory takes what is written to it");
}

/// Appends a request as a line of Istio's JSON format. `started` counts from 1970 in UTC.
///
/// # Panics
///
/// Never: memory takes what is written to it, and all keys are texts.
pub fn json(record: &AccessRecord, started: Duration, line: &mut Vec<u8>) {
    let object = Object {
        authority: header(record.authority.as_ref()),
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
        connection_termination_details: None,
        downstream_local_address: record.downstream_local.map(Shown),
        downstream_remote_address: Shown(record.client),
        duration: duration_ms(record),
        method: record.method.as_str(),
        path: record.uri.path_and_query().map_or("/", |path| path.as_str()),
        protocol: protocol(record.version),
        request_id: header(record.request_id.as_ref()),
        requested_server_name: None,
        response_code: record.status.map_or(0, |status| status.as_u16()),
        response_code_details: Some(record.details).filter(|details| *details != "-"),
        response_flags: Shown(record.flags),
        route_name: record.route.as_deref().filter(|name| !name.is_empty()),
        start_time: Shown(UtcTime(started)),
        upstream_cluster: record.cluster.as_deref(),
        upstream_host: record.upstream.map(Shown),
        upstream_local_address: record.upstream_local.map(Shown),
        upstream_service_time: record.service_time.map(|span| Shown(span.as_millis())),
        upstream_transport_failure_reason: None,
        user_agent: header(record.user_agent.as_ref()),
        x_forwarded_for: header(record.forwarded_for.as_ref()),
    };
    serde_json::to_writer(&mut *line, &object).expect("memory takes what is written to it, and all keys are texts");
    line.push(b'\n');
}

#[derive(Serialize)]
struct Object<'a> {
    authority: Option<&'a str>,
    bytes_received: u64,
    bytes_sent: u64,
    connection_termination_details: Option<&'a str>,
    downstream_local_address: Option<Shown<SocketAddr>>,
    downstream_remote_address: Shown<SocketAddr>,
    duration: u128,
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    request_id: Option<&'a str>,
    requested_server_name: Option<&'a str>,
    response_code: u16,
    response_code_details: Option<&'a str>,
    response_flags: Shown<crate::gateway::Flags>,
    route_name: Option<&'a str>,
    start_time: Shown<UtcTime>,
    upstream_cluster: Option<&'a str>,
    upstream_host: Option<Shown<SocketAddr>>,
    upstream_local_address: Option<Shown<SocketAddr>>,
    upstream_service_time: Option<Shown<u128>>,
    upstream_transport_failure_reason: Option<&'a str>,
    user_agent: Option<&'a str>,
    x_forwarded_for: Option<&'a str>,
}

/// A value as the text it is shown as.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A value, or the dash that stands for none.
struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A header's value; one that is no text counts as missing.
fn header(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

fn duration_ms(record: &AccessRecord) -> u128 {
    record.ended_at.since(record.started_at).as_millis()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// An instant since 1970 as `2026-11-26T03:00:00.123Z`.
struct UtcTime(Duration);

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = self.0.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(mut day: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::{Method, StatusCode, Uri};

    use super::*;
    use crate::gateway::Flags;
    use crate::units::SimTime;

    const STARTED: Duration = Duration::from_millis(1_795_662_000_123);

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn served() -> AccessRecord {
        let value = |text| Some(HeaderValue::from_static(text));
        AccessRecord {
            started_at: SimTime::from_nanos(1_000_000),
            ended_at: SimTime::from_nanos(13_999_999),
            method: Method::GET,
            uri: Uri::from_static("/api/cart?id=7"),
            version: Version::HTTP_11,
            authority: value("shop.example.com"),
            request_id: value("cc21d9b0"),
            status: Some(StatusCode::OK),
            flags: Flags::NONE,
            details: "via_upstream",
            route: Some("cart".into()),
            cluster: Some("outbound|80||api.default.svc.cluster.local".into()),
            upstream: Some(address("127.0.0.1:9001")),
            attempts: 1,
            service_time: Some(Duration::from_micros(11_900)),
            bytes_received: 3,
            bytes_sent: 846,
            client: address("127.0.0.1:50000"),
            downstream_local: Some(address("127.0.0.1:8080")),
            upstream_local: Some(address("127.0.0.1:50001")),
            forwarded_for: value("127.0.0.1"),
            user_agent: value("curl/8 \"x\""),
        }
    }

    /// No route, nor anything else.
    fn refused() -> AccessRecord {
        AccessRecord {
            authority: None,
            request_id: None,
            status: None,
            flags: Flags::DC,
            details: "-",
            route: Some(Rc::<str>::from("").as_ref().into()),
            cluster: None,
            upstream: None,
            service_time: None,
            downstream_local: None,
            upstream_local: None,
            forwarded_for: None,
            user_agent: None,
            ..served()
        }
    }

    #[track_caller]
    fn check(write: fn(&AccessRecord, Duration, &mut Vec<u8>), record: &AccessRecord, expected: &str) {
        let mut line = Vec::new();
        write(record, STARTED, &mut line);
        assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn a_line_of_text_is_istios() {
        check(
            text,
            &served(),
            "[2026-11-26T03:00:00.123Z] \"GET /api/cart?id=7 HTTP/1.1\" 200 - via_upstream - \"-\" 3 846 12 11 \
             \"127.0.0.1\" \"curl/8 \"x\"\" \"cc21d9b0\" \"shop.example.com\" \"127.0.0.1:9001\" \
             outbound|80||api.default.svc.cluster.local 127.0.0.1:50001 127.0.0.1:8080 127.0.0.1:50000 - cart",
        );
        check(
            text,
            &refused(),
            "[2026-11-26T03:00:00.123Z] \"GET /api/cart?id=7 HTTP/1.1\" 0 DC - - \"-\" 3 846 12 - \"-\" \"-\" \"-\" \"-\" \"-\" \
             - - - 127.0.0.1:50000 - -",
        );
    }

    #[test]
    fn a_line_of_json_is_istios() {
        check(
            json,
            &served(),
            concat!(
                r#"{"authority":"shop.example.com","bytes_received":3,"bytes_sent":846,"#,
                r#""connection_termination_details":null,"downstream_local_address":"127.0.0.1:8080","#,
                r#""downstream_remote_address":"127.0.0.1:50000","duration":12,"method":"GET","path":"/api/cart?id=7","#,
                r#""protocol":"HTTP/1.1","request_id":"cc21d9b0","requested_server_name":null,"response_code":200,"#,
                r#""response_code_details":"via_upstream","response_flags":"-","route_name":"cart","#,
                r#""start_time":"2026-11-26T03:00:00.123Z","upstream_cluster":"outbound|80||api.default.svc.cluster.local","#,
                r#""upstream_host":"127.0.0.1:9001","upstream_local_address":"127.0.0.1:50001","#,
                r#""upstream_service_time":"11","upstream_transport_failure_reason":null,"#,
                r#""user_agent":"curl/8 \"x\"","x_forwarded_for":"127.0.0.1"}"#
            ),
        );
        let mut line = Vec::new();
        json(&refused(), STARTED, &mut line);
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["response_code"], 0);
        for key in ["authority", "route_name", "response_code_details", "upstream_service_time", "upstream_host"] {
            assert!(object[key].is_null(), "{key}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(UtcTime(Duration::from_secs(seconds)).to_string(), shown);
        }
    }
}
