//! `TokenizerConfig`: the settings of transformers that change the tokens which `tokenizer.json`
//! gives.
//!
//! The classes of transformers for one architecture's tokenizer build it again from these settings.
//! The generic classes use `tokenizer.json` as it is, with additional special tokens.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::Error;
use crate::checkpoint::JsonFile;

/// The classes that use `tokenizer.json` as it is.
const GENERIC: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];

/// The beginnings of the names of the classes whose normalizer is that of BERT.
const BERT: [&str; 3] = ["Bert", "DistilBert", "Electra"];
/// The keys that name one special token.
const NAMED: [&str; 7] =
    ["bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token"];

/// The settings in `tokenizer_config.json` and in the files that older versions of transformers
/// have beside it.
#[derive(Debug)]
pub(super) struct TokenizerConfig {
    /// `tokenizer_config.json`, then `special_tokens_map.json`, if they are there.
    files: Vec<JsonFile>,
}

impl TokenizerConfig {
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let names = ["tokenizer_config.json", "special_tokens_map.json"];
        let files = names.map(|name| JsonFile::read_if_there(&directory.join(name)));
        let files = files.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// Returns the most tokens of a text, if there is a limit.
    pub(super) fn max_tokens(&self) -> Option<u64> {
        // A limit may be a float of 1e30, which means that there is none.
        self.get("model_max_length").or_else(|| self.get("max_len"))?.1.as_u64()
    }

    /// Returns whether a text that is too long loses its beginning instead of its end.
    pub(super) fn truncates_left(&self) -> Result<bool, Error> {
        match self.get("truncation_side").map(|(file, side)| (file, side.as_str())) {
            None | Some((_, Some("right"))) => Ok(false),
            Some((_, Some("left"))) => Ok(true),
            Some((file, _)) => Err(file.bad("truncation_side", "left or right")),
        }
    }

    /// Changes the tokenizer, which was read from `path`, as the settings ask for.
    pub(super) fn apply(&self, tokenizer: &mut Tokenizer, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Tokenizer { path: path.into(), source };
        if let Some((_, split)) = self.get("split_special_tokens") {
            tokenizer.set_encode_special_tokens(split == &Value::Bool(true));
        }
        let (special, usual) = self.new_tokens(tokenizer)?;
        tokenizer.add_special_tokens(special).map_err(failed)?;
        tokenizer.add_tokens(usual).map_err(failed)?;
        let class = self.get("tokenizer_class").and_then(|(_, class)| class.as_str());
        if class.is_some_and(|class| GENERIC.contains(&class)) {
            return Ok(());
        }
        let is_bert = class.is_some_and(|class| BERT.iter().any(|name| class.starts_with(name)));
        if let Some(normalizer) = self.normalizer(tokenizer, is_bert)? {
            tokenizer.with_normalizer(Some(normalizer)).map_err(failed)?;
        }
        self.add_prefix_space(tokenizer)?;
        self.check_special_tokens(tokenizer)
    }

    /// Returns the tokenizer's normalizer with the changes that the settings ask for, if it is that
    /// of BERT and there are any.
    fn normalizer(
        &self,
        tokenizer: &Tokenizer,
        must_fit: bool,
    ) -> Result<Option<NormalizerWrapper>, Error> {
        const KEYS: [(&str, &str); 3] = [
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        ];
        let mut normalizer = json!(tokenizer.get_normalizer());
        let is_bert = normalizer["type"] == "BertNormalizer";
        let before = normalizer.clone();
        for (key, field) in KEYS {
            let Some((file, value)) = self.get(key) else { continue };
            if !value.is_boolean() {
                return Err(file.bad(key, "true or false"));
            }
            if is_bert {
                normalizer[field] = value.clone();
            } else if must_fit && key == "do_lower_case" && *value != lowers(&normalizer) {
                let supported = "what the normalizer of tokenizer.json does";
                return Err(file.unsupported(key, &value.to_string(), supported));
            }
        }
        let changed = (normalizer != before).then(|| serde_json::from_value(normalizer));
        Ok(changed.and_then(Result::ok))
    }

    /// Makes the pre-tokenizer of the `RoBERTa` family do what the settings say.
    fn add_prefix_space(&self, tokenizer: &mut Tokenizer) -> Result<(), Error> {
        let Some((file, value)) = self.get("add_prefix_space") else { return Ok(()) };
        let adds = value.as_bool().ok_or_else(|| file.bad("add_prefix_space", "true or false"))?;
        let mut pre_tokenizer = json!(tokenizer.get_pre_tokenizer());
        if set_prefix_space(&mut pre_tokenizer, adds)
            && let Ok(changed) = serde_json::from_value::<PreTokenizerWrapper>(pre_tokenizer)
        {
            tokenizer.with_pre_tokenizer(Some(changed));
        }
        Ok(())
    }

