//! One row per virtual second.
//!
//! A row counts the requests that were *due* in its second, so that its books balance like those of the whole run. Its
//! histogram lives until the last of them has ended; then only the percentiles stay.

use std::collections::BTreeMap;

use super::tally::Latencies;

/// One virtual second of the run: one row of `timeline.csv`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Second {
    /// The second, on the clock of the run.
    pub t_s: u64,
    /// The phase it began in.
    pub phase: String,
    /// Requests due in it.
    pub sent: u64,
    /// Of those: answered well.
    pub ok: u64,
    /// Of those: answered with the backend's 5xx.
    pub backend_error: u64,
    /// Of those: lost.
    pub dropped: u64,
    /// Median latency of the answered, in microseconds.
    pub latency_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub latency_p99_us: Option<u64>,
    /// What else was so at the end of the second.
    pub gauge: Gauge,
}

/// What is read off the world once a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Gauge {
    /// Gateway pods that exist.
    pub pods: Option<u32>,
    /// Of those: ready.
    pub pods_ready: Option<u32>,
    /// Of those: ready for as long as `minReadySeconds` asks.
    pub pods_available: Option<u32>,
    /// Of those: being deleted.
    pub pods_terminating: Option<u32>,
    /// Targets the load balancer sends new connections to.
    pub lb_targets_healthy: Option<u32>,
    /// Replicas the autoscaler wants.
    pub hpa_desired: Option<u32>,
    /// CPU used of the gateway pods' limit, 0 to 1.
    pub cpu_ratio: Option<f64>,
    /// Open client connections.
    pub connections: Option<u64>,
}

/// The rows of a run that is under way.
#[derive(Debug)]
pub(super) struct Series {
    first_s: u64,
    rows: Vec<Second>,
    /// Latencies of the rows that still have requests under way, by index.
    open: BTreeMap<usize, Latencies>,
}

impl Series {
    /// Rows from `first_s` on, `count` of them.
    pub(super) fn new(first_s: u64, count: usize) -> Self {
        let rows = (first_s..).take(count).map(|t_s| Second { t_s, ..Second::default() }).collect();
        Self { first_s, rows, open: BTreeMap::new() }
    }

    /// The rows so far; a row's percentiles appear once its last request has ended.
    pub(super) fn rows(&self) -> &[Second] {
        &self.rows
    }

    /// Index of the row of second `t_s`, if it is measured.
    pub(super) fn index(&self, t_s: u64) -> Option<usize> {
        let index = usize::try_from(t_s.checked_sub(self.first_s)?).ok()?;
        (index < self.rows.len()).then_some(index)
    }

    /// The row at an index that [`Series::index`] gave.
    pub(super) fn row(&mut self, index: usize) -> &mut Second {
        &mut self.rows[index]
    }

    /// Counts the latency of a request due in that row.
    pub(super) fn answered(&mut self, index: usize, latency_us: u64) {
        self.open.entry(index).or_default().record(latency_us);
    }

    /// Gives up the histograms of rows before `now_s` whose requests have all ended.
    pub(super) fn settle(&mut self, now_s: u64) {
        let rows = &mut self.rows;
        self.open.retain(|&index, latencies| {
            let row = &mut rows[index];
            let is_settled = row.t_s < now_s && row.sent == row.ok + row.backend_error + row.dropped;
            if is_settled {
                close(row, latencies);
            }
            !is_settled
        });
    }

    /// The finished rows, each with the phase it began in.
    pub(super) fn finish(mut self, mut phase_at: impl FnMut(u64) -> String) -> Vec<Second> {
        for (index, latencies) in std::mem::take(&mut self.open) {
            close(&mut self.rows[index], &latencies);
        }
        for row in &mut self.rows {
            row.phase = phase_at(row.t_s);
        }
        self.rows
    }
}

fn close(row: &mut Second, latencies: &Latencies) {
    row.latency_p50_us = latencies.quantile_us(0.50);
    row.latency_p99_us = latencies.quantile_us(0.99);
}
