//! Paths that name a value: `load[0].rate`, `target.spec.replicas`, `IstioGateway/edge.metadata.annotations[a.b/c]`.
//!
//! A path that begins with `target.` speaks of the gateway's Deployment, one that begins with `Kind/name.` or `Kind/namespace/name.` of that
//! object, any other of the scenario's `spec`. A step is a key after a dot, a key in brackets (for keys with dots), an index in brackets, or
//! in a list the name of an item: `load[shoppers].rate` or `load.shoppers.rate`.

use std::rc::Rc;

use crate::manifest::yaml::{DEPTH_MAX, Entry};
use crate::manifest::{Node, Object, Place, Problem, Sink, Value};

/// What a path speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The scenario's `spec`.
    Scenario,
    /// The gateway's Deployment.
    Target,
    /// An object of the manifests.
    Object {
        /// Its kind.
        kind: String,
        /// Its namespace, if the path names one.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// The kind of the object, if it is one of the manifests.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Object { kind, .. } => Some(kind),
            Self::Scenario | Self::Target => None,
        }
    }
}

/// A value to write at a path.
#[derive(Clone, Debug)]
pub struct Patch {
    /// As it was written.
    pub text: String,
    /// Where the path is written.
    pub at: Place,
    /// What it speaks of.
    pub subject: Subject,
    /// The steps.
    pub steps: Vec<String>,
    /// The value.
    pub value: Node,
}

impl Patch {
    /// The patch that writes `value` at `path`.
    ///
    /// # Errors
    ///
    /// If the path cannot be read; the text says why.
    pub fn new(path: &str, at: Place, value: Node) -> Result<Self, String> {
        let (subject, rest) = subject(path)?;
        let steps = steps(rest).ok_or_else(|| format!("`{path}` is not a path"))?;
        if steps.len() > DEPTH_MAX {
            return Err(format!("a path of {} steps leads nowhere", steps.len()));
        }
        Ok(Self { text: path.to_owned(), at, subject, steps, value })
    }

    /// Whether it speaks of this object.
    #[must_use]
    pub fn is_for(&self, object: &Object) -> bool {
        match &self.subject {
            Subject::Object { kind, namespace, name } => {
                let is_here = namespace.as_ref().is_none_or(|namespace| *namespace == object.id.namespace);
                *kind == object.id.kind && is_here && *name == object.id.name
            }
            Subject::Scenario | Subject::Target => false,
        }
    }

    /// Whether a document has a value of its own there.
    #[must_use]
    pub fn is_written_in(&self, root: &Node) -> bool {
        self.found_in(root).is_some()
    }

    /// The value that a document has there.
    #[must_use]
    pub fn found_in<'a>(&self, root: &'a Node) -> Option<&'a Node> {
        let mut node = root;
        for step in &self.steps {
            let found = match &node.value {
                Value::List(items) => {
                    let by_name = items.iter().find(|item| item.find(&["name"]).and_then(Node::text) == Some(step));
                    by_name.or_else(|| items.get(step.parse::<usize>().ok()?))
                }
                _ => node.find(&[step]),
            };
            node = found?;
        }
        Some(node)
    }

    /// Writes the value into an object; what cannot be written is reported.
    pub fn apply(&self, root: &mut Node, sink: &Sink) {
        if let Err(text) = self.write(root) {
            sink.report(Problem::at(self.at, self.text.clone(), text));
        }
    }

    /// Whether it would write what an object is known by, which no edit changes.
    #[must_use]
    pub fn is_of_identity(&self) -> bool {
        let steps: Vec<&str> = self.steps.iter().map(String::as_str).collect();
        matches!(steps[..], ["apiVersion" | "kind" | "metadata"] | ["metadata", "name" | "namespace"])
    }

    /// Writes the value into a document.
    ///
    /// # Errors
    ///
    /// If a step leads into a value that has none inside; the text says which.
    pub fn write(&self, root: &mut Node) -> Result<(), String> {
        let mut node = root;
        for (index, step) in self.steps.iter().enumerate() {
            node = enter(node, step, self.value.at).ok_or_else(|| {
                let so_far = self.steps[..index].join(".");
                format!("`{}`: there is no `{step}` in {}", self.text, if so_far.is_empty() { "it" } else { &so_far })
            })?;
        }
        *node = self.value.clone();
        Ok(())
    }
}

