//! The access log: each worker formats its own lines, and one thread writes them, so that a slow reader of standard output holds up no request.
//!
//! Lines leave a worker when it has a buffer full, and each second, as Envoy's do. While the reader is slow they wait, up to a limit; what is
//! beyond it is left out and counted.
//!
//! Source: envoy source/common/access_log/access_log_manager_impl.cc (buffer of 64 KiB, flush interval 1 s in Istio).

mod line;

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::clock::Clock;
use crate::gateway::{AccessRecord, Host, Observer};

pub use line::{json, text};

/// A worker's lines leave it when there are so many bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// While nobody reads, a worker keeps so many bytes.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Buffers between the workers and the thread that writes.
const WAITING_MAX: usize = 64;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How a request is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object on a line.
    Json,
}

/// The way from the workers to the thread that writes.
#[derive(Clone)]
pub(super) struct LogSender {
    format: LogFormat,
    buffers: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// Where a thread reads what it writes.
pub(super) struct LogReader(Receiver<Vec<u8>>);

/// Both ends of the way, and the count of the lines that were left out.
pub(super) fn channel(format: LogFormat) -> (LogSender, LogReader, Arc<AtomicU64>) {
    let (buffers, reader) = sync_channel(WAITING_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    (LogSender { format, buffers, lost: Arc::clone(&lost) }, LogReader(reader), lost)
}

impl LogReader {
    /// Writes until all senders are gone, or the reader of standard output is.
    pub(super) fn write_all(self) {
        for buffer in self.0 {
            let mut output = std::io::stdout().lock();
            if output.write_all(&buffer).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    }
}

/// The log of one worker.
pub(super) struct WorkerLog {
    sender: LogSender,
    clock: Clock,
    buffer: RefCell<Vec<u8>>,
}

impl WorkerLog {
    pub(super) fn new(sender: LogSender, clock: Clock) -> Self {
        Self { sender, clock, buffer: RefCell::default() }
    }

    /// Sends what there is, unless too much is waiting already.
    pub(super) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        match self.sender.buffers.try_send(std::mem::take(&mut *buffer)) {
            // Nobody reads any more: there is nobody to tell.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(kept)) => *buffer = kept,
        }
    }

    pub(super) async fn flush_each_second(&self, host: impl Host) {
        loop {
            host.sleep_until(host.now().after(FLUSH_INTERVAL)).await;
            self.flush();
        }
    }
}

impl Observer for WorkerLog {
    fn finished(&self, record: &AccessRecord) {
        let length = {
            let mut buffer = self.buffer.borrow_mut();
            if buffer.len() >= KEPT_BYTES_MAX {
                self.sender.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let started = self.clock.since_epoch(record.started_at);
            match self.sender.format {
                LogFormat::Text => text(record, started, &mut buffer),
                LogFormat::Json => json(record, started, &mut buffer),
            }
            buffer.len()
        };
        if length >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn wants_headers(&self) -> bool {
        true
    }
}
