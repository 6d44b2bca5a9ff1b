//! Outlier detection: hosts that fail are taken out of rotation for a time.
//!
//! ```text
//! in rotation ─ so many failures in a row, or too large a share of them ─→ ejected ─ base · n is over at a sweep ─→ in rotation
//! ```
//!
//! - Counted per host and gateway process: consecutive 5xx; consecutive 502, 503 and 504. A failure to connect or a reset counts as 503, a
//!   time-out as 504; with split errors these count apart, as local ones. Anything else resets the counters.
//! - A host is ejected when a counter equals its threshold; then the counter starts again. Whether it really is, is drawn by the enforcing
//!   percentage, and no more hosts are ejected than `max_ejection_percent`.
//! - A sweep every `interval`, counted from the start, returns a host whose time is over: min(base · n, max) + jitter, where n goes up
//!   by one with each ejection and down by one with each sweep that finds the host in rotation.
//! - At a sweep a host is ejected too if its share of successes in the last interval lies more than a number of standard deviations
//!   below the mean, or its share of failures above a percentage. Istio turns both off.
//!
//! Sources: envoy source/common/upstream/outlier_detection_impl.cc (1.40: `always_eject_one_host` is a switch); istio
//! pilot/pkg/networking/core/cluster_traffic_policy.go.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::SimTime;

/// The settings of outlier detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutlierConfig {
    /// Between two sweeps.
    pub interval: Duration,
    /// A first ejection lasts so long, at least.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer, but for the jitter. Unset: 300 s, or the base if that is longer.
    pub max_ejection_time: Option<Duration>,
    /// Up to so much is added to an ejection's time.
    pub max_ejection_time_jitter: Duration,
    /// Of the cluster's hosts, at most this share is ejected.
    pub max_ejection_percent: u32,
    /// The first host is ejected whatever the share.
    pub always_eject_one_host: bool,
    /// 5xx in a row. 0: never.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 in a row. 0: never.
    pub consecutive_gateway_failure: u32,
    /// Local failures in a row, where they are counted apart. 0: never.
    pub consecutive_local_origin_failure: u32,
    /// Whether failures to connect, resets and time-outs count apart.
    pub split_external_local_origin_errors: bool,
    /// How often a detected host is ejected, percent.
    pub enforcing: Enforcing,
    /// The share of successes against that of other hosts.
    pub success_rate: SuccessRate,
    /// The share of failures against a percentage.
    pub failure_percentage: FailurePercentage,
}

/// How often a host that was detected is ejected: percent, by what it was detected by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enforcing {
    /// By 5xx in a row.
    pub consecutive_5xx: u32,
    /// By 502, 503, 504 in a row.
    pub consecutive_gateway_failure: u32,
    /// By local failures in a row.
    pub consecutive_local_origin_failure: u32,
    /// By the share of successes.
    pub success_rate: u32,
    /// By that of local successes.
    pub local_origin_success_rate: u32,
    /// By the share of failures.
    pub failure_percentage: u32,
    /// By that of local failures.
    pub failure_percentage_local_origin: u32,
}

/// When a host's share of successes is an outlier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SuccessRate {
    /// So many hosts have had enough requests.
    pub minimum_hosts: usize,
    /// Enough requests in an interval.
    pub request_volume: u64,
    /// Thousandths of a standard deviation below the mean.
    pub stdev_factor: u32,
}

/// When a host's share of failures is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailurePercentage {
    /// Failures, percent of requests; this and more.
    pub threshold: u64,
    /// So many hosts have had enough requests.
    pub minimum_hosts: usize,
    /// Enough requests in an interval.
    pub request_volume: u64,
}

