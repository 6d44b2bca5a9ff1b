//! Reads vectors so that nothing in them is overlooked: what is not asked for is an error.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

const FOLDER: &str = "tests/data/conformance/routing";

/// Cases and what they have in common.
pub(super) struct Group {
    /// The fields of the group but its cases.
    pub(super) shared: Fields,
    /// Its cases.
    pub(super) cases: Vec<Fields>,
}

/// An object whose fields are taken one by one.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    place: String,
    left: Map<String, Value>,
}

/// The groups of a family; a family without groups is one.
pub(super) fn family(name: &str) -> Vec<Group> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file = Fields::of(name, serde_json::from_str(&text).expect("JSON"));
    assert_eq!(file.text("family"), name);
    let count = file.number("count");
    for told in ["source", "licence", "notes"] {
        file.optional(told);
    }
    let groups: Vec<Group> = match file.optional("groups") {
        None => vec![Group { cases: file.objects("cases"), shared: Fields::of(name, Value::Object(Map::new())) }],
        Some(groups) => list(groups).into_iter().map(|group| Fields::of(name, group)).map(group).collect(),
    };
    file.done();
    assert_eq!(
        i64::try_from(groups.iter().map(|group| group.cases.len()).sum::<usize>()).expect("a count"),
        count,
        "{name}"
    );
    groups
}

fn group(mut shared: Fields) -> Group {
    let cases = shared.objects("cases");
    for told in ["source", "note", "description", "tests"] {
        shared.optional(told);
    }
    Group { shared, cases }
}

/// Runs the cases of a family and tells all that fail at once. Cases in the list of exceptions have to fail.
pub(super) fn run(name: &str, mut check: impl FnMut(&Fields, &mut Fields) -> Result<(), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("EXCEPTIONS-envoy.md");
    let exceptions = std::fs::read_to_string(path).expect("the list of exceptions");
    let mut wrong = Vec::new();
    for group in family(name) {
        for mut case in group.cases {
            let id = case.text("id");
            case.optional("test");
            let outcome = check(&group.shared, &mut case).and_then(|()| case.left_over());
            match (outcome, exceptions.contains(&format!("| `{id}` |"))) {
                (Ok(()), false) | (Err(_), true) => {}
                (Ok(()), true) => wrong.push(format!("{id} is listed as an exception and holds")),
                (Err(reason), false) => wrong.push(format!("{id}: {reason}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases of {name} do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

/// Fails a case where two things differ.
pub(super) fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    given: T,
    expected: U,
) -> Result<(), String> {
    if given == expected { Ok(()) } else { Err(format!("{what} is {given:?} instead of {expected:?}")) }
}

/// A value that is a list.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        other => panic!("{other} is no list"),
    }
}

impl Fields {
    /// The fields of an object.
    pub(super) fn of(place: &str, value: Value) -> Self {
        match value {
            Value::Object(left) => Self { place: place.to_owned(), left },
            other => panic!("{place}: {other} is no object"),
        }
    }

    /// Takes a field.
    pub(super) fn optional(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key)
    }

    /// Takes a field that has to be there.
    pub(super) fn value(&mut self, key: &str) -> Value {
        self.optional(key).unwrap_or_else(|| panic!("{}: no `{key}` in {:?}", self.place, self.left))
    }

    /// Takes a text.
    pub(super) fn text(&mut self, key: &str) -> String {
        self.optional_text(key).unwrap_or_else(|| panic!("{}: `{key}` is no text", self.place))
    }

    /// Takes a text; none where it is null or missing.
    pub(super) fn optional_text(&mut self, key: &str) -> Option<String> {
        match self.optional(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => panic!("{}: `{key}` is {other}", self.place),
        }
    }

    /// Takes a whole number.
    pub(super) fn number(&mut self, key: &str) -> i64 {
        let value = self.value(key);
        value.as_i64().unwrap_or_else(|| panic!("{}: `{key}` is {value}", self.place))
    }

    /// Takes a truth.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or_else(|| panic!("{}: no `{key}`", self.place))
    }

    /// Takes a truth, which may be written as a text.
    pub(super) fn optional_flag(&mut self, key: &str) -> Option<bool> {
        self.optional(key).map(|value| match &value {
            Value::Bool(flag) => *flag,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            other => panic!("{}: `{key}` is {other}", self.place),
        })
    }

    /// Takes an object.
    pub(super) fn object(&mut self, key: &str) -> Self {
        Self::of(&format!("{}.{key}", self.place), self.value(key))
    }

    /// Takes an object that may be missing.
    pub(super) fn optional_object(&mut self, key: &str) -> Option<Self> {
        let place = format!("{}.{key}", self.place);
        self.optional(key).map(|value| Self::of(&place, value))
    }

    /// Takes a list of objects; empty where it is missing.
    pub(super) fn objects(&mut self, key: &str) -> Vec<Self> {
        let place = format!("{}.{key}", self.place);
        let values = self.optional(key).map(list).unwrap_or_default();
        values.into_iter().map(|value| Self::of(&place, value)).collect()
    }

    /// Takes a list of texts; empty where it is missing.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let values = self.optional(key).map(list).unwrap_or_default();
        values.iter().map(|value| value.as_str().expect("a text").to_owned()).collect()
    }

    /// Takes a list of pairs of texts; empty where it is missing.
    pub(super) fn pairs(&mut self, key: &str) -> Vec<(String, String)> {
        let pairs = self.optional(key).map(list).unwrap_or_default();
        pairs.into_iter().map(|pair| pair_of(&list(pair))).collect()
    }

    /// Takes headers that are written as pairs.
    pub(super) fn headers(&mut self, key: &str) -> HeaderMap {
        header_map(&self.pairs(key))
    }

    /// What has not been asked for is an error.
    pub(super) fn left_over(&self) -> Result<(), String> {
        let names: Vec<&String> = self.left.keys().collect();
        if names.is_empty() { Ok(()) } else { Err(format!("{}: unknown fields {names:?}", self.place)) }
    }

    /// All fields, whatever their names.
    pub(super) fn all(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.left)
    }

    /// Nothing is left.
    pub(super) fn done(&self) {
        self.left_over().unwrap_or_else(|left| panic!("{left}"));
    }
}

fn pair_of(pair: &[Value]) -> (String, String) {
    match pair {
        [Value::String(name), Value::String(value)] => (name.clone(), value.clone()),
        other => panic!("{other:?} is no pair"),
    }
}

/// Headers from pairs.
pub(super) fn header_map(pairs: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        headers.append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    headers
}

/// Compares headers as a case tells them: those of `expected`, with values of one name joined by commas, and none of `absent`.
pub(super) fn same_headers(headers: &HeaderMap, expected: Map<String, Value>, absent: &[String]) -> Result<(), String> {
    for (name, value) in expected {
        let given: Vec<&str> =
            headers.get_all(name.as_str()).iter().map(|value| value.to_str().expect("text")).collect();
        match &value {
            Value::Array(values) => {
                same(&name, &given, &values.iter().map(|value| value.as_str().expect("text")).collect::<Vec<_>>())?
            }
            Value::Null => same(&name, given.is_empty(), true)?,
            value => same(&name, given.join(","), value.as_str().expect("a text"))?,
        }
    }
    match absent.iter().find(|name| headers.contains_key(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(format!("{name} is there")),
    }
}
