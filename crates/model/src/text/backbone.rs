//! `Backbone`: the encoder, in the form that suits its device.

use forebay_stream::Failure;

use super::output::Interpreter;
use crate::cpu::CpuEncoder;
use crate::encoder::{Encoder, Padded};

/// From token ids to one row of numbers for each text.
pub(super) enum Backbone {
    /// Burn's, which computes rectangles of a few shapes.
    Padded {
        encoder: Box<Encoder>,
        /// The token that fills a rectangle up.
        padding: u32,
    },
    /// The CPU's own, for which texts need no common length.
    Cpu(Box<CpuEncoder>),
}

impl Backbone {
    /// The rows of a run over texts that fit `shape`, `[rows, tokens]`, and how many numbers each has. Rows of padding
    /// may follow those of the texts.
    pub(super) fn compute(
        &self,
        interpreter: &Interpreter,
        texts: &[&[u32]],
        shape: [usize; 2],
    ) -> Result<(Vec<f32>, usize), Failure> {
        let (values, rows) = match self {
            Self::Padded { encoder, padding } => {
                let batch = Padded::new(texts, shape, *padding, true);
                let rows = interpreter.forward(encoder.forward(&batch), &batch);
                (rows.try_into_vec_as().map_err(device_failure)?, shape[0])
            }
            Self::Cpu(encoder) => {
                let pooled = encoder.forward(texts, interpreter.pool());
                (
                    interpreter.forward_pooled(pooled, texts.len()).map_err(device_failure)?,
                    texts.len(),
                )
            }
        };
        let width = values.len() / rows;
        Ok((values, width))
    }
}

fn device_failure(error: impl std::fmt::Display) -> Failure {
    let message = format_args!("the device did not compute the batch: {error}");
    Failure::new("device_failed", message).transient()
}
