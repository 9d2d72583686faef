//! Converting Burn's [`Encoder`] to the encoder of `forebay-cpu-encoder`, which computes on the CPU
//! without padding.

use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use forebay_cpu_encoder::{
    Activation, EmbeddingWeights, Encoder as CpuEncoder, EncoderWeights, LayerWeights,
    LinearWeights, NormWeights, Options,
};

use crate::Error;
use crate::encoder::{self, Embeddings, Encoder, EncoderConfig, Layer};

/// Converts `encoder`. `config` has the sizes that it was loaded with.
pub(crate) fn cpu_encoder(
    encoder: Encoder,
    config: &EncoderConfig,
    options: Options,
) -> Result<CpuEncoder, Error> {
    let Encoder { embeddings, layers } = encoder;
    let weights = EncoderWeights {
        embeddings: embedding_weights(embeddings, config),
        layers: layers.into_iter().map(|layer| layer_weights(layer, config)).collect(),
        heads: config.heads,
        activation: match config.activation {
            encoder::Activation::Gelu => Activation::Gelu,
            encoder::Activation::GeluApproximate => Activation::GeluApproximate,
            encoder::Activation::Relu => Activation::Relu,
            encoder::Activation::Tanh => Activation::Tanh,
        },
    };
    CpuEncoder::new(weights, options).map_err(|error| Error::Thread {
        name: "model-cpu".into(),
        source: std::io::Error::other(error),
    })
}

fn embedding_weights(embeddings: Embeddings, config: &EncoderConfig) -> EmbeddingWeights {
    let Embeddings { words, positions, token_types, norm, project, .. } = embeddings;
    let width = config.embedding;
    let mut positions = values(positions.weight.val()).split_off(config.first_position * width);
    if let Some(types) = token_types {
        // A request is one text, so all of its tokens have the first type. The type's vector is
        // therefore the same for every token, and can be added to the positions in advance.
        let types = values(types.weight.val());
        for position in positions.chunks_exact_mut(width) {
            for (value, first) in position.iter_mut().zip(&types) {
                *value += first;
            }
        }
    }
    EmbeddingWeights {
        tokens: values(words.weight.val()),
        positions,
        norm: norm_weights(norm, config),
        projection: project.map(linear_weights),
    }
}

fn layer_weights(layer: Layer, config: &EncoderConfig) -> LayerWeights {
    let Layer { attention, attention_norm, feed_forward, output, output_norm, .. } = layer;
    LayerWeights {
        query_key_value: linear_weights(attention.query_key_value),
        attention_output: linear_weights(attention.output),
        attention_norm: norm_weights(attention_norm, config),
        feed_forward: linear_weights(feed_forward),
        output: linear_weights(output),
        output_norm: norm_weights(output_norm, config),
    }
}

fn linear_weights(linear: Linear) -> LinearWeights {
    let [_, outputs] = linear.weight.dims();
    let bias = linear.bias.map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
    LinearWeights { weight: values(linear.weight.val()), bias }
}

#[expect(clippy::cast_possible_truncation, reason = "epsilon is added to f32 numbers")]
fn norm_weights(norm: LayerNorm, config: &EncoderConfig) -> NormWeights {
    let scale = values(norm.gamma.val());
    let shift = norm.beta.map_or_else(|| vec![0.0; scale.len()], |beta| values(beta.val()));
    NormWeights { scale, shift, epsilon: config.norm_epsilon as f32 }
}

/// Returns a tensor's numbers in the order of its memory.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("weights are f32 tensors on the CPU")
}
