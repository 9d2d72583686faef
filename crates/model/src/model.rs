//! `Model`: takes a batch of inputs and returns one result per input.

use std::fmt;
use std::time::Duration;

use forebay_stream::{BatchResult, Failure};
use futures::future::BoxFuture;

use crate::Error;

/// A model that a [`ModelHandle`](crate::ModelHandle) runs: it takes a batch of typed inputs and
/// returns one result per input, in order.
///
/// A model is built, warmed up and called on its own thread, so it need be neither `Send` nor
/// `Sync` and may hold device handles of any kind.
///
/// # Examples
///
/// ```
/// use forebay_model::Model;
/// use forebay_stream::Failure;
///
/// struct Lengths;
///
/// impl Model for Lengths {
///     type Input = String;
///     type Output = usize;
///
///     fn infer(&mut self, batch: &[String]) -> Result<Vec<Result<usize, Failure>>, Failure> {
///         Ok(batch.iter().map(|text| Ok(text.len())).collect())
///     }
/// }
///
/// assert_eq!(Lengths.infer(&["four".into()]), Ok(vec![Ok(4)]));
/// ```
pub trait Model: 'static {
    /// One member of a batch.
    type Input: Send + Sync + 'static;
    /// The result of one member.
    type Output: Send + 'static;

    /// Runs one batch and returns one result per member, in order.
    ///
    /// # Errors
    ///
    /// The outer failure is one of the whole batch, for example because the device failed. An inner
    /// failure is one of a single member.
    fn infer(
        &mut self,
        batch: &[Self::Input],
    ) -> Result<Vec<Result<Self::Output, Failure>>, Failure>;

    /// Gives one batch to the device. May return before the results are computed, so that the next
    /// batch can be prepared in the meantime.
    ///
    /// The default implementation calls [`infer`](Self::infer), and so returns with the results.
    fn launch(&mut self, batch: &[Self::Input]) -> Launched<Self::Output> {
        Launched::Done(self.infer(batch))
    }

    /// Returns whether [`launch`](Self::launch) returns before the results are computed. If so, the
    /// model is given two batches at a time, which keeps the device busy.
    fn overlaps(&self) -> bool {
        false
    }

    /// Does work that would otherwise delay the first batches, such as compiling kernels. The
    /// default implementation does nothing.
    ///
    /// # Errors
    ///
    /// After an error, the model is not used.
    fn warm_up(&mut self, _progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        Ok(())
    }

    /// Returns whether the model has to be rebuilt, for example because its device failed. Called
    /// before and after each batch.
    fn is_lost(&self) -> bool {
        false
    }

    /// Returns one line about the model and its device, for start-up logs.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

/// A batch that a model has launched.
pub enum Launched<T> {
    /// The batch is finished, with these results.
    Done(BatchResult<T>),
    /// The device is still computing the batch.
    Running {
        /// The results, which are awaited on another thread than the model's.
        results: BoxFuture<'static, BatchResult<T>>,
        /// The time that the device is expected to take for the batch.
        takes: Duration,
    },
}

impl<T> fmt::Debug for Launched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(_) => f.write_str("Done"),
            Self::Running { takes, .. } => {
                f.debug_struct("Running").field("takes", takes).finish_non_exhaustive()
            }
        }
    }
}

/// A finished step of a model's warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Number of finished steps, including this one.
    pub done: usize,
    /// Number of steps in total.
    pub total: usize,
    /// The shape that was warmed up, such as `8 texts of 64 tokens`.
    pub shape: String,
}
