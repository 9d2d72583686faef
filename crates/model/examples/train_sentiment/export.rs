//! Writing the network as a Hugging Face directory, in f16.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use forebay_model::burn;
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::network::{Network, POSITIONS};
use crate::vocabulary::Vocabulary;

/// Writes `config.json`, `tokenizer.json`, `tokenizer_config.json` and `model.safetensors` into
/// `directory`.
pub(crate) fn write(directory: &Path, network: &Network, vocabulary: &Vocabulary) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let [layers, hidden, feed_forward, heads] = network.sizes()?;
    let config = json!({
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": vocabulary.len(),
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": vocabulary.id("[PAD]")?,
        "problem_type": "single_label_classification",
        "id2label": {"0": "negative", "1": "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "torch_dtype": "float16",
    });
    let tokenizer = json!({
        "tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": POSITIONS,
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    });
    std::fs::write(directory.join("config.json"), serde_json::to_string_pretty(&config)? + "\n")?;
    std::fs::write(
        directory.join("tokenizer_config.json"),
        serde_json::to_string_pretty(&tokenizer)? + "\n",
    )?;
    std::fs::write(directory.join("tokenizer.json"), vocabulary.to_json())?;

    let mut tensors = Tensors::default();
    collect(network, &mut tensors)?;
    let views = tensors.0.iter().map(|(name, (shape, bytes))| {
        Ok((name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize(views, Some(metadata))?;
    std::fs::write(directory.join("model.safetensors"), file)?;
    Ok(())
}

fn collect(network: &Network, tensors: &mut Tensors) -> Result<()> {
    let embeddings = &network.encoder.embeddings;
    let types = embeddings.token_types.as_ref().context("BERT has token types")?;
    tensors.matrix("bert.embeddings.word_embeddings", embeddings.words.weight.val())?;
    tensors.matrix("bert.embeddings.position_embeddings", embeddings.positions.weight.val())?;
    tensors.matrix("bert.embeddings.token_type_embeddings", types.weight.val())?;
    tensors.norm("bert.embeddings.LayerNorm", &embeddings.norm)?;
    for (number, layer) in network.encoder.layers.iter().enumerate() {
        let name = |part: &str| format!("bert.encoder.layer.{number}.{part}");
        let parts = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        tensors.linear(&parts.each_ref().map(String::as_str), &layer.attention.query_key_value)?;
        tensors.linear(&[&name("attention.output.dense")], &layer.attention.output)?;
        tensors.norm(&name("attention.output.LayerNorm"), &layer.attention_norm)?;
        tensors.linear(&[&name("intermediate.dense")], &layer.feed_forward)?;
        tensors.linear(&[&name("output.dense")], &layer.output)?;
        tensors.norm(&name("output.LayerNorm"), &layer.output_norm)?;
    }
    tensors.linear(&["bert.pooler.dense"], &network.head.dense)?;
    tensors.linear(&["classifier"], &network.head.output)
}

/// The shape of each tensor and its numbers as f16 bytes, by name.
#[derive(Default)]
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Adds a layer that [`forebay_model::checkpoint::Weights::linear`] has made of several
    /// tensors, and splits it into these tensors again.
    fn linear(&mut self, names: &[&str], layer: &Linear) -> Result<()> {
        let bias = layer.bias.as_ref().map(Param::val).context("every layer has a bias")?;
        let weights = layer.weight.val().transpose().chunk(names.len(), 0);
        for ((name, weight), bias) in names.iter().zip(weights).zip(bias.chunk(names.len(), 0)) {
            self.matrix(name, weight)?;
            self.put(format!("{name}.bias"), bias)?;
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, norm: &LayerNorm) -> Result<()> {
        let beta = norm.beta.as_ref().map(Param::val).context("every norm has a bias")?;
        self.put(format!("{name}.weight"), norm.gamma.val())?;
        self.put(format!("{name}.bias"), beta)
    }

    fn matrix(&mut self, name: &str, tensor: Tensor<2>) -> Result<()> {
        self.put(format!("{name}.weight"), tensor)
    }

    fn put<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Result<()> {
        let shape = tensor.dims().to_vec();
        let values = tensor.try_into_vec_as::<f32>()?;
        let bytes = values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes());
        self.0.insert(name, (shape, bytes.collect()));
        Ok(())
    }
}
