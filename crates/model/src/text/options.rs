//! `TextModelOptions`: the model, its device and its limits.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::FloatDType;
use thiserror::Error;

use crate::DeviceChoice;

/// The settings of a text model: the model, its device and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextModelOptions {
    /// A directory in the Hugging Face layout: `config.json`, `tokenizer.json`,
    /// `model.safetensors`.
    pub path: PathBuf,
    /// The model's task; by default inferred from its `config.json`.
    pub task: Option<Task>,
    /// The device that computes.
    pub device: DeviceChoice,
    /// Whether a text of too many tokens is truncated instead of failing.
    pub truncate: bool,
    /// Most tokens in one text, including the special tokens; by default the limit in the model's
    /// files.
    pub max_tokens: Option<NonZeroUsize>,
    /// Most texts that a GPU computes in one run. The warm-up compiles kernels for up to this
    /// number of texts, and a larger batch is computed in several runs.
    pub max_batch: NonZeroUsize,
    /// Number of threads that compute on the CPU; by default one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Number format of the encoder.
    pub precision: Precision,
    /// Whether attention in f16 on a GPU may use fused kernels, if Burn has them for the device.
    pub flash_attention: bool,
    /// Text that is put before every text, such as `query: ` for models that were trained with it;
    /// by default the model's default prompt, if its files have one.
    pub prompt: Option<String>,
    /// Settings that apply only to the task `text-embedding`.
    pub embedding: EmbeddingOptions,
    /// Settings that apply only to the task `text-classification`.
    pub classification: ClassificationOptions,
}

/// The number format that an encoder computes in. The weights are converted from the format of
/// their file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`: supported by every device.
    #[default]
    F32,
    /// `f16`: only for GPUs. Takes half the memory of f32 and is up to twice as fast; results
    /// differ in the fourth digit.
    F16,
    /// `bf16`: only for the CPU, which uses it for products with weights. Faster than f32 on AMD
    /// processors with AVX512-BF16, and slower on others; results differ in the third digit.
    Bf16,
}

impl Precision {
    pub(crate) fn dtype(self) -> FloatDType {
        match self {
            // If the precision is bf16, Burn still loads the weights in f32, because the CPU
            // encoder converts them itself.
            Self::F32 | Self::Bf16 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
        }
    }
}

/// How a text's token vectors become its vector. Settings that are left out are taken from the
/// model's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingOptions {
    /// How token vectors are pooled; the mean if the files do not have this setting.
    pub pooling: Option<PoolingMode>,
    /// Whether the vector is scaled to length 1; true if the files do not have this setting.
    pub normalize: Option<bool>,
    /// The number of components that the vector is shortened to before it is scaled; by default it
    /// is not shortened.
    pub dimensions: Option<NonZeroUsize>,
}

/// How a text's token vectors are combined into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingMode {
    /// `mean`: the mean of all token vectors.
    Mean,
    /// `cls`: the vector of the first token, which is a special token.
    Cls,
    /// `max`: the maximum of each component.
    Max,
}

/// How a classifier's logits become the labels of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassificationOptions {
    /// How many labels a result lists, the most likely first. By default the result is the most
    /// likely label alone, not a list.
    pub top_k: Option<NonZeroUsize>,
    /// The function from logits to scores; by default the one for the `problem_type` in
    /// `config.json`.
    pub scores: Option<Scores>,
}

/// The function from a classifier's logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// `softmax`: exactly one label applies, and the scores add up to 1.
    Softmax,
    /// `sigmoid`: each label applies or not, independently of the others.
    Sigmoid,
    /// `none`: the logits themselves, for regression.
    None,
}

impl TextModelOptions {
    /// Returns the options for the model at `path`, with all others at their defaults: for example,
    /// an automatically chosen device, no truncation, at most 64 texts in one run.
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
            prompt: None,
            embedding: EmbeddingOptions::default(),
            classification: ClassificationOptions::default(),
        }
    }
}

/// The task of a text model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `text-classification`: the most likely of the model's labels, with its score.
    TextClassification,
    /// `text-embedding`: one vector for the text.
    TextEmbedding,
}

/// Implements `FromStr` and `Display` for an option that is written as one of a few names.
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

/// The error for a text that is not one of an option's names.
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
    fn every_displayed_name_parses_back() {
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
