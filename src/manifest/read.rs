//! Typed access to nodes: every problem is reported, none stops the reading, and every field that is met is noted.
//!
//! A reader opens a map, asks for the keys it knows, names those it knows and does not simulate, and closes it; what is left over
//! is a mistake. So a key is either simulated, or listed as ignored, or an error: never overlooked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::problem::{Place, Problem};
use super::quantity;
use super::yaml::{Entry, Node, Value};
use crate::engine::Delay;
use crate::record::results::FidelityStatus;

/// Whose rules hold for scalars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// YAML 1.1 as Kubernetes reads it: a bare `on` is a boolean. Fields are noted for the fidelity list.
    Kubernetes,
    /// Ours: `true` and `false` only.
    Scenario,
}

/// How faithfully a field is simulated, where it stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Note {
    /// Where.
    pub place: Place,
    /// The object and the path in it.
    pub path: String,
    /// How faithfully.
    pub status: FidelityStatus,
    /// What is left out or different.
    pub text: Option<String>,
}

/// Where problems and notes go.
#[derive(Default, Debug)]
pub struct Sink {
    problems: RefCell<Vec<Problem>>,
    notes: RefCell<Vec<Note>>,
    /// What is said last of a field, by its place.
    overruled: RefCell<BTreeMap<Place, Note>>,
}

impl Sink {
    /// Reports a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes how a field is simulated.
    pub fn note(&self, place: Place, path: String, status: FidelityStatus, text: Option<&str>) {
        let note = Note { place, path, status, text: text.map(str::to_owned) };
        self.notes.borrow_mut().push(note);
    }

    /// Notes what becomes of a field, whatever else is or will be noted of it.
    pub fn overrule(&self, place: Place, path: String, status: FidelityStatus, text: &str) {
        let note = Note { place, path, status, text: Some(text.to_owned()) };
        self.overruled.borrow_mut().insert(place, note);
    }

    /// Problems so far.
    pub fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// All problems, each once, taken out.
    pub fn take_problems(&self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut *self.problems.borrow_mut());
        // What is wrong in several clusters is told once.
        let mut told = BTreeSet::new();
        problems.retain(|problem| told.insert((problem.place, problem.path.clone(), problem.text.clone())));
        problems
    }

    /// All notes in the order of their places, each once, taken out.
    pub fn take_notes(&self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut *self.notes.borrow_mut());
        let overruled = std::mem::take(&mut *self.overruled.borrow_mut());
        notes.retain(|note| !overruled.contains_key(&note.place));
        notes.extend(overruled.into_values());
        notes.sort();
        notes.dedup();
        notes
    }
}

/// An open map.
pub struct Fields<'a> {
    sink: &'a Sink,
    dialect: Dialect,
    /// Put before paths in notes, such as `Service/web/default `.
    object: &'a str,
    entries: &'a [Entry],
    /// Where the map stands.
    at: Place,
    path: String,
    asked: RefCell<BTreeSet<String>>,
}

/// A value that is there.
#[derive(Clone)]
pub struct Field<'a> {
    sink: &'a Sink,
    dialect: Dialect,
    object: &'a str,
    node: &'a Node,
    key_at: Place,
    path: String,
}

impl<'a> Field<'a> {
    /// The root of a document; `object` names it in notes.
    pub fn root(sink: &'a Sink, dialect: Dialect, object: &'a str, node: &'a Node) -> Self {
        Self { sink, dialect, object, node, key_at: node.at, path: String::new() }
    }

    /// The same, known by a path of its own.
    #[must_use]
    pub fn under(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Another value in its place, told of by the same path.
    #[must_use]
    pub fn standing_for<'b>(&self, node: &'b Node) -> Field<'b>
    where
        'a: 'b,
    {
        Field { node, ..self.clone() }
    }

