//! Text into nodes that know where they stand.
//!
//! YAML as Kubernetes reads it: several documents, aliases and merge keys; a key twice in one map is an error. Aliases are expanded, so a
//! limit on the number of nodes stops the ones that multiply (a "bomb") before memory does.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problem};

/// Nodes of one file after the expansion of aliases. The largest object that a cluster stores (1.5 MiB, etcd's request limit) has fewer.
const NODES_MAX: usize = 500_000;
/// Lists and maps inside each other. Objects of the API nest some twenty deep; readers and destructors walk down the levels.
pub const DEPTH_MAX: usize = 100;
/// Bytes of one file. Kubernetes refuses a request body over 3 MiB (apiserver `MaxRequestBodyBytes`); a file may hold several objects.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub at: Place,
    /// What.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// A scalar.
    Scalar {
        /// Its text, after escapes.
        text: Rc<str>,
        /// It was written in quotes or as a block: always a string.
        is_quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of writing.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Rc<str>,
    /// Where the key stands.
    pub key_at: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// A string that somebody wrote at `at`, or nobody.
    #[must_use]
    pub fn string(at: Place, text: &str) -> Self {
        Self { at, value: Value::Scalar { text: Rc::from(text), is_quoted: true } }
    }

    /// A number.
    #[must_use]
    pub fn number(at: Place, number: i64) -> Self {
        Self { at, value: Value::Scalar { text: Rc::from(number.to_string()), is_quoted: false } }
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(at: Place, is_true: bool) -> Self {
        Self { at, value: Value::Scalar { text: Rc::from(is_true.to_string()), is_quoted: false } }
    }

    /// A map of these entries, whose keys stand where their values do.
    #[must_use]
    pub fn map(at: Place, entries: Vec<(&str, Self)>) -> Self {
        let entry = |(key, node): (&str, Self)| Entry { key: Rc::from(key), key_at: node.at, node };
        Self { at, value: Value::Map(entries.into_iter().map(entry).collect()) }
    }

    /// A list of these.
    #[must_use]
    pub fn list(at: Place, items: Vec<Self>) -> Self {
        Self { at, value: Value::List(items) }
    }

    /// The entry of a map.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// The value under a path of keys, if it is there and not null.
    #[must_use]
    pub fn find(&self, path: &[&str]) -> Option<&Self> {
        let mut node = self;
        for key in path {
            node = &node.entry(key)?.node;
        }
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The scalar's text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Whether nothing is in it: null, an empty text, list or map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar { text, .. } => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.iter().all(|entry| entry.node.is_empty()),
        }
    }

    /// Lists and maps inside each other.
    fn depth(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.node.depth()).max().unwrap_or(0),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| 1 + entry.node.count()).sum(),
        }
    }
}

/// Documents with syntax errors after which a text is read on: whatever has more is no YAML.
const BROKEN_MAX: usize = 20;

/// The documents of a text but for those with a syntax error, and the problems found. Empty documents are left out.
#[must_use]
pub fn parse(text: &str, file_index: usize) -> (Vec<Node>, Vec<Problem>) {
    let mut builder = Builder { file_index, ..Builder::default() };
    let mut next = parse_from(text, 0, &mut builder);
    for _ in 1..BROKEN_MAX {
        let Some(start) = next else { break };
        // Blanks in place of what was read keep all places as they are.
        let read = text[..start].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
        let rest: String = read.chain(text[start..].chars()).collect();
        next = parse_from(&rest, start, &mut builder);
    }
    builder.documents.retain(|node| !matches!(node.value, Value::Null));
    (builder.documents, builder.problems)
}

