//! The run folder: written beside its place and moved there whole, so that a crash leaves the old one or the new one, never half.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::batch::Done;
use crate::report;

/// All that is not deterministic.
#[derive(Serialize)]
struct Meta<'a> {
    command: &'a str,
    gatedrill: &'static str,
    host: String,
    os: &'static str,
    wall_ms: u64,
    finished_at_unix_s: u64,
    polls: u64,
}

/// Writes a run's folder; returns its path.
pub(super) fn write(out_dir: &Path, name: &str, done: &Done, command: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(out_dir)?;
    let fresh = tempfile::Builder::new().prefix(".gatedrill-").tempdir_in(out_dir)?;
    for (file, text) in files(done, command) {
        fs::write(fresh.path().join(file), text)?;
    }
    // Temporary folders are private; a report is for others too.
    readable(fresh.path())?;
    let place = out_dir.join(name);
    if place.exists() {
        let old = tempfile::Builder::new().prefix(".gatedrill-old-").tempdir_in(out_dir)?;
        fs::rename(&place, old.path().join("run"))?;
        fs::rename(fresh.keep(), &place)?;
    } else {
        fs::rename(fresh.keep(), &place)?;
    }
    Ok(place)
}

#[cfg(unix)]
fn readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn readable(_: &Path) -> io::Result<()> {
    Ok(())
}

fn files(done: &Done, command: &str) -> Vec<(&'static str, String)> {
    let run = &done.outcome.run;
    let events = done.outcome.log.events();
    let options = report::html::HtmlOptions { events, scenario: Some(&done.resolved), command: Some(command) };
    vec![
        ("results.json", report::json::one(&run.results)),
        ("meta.json", meta(done, command)),
        ("events.ndjson", report::events::ndjson(events)),
        ("timeline.csv", report::csv::timeline(&run.seconds)),
        ("requests.csv", report::csv::requests(&run.requests)),
        ("latency.hgrm", report::hgrm::percentiles(&run.results).unwrap_or_default()),
        ("scenario.resolved.yaml", done.resolved.clone()),
        ("report.html", report::html::page(run, &options)),
    ]
}

fn meta(done: &Done, command: &str) -> String {
    #[expect(clippy::disallowed_types, reason = "meta.json holds all that is not deterministic")]
    let now = std::time::SystemTime::now();
    #[expect(clippy::disallowed_types, reason = "meta.json holds all that is not deterministic")]
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let meta = Meta {
        command,
        gatedrill: env!("CARGO_PKG_VERSION"),
        host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        os: std::env::consts::OS,
        wall_ms: u64::try_from(done.wall.as_millis()).unwrap_or(u64::MAX),
        finished_at_unix_s: now.duration_since(epoch).map_or(0, |since| since.as_secs()),
        polls: done.outcome.polls,
    };
    serde_json::to_string_pretty(&meta).expect("plain data") + "\n"
}

/// Writes one file whole.
pub(super) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