    /// Refuses special tokens other than those which `tokenizer.json` puts around a text, or gives
    /// for an unknown word.
    fn check_special_tokens(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let Ok(empty) = tokenizer.encode_fast("", true) else { return Ok(()) };
        let ends = [("cls_token", empty.get_ids().first()), ("sep_token", empty.get_ids().last())];
        for (key, id) in ends {
            let Some((file, token)) = self.get(key) else { continue };
            let token = content(token).unwrap_or_default();
            if let Some(&id) = id.filter(|&&id| tokenizer.token_to_id(token) != Some(id)) {
                let supported = tokenizer.id_to_token(id).unwrap_or_default();
                return Err(file.unsupported(
                    key,
                    token,
                    format!("{supported}, as in tokenizer.json"),
                ));
            }
        }
        if let ModelWrapper::WordPiece(words) = tokenizer.get_model()
            && let Some((file, token)) = self.get("unk_token")
            && content(token) != Some(&words.unk_token)
        {
            let token = content(token).unwrap_or_default();
            let supported = format!("{}, as in tokenizer.json", words.unk_token);
            return Err(file.unsupported("unk_token", token, supported));
        }
        Ok(())
    }

    /// Returns the tokens that become added ones: special tokens, and usual ones. An added token is
    /// found in a text before the text is split into words.
    ///
    /// Refuses an additional token that `tokenizer.json` does not have, because the model has no
    /// vector for it.
    fn new_tokens(
        &self,
        tokenizer: &Tokenizer,
    ) -> Result<(Vec<AddedToken>, Vec<AddedToken>), Error> {
        let mut added = Vec::new();
        for key in ["additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"] {
            let Some((file, value)) = self.get(key) else { continue };
            let bad = || file.bad(key, "a list or an object of tokens");
            let members: Vec<&Value> = match value {
                Value::Array(members) => members.iter().collect(),
                Value::Object(members) => members.values().collect(),
                _ => return Err(bad()),
            };
            for member in members {
                let token = content(member).ok_or_else(bad)?;
                if tokenizer.token_to_id(token).is_none() {
                    return Err(file.unsupported(key, token, "tokens that tokenizer.json has"));
                }
                added.push(added_token(token, member));
            }
        }
        let named = NAMED.iter().filter_map(|key| self.get(key));
        let named = named.filter_map(|(_, value)| Some(added_token(content(value)?, value)));
        added.extend(named.filter(|token| tokenizer.token_to_id(&token.content).is_some()));
        let known = tokenizer.get_added_vocabulary().get_vocab();
        added.retain(|token| !known.contains_key(&token.content));
        Ok(added.into_iter().partition(|token| token.special))
    }

    /// Returns the value of a key, with the file that has it.
    fn get(&self, key: &str) -> Option<(&JsonFile, &Value)> {
        self.files.iter().find_map(|file| Some((file, file.get(key)?)))
    }
}

/// Returns the text of a token, which is a string or an object.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn added_token(token: &str, settings: &Value) -> AddedToken {
    let is_set = |key: &str| settings[key] == Value::Bool(true);
    AddedToken::from(token, settings["special"] != Value::Bool(false))
        .lstrip(is_set("lstrip"))
        .rstrip(is_set("rstrip"))
        .single_word(is_set("single_word"))
        .normalized(is_set("normalized"))
}

/// Makes a pre-tokenizer, or the members of a sequence, add a space to the beginning of a text or
/// not. Returns whether there was something to change.
fn set_prefix_space(pre_tokenizer: &mut Value, adds: bool) -> bool {
    match pre_tokenizer["type"].as_str() {
        Some("ByteLevel") => {
            let before = pre_tokenizer["add_prefix_space"].take();
            pre_tokenizer["add_prefix_space"] = json!(adds);
            before != json!(adds)
        }
        Some("Metaspace") if adds == (pre_tokenizer["prepend_scheme"] == "never") => {
            pre_tokenizer["prepend_scheme"] = json!(if adds { "always" } else { "never" });
            true
        }
        Some("Sequence") => {
            let members = pre_tokenizer["pretokenizers"].as_array_mut().into_iter().flatten();
            let changed = members.filter_map(|member| set_prefix_space(member, adds).then_some(()));
            changed.count() > 0
        }
        _ => false,
    }
}

/// Returns whether a normalizer converts to lower case.
pub(super) fn lowers(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        Some("Lowercase") => true,
        Some("BertNormalizer") => normalizer["lowercase"] == Value::Bool(true),
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().any(lowers),
        _ => false,
    }
}
