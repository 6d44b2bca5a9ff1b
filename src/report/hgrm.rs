//! `latency.hgrm`: the percentile text that HdrHistogram's tools plot.
//!
//! Values are milliseconds. Source: HdrHistogram 2.1, `AbstractHistogram.outputPercentileDistribution`.

use std::fmt::Write as _;

use crate::record::{Latencies, Results};

/// Steps per halving of what is left above a percentile, as in HdrHistogram's own output.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The percentiles of all answered requests; none if the results hold no readable histogram.
#[must_use]
pub fn percentiles(results: &Results) -> Option<String> {
    Latencies::from_base64(&results.latency_us.hdr_v2_base64).map(|latencies| distribution(&latencies))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are printed as milliseconds with three places")]
fn distribution(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let value_ms = step.value_iterated_to() as f64 / 1_000.0;
        let quantile = step.quantile_iterated_to();
        let count = histogram.count_between(0, step.value_iterated_to());
        write!(text, "{value_ms:>12.3} {quantile:>2.12} {count:>10}").expect("writing to memory succeeds");
        if quantile < 1.0 {
            write!(text, " {:>14.2}", 1.0 / (1.0 - quantile)).expect("writing to memory succeeds");
        }
        text.push('\n');
    }
    let (mean, deviation) = (histogram.mean() / 1_000.0, histogram.stdev() / 1_000.0);
    let max = latencies.max_us().unwrap_or(0) as f64 / 1_000.0;
    let foot = [
        format!("#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]"),
        format!("#[Max     = {max:>12.3}, Total count    = {:>12}]", latencies.count()),
        format!("#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2_048),
    ];
    text + &foot.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    #[test]
    fn the_format_is_pinned() {
        let (run, _) = LOSING.tell();
        insta::assert_snapshot!(percentiles(&run.results).unwrap());
    }

    #[test]
    fn no_latency_is_an_empty_table() {
        let text = distribution(&Latencies::default());
        assert!(text.contains("Total count    =            0"), "{text}");
    }
}
