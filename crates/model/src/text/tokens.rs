//! Turning texts into token ids.

use std::num::NonZeroUsize;
use std::path::Path;

use forebay_stream::Failure;
use serde_json::json;
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{PostProcessor as _, TruncationDirection, TruncationParams};

use super::sentence::SentenceSettings;
use super::tokenizer_config::{TokenizerConfig, lowers};
use super::{TextModelOptions, tokenizer_file};
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::codes;
use crate::encoder::EncoderConfig;

/// Token ids of one text, including the special tokens at both ends. There is at least one, and at
/// most as many as the model can compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(Vec<u32>);

impl Tokens {
    /// Returns the ids in the order of the text.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

/// The smallest limit that leaves room for a text: two special tokens and one more.
const MIN_TOKENS: usize = 3;

/// The tokenizer of one model, with the model's limit on tokens.
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    padding: u32,
    /// A prefix that is added to every text; see [`TextModelOptions::prompt`].
    prompt: String,
}

impl Tokenizer {
    /// Reads the tokenizer in `directory`, and the settings that change its tokens.
    ///
    /// The truncation and padding settings in `tokenizer.json` are ignored, because they were made
    /// for the training of the model.
    pub(super) fn load(
        directory: &Path,
        config: &JsonFile,
        encoder: &EncoderConfig,
        sentence: &SentenceSettings,
        options: &TextModelOptions,
    ) -> Result<Self, Error> {
        let path = directory.join("tokenizer.json");
        let error = |source| Error::Tokenizer { path: path.clone(), source };
        let mut tokenizer = tokenizer_file::read(directory)?;
        // Padding and truncation in the file describe the training.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(error)?;
        let settings = TokenizerConfig::read(directory)?;
        settings.apply(&mut tokenizer, &path)?;
        if sentence.lower_case {
            lower_case(&mut tokenizer).map_err(error)?;
        }
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if highest as usize >= encoder.vocabulary {
            return Err(Error::Vocabulary { path, highest, rows: encoder.vocabulary });
        }
        // The limit of sentence-transformers was set for the whole model, so it takes precedence
        // over the tokenizer's.
        let limit = sentence.max_tokens.or_else(|| settings.max_tokens());
        let special = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let least = MIN_TOKENS.max(special + 1);
        if encoder.max_tokens() < least {
            return Err(
                config.bad("max_position_embeddings", "room for the special tokens and one more")
            );
        }
        let max_tokens = max_tokens(encoder, options.max_tokens, limit, least)?;
        let direction = if settings.truncates_left()? {
            TruncationDirection::Left
        } else {
            TruncationDirection::Right
        };
        let truncation =
            TruncationParams { max_length: max_tokens, direction, ..TruncationParams::default() };
        tokenizer.with_truncation(options.truncate.then_some(truncation)).map_err(error)?;
        let padding = padding(config, encoder)?;
        let prompt = options.prompt.as_ref().unwrap_or(&sentence.prompt).clone();
        Ok(Self { inner: tokenizer, max_tokens, padding, prompt })
    }

    /// Returns the ids of `text`, or the failure of a text that is too long or cannot be tokenised.
    pub(super) fn encode(&self, text: &str) -> Result<Tokens, Failure> {
        let prompted;
        let text = if self.prompt.is_empty() {
            text
        } else {
            prompted = format!("{}{text}", self.prompt);
            &prompted
        };
        let encoding = self.inner.encode_fast(text, true).map_err(|error| {
            Failure::new(codes::INVALID_TEXT, format_args!("cannot tokenise: {error}"))
        })?;
        let tokens = encoding.get_ids().to_vec();
        match tokens.len() {
            0 => Err(Failure::new(
                codes::INVALID_TEXT,
                "the tokenizer returned no tokens for the text",
            )),
            count if count > self.max_tokens => Err(Failure::new(
                codes::TEXT_TOO_LONG,
                format_args!("the text has {count} tokens, the model takes {}", self.max_tokens),
            )),
            _ => Ok(Tokens(tokens)),
        }
    }

    /// Returns the most tokens that one text may have.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the id of the token that fills up the shorter texts of a batch. Padding is masked,
    /// so any valid id gives the same results.
    pub(super) fn padding(&self) -> u32 {
        self.padding
    }
}

/// Converts texts to lower case before the tokenizer's other changes of the text, as
/// sentence-transformers does.
fn lower_case(tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    if lowers(&json!(tokenizer.get_normalizer())) {
        return Ok(());
    }
    let all = [Some(Lowercase.into()), tokenizer.get_normalizer().cloned()];
    tokenizer.with_normalizer(Some(Sequence::new(all.into_iter().flatten().collect())))?;
    Ok(())
}

/// Returns the most tokens that one text may have: the limit that the user `asked` for, or the
/// `limit` in the model's files. It is at least `least`, which leaves room for the special tokens, and
/// at most the number of the model's positions.
fn max_tokens(
    encoder: &EncoderConfig,
    asked: Option<NonZeroUsize>,
    limit: Option<u64>,
    least: usize,
) -> Result<usize, Error> {
    let most = encoder.max_tokens();
    if let Some(asked) = asked.map(NonZeroUsize::get) {
        let fits = (least..=most).contains(&asked);
        return fits.then_some(asked).ok_or(Error::MaxTokens { asked, least, most });
    }
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    Ok(limit.clamp(least, most))
}

/// Reads the id of the padding token, which is 0 if `config.json` does not name it.
fn padding(config: &JsonFile, encoder: &EncoderConfig) -> Result<u32, Error> {
    let id = config.get("pad_token_id").map_or(Some(0), serde_json::Value::as_u64);
    id.and_then(|id| u32::try_from(id).ok())
        .filter(|&id| (id as usize) < encoder.vocabulary)
        .ok_or_else(|| config.bad("pad_token_id", "a token id within the vocabulary"))
}