/// Reads the documents that begin at `start` or later; after a syntax error, where the document behind the broken one begins.
fn parse_from(text: &str, start: usize, builder: &mut Builder) -> Option<usize> {
    let mut document_start = start;
    // Spans count in bytes only with a borrowed text.
    let parser = Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false });
    for next in parser {
        match next {
            Ok((event, span)) => {
                if matches!(event, Event::DocumentStart(..)) {
                    document_start = span.byte_range().map_or(document_start, |range| range.start.max(document_start));
                }
                builder.handle(event, span);
            }
            Err(error) => {
                let start = error.marker().byte_offset().unwrap_or(0).min(text.len());
                let place = Place::new(builder.file_index, start, start);
                builder.problems.push(Problem::at(place, "", format!("this is not YAML: {}", error.info())));
                builder.open.clear();
                builder.anchors.clear();
                return document_after(text, document_start);
            }
        }
        if builder.is_over {
            break;
        }
    }
    None
}

/// Where the document behind the one that begins at `start` begins: three dashes at the start of a line are content of none.
fn document_after(text: &str, start: usize) -> Option<usize> {
    let is_marker = |at: &usize| matches!(text.as_bytes().get(at + 4), None | Some(b' ' | b'\t' | b'\n' | b'\r'));
    text[start..].match_indices("\n---").map(|(index, _)| start + index).find(is_marker).map(|at| at + 1)
}

enum Open {
    List { items: Vec<Node>, at: Place, anchor: usize },
    Map { entries: Vec<Entry>, keys: BTreeSet<Rc<str>>, at: Place, anchor: usize, key: Option<(Rc<str>, Place)> },
}

#[derive(Default)]
struct Builder {
    file_index: usize,
    documents: Vec<Node>,
    problems: Vec<Problem>,
    open: Vec<Open>,
    /// What an anchor names, with its number of nodes and of levels.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    node_count: usize,
    is_over: bool,
}

impl Builder {
    fn handle(&mut self, event: Event<'_>, span: Span) {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_quoted = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let value = if !is_quoted && is_null_word(&text) {
                    Value::Null
                } else {
                    Value::Scalar { text: Rc::from(&*text), is_quoted }
                };
                self.put(Node { at: place, value }, anchor);
            }
            Event::SequenceStart(_, anchor, _) => self.open(place, Open::List { items: Vec::new(), at: place, anchor }),
            Event::MappingStart(_, anchor, _) => {
                let (entries, keys) = (Vec::new(), BTreeSet::new());
                self.open(place, Open::Map { entries, keys, at: place, anchor, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { items, at, anchor }) => self.put(Node { at, value: Value::List(items) }, anchor),
                Some(Open::Map { entries, at, anchor, .. }) => {
                    let node = Node { at, value: Value::Map(merged(entries)) };
                    self.put(node, anchor);
                }
                None => {}
            },
            Event::Alias(anchor) => {
                if let Some((node, count, depth)) = self.anchors.get(&anchor) {
                    self.node_count += count;
                    if self.open.len() + depth > DEPTH_MAX {
                        self.too_deep(place);
                    } else if self.node_count <= NODES_MAX {
                        let node = node.clone();
                        self.put(node, 0);
                    } else {
                        self.too_large(place);
                    }
                } else {
                    self.problems.push(Problem::at(place, "", "an alias cannot stand inside its own anchor"));
                    self.put(Node { at: place, value: Value::Null }, 0);
                }
            }
            _ => {}
        }
    }

    fn place(&self, span: Span) -> Place {
        let bytes = span.byte_range().unwrap_or(0..0);
        Place::new(self.file_index, bytes.start, bytes.end.max(bytes.start))
    }

    fn open(&mut self, place: Place, what: Open) {
        if self.open.len() == DEPTH_MAX {
            return self.too_deep(place);
        }
        self.open.push(what);
    }

    fn too_deep(&mut self, place: Place) {
        let text = format!("more than {DEPTH_MAX} lists and maps stand inside each other here");
        self.problems.push(Problem::at(place, "", text).help("no object is that deep: check the brackets"));
        self.is_over = true;
    }

    fn too_large(&mut self, place: Place) {
        let text = format!("the file grows past {NODES_MAX} values here");
        self.problems
            .push(Problem::at(place, "", text).help("write it without aliases that contain aliases, or split it"));
        self.is_over = true;
    }

    fn put(&mut self, node: Node, anchor: usize) {
        self.node_count += 1;
        if self.node_count > NODES_MAX {
            return self.too_large(node.at);
        }
        if anchor > 0 {
            let (count, depth) = (node.count(), node.depth());
            self.anchors.insert(anchor, (node.clone(), count, depth));
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, keys, key, .. }) => match key.take() {
                Some((key, key_at)) => entries.push(Entry { key, key_at, node }),
                None => match &node.value {
                    Value::Scalar { text, .. } => {
                        if !keys.insert(Rc::clone(text)) && &**text != "<<" {
                            let text = format!("`{text}` stands twice in this map");
                            self.problems.push(Problem::at(node.at, "", text).help("keep one of them"));
                        }
                        *key = Some((Rc::clone(text), node.at));
                    }
                    _ => {
                        self.problems.push(Problem::at(node.at, "", "a key must be a text"));
                        *key = Some((Rc::from(""), node.at));
                    }
                },
            },
        }
    }
}