impl OutlierConfig {
    /// Envoy's defaults.
    pub const ENVOY: Self = Self {
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: None,
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 10,
        always_eject_one_host: false,
        consecutive_5xx: 5,
        consecutive_gateway_failure: 5,
        consecutive_local_origin_failure: 5,
        split_external_local_origin_errors: false,
        enforcing: Enforcing {
            consecutive_5xx: 100,
            consecutive_gateway_failure: 0,
            consecutive_local_origin_failure: 100,
            success_rate: 100,
            local_origin_success_rate: 100,
            failure_percentage: 0,
            failure_percentage_local_origin: 0,
        },
        success_rate: SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 },
        failure_percentage: FailurePercentage { threshold: 85, minimum_hosts: 5, request_volume: 50 },
    };

    /// What Istio makes of an `outlierDetection` that says nothing else: shares are not looked at.
    pub const ISTIO: Self = Self {
        enforcing: Enforcing { success_rate: 0, local_origin_success_rate: 0, ..Self::ENVOY.enforcing },
        ..Self::ENVOY
    };

    /// No ejection lasts longer than this.
    #[must_use]
    pub fn longest_ejection(&self) -> Duration {
        self.max_ejection_time.unwrap_or_else(|| self.base_ejection_time.max(Duration::from_secs(300)))
    }

    /// Why Envoy refuses it, if it does.
    ///
    /// # Errors
    ///
    /// If the longest ejection is shorter than the first one.
    pub fn check(&self) -> Result<(), OutlierConfigError> {
        match self.max_ejection_time {
            Some(max) if max < self.base_ejection_time => {
                Err(OutlierConfigError { base: self.base_ejection_time, max })
            }
            _ => Ok(()),
        }
    }

    fn enforcing(&self, detection: Detection) -> u32 {
        match detection {
            Detection::Consecutive5xx => self.enforcing.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => self.enforcing.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => self.enforcing.consecutive_local_origin_failure,
            Detection::SuccessRate => self.enforcing.success_rate,
            Detection::SuccessRateLocalOrigin => self.enforcing.local_origin_success_rate,
            Detection::FailurePercentage => self.enforcing.failure_percentage,
            Detection::FailurePercentageLocalOrigin => self.enforcing.failure_percentage_local_origin,
        }
    }
}

/// Settings that Envoy refuses.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
#[error("the longest ejection of {max:?} is shorter than the base of {base:?}")]
pub struct OutlierConfigError {
    base: Duration,
    max: Duration,
}

/// What a host was detected by. Names are those of Envoy's event log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Detection {
    /// 5xx in a row.
    Consecutive5xx,
    /// 502, 503, 504 in a row.
    ConsecutiveGatewayFailure,
    /// Local failures in a row.
    ConsecutiveLocalOriginFailure,
    /// Its share of successes.
    SuccessRate,
    /// Its share of local successes.
    SuccessRateLocalOrigin,
    /// Its share of failures.
    FailurePercentage,
    /// Its share of local failures.
    FailurePercentageLocalOrigin,
}

impl Detection {
    /// Envoy's name for it. Source: envoy api envoy/data/cluster/v3/outlier_detection_event.proto.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::SuccessRateLocalOrigin => "success_rate_local_origin",
            Self::FailurePercentage => "failure_percentage",
            Self::FailurePercentageLocalOrigin => "failure_percentage_local_origin",
        }
    }
}

/// What became of a request at a host, or of a connection to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// A connection was there. With split errors a success; otherwise the answer will tell.
    Connected,
    /// No connection came about, or it broke before an answer.
    ConnectFailed,
    /// No answer in time.
    TimedOut,
}

/// Something that became of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ejection {
    /// It is out of rotation.
    Ejected(HostId, Detection),
    /// It is back.
    Returned(HostId),
}

/// A host of a detector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(u64);

/// The outlier detection of one cluster.
#[derive(Clone, Debug)]
pub struct Detector {
    config: OutlierConfig,
    hosts: BTreeMap<HostId, Monitor>,
    id_next: u64,
    ejected_count: u64,
    sweep_at: SimTime,
}

