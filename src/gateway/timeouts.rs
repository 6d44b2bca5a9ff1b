//! How long a request and each of its tries may take.
//!
//! The route's time-outs hold unless the request's headers say otherwise: `x-envoy-upstream-rq-timeout-ms` and
//! `x-envoy-upstream-rq-per-try-timeout-ms` overrule them, `grpc-timeout` may only shorten where the route lets it. A time-out for one try
//! that is not below the one for all is void. The upstream is told what is left for it. Headers take 0 for "no limit".
//!
//! Sources: envoy source/common/router/router.cc `FilterUtility::finalTimeout`, source/common/grpc/common.cc; istio
//! pilot/pkg/networking/core/route/route.go `setTimeout` (`max_grpc_timeout` is the route's time-out).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::retry::is_envoys;

const GLOBAL: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const PER_TRY: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");
/// What a request may ask for. A static, not a constant: a constant would be made anew for every header that is compared with it.
static ASKED: [HeaderName; 3] = [GLOBAL, PER_TRY, EXPECTED];

/// The time-outs of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteTimeouts {
    /// For the request with all its tries. None: no limit, Istio's default.
    pub global: Option<Duration>,
    /// For each try. None: no limit of its own.
    pub per_try: Option<Duration>,
    /// How `grpc-timeout` counts. None: not at all.
    pub grpc: Option<GrpcTimeouts>,
    /// Whether a try that takes too long goes on beside the next one.
    pub hedges_on_per_try_timeout: bool,
    /// Whether `x-envoy-expected-rq-timeout-ms` of a proxy before this one counts.
    pub respects_expected: bool,
}

/// How `grpc-timeout` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrpcTimeouts {
    /// The longest. None: any.
    pub max: Option<Duration>,
    /// So much is taken off, unless nothing would be left.
    pub offset: Duration,
}

impl RouteTimeouts {
    /// What Istio makes of a route with this time-out, and this one for each try.
    #[must_use]
    pub const fn istio(global: Option<Duration>, per_try: Option<Duration>) -> Self {
        let grpc = Some(GrpcTimeouts { max: global, offset: Duration::ZERO });
        Self { global, per_try, grpc, hedges_on_per_try_timeout: false, respects_expected: false }
    }

    /// The time-outs of a request. Its headers become what the upstream gets.
    #[must_use]
    pub fn resolve(&self, is_grpc: bool, headers: &mut HeaderMap) -> Timeouts {
        let asks = headers.keys().any(|name| is_envoys(name) && ASKED.contains(name));
        self.settle(is_grpc, asks, headers)
    }

    /// The same for a request that does not steer Envoy.
    #[must_use]
    pub fn resolve_unasked(&self, is_grpc: bool, headers: &mut HeaderMap) -> Timeouts {
        self.settle(is_grpc, false, headers)
    }

    fn settle(&self, is_grpc: bool, asks: bool, headers: &mut HeaderMap) -> Timeouts {
        let grpc = self.grpc.filter(|_| is_grpc);
        let mut timeouts = Timeouts {
            global: grpc.map_or(self.global, |grpc| grpc.resolve(headers)),
            per_try: self.per_try,
            hedges: self.hedges_on_per_try_timeout,
            tells_grpc: grpc.is_some(),
        };
        if asks {
            timeouts.heed(self.respects_expected, headers);
        }
        if let (Some(per_try), Some(global)) = (timeouts.per_try, timeouts.global)
            && per_try >= global
        {
            timeouts.per_try = None;
        }
        timeouts.tell(Duration::ZERO, headers);
        timeouts
    }
}

impl GrpcTimeouts {
    fn resolve(self, headers: &HeaderMap) -> Option<Duration> {
        let asked = headers.get(&GRPC).and_then(|value| parse_grpc(value.to_str().ok()?));
        let asked = asked.filter(|timeout| !timeout.is_zero());
        let asked = asked.map(|timeout| if self.offset < timeout { timeout - self.offset } else { timeout });
        match (asked, self.max) {
            (Some(asked), Some(max)) => Some(asked.min(max)),
            (asked, max) => asked.or(max),
        }
    }
}

