//! A matrix product with weights.

use std::fmt;
use std::iter;

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::matrix::{Columns, Element, Out, Packed, Tiles, View};
use crate::weights::{LinearWeights, Precision};

/// Fewest rows per thread for which the rows are divided among the threads. With fewer rows,
/// reading the weights takes longer than the arithmetic, so the weights are divided instead.
const ROWS: usize = 32;

/// A linear layer with packed weights.
pub struct Linear {
    /// `[inputs, outputs]`.
    weight: Weight,
    /// `[outputs]`.
    bias: Vec<f32>,
    inputs: usize,
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linear")
            .field("inputs", &self.inputs)
            .field("outputs", &self.bias.len())
            .finish_non_exhaustive()
    }
}

enum Weight {
    F32(Packed<f32>),
    Bf16(Packed<u32>),
}

/// Working memory of a product. The next product uses it again.
#[derive(Default)]
pub struct Workspace(pub(crate) Tiles);

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}

impl Linear {
    /// Packs the weights.
    #[must_use]
    pub fn new(weights: LinearWeights, precision: Precision) -> Self {
        let LinearWeights { weight, bias } = weights;
        let view = View::dense(&weight, bias.len());
        let inputs = view.rows;
        let weight = match precision {
            Precision::Bf16 => Weight::Bf16(Packed::new(view)),
            Precision::F32 => Weight::F32(Packed::new(view)),
        };
        Self { weight, bias, inputs }
    }

    /// Returns the bias, `[outputs]`.
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Multiplies `rows`, `[rows, inputs]`, by the weights, on `threads` threads of the current
    /// thread pool, and replaces `product` by the result, `[rows, outputs]`.
    ///
    /// Does not add the bias: callers add it in the pass over the product that they need anyway.
    pub fn product(
        &self,
        rows: &[f32],
        product: &mut Vec<f32>,
        workspace: &mut Workspace,
        threads: usize,
    ) {
        match &self.weight {
            Weight::F32(weight) => self.product_with(weight, rows, product, workspace, threads),
            Weight::Bf16(weight) => self.product_with(weight, rows, product, workspace, threads),
        }
    }

    fn product_with<E: Element>(
        &self,
        weight: &Packed<E>,
        rows: &[f32],
        product: &mut Vec<f32>,
        workspace: &mut Workspace,
        threads: usize,
    ) {
        let inputs = self.inputs;
        let step = self.bias.len();
        let count = rows.len() / inputs;
        product.resize(count * step, 0.0);
        let view = View::dense(rows, inputs);
        if threads == 1 {
            let out = Out { numbers: product, step };
            return weight.all().product(view, out, &mut workspace.0);
        }
        if count < threads * ROWS {
            return self.product_by_columns(weight, view, product, threads);
        }
        let part = count.div_ceil(threads);
        let parts = product.par_chunks_mut(part * step).zip(rows.par_chunks(part * inputs));
        parts.for_each_init(Tiles::default, |tiles, (numbers, rows)| {
            let out = Out { numbers, step };
            weight.all().product(View::dense(rows, inputs), out, tiles);
        });
    }

    /// Computes a product of few rows: each thread reads only some columns of the weights, because
    /// most of the time goes into reading them.
    fn product_by_columns<E: Element>(
        &self,
        weight: &Packed<E>,
        rows: View<'_>,
        product: &mut [f32],
        threads: usize,
    ) {
        let parts: Vec<_> = weight.parts(threads).collect();
        let compute = |part: Columns<'_, E>| {
            let mut numbers = vec![0.0; rows.rows * part.count];
            let out = Out { numbers: &mut numbers, step: part.count };
            part.product(rows, out, &mut Tiles::default());
            (numbers, part.count)
        };
        let computed: Vec<_> = parts.into_par_iter().with_max_len(1).map(compute).collect();
        let mut first = 0;
        for (numbers, count) in computed {
            let rows = product.chunks_mut(self.bias.len());
            for (out, row) in iter::zip(rows, numbers.chunks_exact(count)) {
                out[first..][..count].copy_from_slice(row);
            }
            first += count;
        }
    }
}
