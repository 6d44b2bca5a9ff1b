//! `timeline.csv`, one row per virtual second, and `requests.csv`, one row per kept request; and both read back.
//!
//! What is absent is an empty cell.

use ::csv::{Reader, Writer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::{Gauge, RequestRow, Second};

/// A row of `timeline.csv`. The order of the fields is that of the columns.
#[derive(Serialize, Deserialize)]
struct TimelineRow {
    t_s: u64,
    phase: String,
    sent: u64,
    ok: u64,
    backend_error: u64,
    dropped: u64,
    latency_p50_us: Option<u64>,
    latency_p99_us: Option<u64>,
    pods: Option<u32>,
    pods_ready: Option<u32>,
    pods_available: Option<u32>,
    pods_terminating: Option<u32>,
    lb_targets_healthy: Option<u32>,
    hpa_desired: Option<u32>,
    cpu_ratio: Option<f64>,
    connections: Option<u64>,
}

/// The text of `timeline.csv`.
#[must_use]
pub fn timeline(seconds: &[Second]) -> String {
    let row = |second: &Second| {
        let Second { t_s, phase, sent, ok, backend_error, dropped, latency_p50_us, latency_p99_us, gauge } =
            second.clone();
        let Gauge { pods, pods_ready, pods_available, pods_terminating, .. } = gauge;
        let Gauge { lb_targets_healthy, hpa_desired, cpu_ratio, connections, .. } = gauge;
        TimelineRow {
            t_s,
            phase,
            sent,
            ok,
            backend_error,
            dropped,
            latency_p50_us,
            latency_p99_us,
            pods,
            pods_ready,
            pods_available,
            pods_terminating,
            lb_targets_healthy,
            hpa_desired,
            cpu_ratio,
            connections,
        }
    };
    write(seconds.iter().map(row))
}

/// Reads what [`timeline`] wrote.
///
/// # Errors
///
/// If the text is not such a table; the message has the line.
pub fn read_timeline(text: &str) -> Result<Vec<Second>, ::csv::Error> {
    let second = |row: TimelineRow| Second {
        t_s: row.t_s,
        phase: row.phase,
        sent: row.sent,
        ok: row.ok,
        backend_error: row.backend_error,
        dropped: row.dropped,
        latency_p50_us: row.latency_p50_us,
        latency_p99_us: row.latency_p99_us,
        gauge: Gauge {
            pods: row.pods,
            pods_ready: row.pods_ready,
            pods_available: row.pods_available,
            pods_terminating: row.pods_terminating,
            lb_targets_healthy: row.lb_targets_healthy,
            hpa_desired: row.hpa_desired,
            cpu_ratio: row.cpu_ratio,
            connections: row.connections,
        },
    };
    Ok(read(text)?.into_iter().map(second).collect())
}

/// The text of `requests.csv`.
#[must_use]
pub fn requests(rows: &[RequestRow]) -> String {
    write(rows.iter())
}

/// Reads what [`requests`] wrote.
///
/// # Errors
///
/// If the text is not such a table; the message has the line.
pub fn read_requests(text: &str) -> Result<Vec<RequestRow>, ::csv::Error> {
    read(text)
}

fn write<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    let mut writer = Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a flat row can be written to memory");
    }
    let bytes = writer.into_inner().expect("writing to memory succeeds");
    String::from_utf8(bytes).expect("the cells are text")
}

fn read<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, ::csv::Error> {
    Reader::from_reader(text.as_bytes()).deserialize().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    #[test]
    fn tables_survive_the_file() {
        let (run, _) = LOSING.tell();
        assert_eq!(read_timeline(&timeline(&run.seconds)).unwrap(), run.seconds);
        assert_eq!(read_requests(&requests(&run.requests)).unwrap(), run.requests);
    }

    #[test]
    fn the_columns_are_pinned() {
        let (run, _) = LOSING.tell();
        let head = |text: String| text.lines().take(4).collect::<Vec<_>>().join("\n");
        let lost: Vec<_> = run.requests.iter().filter(|row| row.cause.is_some()).cloned().collect();
        insta::assert_snapshot!(format!("{}\n\n{}", head(timeline(&run.seconds)), head(requests(&lost))));
    }

    #[test]
    fn cells_are_quoted_as_needed() {
        let (run, _) = LOSING.tell();
        let mut row = run.requests[0].clone();
        row.url = "http://a/?q=\"x\",y\n".into();
        assert_eq!(read_requests(&requests(std::slice::from_ref(&row))).unwrap(), [row]);
    }
}
