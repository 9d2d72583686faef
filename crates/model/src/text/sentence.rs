//! `SentenceSettings`: the settings of sentence-transformers for texts, which stand in two files.

use std::path::Path;

use serde_json::Value;

use super::Task;
use crate::Error;
use crate::checkpoint::JsonFile;

/// The settings of sentence-transformers for a model's texts and vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SentenceSettings {
    /// Most tokens in a text.
    pub(super) max_tokens: Option<u64>,
    /// Whether texts are converted to lower case before the tokenizer gets them.
    pub(super) lower_case: bool,
    /// The prefix of every text; empty if there is none.
    pub(super) prompt: String,
    /// The number of components that vectors are shortened to, after they are scaled.
    pub(super) truncated: Option<usize>,
}

/// The names of the encoder's settings. Their first file is the one that counts; all but the first
/// name were given by older versions.
pub(crate) const ENCODER_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Settings of the encoder that do not change its results.
const HARMLESS: [&str; 7] = [
    "model_args",
    "model_kwargs",
    "modality_config",
    "module_output_name",
    "transformer_task",
    "trust_remote_code",
    "unpad_inputs",
];

impl SentenceSettings {
    /// Reads the files. `encoder` is the directory of the encoder's files.
    pub(super) fn read(directory: &Path, encoder: &Path, task: Task) -> Result<Self, Error> {
        let mut found = Self::default();
        for name in ENCODER_FILES {
            if let Some(file) = JsonFile::read_if_there(&encoder.join(name))? {
                found.read_encoder(&file, task)?;
                break;
            }
        }
        let file = directory.join("config_sentence_transformers.json");
        if let Some(file) = JsonFile::read_if_there(&file)? {
            found.read_model(&file, task)?;
        }
        Ok(found)
    }

    fn read_encoder(&mut self, file: &JsonFile, task: Task) -> Result<(), Error> {
        self.max_tokens = length(file, "max_seq_length")?;
        self.lower_case = file.flag_or("do_lower_case", false)?;
        let transformer_task = file.text_or("transformer_task", "")?;
        let fits = match task {
            Task::TextEmbedding => ["", "feature-extraction"].contains(&transformer_task),
            Task::TextClassification => ["", "sequence-classification"].contains(&transformer_task),
        };
        if !fits {
            let supported = "feature-extraction, or sequence-classification for a classifier";
            return Err(file.unsupported("transformer_task", transformer_task, supported));
        }
        for (key, value) in file.settings() {
            match key {
                "max_seq_length" | "do_lower_case" => {}
                // The tokenizer's settings beside those of `tokenizer_config.json`.
                "tokenizer_args" | "processor_kwargs" => self.read_tokenizer(file, key, value)?,
                "modality_config" => check_modalities(file, value)?,
                _ if HARMLESS.contains(&key) => {}
                _ => {
                    let supported = "max_seq_length and do_lower_case";
                    return Err(file.unsupported(key, &value.to_string(), supported));
                }
            }
        }
        Ok(())
    }

    fn read_tokenizer(&mut self, file: &JsonFile, key: &str, value: &Value) -> Result<(), Error> {
        for (name, value) in value.as_object().into_iter().flatten() {
            let name = format!("{key}.{name}");
            match (name.rsplit('.').next(), value) {
                (Some("model_max_length"), Value::Number(length)) => {
                    self.max_tokens = length.as_u64();
                }
                (Some("use_fast" | "trust_remote_code" | "padding_side"), _) | (_, Value::Null) => {
                }
                _ => return Err(file.unsupported(&name, &value.to_string(), "model_max_length")),
            }
        }
        Ok(())
    }

    fn read_model(&mut self, file: &JsonFile, task: Task) -> Result<(), Error> {
        let model_type = file.text_or("model_type", "")?;
        let fits = match task {
            Task::TextEmbedding => ["", "SentenceTransformer"].contains(&model_type),
            Task::TextClassification => {
                !["SparseEncoder", "MultiVectorEncoder"].contains(&model_type)
            }
        };
        if !fits {
            return Err(file.unsupported("model_type", model_type, "SentenceTransformer"));
        }
        self.truncated =
            length(file, "truncate_dim")?.and_then(|length| usize::try_from(length).ok());
        let name = file.text_or("default_prompt_name", "")?;
        if name.is_empty() {
            return Ok(());
        }
        let prompt = file.get("prompts").and_then(|prompts| prompts.get(name));
        match prompt {
            Some(Value::String(prompt)) => self.prompt.clone_from(prompt),
            Some(Value::Null) => {}
            _ => return Err(file.unsupported("default_prompt_name", name, "a name in `prompts`")),
        }
        Ok(())
    }
}

/// Returns a positive number, or `None` if the key is missing.
fn length(file: &JsonFile, key: &str) -> Result<Option<u64>, Error> {
    let number = |value: &Value| {
        value
            .as_u64()
            .filter(|&number| number > 0)
            .ok_or_else(|| file.bad(key, "a positive integer"))
    };
    file.get(key).map(number).transpose()
}

/// Refuses an encoder whose result for a text is not the last layer's vectors.
fn check_modalities(file: &JsonFile, modalities: &Value) -> Result<(), Error> {
    let Some(text) = modalities.get("text") else {
        return Err(file.unsupported("modality_config", &modalities.to_string(), "text"));
    };
    let output = text.get("method_output_name").and_then(Value::as_str);
    let method = text.get("method").and_then(Value::as_str);
    if method == Some("forward") && matches!(output, Some("last_hidden_state" | "logits")) {
        return Ok(());
    }
    let supported = "the method forward and its last_hidden_state";
    Err(file.unsupported("modality_config.text", &text.to_string(), supported))
}
