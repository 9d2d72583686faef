//! `HttpSource`: where requests come in, as a stream of events, and their responses go out.

mod body;
mod connection;
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
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connection::CuttableListener;
use self::ingress::Ingress;
use self::requests::Requests;
use crate::config::Resolved;
use crate::pending::PendingResponses;
use crate::{Config, Error, Replies};

pub use self::handle::{CloseReport, Handle};

/// The source's name in the origins of events.
pub(crate) const SOURCE: &str = "http";

/// What a source yields: an event for a request, or the error that ends the source. The value is the request's body, never
/// `None`; it is optional because the values of other sources are.
pub type RequestItem = Result<Event<Option<Bytes>>, Error>;

/// A socket that listens, ready to take requests over HTTP/1.1.
///
/// A request is one event, and the response is what became of it:
///
/// | the event's receipt                | the response                                                          |
/// |------------------------------------|-----------------------------------------------------------------------|
/// | is done, without a [reply](Replies) | 204                                                                  |
/// | is done, with one reply             | 200 `application/json`, the reply                                    |
/// | is done, with several               | 200 `application/x-ndjson`, a reply a line, in the order sent        |
/// | is done, a reply being an error     | the same with 422                                                    |
/// | failed                              | 422 `{"error": {"code", "message", "stage"}}`                        |
/// | was abandoned                       | 503 `unavailable` with `Retry-After`, in that shape                  |
///
/// What cannot become an event is answered in that shape as well, its stage being `http`: 404 `not_found`,
/// 405 `method_not_allowed`, 413 `body_too_large`, 400 `invalid_body`, 408 `request_timeout`, 503 `overloaded`, and
/// 503 `unavailable` once the source is stopped.
#[derive(Debug)]
pub struct HttpSource {
    listener: TcpListener,
    address: SocketAddr,
    config: Resolved,
    waiting: Arc<PendingResponses>,
}

impl HttpSource {
    /// Listens. Until the source is [started](Self::start) clients can connect, and wait.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work, and when the address cannot be listened at.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let resolved = config.resolve()?;
        let failed = |source| Error::Bind { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, config: resolved, waiting: Arc::default() })
    }

    /// The address that the source listens at, with the port that was taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The sink that answers this source's requests.
    #[must_use]
    pub fn replies(&self) -> Replies {
        Replies::new(Arc::clone(&self.waiting))
    }

    /// Takes requests, in a task that the handle owns, until `stop` is cancelled.
    ///
    /// An event's key is the value of the key header; its headers are those of the request that begin with `forebay-`,
    /// `traceparent` and `tracestate`, in lower case; its origin is `http` and the number of the request, from 1.
    ///
    /// - **Emits** requests as they come. A client that goes away does not take its request along.
    /// - **Backpressures**: at most `max_in_flight` requests are taken and not yet resolved. Further ones are refused
    ///   at once, as `overloaded`, rather than made to wait.
    /// - **Completes** when `stop` is cancelled and every request that was taken has been handed out. Their responses
    ///   are still written, until the handle is [closed](Handle::close).
    /// - **On failure** of the server yields one error and ends. The failure of one request is its response.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(
        self,
        stop: &CancellationToken,
    ) -> (impl Stream<Item = RequestItem> + Send + 'static, Handle) {
        let Self { listener, address, config, waiting } = self;
        // Closing the source stops it; that must not reach whatever else the caller's token stops.
        let stop = stop.child_token();
        let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
        let (ingress, requests) =
            Ingress::new(config, Arc::clone(&waiting), stop.clone(), closing.clone());
        let ingress = Arc::new(ingress);

        let service = ingress::answer.with_state(Arc::clone(&ingress)).into_make_service();
        let server = axum::serve(CuttableListener::new(listener, cut.clone()), service)
            .with_graceful_shutdown(closing.clone().cancelled_owned());
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let server = tokio::spawn(async move {
            let _end = end;
            // Never an error: what fails is a connection, or accepting one, which is tried again.
            server.await.ok();
        });

        let requests = Requests::new(requests, Arc::clone(&ingress), ended, address);
        (requests.into_stream(), Handle::new(address, ingress, cut, server))
    }
}
