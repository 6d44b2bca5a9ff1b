//! The page as a whole.

use super::*;
use crate::report::sample::{FIXED, LOSING};

#[test]
fn write_pages() {
    let (run, log) = LOSING.tell();
    let options = HtmlOptions { events: log.events(), scenario: Some("a: 1\n"), command: Some("gatedrill run x") };
    std::fs::write("/tmp/page.html", page(&run, &options)).unwrap();
    let (run, log) = FIXED.tell();
    std::fs::write("/tmp/fixed.html", page(&run, &HtmlOptions { events: log.events(), ..options })).unwrap();
}