#[derive(Clone, Default, Debug)]
struct Monitor {
    consecutive_5xx: u32,
    consecutive_gateway_failure: u32,
    consecutive_local_origin_failure: u32,
    external: Shares,
    local: Shares,
    ejected: Option<Ejected>,
    /// The next ejection lasts so many times the base, and one more.
    multiplier: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    at: SimTime,
    jitter: Duration,
}

/// Requests of this interval and of the last one.
#[derive(Clone, Copy, Default, Debug)]
struct Shares {
    current: Share,
    last: Share,
}

#[derive(Clone, Copy, Default, Debug)]
struct Share {
    total: u64,
    successes: u64,
}

impl Detector {
    /// A detector without hosts; sweeps are counted from `now`.
    #[must_use]
    pub fn new(config: OutlierConfig, now: SimTime) -> Self {
        let sweep_at = now.after(config.interval);
        Self { config, hosts: BTreeMap::new(), id_next: 0, ejected_count: 0, sweep_at }
    }

    /// Takes in a host.
    pub fn add(&mut self) -> HostId {
        let id = HostId(self.id_next);
        self.id_next += 1;
        self.hosts.insert(id, Monitor::default());
        id
    }

    /// Forgets a host.
    pub fn remove(&mut self, host: HostId) {
        let monitor = self.hosts.remove(&host);
        self.ejected_count -= u64::from(monitor.is_some_and(|monitor| monitor.ejected.is_some()));
    }

    /// Whether a host is out of rotation.
    #[must_use]
    pub fn is_ejected(&self, host: HostId) -> bool {
        self.hosts.get(&host).is_some_and(|monitor| monitor.ejected.is_some())
    }

    /// Whether any host is out of rotation.
    #[must_use]
    pub fn has_ejected(&self) -> bool {
        self.ejected_count > 0
    }

    /// When the next sweep is due, if any host waits for it.
    #[must_use]
    pub fn next_sweep(&self) -> Option<SimTime> {
        (self.ejected_count > 0 || self.looks_at_shares()).then_some(self.sweep_at)
    }

    /// Notes what became of a request at a host; tells if the host is ejected for it. `draw` gives a number uniform below its
    /// argument.
    pub fn report(
        &mut self,
        host: HostId,
        outcome: Outcome,
        now: SimTime,
        mut draw: impl FnMut(u64) -> u64,
    ) -> Option<Ejection> {
        let config = self.config;
        let monitor = self.hosts.get_mut(&host)?;
        let is_split = config.split_external_local_origin_errors;
        let detected = match outcome {
            Outcome::Status(status) => monitor.note_status(status, &config),
            Outcome::Connected if is_split => monitor.note_local(true, &config),
            Outcome::Connected => return None,
            Outcome::ConnectFailed | Outcome::TimedOut if is_split => monitor.note_local(false, &config),
            Outcome::ConnectFailed => monitor.note_status(503, &config),
            Outcome::TimedOut => monitor.note_status(504, &config),
        };
        detected.into_iter().flatten().find_map(|detection| self.detected(host, detection, now, &mut draw))
    }

    /// Makes all sweeps that are due; tells whom they return and eject.
    pub fn sweep(&mut self, now: SimTime, mut draw: impl FnMut(u64) -> u64) -> Vec<Ejection> {
        let mut told = Vec::new();
        while self.sweep_at <= now {
            let at = self.sweep_at;
            self.sweep_once(at, &mut draw, &mut told);
            self.sweep_at = at.after(self.config.interval);
            if self.sweep_at == at {
                break;
            }
        }
        told
    }