fn subject(path: &str) -> Result<(Subject, &str), String> {
    if let Some(rest) = path.strip_prefix("target.") {
        return Ok((Subject::Target, rest));
    }
    let head = path.split(['.', '[']).next().unwrap_or_default();
    let parts: Vec<&str> = head.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, None, name),
        [kind, namespace, name] => (kind, Some(namespace.to_owned()), name),
        [_] => return Ok((Subject::Scenario, path)),
        _ => return Err(format!("`{head}` names no object: write Kind/name or Kind/namespace/name")),
    };
    let rest = path[head.len()..].strip_prefix('.').ok_or_else(|| format!("`{path}` names no field of {head}"))?;
    Ok((Subject::Object { kind: kind.to_owned(), namespace, name: name.to_owned() }, rest))
}

/// The steps of a path; none if it cannot be read.
fn steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = match inner.chars().next()? {
                quote @ ('"' | '\'') => {
                    let (step, after) = inner[1..].split_once(quote)?;
                    (step, after.strip_prefix(']')?)
                }
                _ => inner.split_once(']')?,
            };
            steps.push(step.to_owned());
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            steps.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.chars().next() {
            None => return Some(steps),
            Some('.') => rest = &rest[1..],
            Some('[') => {}
            Some(_) => return None,
        }
    }
}

/// The value behind one step; a key that a map lacks is made, since a default may stand for it.
fn enter<'a>(node: &'a mut Node, step: &str, at: Place) -> Option<&'a mut Node> {
    if matches!(node.value, Value::Null) {
        node.value = Value::Map(Vec::new());
    }
    match &mut node.value {
        Value::Map(entries) => {
            let index = entries.iter().position(|entry| &*entry.key == step).unwrap_or_else(|| {
                entries.push(Entry { key: Rc::from(step), key_at: at, node: Node { at, value: Value::Null } });
                entries.len() - 1
            });
            Some(&mut entries[index].node)
        }
        Value::List(items) => {
            let by_name = items.iter().position(|item| item.find(&["name"]).and_then(Node::text) == Some(step));
            let by_index = step.parse::<usize>().ok();
            // `backends[default/web]`, `clusters[c-1]`: these have no name of their own.
            let by = |key: &str| items.iter().position(|item| item.find(&[key]).and_then(Node::text) == Some(step));
            let found = by_name.or(by_index).or_else(|| by("service")).or_else(|| by("id"));
            items.get_mut(found?)
        }
        Value::Scalar { .. } | Value::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml::{parse, write};

    fn patched(text: &str, path: &str) -> Result<String, String> {
        let mut node = parse(text, 0).0.remove(0);
        let patch = Patch::new(path, Place::NOWHERE, Node::number(Place::NOWHERE, 7))?;
        patch.write(&mut node)?;
        Ok(write(&node))
    }

    #[test]
    fn values_are_found_by_key_index_and_name() {
        for (text, path, expected) in [
            ("a: { b: 1 }", "a.b", "a:\n  b: 7\n"),
            ("a: [1, 2]", "a[1]", "a:\n  - 1\n  - 7\n"),
            ("load: [{ name: x, rate: 1 }]", "load.x.rate", "load:\n  - name: x\n    rate: 7\n"),
            ("load: [{ name: x, rate: 1 }]", "load[x].rate", "load:\n  - name: x\n    rate: 7\n"),
            ("m: {}", "m[a.b/c]", "m:\n  a.b/c: 7\n"),
            ("m: {}", "m[\"a.b\"].c", "m:\n  a.b:\n    c: 7\n"),
            ("a: 1", "b.c", "a: 1\nb:\n  c: 7\n"),
        ] {
            assert_eq!(patched(text, path).as_deref(), Ok(expected), "{path}");
        }
        for (text, path) in [("a: 1", "a.b"), ("a: [1]", "a[3]"), ("a: 1", "a..b"), ("a: 1", "a["), ("a: 1", "")] {
            assert!(patched(text, path).is_err(), "{path}");
        }
    }

    #[test]
    fn subjects_are_told_apart() {
        let of = |path: &str| subject(path).map(|(subject, rest)| (subject, rest.to_owned()));
        assert_eq!(of("target.spec.x"), Ok((Subject::Target, "spec.x".to_owned())));
        assert_eq!(of("load[0].rate"), Ok((Subject::Scenario, "load[0].rate".to_owned())));
        let (kind, name) = ("Service".to_owned(), "web".to_owned());
        let expected = Subject::Object { kind, namespace: Some("shop".to_owned()), name };
        assert_eq!(of("Service/shop/web.spec.type"), Ok((expected, "spec.type".to_owned())));
        assert!(of("Service/web").is_err() && of("a/b/c/d.e").is_err());
    }
}
