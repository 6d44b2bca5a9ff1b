//! Istio's `ProxyConfig`, in its three shapes: the text in the pod annotation `proxy.istio.io/config`, the object of that name, and ASM's
//! `ASMProxyConfig`.
//!
//! What a later source does not write, an earlier one keeps. From the weakest:
//!
//! 1. the mesh's defaults (a scenario's `gateway`);
//! 2. objects without a selector in `istio-system`, 3. those in the pod's namespace;
//! 4. the annotation;
//! 5. objects whose selector holds for the pod.
//!
//! Of several that hold, the first counts (in a cluster the oldest). What all that adds to the environment gives way to the container's own.
//! Where an `ASMProxyConfig` stands between them is not documented: here just below a `ProxyConfig` of the same reach, and below the annotation.
//!
//! Read are `terminationDrainDuration`, `drainDuration` (not in a `ProxyConfig` object, which has no such fields), `concurrency`, the image's type, and what
//! becomes environment. The rest is noted.
//! Sources: istio/api mesh/v1alpha1/proxy.proto, networking/v1beta1/proxy_config.proto; istio pilot/pkg/model/proxy_config.go;
//! aliyun/alibabacloud-servicemesh-api v1 asmproxyconfig_types.go.

pub mod objects;

use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::{Place, Problem};
use super::quantity;
use super::read::{Dialect, Field, Sink};
use super::yaml::{self, Entry, Node, Value};
use crate::record::results::FidelityStatus;

/// The annotation, as problems name it.
const PATH: &str = "metadata.annotations[proxy.istio.io/config]";

/// A value, and where it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub at: Place,
    /// Its key path.
    pub path: String,
}

/// What a gateway's process takes from it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ProxyConfig {
    /// From SIGTERM to the end of Envoy.
    pub termination_drain: Option<Written<Duration>>,
    /// Envoy's `--drain-time-s`.
    pub drain: Option<Written<Duration>>,
    /// Workers; 0 and none follow the CPU.
    pub concurrency: Option<Written<u16>>,
    /// More environment.
    pub env: BTreeMap<String, Written<String>>,
    /// `distroless`, for example.
    pub image_type: Option<Written<String>>,
}

impl ProxyConfig {
    /// This one, and what it does not write from a weaker one.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        let mut env = weaker.env;
        env.extend(self.env);
        Self {
            termination_drain: self.termination_drain.or(weaker.termination_drain),
            drain: self.drain.or(weaker.drain),
            concurrency: self.concurrency.or(weaker.concurrency),
            env,
            image_type: self.image_type.or(weaker.image_type),
        }
    }
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
        let span = |key: &str| fields.look(key).and_then(|field| written(&field, place, field.duration()));
        let concurrency = fields.look("concurrency").and_then(|field| written(&field, place, field.whole(0, 1024)));
        let env = fields.look("proxyMetadata").map(|field| texts(&field, Some(place))).unwrap_or_default();
        let image_type = fields.look("image").and_then(|field| image_type(&field, Some(place)));
        ProxyConfig {
            termination_drain: span("terminationDrainDuration"),
            drain: span("drainDuration"),
            concurrency,
            env,
            image_type,
        }
    });
    let read = ["terminationDrainDuration", "drainDuration", "concurrency", "proxyMetadata", "image"];
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

fn written<T>(field: &Field<'_>, at: Place, value: Option<T>) -> Option<Written<T>> {
    Some(Written { value: value?, at, path: field.path().to_owned() })
}

/// A map of texts; all of them at one place, if one is given.
fn texts(field: &Field<'_>, at: Option<Place>) -> BTreeMap<String, Written<String>> {
    let pairs = field.map().into_iter();
    let read = pairs.filter_map(|(key, inner)| {
        let value = inner.text().map(str::to_owned);
        Some((key.to_owned(), written(&inner, at.unwrap_or(inner.place()), value)?))
    });
    read.collect()
}

/// `image: { imageType: … }`.
fn image_type(field: &Field<'_>, at: Option<Place>) -> Option<Written<String>> {
    let fields = field.fields()?;
    let inner = fields.look("imageType")?;
    let value = inner.text().map(str::to_owned);
    fields.finish();
    written(&inner, at.unwrap_or(inner.place()), value)
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
        let text = "terminationDrainDuration: 30s\nconcurrency: 4\nproxyMetadata: { A: \"true\" }\n\
                    image: { imageType: distroless }\ntracing: {}\n";
        let found = read(text, Place::NOWHERE, &sink).unwrap();
        let drain = found.termination_drain.unwrap();
        assert_eq!((drain.value, found.concurrency.unwrap().value), (Duration::from_secs(30), 4));
        assert_eq!(drain.path, "metadata.annotations[proxy.istio.io/config].terminationDrainDuration");
        assert_eq!((&*found.env["A"].value, &*found.image_type.unwrap().value), ("true", "distroless"));
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