    /// One sweep, whenever it is due.
    pub fn sweep_once(&mut self, at: SimTime, mut draw: impl FnMut(u64) -> u64, told: &mut Vec<Ejection>) {
        for (id, monitor) in &mut self.hosts {
            match monitor.ejected {
                None => monitor.multiplier = monitor.multiplier.saturating_sub(1),
                Some(ejected) => {
                    let span = self.config.base_ejection_time.saturating_mul(monitor.multiplier);
                    let span = span.min(self.config.longest_ejection()) + ejected.jitter;
                    if at.since(ejected.at) >= span {
                        monitor.ejected = None;
                        monitor.reset();
                        self.ejected_count -= 1;
                        told.push(Ejection::Returned(*id));
                    }
                }
            }
            for shares in [&mut monitor.external, &mut monitor.local] {
                shares.last = std::mem::take(&mut shares.current);
            }
        }
        for is_local in [false, true] {
            if !is_local || self.config.split_external_local_origin_errors {
                for (host, detection) in self.outlying_shares(is_local) {
                    told.extend(self.eject(host, detection, at, &mut draw));
                }
            }
        }
    }

    /// Whether sweeps may eject.
    fn looks_at_shares(&self) -> bool {
        let enforcing = &self.config.enforcing;
        let shares = [
            enforcing.success_rate,
            enforcing.local_origin_success_rate,
            enforcing.failure_percentage,
            enforcing.failure_percentage_local_origin,
        ];
        shares.iter().any(|percent| *percent > 0)
    }

    fn detected(
        &mut self,
        host: HostId,
        detection: Detection,
        now: SimTime,
        draw: impl FnMut(u64) -> u64,
    ) -> Option<Ejection> {
        // While a host is ejected its counters run on; they start again when it is back.
        if self.is_ejected(host) {
            return None;
        }
        let ejected = self.eject(host, detection, now, draw);
        if let Some(monitor) = self.hosts.get_mut(&host) {
            match detection {
                Detection::Consecutive5xx => monitor.consecutive_5xx = 0,
                Detection::ConsecutiveGatewayFailure => monitor.consecutive_gateway_failure = 0,
                Detection::ConsecutiveLocalOriginFailure => monitor.consecutive_local_origin_failure = 0,
                Detection::SuccessRate
                | Detection::SuccessRateLocalOrigin
                | Detection::FailurePercentage
                | Detection::FailurePercentageLocalOrigin => {}
            }
        }
        ejected
    }

    fn eject(
        &mut self,
        host: HostId,
        detection: Detection,
        now: SimTime,
        mut draw: impl FnMut(u64) -> u64,
    ) -> Option<Ejection> {
        let hosts = u64::try_from(self.hosts.len()).expect("a number of hosts");
        let monitor = self.hosts.get_mut(&host).filter(|monitor| monitor.ejected.is_none())?;
        let is_within_cap =
            100 * (self.ejected_count + 1) <= u64::from(self.config.max_ejection_percent.min(100)) * hosts;
        let is_first = self.config.always_eject_one_host && self.ejected_count == 0;
        let percent = u64::from(self.config.enforcing(detection));
        let is_enforced = percent >= 100 || (percent > 0 && draw(100) < percent);
        if !(is_within_cap || is_first) || !is_enforced {
            return None;
        }
        // Envoy draws whole milliseconds.
        let jitter_ms = u64::try_from(self.config.max_ejection_time_jitter.as_millis()).unwrap_or(u64::MAX - 1);
        let jitter = Duration::from_millis(if jitter_ms == 0 { 0 } else { draw(jitter_ms + 1) });
        monitor.ejected = Some(Ejected { at: now, jitter });
        let (base, longest) = (self.config.base_ejection_time, self.config.longest_ejection());
        if base.saturating_mul(monitor.multiplier) < longest.saturating_add(base) {
            monitor.multiplier += 1;
        }
        self.ejected_count += 1;
        Some(Ejection::Ejected(host, detection))
    }