    /// The same, with problems and notes going elsewhere.
    #[must_use]
    pub fn into_sink<'b>(&self, sink: &'b Sink) -> Field<'b>
    where
        'a: 'b,
    {
        let Self { dialect, object, node, key_at, path, .. } = self.clone();
        Field { sink, dialect, object, node, key_at, path }
    }

    /// The key path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Where problems go.
    #[must_use]
    pub fn sink(&self) -> &'a Sink {
        self.sink
    }

    /// Where it stands: a scalar itself, or the key of a collection.
    #[must_use]
    pub fn place(&self) -> Place {
        match self.node.value {
            Value::Scalar { .. } => self.node.at,
            _ => self.key_at,
        }
    }

    /// Reports a problem with this value.
    pub fn problem(&self, text: impl Into<String>) -> Problem {
        Problem::at(self.place(), self.path.clone(), text)
    }

    /// Reports a problem, with advice.
    pub fn refuse(&self, text: impl Into<String>, help: impl Into<String>) {
        self.sink.report(self.problem(text).help(help));
    }

    /// Notes how this value is simulated.
    pub fn note(&self, status: FidelityStatus, text: Option<&str>) {
        if self.dialect == Dialect::Kubernetes {
            self.sink.note(self.place(), format!("{}{}", self.object, self.path), status, text);
        }
    }

    /// Notes what becomes of it, whatever else is noted of it.
    pub fn overrule(&self, status: FidelityStatus, text: &str) {
        if self.dialect == Dialect::Kubernetes {
            self.sink.overrule(self.place(), format!("{}{}", self.object, self.path), status, text);
        }
    }

    /// The same for all values that are written inside.
    pub fn overrule_inside(&self, status: FidelityStatus, text: &str) {
        match &self.node.value {
            Value::Map(_) => self.map().into_iter().for_each(|(_, field)| field.overrule_inside(status, text)),
            Value::List(_) => self.items().iter().for_each(|field| field.overrule_inside(status, text)),
            Value::Scalar { .. } => self.overrule(status, text),
            Value::Null => {}
        }
    }

    /// Opens a map.
    #[must_use]
    pub fn fields(&self) -> Option<Fields<'a>> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.refuse("a map is expected here", "write `key: value` pairs, indented, or {}");
                return None;
            }
        };
        Some(Fields {
            sink: self.sink,
            dialect: self.dialect,
            object: self.object,
            entries,
            at: self.place(),
            path: self.path.clone(),
            asked: RefCell::default(),
        })
    }

    /// The items of a list.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else {
            if !matches!(self.node.value, Value::Null) {
                self.refuse("a list is expected here", "begin each item with a dash: `- …`");
            }
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| Self {
            node,
            key_at: node.at,
            path: format!("{}[{index}]", self.path),
            ..self.clone()
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The values of a map by their keys.
    #[must_use]
    pub fn map(&self) -> Vec<(&'a str, Self)> {
        let Some(fields) = self.fields() else { return Vec::new() };
        let entries = fields.entries.iter();
        entries.map(|entry| (&*entry.key, fields.field(entry))).collect()
    }

    /// A string.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, is_quoted } => {
                if !is_quoted && plain_is_no_string(text) {
                    let what = if quantity::is_bool_word(text) { "boolean" } else { "number" };
                    self.refuse(
                        format!("a text is expected, and YAML reads a bare `{text}` as a {what}"),
                        format!("write \"{text}\" in quotes"),
                    );
                    return None;
                }
                Some(text)
            }
            _ => {
                self.refuse("a text is expected here", "write one value");
                None
            }
        }
    }

    /// A scalar's text, whatever it means; none (and a problem) for collections.
    #[must_use]
    pub fn scalar(&self) -> Option<&'a str> {
        let text = self.node.text();
        if text.is_none() {
            self.refuse("a single value is expected here", "write one value, not a list or a map");
        }
        text
    }

    fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, quantity::Wrong>) -> Option<T> {
        match parse(self.scalar()?) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.refuse(wrong.text, wrong.help);
                None
            }
        }
    }

    /// A whole number between two bounds, both included.
    #[must_use]
    pub fn integer(&self, least: i64, most: i64) -> Option<i64> {
        let text = self.scalar()?;
        if matches!(self.node.value, Value::Scalar { is_quoted: true, .. }) && text.parse::<i64>().is_ok() {
            self.refuse(format!("\"{text}\" is a text, a number is expected"), format!("write {text} without quotes"));
            return None;
        }
        let value = self.parsed(quantity::integer)?;
        if value < least || value > most {
            let range = if most == i64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
            self.refuse(format!("{value} is out of range"), format!("write {range}"));
            return None;
        }
        Some(value)
    }

    /// A whole number that fits the type, between two bounds.
    #[must_use]
    pub fn whole<T: TryFrom<i64>>(&self, least: i64, most: i64) -> Option<T> {
        T::try_from(self.integer(least, most)?).ok()
    }

    /// A number that may have a fraction.
    #[must_use]
    pub fn float(&self) -> Option<f64> {
        self.parsed(quantity::float)
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        let (text, dialect) = (self.scalar()?, self.dialect);
        let is_quoted = matches!(self.node.value, Value::Scalar { is_quoted: true, .. });
        let value = match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" if dialect == Dialect::Kubernetes => Some(true),
            "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" if dialect == Dialect::Kubernetes => Some(false),
            _ => None,
        };
        if value.is_none() || is_quoted {
            self.refuse(format!("`{text}` is not a boolean"), "write true or false, without quotes");
            return None;
        }
        value
    }

    /// A duration with its unit.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.parsed(quantity::duration)
    }

    /// A duration of at least one nanosecond.
    #[must_use]
    pub fn positive_duration(&self) -> Option<Duration> {
        let value = self.duration()?;
        if value.is_zero() {
            self.refuse("it must be longer than nothing", "write a duration such as 10s");
            return None;
        }
        Some(value)
    }

    /// A size in bytes with its unit.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.parsed(quantity::bytes)
    }

    /// A Kubernetes quantity in thousandths.
    #[must_use]
    pub fn millis(&self) -> Option<u64> {
        self.parsed(quantity::kubernetes_millis)
    }

    /// The same in whole units, such as bytes.
    #[must_use]
    pub fn units(&self) -> Option<u64> {
        self.parsed(quantity::kubernetes_units)
    }

    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.parsed(quantity::rate)
    }

    /// A share of one: `0.5` or `50%`.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.parsed(quantity::ratio)
    }

    /// One of several words.
    #[must_use]
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.scalar()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.sink.report(self.problem(format!("`{text}` is not known here")).did_you_mean(text, known));
        }
        found
    }

    /// A duration, or a distribution by what people can measure.
    #[must_use]
    pub fn delay(&self) -> Option<Delay> {
        if !matches!(self.node.value, Value::Map(_)) {
            return self.duration().map(Delay::Constant);
        }
        let fields = self.fields()?;
        let before = self.sink.problem_count();
        let part = |key: &str| fields.get(key).and_then(|field| field.duration());
        let (p50, p99, mean, min, max) = (part("p50"), part("p99"), part("mean"), part("min"), part("max"));
        let values =
            fields.get("values").map(|field| field.items().iter().filter_map(Self::duration).collect::<Vec<_>>());
        fields.finish();
        if self.sink.problem_count() > before {
            return None;
        }
        let order = |low: Duration, high: Duration, delay: Delay| {
            if low > high {
                self.refuse("the greater value stands first", "swap the two values");
            }
            (low <= high).then_some(delay)
        };
        match (p50, p99, mean, min, max, values) {
            (Some(p50), Some(p99), None, None, None, None) if p50.is_zero() => {
                self.refuse("a median of 0 makes no lognormal distribution", "write a constant, or {min, max}");
                let _ = p99;
                None
            }
            (Some(p50), Some(p99), None, None, None, None) => order(p50, p99, Delay::Lognormal { p50, p99 }),
            (None, None, Some(mean), None, None, None) => Some(Delay::Exponential { mean }),
            (None, None, None, Some(min), Some(max), None) => order(min, max, Delay::Uniform { min, max }),
            (None, None, None, None, None, Some(values)) if !values.is_empty() => Some(Delay::Values(values)),
            _ => {
                let help = "write a duration, {p50, p99}, {mean}, {min, max} or {values: […]}";
                self.refuse("this makes no distribution", help);
                None
            }
        }
    }

    /// A map of texts.
    #[must_use]
    pub fn text_map(&self) -> BTreeMap<String, String> {
        let pairs = self.map().into_iter();
        pairs.filter_map(|(key, field)| Some((key.to_owned(), field.text()?.to_owned()))).collect()
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    }
}

