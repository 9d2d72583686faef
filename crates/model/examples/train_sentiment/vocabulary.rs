//! `MiniLM`'s vocabulary, reduced to the tokens of movie reviews and the most common other ones.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::reviews::Review;

/// A token that the training part uses at least this often is kept rather than other tokens.
const MIN_USES: usize = 2;
/// Most tokens of a text in training. Longer texts are truncated.
const MAX_TOKENS: usize = 96;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A review as token ids, with its target.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positive: bool,
    /// The probability of `positive` that the network is trained to output.
    pub(crate) target: f32,
}

/// The tokens that are kept. Their new ids have the same order as the old ones.
pub(crate) struct Vocabulary {
    /// The old id of each token, by its new id.
    kept: Vec<u32>,
    /// The content of `tokenizer.json`, changed to the new ids.
    json: Value,
    tokenizer: Tokenizer,
}

impl Vocabulary {
    /// Reduces the vocabulary in the `tokenizer.json` at `path` to `size` tokens. Keeps first the
    /// special tokens and all single characters, then the tokens that the training part uses, then
    /// the most common tokens of English, which have the lowest ids.
    pub(crate) fn trim(path: &Path, train: &[Review], size: usize) -> Result<Self> {
        let mut json: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        json["truncation"] = Value::Null;
        json["padding"] = Value::Null;
        let full = tokenizer(&json)?;
        let mut uses: HashMap<u32, usize> = HashMap::new();
        for review in train {
            let encoding = full.encode(review.text.as_str(), false).map_err(|e| anyhow!(e))?;
            for &id in encoding.get_ids() {
                *uses.entry(id).or_default() += 1;
            }
        }

        let old: HashMap<String, u32> = serde_json::from_value(json["model"]["vocab"].take())?;
        let rank = |token: &str, id: u32| {
            let bare = token.strip_prefix("##").unwrap_or(token);
            let times = uses.get(&id).copied().unwrap_or(0);
            match () {
                () if SPECIAL.contains(&token) || bare.chars().count() == 1 => 0,
                () if token.starts_with("[unused") => 3,
                () if times >= MIN_USES => 1,
                () => 2,
            }
        };
        let mut ranked: Vec<_> =
            old.iter().map(|(token, &id)| (rank(token, id), id, token)).collect();
        ranked.sort_unstable();
        ranked.truncate(size);
        ranked.sort_unstable_by_key(|&(_, id, _)| id);

        let kept: Vec<u32> = ranked.iter().map(|&(_, id, _)| id).collect();
        let new = |token: &str| ranked.iter().position(|(_, _, kept)| *kept == token);
        for added in json["added_tokens"].as_array_mut().into_iter().flatten() {
            added["id"] = json!(added["content"].as_str().and_then(new));
        }
        let special = json["post_processor"]["special_tokens"].as_object_mut();
        for (token, entry) in special.into_iter().flatten() {
            entry["ids"] = json!([new(token)]);
        }
        let vocabulary: serde_json::Map<_, _> = ranked
            .iter()
            .enumerate()
            .map(|(id, (_, _, token))| ((*token).clone(), json!(id)))
            .collect();
        json["model"]["vocab"] = Value::Object(vocabulary);
        Ok(Self { kept, tokenizer: tokenizer(&json)?, json })
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the rows of `table`, `[tokens of original, width]`, that belong to the tokens of this
    /// vocabulary, all of which `original` has.
    pub(crate) fn select(&self, original: &Self, table: &[f32], width: usize) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(self.len() * width);
        for id in &self.kept {
            let row = original.kept.binary_search(id);
            let row = row.map_err(|_| anyhow!("token {id} is not in the original vocabulary"))?;
            rows.extend_from_slice(&table[row * width..][..width]);
        }
        Ok(rows)
    }

    pub(crate) fn encode(&self, reviews: &[Review]) -> Result<Vec<Example>> {
        let example = |review: &Review| {
            let encoding =
                self.tokenizer.encode(review.text.as_str(), true).map_err(|e| anyhow!(e))?;
            let mut tokens = encoding.get_ids().to_vec();
            if tokens.len() > MAX_TOKENS {
                let separator = *tokens.last().context("special tokens are always there")?;
                tokens.truncate(MAX_TOKENS - 1);
                tokens.push(separator);
            }
            let target = if review.positive { 1.0 } else { 0.0 };
            Ok(Example { tokens, positive: review.positive, target })
        };
        reviews.iter().map(example).collect()
    }

    /// Returns the id of a special token.
    pub(crate) fn id(&self, token: &str) -> Result<u32> {
        self.tokenizer.token_to_id(token).with_context(|| format!("no token {token}"))
    }

    /// Returns the text of `tokenizer.json`.
    pub(crate) fn to_json(&self) -> String {
        self.json.to_string()
    }
}

fn tokenizer(json: &Value) -> Result<Tokenizer> {
    Tokenizer::from_bytes(json.to_string()).map_err(|e| anyhow!(e))
}
