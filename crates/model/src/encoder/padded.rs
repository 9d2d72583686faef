//! `Padded`: token ids of several texts in one rectangle.

use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};

use crate::Precision;

/// Added to the attention scores of padding. So far below 0 that `exp` of it is 0, but so near that
/// its sum with any score stays finite even in f16: a row of nothing but infinities would become
/// NaN.
const MASKED: f32 = -3e4;

/// Token ids of several texts, each padded to the length of the rectangle, `[rows, length]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padded {
    ids: Vec<i32>,
    /// Number of tokens in each row that are not masked; at least 1.
    lengths: Vec<usize>,
    length: usize,
    always_masked: bool,
}

/// The way in which attention leaves padding out. It decides whether attention may run as one fused
/// kernel ("flash attention") or as separate kernels for its products and its softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// A large negative number is added to the scores of padding. Attention then always runs as
    /// separate kernels, which every backend has.
    Bias,
    /// Booleans mark padding. Attention then runs as one fused kernel, if Burn has one for the
    /// device.
    Boolean,
}

impl Masking {
    /// Returns the fastest masking that loses no precision. Fused kernels multiply in f16, so they
    /// are used only if everything else is in f16 too, and only if `flash_attention` allows them.
    #[must_use]
    pub fn fastest(precision: Precision, flash_attention: bool) -> Self {
        if flash_attention && precision == Precision::F16 { Self::Boolean } else { Self::Bias }
    }
}

/// The mask that marks a rectangle's padding for attention, `[rows, 1, 1, length]`.
#[derive(Clone, Debug)]
pub enum AttentionMask {
    /// Added to the scores: 0 for tokens, a large negative number for padding.
    Bias(Tensor<4>),
    /// True for padding.
    Boolean(Tensor<4, Bool>),
}

impl Padded {
    /// Pads `texts` to `rows` rows of `length` tokens with the token `padding`.
    ///
    /// If there are fewer texts than rows, the other rows hold only padding. The first token of
    /// these rows is not masked, because a softmax over nothing is not defined.
    ///
    /// If `always_masked` is set, there is a mask even if nothing is padded. Otherwise a full batch
    /// would run other kernels than a padded one of the same shape: kernels that the warm-up has
    /// neither compiled nor checked.
    ///
    /// # Panics
    ///
    /// If there are more texts than rows, or if a text is empty or longer than `length`.
    #[must_use]
    pub fn new(
        texts: &[&[u32]],
        [rows, length]: [usize; 2],
        padding: u32,
        always_masked: bool,
    ) -> Self {
        assert!(texts.len() <= rows, "{} texts do not fit {rows} rows", texts.len());
        let mut ids = vec![padding.cast_signed(); rows * length];
        for (row, text) in ids.chunks_exact_mut(length).zip(texts) {
            assert!(!text.is_empty(), "a text has at least its special tokens");
            for (place, id) in row[..text.len()].iter_mut().zip(*text) {
                *place = id.cast_signed();
            }
        }
        let mut lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        lengths.resize(rows, 1);
        Self { ids, lengths, length, always_masked }
    }

