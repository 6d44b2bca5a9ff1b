//! Counts and latencies of a set of requests. Two tallies add up to that of the union, exactly.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use super::results::{LatencyUs, Totals};
use super::{CauseCode, Outcome};

/// Counts and latencies of a set of requests.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Requests that were due.
    pub sent: u64,
    /// Requests ended, by position in [`Outcome::ALL`].
    outcomes: [u64; Outcome::COUNT],
    /// Dropped requests by cause.
    pub causes: BTreeMap<CauseCode, u64>,
    /// Attempts after the first, by clients.
    pub retries: u64,
    /// Connections clients opened.
    pub connections_opened: u64,
    /// Of those, the ones that ended with a reset.
    pub connections_reset: u64,
    /// Latency of the answered requests (`ok` and `backend_error`).
    pub latencies: Latencies,
}

impl Tally {
    /// Requests with that outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()]
    }

    /// Requests that ended, in whatever way.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests the infrastructure lost.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| outcome.is_dropped()).map(|outcome| self.count(outcome)).sum()
    }

    /// Lost requests per request sent, 0 to 1; none if nothing was sent.
    #[must_use]
    pub fn dropped_ratio(&self) -> Option<f64> {
        ratio(self.dropped(), self.sent)
    }

    /// Answers with a 5xx, of the backend or of the gateway, per request sent; none if nothing was sent.
    #[must_use]
    pub fn error_ratio(&self) -> Option<f64> {
        ratio(self.count(Outcome::BackendError) + self.count(Outcome::GatewayError), self.sent)
    }

    /// Adds the requests of another tally.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
        for (&cause, count) in &other.causes {
            *self.causes.entry(cause).or_default() += count;
        }
        self.retries += other.retries;
        self.connections_opened += other.connections_opened;
        self.connections_reset += other.connections_reset;
        self.latencies.add(&other.latencies);
    }

    /// Counts an ended request; `answered_after_us` is its latency if it was answered.
    pub(super) fn end(
        &mut self,
        outcome: Outcome,
        cause: Option<CauseCode>,
        retries: u32,
        answered_after_us: Option<u64>,
    ) {
        self.outcomes[outcome.index()] += 1;
        self.retries += u64::from(retries);
        if let Some(cause) = cause {
            *self.causes.entry(cause).or_default() += 1;
        }
        if let Some(latency_us) = answered_after_us {
            self.latencies.record(latency_us);
        }
    }

    /// The counts as they appear in results.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            sent: self.sent,
            ok: self.count(Outcome::Ok),
            backend_error: self.count(Outcome::BackendError),
            gateway_error: self.count(Outcome::GatewayError),
            refused: self.count(Outcome::Refused),
            reset: self.count(Outcome::Reset),
            closed: self.count(Outcome::Closed),
            truncated: self.count(Outcome::Truncated),
            connect_timeout: self.count(Outcome::ConnectTimeout),
            request_timeout: self.count(Outcome::RequestTimeout),
            tls_failed: self.count(Outcome::TlsFailed),
            dropped: self.dropped(),
            dropped_ratio: self.dropped_ratio(),
            error_ratio: self.error_ratio(),
            retries: self.retries,
            connections_opened: self.connections_opened,
            connections_reset: self.connections_reset,
        }
    }
}

/// `part` of `whole`, 0 to 1; none if there is no whole.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people; counts stay far below 2^53")]
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Latency of answered requests.
///
/// Unit: microseconds, from the intended send time. Precision: three significant digits.
/// Source: HdrHistogram, the standard for latency that must not lose its tail.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three significant digits are allowed"))
    }
}

impl Latencies {
    /// Counts one latency; 0 counts as 1 µs.
    ///
    /// # Panics
    ///
    /// Never: the histogram grows as needed.
    pub fn record(&mut self, latency_us: u64) {
        self.0.record(latency_us.max(1)).expect("the histogram grows as needed");
    }

    /// Adds another set.
    ///
    /// # Panics
    ///
    /// Never: the histogram grows as needed.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows as needed");
    }

    /// Number of latencies.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency at a quantile (0 to 1), in microseconds; none if there is none.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile))
    }

    /// The longest, in microseconds; none if there is none.
    #[must_use]
    pub fn max_us(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }

    /// The histogram itself.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The figures as they appear in results, with the whole histogram.
    ///
    /// # Panics
    ///
    /// Never: a histogram in memory can always be written to memory.
    #[must_use]
    pub fn figures(&self) -> LatencyUs {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).expect("writing to memory succeeds");
        LatencyUs {
            p50: self.quantile_us(0.50),
            p90: self.quantile_us(0.90),
            p99: self.quantile_us(0.99),
            p99_9: self.quantile_us(0.999),
            max: self.max_us(),
            mean: (self.count() > 0).then(|| (self.0.mean() * 10.0).round() / 10.0),
            count: self.count(),
            hdr_v2_base64: STANDARD.encode(bytes),
        }
    }

    /// The set written by [`Latencies::figures`]; none if the text is not one.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let mut histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        histogram.auto(true);
        Some(Self(histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_file() {
        let mut latencies = Latencies::default();
        for latency_us in [0, 900, 12_345, 5_000_000] {
            latencies.record(latency_us);
        }
        let read = Latencies::from_base64(&latencies.figures().hdr_v2_base64).unwrap();
        assert_eq!(read.count(), 4);
        assert_eq!(read.quantile_us(0.5), latencies.quantile_us(0.5));
        assert!(Latencies::from_base64("not one").is_none());
    }

    #[test]
    fn nothing_sent_has_no_ratio() {
        assert_eq!(Tally::default().dropped_ratio(), None);
        assert_eq!(Tally::default().latencies.quantile_us(0.99), None);
    }
}
