//! `map_batch`: one call for a whole batch, one result for each of its members.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, MaybeDone, maybe_done};
use futures::stream::{BoxStream, Fuse, FuturesOrdered, FuturesUnordered, Stream, StreamExt as _};

use crate::stage::Stage;
use crate::{Batch, Batches, Event, Failure, Flow, NodeKind, Pace, codes};

/// A function for [`Batches::map_batch`]: a batch in, one result per member out, in order.
///
/// Implemented for closures that return a future of these results, and by types that run batches,
/// such as a model on its device.
pub trait MapBatch<T>: Send + Sync + 'static {
    /// The result of one member.
    type Output: Send + 'static;

    /// Processes one batch.
    ///
    /// The outer error concerns the whole batch (the device was lost, the function panicked); an
    /// inner error concerns its member alone.
    fn call(&self, batch: Batch<T>) -> impl Future<Output = BatchResult<Self::Output>> + Send;

    /// Returns the pace at which the function takes batches.
    fn pace(&self) -> Pace {
        Pace::default()
    }
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

impl<T: Send + Sync + 'static> Batches<T> {
    /// Processes each batch in one call, and gives every member its own result.
    ///
    /// - **Emits** the members' results as single events, each with its own key and receipt. The
    ///   results of a batch are in order. The batches are in order if `f` takes one at a time or
    ///   its [pace](Pace) keeps the order, otherwise they leave as they finish. An empty batch has
    ///   no results, and makes no call.
    /// - **Backpressures** when downstream does, while as many calls run as the pace of `f` has
    ///   slots, and until `f` is ready. The next batch is requested while the results of the last
    ///   one are still being taken.
    /// - **Completes** when upstream completes.
    /// - **On failure** of a member, that member's receipt fails. If the batch fails as a whole, it
    ///   is tried again: once unchanged if the failure is [transient](Failure::transient), and then
    ///   in halves, until each member that cannot be processed fails alone. A wrong number of
    ///   results fails every member, because it is not known which result belongs to which member.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Batch, Flow, at_most};
    ///
    /// let lengths = |batch: Batch<&'static str>| async move { Ok(batch.iter().map(|text| Ok(text.len())).collect()) };
    /// let max = at_most(64);
    /// let flow = Flow::from_iter(["a", "bb"]).timed_window(Duration::from_millis(5), max).map_batch(lengths);
    /// assert_eq!(flow.collect().await?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_batch<F: MapBatch<T>>(self, f: F) -> Flow<F::Output> {
        let f = Arc::new(f);
        let pace = f.pace();
        Flow(self.0.holding().apply(NodeKind::Batch, "map_batch", |batches, stage| Calls {
            batches: batches.fuse(),
            running: Running::new(pace.keeps_order()),
            pace,
            until_ready: None,
            call: move |members| {
                let f = Arc::clone(&f);
                let stage = stage.clone();
                async move { process(&*f, members, &stage).await }.boxed()
            },
            finished: VecDeque::new(),
        }))
    }
}

/// The state machine behind [`Batches::map_batch`]. Each poll starts calls in free slots and polls
/// the running ones, then emits the results of the calls that have finished. It ends when there are
/// no more batches and no call is running.
struct Calls<T, U, C> {
    batches: Fuse<BoxStream<'static, Vec<Event<T>>>>,
    pace: Pace,
    // The future of `Pace::until_ready` for the next call. It is kept after it has completed, until
    // there is a batch for that call.
    until_ready: Option<MaybeDone<BoxFuture<'static, ()>>>,
    call: C,
    running: Running<BoxFuture<'static, Vec<Event<U>>>>,
    // The results of each finished call. Invariant: together with the running calls, at most one
    // more than there are slots.
    finished: VecDeque<std::vec::IntoIter<Event<U>>>,
}

impl<T, U, C> Unpin for Calls<T, U, C> {}

/// The running calls.
enum Running<F: Future> {
    InOrder(FuturesOrdered<F>),
    AsTheyFinish(FuturesUnordered<F>),
}

impl<F: Future + Unpin> Running<F> {
    fn new(keeps_order: bool) -> Self {
        if keeps_order {
            Self::InOrder(FuturesOrdered::new())
        } else {
            Self::AsTheyFinish(FuturesUnordered::new())
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::InOrder(calls) => calls.len(),
            Self::AsTheyFinish(calls) => calls.len(),
        }
    }

