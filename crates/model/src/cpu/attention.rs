//! Self-attention, text by text.

use super::kernels;
use super::matrix::{Out, Packed, Tiles, View};

/// Working memory, used again by the next text and the next layer.
#[derive(Default)]
pub(super) struct Attending {
    keys: Packed<f32>,
    values: Packed<f32>,
    scores: Vec<f32>,
}

impl Attending {
    /// Mixes the values of each text's tokens, head by head.
    ///
    /// `projected` is `[tokens, 3 * hidden]`: query, key and value of each token. `mixed` becomes `[tokens, hidden]`, the
    /// heads side by side.
    pub(super) fn attend(
        &mut self,
        projected: &[f32],
        lengths: &[usize],
        [heads, hidden]: [usize; 2],
        mixed: &mut Vec<f32>,
        tiles: &mut Tiles,
    ) {
        let width = hidden / heads;
        #[expect(clippy::cast_precision_loss, reason = "no head has 2^23 numbers")]
        let scale = 1.0 / (width as f32).sqrt();
        mixed.resize(projected.len() / 3, 0.0);
        let mut first = 0;
        for &length in lengths {
            let text = &projected[first * 3 * hidden..][..length * 3 * hidden];
            let mixed = &mut mixed[first * hidden..][..length * hidden];
            self.scores.resize(length * length, 0.0);
            for start in (0..hidden).step_by(width) {
                let part = |number: usize| View {
                    numbers: &text[number * hidden + start..],
                    rows: length,
                    columns: width,
                    row_step: 3 * hidden,
                    column_step: 1,
                };
                self.keys.pack(part(1).transposed());
                self.values.pack(part(2));
                let scores = Out { numbers: &mut self.scores, step: length };
                self.keys.all().product(part(0), scores, tiles);
                for row in self.scores.chunks_exact_mut(length) {
                    kernels::softmax(row, scale);
                }
                let mixed = Out { numbers: &mut mixed[start..], step: hidden };
                self.values.all().product(View::dense(&self.scores, length), mixed, tiles);
            }
            first += length;
        }
    }
}
