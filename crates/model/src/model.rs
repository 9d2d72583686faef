//! `Model`: takes a batch of inputs and returns one result per input.

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
    /// The outer failure is about the batch as a whole, such as a lost device. An inner one is
    /// about its member alone.
    fn infer(
        &mut self,
        batch: &[Self::Input],
    ) -> Result<Vec<Result<Self::Output, Failure>>, Failure>;

    /// Gives one batch to the device. It may return before the results are there, so that the next
    /// batch can be prepared in the meantime.
    ///
    /// By default runs [`infer`](Self::infer) to its end.
    fn launch(&mut self, batch: &[Self::Input]) -> Launched<Self::Output> {
        Launched::Done(self.infer(batch))
    }

    /// Whether [`launch`](Self::launch) returns before the results are there, so that two batches
    /// at a time keep the device busy.
    fn overlaps(&self) -> bool {
        false
    }

    /// Does work that the first batches would otherwise pay for, such as compiling kernels. Does
    /// nothing by default.
    ///
    /// # Errors
    ///
    /// An error keeps the model from serving.
    fn warm_up(&mut self, _progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the model has to be rebuilt, for example because its device is lost. Checked before
    /// and after each batch.
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
    /// The batch is finished.
    Done(BatchResult<T>),
    /// The device computes the batch.
    Running {
        /// The results, which are awaited on another thread than the model's.
        results: BoxFuture<'static, BatchResult<T>>,
        /// How long the device is expected to compute the batch.
        takes: Duration,
    },
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
