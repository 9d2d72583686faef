//! Naming the tensors that a model's files have and that its answers do not depend on.

use std::collections::BTreeSet;
use std::path::Path;

use super::Weights;

/// The tensors that a model's encoder may have.
pub(crate) struct Expected<'a> {
    /// The prefix of the encoder's tensors and the name of its layers, such as `bert.encoder.layer`.
    pub(crate) layers: String,
    /// The number of layers in `config.json`.
    pub(crate) count: usize,
    /// The `config.json`.
    pub(crate) config: &'a Path,
}

impl Expected<'_> {
    /// Returns whether a tensor belongs to a layer beyond those that `config.json` asks for.
    fn is_surplus(&self, name: &str) -> bool {
        let inner = name.strip_prefix(&self.layers).and_then(|rest| rest.strip_prefix('.'));
        let number = inner.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        number.is_some_and(|number| number >= self.count)
    }
}

/// Tensors of the heads of all tasks, by the first part of their names.
const HEADS: [&str; 13] = [
    "classifier",
    "cls",
    "discriminator_predictions",
    "generator_lm_head",
    "generator_predictions",
    "lm_head",
    "pre_classifier",
    "qa_outputs",
    "score",
    "sequence_summary",
    "vocab_layer_norm",
    "vocab_projector",
    "vocab_transform",
];
/// The most names of tensors that one warning lists.
const LISTED: usize = 4;

impl Weights<'_> {
    /// Returns a warning for each kind of tensor that was not taken, although the answers might
    /// depend on it, and for tensors with an infinity or NaN.
    ///
    /// Left out are tensors that hold nothing which was learnt, and the pooler, which belongs to
    /// the task of BERT's first training and which sentence-transformers does not use either.
    pub(crate) fn warnings(&self, expected: Option<&Expected<'_>>) -> Vec<String> {
        let path = self.path().display();
        let mut heads = BTreeSet::new();
        let mut layers = None;
        let mut others = Vec::new();
        for name in self.left() {
            let first = name.split('.').next().unwrap_or_default();
            let surplus = expected.filter(|expected| expected.is_surplus(name));
            if is_without_effect(name) {
            } else if HEADS.contains(&first) {
                heads.insert(first);
            } else if surplus.is_some() {
                layers = surplus;
            } else {
                others.push(format!("`{name}`"));
            }
        }
        let mut warnings = Vec::new();
        if let Some(Expected { config, count, .. }) = layers {
            warnings.push(format!(
                "{path} has more than the {count} layers that {} asks for (`num_hidden_layers` or `n_layers`); the \
                 others are not used, so the answers may not be the model's",
                config.display(),
            ));
        }
        if !heads.is_empty() {
            let heads: Vec<_> = heads.iter().map(|head| format!("`{head}`")).collect();
            warnings.push(format!(
                "{path} has the head of another task, which is not used: {}",
                heads.join(", ")
            ));
        }
        if !others.is_empty() {
            warnings.push(format!(
                "{path} has tensors that are not used, so the answers may not be the model's: {}",
                listed(&others)
            ));
        }
        let not_finite = self.not_finite();
        if !not_finite.is_empty() {
            warnings.push(format!("{path} has infinities or NaN in {}", listed(&not_finite)));
        }
        warnings
    }
}

/// Returns whether a tensor holds numbers that are the same in every model, or belongs to the
/// pooler.
fn is_without_effect(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
        || name.ends_with("embeddings.token_type_ids")
        || name.split('.').any(|part| part == "pooler")
}

fn listed(names: &[String]) -> String {
    let some = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}
