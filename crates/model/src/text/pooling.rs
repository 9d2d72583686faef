//! Pooling: making one vector of a text's token vectors, as sentence-transformers does it.

use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Tensor;
use forebay_cpu_encoder::Pool;
use serde_json::Value;

use super::modules::Modules;
use super::vector_layers::LayerConfigs;
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::Padded;
use crate::text::{EmbeddingOptions, PoolingMode};

/// How a text's token vectors become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pooling {
    kind: Pool,
    /// How many of the vector's first components are kept, before the vector is scaled.
    dimensions: usize,
    /// Whether the vector is scaled to length 1.
    normalize: bool,
    /// How many of the scaled vector's first components are kept.
    kept: usize,
}

/// The settings of an embedding in the model's files and in the user's options.
pub(super) struct PoolingConfig<'a> {
    pub(super) directory: &'a Path,
    pub(super) modules: &'a Modules,
    pub(super) options: &'a EmbeddingOptions,
    /// The number of components that `config_sentence_transformers.json` shortens vectors to.
    pub(super) truncated: Option<usize>,
    /// Whether texts get a prompt.
    pub(super) has_prompt: bool,
}

impl Pooling {
    /// Returns the pooling that the options ask for, and the layers between the pooled vector, which
    /// has `hidden` components, and the text's vector.
    ///
    /// Settings that the options leave out are read from the model's files. Without the settings of
    /// a pooling, the vectors of the tokens are averaged; without `modules.json`, the vector is
    /// scaled to length 1.
    pub(super) fn read(
        config: &PoolingConfig<'_>,
        hidden: usize,
    ) -> Result<(Self, LayerConfigs), Error> {
        let PoolingConfig { directory, modules, options, truncated, has_prompt } = *config;
        let settings = |folder: &str| directory.join(folder).join("config.json");
        let file = match &modules.pooling {
            // Without the settings that `modules.json` names, any pooling might be the wrong one.
            Some(folder) if options.pooling.is_none() => Some(JsonFile::read(&settings(folder))?),
            Some(folder) => JsonFile::read_if_there(&settings(folder))?,
            None => JsonFile::read_if_there(&settings("1_Pooling"))?,
        };
        if let Some(file) = &file
            && has_prompt
            && !file.flag_or("include_prompt", true)?
        {
            let supported = "true, or a model without a prompt (`prompt = \"\"`)";
            return Err(file.unsupported("include_prompt", "false", supported));
        }
        let kind = match (options.pooling, &file) {
            (Some(PoolingMode::Mean), _) | (None, None) => Pool::Mean,
            (Some(PoolingMode::Cls), _) => Pool::First,
            (Some(PoolingMode::Max), _) => Pool::Max,
            (None, Some(file)) => read_kind(file)?,
        };
        let layers = LayerConfigs::read(directory, modules, hidden)?;
        let width = layers.width(hidden);
        let normalize = !modules.listed || modules.end_normalized();
        let dimensions = options.dimensions.map_or(width, NonZeroUsize::get);
        if dimensions > width {
            return Err(Error::Dimensions { asked: dimensions, most: width });
        }
        // The user's `dimensions` take the place of the file's.
        let truncated = truncated.filter(|_| options.dimensions.is_none());
        let kept = truncated.unwrap_or(dimensions).min(dimensions);
        let normalize = options.normalize.unwrap_or(normalize);
        Ok((Self { kind, dimensions, normalize, kept }, layers))
    }

    /// Pools `[batch, tokens, hidden]` to `[batch, hidden]`.
    pub(super) fn forward(self, hidden: Tensor<3>, batch: &Padded) -> Tensor<2> {
        let [rows, _, width] = hidden.dims();
        let device = hidden.device();
        let pooled = match self.kind {
            Pool::Mean => batch.mean_weights(&device).matmul(hidden),
            Pool::First => hidden.slice([0..rows, 0..1]),
            Pool::Max => (hidden + batch.padding_bias(&device)).max_dim(1),
        };
        pooled.reshape([rows, width])
    }

    /// Returns how the CPU encoder has to pool.
    pub(super) fn pool(self) -> Pool {
        self.kind
    }

    /// Shortens and scales a row as configured, which makes it the text's vector. The zero vector is
    /// not changed by scaling.
    pub(super) fn finish(self, row: &[f32]) -> Vec<f32> {
        let row = &row[..self.dimensions];
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if self.normalize { 1.0 / length.max(1e-12) } else { 1.0 };
        row[..self.kept].iter().map(|value| value * scale).collect()
    }
}

/// The keys with which older versions of sentence-transformers turn the modes of pooling on.
const OLD_KEYS: [&str; 6] = [
    "pooling_mode_cls_token",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
    "pooling_mode_lasttoken",
];
/// Keys that do not change the vector. `include_prompt` is checked where the prompt is known.
const HARMLESS_KEYS: [&str; 3] =
    ["embedding_dimension", "include_prompt", "word_embedding_dimension"];