/// The time-outs of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For the request with all its tries.
    pub global: Option<Duration>,
    /// For each try.
    pub per_try: Option<Duration>,
    hedges: bool,
    tells_grpc: bool,
}

impl Timeouts {
    /// Tells the upstream of a try how long it has, `elapsed` after the request was complete.
    pub fn tell(&self, elapsed: Duration, headers: &mut HeaderMap) {
        let per_try = self.per_try.filter(|_| !self.hedges);
        let Some(expected) = per_try.or(self.global) else { return };
        let left = match self.global {
            None => expected,
            // Nothing is left, but 0 would mean no limit.
            Some(global) if elapsed >= global => Duration::from_millis(1),
            Some(global) => expected.min(global - elapsed),
        };
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        headers.insert(EXPECTED, millis.into());
        if self.tells_grpc {
            headers.insert(GRPC, format_grpc(millis));
        }
    }

    /// Heeds what the request's headers say, and takes them away.
    fn heed(&mut self, respects_expected: bool, headers: &mut HeaderMap) {
        let millis = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
        let asked = |millis: u64| (millis > 0).then(|| Duration::from_millis(millis));
        let expected = headers.get(&EXPECTED).filter(|_| respects_expected).cloned();
        if let Some(global) = expected.or_else(|| headers.remove(&GLOBAL)).as_ref().and_then(millis) {
            self.global = asked(global);
        }
        if let Some(per_try) = headers.remove(&PER_TRY).as_ref().and_then(millis) {
            self.per_try = asked(per_try);
        }
    }
}

/// Eight digits at most and a unit; less than a millisecond is rounded up. Source: gRPC over HTTP/2, "Timeout".
fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    let millis = match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number.div_ceil(1000),
        "n" => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// In the finest unit whose number has eight digits.
fn format_grpc(millis: u64) -> HeaderValue {
    const MOST: u64 = 99_999_999;
    let units = [(1, "m"), (1000, "S"), (60_000, "M"), (3_600_000, "H")];
    let fitting = units.into_iter().find(|(size, _)| millis / size <= MOST);
    let text = fitting.map_or_else(|| format!("{MOST}H"), |(size, unit)| format!("{}{unit}", millis / size));
    HeaderValue::from_str(&text).expect("digits and a letter make a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_read_in_every_unit() {
        let millis = |text| parse_grpc(text).map(|timeout| timeout.as_millis());
        assert_eq!(
            ["2H", "3M", "4S", "5m", "6001u", "1n"].map(millis),
            [Some(7_200_000), Some(180_000), Some(4000), Some(5), Some(7), Some(1)]
        );
        assert_eq!(["", "5", "m", "123456789m", "1x", "-1m"].map(millis), [None; 6]);
    }

    #[test]
    fn a_grpc_timeout_is_written_in_eight_digits() {
        let text = |millis| format_grpc(millis).to_str().unwrap().to_owned();
        assert_eq!([text(15), text(99_999_999), text(100_000_000)], ["15m", "99999999m", "100000S"]);
        assert_eq!(text(u64::MAX), "99999999H");
    }

    #[test]
    fn in_istio_a_grpc_timeout_shortens_and_never_lengthens() {
        let resolve = |route: Option<u64>, asked: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC, HeaderValue::from_static(asked));
            let route = RouteTimeouts::istio(route.map(Duration::from_millis), None);
            route.resolve(true, &mut headers).global.map(|timeout| timeout.as_millis())
        };
        assert_eq!(resolve(Some(100), "50m"), Some(50));
        assert_eq!(resolve(Some(100), "200m"), Some(100));
        assert_eq!(resolve(None, "200m"), Some(200));
    }

    #[test]
    fn without_any_timeout_nothing_is_told() {
        let mut headers = HeaderMap::new();
        let timeouts = RouteTimeouts::istio(None, None).resolve(false, &mut headers);
        assert_eq!((timeouts.global, timeouts.per_try), (None, None));
        assert!(headers.is_empty());
    }
}
