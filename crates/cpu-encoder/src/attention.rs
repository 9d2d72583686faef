//! Self-attention, computed for one text after the other.

use crate::matrix::{Out, Packed, Tiles, View};
use crate::rows;

/// The working memory of self-attention, which is used again for every text and layer.
#[derive(Default)]
pub(crate) struct Attention {
    keys: Packed<f32>,
    values: Packed<f32>,
    scores: Vec<f32>,
}

impl Attention {
    /// Computes the attention among the tokens of each text, one head after the other.
    ///
    /// `projected` is `[tokens, 3 * hidden]`: query, key and value of each token. The result is
    /// written to `mixed`, `[tokens, hidden]`, with the heads side by side.
    pub(crate) fn forward(
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
                rows::softmax(&mut self.scores, length, scale);
                let mixed = Out { numbers: &mut mixed[start..], step: hidden };
                self.values.all().product(View::dense(&self.scores, length), mixed, tiles);
            }
            first += length;
        }
    }
}