    fn push(&mut self, call: F) {
        match self {
            Self::InOrder(calls) => calls.push_back(call),
            Self::AsTheyFinish(calls) => calls.push(call),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        match self {
            Self::InOrder(calls) => calls.poll_next_unpin(cx),
            Self::AsTheyFinish(calls) => calls.poll_next_unpin(cx),
        }
    }
}

impl<T, U, C> Calls<T, U, C>
where
    C: FnMut(Vec<Event<T>>) -> BoxFuture<'static, Vec<Event<U>>>,
{
    /// Starts a call in every free slot, if there is a batch for it, and polls the running calls.
    fn poll_calls(&mut self, cx: &mut Context<'_>) {
        let slots = self.pace.slots().get();
        loop {
            while self.running.len() < slots
                && self.running.len() + self.finished.len() <= slots
                && self.poll_ready(cx).is_ready()
                && let Poll::Ready(Some(members)) = self.batches.poll_next_unpin(cx)
            {
                self.until_ready = None;
                self.running.push((self.call)(members));
            }
            match self.running.poll_next(cx) {
                Poll::Ready(Some(results)) => {
                    if !results.is_empty() {
                        self.finished.push_back(results.into_iter());
                    }
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.until_ready.is_none() {
            self.until_ready = self.pace.until_ready().map(maybe_done);
        }
        self.until_ready.as_mut().map_or(Poll::Ready(()), |ready| Pin::new(ready).poll(cx))
    }
}

impl<T, U, C> Stream for Calls<T, U, C>
where
    C: FnMut(Vec<Event<T>>) -> BoxFuture<'static, Vec<Event<U>>>,
{
    type Item = Event<U>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<U>>> {
        self.poll_calls(cx);
        while let Some(results) = self.finished.front_mut() {
            if let Some(result) = results.next() {
                return Poll::Ready(Some(result));
            }
            self.finished.pop_front();
            self.poll_calls(cx);
        }
        let is_over = self.batches.is_done() && self.running.len() == 0;
        if is_over { Poll::Ready(None) } else { Poll::Pending }
    }
}

async fn process<T, F: MapBatch<T>>(
    f: &F,
    members: Vec<Event<T>>,
    stage: &Stage,
) -> Vec<Event<F::Output>> {
    let (values, members): (Vec<_>, Vec<_>) = members.into_iter().map(Event::take).unzip();
    let results = call_isolating(f, values.into()).await;
    let answers = members.into_iter().zip(results).filter_map(|(member, result)| match result {
        Ok(value) => Some(member.with(value)),
        Err(failure) => {
            stage.fail(member.receipt, failure);
            None
        }
    });
    answers.collect()
}

/// Returns one result per member. A batch that fails is tried again: once unchanged if the failure
/// is transient, and then in halves, until the member that fails is alone.
async fn call_isolating<T, F: MapBatch<T>>(
    f: &F,
    batch: Batch<T>,
) -> Vec<Result<F::Output, Failure>> {
    let mut results = Vec::with_capacity(batch.len());
    let mut may_try_again = true;
    // A stack of the parts that are still to be processed, the next one on top; at most log2(len) +
    // 1 deep.
    let mut parts = if batch.is_empty() { Vec::new() } else { vec![batch] };
    while let Some(part) = parts.pop() {
        let members = part.len();
        match f.call(part.clone()).await {
            Ok(answers) if answers.len() == members => results.extend(answers),
            Ok(answers) => {
                let message = format_args!(
                    "the batch function returned {} results for a batch of {members}",
                    answers.len()
                );
                let failure = Failure::new(codes::WRONG_RESULT_COUNT, message);
                results.extend(part.iter().map(|_| Err(failure.clone())));
            }
            Err(failure) if failure.is_transient() && may_try_again => {
                tracing::warn!(%failure, members, "a batch failed; trying it again");
                may_try_again = false;
                parts.push(part);
            }
            Err(failure) if members <= 1 => {
                results.extend(part.iter().map(|_| Err(failure.clone())));
            }
            Err(failure) => {
                tracing::warn!(%failure, members, "a batch failed; trying it again in halves");
                let (first, second) = part.split();
                parts.extend([second, first]);
            }
        }
    }
    results
}

#[cfg(test)]
mod tests;
