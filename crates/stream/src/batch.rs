//! `Batch`: the values of one mini-batch, shared and split without copying.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The values of one mini-batch, in order. Dereferences to a slice.
///
/// Cloning and [splitting](Batch::split) share the values, so a batch can be given to another
/// thread and still be tried again in halves if that thread fails.
pub struct Batch<T> {
    values: Arc<[T]>,
    range: Range<usize>,
}

impl<T> Batch<T> {
    /// Returns the two halves of the batch, the first no smaller than the second.
    #[must_use]
    pub fn split(&self) -> (Self, Self) {
        let Range { start, end } = self.range;
        let middle = start + (end - start).div_ceil(2);
        let part = |range| Self { values: Arc::clone(&self.values), range };
        (part(start..middle), part(middle..end))
    }
}

impl<T> From<Vec<T>> for Batch<T> {
    fn from(values: Vec<T>) -> Self {
        Self { range: 0..values.len(), values: values.into() }
    }
}

impl<T> Clone for Batch<T> {
    fn clone(&self) -> Self {
        Self { values: Arc::clone(&self.values), range: self.range.clone() }
    }
}

impl<T> Deref for Batch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.range.clone()]
    }
}

impl<T: fmt::Debug> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Batch;

    proptest! {
        #[test]
        fn the_two_halves_of_a_batch_make_up_the_batch(values: Vec<u8>) {
            let (first, second) = Batch::from(values.clone()).split();
            prop_assert!(first.len() - second.len() <= 1);
            prop_assert_eq!([&*first, &*second].concat(), values);
        }
    }
}
