//! A matrix product with weights.

use burn::nn::Linear;
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

use super::kernels::values;
use super::matrix::{Out, Packed, View};

/// Fewest rows that are worth a thread of their own.
const ROWS: usize = 32;

/// `rows × weight`, without the bias: whoever takes the product adds it in passing.
pub(super) struct CpuLinear {
    /// `[inputs, outputs]`.
    weight: Packed,
    /// `[outputs]`.
    pub(super) bias: Vec<f32>,
    inputs: usize,
}

impl CpuLinear {
    pub(super) fn new(linear: Linear) -> Self {
        let [inputs, outputs] = linear.weight.dims();
        let bias = linear.bias.map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
        let weight = Packed::new(View::dense(&values(linear.weight.val()), outputs));
        Self { weight, bias, inputs }
    }

    /// `[rows, inputs]` to `[rows, outputs]`, in the place of what `product` held, on so many threads.
    pub(super) fn product(
        &self,
        rows: &[f32],
        product: &mut Vec<f32>,
        tiles: &mut Vec<f32>,
        threads: usize,
    ) {
        let (inputs, step) = (self.inputs, self.bias.len());
        let count = rows.len() / inputs;
        product.resize(count * step, 0.0);
        let part = count.div_ceil(threads).max(ROWS);
        if part >= count {
            let out = Out { numbers: product, step };
            return self.weight.product(View::dense(rows, inputs), out, tiles);
        }
        let parts = product.par_chunks_mut(part * step).enumerate();
        parts.for_each_init(Vec::new, |tiles, (number, numbers)| {
            let rows = &rows[number * part * inputs..][..numbers.len() / step * inputs];
            self.weight.product(View::dense(rows, inputs), Out { numbers, step }, tiles);
        });
    }
}