/// Reads the mode of pooling: `pooling_mode`, a name or a list of names, or the older keys.
fn read_kind(file: &JsonFile) -> Result<Pool, Error> {
    let is_known = |key: &str| {
        key == "pooling_mode" || HARMLESS_KEYS.contains(&key) || OLD_KEYS.contains(&key)
    };
    if let Some((key, value)) = file.settings().find(|(key, _)| !is_known(key)) {
        let supported = "pooling_mode and include_prompt";
        return Err(file.unsupported(key, &value.to_string(), supported));
    }
    let bad = || file.bad("pooling_mode", "a name or a list of names");
    let modes: Vec<&str> = match file.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => {
            modes.iter().map(|mode| mode.as_str().ok_or_else(bad)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(bad()),
        None => return read_old_keys(file),
    };
    match modes[..] {
        ["mean"] => Ok(Pool::Mean),
        ["cls"] => Ok(Pool::First),
        ["max"] => Ok(Pool::Max),
        _ => {
            let supported = "one of mean, cls and max";
            Err(file.unsupported("pooling_mode", &modes.join(" and "), supported))
        }
    }
}

fn read_old_keys(file: &JsonFile) -> Result<Pool, Error> {
    let mut on = Vec::new();
    for key in OLD_KEYS {
        if file.flag_or(key, false)? {
            on.push(key);
        }
    }
    match on[..] {
        [] | ["pooling_mode_mean_tokens"] => Ok(Pool::Mean),
        ["pooling_mode_cls_token"] => Ok(Pool::First),
        ["pooling_mode_max_tokens"] => Ok(Pool::Max),
        _ => {
            let supported = "one of pooling_mode_mean_tokens, _cls_token and _max_tokens";
            Err(file.unsupported("pooling", &on.join(" and "), supported))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;

    use super::{EmbeddingOptions, Modules, Pool, Pooling, PoolingConfig, PoolingMode};

    fn read_with(
        pooling: Option<&str>,
        modules: Option<&str>,
        options: &EmbeddingOptions,
    ) -> Result<Pooling, String> {
        let directory = tempfile::tempdir().unwrap();
        if let Some(text) = pooling {
            fs::create_dir(directory.path().join("1_Pooling")).unwrap();
            fs::write(directory.path().join("1_Pooling/config.json"), text).unwrap();
        }
        if let Some(text) = modules {
            fs::write(directory.path().join("modules.json"), text).unwrap();
        }
        let directory = directory.path();
        let read = || {
            let modules = &Modules::read(directory)?;
            let config =
                PoolingConfig { directory, modules, options, truncated: None, has_prompt: false };
            Pooling::read(&config, 4)
        };
        read().map(|(pooling, _)| pooling).map_err(|error| error.to_string())
    }

    fn read(pooling: Option<&str>, modules: Option<&str>) -> Result<Pooling, String> {
        read_with(pooling, modules, &EmbeddingOptions::default())
    }

    const FIRST: &str = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    const BARE: &str = r#"[{"type": "sentence_transformers.models.Transformer"}]"#;

    #[test]
    fn without_files_the_vector_is_the_mean_scaled_to_length_1() {
        let mean = Pooling { kind: Pool::Mean, dimensions: 4, normalize: true, kept: 4 };
        assert_eq!(read(None, None), Ok(mean));
    }

    #[test]
    fn files_set_the_pooling_and_options_override_them() {
        let first = Pooling { kind: Pool::First, dimensions: 4, normalize: false, kept: 4 };
        assert_eq!(read(Some(FIRST), Some(BARE)), Ok(first));
        let max = r#"{"pooling_mode_max_tokens": true}"#;
        assert_eq!(read(Some(max), Some(BARE)), Ok(Pooling { kind: Pool::Max, ..first }));
        let options = EmbeddingOptions {
            pooling: Some(PoolingMode::Mean),
            normalize: Some(true),
            dimensions: NonZeroUsize::new(3),
        };
        let asked = Pooling { kind: Pool::Mean, dimensions: 3, normalize: true, kept: 3 };
        assert_eq!(read_with(Some(FIRST), Some(BARE), &options), Ok(asked));
        let options = EmbeddingOptions { dimensions: NonZeroUsize::new(5), ..options };
        let message = read_with(None, None, &options).unwrap_err();
        assert_eq!(message, "dimensions = 5 is more than the 4 that this model has; lower it");
    }

    #[test]
    fn an_unsupported_pooling_or_module_is_named() {
        let message =
            read(Some(r#"{"pooling_mode_weightedmean_tokens": true}"#), None).unwrap_err();
        assert!(message.contains("pooling = pooling_mode_weightedmean_tokens"), "{message}");
        let message = read(None, Some(r#"[{"type": "models.LayerNorm"}]"#)).unwrap_err();
        assert!(message.contains("type = models.LayerNorm, supported: Transformer"), "{message}");
    }

    #[test]
    fn the_zero_vector_stays_zero() {
        let pooling = Pooling { kind: Pool::Mean, dimensions: 2, normalize: true, kept: 2 };
        assert_eq!(pooling.finish(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(
            pooling.finish(&[3.0, 4.0, 9.0]),
            [0.6, 0.8],
            "the vector is shortened before it is scaled"
        );
    }
}