impl<'a> Fields<'a> {
    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let is_plain = entry.key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
        let path = match (self.path.is_empty(), is_plain) {
            (true, true) => entry.key.to_string(),
            (false, true) => format!("{}.{}", self.path, entry.key),
            (_, false) => format!("{}[{}]", self.path, entry.key),
        };
        let (sink, dialect, object) = (self.sink, self.dialect, self.object);
        Field { sink, dialect, object, node: &entry.node, key_at: entry.key_at, path }
    }

    /// The value under a key that is simulated; none if it is absent or null.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        let field = self.look(key)?;
        match &field.node.value {
            Value::Scalar { .. } => field.note(FidelityStatus::Modelled, None),
            // What is inside is noted one by one.
            Value::List(_) | Value::Map(_) | Value::Null => {}
        }
        Some(field)
    }

    /// The value under a key that is simulated with a difference.
    pub fn approximated(&self, key: &str, note: &str) -> Option<Field<'a>> {
        let field = self.look(key)?;
        if !field.node.is_empty() {
            field.note(FidelityStatus::Approximated, Some(note));
        }
        Some(field)
    }

    /// The value under a key that is read and not noted: identity, or something that another note covers.
    pub fn look(&self, key: &str) -> Option<Field<'a>> {
        self.asked.borrow_mut().insert(key.to_owned());
        let entry = self.entries.iter().find(|entry| &*entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then(|| self.field(entry))
    }

    /// The value under a key, also if it is empty: a verb without arguments.
    #[must_use]
    pub fn look_even_null(&self, key: &str) -> Option<Field<'a>> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.entries.iter().find(|entry| &*entry.key == key).map(|entry| self.field(entry))
    }

    /// Keys that exist and are not simulated. Empty values are not worth a line.
    pub fn ignore(&self, keys: &[&str], note: &str) {
        for key in keys {
            if let Some(field) = self.look(key).filter(|field| !field.node.is_empty()) {
                field.note(FidelityStatus::Ignored, Some(note));
            }
        }
    }

    /// A key that exists and is not simulated, unless its value is what the API server writes where nobody wrote one: exported objects have it.
    pub fn ignore_unless(&self, key: &str, usual: &str, note: &str) {
        if self.look(key).is_some_and(|field| field.node.text() != Some(usual)) {
            self.ignore(&[key], note);
        }
    }

    /// Keys without any effect on traffic: nothing to simulate, nothing to tell.
    pub fn allow(&self, keys: &[&str]) {
        for key in keys {
            let _ = self.look(key);
        }
    }

    /// Where problems go.
    #[must_use]
    pub fn sink(&self) -> &'a Sink {
        self.sink
    }

    /// The value under a key that must be there.
    pub fn require(&self, key: &str, help: &str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key, help);
        }
        found
    }

    /// Reports that a key is missing.
    pub fn missing(&self, key: &str, help: &str) {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        self.sink.report(Problem::at(self.at, path, "this is missing").help(help));
    }

    /// Where the map stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.at
    }

    /// Reports all keys that nobody asked for.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&*entry.key)) {
            let field = self.field(entry);
            let problem = Problem::at(entry.key_at, field.path, format!("`{}` is not a field here", entry.key));
            self.sink.report(problem.did_you_mean(&entry.key, asked.iter().map(String::as_str)));
        }
    }
}

