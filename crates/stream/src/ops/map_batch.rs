//! `map_batch`: one call for a whole batch, one result for each of its members.

use std::future::Future;

use crate::{Batch, Failure};

/// What [`Batches::map_batch`](crate::Batches::map_batch) calls: a batch in, one result per member out, in order.
///
/// Implemented for closures that return such a future, and by whatever else runs batches (a model on its device).
pub trait MapBatch<T>: Send + Sync + 'static {
    /// One member's result.
    type Output: Send + 'static;

    /// Processes one batch.
    ///
    /// The outer error is about the batch as a whole (the device was lost, the function panicked); an inner one is
    /// about that member alone.
    fn call(&self, batch: Batch<T>) -> impl Future<Output = BatchResult<Self::Output>> + Send;
}

/// One result per member, or a failure of the batch as a whole.
pub type BatchResult<U> = Result<Vec<Result<U, Failure>>, Failure>;

impl<T, U, F, R> MapBatch<T> for F
where
    F: Fn(Batch<T>) -> R + Send + Sync + 'static,
    R: Future<Output = BatchResult<U>> + Send,
    U: Send + 'static,
{
    type Output = U;

    fn call(&self, batch: Batch<T>) -> impl Future<Output = BatchResult<U>> + Send {
        self(batch)
    }
}
