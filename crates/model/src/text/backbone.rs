//! `Backbone`: a model's encoder, in the implementation for its device.

use std::future;

use forebay_cpu_encoder::Encoder as CpuEncoder;
use forebay_stream::Failure;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::output::Reduce;
use crate::codes;
use crate::encoder::{Encoder, Masking, Padded};

/// The encoder that turns token ids into one row of numbers for each text.
pub(super) enum Backbone {
    /// Burn's encoder, for GPUs. It computes rectangles of a few fixed shapes.
    Padded {
        encoder: Box<Encoder>,
        masking: Masking,
        /// Id of the token that fills up a rectangle.
        padding: u32,
    },
    /// The CPU encoder, which computes texts of different lengths without padding.
    Cpu(Box<CpuEncoder>),
}

/// The future result of a run: its numbers, row by row, and the width of a row. There is one row
/// for each text, followed by one for each row of the rectangle that holds only padding.
pub(super) type Rows = BoxFuture<'static, Result<(Vec<f32>, usize), Failure>>;

impl Backbone {
    /// Returns whether [`launch`](Self::launch) returns before the rows are computed.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self, Self::Padded { .. })
    }

    /// Starts a run over `texts`, which must fit into the rectangle `shape`, `[rows, tokens]`. The
    /// result may be awaited on any thread.
    pub(super) fn launch(&self, reduce: &Reduce, texts: &[&[u32]], shape: [usize; 2]) -> Rows {
        match self {
            Self::Padded { encoder, masking, padding } => {
                let batch = Padded::new(texts, shape, *padding, true);
                let hidden = encoder.forward(&batch, *masking);
                let rows = reduce.forward(hidden, &batch).into_data_async();
                let mut rows = Box::pin(rows);
                // The first poll queues the transfer of the rows on the device. It is done here, so
                // that the transfer comes before the work of later runs and need not wait for it.
                let early = rows.as_mut().now_or_never();
                let read = async move {
                    let rows = match early {
                        Some(rows) => rows,
                        None => rows.await,
                    };
                    let values = rows.map_err(device_failure)?.try_into_vec_as();
                    Ok(with_width(values.map_err(device_failure)?, shape[0]))
                };
                read.boxed()
            }
            Self::Cpu(encoder) => {
                let pooled = encoder.forward(texts, reduce.pool());
                let values = reduce.forward_pooled(pooled, texts.len()).map_err(device_failure);
                future::ready(values.map(|values| with_width(values, texts.len()))).boxed()
            }
        }
    }
}

/// Returns the numbers of `rows` rows, with the width of a row.
fn with_width(values: Vec<f32>, rows: usize) -> (Vec<f32>, usize) {
    let width = values.len() / rows;
    (values, width)
}

fn device_failure(error: impl std::fmt::Display) -> Failure {
    let message = format_args!("the device did not compute the batch: {error}");
    Failure::new(codes::DEVICE_FAILED, message).transient()
}
