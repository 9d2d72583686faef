//! `Ingress`: lets requests in, as events, and answers each when its receipt settles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::body::{BodyDataStream, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use forebay_stream::{Event, Header, Meta, Origin, Receipt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::response::{self, Refusal};
use super::{SOURCE, body};
use crate::config::Resolved;
use crate::pending::{PendingResponses, Settled};

/// A request, as the pipeline sees it.
pub(super) type RequestEvent = Event<Option<Bytes>>;

/// What the server and the source's handle share.
#[derive(Debug)]
pub(super) struct Ingress {
    config: Resolved,
    source: Arc<str>,
    taken: AtomicU64,
    // Has as many permits as the channel has room, so the channel is never full.
    places: Arc<Semaphore>,
    // Locked for sending and for leaving, so that no request comes into a channel that its receiver has just left.
    requests: Mutex<mpsc::Sender<RequestEvent>>,
    waiting: Arc<PendingResponses>,
    /// No more requests are taken.
    pub(super) stop: CancellationToken,
    /// Nothing is waited for any more.
    pub(super) closing: CancellationToken,
}

/// Answers one request.
pub(super) async fn answer(State(ingress): State<Arc<Ingress>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let length = body.size_hint().lower();
    let mut body = body.into_data_stream();
    match ingress.take(&head, length, &mut body).await {
        Ok(settled) => ingress.wait(settled).await,
        Err(refusal) => {
            tracing::debug!(code = refusal.code(), "refused a request");
            // A client that asks first has sent nothing yet, and is not to be told to go on.
            if !head.headers.contains_key(EXPECT) {
                body::discard(&mut body).await;
            }
            refusal.into_response()
        }
    }
}

impl Ingress {
    pub(super) fn new(
        config: Resolved,
        waiting: Arc<PendingResponses>,
        stop: CancellationToken,
        closing: CancellationToken,
    ) -> (Self, mpsc::Receiver<RequestEvent>) {
        let places = config.max_in_flight as usize;
        let (requests, receiver) = mpsc::channel(places);
        let ingress = Self {
            config,
            source: SOURCE.into(),
            taken: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(places)),
            requests: Mutex::new(requests),
            waiting,
            stop,
            closing,
        };
        (ingress, receiver)
    }

    /// Turns a request into an event, and hands it over.
    async fn take(
        &self,
        head: &Parts,
        length: u64,
        body: &mut BodyDataStream,
    ) -> Result<oneshot::Receiver<Settled>, Refusal> {
        let limit = self.config.max_body;
        if head.uri.path() != self.config.path {
            return Err(Refusal::NotFound { path: self.config.path.clone() });
        }
        if head.method != Method::POST {
            return Err(Refusal::Method { method: head.method.clone() });
        }
        if length > limit as u64 {
            return Err(Refusal::TooLarge { limit });
        }
        // A place first: whoever has seen the source stopped and every place free knows that nothing more comes.
        let place = self.place();
        if self.stop.is_cancelled() {
            return Err(Refusal::Stopped);
        }
        let place = place?;
        let read = self.stop.run_until_cancelled(body::read(body, limit)).await;
        let body = read.unwrap_or(Err(Refusal::Stopped))?;
        Ok(self.hand_over(&head.headers, body, place))
    }

    /// A place among those in flight, if one is free.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Refusal::Overloaded { limit: self.config.max_in_flight })
    }

    /// Makes an event of a request. What has come too late for the pipeline settles as abandoned at once.
    pub(super) fn hand_over(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        place: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Settled> {
        let position = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let settled = self.waiting.open(position);
        let waiting = Arc::clone(&self.waiting);
        let receipt = Receipt::new(move |outcome| {
            waiting.settle(position, outcome);
            drop(place);
        });
        let meta = Arc::new(self.meta(headers, position));
        let sent = self.requests().try_send(Event { value: Some(body), meta, receipt });
        // An event that is refused is dropped here, outside of the lock, which abandons it.
        drop(sent);
        settled
    }

    fn meta(&self, headers: &HeaderMap, position: u64) -> Meta {
        let bytes = |value: &HeaderValue| Bytes::copy_from_slice(value.as_bytes());
        let key_header = &self.config.key_header;
        let passed_on =
            headers.iter().filter(|(name, _)| is_passed_on(name) && *name != key_header);
        Meta {
            key: headers.get(key_header).map(bytes),
            headers: passed_on
                .map(|(name, value)| Header {
                    name: name.as_str().to_owned(),
                    value: Some(bytes(value)),
                })
                .collect(),
            timestamp: Some(SystemTime::now()),
            origin: Origin { source: Arc::clone(&self.source), partition: None, position },
        }
    }

    async fn wait(&self, settled: oneshot::Receiver<Settled>) -> Response {
        tokio::select! {
            biased;
            settled = settled => match settled {
                Ok(settled) => response::settled(&settled),
                Err(_) => response::abandoned(),
            },
            () = self.closing.cancelled() => response::abandoned(),
        }
    }

    /// Waits until every request that was taken is resolved; once the source is stopped, none is taken afterwards.
    pub(super) async fn all_resolved(&self) {
        self.places.acquire_many(self.config.max_in_flight).await.ok();
    }

    /// How many requests that were taken are not resolved.
    pub(super) fn unresolved(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, mpsc::Sender<RequestEvent>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The headers that mean something to a pipeline, or to those who trace requests through it.
fn is_passed_on(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("forebay-") || name == "traceparent" || name == "tracestate"
}