/// Whether a bare word means nothing at all.
fn is_null_word(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Merge keys (`<<`) give their entries to the map they stand in, unless it has them itself.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(|entry| &*entry.key == "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| &*entry.key == "<<");
    for merge in merges {
        let maps = match merge.node.value {
            Value::List(items) => items,
            _ => vec![merge.node],
        };
        for map in maps {
            for entry in map.entries() {
                if !own.iter().any(|known| known.key == entry.key) {
                    own.push(entry.clone());
                }
            }
        }
    }
    own
}

/// A node as YAML in block style, indented by `depth` levels, ending in a line break.
#[must_use]
pub fn write(node: &Node) -> String {
    let mut text = String::new();
    write_block(node, 0, &mut text);
    text
}

fn write_block(node: &Node, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                out.push_str(&format!("{indent}{}:", scalar(&entry.key, false)));
                write_after_key(&entry.node, depth, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                write_block(item, depth + 1, &mut inner);
                // The first line of the item moves up beside its dash.
                out.push_str(&format!("{indent}- {}", inner.strip_prefix(&"  ".repeat(depth + 1)).unwrap_or(&inner)));
            }
        }
        _ => out.push_str(&format!("{indent}{}\n", inline(node))),
    }
}

fn write_after_key(node: &Node, depth: usize, out: &mut String) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            write_block(node, depth + 1, out);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            write_block(node, depth + 1, out);
        }
        _ => out.push_str(&format!(" {}\n", inline(node))),
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar { text, is_quoted } => scalar(text, *is_quoted),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// A scalar that reads back as the same: bare where that is safe, else in double quotes with JSON's escapes, which are YAML's too.
fn scalar(text: &str, is_quoted: bool) -> String {
    let is_safe_letter = |letter: char| letter.is_ascii_alphanumeric() || "._-/%+".contains(letter);
    let is_word = text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '/')
        && text.chars().all(is_safe_letter);
    let means_something_else = is_null_word(text) || (is_quoted && super::read::plain_is_no_string(text));
    if is_word && !means_something_else {
        return text.to_owned();
    }
    if !is_quoted
        && !is_null_word(text)
        && text.chars().all(|letter| is_safe_letter(letter) || letter == ' ')
        && !text.starts_with(['-', ' ', '%'])
        && !text.ends_with(' ')
    {
        return text.to_owned();
    }
    serde_json::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Node> {
        let (documents, problems) = parse(text, 0);
        assert!(problems.is_empty(), "{problems:?}");
        documents
    }

    #[test]
    fn values_know_where_they_stand() {
        let text = "a:\n  - b: ünï\n    c: 'x'\n";
        let [document] = &documents(text)[..] else { panic!("one document") };
        let item = &document.find(&["a"]).unwrap().items()[0];
        let found = item.find(&["c"]).unwrap();
        let mut files = super::super::Files::default();
        files.add("f.yaml", text);
        assert_eq!(files.position(found.at), Some(("f.yaml", 3, 8)));
        assert_eq!(found.text(), Some("x"));
    }

    #[test]
    fn empty_documents_are_left_out_and_what_precedes_an_error_is_kept() {
        assert_eq!(documents("---\n---\na: 1\n---\n").len(), 1);
        let (documents, problems) = parse("a: 1\n---\nb: [1, 2\nc: 3\n", 0);
        assert_eq!((documents.len(), problems.len()), (1, 1), "{problems:?}");
    }

    #[test]
    fn what_follows_a_broken_document_is_read() {
        let text = "a: ü\n---\nb: [1, 2\nc: 3\n---\nd: 'x\n--- # here\ne: 1\nf: \"---\"\n---- g\n---\ng: 1\n";
        let (documents, problems) = parse(text, 0);
        let mut files = super::super::Files::default();
        files.add("f.yaml", text);
        let line = |place: Place| files.position(place).map(|(_, line, _)| line);
        let found: Vec<_> =
            documents.iter().map(|node| (&*node.entries()[0].key, line(node.entries()[0].key_at))).collect();
        assert_eq!(found, [("a", Some(1)), ("g", Some(12))], "{problems:?}");
        let lines: Vec<_> = problems.iter().map(|problem| line(problem.place)).collect();
        assert_eq!(lines, [Some(4), Some(6), Some(10)], "{problems:?}");
        // What is no YAML at all is told of as often as somebody can read.
        assert_eq!(parse(&"a: [\n---\n".repeat(1000), 0).1.len(), BROKEN_MAX);
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded_and_own_keys_win() {
        let text = "base: &base { x: 1, y: 2 }\nuse: { <<: *base, y: 3 }\nagain: *base\n";
        let document = &documents(text)[0];
        let text = |path: &[&str]| document.find(path).and_then(Node::text).map(str::to_owned);
        assert_eq!(text(&["use", "x"]).as_deref(), Some("1"));
        assert_eq!(text(&["use", "y"]).as_deref(), Some("3"));
        assert_eq!(text(&["again", "y"]).as_deref(), Some("2"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        let (_, problems) = parse(&text, 0);
        assert!(problems.iter().any(|problem| problem.text.contains("grows past")), "{problems:?}");
    }

    #[test]
    fn what_nests_without_end_is_refused() {
        let closed = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(parse(&closed(DEPTH_MAX), 0).1.len(), 0);
        // Aliases nest too: twenty levels in twenty levels, six times.
        let mut grown = format!("a0: &a0 {}\n", closed(20));
        for level in 1..6 {
            grown.push_str(&format!("a{level}: &a{level} {}*a{} {}\n", "[".repeat(20), level - 1, "]".repeat(20)));
        }
        for text in [closed(DEPTH_MAX + 1), "[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000), grown] {
            let (_, problems) = parse(&text, 0);
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }

    #[test]
    fn a_key_twice_is_a_problem() {
        let (_, problems) = parse("a: 1\na: 2\n", 0);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].text.contains("twice"));
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = "nulls: [\"null\", \"~\", null]\n\"null\": 1\na: 1\nb: \"on\"\nc:\n  - d: \"x: y\"\n    e: {}\n  - []\nf: null\n\"x/y.z\": \"2\"\ng: \"\"\nh: two words\n";
        let written = write(&documents(text)[0]);
        assert_eq!(write(&documents(&written)[0]), written);
        let again = &documents(&written)[0];
        assert_eq!(again.find(&["nulls"]).unwrap().items().iter().filter_map(Node::text).count(), 2, "{written}");
        assert!(
            written.contains("b: \"on\"") && written.contains("a: 1") && written.contains("x/y.z: \"2\""),
            "{written}"
        );
    }
}
