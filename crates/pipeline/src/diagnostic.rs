//! `ConfigError`: what is wrong with a pipeline file, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use thiserror::Error;

/// Why a pipeline file was rejected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the pipeline file {}", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system reported.
        source: std::io::Error,
    },
    /// A model's directory is not there.
    #[error("the model `{name}` is not at {}: there is no config.json", path.display())]
    NoModel {
        /// The name under `[model]`.
        name: String,
        /// Where it was looked for; relative paths start at the working directory.
        path: PathBuf,
    },
    /// Standard input cannot stand for several sources.
    #[error("standard input can stand for one source, and the file has {sources}")]
    Stdio {
        /// How many there are.
        sources: usize,
    },
    /// The pipeline keeps no dead letters that could be replayed.
    #[error(
        "the pipeline keeps no dead letters; it would with `policy = {{ dead_letter = {{ topic = \"..\" }} }}` in \
         [on_failure]"
    )]
    NoDeadLetters,
    /// The file is not TOML, or says something that cannot be.
    #[error("{0}")]
    Invalid(Box<Diagnostic>),
}

/// One thing that is wrong in a file. Displays as the file, the line, a caret and what to do.
#[derive(Debug)]
pub struct Diagnostic {
    path: String,
    text: String,
    problem: Problem,
}

/// What is wrong, where, and what would be right.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    /// Bytes of the text, where a place can be named.
    pub(crate) span: Option<Range<usize>>,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl fmt::Display, span: Range<usize>) -> Self {
        Self { message: message.to_string(), span: Some(span), help: None }
    }

    /// A problem of which its caller knows the place.
    pub(crate) fn anywhere(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), span: None, help: None }
    }

    /// Names the place, unless it is known.
    pub(crate) fn at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }

    pub(crate) fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    pub(crate) fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let path = path.display().to_string();
        ConfigError::Invalid(Box::new(Diagnostic { path, text: text.to_owned(), problem: self }))
    }
}

impl From<toml::de::Error> for Problem {
    fn from(error: toml::de::Error) -> Self {
        let (message, help) = reworded(error.message());
        Self { message, span: error.span(), help: help.map(str::to_owned) }
    }
}

/// The parser's messages are about Rust's types in places; these are about the file.
fn reworded(message: &str) -> (String, Option<&'static str>) {
    let help = message
        .ends_with("expected a duration")
        .then_some("write a number and a unit, such as \"5ms\" or \"2s\"");
    if message.starts_with("wanted exactly 1 element") {
        return ("there is more than one key here, or none".to_owned(), Some("it takes one"));
    }
    let message = message
        .replace("unknown variant", "unknown name")
        .replace("a nonzero usize", "1 or more")
        .replace("a nonzero u32", "1 or more")
        .replace("a nonzero u64", "1 or more")
        .replace("expected usize", "expected a whole number from 0")
        .replace("expected u64", "expected a whole number from 0")
        .replace(" as i128", "")
        .replace(" as u128", "")
        .replace("wanted string or table", "a name is needed here, in quotes");
    (message, help)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { message, span, help } = &self.problem;
        let title = Level::ERROR.primary_title(message.as_str());
        let mut group = match span {
            Some(span) => {
                // Whole tables are marked by their first line: the caret is to point, not to underline a page.
                let first_line =
                    self.text[span.clone()].find('\n').map_or(span.end, |end| span.start + end);
                let mark = AnnotationKind::Primary.span(span.start..first_line);
                title.element(
                    Snippet::source(self.text.as_str()).path(self.path.as_str()).annotation(mark),
                )
            }
            None => Group::with_title(title)
                .element(annotate_snippets::Origin::path(self.path.as_str())),
        };
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        write!(f, "{}", Renderer::plain().render(&[group]))
    }
}
