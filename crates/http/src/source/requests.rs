//! `Requests`: the requests that the server takes, handed out as a stream of events.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::RequestItem;
use super::ingress::{Ingress, RequestEvent};
use crate::Error;

pub(super) struct Requests {
    requests: mpsc::Receiver<RequestEvent>,
    ingress: Arc<Ingress>,
    /// The server's task is over.
    ended: CancellationToken,
    address: SocketAddr,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more comes in; what is in the channel is still handed out.
    Stopped,
    Over,
}

impl Requests {
    pub(super) fn new(
        requests: mpsc::Receiver<RequestEvent>,
        ingress: Arc<Ingress>,
        ended: CancellationToken,
        address: SocketAddr,
    ) -> Self {
        Self { requests, ingress, ended, address, phase: Phase::Open }
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
                    self.requests.close();
                }
                () = self.ended.cancelled() => {
                    self.phase = Phase::Over;
                    return Some(Err(Error::ServerEnded { address: self.address }));
                }
                // Never the end: the ingress has a sender, and is kept here.
                request = self.requests.recv() => return request.map(Ok),
            }
        }
        if self.phase == Phase::Over {
            return None;
        }
        let request = self.requests.recv().await;
        if request.is_none() {
            self.phase = Phase::Over;
        }
        request.map(Ok)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let _nobody_sends = self.ingress.requests();
        self.requests.close();
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
    async fn what_was_taken_before_the_stop_is_handed_out_after_it_and_what_came_too_late_is_not() {
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
            let place = ingress.place().unwrap();
            ingress.hand_over(&HeaderMap::new(), Bytes::from(body), place)
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
        ingress.all_resolved().await;
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_an_error_of_the_stream() {
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
