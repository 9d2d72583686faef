//! `Model`: a batch of inputs in, one result per input out.

use std::time::Duration;

use forebay_stream::{BatchResult, Failure};
use futures::future::BoxFuture;

use crate::Error;

/// What a [`ModelHandle`](crate::ModelHandle) runs: a batch of typed inputs in, one result per input out, in order.
///
/// A model is built, warmed up and called on one thread that is its own, so it need be neither `Send` nor `Sync` and
/// may hold device handles of any kind.
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
    /// The outer failure is about the batch as a whole, such as a lost device; an inner one is about that member alone.
    fn infer(
        &mut self,
        batch: &[Self::Input],
    ) -> Result<Vec<Result<Self::Output, Failure>>, Failure>;

    /// Gives one batch to the device, and need not wait for its results: the next batch can be prepared in the meantime.
    /// By default does all of [`infer`](Self::infer).
    fn launch(&mut self, batch: &[Self::Input]) -> Launched<Self::Output> {
        Launched::Done(self.infer(batch))
    }

    /// Whether [`launch`](Self::launch) comes back before the results are there, so that two batches at a time keep the
    /// device busy.
    fn overlaps(&self) -> bool {
        false
    }

    /// Does now what the first batches would otherwise pay for, such as compiling kernels. Does nothing by default.
    ///
    /// # Errors
    ///
    /// Whatever keeps the model from serving.
    fn warm_up(&mut self, _progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the model cannot go on, such as when its device is lost, and has to be built again. Asked before and after
    /// each batch.
    fn is_lost(&self) -> bool {
        false
    }

    /// One line for start-up logs: what runs, and on which device.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

/// A batch that a model has taken on.
pub enum Launched<T> {
    /// It is over.
    Done(BatchResult<T>),
    /// The device has it.
    Running {
        /// The results, which are waited for on another thread than the model's.
        results: BoxFuture<'static, BatchResult<T>>,
        /// How long the device is expected to take for it.
        takes: Duration,
    },
}

/// One step of a model's warm-up, reported when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Steps done so far, this one counted in.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// The shape that was warmed, such as `8 texts of 64 tokens`.
    pub shape: String,
}
