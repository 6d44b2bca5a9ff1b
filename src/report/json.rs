//! `results.json`: pretty, with sorted keys, so that two runs compare with `cmp`.

use serde::Serialize;

use crate::record::Results;

/// One run: an object.
#[must_use]
pub fn one(results: &Results) -> String {
    sorted(results)
}

/// Several runs: an array, in the order given.
#[must_use]
pub fn many(results: &[&Results]) -> String {
    sorted(&results)
}

/// Reads what [`one`] wrote. Keys a later minor version added are passed over.
///
/// # Errors
///
/// If the text is not the results of a run; the message has the line and the column.
pub fn read(text: &str) -> Result<Results, serde_json::Error> {
    serde_json::from_str(text)
}

/// Through a [`serde_json::Value`], whose maps are sorted by key.
pub(crate) fn sorted(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("results are plain data with text keys");
    let mut text = serde_json::to_string_pretty(&value).expect("a JSON value can be written to memory");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    #[test]
    fn results_survive_the_file() {
        let (run, _) = LOSING.tell();
        assert_eq!(read(&one(&run.results)).unwrap(), run.results);
    }

    #[test]
    fn keys_are_sorted() {
        let (run, _) = LOSING.tell();
        let text = one(&run.results);
        let keys: Vec<_> = text.lines().filter(|line| line.starts_with("  \"")).collect();
        assert!(keys.is_sorted() && keys.len() > 15, "{keys:?}");
    }

    #[test]
    fn the_format_is_pinned() {
        let (mut run, _) = LOSING.tell();
        // The histograms are pinned by their figures; as text they would only fill the page.
        run.results.latency_us.hdr_v2_base64 = "…".into();
        run.results.phases.iter_mut().for_each(|phase| phase.latency_us.hdr_v2_base64 = "…".into());
        run.results.loads.iter_mut().for_each(|load| load.latency_us.hdr_v2_base64 = "…".into());
        insta::assert_snapshot!(one(&run.results));
    }
}
