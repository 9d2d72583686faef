//! `Backbone`: the encoder, in the form that suits its device.

use std::future;

use forebay_cpu_encoder::Encoder as CpuEncoder;
use forebay_stream::Failure;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::output::Reduce;
use crate::encoder::{Encoder, Masking, Padded};

/// From token ids to one row of numbers for each text.
pub(super) enum Backbone {
    /// Burn's, which computes rectangles of a few shapes.
    Padded {
        encoder: Box<Encoder>,
        masking: Masking,
        /// The token that fills a rectangle up.
        padding: u32,
    },
    /// The CPU's own, for which texts need no common length.
    Cpu(Box<CpuEncoder>),
}

/// The numbers of a run, a row for each text and then for each row of padding, and how many a row has.
pub(super) type Rows = BoxFuture<'static, Result<(Vec<f32>, usize), Failure>>;

impl Backbone {
    /// Whether [`launch`](Self::launch) comes back before the rows are there.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self, Self::Padded { .. })
    }

    /// Has the device run over texts that fit `shape`, `[rows, tokens]`; its rows may be waited for anywhere.
    pub(super) fn launch(&self, reduce: &Reduce, texts: &[&[u32]], shape: [usize; 2]) -> Rows {
        match self {
            Self::Padded { encoder, masking, padding } => {
                let batch = Padded::new(texts, shape, *padding, true);
                let hidden = encoder.forward(&batch, *masking);
                let rows = reduce.forward(hidden, &batch).into_data_async();
                let mut rows = Box::pin(rows);
                // Asks the device for the rows now, before it is given anything else to do.
                let early = rows.as_mut().now_or_never();
                let read = async move {
                    let rows = match early {
                        Some(rows) => rows,
                        None => rows.await,
                    };
                    let values = rows.map_err(device_failure)?.try_into_vec_as();
                    Ok(of_width(values.map_err(device_failure)?, shape[0]))
                };
                read.boxed()
            }
            Self::Cpu(encoder) => {
                let pooled = encoder.forward(texts, reduce.pool());
                let values = reduce.forward_pooled(pooled, texts.len()).map_err(device_failure);
                future::ready(values.map(|values| of_width(values, texts.len()))).boxed()
            }
        }
    }
}

fn of_width(values: Vec<f32>, rows: usize) -> (Vec<f32>, usize) {
    let width = values.len() / rows;
    (values, width)
}

fn device_failure(error: impl std::fmt::Display) -> Failure {
    let message = format_args!("the device did not compute the batch: {error}");
    Failure::new("device_failed", message).transient()
}