/// Whether a bare scalar means something other than a string to Kubernetes.
#[must_use]
pub fn plain_is_no_string(text: &str) -> bool {
    quantity::is_bool_word(text)
        || text
            .parse::<f64>()
            .is_ok_and(|_| text.starts_with(|letter: char| letter.is_ascii_digit() || "+-.".contains(letter)))
}

/// The known word that differs least from a word, if it differs little.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let limit = 1 + length / 4;
    // Words of other lengths need not be compared letter by letter.
    let near = known.into_iter().filter(|candidate| candidate.chars().count().abs_diff(length) <= limit);
    let near = near.map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for row in 1..=a.len() {
        let mut next = vec![row];
        for column in 1..=b.len() {
            let changed = usize::from(a[row - 1] != b[column - 1]);
            let mut best = (last[column] + 1).min(next[column - 1] + 1).min(last[column - 1] + changed);
            if row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1] {
                best = best.min(before[column - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    fn read<T>(text: &str, with: impl FnOnce(&Fields<'_>) -> T) -> (T, Vec<String>, Vec<Note>) {
        let sink = Sink::default();
        let (documents, problems) = parse(text, 0);
        assert!(problems.is_empty());
        let fields = Field::root(&sink, Dialect::Kubernetes, "", &documents[0]).fields().unwrap();
        let value = with(&fields);
        fields.finish();
        let told =
            |problem: Problem| format!("{}: {} ({})", problem.path, problem.text, problem.help.unwrap_or_default());
        (value, sink.take_problems().into_iter().map(told).collect(), sink.take_notes())
    }

    #[test]
    fn a_key_nobody_asked_for_is_a_problem_with_the_nearest_known_one() {
        let ((), problems, _) = read("replcas: 2\n", |fields| fields.allow(&["replicas", "selector"]));
        assert_eq!(problems, ["replcas: `replcas` is not a field here (did you mean `replicas`?)"]);
    }

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        let text = "drain: on\ntimeout: 30\nquoted: \"5\"\nname: web-1\nsurge: 1e\n";
        let ((), problems, _) = read(text, |fields| {
            assert_eq!(fields.get("drain").unwrap().text(), None);
            assert_eq!(fields.get("timeout").unwrap().text(), None);
            assert_eq!(fields.get("quoted").unwrap().integer(0, 9), None);
            assert_eq!(fields.get("name").unwrap().text(), Some("web-1"));
            assert_eq!(fields.get("surge").unwrap().text(), Some("1e"));
        });
        assert_eq!(problems.len(), 3, "{problems:#?}");
        assert!(problems[0].contains("write \"on\" in quotes"), "{problems:#?}");
    }

    #[test]
    fn ranges_hold_at_both_ends() {
        let text = "a: 2\nb: 10\nc: 1\nd: 11\n";
        let ((), problems, _) = read(text, |fields| {
            let read = |key| fields.get(key).unwrap().integer(2, 10);
            assert_eq!([read("a"), read("b"), read("c"), read("d")], [Some(2), Some(10), None, None]);
        });
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn ignored_fields_are_noted_unless_they_are_empty() {
        let ((), problems, notes) = read("sds: {}\nkernel: { parameters: {} }\nhost: x\nport: 1\n", |fields| {
            fields.ignore(&["sds", "kernel", "host"], "not simulated");
            let _ = fields.get("port").unwrap().integer(0, 9);
        });
        assert!(problems.is_empty());
        let told: Vec<(&str, FidelityStatus)> = notes.iter().map(|note| (note.path.as_str(), note.status)).collect();
        assert_eq!(told, [("host", FidelityStatus::Ignored), ("port", FidelityStatus::Modelled)]);
    }

    #[test]
    fn delays_are_durations_or_distributions() {
        let text =
            "a: 5ms\nb: { p50: 1s, p99: 2s }\nc: { min: 2s, max: 1s }\nd: { p50: 1s }\ne: { values: [1s, 2s] }\n";
        let (delays, problems, _) =
            read(text, |fields| ["a", "b", "c", "d", "e"].map(|key| fields.get(key).unwrap().delay().is_some()));
        assert_eq!(delays, [true, true, false, false, true]);
        assert_eq!(problems.len(), 2, "{problems:#?}");
    }

    #[test]
    fn near_words_are_found() {
        for (word, near) in [
            ("relpicas", Some("replicas")),
            ("Replicas", Some("replicas")),
            ("xyz", None),
            ("selctor", Some("selector")),
        ] {
            assert_eq!(did_you_mean(word, ["replicas", "selector"]), near, "{word}");
        }
    }
}
