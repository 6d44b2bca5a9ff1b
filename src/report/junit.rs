//! JUnit XML: one suite per run, one case per SLO, for CI systems that show tests.
//!
//! A missed SLO of level `warn` is a case that passes with a word in its output: JUnit knows no warning. An interrupted
//! run has one more case, which is an error.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::units;
use crate::record::Results;
use crate::record::results::{Level, Slo};

/// The cases of these runs.
///
/// # Panics
///
/// Never: a report is text and can be written to memory.
#[must_use]
pub fn suites(runs: &[&Results]) -> String {
    let mut report = Report::new("gatedrill");
    for results in runs {
        report.add_test_suite(suite(results));
    }
    report.to_string().expect("writing to memory succeeds")
}

fn suite(results: &Results) -> TestSuite {
    let scenario = super::title(results);
    let mut suite = TestSuite::new(format!("{scenario} seed {}", results.seed));
    suite.add_property(("seed", results.seed.to_string().as_str()));
    suite.add_property(("fingerprint", results.fingerprint.as_str()));
    suite.add_property(("sent", results.totals.sent.to_string().as_str()));
    suite.add_property(("dropped", results.totals.dropped.to_string().as_str()));
    suite.add_test_cases(results.slo.iter().map(|slo| {
        let mut case = case(slo, results);
        case.set_classname(scenario.clone());
        case
    }));
    if !results.complete {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("interrupted: the results are partial");
        let mut case = TestCase::new("the run is complete", status);
        case.set_classname(scenario);
        suite.add_test_case(case);
    }
    suite
}

fn case(slo: &Slo, results: &Results) -> TestCase {
    let told = told(slo);
    if !slo.ok && slo.level == Level::Error {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type("slo").set_message(told.clone()).set_description(why(results, &told));
        return TestCase::new(slo.name.as_str(), status);
    }
    let mut case = TestCase::new(slo.name.as_str(), TestCaseStatus::success());
    let warning = if slo.ok { "" } else { "warning: " };
    case.set_system_out(format!("{warning}{told}"));
    case
}

/// The expression and what was measured.
fn told(slo: &Slo) -> String {
    let value = slo.value.map_or("nothing to measure".to_owned(), |value| units::in_unit(value, &slo.unit));
    format!("{}: {value}", slo.expr)
}

fn why(results: &Results, told: &str) -> String {
    let causes = results.causes.iter().map(|cause| {
        let place = cause.source.as_ref().map(|source| format!(", {}", super::place(source))).unwrap_or_default();
        format!("\n{} requests: {} {}{place}", units::count(cause.count), cause.code, cause.name)
    });
    told.to_owned() + &causes.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{FIXED, LOSING};

    #[test]
    fn the_format_is_pinned() {
        let (losing, fixed) = (LOSING.tell().0.results, FIXED.tell().0.results);
        insta::assert_snapshot!(suites(&[&losing, &fixed]));
    }

    #[test]
    fn an_interrupted_run_is_an_error() {
        let (mut run, _) = FIXED.tell();
        run.results.complete = false;
        let read = Report::deserialize_from_str(&suites(&[&run.results])).unwrap();
        assert_eq!((read.tests, read.failures, read.errors), (4, 0, 1));
    }
}
