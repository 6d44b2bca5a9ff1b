//! Istio's `ProxyConfig`, which pods carry as text in the annotation `proxy.istio.io/config`.
//!
//! Read: `terminationDrainDuration`, `drainDuration`, `concurrency`, and `proxyMetadata`, which becomes environment. The rest is noted.
//! Source: istio/api mesh/v1alpha1/proxy.proto.

use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::{Place, Problem};
use super::quantity;
use super::read::{Dialect, Field, Sink};
use super::yaml::{self, Entry, Node, Value};
use crate::record::results::FidelityStatus;

/// The annotation, as problems name it.
const PATH: &str = "metadata.annotations[proxy.istio.io/config]";

/// What a gateway's process takes from it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ProxyConfig {
    /// From SIGTERM to the end of Envoy.
    pub termination_drain: Option<Duration>,
    /// Envoy's `--drain-time-s`.
    pub drain: Option<Duration>,
    /// Workers; 0 and none follow the CPU.
    pub concurrency: Option<u16>,
    /// More environment.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the annotation's text. Problems stand at the annotation, whatever line of it they are in.
pub fn read(text: &str, place: Place, sink: &Sink) -> Option<ProxyConfig> {
    let inner = Sink::default();
    let (mut documents, problems) = yaml::parse(text, 0);
    if !problems.is_empty() || documents.len() > 1 {
        let problem = Problem::at(place, PATH, "this is not YAML");
        sink.report(problem.help("write a ProxyConfig, such as: terminationDrainDuration: 30s"));
        return None;
    }
    let document = documents.pop().unwrap_or(Node::map(place, Vec::new()));
    let fields = Field::root(&inner, Dialect::Kubernetes, "", &document).under(PATH).fields();
    let found = fields.map(|fields| {
        let span = |key: &str| fields.look(key).and_then(|field| field.duration());
        let concurrency = fields.look("concurrency").and_then(|field| field.whole(0, 1024));
        let metadata = fields.look("proxyMetadata").map(|field| field.text_map()).unwrap_or_default();
        ProxyConfig {
            termination_drain: span("terminationDrainDuration"),
            drain: span("drainDuration"),
            concurrency,
            metadata,
        }
    });
    let read = ["terminationDrainDuration", "drainDuration", "concurrency", "proxyMetadata"];
    let others: Vec<&str> =
        document.entries().iter().map(|entry| &*entry.key).filter(|key| !read.contains(key)).collect();
    if !others.is_empty() {
        let note = format!("of it only {} are simulated", read.join(", "));
        sink.note(place, PATH.to_owned(), FidelityStatus::Approximated, Some(&note));
    }
    let problems = inner.take_problems();
    let is_right = problems.is_empty();
    for problem in problems {
        sink.report(Problem { place, ..problem });
    }
    found.filter(|_| is_right)
}

/// The text with another `terminationDrainDuration`. What is no map stays as it is: reading it will tell.
#[must_use]
pub fn with_drain(text: &str, seconds: i64) -> String {
    let (mut documents, problems) = yaml::parse(text, 0);
    let mut document = documents.pop().unwrap_or(Node::map(Place::NOWHERE, Vec::new()));
    let Value::Map(entries) = &mut document.value else { return text.to_owned() };
    if !problems.is_empty() {
        return text.to_owned();
    }
    let key = "terminationDrainDuration";
    entries.retain(|entry| &*entry.key != key);
    let node = Node::string(Place::NOWHERE, &quantity::duration_text(Duration::from_secs(seconds.unsigned_abs())));
    entries.push(Entry { key: key.into(), key_at: Place::NOWHERE, node });
    yaml::write(&document).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_simulation_needs_is_read_and_the_rest_is_noted() {
        let sink = Sink::default();
        let text = "terminationDrainDuration: 30s\nconcurrency: 4\nproxyMetadata: { A: \"true\" }\ntracing: {}\n";
        let found = read(text, Place::NOWHERE, &sink).unwrap();
        assert_eq!((found.termination_drain, found.concurrency), (Some(Duration::from_secs(30)), Some(4)));
        assert_eq!(found.metadata["A"], "true");
        assert_eq!((sink.problem_count(), sink.take_notes().len()), (0, 1));
    }

    #[test]
    fn what_is_wrong_in_it_is_told_with_its_key() {
        for (text, path) in [
            ("a: [", PATH),
            ("- x", PATH),
            ("drainDuration: 30", "drainDuration"),
            ("concurrency: \"2\"", "concurrency"),
        ] {
            let sink = Sink::default();
            assert_eq!(read(text, Place::NOWHERE, &sink), None, "{text}");
            let problems = sink.take_problems();
            assert!(problems.len() == 1 && problems[0].path.ends_with(path), "{problems:?}");
        }
    }

    #[test]
    fn a_drain_is_added_to_what_is_there() {
        assert_eq!(with_drain("", 30), "terminationDrainDuration: 30s");
        assert_eq!(
            with_drain("concurrency: 2\nterminationDrainDuration: 5s\n", 90),
            "concurrency: 2\nterminationDrainDuration: 1m30s"
        );
        assert_eq!(with_drain("a: [", 30), "a: [");
    }
}
