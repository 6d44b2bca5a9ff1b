//! What is wrong with an input: where it stands, what it is, and what to write instead.

use std::fmt;
use std::rc::Rc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::read::did_you_mean;

/// Problems that are shown with their lines. Whoever has more begins with these.
const SHOWN_MAX: usize = 100;

/// A span of bytes in one of the files that were read, or nowhere: a value nobody wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    file: u32,
    start: u32,
    end: u32,
}

impl Place {
    /// Of a value that nobody wrote: a default.
    pub const NOWHERE: Self = Self { file: u32::MAX, start: 0, end: 0 };

    /// The bytes `start..end` of the file with this index.
    ///
    /// # Panics
    ///
    /// If a file is larger than 4 GiB: larger ones are not read.
    #[must_use]
    pub fn new(file_index: usize, start: usize, end: usize) -> Self {
        let small = |value: usize| u32::try_from(value).expect("files are smaller than 4 GiB, and fewer");
        Self { file: small(file_index), start: small(start), end: small(end) }
    }

    /// Whether somebody wrote it.
    #[must_use]
    pub fn is_written(self) -> bool {
        self.file != u32::MAX
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct File {
    /// As the user named it.
    pub name: Rc<str>,
    /// What it holds.
    pub text: Rc<str>,
    /// Where its lines begin: a file with many problems is searched many times.
    line_starts: Rc<[usize]>,
}

/// All files that were read, in the order of reading.
#[derive(Clone, Default, Debug)]
pub struct Files {
    files: Vec<File>,
}

impl Files {
    /// Adds a file; returns its index.
    pub fn add(&mut self, name: &str, text: &str) -> usize {
        let starts = text.match_indices('\n').map(|(index, _)| index + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        self.files.push(File { name: Rc::from(name), text: Rc::from(text), line_starts });
        self.files.len() - 1
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[File] {
        &self.files
    }

    /// File, line and column of a place; line and column count from 1.
    #[must_use]
    pub fn position(&self, place: Place) -> Option<(&str, u32, u32)> {
        let file = self.files.get(usize::try_from(place.file).ok()?)?;
        let start = usize::try_from(place.start).ok()?.min(file.text.len());
        let line = file.line_starts.partition_point(|begin| *begin <= start);
        let column = file.text.get(file.line_starts[line - 1]..start)?.chars().count() + 1;
        Some((&file.name, u32::try_from(line).ok()?, u32::try_from(column).ok()?))
    }
}

/// Something wrong with an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where; nowhere if the place cannot be named, such as for a file that is not there.
    pub place: Place,
    /// The key path, such as `spec.load[0].rate`; empty if there is none.
    pub path: String,
    /// What is wrong: a fragment without a full stop.
    pub text: String,
    /// What to write instead, if that can be said.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn at(place: Place, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place, path: path.into(), text: text.into(), help: None }
    }

    /// A problem without a place.
    pub fn nowhere(text: impl Into<String>) -> Self {
        Self::at(Place::NOWHERE, "", text)
    }

    /// The same with advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same, advising the known word nearest to `word`, if one is near.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match did_you_mean(word, known.iter().copied()) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if known.is_empty() || known.len() > 12 => self,
            None => self.help(format!("known here: {}", known.join(", "))),
        }
    }
}

/// Everything wrong with an input, with the files it came from.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The problems, in the order of their places.
    pub list: Vec<Problem>,
    /// The files.
    pub files: Files,
}

impl Problems {
    /// The problems of these files, sorted, each told once.
    #[must_use]
    pub fn new(mut list: Vec<Problem>, files: Files) -> Self {
        list.sort_by(|a, b| (a.place, &a.path, &a.text).cmp(&(b.place, &b.path, &b.text)));
        list.dedup();
        Self { list, files }
    }

    /// The problems of several inputs, each with its own files.
    ///
    /// # Panics
    ///
    /// If there are more than 2³² files.
    #[must_use]
    pub fn joined(many: Vec<Self>) -> Self {
        let mut all = Self { list: Vec::new(), files: Files::default() };
        for Self { list, files } in many {
            let offset = u32::try_from(all.files.files.len()).expect("files are few");
            all.files.files.extend(files.files);
            let moved = |problem: Problem| {
                let mut place = problem.place;
                if place.is_written() {
                    place.file += offset;
                }
                Problem { place, ..problem }
            };
            all.list.extend(list.into_iter().map(moved));
        }
        all
    }

    /// All problems with the lines they stand in, for a terminal.
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        self.render_ending(coloured, "nothing was run")
    }

    /// The same with other words for what follows from them.
    #[must_use]
    pub fn render_ending(&self, coloured: bool, ending: &str) -> String {
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in self.list.iter().take(SHOWN_MAX) {
            text.push_str(&self.render_one(problem, &renderer));
            text.push_str("\n\n");
        }
        let count = self.list.len();
        if count > SHOWN_MAX {
            text.push_str(&format!("{} more are not shown\n", count - SHOWN_MAX));
        }
        text.push_str(&format!("{count} problem{}; {ending}\n", if count == 1 { "" } else { "s" }));
        text
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let title =
            if problem.path.is_empty() { problem.text.clone() } else { format!("{}: {}", problem.path, problem.text) };
        let mut group =
            Level::ERROR.primary_title(&title).elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
        let file = usize::try_from(problem.place.file).ok().and_then(|index| self.files.files.get(index));
        if let Some(file) = file {
            let length = file.text.len();
            let start = (problem.place.start as usize).min(length);
            let end = (problem.place.end as usize).clamp(start, length);
            let first_line = file.text[start..end].split('\n').next().unwrap_or_default();
            let span = start..start + first_line.trim_end().len();
            let snippet = Snippet::source(&*file.text).path(&*file.name).annotation(AnnotationKind::Primary.span(span));
            group = group.element(snippet);
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// One line per problem: `file:line:column: path: what is wrong (what to write instead)`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            if let Some((file, line, column)) = self.files.position(problem.place) {
                write!(f, "{file}:{line}:{column}: ")?;
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.text)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
