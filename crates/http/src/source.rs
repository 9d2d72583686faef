//! `HttpSource`: an HTTP server whose requests are a stream of events.

mod body;
mod handle;
mod ingress;
mod requests;
mod response;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::handler::Handler as _;
use bytes::Bytes;
use forebay_stream::Event;
use futures::Stream;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::ingress::Ingress;
use self::requests::Requests;
use crate::config::Resolved;
use crate::pending::PendingResponses;
use crate::server::serve;
use crate::{Config, Error, Replies};

pub use self::handle::{CloseReport, Handle};

/// The source's name in the origins of events.
pub(crate) const SOURCE: &str = "http";

/// An item of the source's stream: the event of a request, or the error that ends the source.
///
/// The event's value is the request's body, and is always `Some`. It is an `Option` only because
/// the events of other sources, such as Kafka, may have no value.
pub type RequestItem = Result<Event<Option<Bytes>>, Error>;

/// A listening socket, ready to take requests over HTTP/1.1.
///
/// Each request becomes one event. The event's outcome determines the response. It is abandoned
/// when the event is dropped without a result, for example because the pipeline stops.
///
/// | outcome of the event            | response                                                  |
/// |---------------------------------|-----------------------------------------------------------|
/// | done, without a [reply](Replies) | 204                                                      |
/// | done, with one reply            | 200 `application/json`, the reply                         |
/// | done, with several replies      | 200 `application/x-ndjson`, one line for each, as sent    |
/// | done, with an error reply       | 422, and otherwise as above                               |
/// | failed                          | 422 `{"error": {"code", "message", "stage"}}`             |
/// | abandoned                       | 503 `unavailable` with `Retry-After`, in the same format  |
///
/// A request that cannot become an event gets an error in the same format, with the stage `http`:
/// 404 `not_found`, 405 `method_not_allowed`, 413 `body_too_large`, 400 `invalid_body`, 408
/// `request_timeout`, 503 `overloaded`, and 503 `unavailable` when the source has been stopped.
#[derive(Debug)]
pub struct HttpSource {
    listener: TcpListener,
    address: SocketAddr,
    config: Resolved,
    pending: Arc<PendingResponses>,
}

impl HttpSource {
    /// Binds the socket. Clients can connect from now on, but get no response until the source is
    /// [started](Self::start).
    ///
    /// # Errors
    ///
    /// Returns [`Error::Setting`] if the configuration is invalid, and [`Error::Bind`] if the
    /// address cannot be bound.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let resolved = config.resolve()?;
        let failed = |source| Error::Bind { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "listening");
        Ok(Self { listener, address, config: resolved, pending: Arc::default() })
    }

    /// Returns the address of the socket. If the configured port is 0, this has the port that the
    /// operating system picked.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the sink that answers this source's requests.
    #[must_use]
    pub fn replies(&self) -> Replies {
        Replies::new(Arc::clone(&self.pending))
    }

    /// Takes requests until `stop` is cancelled, in a task that the handle owns.
    ///
    /// An event's key is the value of the key header. Its headers are the request's `traceparent`,
    /// `tracestate` and all headers that begin with `forebay-`, with names in lower case. Its
    /// origin has the source `http` and, as its position, the number of the request, counted from
    /// 1.
    ///
    /// - **Emits** requests as they arrive. If a client goes away, its request is processed
    ///   nevertheless.
    /// - **Backpressures**: at most `max_in_flight` requests are in flight. Further ones do not
    ///   wait: they are refused at once, as `overloaded`.
    /// - **Completes** when `stop` is cancelled and every request that was taken before has been
    ///   handed out. Responses are still written, until the handle is [closed](Handle::close).
    /// - **On failure** of the server, the stream yields one error and ends. If a single request
    ///   fails, its client gets the failure as the response, and the stream goes on.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(
        self,
        stop: &CancellationToken,
    ) -> (impl Stream<Item = RequestItem> + Send + 'static, Handle) {
        let Self { listener, address, config, pending } = self;
        // A child token, so that closing the source does not cancel the caller's token.
        let stop = stop.child_token();
        let closing = CancellationToken::new();
        let idle_timeout = config.idle_timeout;
        let (ingress, requests) =
            Ingress::new(config, Arc::clone(&pending), stop.clone(), closing.clone());
        let ingress = Arc::new(ingress);

        let service = TowerToHyperService::new(ingress::answer.with_state(Arc::clone(&ingress)));
        let server = serve(listener, service, idle_timeout, closing);
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let server = tokio::spawn(async move {
            let _end = end;
            server.await;
        });

        let requests = Requests::new(requests, Arc::clone(&ingress), ended, address);
        (requests.into_stream(), Handle::new(address, ingress, server))
    }
}
