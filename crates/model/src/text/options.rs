//! `TextModelOptions`: which model, where, and how much at once.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::DeviceChoice;

/// Which text model to load, onto which device, and how much it is given at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextModelOptions {
    /// A directory in the Hugging Face layout: `config.json`, `tokenizer.json`, `model.safetensors`.
    pub path: PathBuf,
    /// What the model does; by default what its `config.json` says.
    pub task: Option<Task>,
    /// Where it computes.
    pub device: DeviceChoice,
    /// Whether a text of too many tokens is cut, instead of failing alone.
    pub truncate: bool,
    /// Most tokens in one text, the special ones counted in; by default what the model's files say.
    pub max_tokens: Option<NonZeroUsize>,
    /// Most texts in one run on a GPU, whose shapes are warmed up to here; larger batches are run in parts.
    pub max_batch: NonZeroUsize,
    /// How many threads compute on the CPU; by default one for each core.
    pub threads: Option<NonZeroUsize>,
}

impl TextModelOptions {
    /// The model at `path` with every option at its default: the device chosen by itself, no text truncated, at most
    /// 64 texts at once.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        const MAX_BATCH: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
        Self {
            path: path.into(),
            task: None,
            device: DeviceChoice::Auto,
            truncate: false,
            max_tokens: None,
            max_batch: MAX_BATCH,
            threads: None,
        }
    }
}

/// What a text model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `text-classification`: the most likely of the model's labels, with its probability.
    TextClassification,
    /// `text-embedding`: one vector for the text.
    TextEmbedding,
}

impl FromStr for Task {
    type Err = InvalidTask;

    fn from_str(text: &str) -> Result<Self, InvalidTask> {
        match text {
            "text-classification" => Ok(Self::TextClassification),
            "text-embedding" => Ok(Self::TextEmbedding),
            _ => Err(InvalidTask { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextClassification => "text-classification",
            Self::TextEmbedding => "text-embedding",
        })
    }
}

/// A text that names no task.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown task `{given}`, expected `text-classification` or `text-embedding`")]
pub struct InvalidTask {
    /// What was written.
    pub given: String,
}

#[cfg(test)]
mod tests {
    use super::Task;

    #[test]
    fn a_task_reads_back_what_it_writes() {
        for task in [Task::TextClassification, Task::TextEmbedding] {
            assert_eq!(task.to_string().parse(), Ok(task));
        }
        let message = "classify".parse::<Task>().unwrap_err().to_string();
        assert!(message.contains("`text-classification` or `text-embedding`"), "{message}");
    }
}
