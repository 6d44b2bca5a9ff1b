//! What the terminal can do, and what the user asked of it.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use super::args::Color;
use crate::report::text::Paint;

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether to colour a stream. Sources: no-color.org; bixense.com/clicolors.
fn is_coloured(color: Color, is_terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if variable("NO_COLOR").is_some() => false,
        Color::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        Color::Auto => is_terminal && variable("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// How to write to standard output.
pub(super) fn paint_of_stdout(color: Color) -> Paint {
    if is_coloured(color, std::io::stdout().is_terminal()) { Paint::Ansi } else { Paint::Plain }
}

/// Whether to colour standard error.
pub(super) fn colours_stderr(color: Color) -> bool {
    is_coloured(color, std::io::stderr().is_terminal())
}

/// Writes to standard output. A reader that has gone away is not worth a word.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes to standard error.
pub(super) fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes an error without a place to standard error.
pub(super) fn complain(text: &str) {
    tell(&format!("error: {text}\n"));
}