    /// The hosts whose share of successes or failures in the last interval is an outlier.
    fn outlying_shares(&self, is_local: bool) -> Vec<(HostId, Detection)> {
        let (success_rate, failures) = (&self.config.success_rate, &self.config.failure_percentage);
        let in_rotation = self.hosts.iter().filter(|(_, monitor)| monitor.ejected.is_none());
        let shares =
            in_rotation.map(|(id, monitor)| (*id, if is_local { monitor.local } else { monitor.external }.last));
        let shares: Vec<(HostId, Share)> = shares.filter(|(_, share)| share.total > 0).collect();
        let with_volume = |volume, minimum_hosts| {
            let busy: Vec<(HostId, Share)> =
                shares.iter().filter(|(_, share)| share.total >= volume).copied().collect();
            if busy.len() >= minimum_hosts { busy } else { Vec::new() }
        };
        let mut outliers = Vec::new();
        let busy = with_volume(success_rate.request_volume, success_rate.minimum_hosts);
        let threshold = least_success_percent(&busy, success_rate.stdev_factor);
        let by_rate = if is_local { Detection::SuccessRateLocalOrigin } else { Detection::SuccessRate };
        let below = busy.iter().filter(|(_, share)| share.success_percent() < threshold);
        outliers.extend(below.map(|(id, _)| (*id, by_rate)));
        let busy = with_volume(failures.request_volume, failures.minimum_hosts);
        let by_failures = if is_local { Detection::FailurePercentageLocalOrigin } else { Detection::FailurePercentage };
        let failing =
            busy.iter().filter(|(_, share)| 100 * (share.total - share.successes) >= failures.threshold * share.total);
        outliers.extend(failing.map(|(id, _)| (*id, by_failures)));
        outliers
    }
}

/// The mean share of successes, less so many thousandths of its standard deviation.
fn least_success_percent(shares: &[(HostId, Share)], stdev_factor: u32) -> f64 {
    let count = f64::from(u32::try_from(shares.len()).unwrap_or(u32::MAX)).max(1.0);
    let mean = shares.iter().map(|(_, share)| share.success_percent()).sum::<f64>() / count;
    let variance = shares.iter().map(|(_, share)| (share.success_percent() - mean).powi(2)).sum::<f64>() / count;
    mean - f64::from(stdev_factor) / 1000.0 * libm::sqrt(variance)
}

impl Share {
    #[expect(clippy::cast_precision_loss, reason = "requests of one interval lie far below 2⁵³")]
    fn success_percent(self) -> f64 {
        100.0 * self.successes as f64 / self.total as f64
    }

    fn note(&mut self, is_success: bool) {
        self.total += 1;
        self.successes += u64::from(is_success);
    }
}

impl Monitor {
    /// One failure can bring both counters to their thresholds; that of gateway failures is looked at first.
    fn note_status(&mut self, status: u16, config: &OutlierConfig) -> [Option<Detection>; 2] {
        let is_5xx = (500..600).contains(&status);
        self.external.current.note(!is_5xx);
        let is_gateway_failure = (502..=504).contains(&status);
        self.consecutive_gateway_failure = if is_gateway_failure { self.consecutive_gateway_failure + 1 } else { 0 };
        self.consecutive_5xx = if is_5xx { self.consecutive_5xx + 1 } else { 0 };
        let gateway = is_gateway_failure && self.consecutive_gateway_failure == config.consecutive_gateway_failure;
        let any = is_5xx && self.consecutive_5xx == config.consecutive_5xx;
        [gateway.then_some(Detection::ConsecutiveGatewayFailure), any.then_some(Detection::Consecutive5xx)]
    }

    fn note_local(&mut self, is_success: bool, config: &OutlierConfig) -> [Option<Detection>; 2] {
        self.local.current.note(is_success);
        self.consecutive_local_origin_failure = if is_success { 0 } else { self.consecutive_local_origin_failure + 1 };
        let any = !is_success && self.consecutive_local_origin_failure == config.consecutive_local_origin_failure;
        [any.then_some(Detection::ConsecutiveLocalOriginFailure), None]
    }

    fn reset(&mut self) {
        self.consecutive_5xx = 0;
        self.consecutive_gateway_failure = 0;
        self.consecutive_local_origin_failure = 0;
    }
}

#[cfg(test)]
mod tests;
