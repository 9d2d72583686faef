//! Reading a model's tokenizer: from `tokenizer.json`, or from the vocabulary of BERT.

use std::io::ErrorKind;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::checkpoint::read_text;
use crate::{Error, FormatError};

const TOKENIZER: &str = "tokenizer.json";
/// The special tokens of BERT's vocabularies, which other vocabularies do not have.
const SPECIAL: [&str; 4] = ["[CLS]", "[SEP]", "[UNK]", "[PAD]"];
/// Vocabularies from which transformers can make a `tokenizer.json`.
const VOCABULARIES: [&str; 6] = [
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
];

/// Reads the tokenizer of the model in `directory`.
pub(super) fn read(directory: &Path) -> Result<Tokenizer, Error> {
    let path = directory.join(TOKENIZER);
    let failed = |source| Error::Tokenizer { path: path.clone(), source };
    match read_text(&path) {
        Ok(json) => Tokenizer::from_bytes(&json).map_err(failed),
        Err(Error::Read { source, path }) if source.kind() == ErrorKind::NotFound => {
            other(directory).unwrap_or(Err(Error::Read { path, source }))
        }
        Err(error) => Err(error),
    }
}

/// Returns the tokenizer of a directory without `tokenizer.json`, if it has a vocabulary.
fn other(directory: &Path) -> Option<Result<Tokenizer, Error>> {
    let path = VOCABULARIES.iter().map(|name| directory.join(name)).find(|path| path.exists())?;
    let words = path.ends_with("vocab.txt").then(|| read_text(&path));
    match words {
        Some(Ok(text)) if is_bert(&text) => Some(
            from_words(&text).map_err(|source| Error::Tokenizer { path: path.clone(), source }),
        ),
        Some(Err(error)) => Some(Err(error)),
        _ => {
            let command = format!(
                "python3 -c \"from transformers import AutoTokenizer as T; \
                 T.from_pretrained('{0}').save_pretrained('{0}')\"",
                directory.display()
            );
            Some(Err(FormatError::Convert { path, target: TOKENIZER, command }.into()))
        }
    }
}

fn is_bert(text: &[u8]) -> bool {
    SPECIAL.iter().all(|token| {
        text.split(|&byte| byte == b'\n').any(|line| line.trim_ascii() == token.as_bytes())
    })
}

/// Returns BERT's tokenizer for a vocabulary with one word in each line. The settings in
/// `tokenizer_config.json` are applied to it later.
fn from_words(text: &[u8]) -> tokenizers::Result<Tokenizer> {
    let words = WordPiece::builder().vocab(WordPiece::read_bytes(text)?).build()?;
    let mut tokenizer = Tokenizer::new(words);
    tokenizer.with_normalizer(Some(BertNormalizer::default()))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true)))?;
    let ends =
        ["[CLS]", "[SEP]"].map(|token| (token, tokenizer.token_to_id(token).unwrap_or_default()));
    let template = TemplateProcessing::builder()
        .try_single("[CLS] $A [SEP]")?
        .try_pair("[CLS] $A [SEP] $B:1 [SEP]:1")?
        .special_tokens(ends.to_vec())
        .build()?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}
