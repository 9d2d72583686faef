//! `ConfigError`: the reason why a pipeline file was rejected, with its place in the file.

mod hints;
mod places;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use thiserror::Error;

use crate::secrets::Secrets;

pub(crate) use hints::nearest;
pub(crate) use places::Places;

/// The reason why a pipeline file was rejected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the pipeline file {}; check its path", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A model's directory does not exist, or has no `config.json`.
    #[error(
        "the model `{name}` is not at {}: there is no config.json; correct its `path`, or put the model there",
        path.display()
    )]
    NoModel {
        /// The name under `[model]`.
        name: String,
        /// The directory; relative paths start at the working directory.
        path: PathBuf,
    },
    /// A model's directory cannot be read, for example because this user may not.
    #[error(
        "cannot read the directory of the model `{name}`, {}; let this user read it and its files",
        path.display()
    )]
    UnreadableModel {
        /// The name under `[model]`.
        name: String,
        /// The directory; relative paths start at the working directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Standard input can replace one source only.
    #[error("standard input can replace only one source, but the file has {sources}")]
    Stdio {
        /// The number of sources in the file.
        sources: usize,
    },
    /// The pipeline does not keep dead letters, so none can be replayed.
    #[error(
        "the pipeline keeps no dead letters; to keep them, set `policy = {{ dead_letter = {{ topic = \"..\" }} }}` in \
         [on_failure]"
    )]
    NoDeadLetters,
    /// The file is not TOML, or its settings are invalid.
    #[error("{0}")]
    Invalid(Box<Diagnostic>),
}

/// A mistake in a file. Displays as the message, the file, the line with a caret, and a suggestion.
#[derive(Debug)]
pub struct Diagnostic {
    path: String,
    text: String,
    problem: Problem,
}

/// A mistake, its place in the file, and how to correct it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    /// The byte range of the mistake in the file's text, if known.
    pub(crate) span: Option<Range<usize>>,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl fmt::Display, span: Range<usize>) -> Self {
        Self { message: message.to_string(), span: Some(span), help: None }
    }

    /// Creates the problem of an invalid setting, at the key that the error names.
    pub(crate) fn of(error: &dyn std::error::Error, places: &Places) -> Self {
        let message = chain(error);
        // The table of transactions has settings of the source.
        let span = places.named_in(&message.replace("invalid transactions.", "invalid "));
        let of_librdkafka = message.starts_with("librdkafka rejected");
        let help = of_librdkafka.then(|| {
            "docs/kafka.md has the address of the list of librdkafka's settings and their values".to_owned()
        });
        Self { message, span: Some(span), help }
    }

    /// Creates a problem without a place; the caller adds the place with [`at`](Self::at).
    pub(crate) fn anywhere(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), span: None, help: None }
    }

    /// Sets the place, unless it is known already.
    pub(crate) fn at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }

    pub(crate) fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// Creates the problem of a text that is not TOML.
    pub(crate) fn syntax(error: &toml::de::Error, text: &str) -> Self {
        let help = error.span().and_then(|span| hints::unquoted(text, &span));
        Self { message: error.message().to_owned(), span: error.span(), help }
    }

    /// Hides the values of variables. `file` is the text of the file.
    pub(crate) fn hiding(self, secrets: &Secrets, file: &str) -> Self {
        let message = secrets.hide(&self.message, file);
        let help = match self.help {
            // The hint for a duration tells the number in another unit.
            Some(_) if message != self.message && message.ends_with("expected a duration") => {
                Some(hints::DURATION.to_owned())
            }
            help => help.map(|help| secrets.hide(&help, file)),
        };
        Self { message, help, ..self }
    }

    pub(crate) fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let path = path.display().to_string();
        ConfigError::Invalid(Box::new(Diagnostic { path, text: text.to_owned(), problem: self }))
    }
}

impl From<toml::de::Error> for Problem {
    fn from(error: toml::de::Error) -> Self {
        let (message, help) = hints::reworded(error.message());
        Self { message, span: error.span(), help }
    }
}

/// Formats an error and its causes in one line.
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
                // If the mistake spans several lines, such as a whole table, only the first is
                // marked.
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
