//! Pooling: making one vector of a text's token vectors, as sentence-transformers does it.

use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Tensor;
use forebay_cpu_encoder::Pool;
use serde_json::Value;

use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::Padded;
use crate::text::{EmbeddingOptions, PoolingMode};

/// How a text's token vectors become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pooling {
    kind: Pool,
    /// Whether the vector is scaled to length 1.
    normalize: bool,
    /// How many of the vector's first components are kept.
    dimensions: usize,
}

impl Pooling {
    /// Returns the pooling that `options` ask for. Settings that they leave out are read from
    /// `1_Pooling/config.json` and `modules.json`. Without the first file, the vectors of the
    /// tokens are averaged; without the second, the vector is scaled to length 1.
    pub(super) fn read(
        directory: &Path,
        options: &EmbeddingOptions,
        hidden: usize,
    ) -> Result<Self, Error> {
        let kind = match options.pooling {
            Some(PoolingMode::Mean) => Pool::Mean,
            Some(PoolingMode::Cls) => Pool::First,
            Some(PoolingMode::Max) => Pool::Max,
            None => read_kind(directory)?,
        };
        let normalize = options.normalize.map_or_else(|| read_normalize(directory), Ok)?;
        let dimensions = options.dimensions.map_or(hidden, NonZeroUsize::get);
        if dimensions > hidden {
            return Err(Error::Dimensions { asked: dimensions, most: hidden });
        }
        Ok(Self { kind, normalize, dimensions })
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

    /// Shortens and scales a pooled row as configured, which makes it the text's vector. The zero
    /// vector is not changed by scaling.
    pub(super) fn finish(self, row: &[f32]) -> Vec<f32> {
        let row = &row[..self.dimensions];
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if self.normalize { 1.0 / length.max(1e-12) } else { 1.0 };
        row.iter().map(|value| value * scale).collect()
    }
}

fn read_kind(directory: &Path) -> Result<Pool, Error> {
    let Some(file) = JsonFile::read_if_there(&directory.join("1_Pooling/config.json"))? else {
        return Ok(Pool::Mean);
    };
    let modes = file.value().as_object().into_iter().flatten();
    let on: Vec<_> = modes
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(Pool::Mean),
        ["pooling_mode_cls_token"] => Ok(Pool::First),
        ["pooling_mode_max_tokens"] => Ok(Pool::Max),
        _ => {
            let supported = "one of pooling_mode_mean_tokens, _cls_token and _max_tokens";
            Err(file.unsupported("pooling", &on.join(" and "), supported))
        }
    }
}

/// Returns whether `modules.json` lists a module that scales the vector to length 1. True for a
/// model without this file.
fn read_normalize(directory: &Path) -> Result<bool, Error> {
    let Some(file) = JsonFile::read_if_there(&directory.join("modules.json"))? else {
        return Ok(true);
    };
    let modules = file.value().as_array().ok_or_else(|| file.bad("modules", "a list"))?;
    let mut normalize = false;
    for module in modules {
        let path = module.get("type").and_then(Value::as_str).unwrap_or_default();
        match path.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Pooling" => {}
            "Normalize" => normalize = true,
            other => {
                return Err(file.unsupported("type", other, "Transformer, Pooling, Normalize"));
            }
        }
    }
    Ok(normalize)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;

    use super::{EmbeddingOptions, Pool, Pooling, PoolingMode};

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
        Pooling::read(directory.path(), options, 4).map_err(|error| error.to_string())
    }

    fn read(pooling: Option<&str>, modules: Option<&str>) -> Result<Pooling, String> {
        read_with(pooling, modules, &EmbeddingOptions::default())
    }

    const FIRST: &str = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    const BARE: &str = r#"[{"type": "sentence_transformers.models.Transformer"}]"#;

    #[test]
    fn without_files_the_vector_is_the_mean_scaled_to_length_1() {
        let mean = Pooling { kind: Pool::Mean, normalize: true, dimensions: 4 };
        assert_eq!(read(None, None), Ok(mean));
    }

    #[test]
    fn files_set_the_pooling_and_options_override_them() {
        let first = Pooling { kind: Pool::First, normalize: false, dimensions: 4 };
        assert_eq!(read(Some(FIRST), Some(BARE)), Ok(first));
        let max = r#"{"pooling_mode_max_tokens": true}"#;
        assert_eq!(read(Some(max), Some(BARE)), Ok(Pooling { kind: Pool::Max, ..first }));
        let options = EmbeddingOptions {
            pooling: Some(PoolingMode::Mean),
            normalize: Some(true),
            dimensions: NonZeroUsize::new(3),
        };
        let asked = Pooling { kind: Pool::Mean, normalize: true, dimensions: 3 };
        assert_eq!(read_with(Some(FIRST), Some(BARE), &options), Ok(asked));
        let options = EmbeddingOptions { dimensions: NonZeroUsize::new(5), ..options };
        let message = read_with(None, None, &options).unwrap_err();
        assert_eq!(message, "dimensions = 5 is more than the 4 that this model has");
    }

    #[test]
    fn an_unsupported_pooling_or_module_is_named() {
        let message =
            read(Some(r#"{"pooling_mode_weightedmean_tokens": true}"#), None).unwrap_err();
        assert!(message.contains("pooling = pooling_mode_weightedmean_tokens"), "{message}");
        let message = read(None, Some(r#"[{"type": "models.Dense"}]"#)).unwrap_err();
        assert!(message.contains("type = Dense, supported: Transformer"), "{message}");
    }

    #[test]
    fn the_zero_vector_stays_zero() {
        let pooling = Pooling { kind: Pool::Mean, normalize: true, dimensions: 2 };
        assert_eq!(pooling.finish(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(
            pooling.finish(&[3.0, 4.0, 9.0]),
            [0.6, 0.8],
            "the vector is shortened before it is scaled"
        );
    }
}
