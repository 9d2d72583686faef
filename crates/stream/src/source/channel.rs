//! `from_channel`: a channel as a source.

use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;

use crate::Flow;

impl<T: Send + 'static> Flow<T> {
    /// Creates a flow of the values that come through a channel. No source waits for their
    /// outcomes. To learn the outcomes, send [`Event`](crate::Event)s with receipts: see
    /// [`from_try_events`](Flow::from_try_events) and [`Source`](crate::Source).
    ///
    /// - **Emits** each value, in order.
    /// - **Backpressures** when downstream does: senders wait while the channel is full.
    /// - **Completes** when all senders are gone and the channel is empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let (sender, receiver) = tokio::sync::mpsc::channel(8);
    /// let flow = tokio::spawn(Flow::from_channel(receiver).map(|x| x * 2).collect());
    /// for value in [1, 2, 3] {
    ///     sender.send(value).await.expect("the flow runs");
    /// }
    /// drop(sender);
    /// assert_eq!(flow.await.expect("the flow does not panic")?, [2, 4, 6]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_channel(receiver: Receiver<T>) -> Self {
        Self::values("from_channel", ReceiverStream::new(receiver))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::StreamExt as _;
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use crate::Flow;

    #[tokio::test(start_paused = true)]
    async fn the_flow_ends_after_all_values_when_the_last_sender_is_dropped() {
        let (sender, receiver) = mpsc::channel(1);
        let other = sender.clone();
        let sends = tokio::spawn(async move {
            for number in 0..5 {
                sender.send(number).await.unwrap();
            }
            drop(sender);
            sleep(Duration::from_secs(1)).await;
            other.send(5).await.unwrap();
        });
        let seen = Flow::from_channel(receiver).collect().await.unwrap();
        sends.await.unwrap();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn senders_wait_while_the_flow_is_not_polled() {
        let (sender, receiver) = mpsc::channel(1);
        let mut flow = Flow::from_channel(receiver).0.stream;
        sender.send(1).await.unwrap();
        assert!(timeout(Duration::from_secs(1), sender.send(2)).await.is_err());
        assert_eq!(flow.next().await.unwrap().value, 1);
        sender.send(3).await.unwrap();
        drop(flow);
        assert!(sender.send(4).await.is_err(), "the flow was dropped");
    }
}
