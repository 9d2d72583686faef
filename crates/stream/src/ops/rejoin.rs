//! `rejoin`: merges the answers to failures into the flow of results.

use std::task::Poll;

use futures::stream::{self, StreamExt as _};

use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Merges the answers to failures from [`catch`](Flow::catch) into the flow of results.
    ///
    /// If `catch` releases failures in order, and the sink resolves each event before it asks for
    /// the next, all answers are in input order. To merge flows that have no such relation, see
    /// [`union`](Flow::union).
    ///
    /// - **Emits** the events of both; a failure that is ready goes before a result that is ready.
    /// - **Backpressures** both when downstream does; holds at most one result.
    /// - **Completes** when both have completed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Failure, Flow, Release, at_most};
    ///
    /// let capacity = at_most(100);
    /// let (numbers, failures) = Flow::from_iter(["1", "two", "3"]).catch(capacity, Release::InOrder);
    /// let numbers = numbers.try_map(|text| text.parse::<i32>().map_err(|e| Failure::new("not_a_number", e)));
    /// let answers = numbers.map(|n| n.to_string()).rejoin(failures.map(|failed| failed.failure.code().to_owned()));
    /// assert_eq!(answers.collect().await?, ["1", "not_a_number", "3"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rejoin(mut self, failures: Self) -> Self {
        let (failures, failures_tail) = self.0.absorb(failures.0);
        let mut joined = self.0.apply(NodeKind::Junction, "rejoin", |results, _| {
            let mut results = results.fuse();
            let mut failures = failures.fuse();
            // Polling for a result may settle an earlier input as failed. The result is therefore
            // held until the failures have been polled.
            let mut held = None;
            stream::poll_fn(move |cx| {
                let ended = held.is_none()
                    && match results.poll_next_unpin(cx) {
                        Poll::Ready(Some(result)) => {
                            held = Some(result);
                            false
                        }
                        Poll::Ready(None) => true,
                        Poll::Pending => false,
                    };
                match (failures.poll_next_unpin(cx), held.take()) {
                    (Poll::Ready(Some(failure)), result) => {
                        held = result;
                        Poll::Ready(Some(failure))
                    }
                    (_, Some(result)) => Poll::Ready(Some(result)),
                    (Poll::Ready(None), None) if ended => Poll::Ready(None),
                    (_, None) => Poll::Pending,
                }
            })
        });
        joined.graph.connect(failures_tail, joined.tail);
        Self(joined)
    }
}
