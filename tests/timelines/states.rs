//! Timelines cut into settled states, and their comparison.
//!
//! A burst is rows less than 0.15 s apart. Its last row is the settled state, its first row's time the state's. Rows within a burst depend on the
//! order of watch events within milliseconds and are not compared.

use serde_json::{Map, Value};

/// Rows further apart than this, in milliseconds, belong to different bursts.
const GAP_MS: i64 = 150;
/// How far the time of a state may be off, in milliseconds, and how much more for every state before it.
const TOLERANCE_MS: (i64, i64) = (150, 30);

/// One row: the time in milliseconds since the trigger, and all that is shown.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at_ms: i64,
    pub(crate) shown: Value,
}

/// The recorded rows, reduced to these keys.
pub(crate) fn recorded(timeline: &Value, keys: &[&str]) -> Vec<Row> {
    let rows = timeline.as_array().expect("a timeline");
    rows.iter().map(|row| Row { at_ms: millis(&row["t"]), shown: only(row, keys) }).collect()
}

/// A number of seconds as whole milliseconds.
pub(crate) fn millis(seconds: &Value) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a recording lasts some minutes")]
    let ms = (seconds.as_f64().expect("a number of seconds") * 1000.0).round() as i64;
    ms
}

/// These keys of an object, and keys that begin with one of them and a colon.
fn only(row: &Value, keys: &[&str]) -> Value {
    let entries = row.as_object().expect("an object").iter();
    let kept = entries.filter(|(name, _)| keys.contains(&name.split(':').next().unwrap_or_default()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

/// The settled states. One that is as the one before it is none of its own.
pub(crate) fn settled(rows: &[Row]) -> Vec<Row> {
    let mut states: Vec<Row> = Vec::new();
    let mut begins_at = rows.first().map_or(0, |row| row.at_ms);
    for (index, row) in rows.iter().enumerate() {
        let is_last = rows.get(index + 1).is_none_or(|next| next.at_ms - row.at_ms >= GAP_MS);
        if is_last {
            if states.last().is_none_or(|state| state.shown != row.shown) {
                states.push(Row { at_ms: begins_at, shown: row.shown.clone() });
            }
            begins_at = rows.get(index + 1).map_or(0, |next| next.at_ms);
        }
    }
    states
}

/// Where two sequences of settled states differ. Times may be off by the tolerance plus `extra_ms`.
pub(crate) fn compare(expected: &[Row], got: &[Row], extra_ms: i64) -> Vec<String> {
    let mut differences = Vec::new();
    for (index, (wanted, found)) in expected.iter().zip(got).enumerate() {
        if wanted.shown != found.shown {
            let (mut lines, at) = (Vec::new(), (wanted.at_ms, found.at_ms));
            explain("", &wanted.shown, &found.shown, &mut lines);
            differences.push(format!("state {index} at {} ms, here {} ms: {}", at.0, at.1, lines.join("; ")));
            // What follows differs because of this.
            return differences;
        }
        let tolerance = TOLERANCE_MS.0 + TOLERANCE_MS.1 * i64::try_from(index).expect("few states") + extra_ms;
        if (wanted.at_ms - found.at_ms).abs() > tolerance {
            differences.push(format!(
                "state {index} comes at {} ms instead of {} ms: {}",
                found.at_ms, wanted.at_ms, wanted.shown
            ));
        }
    }
    if expected.len() != got.len() {
        let more = |rows: &[Row], from: usize| rows.get(from).map(|row| format!("{} ms: {}", row.at_ms, row.shown));
        let count = expected.len().min(got.len());
        differences.push(format!(
            "{} states instead of {}; the first without a partner: expected {:?}, here {:?}",
            got.len(),
            expected.len(),
            more(expected, count),
            more(got, count)
        ));
    }
    differences
}

/// Names the values that differ.
fn explain(path: &str, expected: &Value, got: &Value, lines: &mut Vec<String>) {
    match (expected.as_object(), got.as_object()) {
        (Some(wanted), Some(found)) => {
            let mut keys: Vec<&String> = wanted.keys().chain(found.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let null = Value::Null;
                let (wanted, found) = (wanted.get(key).unwrap_or(&null), found.get(key).unwrap_or(&null));
                explain(&format!("{path}.{key}"), wanted, found, lines);
            }
        }
        _ if expected != got => lines.push(format!("{path} is {got}, not {expected}")),
        _ => {}
    }
}

#[test]
fn rows_of_a_burst_are_one_state_with_the_time_of_the_first() {
    let row = |at_ms: i64, shown: i64| Row { at_ms, shown: shown.into() };
    let states = settled(&[row(0, 1), row(100, 2), row(249, 3), row(399, 3), row(1000, 4), row(2000, 4)]);
    let seen: Vec<(i64, i64)> = states.iter().map(|state| (state.at_ms, state.shown.as_i64().unwrap())).collect();
    assert_eq!(seen, [(0, 3), (1000, 4)]);
    assert!(compare(&states, &states, 0).is_empty());
    assert_eq!(compare(&states, &[row(0, 3), row(1181, 4)], 0).len(), 1, "1 ms more than the tolerance");
    assert!(compare(&states, &[row(0, 3), row(1180, 4)], 0).is_empty());
    assert_eq!(compare(&states, &states[..1], 0).len(), 1);
}
