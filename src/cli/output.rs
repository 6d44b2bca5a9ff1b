//! Formats, and where they go: `-o FORMAT[=PATH]`.

use std::path::PathBuf;

use super::folder::write_file;
use super::terminal::print;
use crate::manifest::read::did_you_mean;

/// Formats that results can be written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Text,
    Json,
    Md,
    Html,
    Junit,
    Csv,
    Hgrm,
}

const FORMATS: [(&str, Format); 7] = [
    ("text", Format::Text),
    ("json", Format::Json),
    ("md", Format::Md),
    ("html", Format::Html),
    ("junit", Format::Junit),
    ("csv", Format::Csv),
    ("hgrm", Format::Hgrm),
];
/// Formats that are planned.
const LATER: [&str; 6] = ["sarif", "github", "gitlab", "svg", "trace", "folded"];

/// A format and where it goes; no path: standard output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) path: Option<PathBuf>,
}

/// Reads all `-o`. If none goes to standard output, text does.
pub(super) fn parse(texts: &[String], allowed: &[Format]) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    let known: Vec<&str> =
        FORMATS.iter().filter(|(_, format)| allowed.contains(format)).map(|(name, _)| *name).collect();
    for text in texts {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (text.as_str(), None),
        };
        let found = FORMATS.iter().find(|(known, format)| *known == name && allowed.contains(format));
        let Some((_, format)) = found else {
            if LATER.contains(&name) {
                return Err(format!("-o {name} is not available yet; formats here: {}", known.join(", ")));
            }
            let hint = did_you_mean(name, known.iter().copied()).map_or_else(
                || format!("formats here: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(format!("`{name}` is not a format; {hint}"));
        };
        if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(format!("-o {text} names no file; write -o {name}=PATH, or -o {name} for standard output"));
        }
        outputs.push(Output { format: *format, path });
    }
    match outputs.iter().filter(|output| output.path.is_none()).count() {
        0 => outputs.push(Output { format: Format::Text, path: None }),
        1 => {}
        _ => return Err("only one format can go to standard output; give the others a path: -o FORMAT=PATH".to_owned()),
    }
    Ok(outputs)
}

impl Output {
    /// Writes a text where it goes.
    pub(super) fn write(&self, text: &str) -> Result<(), String> {
        match &self.path {
            None => print(text),
            Some(path) => write_file(path, text).map_err(|error| format!("{}: {error}", path.display()))?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Vec<Output>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse(&texts, &[Format::Text, Format::Json, Format::Junit])
    }

    #[test]
    fn text_goes_to_standard_output_unless_something_else_does() {
        let format = |texts: &[&str]| parsed(texts).unwrap().iter().map(|output| output.format).collect::<Vec<_>>();
        assert_eq!(format(&[]), [Format::Text]);
        assert_eq!(format(&["json"]), [Format::Json]);
        assert_eq!(format(&["json=a.json"]), [Format::Json, Format::Text]);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        for (texts, part) in [
            (&["jsn"][..], "did you mean `json`?"),
            (&["sarif"], "not available yet"),
            (&["json", "text"], "only one format"),
            (&["json="], "names no file"),
            (&["html"], "formats here: text, json, junit"),
        ] {
            let error = parsed(texts).unwrap_err();
            assert!(error.contains(part), "{texts:?}: {error}");
        }
    }
}