    /// Returns the number of rows and of tokens per row.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.lengths.len(), self.length]
    }

    /// Returns the ids, `[rows, length]`.
    #[must_use]
    pub fn tokens(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.ids.clone(), self.shape()), device)
    }

    /// Returns the mask of the padding, or `None` if nothing is padded and `always_masked` is not
    /// set. The numbers of [`Masking::Bias`] are in `precision`.
    #[must_use]
    pub fn attention_mask(
        &self,
        masking: Masking,
        precision: FloatDType,
        device: &Device,
    ) -> Option<AttentionMask> {
        let full = self.lengths.iter().all(|&length| length == self.length);
        if full && !self.always_masked {
            return None;
        }
        let [rows, length] = self.shape();
        let shape = [rows, 1, 1, length];
        Some(match masking {
            Masking::Bias => {
                let values = TensorData::new(self.per_token(|_| 0.0, MASKED), shape);
                AttentionMask::Bias(Tensor::<4>::from_data(values, device).cast(precision))
            }
            Masking::Boolean => {
                let values = TensorData::new(self.per_token(|_| false, true), shape);
                AttentionMask::Boolean(Tensor::from_data(values, device))
            }
        })
    }

    /// Returns each token's weight in the mean of its text, `[rows, 1, length]`; 0 for padding.
    #[must_use]
    pub fn mean_weights(&self, device: &Device) -> Tensor<3> {
        #[expect(clippy::cast_precision_loss, reason = "no text has 2^23 tokens")]
        let values = self.per_token(|length| 1.0 / length as f32, 0.0);
        let [rows, length] = self.shape();
        Tensor::from_data(TensorData::new(values, [rows, 1, length]), device)
    }

    /// Returns what to add to the token vectors before max pooling, `[rows, length, 1]`: 0 for
    /// tokens, a large negative number for padding, so that padding is never the maximum.
    #[must_use]
    pub fn padding_bias(&self, device: &Device) -> Tensor<3> {
        let [rows, length] = self.shape();
        let values = self.per_token(|_| 0.0, MASKED);
        Tensor::from_data(TensorData::new(values, [rows, length, 1]), device)
    }

    /// Returns one value per place of the rectangle: `token(length)` for each token of a text of
    /// that length, `padding` for padding.
    fn per_token<T: Copy>(&self, token: impl Fn(usize) -> T, padding: T) -> Vec<T> {
        let row = |&length: &usize| {
            let tokens = std::iter::repeat_n(token(length), length);
            tokens.chain(std::iter::repeat_n(padding, self.length - length))
        };
        self.lengths.iter().flat_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, FloatDType};

    use super::{AttentionMask, MASKED, Masking, Padded};

    fn bias(batch: &Padded, device: &Device) -> Option<Vec<f32>> {
        match batch.attention_mask(Masking::Bias, FloatDType::F32, device)? {
            AttentionMask::Bias(bias) => Some(bias.try_into_vec_as().unwrap()),
            AttentionMask::Boolean(_) => panic!("asked for a bias"),
        }
    }

    fn boolean(batch: &Padded, device: &Device) -> Option<Vec<bool>> {
        match batch.attention_mask(Masking::Boolean, FloatDType::F32, device)? {
            AttentionMask::Bias(_) => panic!("asked for booleans"),
            AttentionMask::Boolean(mask) => Some(mask.into_data().iter::<bool>().collect()),
        }
    }

    #[test]
    fn all_padding_is_masked_except_for_the_first_token_of_an_empty_row() {
        let device = burn::tensor::Device::flex();
        let batch = Padded::new(&[&[5, 6], &[7]], [3, 2], 9, false);
        let tokens = batch.tokens(&device).try_into_vec_as::<i32>().unwrap();
        assert_eq!(tokens, [5, 6, 7, 9, 9, 9]);
        assert_eq!(bias(&batch, &device).unwrap(), [0.0, 0.0, 0.0, MASKED, 0.0, MASKED]);
        assert_eq!(boolean(&batch, &device).unwrap(), [false, false, false, true, false, true]);
        let mean = batch.mean_weights(&device).try_into_vec_as::<f32>().unwrap();
        assert_eq!(mean, [0.5, 0.5, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_full_rectangle_has_a_mask_only_if_it_is_always_masked() {
        let device = burn::tensor::Device::flex();
        let batch = Padded::new(&[&[5, 6]], [1, 2], 9, false);
        assert!(bias(&batch, &device).is_none() && boolean(&batch, &device).is_none());
        let batch = Padded::new(&[&[5, 6]], [1, 2], 9, true);
        assert_eq!(bias(&batch, &device).unwrap(), [0.0, 0.0]);
        assert_eq!(boolean(&batch, &device).unwrap(), [false, false]);
    }
}
