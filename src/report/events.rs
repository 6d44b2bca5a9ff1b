//! `events.ndjson`: the event log, one JSON object a line, in order.

use std::fmt::Write as _;

use serde_json::Value;

use crate::engine::{Datum, Event, EventId};

/// The text of `events.ndjson`.
#[must_use]
pub fn ndjson(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        write_line(&mut text, event);
    }
    text
}

/// Keys in the order in which one reads a line: when, which, why, what, whom. Details in the order they were told.
fn write_line(text: &mut String, event: &Event) {
    let because = event.because.map_or(Value::Null, |cause| cause.number().into());
    let (t_ns, id) = (event.at.as_nanos(), EventId::number(event.id));
    let (kind, object) = (Value::from(event.kind), Value::from(event.object.as_str()));
    let head =
        format!("{{\"t_ns\":{t_ns},\"id\":{id},\"because\":{because},\"kind\":{kind},\"object\":{object},\"data\":{{");
    text.push_str(&head);
    for (index, (key, datum)) in event.data.iter().enumerate() {
        let value = match datum {
            Datum::Number(number) => Value::from(*number),
            Datum::Text(text) => Value::from(text.as_str()),
            Datum::Flag(flag) => Value::from(*flag),
        };
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{}:{value}", Value::from(*key)).expect("writing to memory succeeds");
    }
    text.push_str("}}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    #[test]
    fn every_line_is_an_object() {
        let (_, log) = LOSING.tell();
        let text = ndjson(log.events());
        for (line, event) in text.lines().zip(log.events()) {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["id"], event.id.number());
            assert_eq!(value["data"].as_object().unwrap().len(), event.data.len());
        }
        assert_eq!(text.lines().count(), log.events().len());
    }

    #[test]
    fn the_format_is_pinned() {
        let (_, log) = LOSING.tell();
        let text = ndjson(log.events());
        insta::assert_snapshot!(text.lines().skip(22).take(12).collect::<Vec<_>>().join("\n"));
    }
}
