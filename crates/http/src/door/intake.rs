//! `Intake`: the requests that the server takes, handed out as a stream of events.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::DoorItem;
use super::entrance::{Entrance, RequestEvent};
use crate::Error;

pub(super) struct Intake {
    requests: mpsc::Receiver<RequestEvent>,
    entrance: Arc<Entrance>,
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

impl Intake {
    pub(super) fn new(
        requests: mpsc::Receiver<RequestEvent>,
        entrance: Arc<Entrance>,
        ended: CancellationToken,
        address: SocketAddr,
    ) -> Self {
        Self { requests, entrance, ended, address, phase: Phase::Open }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = DoorItem> + Send + 'static {
        stream::unfold(self, |mut intake| async move { Some((intake.next().await?, intake)) })
    }

    async fn next(&mut self) -> Option<DoorItem> {
        if self.phase == Phase::Open {
            tokio::select! {
                biased;
                () = self.entrance.stop.cancelled() => {
                    self.phase = Phase::Stopped;
                    self.requests.close();
                }
                () = self.ended.cancelled() => {
                    self.phase = Phase::Over;
                    return Some(Err(Error::ServerEnded { address: self.address }));
                }
                // Never the end: the entrance has a sender, and is kept here.
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

impl Drop for Intake {
    fn drop(&mut self) {
        let _nobody_sends = self.entrance.requests();
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

    use super::Intake;
    use crate::door::entrance::Entrance;
    use crate::waiting::Waiting;
    use crate::{Config, Door, Error};

    #[tokio::test]
    async fn what_was_taken_before_the_stop_is_handed_out_after_it_and_what_came_too_late_is_not() {
        let config = Config::new("127.0.0.1:0");
        let stop = CancellationToken::new();
        let (entrance, requests) = Entrance::new(
            config.resolve().unwrap(),
            Arc::<Waiting>::default(),
            stop.clone(),
            CancellationToken::new(),
        );
        let entrance = Arc::new(entrance);
        let take = |body: &'static str| {
            let place = entrance.place().unwrap();
            entrance.hand_over(&HeaderMap::new(), Bytes::from(body), place)
        };
        let ended = CancellationToken::new();
        let address = ([127, 0, 0, 1], 0).into();
        let intake = Intake::new(requests, Arc::clone(&entrance), ended.clone(), address);
        let mut events = Box::pin(intake.into_stream());

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
        entrance.all_resolved().await;
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_an_error_of_the_stream() {
        let door = Door::bind(Config::new("127.0.0.1:0")).await.unwrap();
        let address = door.local_addr();
        let (events, handle) = door.start(&CancellationToken::new());
        handle.abort_server();
        let items: Vec<_> = events.collect().await;
        assert!(
            matches!(&items[..], [Err(Error::ServerEnded { address: at })] if *at == address),
            "{items:?}"
        );
        assert!(handle.close(Duration::ZERO).await.is_err());
    }
}
