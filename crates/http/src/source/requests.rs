//! `Requests`: the stream that hands out the events of requests.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::RequestItem;
use super::ingress::{Ingress, RequestEvent};
use crate::Error;

/// The receiving end of the channel that [`Ingress`] sends events into.
pub(super) struct Requests {
    channel: mpsc::Receiver<RequestEvent>,
    ingress: Arc<Ingress>,
    /// Cancelled when the server's task has ended.
    ended: CancellationToken,
    address: SocketAddr,
    phase: Phase,
}

/// The phase of the stream.
///
/// `Open` becomes `Stopped` when the source is stopped, and `Over` when the server's task ends
/// unexpectedly. `Stopped` becomes `Over` when the channel is empty.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The source takes requests.
    Open,
    /// The channel is closed, and the events left in it are still handed out.
    Stopped,
    /// The stream has ended.
    Over,
}

impl Requests {
    pub(super) fn new(
        channel: mpsc::Receiver<RequestEvent>,
        ingress: Arc<Ingress>,
        ended: CancellationToken,
        address: SocketAddr,
    ) -> Self {
        Self { channel, ingress, ended, address, phase: Phase::Open }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = RequestItem> + Send + 'static {
        stream::unfold(self, |mut requests| async move { Some((requests.next().await?, requests)) })
    }

    async fn next(&mut self) -> Option<RequestItem> {
        if self.phase == Phase::Open {
            tokio::select! {
                biased;
                () = self.ingress.stop.cancelled() => {
                    self.phase = Phase::Stopped;
                    self.channel.close();
                }
                () = self.ended.cancelled() => {
                    self.phase = Phase::Over;
                    return Some(Err(Error::ServerEnded { address: self.address }));
                }
                // Never `None`, because `self.ingress` holds a sender.
                request = self.channel.recv() => return request.map(Ok),
            }
        }
        if self.phase == Phase::Over {
            return None;
        }
        let request = self.channel.recv().await;
        if request.is_none() {
            self.phase = Phase::Over;
        }
        request.map(Ok)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // No event is sent while this lock is held; see `Ingress::requests`.
        let _no_event_is_sent = self.ingress.requests();
        self.channel.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::http::HeaderMap;
    use bytes::Bytes;
    use forebay_stream::Outcome;
    use futures::StreamExt as _;
    use tokio_util::sync::CancellationToken;

    use super::Requests;
    use crate::pending::PendingResponses;
    use crate::source::ingress::Ingress;
    use crate::{Config, Error, HttpSource};

    #[tokio::test]
    async fn a_stop_abandons_only_the_requests_that_come_after_it() {
        let config = Config::new("127.0.0.1:0");
        let stop = CancellationToken::new();
        let (ingress, requests) = Ingress::new(
            config.resolve().unwrap(),
            Arc::<PendingResponses>::default(),
            stop.clone(),
            CancellationToken::new(),
        );
        let ingress = Arc::new(ingress);
        let take = |body: &'static str| {
            let permit = ingress.permit().unwrap();
            ingress.hand_over(&HeaderMap::new(), Bytes::from(body), permit)
        };
        let ended = CancellationToken::new();
        let address = ([127, 0, 0, 1], 0).into();
        let requests = Requests::new(requests, Arc::clone(&ingress), ended.clone(), address);
        let mut events = Box::pin(requests.into_stream());

        let _taken = [take("1"), take("2")];
        stop.cancel();
        ended.cancel();
        for body in ["1", "2"] {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(event.value.unwrap(), body);
        }
        let mut late = take("3");
        assert_eq!(late.try_recv().unwrap().outcome, Outcome::Abandoned);
        assert!(events.next().await.is_none());
        ingress.all_settled().await;
    }

    #[tokio::test]
    async fn the_stream_yields_an_error_if_the_server_ends_unexpectedly() {
        let source = HttpSource::bind(Config::new("127.0.0.1:0")).await.unwrap();
        let address = source.local_addr();
        let (events, handle) = source.start(&CancellationToken::new());
        handle.abort_server();
        let items: Vec<_> = events.collect().await;
        assert!(
            matches!(&items[..], [Err(Error::ServerEnded { address: at })] if *at == address),
            "{items:?}"
        );
        assert!(handle.close(Duration::ZERO).await.is_err());
    }
}
