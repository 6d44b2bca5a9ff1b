//! Scenarios and their manifests on disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::manifest::yaml::FILE_BYTES_MAX;
use crate::manifest::{Problem, Problems};
use crate::scenario::{Library, NamedText};

/// What scenario files end in.
const SCENARIO_SUFFIX: &str = ".drill.yaml";

type Answer = Result<Vec<NamedText>, (String, String)>;

/// A scenario's text with all the manifests it names: everything a run reads, so that many runs read the disk once.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    /// The file, as the user named it.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    answers: BTreeMap<String, Answer>,
}

impl Library for Bundle {
    fn read(&self, path: &str) -> Answer {
        let unknown =
            || Err((format!("`{path}` was not read"), "this is a mistake of gatedrill: please report it".to_owned()));
        self.answers.get(path).cloned().unwrap_or_else(unknown)
    }
}

/// Reads the disk and remembers what it gave.
pub(super) struct Disk {
    folder: PathBuf,
    answers: RefCell<BTreeMap<String, Answer>>,
}

impl Disk {
    /// Paths are relative to the folder of the scenario file; of standard input, to where the command was typed.
    pub(super) fn beside(scenario: &str) -> Self {
        let folder = if scenario == "-" {
            PathBuf::new()
        } else {
            Path::new(scenario).parent().unwrap_or(Path::new("")).to_owned()
        };
        Self { folder, answers: RefCell::default() }
    }

    /// All that was read.
    pub(super) fn bundle(self, name: &str, text: &str) -> Bundle {
        Bundle { name: name.to_owned(), text: text.to_owned(), answers: self.answers.into_inner() }
    }
}

impl Library for Disk {
    fn read(&self, path: &str) -> Answer {
        let known = self.answers.borrow().get(path).cloned();
        known.unwrap_or_else(|| {
            let answer = read_manifests(&self.folder.join(path));
            self.answers.borrow_mut().insert(path.to_owned(), answer.clone());
            answer
        })
    }
}

/// Paths as people write them: with slashes.
fn shown(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

fn read_manifests(path: &Path) -> Answer {
    if path.is_dir() {
        let is_manifest = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ends = [".yaml", ".yml", ".json"].iter().any(|suffix| name.ends_with(suffix));
            path.is_file() && ends && !name.ends_with(SCENARIO_SUFFIX) && !name.starts_with('.')
        };
        let files: Vec<PathBuf> = listed(path)?.into_iter().filter(is_manifest).collect();
        if files.is_empty() {
            return Err((
                format!("`{}` holds no *.yaml, *.yml or *.json", shown(path)),
                "put the manifests there, or name their folder".to_owned(),
            ));
        }
        return files.iter().map(|file| Ok((shown(file), read_text(file)?))).collect();
    }
    Ok(vec![(shown(path), read_text(path)?)])
}

fn listed(path: &Path) -> Result<Vec<PathBuf>, (String, String)> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> (String, String) {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            (format!("`{}` does not exist", shown(path)), "paths are relative to the scenario file".to_owned())
        }
        _ => (format!("`{}` cannot be read: {error}", shown(path)), "check the file".to_owned()),
    }
}

/// A file's text, unless it is too large to be a manifest; the size is looked at before anything is read.
fn read_text(path: &Path) -> Result<String, (String, String)> {
    let size = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > FILE_BYTES_MAX {
        let text = format!("`{}` is too large: {} MiB of at most {}", shown(path), size >> 20, FILE_BYTES_MAX >> 20);
        return Err((text, "split it, or name the files that matter".to_owned()));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    String::from_utf8(bytes)
        .map_err(|_| (format!("`{}` is not UTF-8 text", shown(path)), "name a YAML file".to_owned()))
}

/// The scenario files that an argument names, as the user would write them.
pub(super) fn scenarios(argument: &str) -> Result<Vec<String>, Problems> {
    let nothing = |text: String, help: &str| {
        Problems::new(vec![Problem::nowhere(text).help(help)], crate::manifest::Files::default())
    };
    if argument == "-" {
        return Ok(vec![argument.to_owned()]);
    }
    let path = Path::new(argument);
    if path.is_dir() {
        let of = |folder: &Path| -> Vec<String> {
            let files = listed(folder).unwrap_or_default().into_iter();
            files
                .filter(|file| file.is_file())
                .map(|file| shown(&file))
                .filter(|name| name.ends_with(SCENARIO_SUFFIX))
                .collect()
        };
        let mut found = of(path);
        if found.is_empty() {
            // A folder of scenarios, each in a folder of its own.
            let folders = listed(path).unwrap_or_default().into_iter().filter(|entry| entry.is_dir());
            found = folders.flat_map(|folder| of(&folder)).collect();
        }
        if found.is_empty() {
            return Err(nothing(
                format!("`{argument}` holds no *{SCENARIO_SUFFIX}"),
                "name a scenario file, or a folder with one",
            ));
        }
        return Ok(found);
    }
    if path.exists() {
        return Ok(vec![argument.to_owned()]);
    }
    let is_pattern = argument.contains(['*', '?', '[']);
    let found: Vec<String> = match glob::glob(argument) {
        Ok(paths) if is_pattern => paths.filter_map(Result::ok).map(|path| shown(&path)).collect(),
        _ => Vec::new(),
    };
    if found.is_empty() {
        let help =
            if is_pattern { "the pattern matches nothing" } else { "name a scenario file, or a folder with one" };
        return Err(nothing(format!("`{argument}` does not exist"), help));
    }
    found.iter().try_fold(Vec::new(), |mut all, name| {
        all.extend(if Path::new(name).is_dir() { scenarios(name)? } else { vec![name.clone()] });
        Ok(all)
    })
}

/// The manifests that arguments name: files, folders, globs.
#[cfg(unix)]
pub(super) fn manifests(arguments: &[String]) -> Result<Vec<NamedText>, Problems> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for argument in arguments {
        let is_pattern = argument.contains(['*', '?', '[']) && !Path::new(argument).exists();
        let matched = glob::glob(argument).ok().filter(|_| is_pattern);
        let paths =
            matched.map_or_else(|| vec![PathBuf::from(argument)], |paths| paths.filter_map(Result::ok).collect());
        if paths.is_empty() {
            problems.push(
                Problem::nowhere(format!("`{argument}` matches nothing")).help("name a manifest, or a folder of them"),
            );
        }
        for path in paths {
            match read_manifests(&path) {
                Ok(found) => texts.extend(found),
                Err((text, _)) => problems.push(Problem::nowhere(text).help("name a manifest, or a folder of them")),
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(Problems::new(problems, crate::manifest::Files::default())) }
}

/// A scenario file's text.
pub(super) fn scenario_text(name: &str) -> Result<String, Problems> {
    let fail = |(text, help): (String, String)| {
        Problems::new(vec![Problem::nowhere(text).help(help)], crate::manifest::Files::default())
    };
    if name != "-" {
        return read_text(Path::new(name)).map_err(fail);
    }
    let mut text = String::new();
    match std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(fail((format!("standard input cannot be read: {error}"), "pipe a scenario into it".to_owned())))
        }
    }
}
