//! A network from an ONNX file in a pipeline: it takes four measures of an iris, and gives the
//! species.
//!
//!     echo '[5.1, 3.5, 1.4, 0.2]' | cargo run --example onnx -- crates/forebay/examples/onnx/iris.toml
//!
//! `network.rs` was generated from `model/iris.onnx`, which `train.py` writes. The weights are
//! compiled into the binary. To read from Kafka, change the source and the sink in `iris.toml`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor, TensorData};
use forebay::model::{DeviceChoice, Error, Model};
use forebay::pipeline::{Json, Plan, Registry};
use forebay::stream::Failure;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

#[expect(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::default_trait_access,
    reason = "generated"
)]
#[rustfmt::skip]
mod network;

const KINDS: [&str; 3] = ["setosa", "versicolor", "virginica"];
const MEASURES: usize = 4;

/// The settings of `[model.ANY.iris]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The device, as for text models: `auto`, `cpu`, `gpu` and so on.
    device: Option<String>,
}

struct Iris {
    network: network::Model,
    device: Device,
}

#[derive(Serialize)]
struct Answer {
    kind: &'static str,
    probability: f32,
}

impl Iris {
    fn load(settings: &Settings) -> Result<Self, Error> {
        let choice = settings.device.as_deref().unwrap_or("auto").parse::<DeviceChoice>();
        let device = choice.map_err(|error| Error::Custom(error.into()))?.select()?;
        let device = device.device().clone();
        Ok(Self { network: network::Model::from_embedded(&device), device })
    }
}

impl Model for Iris {
    type Input = Json;
    type Output = Json;

    fn infer(&mut self, batch: &[Json]) -> Result<Vec<Result<Json, Failure>>, Failure> {
        let rows: Vec<Result<[f32; MEASURES], Failure>> = batch.iter().map(measures).collect();
        let values: Vec<f32> = rows.iter().flatten().flatten().copied().collect();
        let count = values.len() / MEASURES;
        if count == 0 {
            return Ok(rows.into_iter().map(|row| row.and_then(|_| Json::encode(&()))).collect());
        }
        let input =
            Tensor::<2>::from_data(TensorData::new(values, [count, MEASURES]), &self.device);
        let output = self.network.forward(input).try_into_vec_as::<f32>();
        let output = output.map_err(|error| Failure::new("device_failed", error).transient())?;
        let mut answers = output.chunks_exact(KINDS.len());
        let answer = |row: Result<_, _>| {
            row?;
            let row = answers.next().ok_or_else(|| Failure::new("internal", "too few rows"))?;
            Json::encode(&likeliest(row))
        };
        Ok(rows.into_iter().map(answer).collect())
    }
}

fn measures(request: &Json) -> Result<[f32; MEASURES], Failure> {
    request.decode().map_err(|_| {
        let message = format_args!("send an array of {MEASURES} numbers, in centimetres");
        Failure::new("invalid_type", message)
    })
}

fn likeliest(probabilities: &[f32]) -> Answer {
    let both = KINDS.into_iter().zip(probabilities);
    let best = both.max_by(|(_, left), (_, right)| left.total_cmp(right));
    let (kind, &probability) = best.unwrap_or(("unknown", &0.0));
    Answer { kind, probability }
}

fn registry() -> Registry {
    Registry::new().model("iris", Iris::load)
}

#[tokio::main]
async fn main() -> Result<()> {
    let file: PathBuf = std::env::args().nth(1).context("usage: iris PIPELINE.toml")?.into();
    let plan = Plan::load_with(&file, &registry())?;
    plan.run(CancellationToken::new(), drop).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use forebay::model::Model as _;
    use forebay::pipeline::Json;

    use super::{Iris, Settings};

    #[test]
    fn each_input_gets_the_result_of_onnx_runtime_or_its_own_error() {
        let mut iris = Iris::load(&Settings { device: Some("cpu".to_owned()) }).unwrap();
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let batch =
            ["[5.1, 3.5, 1.4, 0.2]", "[1, 2]", "[6.7, 3.1, 4.4, 1.4]", "[6.3, 3.3, 6, 2.5]"];
        let answers = iris.infer(&batch.map(json)).unwrap();
        assert_eq!(answers[1].as_ref().unwrap_err().code(), "invalid_type");
        // The results of onnxruntime for the same file.
        let expected = [("setosa", 0.999_657), ("versicolor", 0.962_384), ("virginica", 0.995_553)];
        for (answer, (kind, probability)) in [0, 2, 3].into_iter().zip(expected) {
            let answer: serde_json::Value = answers[answer].as_ref().unwrap().decode().unwrap();
            assert_eq!(answer["kind"], kind);
            let off = answer["probability"].as_f64().unwrap() - probability;
            assert!(off.abs() < 1e-5, "{answer}");
        }
        let none = iris.infer(&[json("null")]).unwrap();
        assert_eq!(none[0].as_ref().unwrap_err().code(), "invalid_type");
    }
}
