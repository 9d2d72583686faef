//! A matrix product with weights.

use burn::nn::Linear;
use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::kernels::values;
use super::matrix::{Columns, Element, Out, Packed, Pair, Tiles, View};
use crate::Precision;

/// Fewest rows of a thread for which the arithmetic is more than reading the weights.
const ROWS: usize = 32;

/// `rows × weight`, without the bias: whoever takes the product adds it in passing.
pub(super) struct CpuLinear {
    /// `[inputs, outputs]`.
    weight: Weight,
    /// `[outputs]`.
    pub(super) bias: Vec<f32>,
    inputs: usize,
}

enum Weight {
    F32(Packed<f32>),
    Bf16(Packed<Pair>),
}

impl CpuLinear {
    pub(super) fn new(linear: Linear, precision: Precision) -> Self {
        let [inputs, outputs] = linear.weight.dims();
        let bias = linear.bias.map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
        let weight = values(linear.weight.val());
        let weight = View::dense(&weight, outputs);
        let weight = match precision {
            Precision::Bf16 => Weight::Bf16(Packed::new(weight)),
            Precision::F32 | Precision::F16 => Weight::F32(Packed::new(weight)),
        };
        Self { weight, bias, inputs }
    }

    /// `[rows, inputs]` to `[rows, outputs]`, in the place of what `product` held, on so many threads.
    pub(super) fn product(
        &self,
        rows: &[f32],
        product: &mut Vec<f32>,
        tiles: &mut Tiles,
        threads: usize,
    ) {
        match &self.weight {
            Weight::F32(weight) => self.product_with(weight, rows, product, tiles, threads),
            Weight::Bf16(weight) => self.product_with(weight, rows, product, tiles, threads),
        }
    }

    fn product_with<E: Element>(
        &self,
        weight: &Packed<E>,
        rows: &[f32],
        product: &mut Vec<f32>,
        tiles: &mut Tiles,
        threads: usize,
    ) {
        let (inputs, step) = (self.inputs, self.bias.len());
        let count = rows.len() / inputs;
        product.resize(count * step, 0.0);
        let view = View::dense(rows, inputs);
        if threads == 1 {
            return weight.all().product(view, Out { numbers: product, step }, tiles);
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

    /// What few rows take is to read the weights, so each thread reads some of them.
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
            for (out, row) in product.chunks_mut(self.bias.len()).zip(numbers.chunks_exact(count)) {
                out[first..][..count].copy_from_slice(row);
            }
            first += count;
        }
    }
}
