//! The names of a classifier's labels, and the function that makes scores from its logits.

use serde_json::Value;

use super::output::Labels;
use super::{ClassificationOptions, Scores};
use crate::checkpoint::{JsonFile, Weights};
use crate::encoder::HeadConfig;
use crate::{Error, FormatError};

/// The labels in `config.json`, before their number is compared with the weights.
pub(super) struct LabelConfig<'a> {
    config: &'a JsonFile,
    /// `None` if the file names no labels.
    names: Option<Vec<String>>,
    kind: Kind,
    options: ClassificationOptions,
}

/// The kinds of classifiers in the library transformers.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unknown,
    SingleLabel,
    MultiLabel,
    Regression,
}

impl<'a> LabelConfig<'a> {
    /// Reads `id2label` and `problem_type`.
    pub(super) fn read(
        config: &'a JsonFile,
        options: ClassificationOptions,
    ) -> Result<Self, Error> {
        let kind = match config.text_or("problem_type", "")? {
            "" => Kind::Unknown,
            "single_label_classification" => Kind::SingleLabel,
            "multi_label_classification" => Kind::MultiLabel,
            "regression" => Kind::Regression,
            other => {
                let known = "single_label_classification, multi_label_classification, regression";
                return Err(config.unsupported("problem_type", other, known));
            }
        };
        Ok(Self { config, names: names(config)?, kind, options })
    }

    /// Returns the labels of the classifier in `weights`, and adds a warning if their names had to
    /// be made up.
    ///
    /// If the options do not say how to score labels, this is decided by the same rules as in the
    /// pipelines of the library transformers.
    pub(super) fn of(
        self,
        head: &HeadConfig,
        weights: &Weights<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Labels, Error> {
        let outputs = weights.rows(&format!("{}.weight", head.output))?;
        let labels = match &self.names {
            Some(names) => Some(names.len() as u64),
            None => self.config.get("num_labels").and_then(Value::as_u64),
        };
        if let Some(labels) = labels.filter(|&labels| labels != outputs as u64) {
            let config = self.config.path().into();
            let weights = weights.path().into();
            return Err(FormatError::LabelCount { config, labels, weights, outputs }.into());
        }
        let path = self.config.path().display();
        let names = self.names.unwrap_or_else(|| {
            let last = outputs.saturating_sub(1);
            warnings.push(format!(
                "{path} has no `id2label`, so the labels are called LABEL_0 to LABEL_{last}, as in transformers"
            ));
            (0..outputs).map(|class| format!("LABEL_{class}")).collect()
        });
        if names.is_empty() {
            return Err(self.config.bad("id2label", "at least one label"));
        }
        let default_scores = match self.kind {
            Kind::Regression => Scores::None,
            Kind::MultiLabel => Scores::Sigmoid,
            Kind::Unknown | Kind::SingleLabel if names.len() == 1 => Scores::Sigmoid,
            Kind::Unknown | Kind::SingleLabel => Scores::Softmax,
        };
        if self.options.scores.is_none()
            && let Some(setting) = cross_encoder_activation(self.config)
        {
            warnings.push(format!(
                "{path} has an activation for cross-encoders ({setting}), which is not applied; the scores are \
                 `{default_scores}`, unless `scores` is set"
            ));
        }
        let ClassificationOptions { top_k, scores } = self.options;
        Ok(Labels { names, scores: scores.unwrap_or(default_scores), top_k })
    }
}

/// Returns the names in `id2label`: an object from the numbers of the classes, or a list.
fn names(config: &JsonFile) -> Result<Option<Vec<String>>, Error> {
    let bad = || config.bad("id2label", "a name for each class from \"0\" on");
    let name = |value: &Value| match value {
        Value::String(name) => Ok(name.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(bad()),
    };
    match config.get("id2label") {
        None => Ok(None),
        Some(Value::Object(names)) if names.is_empty() => Ok(None),
        Some(Value::Array(names)) if names.is_empty() => Ok(None),
        Some(Value::Array(names)) => names.iter().map(name).collect::<Result<_, _>>().map(Some),
        Some(Value::Object(names)) => {
            let class = |class: usize| name(names.get(&class.to_string()).ok_or_else(bad)?);
            (0..names.len()).map(class).collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(bad()),
    }
}

/// Returns the setting of sentence-transformers for the scores of cross-encoders, if there is one.
fn cross_encoder_activation(config: &JsonFile) -> Option<&str> {
    let key = "sbert_ce_default_activation_function";
    let new = || config.get("sentence_transformers")?.get("activation_fn");
    config.get(key).or_else(new)?.as_str()
}
