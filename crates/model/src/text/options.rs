//! `TextModelOptions`: which model, where, and how much at once.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::FloatDType;
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
    /// What the encoder computes in.
    pub precision: Precision,
    /// Whether attention in f16 on a GPU may use fused kernels, where Burn has one for the device.
    pub flash_attention: bool,
    /// What every text begins with, such as the `query: ` of models that were trained with it.
    pub prompt: String,
    /// What is answered of an embedding.
    pub embedding: EmbeddingOptions,
    /// What is answered of a classification.
    pub classification: ClassificationOptions,
}

/// What numbers an encoder computes in. Whatever the weights' file holds is converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`: on any device.
    #[default]
    F32,
    /// `f16`: on GPUs, half the memory and up to twice the speed, for the fourth digit of the results.
    F16,
    /// `bf16`: on the CPU, for what is multiplied with weights. Faster on AMD's processors with AVX512-BF16 and slower
    /// on others, for the third digit of the results.
    Bf16,
}

impl Precision {
    pub(crate) fn dtype(self) -> FloatDType {
        match self {
            // The CPU's encoder converts what it multiplies by itself.
            Self::F32 | Self::Bf16 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
        }
    }
}

/// How token vectors become the vector that is answered; what is left out is as the model's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingOptions {
    /// Which of the token vectors count; without files, their mean.
    pub pooling: Option<PoolingMode>,
    /// Whether the vector is scaled to length 1; without files, it is.
    pub normalize: Option<bool>,
    /// How many of the vector's numbers are kept, the first ones, before it is scaled; by default all.
    pub dimensions: Option<NonZeroUsize>,
}

/// Which of a text's token vectors make its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingMode {
    /// `mean`: their mean.
    Mean,
    /// `cls`: the first, which is that of the special token.
    Cls,
    /// `max`: the largest of each component.
    Max,
}

/// How a classifier's numbers become the labels that are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassificationOptions {
    /// How many labels are answered, the likeliest first; by default the likeliest alone, not as a list.
    pub top_k: Option<NonZeroUsize>,
    /// What makes scores of the numbers; by default what the kind of problem in `config.json` asks for.
    pub scores: Option<Scores>,
}

/// What makes scores of a classifier's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// `softmax`: one label is right, and the scores add up to 1.
    Softmax,
    /// `sigmoid`: each label is right or not by itself.
    Sigmoid,
    /// `none`: the numbers as they are, for regression.
    None,
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
            precision: Precision::F32,
            flash_attention: true,
            prompt: String::new(),
            embedding: EmbeddingOptions::default(),
            classification: ClassificationOptions::default(),
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

/// Options that are written as one of a few names.
macro_rules! named {
    ($type:ident, $what:literal: $($variant:ident = $name:literal),+) => {
        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownName {
                        what: $what,
                        given: text.to_owned(),
                        known: &[$($name),+],
                    }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name,)+ })
            }
        }
    };
}

named!(Task, "task":
    TextClassification = "text-classification", TextEmbedding = "text-embedding");
named!(Precision, "precision": F32 = "f32", F16 = "f16", Bf16 = "bf16");
named!(PoolingMode, "pooling": Mean = "mean", Cls = "cls", Max = "max");
named!(Scores, "scores": Softmax = "softmax", Sigmoid = "sigmoid", None = "none");

/// A text that is none of an option's names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown {what} `{given}`, expected {}", quoted(known))]
pub struct UnknownName {
    what: &'static str,
    given: String,
    known: &'static [&'static str],
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::{PoolingMode, Precision, Scores, Task};

    #[test]
    fn every_name_reads_back_as_what_it_is() {
        for task in [Task::TextClassification, Task::TextEmbedding] {
            assert_eq!(task.to_string().parse(), Ok(task));
        }
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for mode in [PoolingMode::Mean, PoolingMode::Cls, PoolingMode::Max] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for scores in [Scores::Softmax, Scores::Sigmoid, Scores::None] {
            assert_eq!(scores.to_string().parse(), Ok(scores));
        }
        let message = "classify".parse::<Task>().unwrap_err().to_string();
        assert_eq!(
            message,
            "unknown task `classify`, expected `text-classification` or `text-embedding`"
        );
    }
}
